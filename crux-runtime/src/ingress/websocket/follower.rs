//! One socket that follows one instance: everything from the beginning (or after a row), then live,
//! closed with 1000 after the last message.

use axum::extract::ws::{Message, WebSocket};
use tokio::time::{Instant, interval_at};
use tracing::{debug, warn};

use super::{
    EXPIRED, PEER_TIMEOUT, PING_INTERVAL, SendError, answer_close, close, close_reason, code, send,
};
use crate::id::InstanceId;
use crate::ingress::Shared;
use crate::ingress::caller::Caller;
use crate::ingress::connection::ConnectionPermit;
use crate::ingress::service::Follow;
use crate::view::messages;

pub(super) async fn run(
    mut socket: WebSocket,
    ingress: Shared,
    instance: InstanceId,
    mut follow: Follow,
    caller: Caller,
    permit: ConnectionPermit,
) {
    let correlation_id = &caller.correlation_id;
    debug!(%instance, correlation_id, client_id = caller.client_id(), "a client follows");
    let _open = ingress.metrics.socket();
    let mut pings = interval_at(Instant::now() + PING_INTERVAL, PING_INTERVAL);
    let mut last_received = Instant::now();
    // Made once: with ten thousand followers, making it for each message would be noticeable.
    let mut lapsed = std::pin::pin!(ingress.authenticator.lapsed(&caller));
    let mut stopping = std::pin::pin!(ingress.service.stopping());
    let (code, reason) = loop {
        tokio::select! {
            next = follow.next() => match next {
                Ok(Some(row)) => {
                    // `next` has refused what cannot be encoded.
                    let Ok(encoded) = messages::of_row(instance, follow.shape(), &row) else { break (code::FAILED, String::new()) };
                    match send(&mut socket, encoded.messages.iter().cloned(), &ingress).await {
                        Ok(()) => ingress.metrics.sent(encoded.messages.len()),
                        Err(SendError::Closed) => return debug!(%instance, correlation_id, "the client has gone"),
                        Err(SendError::TooSlow) => {
                            ingress.metrics.cut_off();
                            warn!(%instance, correlation_id, after = follow.seq(), "a client does not read and is cut off");
                            break (code::TRY_AGAIN, format!("too slow: come back with after={}", row.stored.seq.saturating_sub(1)));
                        }
                    }
                }
                Ok(None) => break (code::DONE, "the workflow has ended".to_owned()),
                Err(problem) => {
                    warn!(%instance, correlation_id, detail = problem.detail, "following has failed");
                    break (code::FAILED, problem.detail);
                }
            },
            message = socket.recv() => match message {
                Some(Ok(Message::Close(_))) => return answer_close(socket).await,
                Some(Err(error)) => match close_reason(error, &permit, ingress.settings.max_body_bytes) {
                    Some(why) => break why,
                    None => return debug!(%instance, correlation_id, "the client has gone"),
                },
                None => return debug!(%instance, correlation_id, "the client has gone"),
                // A follower has nothing to send; that it sends something shows that it lives.
                Some(Ok(_)) => {
                    permit.release();
                    last_received = Instant::now();
                }
            },
            _ = pings.tick() => {
                if last_received.elapsed() > PEER_TIMEOUT || socket.send(Message::Ping(Default::default())).await.is_err() {
                    return debug!(%instance, correlation_id, "the client has fallen silent");
                }
            },
            () = &mut lapsed => break (EXPIRED.0, EXPIRED.1.to_owned()),
            () = &mut stopping => break (code::GOING_AWAY, format!("the server is shutting down: come back with after={}", follow.seq())),
        }
    };
    // What follows would only keep the topic alive.
    drop(follow);
    close(socket, code, &reason).await;
}
