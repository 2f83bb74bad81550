//! `cargo test`, with what it says passed on line by line, and added up at the end.

use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Write as _};
use std::process::Command;
use std::time::{Duration, Instant};

/// One program of tests, or the examples in one crate's documentation.
#[derive(Debug, Default, PartialEq)]
pub struct Suite {
    pub name: String,
    pub passed: u32,
    pub failed: u32,
    pub ignored: u32,
    pub taken: Duration,
    /// Whether it came to its end.
    pub ended: bool,
}

pub struct Ran {
    /// Cargo's own opinion.
    pub success: bool,
    pub suites: Vec<Suite>,
}

pub fn run(wrapper: &[&str], arguments: &[&str]) -> Result<Ran, String> {
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
    let words: Vec<&str> = wrapper.iter().copied().chain([cargo.as_str(), "test"]).collect();
    let (ours, theirs) = match arguments.iter().position(|word| *word == "--") {
        Some(at) => (&arguments[..at], &arguments[at + 1..]),
        None => (arguments, &[][..]),
    };
    let mut command = Command::new(words[0]);
    command.args(&words[1..]).args(ours);
    if !ours.iter().any(|word| word.starts_with("-p") || word.starts_with("--package")) {
        command.arg("--workspace");
    }
    command.args(["--no-fail-fast", "--", "--include-ignored"]).args(theirs);
    // One pipe for both, so that what they say keeps its order.
    let mut pipe = || -> std::io::Result<_> {
        let (reader, writer) = std::io::pipe()?;
        let child = command.stdout(writer.try_clone()?).stderr(writer).spawn()?;
        Ok((reader, child))
    };
    let failed = |error| format!("{} cannot be run: {error}", words.join(" "));
    let (reader, mut child) = pipe().map_err(failed)?;
    // Our ends of the pipe, or it never ends.
    drop(command);
    let mut suites = Vec::new();
    let begun = Instant::now();
    for line in BufReader::new(reader).split(b'\n') {
        let line = String::from_utf8_lossy(&line.map_err(failed)?).into_owned();
        read(&line, &mut suites);
        // A reader that has gone away does not keep the tests from running.
        let _ = writeln!(std::io::stdout(), "{line}");
    }
    let success = child.wait().map_err(failed)?.success();
    println!("\nin {:.0?} altogether, builds included", begun.elapsed());
    Ok(Ran { success, suites })
}

/// Takes what a line says of the suites.
fn read(line: &str, suites: &mut Vec<Suite>) {
    if let Some(name) = suite(line) {
        suites.push(Suite { name, ..Suite::default() });
    } else if let Some((_, result)) = line.split_once("test result: ")
        && let Some(suite) = suites.last_mut()
    {
        suite.passed += count(result, " passed");
        suite.failed += count(result, " failed");
        suite.ignored += count(result, " ignored");
        let seconds = result
            .rsplit_once("finished in ")
            .and_then(|(_, rest)| rest.trim_end().strip_suffix('s')?.parse().ok());
        suite.taken += Duration::from_secs_f64(seconds.unwrap_or_default());
        suite.ended = true;
    }
}

/// The name in `     Running tests/browser.rs (target/debug/deps/browser-0a1b2c)`, or in
/// `   Doc-tests crux_runtime`.
fn suite(line: &str) -> Option<String> {
    let line = line.trim_start();
    if let Some(name) = line.strip_prefix("Doc-tests ") {
        return Some(format!("{name}, documentation"));
    }
    let (source, program) = line.strip_prefix("Running ")?.split_once(" (")?;
    let (program, _hash) = program.strip_suffix(')')?.rsplit_once('-')?;
    let program = program.rsplit(['/', '\\']).next()?;
    Some(format!("{program}, {}", source.strip_prefix("unittests ").unwrap_or(source)))
}

/// The number before this word.
fn count(result: &str, word: &str) -> u32 {
    let before = result.split(word).next().unwrap_or_default();
    before.rsplit([' ', ';']).next().and_then(|number| number.parse().ok()).unwrap_or_default()
}

/// What ran, suite by suite.
pub fn report(suites: &[Suite]) -> String {
    let mut text = format!(
        "{:<50} {:>7} {:>7} {:>7} {:>9}\n",
        "suite", "passed", "failed", "ignored", "seconds"
    );
    let mut all = Suite { name: "all".to_owned(), ..Suite::default() };
    let row = |text: &mut String, suite: &Suite, note: &str| {
        // Writing to a string cannot fail.
        let _ = writeln!(
            text,
            "{:<50} {:>7} {:>7} {:>7} {:>9.2}{note}",
            suite.name,
            suite.passed,
            suite.failed,
            suite.ignored,
            suite.taken.as_secs_f64()
        );
    };
    for suite in suites {
        all.passed += suite.passed;
        all.failed += suite.failed;
        all.ignored += suite.ignored;
        all.taken += suite.taken;
        if !suite.ended {
            row(&mut text, suite, "  did not come to its end");
        } else if suite.passed + suite.failed + suite.ignored > 0 {
            row(&mut text, suite, "");
        }
    }
    row(&mut text, &all, "");
    text
}

/// Whether nothing was left out.
pub fn all_ran(suites: &[Suite]) -> bool {
    suites.iter().all(|suite| suite.ended && suite.failed == 0 && suite.ignored == 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAID: &str = "\
   Compiling crux v0.1.0
     Running unittests src/lib.rs (target/debug/deps/crux_runtime-0123456789abcdef)

running 2 tests
test a ... ok
test b ... ignored, needs redis-server

test result: ok. 1 passed; 0 failed; 1 ignored; 0 measured; 3 filtered out; finished in 0.25s

     Running tests/browser.rs (/work/target/debug/deps/browser-0123456789abcdef)
no line break test result: FAILED. 10 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out; finished in 61.50s
   Doc-tests crux_runtime
";

    #[test]
    fn what_ran_is_added_up() {
        let mut suites = Vec::new();
        SAID.lines().for_each(|line| read(line, &mut suites));
        let suite = |name: &str, [passed, failed, ignored]: [u32; 3], ms, ended| Suite {
            name: name.to_owned(),
            passed,
            failed,
            ignored,
            taken: Duration::from_millis(ms),
            ended,
        };
        let expected = [
            suite("crux_runtime, src/lib.rs", [1, 0, 1], 250, true),
            suite("browser, tests/browser.rs", [10, 2, 0], 61_500, true),
            suite("crux_runtime, documentation", [0, 0, 0], 0, false),
        ];
        assert_eq!(suites, expected);
        let report = report(&suites);
        let last = report.lines().last().expect("a sum");
        assert_eq!(
            last.split_whitespace().collect::<Vec<_>>(),
            ["all", "11", "2", "1", "61.75"],
            "{report}"
        );
        assert!(report.contains("documentation") && report.contains("did not come to its end"));
    }

    #[test]
    fn an_ignored_or_unfinished_suite_is_no_success() {
        let good = Suite { passed: 1, ended: true, ..Suite::default() };
        assert!(all_ran(&[good]));
        for bad in [
            Suite { ended: false, ..Suite::default() },
            Suite { ended: true, ignored: 1, ..Suite::default() },
            Suite { ended: true, failed: 1, ..Suite::default() },
        ] {
            assert!(!all_ran(&[bad]));
        }
    }
}
