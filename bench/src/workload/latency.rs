//! One remote step over RabbitMQ when nobody else is there: instances of one step, one after the
//! other, from the start to the moment at which the end is durable. The floor does the same: two
//! appends, and two quorum queues between them.

use std::time::Instant;

use super::{Setting, rabbitmq};
use crate::Outcome;
use crate::crux::{Crux, runtime};
use crate::floor::amqp;
use crate::floor::remote::{Load, Until};
use crate::measure::{Latencies, Meter, Process};
use crate::report::{Goal, Row};
use crate::servers;
use crate::service::Service;

pub fn run(setting: &Setting) -> Outcome<Vec<Row>> {
    let broker = servers::rabbitmq()?;
    let bodies = rabbitmq::bodies(setting, &broker, "errand")?;
    let instances = if setting.quick { 100 } else { 2000 };
    let (mut p50, mut p99, mut cpu, mut floor_p50, mut floor_p99, mut floor_cpu) =
        (vec![], vec![], vec![], vec![], vec![], vec![]);
    for run in 0..setting.runs {
        if setting.floors {
            let (directory, name) = (setting.fresh()?, format!("floor{run}"));
            let _service = Service::over_rabbitmq(&broker.url(), &name)?;
            let load = Load { steps: 1, in_flight: 1, until: Until::Started(instances) };
            let mut floored =
                amqp::run(&broker.url(), &name, load, Some((&bodies, directory.path())))?;
            floor_p50.extend(floored.latencies.ms_at(0.5));
            floor_p99.extend(floored.latencies.ms_at(0.99));
            floor_cpu.extend(floored.cpu_us_per_step);
        }
        let (directory, name) = (setting.fresh()?, format!("crux{run}"));
        let _service = Service::over_rabbitmq(&broker.url(), &name)?;
        runtime()?.block_on(async {
            let crux = Crux::over_rabbitmq(directory.path(), &broker.url(), &name).await?;
            let meter = Meter::begin(Process::own());
            let mut taken = Latencies::default();
            for n in 0..instances as u64 {
                let begun = Instant::now();
                crux.whole("errand", n).await?;
                taken.add(begun.elapsed());
            }
            cpu.extend(meter.cpu_us_per(instances as u64));
            p50.extend(taken.ms_at(0.5));
            p99.extend(taken.ms_at(0.99));
            crux.close().await;
            Outcome::Ok(())
        })?;
    }
    let what = "RabbitMQ, one step at a time";
    let mut rows = vec![
        Row::of_runs(format!("{what}, p50"), "ms", &p50)
            .floor(&floor_p50)
            .goal(Goal::FloorAtMost(1.5))
            .cpu(&cpu),
        Row::of_runs(format!("{what}, p99"), "ms", &p99)
            .floor(&floor_p99)
            .goal(Goal::FloorAtMost(1.5)),
    ];
    if setting.floors {
        rows.push(
            Row::of_runs(format!("{what}: the floor itself, p50"), "ms", &floor_p50)
                .cpu(&floor_cpu),
        );
    }
    Ok(rows)
}
