//! `cargo xtask COMMAND`: what people and the CI do with this project.

mod requirements;
mod suites;
mod words;

use std::path::Path;
use std::process::ExitCode;

const USAGE: &str = "\
cargo xtask test [ARGUMENTS OF CARGO TEST]
cargo xtask words

Runs all tests, those too that need a program which a machine may not have: a browser, RabbitMQ,
Redis. As root on Debian it installs what is missing; for others it says what to install. Without
arguments it tests the whole workspace.

`words` shows where an old word of the project is left, and the word to use.

Examples:
  cargo xtask test
  cargo xtask test -p crux --test streams";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let done = match words.as_slice() {
        ["help" | "--help" | "-h"] | ["test", "--help" | "-h"] => {
            println!("{USAGE}");
            return ExitCode::SUCCESS;
        }
        ["test", rest @ ..] => test(rest),
        ["words"] => old_words(),
        _ => {
            eprintln!("{USAGE}");
            return ExitCode::from(2);
        }
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Whether no old word is left.
fn old_words() -> Result<bool, String> {
    let project = Path::new(env!("CARGO_MANIFEST_DIR")).parent().ok_or("no workspace")?;
    let findings = words::check(project)?;
    for finding in &findings {
        println!("{finding}");
    }
    Ok(findings.is_empty())
}

/// Whether all tests have run and passed.
fn test(arguments: &[&str]) -> Result<bool, String> {
    let ready = requirements::provide()?;
    let ran = suites::run(ready.wrapper, arguments)?;
    println!("\n{}", suites::report(&ran.suites));
    match ready.installed.as_slice() {
        [] => println!("nothing was installed"),
        packages => println!("installed: {}", packages.join(", ")),
    }
    Ok(ran.success && suites::all_ran(&ran.suites))
}
