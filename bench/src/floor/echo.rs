//! A bare axum server that reads a JSON object and writes it back: what HTTP and JSON cost by
//! themselves, in a separate process like the server that is held against it.

use axum::routing::post;
use axum::{Json, Router};
use serde_json::Value;
use tokio::net::TcpListener;

use crate::Outcome;

/// Serves until it is killed; says first where.
pub fn serve() -> Outcome<()> {
    crate::crux::runtime()?.block_on(async {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        println!("listening on http://{}", listener.local_addr()?);
        let router = Router::new().route("/", post(async |Json(value): Json<Value>| Json(value)));
        loop {
            let (stream, _) = listener.accept().await?;
            stream.set_nodelay(true)?;
            let service = hyper_util::service::TowerToHyperService::new(router.clone());
            // A client that goes away is no concern of a floor's.
            tokio::spawn(
                hyper::server::conn::http1::Builder::new()
                    .serve_connection(hyper_util::rt::TokioIo::new(stream), service),
            );
        }
    })
}
