//! A disk that gets full under a running server: a small file system in memory.

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::process::Command;

use serde_json::json;

use crate::kit::{Reply, Service, eventually};
use crate::server;

struct Disk(tempfile::TempDir);

impl Disk {
    fn mount() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let output = Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=24m", "crux-test"])
            .arg(folder.path())
            .output()
            .unwrap();
        assert!(output.status.success(), "mounting a small file system needs root: {output:?}");
        Self(folder)
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    /// Takes what is free, but for so much.
    fn fill(&self, leave: u64) {
        let free =
            Command::new("df").args(["--output=avail", "-B1"]).arg(self.path()).output().unwrap();
        let free: u64 =
            String::from_utf8(free.stdout).unwrap().lines().nth(1).unwrap().trim().parse().unwrap();
        let mut file =
            File::options().create(true).append(true).open(self.path().join("filler")).unwrap();
        // The last pieces may find no room any more.
        for _ in 0..free.saturating_sub(leave) / 4096 {
            if file.write_all(&[1; 4096]).is_err() {
                return;
            }
        }
    }

    fn make_room(&self) {
        std::fs::remove_file(self.path().join("filler")).unwrap();
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // If it stays, the folder cannot be removed, and the system's clean-up says so.
        let _ = Command::new("umount").arg("-l").arg(self.path()).status();
    }
}

#[tokio::test]
#[ignore = "needs mount"]
async fn a_full_disk_refuses_starts_loses_nothing_and_is_left_when_there_is_room() {
    let disk = Disk::mount();
    let service = Service::start(|_| Reply::Later).await;
    let config = format!(
        "{}store: {{ path: {}/crux.db }}\nlimits: {{ min_free_disk: 8MiB }}\n",
        service.config(&["prepare", "finish"]),
        disk.path().display()
    );
    let mut server = server(&config);
    let client = server.client();
    let first = client.start("/api/v1/workflow/work", &json!({"item": "cup"})).await;
    let second = client.start("/api/v1/workflow/work", &json!({"item": "jug"})).await;
    // More than the log has room for, which is written ahead.
    let mut others = Vec::new();
    for _ in 0..5 {
        others.push(client.start("/api/v1/workflow/work", &json!({"item": "cup"})).await);
    }
    service.task("prepare", 7).await;

    // Little room: nothing begins, and what has begun goes on.
    disk.fill(6 << 20);
    let answer = client.post("/api/v1/workflow/work", &json!({"item": "pot"})).await;
    assert_eq!((answer.status, answer.problem().as_str()), (507, "disk-full"));
    assert!(answer.header("retry-after").is_some());
    let event =
        json!({"type": "order.approved", "id": "e-1", "data": {"orderId": "1", "by": "Ann"}});
    assert_eq!(client.post("/api/v1/events", &event).await.problem(), "disk-full");
    assert_eq!(
        client.complete(&first, "prepare", &json!({"size": 1})).await.text("status"),
        "accepted"
    );
    service.task("finish", 1).await;
    client.complete(&first, "finish", &json!({"label": "L"})).await;
    client.until(&first, "completed").await;

    // None at all: what comes waits, and is taken when there is some.
    disk.fill(0);
    let result = json!({"size": 1, "padding": "x".repeat(200_000)});
    let ask = |of: &String| {
        let (asking, result, of) = (client.clone(), result.clone(), of.clone());
        tokio::spawn(async move { asking.complete(&of, "prepare", &result).await })
    };
    let asked: Vec<_> = others.iter().chain([&second]).map(ask).collect();
    server.logged(&["WARN", "cannot append to the journal; retrying"]).await;
    assert_eq!(client.get("/health/live").await.status, 200);
    let is_waiting = asked.iter().any(|asked| !asked.is_finished());
    disk.make_room();
    assert!(is_waiting, "all were answered without any room");
    for asked in asked {
        let answer = asked.await.unwrap();
        assert_eq!((answer.status, answer.text("status").as_str()), (200, "accepted"));
    }
    eventually("starts are taken again", || async {
        (client.post("/api/v1/workflow/work", &json!({"item": "pot"})).await.status == 202)
            .then_some(())
    })
    .await;
    assert_eq!(client.post("/api/v1/events", &event).await.status, 202);

    server.kill();
    server.restart();
    let client = server.client();
    client.until(&first, "completed").await;
    assert_eq!(client.complete(&second, "prepare", &result).await.text("status"), "duplicate");
    client.complete(&second, "finish", &json!({"label": "L"})).await;
    client.until(&second, "completed").await;
}
