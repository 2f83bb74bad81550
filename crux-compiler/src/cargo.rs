//! The face of the compiler towards Cargo: a build script calls [`compile`], and the package
//! includes `$OUT_DIR/pipelines.rs`. The one file that knows Cargo's directives, and the one that
//! prints.
//!
//! Errors are `cargo::error=` directives, one per line of the rendered text, and the script still
//! ends well: a script that fails makes Cargo show all of its output once more, and a panic would
//! bury the message.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use crate::diagnostic::Severity;
use crate::emit::Source;
use crate::render::{self, Style};
use crate::{Outcome, folder};

/// The file in `OUT_DIR` that the package includes, and the folder of its modules beside it.
const OUTPUT: &str = "pipelines.rs";
const MODULES: &str = "pipelines";

/// Compiles a folder of pipelines, given relative to the package, into `$OUT_DIR/pipelines.rs` and
/// the modules that this names. To be called from a build script.
///
/// Prints Cargo's directives: the folder to watch, warnings and errors. Writes only what has
/// changed; after errors the last good output stays, so that tools which read it do not drown the
/// message in a hundred others.
pub fn compile(folder: impl AsRef<Path>) {
    let variable = |name: &str| std::env::var_os(name).map(PathBuf::from);
    let mut directives = Vec::new();
    let result = match (variable("CARGO_MANIFEST_DIR"), variable("OUT_DIR")) {
        (Some(package), Some(out)) => run(&package, folder.as_ref(), &out, &mut directives),
        _ => Err(io::Error::other(
            "CARGO_MANIFEST_DIR and OUT_DIR are not set: this runs in a build script",
        )),
    };
    let mut stdout = io::stdout().lock();
    let written = stdout.write_all(&directives).and_then(|()| match result {
        Ok(()) => Ok(()),
        Err(error) => {
            writeln!(stdout, "cargo::error=the compiled pipelines could not be written: {error}")
        }
    });
    if let Err(error) = written {
        // Cargo has gone away; nobody is left who could read this but the log.
        eprintln!("crux: cannot speak to Cargo: {error}");
        std::process::exit(1);
    }
}

fn run(package: &Path, folder: &Path, out: &Path, directives: &mut impl Write) -> io::Result<()> {
    let shown = folder.to_string_lossy();
    // A folder stands for everything in it, so that a new, deleted or renamed file is seen too.
    writeln!(directives, "cargo::rerun-if-changed={shown}")?;
    let read = folder::read(&package.join(folder), &shown);
    let outcome = if read.problems.is_empty() {
        crate::compile(&read.files)
    } else {
        Outcome::failed(read.problems)
    };
    for diagnostic in &outcome.diagnostics {
        let directive = match diagnostic.severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
        };
        for line in render::one(&read.files, diagnostic, Style::Plain).lines() {
            writeln!(directives, "cargo::{directive}={line}")?;
        }
    }
    match outcome.rust {
        Some(rust) => write(out, &rust),
        None if out.join(OUTPUT).exists() => Ok(()),
        None => write(out, &crate::skeleton()),
    }
}

/// Writes what has changed, and takes away modules of workflows that are no more.
fn write(out: &Path, sources: &[Source]) -> io::Result<()> {
    let modules = out.join(MODULES);
    std::fs::create_dir_all(&modules)?;
    for source in sources {
        write_changed(&out.join(&source.path), &source.text)?;
    }
    for entry in std::fs::read_dir(&modules)? {
        let path = entry?.path();
        if !sources.iter().any(|source| out.join(&source.path) == path) {
            std::fs::remove_file(path)?;
        }
    }
    Ok(())
}

/// A file that is written again looks changed to Cargo, whatever is in it.
fn write_changed(path: &Path, text: &str) -> io::Result<()> {
    if std::fs::read(path).is_ok_and(|there| there == text.as_bytes()) {
        return Ok(());
    }
    std::fs::write(path, text)
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Package(tempfile::TempDir);

    impl Package {
        fn new() -> Self {
            let package = tempfile::tempdir().expect("a folder");
            std::fs::create_dir(package.path().join("pipelines")).expect("a folder");
            std::fs::create_dir(package.path().join("out")).expect("a folder");
            Self(package)
        }

        fn pipeline(&self, name: &str, text: &str) -> &Self {
            std::fs::write(self.0.path().join("pipelines").join(name), text).expect("a file");
            self
        }

        fn build(&self) -> String {
            let mut directives = Vec::new();
            run(self.0.path(), Path::new("pipelines"), &self.output_folder(), &mut directives)
                .expect("a writable folder");
            String::from_utf8(directives).expect("text")
        }

        fn output_folder(&self) -> PathBuf {
            self.0.path().join("out")
        }

        fn output(&self) -> String {
            std::fs::read_to_string(self.output_folder().join(OUTPUT)).expect("an output")
        }
    }

    #[test]
    fn every_line_of_an_error_is_a_directive_and_the_output_is_there_all_the_same() {
        let package = Package::new();
        let directives = package
            .pipeline(
                "order.yaml",
                "workflow: order\nversion: 1\nsteps:\n  - type: pay\n    retires: 5\n",
            )
            .build();
        let lines: Vec<&str> = directives.lines().collect();
        assert_eq!(lines[0], "cargo::rerun-if-changed=pipelines");
        assert_eq!(lines[1], "cargo::error=error[CRUX0020]: unknown key `retires` in `type` step");
        assert_eq!(lines[2], "cargo::error= --> pipelines/order.yaml:5:5");
        assert!(lines[1..].iter().all(|line| line.starts_with("cargo::error=")), "{directives}");
        assert!(!package.output().is_empty());
    }

    #[test]
    fn after_an_error_the_last_good_output_stays() {
        let package = Package::new();
        std::fs::write(package.output_folder().join(OUTPUT), "// good\n").expect("a file");
        package.pipeline("order.yaml", "workflow: order\n").build();
        assert_eq!(package.output(), "// good\n");
    }

    #[test]
    fn an_output_that_does_not_change_is_not_written_again() {
        let package = Package::new();
        package.pipeline("order.yaml", "workflow: order\n").build();
        let written = || {
            package
                .output_folder()
                .join(OUTPUT)
                .metadata()
                .and_then(|metadata| metadata.modified())
                .expect("a time")
        };
        let before = written();
        std::thread::sleep(std::time::Duration::from_millis(20));
        package.build();
        assert_eq!(written(), before);
    }

    #[test]
    fn each_workflow_is_a_module_in_its_own_file() {
        let package = Package::new();
        package
            .pipeline("order.yaml", "workflow: order\nversion: 1\nsteps:\n  - type: pay\n")
            .build();
        let module = package.output_folder().join(MODULES).join("order.rs");
        assert!(
            module.exists()
                && package.output().contains("#[path = \"pipelines/order.rs\"]\n")
                && package.output().contains("pub mod order;\n"),
            "{}",
            package.output()
        );

        std::fs::remove_file(package.0.path().join("pipelines/order.yaml")).expect("a file");
        package
            .pipeline("refund.yaml", "workflow: refund\nversion: 1\nsteps:\n  - type: pay\n")
            .build();
        assert!(
            !module.exists() && !package.output().contains("pub mod order;"),
            "{}",
            package.output()
        );
    }

    #[test]
    fn a_folder_that_is_missing_is_an_error_of_the_build() {
        let package = Package::new();
        std::fs::remove_dir(package.0.path().join("pipelines")).expect("a folder");
        let directives = package.build();
        assert!(directives.contains("cargo::error=error[CRUX0010]: `pipelines` cannot be read: no such file or directory"), "{directives}");
    }
}
