//! Entries that are wrong in a way that only streams know.

use crate::server;

#[tokio::test]
#[ignore = "needs redis-server"]
async fn a_dead_letter_keeps_the_fields_of_its_entry_and_says_where_it_stood() {
    let (_server, line) = server().await;
    let fields = [("body", "{not json"), ("message_id", "poison-1"), ("colour", "red")];
    let id = line.publish("step.completed", &fields).await.unwrap();
    let dead = line.next("dead", "people").await;
    assert_eq!((dead.text("colour"), dead.text("entry")), ("red", id.as_str()));
    assert_eq!(dead.text("stream"), line.stream("step.completed"));

    line.publish("step.completed", &[("data", "{}")]).await.unwrap();
    let dead = line.next("dead", "people").await;
    assert!(dead.text("reason").contains("no field `body`"), "{dead:?}");
    line.is_empty("step.completed").await;
    assert_eq!(line.length("dead").await, 2);
}
