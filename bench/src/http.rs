//! Clients over HTTP/1.1 with connections that are kept. They are on the machine that is measured,
//! so they are as light as hyper allows.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::{self, SendRequest};
use hyper::header::{CONTENT_TYPE, HOST};
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use crate::Outcome;
use crate::lanes::concurrently;
use crate::measure::Latencies;

/// One connection: one request after the other.
pub struct Client {
    sender: SendRequest<Full<Bytes>>,
    host: String,
}

impl Client {
    pub async fn connect(address: SocketAddr) -> Outcome<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        // A connection error is reported to the next request.
        tokio::spawn(connection);
        Ok(Self { sender, host: address.to_string() })
    }

    pub async fn post(
        &mut self,
        path: &str,
        body: impl Into<Bytes>,
    ) -> Outcome<(StatusCode, Bytes)> {
        self.sender.ready().await?;
        let request = Request::post(path)
            .header(HOST, &self.host)
            .header(CONTENT_TYPE, "application/json")
            .body(Full::new(body.into()))?;
        let answer = self.sender.send_request(request).await?;
        let status = answer.status();
        Ok((status, answer.into_body().collect().await?.to_bytes()))
    }

    /// As [`Self::post`]; any other status is an error.
    pub async fn must(
        &mut self,
        path: &str,
        body: impl Into<Bytes>,
        expected: StatusCode,
    ) -> Outcome<Bytes> {
        let (status, body) = self.post(path, body).await?;
        if status == expected {
            Ok(body)
        } else {
            Err(format!(
                "POST {path}: {status}, not {expected}: {}",
                String::from_utf8_lossy(&body)
            )
            .into())
        }
    }
}

/// `clients` connections, each posting `body(n)` again and again for `time` and expecting 200; how
/// long each request took.
pub async fn closed_loop(
    address: SocketAddr,
    path: &'static str,
    clients: usize,
    time: Duration,
    body: fn(u64) -> String,
) -> Outcome<Latencies> {
    let until = Instant::now() + time;
    let lane = move |lane: usize| async move {
        let mut client = Client::connect(address).await?;
        let mut latencies = Latencies::default();
        let mut n = (lane as u64) << 32;
        while Instant::now() < until {
            let begun = Instant::now();
            client.must(path, body(n), StatusCode::OK).await?;
            latencies.add(begun.elapsed());
            n += 1;
        }
        Ok(latencies)
    };
    Ok(Latencies::all(concurrently(clients, lane).await?))
}

/// Posts `body(0)` to `body(count - 1)` over `clients` connections, each once, and expects 202.
pub async fn post_all(
    address: SocketAddr,
    path: &'static str,
    clients: usize,
    count: usize,
    body: fn(usize) -> String,
) -> Outcome<()> {
    let lane = move |lane: usize| async move {
        let mut client = Client::connect(address).await?;
        for n in (lane..count).step_by(clients) {
            client.must(path, body(n), StatusCode::ACCEPTED).await?;
        }
        Ok(())
    };
    concurrently(clients, lane).await?;
    Ok(())
}
