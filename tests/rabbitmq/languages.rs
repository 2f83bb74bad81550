//! The services of `examples/services` as they are, each in its language, with the rights that
//! `docs/services.md` gives to a service and to Crux. Their libraries come by the ordinary package
//! managers.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};

use crate::kit::{Client, Server, eventually, fences, languages};
use crate::ledger::{Ledger, completed};
use crate::rabbit::Broker;
use crate::service::Line;
use crate::{BINARY, result, shared};

const QUEUE: &str = "step.image_processing";
const EXCHANGE: &str = "workflow_exchange";

/// How the service of a language is started.
type Prepare = fn(&Path) -> Vec<PathBuf>;

fn examples(language: &str) -> PathBuf {
    fences::project().join("examples/services").join(language)
}

/// Where libraries and programs of a language are kept for the next time.
fn folder(language: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("languages").join(language);
    std::fs::create_dir_all(&folder).unwrap();
    folder
}

fn python(folder: &Path) -> Vec<PathBuf> {
    let python = languages::python(folder, &examples("python").join("requirements.txt"));
    vec![python, examples("python").join("image_service.py")]
}

fn node(folder: &Path) -> Vec<PathBuf> {
    for file in ["package.json", "package-lock.json", "image_service.js"] {
        std::fs::copy(examples("node").join(file), folder.join(file)).unwrap();
    }
    vec![languages::node(folder), folder.join("image_service.js")]
}

fn go(folder: &Path) -> Vec<PathBuf> {
    let program = folder.join("image_service");
    let mut build = Command::new(languages::go());
    languages::run(build.arg("build").arg("-o").arg(&program).current_dir(examples("go")));
    vec![program]
}

/// Its own virtual host, with a user for Crux and one for the service, each with the rights
/// that the documentation gives.
fn host(broker: &Broker, name: &str) {
    broker.eval(&format!("rabbit_vhost:add(<<\"{name}\">>, <<\"test\">>)."));
    let rights = |user: &str, [configure, write, read]: [&str; 3]| {
        broker.eval(&format!(
            "rabbit_auth_backend_internal:add_user(<<\"{user}\">>, <<\"secret\">>, <<\"test\">>)."
        ));
        let rights =
            format!("<<\"{configure}\">>, <<\"{write}\">>, <<\"{read}\">>").replace('\\', "\\\\");
        broker.eval(&format!("rabbit_auth_backend_internal:set_permissions(<<\"{user}\">>, <<\"{name}\">>, {rights}, <<\"test\">>)."));
    };
    let page = std::fs::read_to_string(fences::project().join("docs/services.md")).unwrap();
    let of_page = |begins: &str| -> [String; 3] {
        let line = page
            .lines()
            .find(|line| line.starts_with(begins))
            .unwrap_or_else(|| panic!("the page has `{begins}`"));
        let patterns: Vec<String> =
            line.split('`').skip(1).step_by(2).map(|pattern| pattern.replace("\\|", "|")).collect();
        patterns
            .into_iter()
            .filter(|pattern| pattern.starts_with('^'))
            .collect::<Vec<_>>()
            .try_into()
            .unwrap()
    };
    rights(&format!("crux-{name}"), of_page("| Crux").each_ref().map(String::as_str));
    rights(&format!("image-{name}"), of_page("| a service |").each_ref().map(String::as_str));
    let all = "<<\".*\">>, <<\".*\">>, <<\".*\">>";
    broker.eval(&format!("rabbit_auth_backend_internal:set_permissions(<<\"guest\">>, <<\"{name}\">>, {all}, <<\"test\">>)."));
}

/// The service as a process. Dropped: killed.
struct Service {
    program: Vec<PathBuf>,
    environment: Vec<(&'static str, String)>,
    log: PathBuf,
    child: Child,
}

impl Service {
    fn start(
        program: Vec<PathBuf>,
        environment: Vec<(&'static str, String)>,
        log: PathBuf,
    ) -> Self {
        let child = Self::spawn(&program, &environment, &log);
        Self { program, environment, log, child }
    }

    fn spawn(program: &[PathBuf], environment: &[(&'static str, String)], log: &Path) -> Child {
        let output = std::fs::OpenOptions::new().create(true).append(true).open(log).unwrap();
        let mut command = Command::new(&program[0]);
        command
            .args(&program[1..])
            .env_remove("EXCHANGE")
            .envs(environment.iter().map(|(name, value)| (name, value)));
        command
            .stdin(Stdio::null())
            .stdout(output.try_clone().unwrap())
            .stderr(output)
            .spawn()
            .unwrap()
    }

    fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    fn start_again(&mut self) {
        self.child = Self::spawn(&self.program, &self.environment, &self.log);
    }

    fn suspend(&self) {
        let status =
            Command::new("kill").args(["-STOP", &self.child.id().to_string()]).status().unwrap();
        assert!(status.success());
    }

    fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    async fn says(&self, what: &str, times: usize) {
        eventually(&format!("the service says {what}"), async || {
            (self.log().matches(what).count() >= times).then_some(())
        })
        .await;
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            eprintln!("--- log of the service ---\n{}", self.log());
        }
    }
}

fn product(name: &str, picture: &str) -> Value {
    let mut product = crate::product(name);
    product["images"] = json!([picture]);
    product
}

async fn upload(client: &Client, name: &str, picture: &str) -> String {
    let answer = client
        .post_with("/api/v1/workflow/upload", &[("idempotency-key", name)], &product(name, picture))
        .await;
    assert_eq!(answer.status, 202, "{:?}", answer.body);
    answer.text("workflow_id")
}

/// What the status document says of the step of the service.
async fn step(client: &Client, id: &str) -> Value {
    client.status(id).await["definition"]["steps"][0].clone()
}

async fn serves(language: &'static str, prepare: Prepare) {
    let program = tokio::task::block_in_place(|| prepare(&folder(language)));
    let broker = shared().await;
    tokio::task::block_in_place(|| host(&broker, language));
    let url = |user: &str| format!("amqp://{user}@127.0.0.1:{}/{language}", broker.port());
    let crux = url(&format!("crux-{language}:secret"));
    let server = Server::start(
        BINARY,
        &format!("bus: rabbitmq\nrabbitmq: {{ url: '{crux}', retry_delay: 200ms }}\n"),
    );
    let client = server.client();
    let line = Line::open(&url("guest:guest"), EXCHANGE).await;
    let _others = line.services_of(&["ai_enhancement", "seo_generation"], result).await;
    let files = tempfile::tempdir().unwrap();
    let pictures = files.path().join("pictures");
    std::fs::create_dir(&pictures).unwrap();
    std::fs::write(pictures.join("chair.png"), "").unwrap();
    let environment = vec![
        ("RABBITMQ_URL", url(&format!("image-{language}:secret"))),
        ("PICTURES", pictures.display().to_string()),
    ];
    let mut service = Service::start(program, environment, files.path().join("log"));
    service.says("ready", 1).await;

    // What it cannot read holds up nobody.
    line.publish("step.image_processing", "poison", b"{not json").await;
    line.publish("step.image_processing", "poison", b"[]").await;
    service.says("unreadable", 2).await;
    // One upload. The picture is there.
    let chair = upload(&client, "chair", "chair.png").await;
    let document = completed(&client, &chair).await;
    assert_eq!(document["output"]["images"], json!(["chair.webp"]));
    assert_eq!(document["definition"]["steps"][0]["attempts"], 1);

    // One that is not there yet: the attempt fails, and another is made.
    let table = upload(&client, "table", "table.png").await;
    let why = eventually("the attempt fails", async || {
        Some(step(&client, &table).await["error"].as_str()?.to_owned())
            .filter(|error| !error.is_empty())
    })
    .await;
    assert!(why.contains("table.png is not there yet"), "{why}");
    std::fs::write(pictures.join("table.png"), "").unwrap();
    let document = completed(&client, &table).await;
    assert_eq!(document["output"]["images"], json!(["table.webp"]));
    assert!(document["definition"]["steps"][0]["attempts"].as_u64().unwrap() > 1);

    // One that never will be: it is said to be final, and no other attempt is made.
    let list = upload(&client, "list", "list.txt").await;
    let document = client.until(&list, "failed").await;
    assert_eq!(
        (&document["error_name"], &document["error"]),
        (&json!("PictureUnreadable"), &json!("PictureUnreadable: list.txt is no picture"))
    );
    assert_eq!(document["definition"]["steps"][0]["attempts"], 1);

    // It dies with a task in hand: the next one gets it, and for Crux it is the same attempt.
    service.suspend();
    let lamp = upload(&client, "lamp", "chair.png").await;
    eventually("the task is with the service", async || {
        let why = client.status(&lamp).await["current_steps"][0]["waits_for"]
            .as_str()
            .unwrap_or_default()
            .to_owned();
        (why.contains("result of attempt 1") && line.waiting(QUEUE).await == 0).then_some(())
    })
    .await;
    service.kill();
    eventually("the broker takes it back", async || (line.waiting(QUEUE).await == 1).then_some(()))
        .await;
    service.start_again();
    let document = completed(&client, &lamp).await;
    assert_eq!(document["definition"]["steps"][0]["attempts"], 1);

    let starts = [("chair", chair), ("table", table), ("lamp", lamp)];
    let ledger = Ledger {
        starts: starts.map(|(request, id)| (request.to_owned(), id)).into(),
        ..Default::default()
    };
    ledger.audit_instances(&[&server]).await;
    for queue in [QUEUE, "crux.completions", "crux.events", "crux.dead"] {
        assert_eq!(line.waiting(queue).await, 0, "{queue}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs rabbitmq-server and python3-venv"]
async fn a_service_in_python_does_its_step() {
    serves("python", python).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs rabbitmq-server and node and npm"]
async fn a_service_in_node_does_its_step() {
    serves("node", node).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs rabbitmq-server and go"]
async fn a_service_in_go_does_its_step() {
    serves("go", go).await;
}
