//! The deployed binary.

use std::process::ExitCode;

fn main() -> ExitCode {
    crux::main()
}
