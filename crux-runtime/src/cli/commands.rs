//! The commands that send a single request to a server.

use std::collections::BTreeMap;
use std::io::Read;

use clap::Args;
use futures_util::{SinkExt, StreamExt};
use serde::Serialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::{Error, Message};

use super::{Common, Failure, client, out, show};
use crate::outside;

/// Start an instance of a workflow
///
/// Prints its id. With --wait, prints its status document once it has ended, and the exit code says
/// whether it completed.
#[derive(Args)]
#[command(
    after_help = "Examples:\n  crux start order --input '{\"orderId\": \"ORD-1\", \"customerId\": \"CUST-1\", \"bookingTime\": \"2025-08-21T14:25:36Z\"}'
  crux start order --input @examples/order.json --wait 30s"
)]
pub(super) struct Start {
    /// The workflow's name
    workflow: String,
    /// The input: JSON, @FILE, or - for standard input
    #[arg(long, default_value = "{}")]
    input: String,
    /// Idempotency: repeating an id with the same input returns the first instance and starts no
    /// other
    #[arg(long, value_name = "ID")]
    request_id: Option<String>,
    /// Wait up to DURATION for the instance to end
    #[arg(long, value_name = "DURATION")]
    wait: Option<String>,
}

impl Start {
    pub(super) async fn run(self, common: &Common) -> Result<(), Failure> {
        /// What the gateway is asked; the input as it was given, for a number may have more digits
        /// than this program can count with.
        #[derive(Serialize)]
        struct Request<'a> {
            r#type: &'static str,
            id: u32,
            workflow: &'a str,
            input: Box<RawValue>,
            #[serde(skip_serializing_if = "Option::is_none")]
            request_id: Option<String>,
            #[serde(skip_serializing_if = "Option::is_none")]
            wait: Option<&'a str>,
        }
        let input = read_json(&self.input, "--input")?;
        let (workflow, wait) = (self.workflow.as_str(), self.wait.as_deref());
        let request =
            Request { r#type: "start", id: 1, workflow, input, request_id: self.request_id, wait };
        let answer = ask_gateway(common, &request).await?;
        for warning in answer["warnings"].as_array().into_iter().flatten().filter_map(Value::as_str)
        {
            out::complain(&format!("warning: {warning}"));
        }
        if common.json {
            out::print_line(&answer)?;
        } else if let Some(document) = answer.get("document") {
            out::print(&show::status(document, false))?;
        } else if answer["status"] != "ignored" {
            out::print_line(answer["workflow_id"].as_str().unwrap_or_default())?;
        }
        match (self.wait, answer["status"].as_str()) {
            (_, Some("ignored")) => {
                let text = format!(
                    "nothing was started: for this input the `when` of no trigger of `{}` holds",
                    self.workflow
                );
                Err(Failure::refused(text))
            }
            (None, _) | (Some(_), Some("completed")) => Ok(()),
            (Some(wait), Some("processing")) => {
                let id = answer["workflow_id"].as_str().unwrap_or_default();
                Err(Failure::refused(format!(
                    "{id} has not ended within {wait}: it goes on, see `crux status {id}`"
                )))
            }
            (Some(_), status) => {
                Err(Failure::refused(format!("the workflow has {}", status.unwrap_or("not ended"))))
            }
        }
    }
}

/// Starting by a workflow's name is the gateway's; HTTP knows triggers only.
async fn ask_gateway(common: &Common, request: &impl Serialize) -> Result<Value, Failure> {
    let url = client::socket_url(common, "")?;
    let unreachable = |error: Error| {
        Failure::unreachable(format!(
            "no server answers at {url}: {error}; start one with `crux serve`"
        ))
    };
    let request = serde_json::to_string(request)
        .map_err(|error| Failure::usage(format!("it cannot be sent: {error}")))?;
    let opening = tokio_tungstenite::connect_async(client::socket_request(&url)?).await;
    let (mut socket, _) = match opening {
        Err(Error::Http(response)) => return Err(client::refused(&response)),
        opening => opening.map_err(unreachable)?,
    };
    socket.send(Message::text(request)).await.map_err(unreachable)?;
    while let Some(message) = socket.next().await {
        let Message::Text(text) = message.map_err(unreachable)? else { continue };
        let answer: Value = serde_json::from_str(&text)
            .map_err(|error| Failure::refused(format!("the answer is not JSON: {error}")))?;
        return match answer["ok"].as_bool() {
            Some(true) => Ok(answer["data"].clone()),
            _ => Err(Failure::refused(client::problem_text(&answer["error"]))),
        };
    }
    Err(Failure::unreachable("the server has closed the connection"))
}

/// Show where an instance is, when its steps ran, and what it waits for
#[derive(Args)]
#[command(
    after_help = "Examples:\n  crux status $ID\n  crux status $ID --json\n  crux status --nodes"
)]
pub(super) struct Status {
    /// The instance's id
    #[arg(required_unless_present = "nodes")]
    id: Option<String>,
    /// Show the cluster's nodes instead of an instance: what they run, and what is wrong with what
    /// they depend on
    #[arg(long, conflicts_with = "id")]
    nodes: bool,
    /// Show every element and round, however many
    #[arg(long, conflicts_with = "nodes")]
    all: bool,
}

impl Status {
    pub(super) async fn run(self, common: &Common) -> Result<(), Failure> {
        let path = match &self.id {
            Some(id) => format!("/api/v1/workflow/status?workflow_id={}", encoded(id)),
            None => "/health".to_owned(),
        };
        let document = client::get(common, &path).await?;
        // A server that asks who calls tells the rest to administrators only.
        if self.nodes && !document["version"].is_string() {
            let text = "the server shows its nodes to clients with the role `admin` only: set CRUX_API_KEY to the key of one";
            return Err(Failure::refused(text));
        }
        if common.json {
            out::print_line(if self.nodes { &document["nodes"] } else { &document })?;
        } else {
            let text =
                if self.nodes { show::nodes(&document) } else { show::status(&document, self.all) };
            out::print(&text)?;
        }
        Ok(())
    }
}

/// List instances, newest first
#[derive(Args)]
#[command(
    after_help = "Examples:\n  crux list --workflow order --status completed --limit 10\n  crux list --open"
)]
pub(super) struct List {
    /// Only instances of this workflow
    #[arg(long, value_name = "NAME")]
    workflow: Option<String>,
    /// Only instances in this status: processing, waiting, paused, parked, undoing, completed,
    /// failed, cancelled
    #[arg(long)]
    status: Option<String>,
    /// Only instances that have not ended, whatever their status
    #[arg(long, conflicts_with = "status")]
    open: bool,
    /// Only instances older than this one: the last of the previous page
    #[arg(long, value_name = "ID")]
    after: Option<String>,
    /// The length of a page, at most 500
    #[arg(long, default_value_t = 50)]
    limit: usize,
}

/// Of instances that have not ended.
const OPEN: [&str; 5] = ["processing", "waiting", "paused", "parked", "undoing"];

impl List {
    pub(super) async fn run(self, common: &Common) -> Result<(), Failure> {
        let page = if self.open {
            self.open_instances(common).await?
        } else {
            self.page(common, self.status.as_deref()).await?
        };
        if common.json {
            out::print_line(&page)?;
        } else {
            out::print(&show::list(&page))?;
        }
        Ok(())
    }

    async fn page(&self, common: &Common, status: Option<&str>) -> Result<Value, Failure> {
        let mut path = format!("/api/v1/workflow/list?limit={}", self.limit);
        let parameters = [
            ("workflow", self.workflow.as_deref()),
            ("status", status),
            ("after", self.after.as_deref()),
        ];
        for (name, value) in parameters {
            if let Some(value) = value {
                path.push_str(&format!("&{name}={}", encoded(value)));
            }
        }
        client::get(common, &path).await
    }

    /// The server lists by one status. A page of each, merged by id, has the newest of all.
    async fn open_instances(&self, common: &Common) -> Result<Value, Failure> {
        let mut rows: BTreeMap<String, Value> = BTreeMap::new();
        let mut has_more = false;
        for status in OPEN {
            let mut page = self.page(common, Some(status)).await?;
            has_more |= page["next"].as_str().is_some_and(|next| !next.is_empty());
            let listed = page["workflows"].as_array_mut().map(std::mem::take).unwrap_or_default();
            // One that changes its status meanwhile is in two pages; the later one is right.
            rows.extend(listed.into_iter().map(|row| {
                let id = row["workflow_id"].as_str().unwrap_or_default().to_owned();
                (id, row)
            }));
        }
        has_more |= rows.len() > self.limit;
        let rows: Vec<Value> = rows.into_values().rev().take(self.limit).collect();
        let next = rows.last().filter(|_| has_more).map(|row| row["workflow_id"].clone());
        Ok(json!({"workflows": rows, "next": next.unwrap_or_else(|| json!(""))}))
    }
}

/// Cancel an instance: undo its completed steps (compensation), then end it
#[derive(Args)]
#[command(after_help = "Examples:\n  crux cancel $ID --reason 'ordered twice'")]
pub(super) struct Cancel {
    /// The instance's id
    id: String,
    /// Recorded in the instance's history
    #[arg(long, default_value = "")]
    reason: String,
}

impl Cancel {
    pub(super) async fn run(self, common: &Common) -> Result<(), Failure> {
        tell(common, &self.id, "cancel", &json!({"reason": self.reason})).await
    }
}

/// Retry the failed steps of a parked or failed instance
#[derive(Args)]
#[command(
    after_help = "Examples:\n  crux retry $ID\n  crux retry $ID --step image_processing --input '{\"images\": [\"chair.png\"]}'"
)]
pub(super) struct Retry {
    /// The instance's id
    id: String,
    /// Only this step: its path or its id
    #[arg(long)]
    step: Option<String>,
    /// A corrected input for it: JSON, @FILE, or - for standard input
    #[arg(long)]
    input: Option<String>,
}

impl Retry {
    pub(super) async fn run(self, common: &Common) -> Result<(), Failure> {
        #[derive(Serialize)]
        struct Body {
            #[serde(skip_serializing_if = "Option::is_none")]
            step_id: Option<String>,
            #[serde(skip_serializing_if = "Option::is_none")]
            input: Option<Box<RawValue>>,
        }
        let input = self.input.map(|input| read_json(&input, "--input")).transpose()?;
        let body = Body { step_id: self.step, input };
        tell(common, &self.id, "retry", &body).await
    }
}

/// Undo the completed steps of a parked instance (compensation), then end it as failed
#[derive(Args)]
#[command(after_help = "Examples:\n  crux undo $ID")]
pub(super) struct Undo {
    /// The instance's id
    id: String,
}

impl Undo {
    pub(super) async fn run(self, common: &Common) -> Result<(), Failure> {
        tell(common, &self.id, "undo", &json!({})).await
    }
}

/// End a parked instance as failed, without undoing anything
#[derive(Args)]
#[command(after_help = "Examples:\n  crux fail $ID --reason 'settled by hand'")]
pub(super) struct Fail {
    /// The instance's id
    id: String,
    /// Recorded in the instance's history
    #[arg(long, default_value = "")]
    reason: String,
}

impl Fail {
    pub(super) async fn run(self, common: &Common) -> Result<(), Failure> {
        tell(common, &self.id, "fail", &json!({"reason": self.reason})).await
    }
}

/// Pause an instance: nothing new starts until it is resumed
#[derive(Args)]
#[command(after_help = "Examples:\n  crux pause $ID")]
pub(super) struct Pause {
    /// The instance's id
    id: String,
}

impl Pause {
    pub(super) async fn run(self, common: &Common) -> Result<(), Failure> {
        tell(common, &self.id, "pause", &json!({})).await
    }
}

/// Resume a paused instance
#[derive(Args)]
#[command(after_help = "Examples:\n  crux resume $ID")]
pub(super) struct Resume {
    /// The instance's id
    id: String,
}

impl Resume {
    pub(super) async fn run(self, common: &Common) -> Result<(), Failure> {
        tell(common, &self.id, "resume", &json!({})).await
    }
}

/// Start a new instance with the input of one that has ended
///
/// Prints the id of the new one.
#[derive(Args)]
#[command(after_help = "Examples:\n  crux restart $ID")]
pub(super) struct Restart {
    /// The id of the instance that has ended
    id: String,
}

impl Restart {
    pub(super) async fn run(self, common: &Common) -> Result<(), Failure> {
        let path = format!("/api/v1/workflow/{}/restart", encoded(&self.id));
        let answer = client::post(common, &path, &json!({})).await?;
        if common.json {
            out::print_line(&answer)
        } else {
            out::print_line(answer["workflow_id"].as_str().unwrap_or_default())
        }
    }
}

async fn tell(
    common: &Common,
    id: &str,
    command: &str,
    body: &impl Serialize,
) -> Result<(), Failure> {
    let answer =
        client::post(common, &format!("/api/v1/workflow/{}/{command}", encoded(id)), body).await?;
    if common.json {
        out::print_line(&answer)?;
    } else {
        out::print_line(answer["status"].as_str().unwrap_or_default())?;
    }
    Ok(())
}

/// Print the configuration in force, with secrets masked
#[derive(Args)]
#[command(after_help = "Examples:\n  crux config\n  CRUX_SERVER__PORT=9090 crux config --json")]
pub(super) struct ShowConfig {}

impl ShowConfig {
    pub(super) fn run(self, common: &Common) -> Result<(), Failure> {
        let config = common.load(Vec::new())?.masked();
        if common.json {
            out::print_line(&config)?
        } else {
            out::print(&show::config(&config))?
        }
        Ok(())
    }
}

/// Print a shell's completions for this command line
#[derive(Args)]
#[command(after_help = "Examples:\n  crux completions bash > crux.bash")]
pub(super) struct Completions {
    shell: clap_complete::Shell,
}

impl Completions {
    pub(super) fn run(self, mut whole: clap::Command) -> Result<(), Failure> {
        let name = whole.get_name().to_owned();
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut whole, name, &mut script);
        out::print(&String::from_utf8_lossy(&script))
    }
}

/// JSON from where an argument says.
pub(super) fn read_json(argument: &str, flag: &str) -> Result<Box<RawValue>, Failure> {
    let text = match (argument, argument.strip_prefix('@')) {
        ("-", _) => {
            let mut text = String::new();
            let read = std::io::stdin().read_to_string(&mut text);
            read.map(|_| text).map_err(|error| {
                Failure::usage(format!("{flag}: standard input cannot be read: {error}"))
            })?
        }
        (_, Some(path)) => std::fs::read_to_string(path)
            .map_err(|error| Failure::usage(format!("{flag}: {path} cannot be read: {error}")))?,
        (text, None) => text.to_owned(),
    };
    outside::check(text.as_bytes()).map_err(|refused| {
        Failure::usage(format!("{flag}: not JSON that can be read: {refused}"))
    })?;
    serde_json::from_str(&text)
        .map_err(|error| Failure::usage(format!("{flag}: not JSON: {error}")))
}

/// For a path or a query.
pub(super) fn encoded(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'~') {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    encoded
}
