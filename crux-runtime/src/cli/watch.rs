//! `crux watch`: an instance's live messages. When the connection breaks it reconnects and
//! continues after the last complete row, so that nothing is missed or shown twice, whatever
//! happens to the server in between.

use std::time::Duration;

use clap::Args;
use futures_util::StreamExt;
use serde_json::Value;
use tokio::time::Instant;
use tokio_tungstenite::tungstenite::{Error, Message};

use super::{Common, Failure, client, out, show};

/// How long it tries to come back.
const RECONNECT_TIMEOUT: Duration = Duration::from_secs(60);

/// Follow an instance live, from its beginning until it ends
#[derive(Args)]
#[command(after_help = "Examples:\n  crux watch $ID\n  crux watch $ID --after 1 --json")]
pub(super) struct Watch {
    /// The instance's id
    id: String,
    /// Start after this journal row
    #[arg(long, default_value_t = 0)]
    after: u64,
}

/// How a connection ended.
enum Broke {
    /// The instance has ended.
    Done,
    /// Come back.
    Lost(String),
}

impl Watch {
    pub(super) async fn run(mut self, common: &Common) -> Result<(), Failure> {
        let mut last_type = String::new();
        // When the connection was lost; `None` while there has been none.
        let mut alive_at: Option<Instant> = None;
        loop {
            match self.follow(common, &mut last_type, &mut alive_at).await? {
                Broke::Done => break,
                Broke::Lost(why) => match alive_at {
                    None => {
                        let url = common.url()?;
                        return Err(Failure::unreachable(format!(
                            "no server answers at {url}: {why}; start one with `crux serve`"
                        )));
                    }
                    Some(at) if at.elapsed() > RECONNECT_TIMEOUT => {
                        return Err(Failure::unreachable(format!(
                            "the server has not come back: {why}"
                        )));
                    }
                    Some(_) => tokio::time::sleep(Duration::from_millis(300)).await,
                },
            }
        }
        match last_type.as_str() {
            "workflow_failed" | "workflow_cancelled" => {
                Err(Failure { code: 1, text: String::new() })
            }
            _ => Ok(()),
        }
    }

    async fn follow(
        &mut self,
        common: &Common,
        last_type: &mut String,
        alive_at: &mut Option<Instant>,
    ) -> Result<Broke, Failure> {
        let url =
            client::socket_url(common, &format!("?workflow_id={}&after={}", self.id, self.after))?;
        let mut socket = match tokio_tungstenite::connect_async(client::socket_request(&url)?).await
        {
            Ok((socket, _)) => socket,
            Err(Error::Http(response)) => return Err(client::refused(&response)),
            Err(error) => return Ok(Broke::Lost(error.to_string())),
        };
        loop {
            let next = socket.next().await;
            *alive_at = Some(Instant::now());
            match next {
                Some(Ok(Message::Text(text))) => {
                    let message: Value = serde_json::from_str(&text).map_err(|error| {
                        Failure::refused(format!("a message is not JSON: {error}"))
                    })?;
                    if common.json {
                        out::print_line(&text)?
                    } else {
                        out::print_line(show::message(&message))?
                    }
                    if message["last"] == Value::Bool(true) {
                        self.after = message["seq"].as_u64().unwrap_or(self.after);
                    }
                    message["type"].as_str().unwrap_or_default().clone_into(last_type);
                }
                Some(Ok(Message::Close(frame))) => {
                    return Ok(match frame {
                        Some(frame) if u16::from(frame.code) == 1000 => Broke::Done,
                        Some(frame) => Broke::Lost(frame.reason.to_string()),
                        None => Broke::Lost("closed without a word".to_owned()),
                    });
                }
                Some(Ok(_)) => {}
                Some(Err(error)) => return Ok(Broke::Lost(error.to_string())),
                None => return Ok(Broke::Lost("the connection ended".to_owned())),
            }
        }
    }
}
