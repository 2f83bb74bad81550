//! Messages to services that listen.

use super::*;

fn listener(name: &str, url: String, subscribe: &[&str]) -> Service {
    let subscribe = subscribe.iter().map(|pattern| (*pattern).to_owned()).collect();
    Service { name: name.to_owned(), subscribe, ..service(url, &[], 4) }
}

fn url(server: &Server) -> String {
    format!("http://{}/hooks", server.address)
}

fn message(routing_key: &'static str) -> Message {
    Message {
        routing_key,
        id: "i/4/0".to_owned(),
        correlation_id: "req-1".to_owned(),
        traceparent: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".to_owned(),
        body: raw(r#"{"status":"completed"}"#),
    }
}

async fn published(bus: &Local, routing_key: &'static str) -> PublishOutcome {
    let (sender, receiver) = tokio::sync::oneshot::channel();
    bus.publish(message(routing_key), Box::new(|published| sender.send(published).unwrap()))
        .unwrap();
    timeout(Duration::from_secs(60), receiver).await.expect("an answer in time").unwrap()
}

fn reason(published: PublishOutcome) -> String {
    match published {
        PublishOutcome::Failed(reason) => reason,
        PublishOutcome::Confirmed => panic!("it is out"),
    }
}

#[tokio::test]
async fn a_message_without_a_listener_is_done_and_need_not_be_made() {
    let server = server(ok("")).await;
    let bus = Local::new(&app(), vec![listener("mail", url(&server), &["workflow.failed"])], 1024)
        .unwrap();
    assert!(!bus.wants("workflow.completed"));
    assert_eq!(published(&bus, "workflow.completed").await, PublishOutcome::Confirmed);
}

#[tokio::test]
async fn a_listener_gets_the_message_with_its_id_and_its_key() {
    let mut server = server(Does::Answers(http("204 No Content", "", ""))).await;
    let bus =
        Local::new(&app(), vec![listener("mail", url(&server), &["workflow.*"])], 1024).unwrap();
    assert!(
        bus.wants("workflow.failed")
            && bus.wants("workflow.completed")
            && !bus.wants("order.shipped")
    );
    assert_eq!(published(&bus, "workflow.completed").await, PublishOutcome::Confirmed);
    let (head, body) = server.requests.recv().await.unwrap();
    assert_eq!(body, r#"{"status":"completed"}"#);
    for line in [
        "post /hooks http/1.1",
        "idempotency-key: i/4/0",
        "x-routing-key: workflow.completed",
        "x-correlation-id: req-1",
        "content-type: application/json",
        "traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    ] {
        assert!(head.contains(line), "no `{line}` in {head}");
    }
}

#[tokio::test]
async fn who_has_a_message_does_not_get_it_again_because_another_is_down() {
    let (mut up, down) = (server(ok("")).await, TcpListener::bind("127.0.0.1:0").await.unwrap());
    let gone = down.local_addr().unwrap();
    drop(down);
    let services =
        vec![listener("up", url(&up), &["#"]), listener("down", format!("http://{gone}/"), &["#"])];
    let bus = Local::new(&app(), services, 1024).unwrap();
    let why = reason(published(&bus, "order.shipped").await);
    assert_eq!(why, "service `down` cannot be reached: Connection refused (os error 111)");
    assert_eq!(bus.health(), Err(why));
    up.requests.recv().await.unwrap();
    let listener = TcpListener::bind(gone).await.unwrap();
    tokio::spawn(async move {
        let (sender, _requests) = mpsc::unbounded_channel();
        let (stream, _) = listener.accept().await.unwrap();
        serve(stream, ok(""), sender, Arc::default()).await;
    });
    assert_eq!(published(&bus, "order.shipped").await, PublishOutcome::Confirmed);
    assert!(up.requests.try_recv().is_err(), "it came twice");
    assert_eq!(bus.health(), Ok(()));
    // Another message under the same id would be a new one: nothing is kept of what is out.
    assert_eq!(published(&bus, "order.shipped").await, PublishOutcome::Confirmed);
    up.requests.recv().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn whatever_is_not_2xx_is_not_taken_and_a_busy_listener_is_left_alone() {
    for (status, headers, said) in [
        ("500 Internal Server Error", "", "answered 500 Internal Server Error"),
        ("404 Not Found", "", "answered 404 Not Found"),
        (
            "307 Temporary Redirect",
            "location: http://127.0.0.1:9/\r\n",
            "answered 307 Temporary Redirect (redirects are not followed: configure the final address)",
        ),
    ] {
        let server = server(Does::Answers(http(status, headers, ""))).await;
        let bus = Local::new(&app(), vec![listener("mail", url(&server), &["#"])], 1024).unwrap();
        let why = reason(published(&bus, "workflow.failed").await);
        assert_eq!(why, format!("service `mail` {said}"));
    }
    let mut server =
        server(Does::Answers(http("503 Service Unavailable", "retry-after: 60\r\n", ""))).await;
    let bus = Local::new(&app(), vec![listener("mail", url(&server), &["#"])], 1024).unwrap();
    reason(published(&bus, "workflow.failed").await);
    // What comes meanwhile waits.
    let waiting = timeout(Duration::from_secs(50), published(&bus, "workflow.failed")).await;
    assert!(waiting.is_err(), "{waiting:?}");
    assert!(bus.held("workflow.failed").unwrap().contains("it is left alone for "));
    server.requests.recv().await.unwrap();
    assert!(server.requests.try_recv().is_err(), "it was not left alone");
}

#[tokio::test]
async fn a_listener_that_cannot_be_is_refused_with_its_place() {
    let refused = |pattern: &str| {
        let services = vec![listener("mail", "http://localhost/".to_owned(), &[pattern])];
        Local::new(&app(), services, 1024).err().map(|error| error.to_string()).unwrap_or_default()
    };
    let place = "services.mail.subscribe: ";
    let none =
        |pattern: &str| format!("{place}no workflow has a hook or an `emit` under `{pattern}`; ");
    assert_eq!(
        refused("workflow.complete"),
        none("workflow.complete") + "did you mean `workflow.completed`?"
    );
    assert_eq!(
        refused("step.resize"),
        none("step.resize") + "it is the key of tasks: name `charge` under `steps`"
    );
    assert_eq!(
        refused("mail.*"),
        none("mail.*") + "there are `order.shipped`, `workflow.completed` and `workflow.failed`"
    );
    assert!(refused("workflow.").starts_with(&format!(
        "{place}`workflow.` is not a valid pattern of routing keys: write words"
    )));
}
