//! `crux topology`: what there is on the broker, and what services would do well to declare.

use clap::Args;

use super::{Common, Failure, client};
use crate::app::App;
use crate::bus::rabbitmq;
use crate::bus::rabbitmq::topology::{Argument, Queue};

/// Show the exchange and the queues of RabbitMQ, or declare them
///
/// Crux declares what it consumes by itself, whenever it connects; the queues of tasks belong to the services. --declare makes all of them
/// as they are shown, for those who begin.
#[derive(Args)]
#[command(after_help = "Examples:\n  crux topology\n  crux topology --declare")]
pub(super) struct Topology {
    /// Declare all of it on the broker of the configuration
    #[arg(long)]
    declare: bool,
}

impl Topology {
    pub(super) fn run(self, app: &App, common: &Common) -> Result<(), Failure> {
        let options = common.load(Vec::new())?.rabbitmq.unwrap_or_default().options();
        let topology = rabbitmq::Topology::new(app, &options);
        if common.json {
            let json = serde_json::to_string(&topology).map_err(|error| Failure::refused(error.to_string()))?;
            println!("{json}");
        } else {
            print!("{}", shown(&topology));
        }
        if !self.declare {
            return Ok(());
        }
        client::block_on(async {
            rabbitmq::declare(app, &options).await.map_err(|problem| match problem {
                rabbitmq::Problem::Lost(text) => Failure::unreachable(text),
                problem => Failure::refused(problem.to_string()),
            })?;
            eprintln!("declared");
            Ok(())
        })
    }
}

fn shown(topology: &rabbitmq::Topology) -> String {
    let mut out = format!("exchange   {}  topic, durable\n", topology.exchange);
    for (title, queues) in [("declared by Crux", &topology.own), ("to be declared by services", &topology.services)] {
        if !queues.is_empty() {
            out.push_str(&format!("\nqueues {title}\n"));
        }
        queues.iter().for_each(|queue| out.push_str(&queue_text(queue)));
    }
    if !topology.notices.is_empty() {
        out.push_str("\npublished for whoever binds a queue\n");
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
    format!("  {:<28} {}\n    bound to {keys}\n    durable, {}\n", queue.name, queue.purpose, arguments.join(", "))
}
