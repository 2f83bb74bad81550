//! The example in Python, as it stands in the repository, with Debian's client of Redis.

use std::path::Path;
use std::process::{Child, Command, Stdio};

use serde_json::json;

use crate::kit::{eventually, fences, requirements};
use crate::{product, result, server, shared};

/// A running service; killed when it is dropped.
struct Example(Child);

impl Example {
    fn start(python: &Path, prefix: &str, name: &str) -> Self {
        let file = fences::project().join("examples/services/python/stream_service.py");
        let mut python = Command::new(python);
        python
            .arg(file)
            .env("REDIS_URL", shared().url())
            .env("PREFIX", prefix)
            .env("NAME", name)
            .env("IDLE_MS", "1500");
        Self(python.stdout(Stdio::null()).spawn().expect("python3 runs"))
    }
}

impl Drop for Example {
    fn drop(&mut self) {
        self.0.kill().expect("it can be killed");
        self.0.wait().expect("it ends");
    }
}

#[tokio::test]
#[ignore = "needs redis-server and python3-redis"]
async fn the_service_in_python_does_its_step_and_takes_over_what_a_dead_one_had() {
    let python =
        tokio::task::spawn_blocking(|| requirements::python_with("redis", "python3-redis"))
            .await
            .unwrap();
    let (server, line) = server().await;
    let client = server.client();
    line.group("step.image_processing", "workers").await.unwrap();
    let first = client.start("/api/v1/workflow/upload", &product("Lamp")).await;
    // One that takes a task and dies.
    eventually("the task comes", || async {
        line.read("step.image_processing", "workers", "dead").await.unwrap().pop()
    })
    .await;
    let _example = Example::start(&python, &line.prefix, "alive");
    let second = client.start("/api/v1/workflow/upload", &product("Chair")).await;
    for id in [&first, &second] {
        let document = eventually("its first step is done", || async {
            let document = client.status(id).await;
            (document["definition"]["steps"][0]["state"] == "completed").then_some(document)
        })
        .await;
        let output = &document["definition"]["steps"][0]["output"];
        assert_eq!(
            output["processed_images"],
            json!(["image1.webp", "image2.webp"]),
            "{document:#}"
        );
    }
    line.is_empty("step.image_processing").await;
    let _services = line.services(result).await;
    for id in [&first, &second] {
        client.until(id, "completed").await;
    }
}
