//! Every operation of the table by every transport that has it, as the server is asked: with a key
//! of each role, a wrong one and none. An operation that is new does not compile here until it says
//! how it is asked. The service's own tests have the owners and the scopes.

use std::net::SocketAddr;

use axum::http::HeaderValue;
use futures_util::{SinkExt, StreamExt, stream};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_tungstenite::connect_async;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tonic::{Request, Status};
use tonic_types::StatusExt;

use super::auth::key;
use super::caller::Role;
use super::operations::{OPERATIONS, Operation};
use super::service::tests::Harness;
use super::*;
use crate::bus::routing_keys::{COMPLETED, HEARTBEAT, STARTED};
use crate::bus::{Disposition, Incoming, MessageHandler};
use crate::proto::v1;
use crate::proto::v1::crux_client::CruxClient;

struct Server {
    harness: Harness,
    address: SocketAddr,
    /// One for each role, of a client that is called like it.
    keys: Vec<(Role, String)>,
    _close: watch::Sender<bool>,
}

impl Server {
    async fn start() -> Self {
        let keys: Vec<(Role, String)> =
            Role::ALL.map(|role| (role, key::generate(role.word()).unwrap())).into();
        let client = |(role, key): &(Role, String)| {
            let (id, hash) = (role.word(), key::hex(&key::digest(key)));
            format!("  {id}: {{ key_sha256: '{hash}', roles: [{id}] }}\n")
        };
        let clients: String = keys.iter().map(client).collect();
        let harness = Harness::with(&format!("clients:\n{clients}")).await;
        let settings = Settings {
            hosts: Vec::new(),
            origins: Vec::new(),
            proxies: Vec::new(),
            max_body_bytes: 1 << 20,
        };
        let ingress = Arc::new(Ingress {
            service: harness.service.clone(),
            metrics: harness.metrics.clone(),
            authenticator: harness.authenticator.clone(),
            settings,
        });
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let limits = listen::Limits { connections: 100, bodies: 1 << 20 };
        let (close, closing) = watch::channel(false);
        let stops = listen::Stops { stopping: harness.stop.subscribe(), closing };
        tokio::spawn(listen::listen(listener, routes::router(ingress), limits, stops));
        Self { harness, address, keys, _close: close }
    }

    /// The word of the problem that a route answers, or `""`.
    async fn by_http(&self, method: &str, path: &str, key: Option<&str>) -> String {
        let path = path.replace("{id}", &self.harness.of_ann.to_string());
        let key = key.map_or(String::new(), |key| format!("x-api-key: {key}\r\n"));
        let json = "content-type: application/json\r\ncontent-length: 2\r\n";
        let (head, body) = if method == "POST" { (json, "{}") } else { ("", "") };
        let request = format!(
            "{method} {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n{key}{head}\r\n{body}"
        );
        let mut peer = TcpStream::connect(self.address).await.unwrap();
        peer.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        peer.read_to_string(&mut answer).await.unwrap();
        let word = answer.split("urn:crux:problem:").nth(1);
        word.and_then(|rest| rest.split('"').next()).unwrap_or_default().to_owned()
    }

    /// The word of the problem that the gateway answers, or `""`.
    async fn by_websocket(&self, message: &Value, key: Option<&str>) -> String {
        let mut request = format!("ws://{}/ws", self.address).into_client_request().unwrap();
        if let Some(key) = key {
            request.headers_mut().insert("x-api-key", HeaderValue::from_str(key).unwrap());
        }
        let (mut socket, _) = connect_async(request).await.unwrap();
        socket.send(Message::text(message.to_string())).await.unwrap();
        loop {
            let Message::Text(text) = socket.next().await.unwrap().unwrap() else { continue };
            let answer: Value = serde_json::from_str(&text).unwrap();
            if answer["type"] == "answer" {
                let word = answer["error"]["type"].as_str().unwrap_or_default();
                return word.trim_start_matches("urn:crux:problem:").to_owned();
            }
        }
    }

    /// The word of the problem that gRPC answers, or `""`; `None`: gRPC does not have the operation.
    async fn by_grpc(&self, operation: Operation, key: Option<&str>) -> Option<String> {
        use Operation as O;
        use v1::command_request::Command;
        let http = Client::builder(TokioExecutor::new())
            .http2_only(true)
            .build::<_, tonic::body::Body>(HttpConnector::new());
        let origin = format!("http://{}", self.address).parse().unwrap();
        let mut client = CruxClient::with_origin(http, origin);
        let (workflow_id, step_id) = (self.harness.of_ann.to_string(), "a".to_owned());
        /// As the client sends it.
        fn with<T>(message: T, key: Option<&str>) -> Request<T> {
            let mut request = Request::new(message);
            if let Some(key) = key {
                request.metadata_mut().insert("x-api-key", key.parse().unwrap());
            }
            request
        }
        let command = |command| v1::CommandRequest {
            workflow_id: workflow_id.clone(),
            command: Some(command),
        };
        macro_rules! ask {
            ($method:ident, $message:expr) => {
                client.$method(with($message, key)).await.err()
            };
        }
        let refused = match operation {
            O::Start => {
                let workflow = "gone".to_owned();
                ask!(start, v1::StartRequest { workflow, ..Default::default() })
            }
            O::SendEvents => ask!(send_events, v1::SendEventsRequest { events: Vec::new() }),
            O::CompleteStep => {
                let outcome = Some(v1::complete_step_request::Outcome::ResultJson(String::new()));
                let request =
                    v1::CompleteStepRequest { workflow_id, step_id, outcome, ..Default::default() };
                ask!(complete_step, request)
            }
            O::StepStarted => {
                ask!(
                    step_started,
                    v1::StepStartedRequest { workflow_id, step_id, ..Default::default() }
                )
            }
            O::StepHeartbeat => {
                ask!(heartbeat, v1::HeartbeatRequest { workflow_id, step_id, ..Default::default() })
            }
            O::Work => {
                let attach =
                    v1::Attach { step_types: vec!["print".to_owned()], ..Default::default() };
                let message = Some(v1::work_request::Message::Attach(attach));
                ask!(work, stream::iter([v1::WorkRequest { message }]))
            }
            O::Status => ask!(get_status, v1::GetStatusRequest { workflow_id }),
            O::List => ask!(list, v1::ListRequest::default()),
            O::Follow => ask!(watch, v1::WatchRequest { workflow_id, after: 0 }),
            O::Restart => ask!(command, command(Command::Restart(v1::Restart::default()))),
            O::Cancel => ask!(command, command(Command::Cancel(v1::Cancel::default()))),
            O::Retry => ask!(command, command(Command::Retry(v1::Retry::default()))),
            O::Undo => ask!(command, command(Command::Undo(v1::Undo {}))),
            O::Fail => ask!(command, command(Command::Fail(v1::Fail::default()))),
            O::Pause => ask!(command, command(Command::Pause(v1::Pause {}))),
            O::Resume => ask!(command, command(Command::Resume(v1::Resume {}))),
            O::History | O::Unfollow | O::Workers | O::Metrics | O::Health | O::HealthDetail => {
                return None;
            }
            O::Live | O::Ready | O::Connect | O::Identify => return None,
        };
        let word = |status: Status| {
            let details = status.get_error_details();
            details.error_info().map(|info| info.reason.clone()).expect("a problem's word")
        };
        Some(refused.map(word).unwrap_or_default())
    }

    /// What the gateway is sent for an operation; `None`: it does not have it.
    fn message(&self, operation: Operation) -> Option<Value> {
        use Operation as O;
        let id = self.harness.of_ann.to_string();
        let mut message = match operation {
            O::Start => json!({"workflow": "gone", "input": {}}),
            O::SendEvents => json!({"event": {"type": "paid", "id": "1", "data": {}}}),
            O::CompleteStep => {
                json!({"workflow_id": id, "step_id": "a", "success": true, "result": {}})
            }
            O::Follow | O::Unfollow => json!({"workflow_id": id}),
            O::Identify => json!({}),
            O::Restart | O::StepStarted | O::StepHeartbeat | O::Status | O::List | O::History => {
                return None;
            }
            O::Work => return None,
            O::Cancel | O::Retry | O::Undo | O::Fail | O::Pause | O::Resume => return None,
            O::Workers | O::Metrics | O::Health | O::HealthDetail | O::Live | O::Ready => {
                return None;
            }
            O::Connect => return None,
        };
        message["type"] = json!(operation.row()?.websocket?);
        Some(message)
    }

    /// How a refusal is expected to be called for a client with that role; `""`: none.
    fn expected(needed: Option<Role>, role: Option<Role>) -> &'static str {
        match (needed, role) {
            (None, _) => "",
            (Some(_), None) => "unauthenticated",
            (Some(needed), Some(role)) if needed == role => "",
            (Some(_), Some(_)) => "forbidden",
        }
    }
}

/// Refusals for other reasons than who asks.
fn of_caller(word: &str) -> &str {
    match word {
        "unauthenticated" | "forbidden" => word,
        _ => "",
    }
}

#[tokio::test]
async fn every_route_asks_for_its_role() {
    let server = Server::start().await;
    for row in &OPERATIONS {
        let Some((method, path)) = row.http else { continue };
        let callers = server.keys.iter().map(|(role, key)| (Some(*role), Some(key.as_str())));
        for (role, key) in callers.chain([(None, None)]) {
            let word = server.by_http(method, path, key).await;
            let expected = Server::expected(row.role, role);
            assert_eq!(of_caller(&word), expected, "{method} {path} as {role:?}");
        }
    }
}

#[tokio::test]
async fn a_wrong_key_is_refused_by_every_route() {
    let wrong = key::generate("read").unwrap();
    for row in &OPERATIONS {
        // A new one each time: too many of them are refused in another way.
        let server = Server::start().await;
        let Some((method, path)) = row.http else { continue };
        let word = server.by_http(method, path, Some(&wrong)).await;
        assert_eq!(word, "unauthenticated", "{method} {path}");
    }
}

#[tokio::test]
async fn every_request_of_the_gateway_asks_for_its_role() {
    let server = Server::start().await;
    for row in &OPERATIONS {
        let message = server.message(row.operation);
        assert_eq!(message.is_some(), row.websocket.is_some(), "{:?}", row.operation);
        let Some(message) = message else { continue };
        let callers = server.keys.iter().map(|(role, key)| (Some(*role), Some(key.as_str())));
        for (role, key) in callers.chain([(None, None)]) {
            let word = server.by_websocket(&message, key).await;
            let expected = Server::expected(row.role, role);
            assert_eq!(of_caller(&word), expected, "{message} as {role:?}");
        }
    }
}

#[tokio::test]
async fn every_method_of_grpc_asks_for_its_role() {
    let server = Server::start().await;
    for row in &OPERATIONS {
        let callers = server.keys.iter().map(|(role, key)| (Some(*role), Some(key.as_str())));
        for (role, key) in callers.chain([(None, None)]) {
            let word = server.by_grpc(row.operation, key).await;
            assert_eq!(word.is_some(), row.grpc.is_some(), "{:?}", row.operation);
            let Some(word) = word else { continue };
            let expected = Server::expected(row.role, role);
            assert_eq!(of_caller(&word), expected, "{:?} as {role:?}", row.operation);
        }
    }
}

/// Otherwise a form of another site could be one.
#[tokio::test]
async fn a_method_of_grpc_takes_nothing_but_grpc() {
    let server = Server::start().await;
    let key = server.keys.iter().find(|(role, _)| *role == Role::Start).unwrap().1.clone();
    let start = "/crux.v1.Crux/Start";
    assert_eq!(server.by_http("POST", start, Some(&key)).await, "unsupported-media-type");
    assert_eq!(server.by_http("GET", start, Some(&key)).await, "method-not-allowed");
}

#[tokio::test]
async fn a_wrong_key_is_refused_by_every_method_of_grpc() {
    let wrong = key::generate("read").unwrap();
    for row in OPERATIONS.iter().filter(|row| row.grpc.is_some()) {
        let server = Server::start().await;
        let word = server.by_grpc(row.operation, Some(&wrong)).await;
        assert_eq!(word.as_deref(), Some("unauthenticated"), "{:?}", row.operation);
    }
}

/// The broker lets its clients in; a token that stands in a report is checked all the same.
#[tokio::test]
async fn a_report_over_a_broker_with_a_wrong_token_is_a_dead_letter() {
    let server = Server::start().await;
    let harness = &server.harness;
    let broker = broker::BrokerIngress::new(harness.service.clone(), harness.authenticator.clone());
    let signer = crate::token::TokenSigner::new(b"another secret");
    let (instance, step) = (harness.of_ann, harness.of_ann.step("a"));
    let foreign = signer.report(instance, step, 1);
    let own = harness.signer.report(harness.unowned, harness.unowned.step("a"), 1);
    for routing_key in [COMPLETED, STARTED, HEARTBEAT] {
        for (token, why) in [
            (json!(foreign), "not of this server"),
            (json!("x"), "not a key or token"),
            (json!(own), "is of another task"),
        ] {
            let body = json!({"workflow_id": instance.to_string(), "step_id": "a", "success": true, "result": {}, "completion_token": token});
            let incoming = Incoming {
                routing_key: routing_key.to_owned(),
                message_id: None,
                correlation_id: String::new(),
                traceparent: String::new(),
                body: body.to_string().into(),
            };
            let disposition = broker.handle(&incoming).await;
            let Disposition::DeadLetter(reason) = &disposition else {
                panic!("{routing_key}, {why}: {disposition:?}");
            };
            assert!(reason.contains(why), "{routing_key}: {reason}");
        }
    }
}
