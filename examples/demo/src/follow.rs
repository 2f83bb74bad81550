//! Follows one instance over the WebSocket, as a page in a browser would: from its first message to
//! its last, each once, in order. When the connection breaks it connects again and says which row
//! of messages it has seen whole.

use std::time::Duration;

use futures_util::StreamExt;
use serde::Deserialize;
use serde_json::Value;
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep};
use tokio_tungstenite::tungstenite::Message as Frame;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};

/// How long a server may be away.
const PATIENCE: Duration = Duration::from_secs(30);
const RECONNECT_DELAY: Duration = Duration::from_millis(50);

type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

/// What the server tells of an instance.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Message {
    pub r#type: String,
    pub seq: u64,
    /// The place in the row, from 0.
    pub n: u64,
    /// Whether it is the row's last.
    pub last: bool,
    pub data: Value,
}

impl Message {
    pub fn is_end(&self) -> bool {
        matches!(
            self.r#type.as_str(),
            "workflow_completed" | "workflow_failed" | "workflow_cancelled"
        )
    }

    /// A text in `data`; empty if it is not there.
    pub fn text(&self, key: &str) -> &str {
        self.data.get(key).and_then(Value::as_str).unwrap_or_default()
    }
}

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{url}: no connection for {} s: {reason}", PATIENCE.as_secs())]
    Lost { url: String, reason: String },
    #[error("a message is not what was expected: {error}: {text}")]
    Strange { text: String, error: serde_json::Error },
}

/// What has been seen so far.
#[derive(Debug, Default)]
struct Seen {
    /// The last row of which every message has come.
    whole: Option<u64>,
    /// Row and place of the last message: a row that broke off comes again from its beginning.
    last: Option<(u64, u64)>,
}

impl Seen {
    /// Whether the message is new.
    fn note(&mut self, message: &Message) -> bool {
        let place = (message.seq, message.n);
        let is_new = self.last.is_none_or(|last| last < place);
        if is_new {
            self.last = Some(place);
            self.whole = if message.last { Some(message.seq) } else { self.whole };
        }
        is_new
    }
}

/// Sends every message to `to`, and ends after the instance's last one or when nobody wants them
/// any more.
pub async fn follow(port: u16, workflow_id: &str, to: &mpsc::Sender<Message>) -> Result<(), Error> {
    let base = format!("ws://127.0.0.1:{port}/ws?workflow_id={workflow_id}");
    let mut seen = Seen::default();
    let mut last_message_at = Instant::now();
    loop {
        let url = seen.whole.map_or_else(|| base.clone(), |whole| format!("{base}&after={whole}"));
        let reason = match connect_async(&url).await {
            Ok((socket, _)) => match receive(socket, &mut seen, to).await? {
                None => return Ok(()),
                Some(reason) => {
                    last_message_at = Instant::now();
                    reason
                }
            },
            Err(error) => error.to_string(),
        };
        if last_message_at.elapsed() > PATIENCE {
            return Err(Error::Lost { url, reason });
        }
        sleep(RECONNECT_DELAY).await;
    }
}

/// Why the connection broke; `None`: there is no more to come.
async fn receive(
    mut socket: Socket,
    seen: &mut Seen,
    to: &mpsc::Sender<Message>,
) -> Result<Option<String>, Error> {
    loop {
        match socket.next().await {
            Some(Ok(Frame::Text(text))) => {
                let message = serde_json::from_str::<Message>(&text)
                    .map_err(|error| Error::Strange { text: text.to_string(), error })?;
                let is_end = message.is_end();
                let unwanted = seen.note(&message) && to.send(message).await.is_err();
                if is_end || unwanted {
                    return Ok(None);
                }
            }
            Some(Ok(_)) => {}
            Some(Err(error)) => return Ok(Some(error.to_string())),
            None => return Ok(Some("it was closed".to_owned())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(seq: u64, n: u64, last: bool) -> Message {
        Message { r#type: "step_dispatched".into(), seq, n, last, data: Value::Null }
    }

    #[test]
    fn a_row_that_broke_off_is_continued_where_it_broke() {
        let mut seen = Seen::default();
        assert!(seen.note(&message(1, 0, false)));
        assert!(seen.note(&message(1, 1, true)));
        assert!(seen.note(&message(2, 0, false)));
        assert_eq!(seen.whole, Some(1), "the second row is not whole");
        assert!(!seen.note(&message(2, 0, false)), "seen before the connection broke");
        assert!(seen.note(&message(2, 1, true)));
        assert_eq!(seen.whole, Some(2));
    }
}
