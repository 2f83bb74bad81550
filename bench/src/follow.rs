//! Many followers of one instance over WebSocket, as light as they can be: each reads, looks for
//! the mark that an event carried, and counts. The one that completes a round says when that was.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use futures_util::StreamExt;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_tungstenite::client_async;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;

use crate::Outcome;

/// Connections that are made at a time: the server's queue of new ones is shorter than the number
/// of followers.
const CONCURRENCY: usize = 100;
/// Read together.
const BUFFER: usize = 4096;
/// Before the number that an event carried.
const MARK: &[u8] = br#""mark":"#;

/// Which follower has received which round.
struct Rounds {
    followers: usize,
    /// By mark.
    received: Vec<AtomicUsize>,
    complete: mpsc::UnboundedSender<Instant>,
}

/// Followers that are connected; they go when this is dropped.
pub struct Followers {
    tasks: JoinSet<()>,
    complete: mpsc::UnboundedReceiver<Instant>,
}

impl Followers {
    /// Connects them all; they can tell the marks 0 to `rounds - 1` apart.
    pub async fn connect(
        address: SocketAddr,
        instance: &str,
        followers: usize,
        rounds: usize,
    ) -> Outcome<Self> {
        let (completed, complete) = mpsc::unbounded_channel();
        let received = (0..rounds).map(|_| AtomicUsize::new(0)).collect();
        let rounds = Arc::new(Rounds { followers, received, complete: completed });
        let url = format!("ws://{address}/ws?workflow_id={instance}");
        let sockets =
            futures_util::stream::iter((0..followers).map(|_| connect(address, url.clone())));
        let sockets: Vec<Outcome<_>> = sockets.buffer_unordered(CONCURRENCY).collect().await;
        let mut tasks = JoinSet::new();
        for socket in sockets {
            tasks.spawn(listen(socket?, rounds.clone()));
        }
        Ok(Self { tasks, complete })
    }

    /// When the last follower received the current round.
    pub async fn last(&mut self) -> Outcome<Instant> {
        tokio::select! {
            last = self.complete.recv() => last.ok_or_else(|| "the followers have gone".into()),
            _ = self.tasks.join_next() => Err("a follower was cut off".into()),
        }
    }
}

/// The handshake is a library's; what follows is read by [`listen`].
async fn connect(address: SocketAddr, url: String) -> Outcome<TcpStream> {
    let stream = TcpStream::connect(address).await?;
    let (socket, _) = client_async(url.into_client_request()?, stream).await?;
    Ok(socket.into_inner())
}

/// Looks for marks in the bytes that come. A whole WebSocket client would cost as much as the
/// server that is measured beside it; this one answers no pings, and the server waits longer for
/// that than a run takes.
async fn listen(mut stream: TcpStream, rounds: Arc<Rounds>) {
    let mut buffer = vec![0; BUFFER];
    // A message may come in two pieces: what a mark may have begun with is kept.
    let mut kept = 0;
    while let Ok(read @ 1..) = stream.read(&mut buffer[kept..]).await {
        let filled = kept + read;
        let (marks, rest) = marks(&buffer[..filled]);
        for mark in marks {
            if let Some(received) = rounds.received.get(mark)
                && received.fetch_add(1, Ordering::Relaxed) + 1 == rounds.followers
            {
                // Nobody waits any more when the run is over.
                let _ = rounds.complete.send(Instant::now());
            }
        }
        kept = filled - rest;
        buffer.copy_within(rest..filled, 0);
    }
}

/// The marks in `text` that are there as a whole, and from where on the rest has to be looked at
/// again with what comes after it.
fn marks(text: &[u8]) -> (Vec<usize>, usize) {
    let mut marks = Vec::new();
    let mut at = 0;
    while let Some(found) = find(&text[at..]) {
        let digits = &text[at + found + MARK.len()..];
        let Some(end) = digits.iter().position(|byte| !byte.is_ascii_digit()) else {
            return (marks, at + found);
        };
        marks.push(
            digits[..end].iter().fold(0, |mark, digit| mark * 10 + usize::from(digit - b'0')),
        );
        at += found + MARK.len() + end;
    }
    (marks, at.max(text.len().saturating_sub(MARK.len())))
}

fn find(text: &[u8]) -> Option<usize> {
    // Few bytes are an `m`: that is looked for first.
    let mut from = 1;
    loop {
        let at = from + text.get(from..)?.iter().position(|byte| *byte == MARK[1])?;
        if text[at - 1..].starts_with(MARK) {
            return Some(at - 1);
        }
        from = at + 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_are_found_also_when_they_come_in_pieces() {
        let text = br#"..{"data":{"event_data":{"mark":12,"last":false}}}..{"data":{"event_data":{"mark":7}}}"#;
        assert_eq!(marks(text).0, [12, 7]);
        for cut in 0..text.len() {
            let (mut found, rest) = marks(&text[..cut]);
            found.extend(marks(&text[rest..]).0);
            assert_eq!(found, [12, 7], "cut at {cut}");
        }
    }
}
