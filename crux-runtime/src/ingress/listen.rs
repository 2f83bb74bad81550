//! Connections: accepted up to a number, each served on its own task, and all of them closed
//! gracefully. A peer that does not finish its request's head in time is cut off; what else a peer
//! may not do is in [`super::connection`].
//!
//! A shutdown has two phases. While running work finishes, requests are still answered, one per
//! connection: clients that a load balancer still sends here get 503 with `Retry-After`, and health
//! says why. Then nothing is accepted any more.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tracing::{debug, warn};

use super::connection::{Budget, ConnectionPermit, Stream};

/// How long a request's head may take to come.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);
/// How long a head may be. Also what is read and written at a time.
const HEAD_BYTES_MAX: usize = 64 << 10;
/// Once the server stops: how long a peer may take to send its request, and to read its answer.
const SHUTDOWN_GRACE: Duration = Duration::from_secs(2);
/// After an error that concerns the listener (out of file descriptors), before the next try.
const ACCEPT_RETRY_DELAY: Duration = Duration::from_millis(100);

/// Where a connection comes from; each of its requests carries it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Peer(pub(super) IpAddr);

/// How many connections there may be, and how much they may have sent that is not worked on yet.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    pub(crate) connections: usize,
    pub(crate) bodies: usize,
}

/// The signals to stop, one per phase.
#[derive(Debug, Clone)]
pub(crate) struct Stops {
    /// One request per connection from now on.
    pub(crate) stopping: watch::Receiver<bool>,
    /// Nothing is accepted from now on.
    pub(crate) closing: watch::Receiver<bool>,
}

/// Accepts until `closing`; ends when the connections that there were have ended.
pub(crate) async fn listen(listener: TcpListener, router: Router, limits: Limits, stops: Stops) {
    let Stops { stopping, mut closing } = stops;
    let most = u32::try_from(limits.connections).unwrap_or(u32::MAX);
    let permits = Arc::new(Semaphore::new(
        usize::try_from(most).unwrap_or(Semaphore::MAX_PERMITS).min(Semaphore::MAX_PERMITS),
    ));
    let budget = Arc::new(Budget::new(limits.bodies));
    loop {
        let accepted = tokio::select! {
            accepted = accept(&listener, &permits, &budget) => accepted,
            () = stopped(&mut closing) => break,
        };
        if let Some((stream, peer, permit)) = accepted {
            tokio::spawn(serve(stream, peer, router.clone(), stopping.clone(), permit));
        }
    }
    drop(listener);
    // All permits are free when no connection is left. Cannot fail, the semaphore is never closed.
    let _all = permits.acquire_many(most).await;
}

/// Ends when the server stops, or its handle is gone.
async fn stopped(stopping: &mut watch::Receiver<bool>) {
    let _ = stopping.wait_for(|stopping| *stopping).await;
}

/// Beyond the number, peers wait in the system's queue.
async fn accept(
    listener: &TcpListener,
    permits: &Arc<Semaphore>,
    budget: &Arc<Budget>,
) -> Option<(TcpStream, Peer, ConnectionPermit)> {
    let permit = ConnectionPermit::new(permits.clone().acquire_owned().await.ok()?, budget.clone());
    match listener.accept().await {
        Ok((stream, address)) => Some((stream, Peer(address.ip()), permit)),
        Err(error) => {
            warn!(%error, "a connection could not be accepted");
            tokio::time::sleep(ACCEPT_RETRY_DELAY).await;
            None
        }
    }
}

async fn serve(
    stream: TcpStream,
    peer: Peer,
    router: Router,
    mut stopping: watch::Receiver<bool>,
    permit: ConnectionPermit,
) {
    if let Err(error) = stream.set_nodelay(true) {
        debug!(%error, "answers on this connection may be late");
    }
    let router = TowerToHyperService::new(router);
    let (working, mut works) = watch::channel(false);
    let stream = Stream::new(stream, permit.clone());
    let service = service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(permit.clone());
        request.extensions_mut().insert(peer);
        working.send_replace(true);
        let answering = Answering { working: working.clone(), permit: permit.clone() };
        let answer = router.call(request);
        async move {
            let _answering = answering;
            answer.await
        }
    });
    let is_late = *stopping.borrow();
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(HEAD_BYTES_MAX)
        .keep_alive(!is_late)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    let mut connection = std::pin::pin!(connection);
    let stop = async {
        stopped(&mut stopping).await;
    };
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = stop => {
            if !is_late {
                // A request that is being worked on is answered, then the connection ends.
                connection.as_mut().graceful_shutdown();
            }
            tokio::select! {
                ended = connection.as_mut() => ended,
                () = has_nothing_to_do(&mut works) => return debug!("a connection was cut off: the peer neither finished its request nor read its answer"),
            }
        }
    };
    if let Err(error) = ended {
        debug!(%error, "a connection broke off");
    }
}

/// Ends when no request has been worked on for a while.
async fn has_nothing_to_do(works: &mut watch::Receiver<bool>) {
    loop {
        // The connection, which says it, is polled beside this.
        if works.wait_for(|works| !works).await.is_err() {
            return;
        }
        tokio::select! {
            () = tokio::time::sleep(SHUTDOWN_GRACE) => return,
            _ = works.wait_for(|works| *works) => {}
        }
    }
}

/// A request is worked on.
struct Answering {
    working: watch::Sender<bool>,
    permit: ConnectionPermit,
}

impl Drop for Answering {
    fn drop(&mut self) {
        self.permit.release();
        self.working.send_replace(false);
    }
}
