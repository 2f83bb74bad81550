//! The bus without a broker: listeners are HTTP servers, which say that the result comes later.

use std::collections::HashMap;
use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use crux_runtime::bus::Bus;
use crux_runtime::bus::http::{Local, Service};
use futures_util::future::BoxFuture;
use tokio::net::TcpListener;
use tokio::sync::{Mutex, mpsc};

use crate::harness::{Far, Got, Harness, WORK, app};

struct Servers {
    /// By key and listener.
    came: HashMap<(String, String), Mutex<mpsc::UnboundedReceiver<Got>>>,
}

impl Far for Servers {
    fn next<'a>(&'a self, key: &'a str, listener: &'a str) -> BoxFuture<'a, Got> {
        Box::pin(async move {
            self.came[&(key.to_owned(), listener.to_owned())].lock().await.recv().await.unwrap()
        })
    }

    fn send<'a>(&'a self, _key: &'a str, _id: &'a str, _body: &'a str) -> BoxFuture<'a, ()> {
        unreachable!("nothing comes by this bus")
    }

    fn dead(&self) -> BoxFuture<'_, (String, String)> {
        unreachable!("nothing comes by this bus")
    }
}

async fn take(
    State(came): State<mpsc::UnboundedSender<Got>>,
    headers: HeaderMap,
    body: Bytes,
) -> StatusCode {
    let header = |name: &str| {
        headers.get(name).map_or_else(String::new, |value| value.to_str().unwrap().to_owned())
    };
    let got = Got {
        correlation_id: header("x-correlation-id"),
        traceparent: header("traceparent"),
        body: serde_json::from_slice(&body).unwrap(),
    };
    came.send(got).unwrap();
    StatusCode::ACCEPTED
}

fn open(listeners: &'static [(&'static str, &'static str)]) -> BoxFuture<'static, Harness> {
    Box::pin(async move {
        let mut services = Vec::new();
        let mut came = HashMap::new();
        for (key, listener) in listeners {
            let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let url = format!("http://{}/", socket.local_addr().unwrap());
            let (sender, receiver) = mpsc::unbounded_channel();
            let router =
                axum::Router::new().route("/", axum::routing::post(take)).with_state(sender);
            tokio::spawn(async move { axum::serve(socket, router).await.unwrap() });
            came.insert(((*key).to_owned(), (*listener).to_owned()), Mutex::new(receiver));
            let (steps, subscribe) = if *key == WORK {
                (vec!["work".to_owned()], vec![])
            } else {
                (vec![], vec![(*key).to_owned()])
            };
            services.push(Service {
                name: (*listener).to_owned(),
                url,
                steps,
                subscribe,
                concurrency: 64,
                statuses: Default::default(),
            });
        }
        let bus: Arc<dyn Bus> = Arc::new(Local::new(&app(), services, 1 << 20).unwrap());
        Harness { bus, broker: None, far: Box::new(Servers { came }) }
    })
}

crate::suite! { local open }
