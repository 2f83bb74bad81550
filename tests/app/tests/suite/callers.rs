//! Who may call, and what of: keys, roles, owners and scopes, over HTTP and WebSocket.

use std::process::Command;

use hyper::Method;
use serde_json::{Value, json};

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::kit::{Answer, Reply, Server, Service, Socket};

const DOUBLE: &str = "/api/v1/workflow/double";
const NAP: &str = "/api/v1/workflow/nap";

/// A client's key, and its part of the configuration.
struct Key {
    key: String,
    client: String,
}

impl Key {
    /// As `crux key new` makes it; `rest` is the scope.
    fn new(id: &str, roles: &str, rest: &str) -> Self {
        let made = Command::new(env!("CARGO_BIN_EXE_crux-test-app"))
            .args(["key", "new", id, "--json", "--roles", roles])
            .output()
            .unwrap();
        let made: Value = serde_json::from_slice(&made.stdout).unwrap();
        let hash = made["key_sha256"].as_str().unwrap();
        Self {
            key: made["key"].as_str().unwrap().to_owned(),
            client: format!("    {id}: {{ key_sha256: '{hash}', roles: [{roles}]{rest} }}\n"),
        }
    }

    fn bearer(&self) -> String {
        format!("Bearer {}", self.key)
    }

    async fn get(&self, server: &Server, path: &str) -> Answer {
        let headers = [("authorization", self.bearer())];
        let headers = headers.each_ref().map(|(name, value)| (*name, value.as_str()));
        server.client().send(Method::GET, path, &headers, Vec::new()).await
    }

    async fn post(&self, server: &Server, path: &str, body: &Value) -> Answer {
        server.client().post_with(path, &[("x-api-key", &self.key)], body).await
    }

    /// The gateway.
    async fn open(&self, server: &Server) -> Socket {
        let headers = [("authorization", self.bearer())];
        let headers = headers.each_ref().map(|(name, value)| (*name, value.as_str()));
        Socket::try_open_with(server, "", &headers).await.unwrap()
    }

    async fn start(&self, server: &Server, path: &str, input: &Value) -> String {
        let answer = self.post(server, path, input).await;
        assert_eq!(answer.status, 202, "{:?}", answer.body);
        answer.text("workflow_id")
    }

    async fn status(&self, server: &Server, id: &str) -> u16 {
        self.get(server, &format!("/api/v1/workflow/status?workflow_id={id}")).await.status
    }

    async fn listed(&self, server: &Server) -> Vec<String> {
        let page = self.get(server, "/api/v1/workflow/list").await.json();
        let rows = page["workflows"].as_array().unwrap();
        rows.iter().map(|row| row["workflow_id"].as_str().unwrap().to_owned()).collect()
    }
}

fn server(keys: &[&Key], more: &str) -> Server {
    let clients: String = keys.iter().map(|key| key.client.as_str()).collect();
    crate::server(&format!("auth:\n  clients:\n{clients}{more}"))
}

fn refused(answer: &Answer) -> (u16, String) {
    (answer.status, answer.problem())
}

#[tokio::test]
async fn without_a_right_credential_nothing_is_answered() {
    let shop = Key::new("shop", "start,read", "");
    let other = Key::new("shop", "start,read", "");
    let server = server(&[&shop], "");
    let client = server.client();
    let list = async |headers: &[(&str, &str)]| {
        client.send(Method::GET, "/api/v1/workflow/list", headers, Vec::new()).await
    };
    let right = shop.bearer();
    assert_eq!(list(&[("authorization", &right)]).await.status, 200);
    assert_eq!(list(&[("x-api-key", &shop.key)]).await.status, 200);
    let (foreign, damaged) = (other.bearer(), &right[..right.len() - 1]);
    let wrong: [&[(&str, &str)]; 7] = [
        &[],
        &[("authorization", &foreign)],
        &[("authorization", damaged)],
        &[("authorization", "Bearer")],
        &[("authorization", "Basic c2hvcDp4")],
        &[("authorization", &right), ("x-api-key", &shop.key)],
        &[("cookie", &right)],
    ];
    for headers in wrong {
        let answer = list(headers).await;
        assert_eq!(refused(&answer), (401, "unauthenticated".to_owned()), "{headers:?}");
        assert_eq!(answer.header("www-authenticate"), Some("Bearer realm=\"crux\""));
    }
    // Not by the address: it would stand in the logs of others.
    let answer = client.get(&format!("/api/v1/workflow/list?token={}", shop.key)).await;
    assert_eq!(refused(&answer), (401, "unauthenticated".to_owned()));
    // Nothing of a body is read.
    let body = vec![b' '; 100_000];
    let json = [("content-type", "application/json")];
    let answer = client.send(Method::POST, DOUBLE, &json, body).await;
    assert_eq!(refused(&answer), (401, "unauthenticated".to_owned()));
    // And so the connection has ended.
    let client = server.client();
    let metrics = client.get("/metrics").await;
    assert_eq!(refused(&metrics), (401, "unauthenticated".to_owned()));
    assert_eq!(client.get("/health").await.json(), json!({"status": "ok"}));
    assert_eq!(client.get("/health/ready").await.status, 200);
}

#[tokio::test]
async fn instances_of_another_client_do_not_exist() {
    let (ann, bob) = (Key::new("ann", "start,read", ""), Key::new("bob", "start,read", ""));
    let carl = Key::new("carl", "read,operate", "");
    let mut server = server(&[&ann, &bob, &carl], "");
    let id = ann.start(&server, NAP, &json!({"nap": "1h"})).await;
    let seen = async |server: &Server| {
        assert_eq!(ann.status(server, &id).await, 200);
        assert_eq!(carl.status(server, &id).await, 200);
        assert_eq!(bob.status(server, &id).await, 404);
        assert_eq!(ann.listed(server).await, std::slice::from_ref(&id));
        assert_eq!(carl.listed(server).await, std::slice::from_ref(&id));
        assert!(bob.listed(server).await.is_empty());
        for what in ["history", "events"] {
            let answer = bob.get(server, &format!("/api/v1/workflow/{id}/{what}")).await;
            assert_eq!(refused(&answer), (404, "unknown-instance".to_owned()), "{what}");
        }
        let headers = [("x-api-key", bob.key.as_str())];
        let query = format!("?workflow_id={id}");
        assert_eq!(Socket::try_open_with(server, &query, &headers).await.err(), Some(404));
        let mut gateway = bob.open(server).await;
        let subscribe = json!({"type": "subscribe", "id": 1, "workflow_id": id});
        let answer = gateway.ask(&subscribe).await;
        assert_eq!(answer["error"]["type"], "urn:crux:problem:unknown-instance", "{answer}");
        let mut gateway = ann.open(server).await;
        assert_eq!(gateway.ask(&subscribe).await["ok"], true);
    };
    seen(&server).await;
    // The owner stands in the journal.
    server.kill();
    server.restart();
    seen(&server).await;
    let cancel = format!("/api/v1/workflow/{id}/cancel");
    let answer = ann.post(&server, &cancel, &json!({})).await;
    assert_eq!(refused(&answer), (403, "forbidden".to_owned()));
    assert!(answer.text("detail").contains("needs the role `operate`"));
    assert_eq!(carl.post(&server, &cancel, &json!({})).await.status, 200);
}

#[tokio::test]
async fn a_scope_narrows_what_a_client_may_ask_for() {
    let shop = Key::new("shop", "start,read", ", scope: { workflows: [double, work] }");
    let printer = Key::new("printer", "complete", ", scope: { step_types: [finish] }");
    let carl = Key::new("carl", "start,read,operate", "");
    let server = server(&[&shop, &printer, &carl], "");
    let forbidden = (403, "forbidden".to_owned());
    let own = shop.start(&server, DOUBLE, &json!({"number": 1})).await;
    let answer = shop.post(&server, NAP, &json!({"nap": "1h"})).await;
    assert_eq!(refused(&answer), forbidden);
    assert!(answer.text("detail").contains("does not have the workflow `nap`"));
    let event = json!({"type": "order.approved", "id": "e", "data": {}});
    assert_eq!(refused(&shop.post(&server, "/api/v1/events", &event).await), forbidden);
    let mut gateway = shop.open(&server).await;
    for request in [
        json!({"type": "start", "id": 1, "workflow": "nap", "input": {"nap": "1h"}}),
        json!({"type": "event", "id": 2, "event": event}),
    ] {
        let answer = gateway.ask(&request).await;
        assert_eq!(answer["error"]["type"], "urn:crux:problem:forbidden", "{answer}");
    }
    carl.start(&server, NAP, &json!({"nap": "1h"})).await;
    assert_eq!(shop.listed(&server).await, [own]);
    assert_eq!(carl.listed(&server).await.len(), 2);

    let work = carl.start(&server, "/api/v1/workflow/work", &json!({"item": "a"})).await;
    let report = |step_type: Value| json!({"workflow_id": work, "step_id": "prepare", "step_type": step_type, "success": true, "result": {"size": 1}});
    for path in ["step-completed", "step-started", "step-heartbeat"] {
        let path = format!("/api/v1/workflow/{path}");
        let answer = printer.post(&server, &path, &report(json!("prepare"))).await;
        assert_eq!(refused(&answer), forbidden, "{path}");
        let answer = printer.post(&server, &path, &report(Value::Null)).await;
        assert_eq!((answer.status, answer.field().as_str()), (400, "step_type"), "{path}");
        // What it says is not what the step is.
        let answer = printer.post(&server, &path, &report(json!("finish"))).await;
        assert_eq!(refused(&answer), (422, "wrong-step-type".to_owned()), "{path}");
    }
    assert_eq!(printer.status(&server, &work).await, 403);
}

#[tokio::test]
async fn a_socket_says_who_it_is_in_time_or_is_closed() {
    let shop = Key::new("shop", "start,read", "");
    let server = server(&[&shop], "");
    let id = shop.start(&server, NAP, &json!({"nap": "1h"})).await;
    let follow = format!("?workflow_id={id}");
    assert_eq!(Socket::try_open(&server, &follow).await.err(), Some(401));
    let token = format!("crux, crux.bearer.{}", shop.key);
    for (query, headers) in [
        (format!("{follow}&token={}", shop.key), vec![]),
        (follow, vec![("sec-websocket-protocol", token.as_str())]),
    ] {
        let mut socket = Socket::try_open_with(&server, &query, &headers).await.unwrap();
        assert_eq!(socket.next().await.unwrap()["type"], "workflow_started");
    }

    // A page of another site cannot even try.
    let evil = [("origin", "http://evil.example"), ("x-api-key", shop.key.as_str())];
    assert_eq!(Socket::try_open_with(&server, "", &evil).await.err(), Some(403));
    let mut late = Socket::open(&server, "").await;
    let mut socket = Socket::open(&server, "").await;
    let start = json!({"type": "start", "id": 1, "workflow": "double", "input": {"number": 1}});
    let answer = socket.ask(&start).await;
    assert_eq!(answer["error"]["type"], "urn:crux:problem:unauthenticated", "{answer}");
    let answer = socket.ask(&json!({"type": "auth", "id": 2, "token": "crux_shop_x"})).await;
    assert_eq!(answer["error"]["type"], "urn:crux:problem:unauthenticated", "{answer}");
    let answer = socket.ask(&json!({"type": "auth", "id": 3, "token": shop.key})).await;
    assert_eq!(
        answer["data"],
        json!({"client_id": "shop", "authenticated": true, "roles": ["start", "read"]})
    );
    assert_eq!(socket.ask(&start).await["ok"], true);

    assert_eq!((late.next().await, late.closed), (None, Some(4401)));
    assert_eq!(socket.ask(&json!({"type": "auth", "id": 4})).await["data"]["client_id"], "shop");
}

#[tokio::test]
async fn a_credential_stands_in_no_log_and_no_answer() {
    let (shop, wrong) = (Key::new("shop", "start,read,admin", ""), Key::new("shop", "start", ""));
    let server = server(&[&shop], "log: { level: trace }\n");
    let mut socket = Socket::try_open(&server, &format!("?token={}", shop.key)).await.unwrap();
    let mut said =
        socket.ask(&json!({"type": "auth", "id": 1, "token": wrong.key})).await.to_string();
    said += &socket
        .ask(&json!({"type": "auth", "id": 1, "token": {"key": wrong.key}}))
        .await
        .to_string();
    let id = shop.start(&server, DOUBLE, &json!({"number": 1})).await;
    for path in [
        format!("/api/v1/workflow/status?workflow_id={id}"),
        format!("/api/v1/workflow/{id}/history"),
        format!("/api/v1/workflow/{id}/events"),
        format!("/api/v1/workflow/status?token={}", shop.key),
        "/health".to_owned(),
        "/metrics".to_owned(),
    ] {
        for key in [&shop, &wrong] {
            let answer = key.get(&server, &path).await;
            said += &String::from_utf8_lossy(&answer.body);
            said += &format!("{:?}", answer.headers);
        }
    }
    said += &String::from_utf8_lossy(&server.run(&["config"]).stdout);
    said += &server.log();
    let hash = shop.client.split('\'').nth(1).unwrap();
    for secret in [&shop.key[10..], &wrong.key[10..], hash] {
        assert!(!said.contains(secret), "{said}");
    }
    server.logged(&["a request was refused", "client_id=\"shop\""]).await;
}

#[tokio::test]
async fn the_command_line_sends_its_key() {
    let shop = Key::new("shop", "start,read", "");
    let server = server(&[&shop], "server: { host: 0.0.0.0 }\n");
    server.logged(&["does not speak TLS"]).await;
    let url = format!("http://127.0.0.1:{}", server.port());
    let run = |arguments: &[&str], key: &str| {
        let mut command = server.command();
        command.args(arguments).env("CRUX_URL", &url).env("CRUX_API_KEY", key);
        let output = command.output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
        (output.status.code(), text(&output.stdout), text(&output.stderr))
    };
    let input = ["start", "double", "--input", r#"{"number": 1}"#, "--wait", "30s"];
    let (code, _, said) = run(&input, &shop.key);
    assert_eq!(code, Some(0), "{said}");
    assert_eq!(run(&["list"], &shop.key).0, Some(0));
    assert_eq!(run(&["health"], "").1, "ok");
    let (code, _, said) = run(&["status", "--nodes"], &shop.key);
    assert!(code == Some(1) && said.contains("with the role `admin` only"), "{said}");
    let (code, _, said) = run(&["list"], "");
    assert!(code == Some(1) && said.contains("this server asks who calls"), "{said}");
    let (code, _, said) = run(&input, "");
    assert!(code == Some(1) && said.contains("this server asks who calls"), "{said}");
    let (code, _, said) = run(&["list"], "no key");
    assert!(code == Some(2) && said.contains("CRUX_API_KEY") && !said.contains("no key"), "{said}");
    // Any name will do: without a credential a page that has got itself another name can do nothing.
    let headers = [("host", "crux.example"), ("x-api-key", shop.key.as_str())];
    let answer = server.client().send(Method::GET, "/api/v1/workflow/list", &headers, vec![]).await;
    assert_eq!(answer.status, 200);
}

/// A modulus, and a token that its key has signed once, until 2100; the key is gone.
const RSA_N: &str = concat!(
    "siLcdA-aQzdEOKINR-uc9AYIKYv3c_jkNwlUM47ojkFHE9Nf0WY6VP1a3tNwW-A1J_Imc2p74vRc--mwEvTY1GJB",
    "Sw2E4VWiT96EKmHhM-avAVZ0wpCgkUr5yajIXVgrATLmcJBp3NlLXZNpGulqWNq_8UMmSJrxvA-2eVV7bQtizH9c",
    "9_0_9aP2j1VM2etybZf7-L-eoT_jSwvgykwgTFjCz-fOlpPQAfPt3J25u1BV-e2bJFa4JmhZf7q5GhodxbhuvAa1",
    "eNj6QZ-hVVLQ0C0zvgufIGZySBRZYxhtGwALF8W_G-e6StJxwc4r-LulHyxFBoyi5JB5tO3yAubuZQ",
);
const RSA_TOKEN: &str = concat!(
    "eyJhbGciOiJSUzI1NiIsImtpZCI6InJzYSIsInR5cCI6IkpXVCJ9.eyJpc3MiOiJodHRwczovL2lkLmV4YW1wbGU",
    "iLCJhdWQiOiJjcnV4Iiwic3ViIjoic2hvcHwxIiwicm9sZXMiOlsic3RhcnQiLCJyZWFkIiwib3RoZXIiXSwiZXh",
    "wIjo0MTAyNDQ0ODAwfQ.o33yBEnuk-k_kRlFCng1WlTIojP6sqlXTpdJZji-NPwFJ3cNJy7PNvOXY5nqLKfHxcR9",
    "xY97Q6d02xGPs6WKYmF5EcN2bv0HxF9PyGyGkXqz5DvdzOIJmQItcDN2hQLfFLL_m-UTlEFnXF2XqAfp1kAi835v",
    "avrZBCAi2xS1xk8I1pxbisRm96WDlFM5J1d2Y1S6glqWzln4i8NWVNTDciZFKW_B1AxCQLwhm-xIohst9M6UAn-5",
    "BGhCPy-6xo7eR3HmyYxrBBUsiBaW7v697HJK5YDuxA3rSPHwAd8lcsCEGtetX8_5oOyfZI6DrwKBQNTtFPjGoW6U",
    "V0U9ha7ddA",
);

/// Answers every request with this body.
async fn provider(body: String) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/keys", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((mut peer, _)) = listener.accept().await {
            let head = format!(
                "HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
                body.len()
            );
            let _ = peer.read(&mut [0; 1024]).await;
            let _ = peer.write_all((head + &body).as_bytes()).await;
        }
    });
    url
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_of_the_identity_provider_is_a_client() {
    let keys = json!({"keys": [{"kty": "RSA", "kid": "rsa", "n": RSA_N, "e": "AQAB"}]}).to_string();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("keys.json");
    std::fs::write(&file, &keys).unwrap();
    let url = provider(keys).await;
    for place in [format!("jwks_file: '{}'", file.display()), format!("jwks_url: '{url}'")] {
        let jwt = format!("issuer: https://id.example, audience: [crux], {place}");
        // Looks like a token, with its points.
        let key = Key::new("my.shop.front", "read", "");
        let server = server(&[&key], &format!("  jwt: {{ {jwt} }}\n"));
        assert!(key.listed(&server).await.is_empty());
        let bearer = format!("Bearer {RSA_TOKEN}");
        let get = async |bearer: &str| {
            let headers = [("authorization", bearer)];
            server.client().send(Method::GET, "/api/v1/workflow/list", &headers, vec![]).await
        };
        assert_eq!(get(&bearer).await.status, 200, "{place}");
        let tampered = bearer.replacen("eyJ", "eyK", 1);
        assert_eq!(refused(&get(&tampered).await), (401, "unauthenticated".to_owned()));
        let mut gateway = Socket::open(&server, &format!("?token={RSA_TOKEN}")).await;
        let answer = gateway.ask(&json!({"type": "auth", "id": 1})).await;
        assert_eq!(answer["data"]["client_id"], "shop|1");
        let signature = &RSA_TOKEN[RSA_TOKEN.len() - 40..];
        assert!(!server.log().contains(signature));
    }
}

#[tokio::test]
async fn a_follow_token_is_good_for_its_instance_and_following() {
    let shop = Key::new("shop", "start", "");
    let server = server(&[&shop], "  tokens: { follow_lifetime: 2s }\n");
    let answer = shop.post(&server, NAP, &json!({"nap": "1h"})).await;
    let (id, token) = (answer.text("workflow_id"), answer.text("follow_token"));
    let other = shop.start(&server, NAP, &json!({"nap": "1h"})).await;
    let mut socket = Socket::open(&server, &format!("?workflow_id={id}&token={token}")).await;
    assert_eq!(socket.next().await.unwrap()["type"], "workflow_started");
    let query = format!("?workflow_id={other}&token={token}");
    assert_eq!(Socket::try_open(&server, &query).await.err(), Some(404));
    let client = server.client();
    let headers = [("x-api-key", token.as_str())];
    let get = async |path: &str| client.send(Method::GET, path, &headers, vec![]).await;
    for path in [
        "/api/v1/workflow/list".to_owned(),
        format!("/api/v1/workflow/{id}/history"),
        "/metrics".to_owned(),
    ] {
        assert_eq!(refused(&get(&path).await), (403, "forbidden".to_owned()), "{path}");
    }
    let answer = client.post_with(DOUBLE, &headers, &json!({"number": 1})).await;
    assert_eq!(refused(&answer), (403, "forbidden".to_owned()));
    let mut gateway = Socket::open(&server, "").await;
    assert_eq!(gateway.ask(&json!({"type": "auth", "id": 1, "token": token})).await["ok"], true);
    let subscribe = |id: &str| json!({"type": "subscribe", "id": 2, "workflow_id": id});
    assert_eq!(gateway.ask(&subscribe(&id)).await["ok"], true);
    assert_eq!(gateway.ask(&subscribe(&other)).await["ok"], false);
    socket.rest().await;
    assert_eq!(socket.closed, Some(4403));
    let query = format!("?workflow_id={id}&token={token}");
    assert_eq!(Socket::try_open(&server, &query).await.err(), Some(401));
    assert!(!server.log().contains(&token[20..]));
}

#[tokio::test]
async fn a_task_is_reported_with_its_own_token_and_with_no_other() {
    let service = Service::start(|_| Reply::Raw(202, String::new())).await;
    let shop = Key::new("shop", "start,read", "");
    let config = service.config(&["prepare", "finish"]);
    let server = server(&[&shop], &config);
    let start = async || shop.start(&server, "/api/v1/workflow/work", &json!({"item": "a"})).await;
    let (one, other) = (start().await, start().await);
    let tasks = [service.task("prepare", 1).await, service.task("prepare", 2).await];
    let token = |id: &str| {
        let task = tasks.iter().find(|task| task["workflow_id"] == id).unwrap();
        task["completion_token"].as_str().unwrap().to_owned()
    };
    let report = |id: &str, attempt: Value| json!({"workflow_id": id, "step_id": "prepare", "attempt": attempt, "success": true, "result": {"size": 1}});
    let client = server.client();
    const COMPLETED: &str = "/api/v1/workflow/step-completed";
    let post = async |path: &str, token: &str, body: &Value| {
        client.post_with(path, &[("x-api-key", token)], body).await
    };
    assert_eq!(
        post("/api/v1/workflow/step-heartbeat", &token(&one), &report(&one, Value::Null))
            .await
            .status,
        200
    );
    let forbidden = (403, "forbidden".to_owned());
    // Another's instance does not exist, nor does another's attempt.
    for (body, token) in
        [(report(&other, Value::Null), token(&one)), (report(&one, json!(2)), token(&one))]
    {
        assert_eq!(refused(&post(COMPLETED, &token, &body).await), forbidden, "{body}");
    }
    let damaged = format!("{}0", &token(&one)[..token(&one).len() - 1]);
    let answer = post(COMPLETED, &damaged, &report(&one, Value::Null)).await;
    assert!(answer.status == 401 || damaged == token(&one));
    assert_eq!(post(DOUBLE, &token(&one), &json!({"number": 1})).await.status, 403);
    assert_eq!(post(COMPLETED, &token(&one), &report(&one, Value::Null)).await.status, 200);
    // By the gateway the token stands in the message; the socket need not be anybody's.
    let mut gateway = Socket::open(&server, "").await;
    let mut message = report(&other, json!(1));
    message["type"] = json!("complete_step");
    message["id"] = json!(1);
    assert_eq!(gateway.ask(&message).await["ok"], false);
    message["completion_token"] = json!(token(&one));
    assert_eq!(gateway.ask(&message).await["ok"], false);
    message["completion_token"] = json!(token(&other));
    assert_eq!(gateway.ask(&message).await["ok"], true);
}

#[tokio::test]
async fn anonymous_callers_may_follow_if_the_configuration_says_so() {
    let shop = Key::new("shop", "start,read", "");
    let server = server(&[&shop], "  anonymous: [follow]\n");
    let id = shop.start(&server, NAP, &json!({"nap": "1h"})).await;
    let mut socket = Socket::follow(&server, &id).await;
    assert_eq!(socket.next().await.unwrap()["type"], "workflow_started");
    let events = format!("/api/v1/workflow/{id}/history");
    assert_eq!(server.client().get(&events).await.status, 401);
    assert_eq!(server.client().get("/api/v1/workflow/list").await.status, 401);
    assert_eq!(server.client().post(DOUBLE, &json!({"number": 1})).await.status, 401);
}

#[tokio::test]
async fn too_many_wrong_keys_of_one_address_have_to_wait() {
    let (shop, wrong) = (Key::new("shop", "start,read", ""), Key::new("other", "read", ""));
    let server = server(&[&shop], "server: { behind_proxy: [127.0.0.1] }\n");
    let client = server.client();
    let get = async |key: &Key, from: &str| {
        let headers = [("x-api-key", key.key.as_str()), ("x-forwarded-for", from)];
        client.send(Method::GET, "/api/v1/workflow/list", &headers, vec![]).await
    };
    for _ in 0..10 {
        assert_eq!(get(&wrong, "6.6.6.6").await.status, 401);
    }
    let answer = get(&wrong, "1.1.1.1, 6.6.6.6").await;
    assert_eq!(refused(&answer), (429, "too-many-attempts".to_owned()));
    assert!(answer.header("retry-after").is_some());
    assert_eq!(get(&shop, "6.6.6.6").await.status, 200);
    let elsewhere = Key::new("third", "read", "");
    assert_eq!(get(&elsewhere, "7.7.7.7").await.status, 401);
}

#[tokio::test]
async fn keys_are_changed_by_a_signal_and_connections_stay() {
    let (old, new) = (Key::new("shop", "start,read", ""), Key::new("shop", "start,read", ""));
    let server = server(&[&old], "");
    let answer = old.post(&server, NAP, &json!({"nap": "1h"})).await;
    let (id, token) = (answer.text("workflow_id"), answer.text("follow_token"));
    let mut socket = old.open(&server).await;
    let path = server.folder().join("crux.yaml");
    let text = std::fs::read_to_string(&path).unwrap();
    let hang_up =
        || Command::new("kill").args(["-HUP", &server.pid().to_string()]).status().unwrap();
    std::fs::write(&path, "auth: { clents: {} }").unwrap();
    hang_up();
    server.logged(&["SIGHUP", "cannot be read again", "clents"]).await;
    assert_eq!(old.status(&server, &id).await, 200);
    std::fs::write(&path, text.replace(&old.client, &new.client)).unwrap();
    hang_up();
    server.logged(&["SIGHUP", "was read again"]).await;
    assert_eq!(old.status(&server, &id).await, 401);
    assert_eq!(new.status(&server, &id).await, 200);
    // Who came with the old key has to go; who follows by a token stays.
    assert_eq!((socket.next().await, socket.closed), (None, Some(4403)));
    let query = format!("?workflow_id={id}&token={token}");
    assert!(Socket::try_open(&server, &query).await.is_ok());
}

#[tokio::test]
async fn a_scope_that_names_nothing_stops_the_start() {
    let shop = Key::new("shop", "start", ", scope: { workflows: [duoble] }");
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("crux.yaml");
    std::fs::write(&file, format!("server: {{ port: 0 }}\nauth:\n  clients:\n{}", shop.client))
        .unwrap();
    let refused = Command::new(env!("CARGO_BIN_EXE_crux-test-app"))
        .args(["serve", "--config"])
        .arg(&file)
        .current_dir(folder.path())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&refused.stderr);
    assert!(said.contains("auth.clients.shop.scope.workflows: there is no workflow `duoble`; did you mean `double`?"), "{said}");
}
