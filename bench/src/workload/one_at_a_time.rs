//! One instance at a time: what ten durable steps take when nobody else is there. The floor is one
//! SQLite commit for each of its eleven rows.

use super::{Setting, bodies};
use crate::Outcome;
use crate::crux::{Crux, runtime};
use crate::floor;
use crate::measure::{Latencies, Meter, Process};
use crate::report::{Goal, Row};
use crux_bench::steps::STEPS;

pub fn run(setting: &Setting) -> Outcome<Vec<Row>> {
    let bodies = bodies(setting.fresh()?.path())?;
    let instances = if setting.quick { 200 } else { 2000 };
    let (mut p50, mut p99, mut floor_p50, mut floor_p99, mut cpu) =
        (vec![], vec![], vec![], vec![], vec![]);
    for _ in 0..setting.runs {
        let mut commits: Latencies =
            floor::rows::one_at_a_time(setting.fresh()?.path(), &bodies, instances)?
                .into_iter()
                .collect();
        floor_p50.extend(commits.ms_at(0.5));
        floor_p99.extend(commits.ms_at(0.99));
        let (mut taken, cpu_us) = crux(setting, instances)?;
        p50.extend(taken.ms_at(0.5));
        p99.extend(taken.ms_at(0.99));
        cpu.extend(cpu_us);
    }
    Ok(vec![
        Row::of_runs("one at a time, 10 steps, p50", "ms", &p50)
            .floor(&floor_p50)
            .goal(Goal::FloorAtMost(1.6))
            .cpu(&cpu),
        Row::of_runs("one at a time, 10 steps, p99", "ms", &p99).floor(&floor_p99),
    ])
}

fn crux(setting: &Setting, instances: usize) -> Outcome<(Latencies, Option<f64>)> {
    let directory = setting.fresh()?;
    runtime()?.block_on(async {
        let crux = Crux::open(directory.path()).await?;
        let meter = Meter::begin(Process::own());
        let mut taken = Latencies::default();
        for n in 0..instances as u64 {
            let begun = std::time::Instant::now();
            crux.whole("ten", n).await?;
            taken.add(begun.elapsed());
        }
        let cpu = meter.cpu_us_per(instances as u64 * u64::from(STEPS));
        crux.close().await;
        Ok((taken, cpu))
    })
}
