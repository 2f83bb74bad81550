//! How long a person waits for the compiler: `cargo build` in the dev profile after one line of a
//! shipped pipeline has changed; with 100 more pipelines of ten steps: when they are new, when all
//! of them change, when one line does; and `crux check` of those. On a scratch copy of the
//! workspace; everything else is built before.

use std::fmt::Write;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::Setting;
use crate::Outcome;
use crate::build::{Built, Scratch, dist_binary};
use crate::measure::Latencies;
use crate::report::{Goal, Row};
use crux_bench::steps::STEPS;

const PIPELINES: usize = 100;
const CHECKS: usize = 11;
/// A shipped pipeline, and what stands in it once.
const CHANGED: (&str, &str) = ("order.yaml", "We have received your order");

pub fn run(setting: &Setting) -> Outcome<Vec<Row>> {
    let scratch = Scratch::open(&setting.directory)?;
    let pipelines = scratch.workspace.join("pipelines");
    scratch.build()?;

    let file = pipelines.join(CHANGED.0);
    let text = fs::read_to_string(&file)?;
    if text.matches(CHANGED.1).count() != 1 {
        return Err(format!(
            "{} does not say `{}` once: choose another line",
            file.display(),
            CHANGED.1
        )
        .into());
    }
    let one_line = |n: usize| -> Outcome<Built> {
        fs::write(&file, text.replace(CHANGED.1, &format!("{} (change {n})", CHANGED.1)))?;
        scratch.build()
    };
    let all_hundred = |n: usize| -> Outcome<Built> {
        write_hundred(&pipelines, n)?;
        scratch.build()
    };
    let runs = setting.runs;
    let alone = (0..runs).map(one_line).collect::<Outcome<Vec<_>>>()?;
    let new = [all_hundred(0)?];
    let changed = (1..=runs).map(all_hundred).collect::<Outcome<Vec<_>>>()?;
    let among = (runs..2 * runs).map(one_line).collect::<Outcome<Vec<_>>>()?;
    let checked = setting.fresh()?;
    write_hundred(checked.path(), 0)?;
    let mut checks = check(checked.path())?;

    Ok(vec![
        seconds("rebuild: one changed line", &alone, |built| Some(built.taken))
            .goal(Goal::AtMost(5.0)),
        seconds("rebuild: one changed line, CPU time", &alone, |built| built.cpu),
        seconds("100 more pipelines of 10 steps: the first time", &new, |built| Some(built.taken))
            .goal(Goal::AtMost(20.0)),
        seconds("100 more pipelines of 10 steps: the first time, CPU time", &new, |built| {
            built.cpu
        }),
        seconds("100 more pipelines of 10 steps: all changed", &changed, |built| Some(built.taken))
            .goal(Goal::AtMost(20.0)),
        seconds("100 more pipelines of 10 steps: one changed line", &among, |built| {
            Some(built.taken)
        }),
        Row::once(
            "`crux check` of 100 pipelines of 10 steps, p50",
            "ms",
            checks.ms_at(0.5).unwrap_or(0.0),
        )
        .goal(Goal::AtMost(500.0)),
    ])
}

fn seconds(what: &str, builds: &[Built], of: fn(&Built) -> Option<Duration>) -> Row {
    Row::of_runs(
        what,
        "s",
        &builds.iter().filter_map(of).map(|taken| taken.as_secs_f64()).collect::<Vec<_>>(),
    )
}

/// `n` is in all of them, so that each time all are new.
fn write_hundred(folder: &Path, n: usize) -> Outcome<()> {
    for number in 0..PIPELINES {
        fs::write(folder.join(format!("flow{number}.yaml")), pipeline(number, n))?;
    }
    Ok(())
}

/// Ten steps of services, each with its own contract, mapping, condition, retries and timeout.
fn pipeline(number: usize, n: usize) -> String {
    let mut text = format!(
        "workflow: flow{number}\nversion: 1\ndescription: Number {n}.\ninput: {{ orderId: string, total: number }}\n\
         triggers:\n  - http: POST /flows/flow{number}\nsteps:\n"
    );
    for step in 0..STEPS {
        let when = match step.checked_sub(1) {
            None => "input.total > 0.5".to_owned(),
            Some(before) => format!("(steps.s{number}_{before}?.total ?? 1.0) > input.total"),
        };
        // Writing to a String cannot fail.
        let _ = write!(
            text,
            "  - type: s{number}_{step}\n    when: \"{when}\"\n    with:\n      order: ${{input.orderId}}\n      \
             text: \"order ${{input.orderId}} in step {step}\"\n    returns: {{ total: number, note: string? }}\n    \
             retry: {{ attempts: 3, backoff: 200ms }}\n    timeout: 5s\n"
        );
    }
    text
}

fn check(folder: &Path) -> Outcome<Latencies> {
    let binary = dist_binary("crux")?;
    let mut taken = Latencies::default();
    for _ in 0..CHECKS {
        let begun = Instant::now();
        let status =
            Command::new(&binary).arg("check").arg(folder).stdout(Stdio::null()).status()?;
        taken.add(begun.elapsed());
        if !status.success() {
            return Err(format!("crux check {}: {status}", folder.display()).into());
        }
    }
    Ok(taken)
}
