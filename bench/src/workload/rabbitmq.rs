//! Steps of a service behind RabbitMQ: each is a task that goes to the service and a completion
//! that comes back, so two quorum queues, with an append between them. The service is a separate
//! process, and the same for Crux and floors.

use std::path::Path;
use std::time::Instant;

use super::Setting;
use crate::Outcome;
use crate::crux::{Crux, runtime};
use crate::floor::amqp;
use crate::floor::remote::{Floored, Load, Until};
use crate::measure::{Meter, Process};
use crate::report::{Goal, Row};
use crate::servers::{self, Broker};
use crate::service::Service;
use crux_bench::steps::STEPS;

pub fn run(setting: &Setting) -> Outcome<Vec<Row>> {
    let broker = servers::rabbitmq()?;
    let bodies = bodies(setting, &broker, "remote")?;
    let mut rows = Vec::new();
    for in_flight in setting.only.map_or(vec![256], |only| vec![only]) {
        let measured = measure(setting, &broker, &bodies, in_flight)?;
        rows.extend(measured.rows(in_flight));
    }
    Ok(rows)
}

/// One value per run.
#[derive(Default)]
struct Measured {
    steps_per_s: Vec<f64>,
    cpu_us: Vec<f64>,
    service_us: Vec<f64>,
    floor_steps_per_s: Vec<f64>,
    floor_cpu_us: Vec<f64>,
    floor_service_us: Vec<f64>,
    bare_steps_per_s: Vec<f64>,
    bare_cpu_us: Vec<f64>,
}

/// Floors and figure take turns, so that what else the machine does falls on both.
fn measure(
    setting: &Setting,
    broker: &Broker,
    bodies: &[String],
    in_flight: usize,
) -> Outcome<Measured> {
    let mut measured = Measured::default();
    for run in 0..setting.runs {
        if setting.floors {
            let load = Load { steps: STEPS, in_flight, until: Until::Over(setting.short_time()) };
            let (bare, _) = floor(broker, &format!("bare{run}"), load, None)?;
            measured.bare_steps_per_s.push(bare.steps_per_s);
            measured.bare_cpu_us.extend(bare.cpu_us_per_step);
            let directory = setting.fresh()?;
            let (floored, service_us) =
                floor(broker, &format!("floor{run}"), load, Some((bodies, directory.path())))?;
            measured.floor_steps_per_s.push(floored.steps_per_s);
            measured.floor_cpu_us.extend(floored.cpu_us_per_step);
            measured.floor_service_us.extend(service_us);
        }
        let (directory, name) = (setting.fresh()?, format!("crux{run}"));
        let service = Service::over_rabbitmq(&broker.url(), &name)?;
        runtime()?.block_on(async {
            let crux = Crux::over_rabbitmq(directory.path(), &broker.url(), &name).await?;
            let (meter, of_service) =
                (Meter::begin(Process::own()), Meter::begin(service.process()));
            let begun = Instant::now();
            crux.in_flight("remote", in_flight, begun + setting.time()).await?;
            measured.steps_per_s.push(crux.steps() as f64 / begun.elapsed().as_secs_f64());
            measured.cpu_us.extend(meter.cpu_us_per(crux.steps()));
            measured.service_us.extend(of_service.cpu_us_per(crux.steps()));
            crux.close().await;
            Outcome::Ok(())
        })?;
    }
    Ok(measured)
}

/// And the service's CPU time per step.
fn floor(
    broker: &Broker,
    name: &str,
    load: Load,
    rows: Option<(&[String], &Path)>,
) -> Outcome<(Floored, Option<f64>)> {
    let service = Service::over_rabbitmq(&broker.url(), name)?;
    let meter = Meter::begin(service.process());
    let floored = amqp::run(&broker.url(), name, load, rows)?;
    let steps = floored.latencies.len() as u64 * u64::from(load.steps);
    Ok((floored, meter.cpu_us_per(steps)))
}

/// The rows of one instance of a workflow with remote steps, so that floors write the same bytes.
pub fn bodies(setting: &Setting, broker: &Broker, workflow: &str) -> Outcome<Vec<String>> {
    let (directory, name) = (setting.fresh()?, format!("rows_of_{workflow}"));
    let _service = Service::over_rabbitmq(&broker.url(), &name)?;
    runtime()?.block_on(async {
        let crux = Crux::over_rabbitmq(directory.path(), &broker.url(), &name).await?;
        let instance = crux.whole(workflow, 1).await?;
        let rows = crux.rows(instance).await?;
        crux.close().await;
        Ok(rows)
    })
}

impl Measured {
    fn rows(&self, in_flight: usize) -> Vec<Row> {
        let what = format!("RabbitMQ, {in_flight} in flight");
        let mut rows = vec![
            Row::of_runs(what.clone(), "steps/s", &self.steps_per_s)
                .floor(&self.floor_steps_per_s)
                .goal(Goal::FloorAtLeast(0.8))
                .cpu(&self.cpu_us),
            Row::of_runs(format!("{what}, beside the bare floor"), "steps/s", &self.steps_per_s)
                .floor(&self.bare_steps_per_s)
                .goal(Goal::FloorAtLeast(0.6)),
            Row::of_runs(format!("{what}, the service's CPU per step"), "µs", &self.service_us)
                .floor(&self.floor_service_us),
        ];
        if !self.floor_steps_per_s.is_empty() {
            rows.push(
                Row::of_runs(
                    format!("{what}: the floor itself"),
                    "steps/s",
                    &self.floor_steps_per_s,
                )
                .cpu(&self.floor_cpu_us),
            );
            rows.push(
                Row::of_runs(
                    format!("{what}: the bare floor itself"),
                    "steps/s",
                    &self.bare_steps_per_s,
                )
                .cpu(&self.bare_cpu_us),
            );
        }
        rows
    }
}
