//! One socket that follows one instance: everything from the beginning (or after a row), then live,
//! closed with 1000 after the last message.

use axum::extract::ws::{Message, WebSocket};
use tokio::time::{Instant, interval_at};
use tracing::{debug, warn};

use super::{Gone, PING_EVERY, SILENT, answer_close, close, code, send, why_unreadable};
use crate::id::InstanceId;
use crate::ingress::Shared;
use crate::ingress::follow::Follow;
use crate::ingress::http::stream::ConnectionPermit;
use crate::view::messages;

pub(super) async fn run(
    mut socket: WebSocket,
    ingress: Shared,
    instance: InstanceId,
    mut follow: Follow,
    correlation_id: String,
    permit: ConnectionPermit,
) {
    debug!(%instance, correlation_id, "a client follows");
    let _open = ingress.metrics.socket();
    let mut pings = interval_at(Instant::now() + PING_EVERY, PING_EVERY);
    let mut heard = Instant::now();
    // Made once: with ten thousand followers it is felt when each message makes it anew.
    let mut stopping = std::pin::pin!(ingress.stopping());
    let (code, reason) = loop {
        tokio::select! {
            next = follow.next() => match next {
                Ok(Some(row)) => {
                    // What cannot be encoded `next` has refused already.
                    let Ok(encoded) = messages::of_row(instance, follow.shape(), &row) else { break (code::FAILED, String::new()) };
                    match send(&mut socket, encoded.messages.iter().cloned(), &ingress).await {
                        Ok(()) => ingress.metrics.sent(encoded.messages.len()),
                        Err(Gone::Closed) => return debug!(%instance, correlation_id, "the client has gone"),
                        Err(Gone::TooSlow) => {
                            ingress.metrics.told_to_resync();
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
                Some(Err(error)) => match why_unreadable(error, &permit, ingress.settings.max_body_bytes) {
                    Some(why) => break why,
                    None => return debug!(%instance, correlation_id, "the client has gone"),
                },
                None => return debug!(%instance, correlation_id, "the client has gone"),
                // A follower has nothing to say; that it says something shows that it lives.
                Some(Ok(_)) => {
                    permit.is_done();
                    heard = Instant::now();
                }
            },
            _ = pings.tick() => {
                if heard.elapsed() > SILENT || socket.send(Message::Ping(Default::default())).await.is_err() {
                    return debug!(%instance, correlation_id, "the client has fallen silent");
                }
            },
            () = &mut stopping => break (code::GOING_AWAY, format!("the server is shutting down: come back with after={}", follow.seq())),
        }
    };
    // What follows would only keep the topic alive.
    drop(follow);
    close(socket, code, &reason).await;
}
