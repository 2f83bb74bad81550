//! A little HTTP server that does with each request what the test says.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// What a server does with a request.
#[derive(Clone)]
pub struct Does {
    pause: Duration,
    text: String,
    closes: bool,
}

impl Does {
    pub fn answers(text: &str) -> Self {
        Self { pause: Duration::ZERO, text: text.to_owned(), closes: false }
    }

    pub fn answers_and_closes(text: &str) -> Self {
        Self { closes: true, ..Self::answers(text) }
    }

    pub fn sleeps(pause: Duration, text: &str) -> Self {
        Self { pause, ..Self::answers(text) }
    }
}

pub fn http(status: &str, headers: &str, body: &str) -> String {
    format!("HTTP/1.1 {status}\r\n{headers}content-length: {}\r\n\r\n{body}", body.len())
}

pub struct Server {
    address: SocketAddr,
    /// The number of the attempt in each request, in order.
    attempts: Arc<Mutex<Vec<u64>>>,
}

impl Server {
    /// `does` is asked for each request by its number, from 0.
    pub async fn start(does: impl Fn(usize) -> Does + Send + Sync + 'static) -> Self {
        Self::reserve().await.open(does).await
    }

    /// An address at which nobody listens yet.
    pub async fn reserve() -> Self {
        let address = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        Self { address, attempts: Arc::default() }
    }

    pub async fn open(self, does: impl Fn(usize) -> Does + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind(self.address).await.unwrap();
        let (does, attempts) = (Arc::new(does), self.attempts.clone());
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, does.clone(), attempts.clone()));
            }
        });
        self
    }

    pub fn url(&self) -> String {
        format!("http://{}/", self.address)
    }

    pub fn attempts(&self) -> Vec<u64> {
        self.attempts.lock().unwrap().clone()
    }
}

async fn serve(
    mut stream: TcpStream,
    does: Arc<impl Fn(usize) -> Does>,
    attempts: Arc<Mutex<Vec<u64>>>,
) {
    let mut bytes = Vec::new();
    while let Some(body) = request(&mut stream, &mut bytes).await {
        let does = {
            let mut attempts = attempts.lock().unwrap();
            attempts.push(body["attempt"].as_u64().unwrap());
            does(attempts.len() - 1)
        };
        tokio::time::sleep(does.pause).await;
        if stream.write_all(does.text.as_bytes()).await.is_err() || does.closes {
            return;
        }
    }
}

/// The body of the next request; `None`: the client has gone.
async fn request(stream: &mut TcpStream, bytes: &mut Vec<u8>) -> Option<serde_json::Value> {
    let head = loop {
        if let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
            break String::from_utf8(bytes.drain(..end + 4).collect())
                .unwrap()
                .to_ascii_lowercase();
        }
        if stream.read_buf(bytes).await.unwrap_or(0) == 0 {
            return None;
        }
    };
    let length: usize =
        head.split("content-length: ").nth(1)?.split("\r\n").next()?.parse().ok()?;
    while bytes.len() < length {
        if stream.read_buf(bytes).await.unwrap_or(0) == 0 {
            return None;
        }
    }
    serde_json::from_slice(&bytes.drain(..length).collect::<Vec<u8>>()).ok()
}
