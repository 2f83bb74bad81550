//! Many followers of one instance over WebSocket, as light as they can be: each reads, looks for the mark that an event carried, and
//! counts. The one that completes a round says when that was.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use futures_util::StreamExt;
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{Bytes, Message};
use tokio_tungstenite::{WebSocketStream, client_async_with_config};

use crate::Outcome;

/// Connections that are made at a time: the server's queue of new ones is shorter than the number of followers.
const AT_ONCE: usize = 100;
/// The defaults would take 128 KiB for each of ten thousand.
const READ_BUFFER: usize = 4096;
const WRITE_BUFFER: usize = 1024;
/// Before the number that an event carried.
const MARK: &str = r#""mark":"#;

/// Who has heard what.
struct Rounds {
    followers: usize,
    /// By mark.
    heard: Vec<AtomicUsize>,
    complete: mpsc::UnboundedSender<Instant>,
}

/// Followers that are connected; they go when this is dropped.
pub struct Followers {
    tasks: JoinSet<()>,
    complete: mpsc::UnboundedReceiver<Instant>,
}

impl Followers {
    /// Connects them all; they can tell the marks 0 to `rounds - 1` apart.
    pub async fn connect(address: SocketAddr, instance: &str, followers: usize, rounds: usize) -> Outcome<Self> {
        let (told, complete) = mpsc::unbounded_channel();
        let heard = (0..rounds).map(|_| AtomicUsize::new(0)).collect();
        let rounds = Arc::new(Rounds { followers, heard, complete: told });
        let url = format!("ws://{address}/ws?workflow_id={instance}");
        let sockets = futures_util::stream::iter((0..followers).map(|_| connect(address, url.clone())));
        let sockets: Vec<Outcome<_>> = sockets.buffer_unordered(AT_ONCE).collect().await;
        let mut tasks = JoinSet::new();
        for socket in sockets {
            tasks.spawn(listen(socket?, rounds.clone()));
        }
        Ok(Self { tasks, complete })
    }

    /// When the last follower heard of the round that is under way.
    pub async fn last(&mut self) -> Outcome<Instant> {
        tokio::select! {
            last = self.complete.recv() => last.ok_or_else(|| "the followers have gone".into()),
            _ = self.tasks.join_next() => Err("a follower was cut off".into()),
        }
    }
}

async fn connect(address: SocketAddr, url: String) -> Outcome<WebSocketStream<TcpStream>> {
    let stream = TcpStream::connect(address).await?;
    let config = WebSocketConfig::default().read_buffer_size(READ_BUFFER).write_buffer_size(WRITE_BUFFER);
    let (socket, _) = client_async_with_config(url.into_client_request()?, stream, Some(config)).await?;
    Ok(socket)
}

async fn listen(mut socket: WebSocketStream<TcpStream>, rounds: Arc<Rounds>) {
    while let Some(Ok(message)) = socket.next().await {
        if let Message::Text(text) = message
            && let Some(heard) = mark(Bytes::from(text).as_ref()).and_then(|mark| rounds.heard.get(mark))
            && heard.fetch_add(1, Ordering::Relaxed) + 1 == rounds.followers
        {
            // Nobody waits any more when the run is over.
            let _ = rounds.complete.send(Instant::now());
        }
    }
}

fn mark(text: &[u8]) -> Option<usize> {
    let at = text.windows(MARK.len()).position(|window| window == MARK.as_bytes())?;
    let digits = text[at + MARK.len()..].iter().take_while(|byte| byte.is_ascii_digit());
    Some(digits.fold(0, |mark, digit| mark * 10 + usize::from(digit - b'0')))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mark_of_a_message_is_found() {
        assert_eq!(mark(br#"{"data":{"event_data":{"mark":123,"last":false}}}"#), Some(123));
        assert_eq!(mark(br#"{"data":{}}"#), None);
    }
}
