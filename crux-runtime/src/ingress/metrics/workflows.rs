//! Metrics by workflow, step and step type. Their number is bounded by the definitions.

use std::fmt::Error;
use std::sync::Arc;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;

use crate::engine::Snapshot;
use crate::store::Count;
use crate::telemetry::times::Sum;

#[derive(Debug)]
pub(super) struct WorkflowMetrics(pub(super) Arc<Snapshot>);

type Labels<'a> = Vec<(&'a str, &'a str)>;

impl Collector for WorkflowMetrics {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), Error> {
        let workflows = &self.0.workflows;
        let of_workflow = |workflow| vec![("workflow", workflow)];
        let started = workflows.iter().map(|(name, sum)| (of_workflow(*name), sum.started));
        counters(&mut encoder, "workflow_started", "Instances started, by workflow", started)?;
        let ended = workflows.iter().flat_map(|(name, sum)| {
            let outcomes = [
                ("completed", sum.completed),
                ("failed", sum.failed),
                ("cancelled", sum.cancelled),
            ];
            outcomes
                .map(|(outcome, count)| (vec![("workflow", *name), ("outcome", outcome)], count))
        });
        counters(
            &mut encoder,
            "workflow_ended",
            "Instances that ended, by workflow and outcome",
            ended,
        )?;
        let parked = workflows.iter().map(|(name, sum)| (of_workflow(*name), sum.parked));
        counters(
            &mut encoder,
            "workflow_parked",
            "Times that an instance was parked, by workflow",
            parked,
        )?;

        if let Some(counts) = &self.0.instances {
            let help = "Instances in the store that have not ended, by workflow and status";
            let mut family =
                encoder.encode_descriptor("workflow_instances", help, None, MetricType::Gauge)?;
            for Count { workflow, status, instances } in counts {
                let labels = [("workflow", workflow.as_str()), ("status", status.word())];
                let value = i64::try_from(*instances).unwrap_or(i64::MAX);
                ConstGauge::new(value).encode(family.encode_family(&labels)?)?;
            }
        }

        let steps = || {
            let of = |workflow, step| vec![("workflow", workflow), ("step", step)];
            workflows.iter().flat_map(move |(name, sum)| {
                sum.steps.iter().map(move |(step, sum)| (of(*name, *step), sum))
            })
        };
        let attempts_failed = steps().map(|(labels, sum)| (labels, sum.attempts_failed));
        let help = "Attempts that failed or were lost, by workflow and step";
        counters(&mut encoder, "step_attempts_failed", help, attempts_failed)?;
        let failed = steps().map(|(labels, sum)| (labels, sum.failed));
        counters(
            &mut encoder,
            "steps_failed",
            "Steps that failed for good, by workflow and step",
            failed,
        )?;
        let took = steps().map(|(labels, sum)| (labels, sum.attempts.clone()));
        let help = "From handing out an attempt to its end, by workflow and step";
        histograms(&mut encoder, "step_attempt_duration_seconds", help, took)?;

        let workers = &self.0.executors;
        let of_type = |step_type| vec![("step_type", step_type)];
        let queued = workers.iter().map(|worker| (of_type(worker.step_type), worker.queued));
        gauges(
            &mut encoder,
            "worker_queued",
            "Attempts in this process that wait for their turn",
            queued,
        )?;
        let running = workers.iter().map(|worker| (of_type(worker.step_type), worker.running));
        gauges(&mut encoder, "worker_running", "Attempts that run in this process", running)?;
        let waits = self.0.waits.iter();
        let waits = waits.map(|(step_type, waits)| (of_type(*step_type), waits.clone()));
        histograms(
            &mut encoder,
            "worker_queue_wait_seconds",
            "How long attempts waited for their turn in this process",
            waits,
        )?;

        let append = &self.0.appends;
        let help = "How long it took until a batch of journal rows was durable";
        let mut metric = encoder.encode_descriptor(
            "store_append_duration_seconds",
            help,
            None,
            MetricType::Histogram,
        )?;
        metric.encode_histogram::<Labels<'_>>(
            append.seconds(),
            append.count(),
            &append.buckets(),
            None,
        )
    }
}

fn counters<'a>(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    all: impl Iterator<Item = (Labels<'a>, u64)>,
) -> Result<(), Error> {
    let mut family = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
    for (labels, count) in all {
        ConstCounter::new(count).encode(family.encode_family(&labels)?)?;
    }
    Ok(())
}

fn gauges<'a>(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    all: impl Iterator<Item = (Labels<'a>, usize)>,
) -> Result<(), Error> {
    let mut family = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
    for (labels, value) in all {
        ConstGauge::new(i64::try_from(value).unwrap_or(i64::MAX))
            .encode(family.encode_family(&labels)?)?;
    }
    Ok(())
}

fn histograms<'a>(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    all: impl Iterator<Item = (Labels<'a>, Sum)>,
) -> Result<(), Error> {
    let mut family = encoder.encode_descriptor(name, help, None, MetricType::Histogram)?;
    for (labels, sum) in all {
        let mut metric = family.encode_family(&labels)?;
        metric.encode_histogram::<Labels<'_>>(sum.seconds(), sum.count(), &sum.buckets(), None)?;
    }
    Ok(())
}
