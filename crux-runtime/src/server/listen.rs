//! Connections: accepted up to a number, each served on a task of its own, and all of them ended in order. A peer that does not finish
//! its request's head in time is cut off.

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
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tracing::{debug, warn};

/// How long a request's head may take to come.
const SLOWEST_HEAD: Duration = Duration::from_secs(30);
/// After an error that concerns the listener (out of file descriptors), before the next try.
const PAUSE: Duration = Duration::from_millis(100);

/// A place among the connections, free when the last who holds it is gone. A request carries it, because a connection that becomes a
/// WebSocket is out of the hands of HTTP, and still a connection.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    _permit: Arc<OwnedSemaphorePermit>,
}

/// Accepts until `stopping`; ends when the connections that there were have ended.
pub(super) async fn listen(listener: TcpListener, router: Router, max_connections: usize, mut stopping: watch::Receiver<bool>) {
    let most = u32::try_from(max_connections).unwrap_or(u32::MAX);
    let places = Arc::new(Semaphore::new(usize::try_from(most).unwrap_or(Semaphore::MAX_PERMITS).min(Semaphore::MAX_PERMITS)));
    loop {
        let accepted = tokio::select! {
            accepted = accept(&listener, &places) => accepted,
            () = heard(&mut stopping) => break,
        };
        if let Some((stream, place)) = accepted {
            tokio::spawn(serve(stream, router.clone(), stopping.clone(), place));
        }
    }
    drop(listener);
    // All places free: nobody is connected any more. Cannot fail, the semaphore is never closed.
    let _all = places.acquire_many(most).await;
}

/// The word to stop, or that nobody is left who could say it.
async fn heard(stopping: &mut watch::Receiver<bool>) {
    let _ = stopping.wait_for(|stopping| *stopping).await;
}

/// Beyond the number, peers wait in the system's queue.
async fn accept(listener: &TcpListener, places: &Arc<Semaphore>) -> Option<(TcpStream, Place)> {
    let place = Place { _permit: Arc::new(places.clone().acquire_owned().await.ok()?) };
    match listener.accept().await {
        Ok((stream, _)) => Some((stream, place)),
        Err(error) => {
            warn!(%error, "a connection could not be accepted");
            tokio::time::sleep(PAUSE).await;
            None
        }
    }
}

async fn serve(stream: TcpStream, router: Router, mut stopping: watch::Receiver<bool>, place: Place) {
    if let Err(error) = stream.set_nodelay(true) {
        debug!(%error, "answers on this connection may be late");
    }
    let router = TowerToHyperService::new(router);
    let service = service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(place.clone());
        router.call(request)
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(SLOWEST_HEAD)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    let mut connection = std::pin::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = heard(&mut stopping) => {
            // The request under way is answered, then the connection ends.
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        debug!(%error, "a connection broke off");
    }
}
