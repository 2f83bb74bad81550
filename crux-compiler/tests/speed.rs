//! Checking a large folder takes no time that a person would notice. The bound is for a compiler
//! without optimisation on a busy machine; the figure that is printed is the one to watch.

use std::fmt::Write;
use std::time::{Duration, Instant};

use crux_compiler::render::Style;
use crux_compiler::tools::{self, Format};

#[test]
fn a_hundred_pipelines_of_ten_steps_are_checked_at_once() {
    let folder = tempfile::tempdir().expect("a folder");
    for number in 0..100 {
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
    println!("100 pipelines of 10 steps checked in {taken:?}");
    assert!(taken < Duration::from_secs(10), "{taken:?}");
}
