//! Scripts of web pages in a real browser: the one that clients of the Stox gateway have, unchanged
//! but for the id that it leaves open, and the one of `docs/api.md`. The page comes from a server
//! of a different origin, as that of a front end does.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::response::Html;
use axum::routing::{get, post};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::mpsc;

use crux_test_kit::{Client, Reply, Server, Service, eventually, fences, requirements};

/// As it stands in the gateway's own documentation.
const STOX: &str = include_str!("fixtures/stox-gateway.js");

/// What the page has shown on its console, and the code with which the socket was closed, once it
/// was.
#[derive(Debug, serde::Deserialize)]
struct Seen {
    lines: Vec<Vec<Value>>,
    closed: u16,
}

impl Seen {
    /// The lines whose first word is this.
    fn lines(&self, first: &str) -> Vec<&[Value]> {
        self.lines.iter().filter(|line| line[0] == first).map(|line| &line[1..]).collect()
    }
}

/// A browser that shows one page; ends when it is dropped.
struct Browser {
    child: Child,
    _profile: tempfile::TempDir,
}

impl Browser {
    fn show(program: &Path, url: &str, gateway: u16) -> Self {
        let profile = tempfile::tempdir().expect("a folder");
        let mut command = Command::new(program);
        command.args([
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-quic",
            "--no-first-run",
            "--disable-dev-shm-usage",
        ]);
        command.args([
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
        ]);
        // The script names port 8080, which another program may have.
        command.arg(format!("--host-resolver-rules=MAP localhost 127.0.0.1:{gateway}"));
        command.arg(format!("--user-data-dir={}", profile.path().display())).arg(url);
        let child = command
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("the browser starts");
        Self { child, _profile: profile }
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A front end: serves a page, and receives what was seen of it.
struct FrontEnd {
    origin: String,
    page: Arc<Mutex<String>>,
    seen: mpsc::Receiver<Seen>,
}

impl FrontEnd {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let origin = format!("http://{}", listener.local_addr().expect("an address"));
        let page = Arc::new(Mutex::new(String::new()));
        let (tell, seen) = mpsc::channel(1);
        let shown = page.clone();
        let give = get(async move || Html(shown.lock().expect("nobody panics with it").clone()));
        let take = post(async move |body: String| {
            tell.send(serde_json::from_str(&body).expect("what the page sends"))
                .await
                .expect("the test receives");
        });
        let router = Router::new().route("/", give).route("/seen", take);
        tokio::spawn(async move { axum::serve(listener, router).await.expect("it serves") });
        Self { origin, page, seen }
    }

    /// Opens a page with this script, which makes a socket `ws`.
    fn open(&self, browser: &Path, script: &str, gateway: u16) -> Browser {
        *self.page.lock().expect("nobody panics with it") = format!(
            "<!doctype html><script>
const lines = [];
console.log = (...words) => lines.push(words);
{script}
ws.addEventListener('close', (event) => fetch('/seen', {{method: 'POST', body: JSON.stringify({{lines, closed: event.code}})}}));
</script>"
        );
        Browser::show(browser, &self.origin, gateway)
    }

    /// Once the socket is closed.
    async fn seen(&mut self) -> Seen {
        let seen = tokio::time::timeout(Duration::from_secs(60), self.seen.recv()).await;
        seen.expect("the socket is closed in time").expect("something was seen")
    }
}

/// The gateway, three services that say nothing by themselves, and a front end.
struct Shop {
    browser: PathBuf,
    server: Server,
    client: Client,
    service: Service,
    front_end: FrontEnd,
}

impl Shop {
    async fn open() -> Self {
        let browser =
            requirements::program(&["chromium", "chromium-browser", "google-chrome"], "chromium");
        let front_end = FrontEnd::start().await;
        let service = Service::start(|_| Reply::Later).await;
        let services = service.config(&["image_processing", "ai_enhancement", "seo_generation"]);
        let config = format!("{services}server: {{ origins: ['{}'] }}\n", front_end.origin);
        let server = Server::start(env!("CARGO_BIN_EXE_crux"), &config);
        Self { browser, client: server.client(), server, service, front_end }
    }

    fn show(&self, script: &str) -> Browser {
        self.front_end.open(&self.browser, script, self.server.port())
    }

    /// Uploads what the gateway's documentation uploads; the id.
    async fn upload(&self) -> String {
        let product = json!({
            "name": "Sample Product", "description": "A test product", "images": ["image1.jpg", "image2.jpg"],
            "category": "Electronics", "price": 99.99
        });
        self.client.start("/api/v1/workflow/upload", &product).await
    }

    /// The service of this step type reports what it did; the id of its step.
    async fn report(&self, id: &str, step_type: &str, result: Value) -> String {
        let task = self.service.task(step_type, 1).await;
        let said = json!({"workflow_id": id, "step_id": task["step_id"], "step_type": step_type, "success": true, "result": result});
        assert_eq!(self.client.post("/api/v1/workflow/step-completed", &said).await.status, 200);
        task["step_id"].as_str().expect("an id").to_owned()
    }

    /// All three report, one after the other; the ids of their steps.
    async fn complete(&self, id: &str) -> [String; 3] {
        let images = json!({"processed_images": ["processed1.jpg", "processed2.jpg"], "processing_time": "2.5s"});
        [
            self.report(id, "image_processing", images).await,
            self.report(id, "ai_enhancement", json!({"description": "A tested product."})).await,
            self.report(
                id,
                "seo_generation",
                json!({"title": "Product", "meta_description": "Tested.", "slug": "product"}),
            )
            .await,
        ]
    }

    /// Until the page's socket is open.
    async fn is_followed(&self) {
        eventually("the page follows", || async {
            let metrics =
                String::from_utf8(self.client.get("/metrics").await.body.to_vec()).expect("text");
            metrics.contains("\ncrux_followers 1\n").then_some(())
        })
        .await;
    }
}

fn stox(id: &str) -> String {
    assert_eq!(STOX.matches("uuid-here").count(), 1);
    STOX.replace("uuid-here", id)
}

/// As the gateway's own clients expect it of an upload that is completed.
fn assert_told_whole(seen: &Seen, steps: &[String]) {
    let completed: Vec<&Value> =
        seen.lines("Step completed:").iter().map(|words| &words[0]).collect();
    assert_eq!(completed, steps.iter().collect::<Vec<_>>(), "{seen:#?}");
    assert_eq!(
        (seen.lines("Workflow completed!").len(), seen.lines("Workflow failed:").len()),
        (1, 0),
        "{seen:#?}"
    );
    let types: Vec<&Value> =
        seen.lines("Workflow update:").iter().map(|words| &words[0]["type"]).collect();
    assert_eq!(
        (types.first().copied(), types.last().copied()),
        (Some(&json!("workflow_started")), Some(&json!("workflow_completed")))
    );
    assert_eq!(seen.closed, 1000);
}

#[tokio::test]
#[ignore = "needs chromium"]
async fn the_script_of_the_reference_follows_an_upload_live() {
    let mut shop = Shop::open().await;
    let id = shop.upload().await;
    let _browser = shop.show(&stox(&id));
    shop.is_followed().await;
    let steps = shop.complete(&id).await;
    assert_told_whole(&shop.front_end.seen().await, &steps);
}

#[tokio::test]
#[ignore = "needs chromium"]
async fn the_script_of_the_reference_learns_of_an_upload_that_had_ended_before() {
    let mut shop = Shop::open().await;
    let id = shop.upload().await;
    let steps = shop.complete(&id).await;
    shop.client.until(&id, "completed").await;
    let _browser = shop.show(&stox(&id));
    assert_told_whole(&shop.front_end.seen().await, &steps);
}

#[tokio::test]
#[ignore = "needs chromium"]
async fn the_script_of_the_reference_learns_of_a_failure_in_words() {
    let mut shop = Shop::open().await;
    let id = shop.upload().await;
    let _browser = shop.show(&stox(&id));
    shop.is_followed().await;
    let failed = json!({"name": "PictureNotFound", "message": "image1.jpg is not there"});
    let task = shop.service.task("image_processing", 1).await;
    let said =
        json!({"workflow_id": id, "step_id": task["step_id"], "success": false, "error": failed});
    assert_eq!(shop.client.post("/api/v1/workflow/step-completed", &said).await.status, 200);
    let seen = shop.front_end.seen().await;
    assert_eq!(
        seen.lines("Workflow failed:"),
        [&[json!("PictureNotFound: image1.jpg is not there")]],
        "{seen:#?}"
    );
    assert!(seen.lines("Workflow completed!").is_empty(), "{seen:#?}");
}

#[tokio::test]
#[ignore = "needs chromium"]
async fn the_script_of_the_page_shows_the_types_of_messages_and_the_code_of_the_end() {
    let mut shop = Shop::open().await;
    let id = shop.upload().await;
    shop.complete(&id).await;
    let script = fences::of_page("docs/api.md")
        .into_iter()
        .find(|block| block.kind == "browser")
        .expect("the page has a script");
    let _browser = shop.show(&format!("const id = '{id}';\n{}", script.text));
    let seen = shop.front_end.seen().await;
    let words: Vec<&Value> = seen.lines.iter().map(|line| &line[0]).collect();
    assert_eq!(words.iter().filter(|word| **word == "step_completed").count(), 3, "{seen:#?}");
    assert_eq!(words.last(), Some(&&json!(1000)), "{seen:#?}");
}
