//! A constant number of instances in flight: each that ends is followed by a new one. The floor is
//! the sketch; bare SQLite, which appends the same rows in groups of as many and does nothing else,
//! stands beside it.

use std::time::Instant;

use super::{Setting, bodies};
use crate::Outcome;
use crate::crux::{Crux, runtime};
use crate::floor::{rows, sketch};
use crate::measure::{Meter, Process};
use crate::report::{Goal, Row};

pub fn run(setting: &Setting) -> Outcome<Vec<Row>> {
    let mut rows = Vec::new();
    for in_flight in setting.only.map_or(vec![1, 16, 256, 4096], |only| vec![only]) {
        let measured = measure(setting, in_flight)?;
        rows.extend(measured.rows(in_flight));
    }
    Ok(rows)
}

/// One value per run.
#[derive(Default)]
struct Measured {
    steps_per_s: Vec<f64>,
    cpu_us: Vec<f64>,
    written: Vec<f64>,
    sketch_steps_per_s: Vec<f64>,
    sketch_cpu_us: Vec<f64>,
    sketch_written: Vec<f64>,
    bare_rows_per_s: Vec<f64>,
}

/// Floors and figure take turns, so that what else the machine does falls on both.
fn measure(setting: &Setting, in_flight: usize) -> Outcome<Measured> {
    let mut measured = Measured::default();
    for _ in 0..setting.runs {
        if setting.floors {
            let bodies = bodies(setting.fresh()?.path())?;
            measured.bare_rows_per_s.push(rows::in_groups(
                setting.fresh()?.path(),
                &bodies,
                in_flight,
                setting.short_time() / 2,
            )?);
            let sketched = sketch::run(setting.fresh()?.path(), in_flight, setting.short_time())?;
            measured.sketch_steps_per_s.push(sketched.steps_per_s);
            measured.sketch_cpu_us.extend(sketched.cpu_us_per_step);
            measured.sketch_written.extend(sketched.written_per_row);
        }
        let directory = setting.fresh()?;
        runtime()?.block_on(async {
            let crux = Crux::open(directory.path()).await?;
            let meter = Meter::begin(Process::own());
            let begun = Instant::now();
            // What takes longer than a step's timeout is where the goals are.
            let time = if in_flight < 256 { setting.short_time() } else { setting.time() };
            crux.in_flight("ten", in_flight, begun + time).await?;
            measured.steps_per_s.push(crux.steps() as f64 / begun.elapsed().as_secs_f64());
            measured.cpu_us.extend(meter.cpu_us_per(crux.steps()));
            measured.written.extend(meter.written_per(crux.transitions()));
            crux.close().await;
            Outcome::Ok(())
        })?;
    }
    Ok(measured)
}

impl Measured {
    fn rows(&self, in_flight: usize) -> Vec<Row> {
        let mut steps =
            Row::of_runs(format!("{in_flight} in flight"), "steps/s", &self.steps_per_s)
                .floor(&self.sketch_steps_per_s)
                .cpu(&self.cpu_us);
        let mut written = Row::of_runs(
            format!("{in_flight} in flight, written per transition"),
            "bytes",
            &self.written,
        )
        .floor(&self.sketch_written);
        match in_flight {
            256 => {
                steps = steps.goal(Goal::AtLeast(150_000.0)).goal(Goal::FloorAtLeast(0.6));
                written = written.goal(Goal::AtMost(1024.0));
            }
            4096 => steps = steps.goal(Goal::AtLeast(250_000.0)).goal(Goal::FloorAtLeast(0.6)),
            _ => {}
        }
        let mut rows = vec![steps, written];
        if !self.sketch_steps_per_s.is_empty() {
            rows.push(
                Row::of_runs(
                    format!("{in_flight} in flight: the sketch itself"),
                    "steps/s",
                    &self.sketch_steps_per_s,
                )
                .cpu(&self.sketch_cpu_us),
            );
            rows.push(Row::of_runs(
                format!("{in_flight} in a group: bare SQLite"),
                "rows/s",
                &self.bare_rows_per_s,
            ));
        }
        rows
    }
}
