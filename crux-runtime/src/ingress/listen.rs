//! Connections: accepted up to a number, each served on its own task, and all of them closed
//! gracefully. HTTP/1.1 and HTTP/2 have one port: a peer that speaks HTTP/2 begins with its preface. A
//! peer that does not finish its request's head in time is cut off; what else a peer may not do is
//! in [`super::connection`].
//!
//! A shutdown has two phases. While running work finishes, requests are still answered, one per
//! connection: clients that a load balancer still sends here get 503 with `Retry-After`, and health
//! says why. Then nothing is accepted any more.

use std::convert::Infallible;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::response::Response;
use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tracing::{debug, warn};

use super::connection::{Budget, ConnectionPermit, CountedBody, Stream};

/// How long a request's head may take to come.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);
/// How long a head may be. Also what is read and written at a time.
const HEAD_BYTES_MAX: usize = 64 << 10;
/// What a peer begins with that speaks HTTP/2 (RFC 9113, 3.4).
const HTTP2_PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// While only a part of it has come. It comes in one piece from every client that is not testing us.
const PREFACE_POLL: Duration = Duration::from_millis(5);
/// Requests that one HTTP/2 connection may have open.
const HTTP2_STREAMS_MAX: u32 = 256;
/// What a peer may send on one HTTP/2 connection, and in one request of it, before it is read.
const HTTP2_WINDOW_BYTES: u32 = 1 << 20;
/// A peer of an HTTP/2 connection that does not answer a ping is gone.
const HTTP2_PING_INTERVAL: Duration = Duration::from_secs(30);
const HTTP2_PING_TIMEOUT: Duration = Duration::from_secs(20);
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
    let speaks_http2 = tokio::select! {
        speaks = tokio::time::timeout(HEAD_TIMEOUT, speaks_http2(&stream)) => match speaks {
            Ok(Ok(speaks)) => speaks,
            Ok(Err(error)) => return debug!(%error, "a connection broke off"),
            Err(_) => return debug!("a connection was cut off: the peer sent nothing"),
        },
        // It is asked for nothing more, in either protocol.
        () = stopped(&mut stopping) => false,
    };
    let (answering, answered) = watch::channel(0);
    let router = TowerToHyperService::new(router);
    let io = TokioIo::new(Stream::new(stream, permit.clone(), !speaks_http2));
    let service = service_fn(move |request: Request<Incoming>| {
        let permit = if speaks_http2 { permit.of_request() } else { permit.clone() };
        let answering = Answering::new(answering.clone(), permit.clone());
        let mut request = match speaks_http2 {
            true => request.map(|body| Body::new(CountedBody::new(body, permit.clone()))),
            false => request.map(Body::new),
        };
        request.extensions_mut().insert(permit);
        request.extensions_mut().insert(peer);
        let answer = router.call(request);
        async move {
            let _answering = answering;
            answer.await
        }
    });
    let ended = match speaks_http2 {
        true => serve_http2(io, service, stopping, answered).await,
        false => serve_http1(io, service, stopping, answered).await,
    };
    if let Err(error) = ended {
        debug!(%error, "a connection broke off");
    }
}

/// Whether what the peer sends begins as HTTP/2 does. Nothing is taken from the connection.
async fn speaks_http2(stream: &TcpStream) -> std::io::Result<bool> {
    let mut begin = [0; HTTP2_PREFACE.len()];
    loop {
        let length = stream.peek(&mut begin).await?;
        if length == 0 || begin[..length] != HTTP2_PREFACE[..length] {
            return Ok(false);
        }
        if length == HTTP2_PREFACE.len() {
            return Ok(true);
        }
        // What has come makes the stream readable: to wait for more there is only time.
        tokio::time::sleep(PREFACE_POLL).await;
    }
}

/// Answers requests; what hyper wants of it.
trait Serves:
    Service<
        Request<Incoming>,
        Response = Response,
        Error = Infallible,
        Future: Future<Output = Result<Response, Infallible>> + Send + 'static,
    >
{
}

impl<S> Serves for S where
    S: Service<
            Request<Incoming>,
            Response = Response,
            Error = Infallible,
            Future: Future<Output = Result<Response, Infallible>> + Send + 'static,
        >
{
}

/// One request after the other. A connection that comes while the server stops is for one request.
async fn serve_http1(
    io: TokioIo<Stream>,
    service: impl Serves,
    mut stopping: watch::Receiver<bool>,
    mut answering: watch::Receiver<usize>,
) -> hyper::Result<()> {
    let is_late = *stopping.borrow();
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(HEAD_BYTES_MAX)
        .keep_alive(!is_late)
        .serve_connection(io, service)
        .with_upgrades();
    let mut connection = std::pin::pin!(connection);
    tokio::select! {
        ended = connection.as_mut() => return ended,
        () = stopped(&mut stopping) => {}
    }
    if !is_late {
        // A request that is being worked on is answered, then the connection ends.
        connection.as_mut().graceful_shutdown();
    }
    tokio::select! {
        ended = connection.as_mut() => ended,
        () = has_nothing_to_do(&mut answering) => {
            debug!("a connection was cut off: the peer neither finished its request nor read its answer");
            Ok(())
        }
    }
}

/// Concurrent requests. Once the server stops, the peer is asked to go elsewhere (GOAWAY), and what
/// it has asked is answered.
async fn serve_http2(
    io: TokioIo<Stream>,
    service: impl Serves,
    mut stopping: watch::Receiver<bool>,
    mut answering: watch::Receiver<usize>,
) -> hyper::Result<()> {
    let connection = http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .max_concurrent_streams(HTTP2_STREAMS_MAX)
        .max_header_list_size(HEAD_BYTES_MAX as u32)
        .initial_connection_window_size(HTTP2_WINDOW_BYTES)
        .initial_stream_window_size(HTTP2_WINDOW_BYTES)
        .keep_alive_interval(HTTP2_PING_INTERVAL)
        .keep_alive_timeout(HTTP2_PING_TIMEOUT)
        .serve_connection(io, service);
    let mut connection = std::pin::pin!(connection);
    tokio::select! {
        ended = connection.as_mut() => return ended,
        () = stopped(&mut stopping) => connection.as_mut().graceful_shutdown(),
    }
    tokio::select! {
        ended = connection.as_mut() => ended,
        () = has_nothing_to_do(&mut answering) => {
            debug!("a connection was cut off: the peer did not read its answers");
            Ok(())
        }
    }
}

/// Ends when no request has been worked on for a while.
async fn has_nothing_to_do(answering: &mut watch::Receiver<usize>) {
    loop {
        // The connection, which says it, is polled beside this.
        if answering.wait_for(|requests| *requests == 0).await.is_err() {
            return;
        }
        tokio::select! {
            () = tokio::time::sleep(SHUTDOWN_GRACE) => return,
            _ = answering.wait_for(|requests| *requests > 0) => {}
        }
    }
}

/// A request that is worked on; the number is that of its connection's.
struct Answering {
    requests: watch::Sender<usize>,
    permit: ConnectionPermit,
}

impl Answering {
    fn new(requests: watch::Sender<usize>, permit: ConnectionPermit) -> Self {
        requests.send_modify(|requests| *requests += 1);
        Self { requests, permit }
    }
}

impl Drop for Answering {
    fn drop(&mut self) {
        self.permit.release();
        self.requests.send_modify(|requests| *requests -= 1);
    }
}
