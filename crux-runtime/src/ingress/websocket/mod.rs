//! `GET /ws`. With `?workflow_id=` it follows one instance (`follower`); without, it is the
//! gateway, over which a client does many things (`gateway`). A client that does not read is never
//! waited for: it is cut off after a while and comes back where it was.

mod follower;
mod gateway;

use std::time::Duration;

use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::extract::ws::{CloseFrame, Message, Utf8Bytes, WebSocket, WebSocketUpgrade};
use axum::extract::{Extension, State};
use axum::http::Uri;
use axum::response::{IntoResponse, Response};
use futures_util::SinkExt;
use serde::Deserialize;
use tokio_tungstenite::tungstenite::{self, error::ProtocolError};

use super::caller::Caller;
use super::connection::ConnectionPermit;
use super::problem::{Kind, Problem};
use super::query::query;
use super::{Ingress, Shared, requests};
use crate::store::Seq;

/// Small, because there may be tens of thousands: a reader of the defaults would cost 128 KiB.
const READ_BUFFER_BYTES: usize = 2048;
const WRITE_BUFFER_BYTES: usize = 4096;
/// Not a size but a bound: one message is never larger.
const WRITE_BUFFER_BYTES_MAX: usize = 8 << 20;
/// A socket that takes nothing for this long is given up.
const WRITE_TIMEOUT: Duration = Duration::from_secs(10);
/// The same once the server stops.
const SHUTDOWN_GRACE: Duration = Duration::from_secs(1);
/// A client that has not said who it is gets this long to send `auth`.
const AUTH_TIMEOUT: Duration = Duration::from_secs(5);
/// Beside it a client may offer one with its credential, which is never answered.
const SUBPROTOCOL: &str = "crux";
const PING_INTERVAL: Duration = Duration::from_secs(30);
/// A peer that has sent nothing for this long, not even an answer to pings, is gone.
const PEER_TIMEOUT: Duration = Duration::from_secs(90);

mod code {
    pub(super) const DONE: u16 = 1000;
    pub(super) const GOING_AWAY: u16 = 1001;
    pub(super) const PROTOCOL: u16 = 1002;
    pub(super) const NOT_TEXT: u16 = 1003;
    pub(super) const NOT_UTF8: u16 = 1007;
    pub(super) const TOO_BIG: u16 = 1009;
    pub(super) const FAILED: u16 = 1011;
    pub(super) const TRY_AGAIN: u16 = 1013;
    pub(super) const NOT_AUTHENTICATED: u16 = 4401;
    pub(super) const EXPIRED: u16 = 4403;
}

/// Why a socket is closed by its caller's time, as a code and a reason.
type Ending = (u16, &'static str);

const EXPIRED: Ending =
    (code::EXPIRED, "the credential has expired or counts no longer: come back with a new one");
const NOT_AUTHENTICATED: Ending =
    (code::NOT_AUTHENTICATED, "no credential came in time: send `auth` with a `token` first");

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WsQuery {
    workflow_id: Option<String>,
    after: Option<Seq>,
}

pub(super) async fn connect(
    State(ingress): State<Shared>,
    caller: Caller,
    Extension(permit): Extension<ConnectionPermit>,
    uri: Uri,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Result<Response, Problem> {
    let WsQuery { workflow_id, after } = query(&uri)?;
    let upgrade = upgrade.map_err(|rejection| {
        Problem::new(
            Kind::InvalidRequest,
            format!("this route speaks WebSocket: {}", rejection.body_text()),
        )
    })?;
    ingress.service.connect(&caller)?;
    let upgrade = upgrade
        .protocols([SUBPROTOCOL])
        .read_buffer_size(READ_BUFFER_BYTES)
        .write_buffer_size(WRITE_BUFFER_BYTES)
        .max_write_buffer_size(WRITE_BUFFER_BYTES_MAX)
        .max_message_size(ingress.settings.max_body_bytes)
        .max_frame_size(ingress.settings.max_body_bytes);
    let response = match (workflow_id, after) {
        (Some(workflow_id), after) => {
            let instance = requests::instance_id(&workflow_id)?;
            // Before the upgrade, so that an unknown instance is an answer that HTTP knows.
            let follow = ingress.service.follow(&caller, instance, after.unwrap_or(0)).await?;
            upgrade.on_upgrade(move |socket| {
                follower::run(socket, ingress, instance, follow, caller, permit)
            })
        }
        (None, Some(_)) => {
            return Err(
                Problem::new(Kind::InvalidRequest, "`after` needs a `workflow_id`").at("after")
            );
        }
        (None, None) => {
            upgrade.on_upgrade(move |socket| gateway::run(socket, ingress, caller, permit))
        }
    };
    Ok(response.into_response())
}

/// Why a socket cannot be written to any more.
#[derive(Debug)]
enum SendError {
    Closed,
    TooSlow,
}

/// Sends all of them, with as few system calls as possible.
async fn send(
    socket: &mut WebSocket,
    messages: impl Iterator<Item = Utf8Bytes>,
    ingress: &Ingress,
) -> Result<(), SendError> {
    let sending = async {
        for message in messages {
            socket.feed(Message::Text(message)).await?;
        }
        socket.flush().await
    };
    let no_time_left = async {
        ingress.service.stopping().await;
        tokio::time::sleep(SHUTDOWN_GRACE).await;
    };
    tokio::select! {
        biased;
        sent = sending => sent.map_err(|_: axum::Error| SendError::Closed),
        () = tokio::time::sleep(WRITE_TIMEOUT) => Err(SendError::TooSlow),
        () = no_time_left => Err(SendError::TooSlow),
    }
}

/// Why reading a socket has failed, as a code and a reason to close it with; `None`: the peer is
/// gone.
fn close_reason(
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

/// Sends the close frame and waits a moment for the peer's, so that nothing is lost that was sent
/// before.
async fn close(mut socket: WebSocket, code: u16, reason: &str) {
    // A reason has at most 123 bytes.
    let reason: String = reason.chars().take(100).collect();
    let closing = async {
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
    // A peer that does not answer has got the close frame anyway.
    let _ = tokio::time::timeout(Duration::from_secs(2), closing).await;
}

/// The peer has closed: the answer to that is ready and only has to go out.
async fn answer_close(mut socket: WebSocket) {
    // A peer that does not take it has gone without waiting for it.
    let _ = tokio::time::timeout(Duration::from_secs(2), socket.flush()).await;
}
