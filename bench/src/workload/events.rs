//! Events for 100,000 waiting instances, each of which waits for its own. 256 senders each
//! send an event and wait until the end of the instance that it reaches is durable.

use std::time::Instant;

use crux_runtime::engine::api::IncomingEvent;
use crux_runtime::id::InstanceId;
use serde_json::value::RawValue;

use super::Setting;
use crate::Outcome;
use crate::crux::{Crux, runtime};
use crate::lanes::concurrently;
use crate::measure::{Latencies, Meter, Process};
use crate::report::{Goal, Row, count};

const SENDERS: usize = 256;

pub fn run(setting: &Setting) -> Outcome<Vec<Row>> {
    let waiting = setting.many(100_000);
    let (mut per_s, mut p50, mut p99, mut cpu) = (vec![], vec![], vec![], vec![]);
    for _ in 0..setting.runs {
        let directory = setting.fresh()?;
        runtime()?.block_on(async {
            let crux = Crux::open(directory.path()).await?;
            let instances = start(&crux, waiting).await?;
            crux.at_rest().await;
            let meter = Meter::begin(Process::own());
            let begun = Instant::now();
            let mut latencies = send(&crux, instances).await?;
            per_s.push(waiting as f64 / begun.elapsed().as_secs_f64());
            cpu.extend(meter.cpu_us_per(waiting as u64));
            p50.extend(latencies.ms_at(0.5));
            p99.extend(latencies.ms_at(0.99));
            crux.close().await;
            Outcome::Ok(())
        })?;
    }
    let what = format!("events to {} waiting", count(waiting));
    Ok(vec![
        Row::of_runs(what.clone(), "events/s", &per_s).goal(Goal::AtLeast(10_000.0)).cpu(&cpu),
        Row::of_runs(format!("{what}, until the end, p50"), "ms", &p50),
        Row::of_runs(format!("{what}, until the end, p99"), "ms", &p99),
    ])
}

/// The instances, by lane of their sender.
async fn start(crux: &Crux, waiting: usize) -> Outcome<Vec<Vec<(usize, InstanceId)>>> {
    let starter = |lane: usize| {
        let crux = crux.clone();
        async move {
            let mut started = Vec::new();
            for n in (lane..waiting).step_by(SENDERS) {
                started.push((
                    n,
                    crux.start("waiting", format!(r#"{{"order":"{}"}}"#, order(n))).await?,
                ));
            }
            Ok(started)
        }
    };
    concurrently(SENDERS, starter).await
}

async fn send(crux: &Crux, mut lanes: Vec<Vec<(usize, InstanceId)>>) -> Outcome<Latencies> {
    let sender = |lane: usize| {
        let (crux, instances) = (crux.clone(), std::mem::take(&mut lanes[lane]));
        async move {
            let mut latencies = Latencies::default();
            for (n, instance) in instances {
                let begun = Instant::now();
                for taken in crux.engine.take_events(vec![event(n)?]).await {
                    taken?;
                }
                crux.end(instance).await;
                latencies.add(begun.elapsed());
            }
            Ok(latencies)
        }
    };
    Ok(Latencies::all(concurrently(SENDERS, sender).await?))
}

fn event(n: usize) -> Outcome<IncomingEvent> {
    Ok(IncomingEvent {
        name: "parcel.arrived".to_owned(),
        id: Some(format!("parcel-{n}")),
        data: RawValue::from_string(format!(r#"{{"order":"{}","weight":{n}}}"#, order(n)))?,
        owner: String::new(),
        traceparent: String::new(),
    })
}

fn order(n: usize) -> String {
    format!("ORD-{n:08}")
}
