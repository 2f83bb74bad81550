//! 256 in flight on a database that holds 1,000,000 ended instances; what stands for the floor is
//! the same on an empty one. The database is filled by the store's own code ([`crate::fill`]) with
//! instances of one step.

use std::path::Path;
use std::time::Instant;

use super::Setting;
use crate::Outcome;
use crate::crux::{Crux, DATABASE, runtime};
use crate::fill;
use crate::measure::{Meter, Process};
use crate::report::{Goal, Row};
use crate::server::Server;

const IN_FLIGHT: usize = 256;

pub fn run(setting: &Setting) -> Outcome<Vec<Row>> {
    let stored = setting.many(1_000_000);
    let filled = setting.fresh()?;
    fill::completed(filled.path(), setting.fresh()?.path(), stored)?;
    let server = Server::start(&filled.path().join(DATABASE))?;
    server.until_ready()?;
    let ready_ms = server.age().as_secs_f64() * 1e3;
    server.kill()?;
    let (mut empty, mut full, mut cpu) = (vec![], vec![], vec![]);
    for _ in 0..setting.runs {
        empty.push(steps_per_s(setting, setting.fresh()?.path())?.0);
        let (per_s, cpu_us) = steps_per_s(setting, filled.path())?;
        full.push(per_s);
        cpu.extend(cpu_us);
    }
    let what = crate::report::count(stored);
    Ok(vec![
        Row::of_runs(format!("256 in flight, {what} stored"), "steps/s", &full)
            .floor(&empty)
            .goal(Goal::FloorAtLeast(0.9))
            .cpu(&cpu),
        Row::once(format!("ready with {what} stored"), "ms", ready_ms),
    ])
}

fn steps_per_s(setting: &Setting, directory: &Path) -> Outcome<(f64, Option<f64>)> {
    runtime()?.block_on(async {
        let crux = Crux::open(directory).await?;
        let meter = Meter::begin(Process::own());
        let begun = Instant::now();
        crux.in_flight("ten", IN_FLIGHT, begun + setting.short_time()).await?;
        let per_s = crux.steps() as f64 / begun.elapsed().as_secs_f64();
        let cpu = meter.cpu_us_per(crux.steps());
        crux.close().await;
        Ok((per_s, cpu))
    })
}
