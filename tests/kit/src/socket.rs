//! A WebSocket client: tungstenite.

use futures_util::{SinkExt, StreamExt};
use serde_json::Value;
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::protocol::frame::Frame;
pub use tokio_tungstenite::tungstenite::protocol::frame::coding::{Data, OpCode};
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};

use super::{PATIENCE, Server};

pub struct Socket {
    stream: WebSocketStream<MaybeTlsStream<TcpStream>>,
    /// How it was closed, once it was.
    pub closed: Option<u16>,
}

impl Socket {
    /// `query`: `?workflow_id=…`, or nothing for the gateway. The error: the status of what was
    /// answered instead.
    pub async fn try_open(server: &Server, query: &str) -> Result<Self, u16> {
        Self::try_open_with(server, query, &[]).await
    }

    pub async fn try_open_with(
        server: &Server,
        query: &str,
        headers: &[(&'static str, &str)],
    ) -> Result<Self, u16> {
        let url = format!("ws://{}/ws{query}", server.address());
        let mut request = url.into_client_request().expect("an address");
        for (name, value) in headers {
            request.headers_mut().insert(*name, value.parse().expect("a header"));
        }
        match connect_async(request).await {
            Ok((stream, _)) => Ok(Self { stream, closed: None }),
            Err(Error::Http(response)) => Err(response.status().as_u16()),
            Err(error) => panic!("{error}"),
        }
    }

    pub async fn open(server: &Server, query: &str) -> Self {
        Self::try_open(server, query).await.expect("the socket opens")
    }

    pub async fn follow(server: &Server, id: &str) -> Self {
        Self::open(server, &format!("?workflow_id={id}")).await
    }

    /// The next message; `None` when it was closed.
    pub async fn next(&mut self) -> Option<Value> {
        let next = tokio::time::timeout(PATIENCE, async {
            loop {
                match self.stream.next().await {
                    Some(Ok(Message::Text(text))) => {
                        return Some(serde_json::from_str(&text).expect("messages are JSON"));
                    }
                    Some(Ok(Message::Close(frame))) => {
                        self.closed = frame.map(|frame| u16::from(frame.code))
                    }
                    Some(Ok(_)) => {}
                    Some(Err(_)) | None => return None,
                }
            }
        });
        next.await.expect("a message in time")
    }

    /// All messages until it is closed.
    pub async fn rest(&mut self) -> Vec<Value> {
        let mut messages = Vec::new();
        while let Some(message) = self.next().await {
            messages.push(message);
        }
        messages
    }

    pub async fn send_text(&mut self, text: &str) {
        self.stream.send(Message::text(text)).await.expect("it can be sent");
    }

    pub async fn send(&mut self, message: &Value) {
        self.stream.send(Message::text(message.to_string())).await.expect("it can be sent");
    }

    /// A frame as it is, whether or not the other side takes it.
    pub async fn send_frame(&mut self, opcode: OpCode, payload: Vec<u8>) {
        let _ = self.stream.send(Message::Frame(Frame::message(payload, opcode, true))).await;
    }

    /// Sends a request of the gateway and gives its answer; other messages that come before it are
    /// dropped.
    pub async fn ask(&mut self, request: &Value) -> Value {
        self.send(request).await;
        loop {
            let message = self.next().await.expect("an answer");
            if message["type"] == "answer" && message["id"] == request["id"] {
                return message;
            }
        }
    }
}

/// Checks that messages are whole rows in order without gaps, from the row after `after`.
pub fn assert_gapless(messages: &[Value], after: u64) {
    let (mut seq, mut n) = (after + 1, 0);
    for message in messages {
        assert_eq!(
            (message["seq"].as_u64(), message["n"].as_u64()),
            (Some(seq), Some(n)),
            "{messages:#?}"
        );
        if message["last"] == true {
            (seq, n) = (seq + 1, 0);
        } else {
            n += 1;
        }
    }
    assert_eq!(n, 0, "the last row is not whole: {messages:#?}");
}

/// The types of messages, in order.
pub fn types(messages: &[Value]) -> Vec<&str> {
    messages.iter().map(|message| message["type"].as_str().unwrap_or_default()).collect()
}
