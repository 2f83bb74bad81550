//! A system clock that is set back: by libfaketime, in the server's process alone.

use std::process::Command;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::kit::{Reply, Server, Service, requirements};

/// The clock of one server.
struct Clock {
    offset: tempfile::NamedTempFile,
    library: String,
}

impl Clock {
    fn right() -> Self {
        let faketime = requirements::program(&["faketime"], "faketime");
        // Only it knows where its library is; and two at a time get into each other's way.
        static LIBRARY: OnceLock<String> = OnceLock::new();
        let library = LIBRARY.get_or_init(|| {
            let shown = Command::new(faketime)
                .args(["-m", "-f", "+0s", "printenv", "LD_PRELOAD"])
                .output()
                .unwrap();
            String::from_utf8(shown.stdout).unwrap().trim().to_owned()
        });
        assert!(library.contains("faketime"), "{library}");
        let library = library.clone();
        let clock = Self { offset: tempfile::NamedTempFile::new().unwrap(), library };
        clock.set("+0s");
        clock
    }

    fn set(&self, offset: &str) {
        // In one piece: the server may be reading.
        let next = self.offset.path().with_extension("next");
        std::fs::write(&next, format!("{offset}\n")).unwrap();
        std::fs::rename(next, self.offset.path()).unwrap();
    }

    fn server(&self, config: &str) -> Server {
        let environment = [
            ("LD_PRELOAD", self.library.as_str()),
            ("FAKETIME_TIMESTAMP_FILE", self.offset.path().to_str().unwrap()),
            ("FAKETIME_NO_CACHE", "1"),
            // What measures how much time has passed is not set by anybody.
            ("FAKETIME_DONT_FAKE_MONOTONIC", "1"),
            ("NO_FAKE_STAT", "1"),
        ];
        let config = format!("{config}\nconfig: {{ HOME: Ghent }}\n");
        Server::start_with(env!("CARGO_BIN_EXE_crux-test-app"), &config, &environment)
    }
}

#[tokio::test]
#[ignore = "needs faketime"]
async fn a_clock_that_is_set_back_holds_up_no_timer_and_turns_no_time_back() {
    let clock = Clock::right();
    let server = clock.server("");
    let client = server.client();
    let begun = Instant::now();
    let nap = client.start("/api/v1/workflow/nap", &json!({"nap": "1500ms"})).await;
    client.until(&nap, "waiting").await;
    clock.set("-3600s");
    let after = client.post("/api/v1/workflow/double?wait=30s", &json!({"number": 1})).await.json();
    let nap = client.until(&nap, "completed").await;
    assert!(
        begun.elapsed() >= Duration::from_millis(1500),
        "it woke too early: {:?}",
        begun.elapsed()
    );
    let ended = |document: &Value| document["metadata"]["end_time"].as_str().unwrap().to_owned();
    for document in [&nap, &after] {
        let started = document["metadata"]["start_time"].as_str().unwrap();
        assert!(started <= ended(document).as_str(), "{document:#}");
    }
    assert!(ended(&nap) > ended(&after), "{nap:#} {after:#}");
    assert!(
        nap["metadata"]["start_time"].as_str() <= after["metadata"]["start_time"].as_str(),
        "the later one starts earlier"
    );
}

#[tokio::test]
#[ignore = "needs faketime"]
async fn after_a_restart_with_an_earlier_clock_work_goes_on_and_timers_wait_for_their_time() {
    let clock = Clock::right();
    let service = Service::start(|_| Reply::Later).await;
    let mut server = clock.server(&service.config(&["prepare", "finish"]));
    let work = server.client().start("/api/v1/workflow/work", &json!({"item": "cup"})).await;
    let nap = server.client().start("/api/v1/workflow/nap", &json!({"nap": "1s"})).await;
    service.task("prepare", 1).await;
    server.kill();
    clock.set("-60s");
    server.restart();
    let client = server.client();
    assert_eq!(
        client.complete(&work, "prepare", &json!({"size": 3})).await.text("status"),
        "accepted"
    );
    service.task("finish", 1).await;
    client.complete(&work, "finish", &json!({"label": "L"})).await;
    client.until(&work, "completed").await;
    // By the clock its time has not come.
    assert_eq!(client.status(&nap).await["metadata"]["status"], "waiting");
    clock.set("+5s");
    client.until(&nap, "completed").await;
}

#[tokio::test]
#[ignore = "needs faketime"]
async fn a_clock_that_jumps_years_ahead_for_a_moment_ends_nothing_and_is_reported() {
    let clock = Clock::right();
    let server = clock.server("");
    let client = server.client();
    let nap = client.start("/api/v1/workflow/nap", &json!({"nap": "1h"})).await;
    client.until(&nap, "waiting").await;
    clock.set("+3650d");
    let during =
        client.post("/api/v1/workflow/double?wait=30s", &json!({"number": 1})).await.json();
    let health = client.get("/health").await.json();
    assert_eq!(
        (&health["clock"]["status"], &health["clock"]["jumps"]),
        (&json!("jumped"), &json!(1)),
        "{health:#}"
    );
    // Timers that are due fire.
    let short = client.start("/api/v1/workflow/nap", &json!({"nap": "200ms"})).await;
    client.until(&short, "completed").await;
    clock.set("+0s");
    let after = client.post("/api/v1/workflow/double?wait=30s", &json!({"number": 1})).await.json();
    let year = |document: &Value| {
        document["metadata"]["end_time"].as_str().unwrap()[..4].parse::<i32>().unwrap()
    };
    let started = client.status(&nap).await["metadata"]["start_time"].as_str().unwrap()[..4]
        .parse::<i32>()
        .unwrap();
    assert!(year(&during) <= started + 1 && year(&after) <= started + 1, "{during:#} {after:#}");
    assert_eq!(
        client.status(&nap).await["metadata"]["status"],
        "waiting",
        "it woke ten years early"
    );
    assert_eq!(client.get("/health").await.json()["clock"]["behind_ms"], 0);
    server.logged(&["WARN", "clock jumped"]).await;
}
