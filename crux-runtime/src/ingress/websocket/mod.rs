//! `GET /ws`. With `?workflow_id=` it follows one instance (`follower`); without, it is the
//! gateway, over which a client does many things (`gateway`). A client that does not read is never
//! waited for: it is cut off after a while and comes back where it was.

mod follower;
mod gateway;

use std::time::Duration;

use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::extract::ws::{CloseFrame, Message, Utf8Bytes, WebSocket, WebSocketUpgrade};
use axum::extract::{Extension, State};
use axum::http::{HeaderMap, Uri};
use axum::response::{IntoResponse, Response};
use futures_util::SinkExt;
use serde::Deserialize;
use serde::de::IgnoredAny;
use tokio_tungstenite::tungstenite::{self, error::ProtocolError};

use super::follow::Follow;
use super::problem::{Kind, Problem};
use super::{Ingress, Shared, requests};
use crate::ingress::http::middleware;
use crate::ingress::http::middleware::CorrelationId;
use crate::ingress::http::query;
use crate::ingress::http::stream::ConnectionPermit;
use crate::store::Seq;

/// Small, because there may be tens of thousands: a reader of the defaults would cost 128 KiB.
const READ_BUFFER: usize = 2048;
const WRITE_BUFFER: usize = 4096;
/// Not a size but a bound: one message is never larger.
const MAX_WRITE_BUFFER: usize = 8 << 20;
/// A socket that takes nothing for so long is given up.
const SLOWEST_WRITE: Duration = Duration::from_secs(10);
/// The same once the server stops.
const LEAVE: Duration = Duration::from_secs(1);
const PING_EVERY: Duration = Duration::from_secs(30);
/// A peer that has said nothing for so long, not even in answer to pings, is gone.
const SILENT: Duration = Duration::from_secs(90);

mod code {
    pub(super) const DONE: u16 = 1000;
    pub(super) const GOING_AWAY: u16 = 1001;
    pub(super) const PROTOCOL: u16 = 1002;
    pub(super) const NOT_TEXT: u16 = 1003;
    pub(super) const NOT_UTF8: u16 = 1007;
    pub(super) const TOO_BIG: u16 = 1009;
    pub(super) const FAILED: u16 = 1011;
    pub(super) const TRY_AGAIN: u16 = 1013;
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WsQuery {
    workflow_id: Option<String>,
    after: Option<Seq>,
    /// Sent by clients that know servers which ask for it; nobody reads it here.
    #[serde(rename = "token")]
    _token: Option<IgnoredAny>,
}

pub(super) async fn connect(
    State(ingress): State<Shared>,
    Extension(CorrelationId(correlation_id)): Extension<CorrelationId>,
    Extension(permit): Extension<ConnectionPermit>,
    uri: Uri,
    headers: HeaderMap,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Result<Response, Problem> {
    let WsQuery { workflow_id, after, .. } = query(&uri)?;
    let upgrade = upgrade.map_err(|rejection| {
        Problem::new(
            Kind::InvalidRequest,
            format!("this route speaks WebSocket: {}", rejection.body_text()),
        )
    })?;
    ingress.check_open()?;
    let upgrade = upgrade
        .read_buffer_size(READ_BUFFER)
        .write_buffer_size(WRITE_BUFFER)
        .max_write_buffer_size(MAX_WRITE_BUFFER)
        .max_message_size(ingress.settings.max_body_bytes)
        .max_frame_size(ingress.settings.max_body_bytes);
    let response = match (workflow_id, after) {
        (Some(workflow_id), after) => {
            let instance = requests::instance_id(&workflow_id)?;
            // Before the upgrade, so that an unknown instance is an answer that HTTP knows.
            let follow = Follow::open(&ingress, instance, after.unwrap_or(0)).await?;
            upgrade.on_upgrade(move |socket| {
                follower::run(socket, ingress, instance, follow, correlation_id, permit)
            })
        }
        (None, Some(_)) => {
            return Err(
                Problem::new(Kind::InvalidRequest, "`after` needs a `workflow_id`").at("after")
            );
        }
        (None, None) => {
            let traceparent = middleware::traceparent(&headers);
            upgrade.on_upgrade(move |socket| {
                gateway::run(socket, ingress, correlation_id, traceparent, permit)
            })
        }
    };
    Ok(response.into_response())
}

/// Why a socket cannot be written to any more.
#[derive(Debug)]
enum Gone {
    Closed,
    TooSlow,
}

/// Sends all of them, with as few system calls as possible.
async fn send(
    socket: &mut WebSocket,
    messages: impl Iterator<Item = Utf8Bytes>,
    ingress: &Ingress,
) -> Result<(), Gone> {
    let sending = async {
        for message in messages {
            socket.feed(Message::Text(message)).await?;
        }
        socket.flush().await
    };
    let no_time_left = async {
        ingress.stopping().await;
        tokio::time::sleep(LEAVE).await;
    };
    tokio::select! {
        biased;
        sent = sending => sent.map_err(|_: axum::Error| Gone::Closed),
        () = tokio::time::sleep(SLOWEST_WRITE) => Err(Gone::TooSlow),
        () = no_time_left => Err(Gone::TooSlow),
    }
}

/// Why reading a socket has failed, as a code and a reason to close it with; `None`: there is
/// nobody to tell.
fn why_unreadable(
    error: axum::Error,
    permit: &ConnectionPermit,
    limit: usize,
) -> Option<(u16, String)> {
    let error = error.into_inner();
    let (code, reason) = match error.downcast_ref::<tungstenite::Error>()? {
        tungstenite::Error::Capacity(_) => {
            (code::TOO_BIG, format!("a message has at most {limit} bytes (limits.max_body_size)"))
        }
        tungstenite::Error::Utf8(_) => (code::NOT_UTF8, "a text is UTF-8".to_owned()),
        tungstenite::Error::Protocol(ProtocolError::ResetWithoutClosingHandshake) => return None,
        tungstenite::Error::Protocol(error) => (code::PROTOCOL, error.to_string()),
        tungstenite::Error::Io(_) if permit.is_overdrawn() => (
            code::TRY_AGAIN,
            "too much is being received from all clients together (limits.max_buffered_bodies)"
                .to_owned(),
        ),
        _ => return None,
    };
    // It is still sending, most likely.
    permit.linger();
    Some((code, reason))
}

/// Says goodbye and waits a moment for the other side's; then nothing of what was sent is lost on
/// the way.
async fn close(mut socket: WebSocket, code: u16, reason: &str) {
    // A reason has at most 123 bytes.
    let reason: String = reason.chars().take(100).collect();
    let farewell = async {
        if socket
            .send(Message::Close(Some(CloseFrame { code, reason: reason.into() })))
            .await
            .is_ok()
        {
            while let Some(Ok(message)) = socket.recv().await {
                if matches!(message, Message::Close(_)) {
                    break;
                }
            }
        }
    };
    // A peer that does not answer has been told all the same.
    let _ = tokio::time::timeout(Duration::from_secs(2), farewell).await;
}

/// The other side has said goodbye: the answer to that is ready and only has to go out.
async fn answer_close(mut socket: WebSocket) {
    // Whoever does not take it has gone without waiting for it.
    let _ = tokio::time::timeout(Duration::from_secs(2), socket.flush()).await;
}
