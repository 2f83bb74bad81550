//! `crux topology`: the queues or streams on the broker, and those that services should declare.

use clap::Args;
use serde::Serialize;

use super::{Common, Failure, client, out};
use crate::app::App;
use crate::bus::rabbitmq::topology::{Argument, Queue};
use crate::bus::redis_streams::topology::Stream;
use crate::bus::routing_keys::class_types;
use crate::bus::{rabbitmq, redis_streams};
use crate::config::BusKind;

/// Show the exchange and the queues of RabbitMQ, or the streams of Redis, or declare them
///
/// Crux declares the queues that it consumes whenever it connects; services declare the queues of
/// their tasks. --declare creates all of them as shown, which is handy for a first try. With `bus:
/// redis` these are streams and their consumer groups.
#[derive(Args)]
#[command(after_help = "Examples:\n  crux topology\n  crux topology --declare")]
pub(super) struct Topology {
    /// Create all of it on the broker of the configuration
    #[arg(long)]
    declare: bool,
}

impl Topology {
    pub(super) fn run(self, app: &App, common: &Common) -> Result<(), Failure> {
        let config = common.load(Vec::new())?;
        if config.bus == BusKind::Redis {
            let options = config.redis.unwrap_or_default().streams(false);
            print(
                common,
                &redis_streams::Topology::new(app, &options.prefix, &class_types(app)),
                streams,
            )?;
            return self.declare(async {
                redis_streams::declare(app, &options).await.map_err(|problem| match problem {
                    redis_streams::Problem::Lost(text) => Failure::unreachable(text),
                    problem => Failure::refused(problem.to_string()),
                })
            });
        }
        let options = config.rabbitmq.unwrap_or_default().options();
        print(common, &rabbitmq::Topology::new(app, &options, &class_types(app)), shown)?;
        self.declare(async {
            rabbitmq::declare(app, &options).await.map_err(|problem| match problem {
                rabbitmq::Problem::Lost(text) => Failure::unreachable(text),
                problem => Failure::refused(problem.to_string()),
            })
        })
    }

    fn declare<T>(
        &self,
        declaring: impl Future<Output = Result<T, Failure>>,
    ) -> Result<(), Failure> {
        if !self.declare {
            return Ok(());
        }
        client::block_on(async {
            declaring.await?;
            out::complain("declared");
            Ok(())
        })
    }
}

fn print<T: Serialize>(
    common: &Common,
    topology: &T,
    shown: impl Fn(&T) -> String,
) -> Result<(), Failure> {
    if common.json {
        let json =
            serde_json::to_string(topology).map_err(|error| Failure::refused(error.to_string()))?;
        out::print_line(&json)?;
    } else {
        out::print(&shown(topology))?;
    }
    Ok(())
}

fn streams(topology: &redis_streams::Topology) -> String {
    let mut out = String::new();
    let parts = [
        ("streams that Crux reads", &topology.own),
        ("streams of tasks for step structs that run in `crux worker`", &topology.work),
        ("streams of tasks, in which services create a consumer group", &topology.services),
        ("hooks and events, for each consumer group that you create", &topology.notices),
    ];
    for (title, streams) in parts.into_iter().filter(|(_, streams)| !streams.is_empty()) {
        out.push_str(&format!("{title}\n"));
        for Stream { key, group, purpose, .. } in streams {
            let group = group.map_or(String::new(), |group| format!("group {group}"));
            out.push_str(&format!("  {key:<40} {group:<14} {purpose}\n"));
        }
        out.push('\n');
    }
    out.push_str(&format!("dead letters\n  {}\n", topology.dead));
    out.push_str(&format!(
        "messages whose instance cannot take them yet; retried\n  {}\n",
        topology.parked
    ));
    out
}

fn shown(topology: &rabbitmq::Topology) -> String {
    let mut out = format!("exchange   {}  topic, durable\n", topology.exchange);
    let groups = [
        ("declared by Crux", &topology.own),
        ("declared by Crux for step structs that run in `crux worker`", &topology.work),
        ("to be declared by services", &topology.services),
    ];
    for (title, queues) in groups {
        if !queues.is_empty() {
            out.push_str(&format!("\nqueues {title}\n"));
        }
        queues.iter().for_each(|queue| out.push_str(&queue_text(queue)));
    }
    if !topology.notices.is_empty() {
        out.push_str("\nhooks and events, for each queue that you bind\n");
    }
    for (key, meaning) in &topology.notices {
        out.push_str(&format!("  {key:<28} {meaning}\n"));
    }
    out
}

fn queue_text(queue: &Queue) -> String {
    let arguments = queue.arguments.iter().map(|(name, value)| match value {
        Argument::Text(text) => format!("{name}={text}"),
        Argument::Number(number) => format!("{name}={number}"),
    });
    let arguments: Vec<String> = arguments.collect();
    let keys = if queue.keys.is_empty() { "nothing".to_owned() } else { queue.keys.join(", ") };
    format!(
        "  {:<28} {}\n    bound to {keys}\n    durable, {}\n",
        queue.name,
        queue.purpose,
        arguments.join(", ")
    )
}
