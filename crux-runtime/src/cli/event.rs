//! `crux event`: publish a business event.

use clap::Args;
use serde::Serialize;
use serde_json::value::RawValue;

use super::commands::read_json;
use super::{Common, Failure, client, out};

/// Send an event: it starts workflows and reaches instances that wait for it
///
/// Prints the event's id.
#[derive(Args)]
#[command(
    after_help = "Examples:\n  crux event parcel.received --id parcel-17 --data '{\"orderId\": \"ORD-1\", \"resaleable\": true}'"
)]
pub(super) struct Event {
    /// The event's name, such as order.created
    #[arg(value_name = "NAME")]
    name: String,
    /// Its data: JSON, @FILE, or - for standard input
    #[arg(long, default_value = "{}")]
    data: String,
    /// Two events with the same id count once
    #[arg(long, value_name = "ID")]
    id: Option<String>,
}

impl Event {
    pub(super) async fn run(self, common: &Common) -> Result<(), Failure> {
        /// The data as it was given: its numbers may have more digits than this program counts
        /// with.
        #[derive(Serialize)]
        struct Body {
            r#type: String,
            #[serde(skip_serializing_if = "Option::is_none")]
            id: Option<String>,
            data: Box<RawValue>,
        }
        let data = read_json(&self.data, "--data")?;
        let body = Body { r#type: self.name, id: self.id, data };
        let answer = client::post(common, "/api/v1/events", &body).await?;
        if common.json {
            return out::print_line(&answer);
        }
        if answer["duplicate"] == true {
            out::complain("this event was sent before; it counts once");
        }
        out::print_line(answer["id"].as_str().unwrap_or_default())
    }
}
