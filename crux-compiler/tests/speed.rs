//! Checking a folder takes time by its size, and no more than that: ten times the pipelines, about
//! ten times as long. How long that is on a machine is for the benchmarks (`rebuild`).

use std::fmt::Write;
use std::time::{Duration, Instant};

use crux_compiler::render::Style;
use crux_compiler::tools::{self, Format};

/// The time that `count` pipelines of ten steps take.
fn checked(count: usize) -> Duration {
    let folder = tempfile::tempdir().expect("a folder");
    for number in 0..count {
        let mut text = format!(
            "workflow: flow{number}\nversion: 1\ninput: {{ orderId: string, total: number }}\ntriggers:\n  - http: POST /flows/flow{number}\nsteps:\n"
        );
        for step in 0..10 {
            let when = if step == 0 {
                "input.total > 0.5".into()
            } else {
                format!("(steps.s{number}_{}?.total ?? 1.0) > input.total", step - 1)
            };
            let _ = write!(
                text,
                "  - id: s{number}_{step}\n    class: Step{number}N{step}\n    when: \"{when}\"\n    with:\n      order: ${{input.orderId}}\n      \
                 text: \"order ${{input.orderId}} in step {step}\"\n    returns: {{ total: number, note: string? }}\n    \
                 retry: {{ attempts: 3, backoff: 200ms }}\n    timeout: 5s\n"
            );
        }
        std::fs::write(folder.path().join(format!("flow{number}.yaml")), text).expect("a file");
    }
    let begun = Instant::now();
    let check = tools::check(folder.path(), Format::Human(Style::Plain));
    let taken = begun.elapsed();
    assert!(check.ok, "{}", check.text.chars().take(2000).collect::<String>());
    taken
}

/// The best of some, because the machine may be busy.
fn best(count: usize) -> Duration {
    (0..3).map(|_| checked(count)).min().unwrap_or_default()
}

#[test]
fn ten_times_the_pipelines_take_about_ten_times_as_long() {
    let (few, many) = (best(10), best(100));
    println!("10 pipelines of 10 steps are checked in {few:?}, 100 in {many:?}");
    // What compares each with each takes a hundred times as long.
    assert!(many < few * 40, "{few:?}, {many:?}");
}
