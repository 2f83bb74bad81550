//! The services of `examples/services` that attach by gRPC, as they are.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use serde_json::json;

use crate::kit::{Server, eventually, fences, languages};
use crate::{BINARY, folder, protoc, python};

/// A service as a process. Dropped: killed.
struct Service(Child);

impl Service {
    fn start(command: &mut Command, server: &Server) -> Self {
        command.env("CRUX_SERVER", server.address()).stdout(Stdio::null());
        Self(command.spawn().unwrap())
    }

    fn kill(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        if matches!(self.0.try_wait(), Ok(None)) {
            self.kill();
        }
    }
}

fn in_python() -> Command {
    let (python, code) = python();
    let mut command = Command::new(python);
    command.arg(fences::project().join("examples/services/python/grpc_service.py"));
    command.env("PYTHONPATH", code);
    command
}

/// Built as `docs/grpc.md` says.
fn in_go() -> PathBuf {
    let (tools, source) = (folder("go-tools"), folder("go-source"));
    languages::go_tool(&tools, "google.golang.org/protobuf/cmd/protoc-gen-go@v1.35.1");
    languages::go_tool(&tools, "google.golang.org/grpc/cmd/protoc-gen-go-grpc@v1.5.1");
    for file in ["go.mod", "go.sum", "main.go"] {
        let from = fences::project().join("examples/services/go_grpc").join(file);
        std::fs::copy(from, source.join(file)).unwrap();
    }
    let mut generate = protoc(&python().0);
    for kind in ["go", "go-grpc"] {
        let package = "Mcrux/v1/crux.proto=example.com/image/crux/v1";
        generate.arg(format!("--{kind}_out=.")).arg(format!("--{kind}_opt={package}"));
        generate.arg(format!("--{kind}_opt=paths=source_relative"));
    }
    let path = std::env::var("PATH").unwrap_or_default();
    generate.env("PATH", format!("{}:{path}", tools.display()));
    languages::run(generate.current_dir(&source));
    let program = source.join("image_service");
    let mut build = Command::new(languages::go());
    languages::run(build.args(["build", "-o"]).arg(&program).arg(".").current_dir(&source));
    program
}

/// It does its steps, and again when the server has been away or the service has died.
async fn serves(mut service: impl FnMut() -> Command) {
    let mut server = Server::start(BINARY, "");
    let mut running = Service::start(&mut service(), &server);
    let attached = async |server: &Server, count: usize| {
        eventually("the service is attached", async || {
            let workers = server.client().get("/api/v1/workers").await.json();
            (workers["attached"].as_array().map(Vec::len) == Some(count)).then_some(())
        })
        .await;
    };
    attached(&server, 1).await;
    let done = async |server: &Server| {
        let product = json!({
            "name": "Chair", "description": "", "images": ["chair.png"], "category": "Seats", "price": 1
        });
        let id = server.client().start("/api/v1/workflow/upload", &product).await;
        let output = eventually("the step is done", async || {
            let document = server.client().status(&id).await;
            let step = document["definition"]["steps"][0].clone();
            (step["state"] == "completed").then(|| step["output"].clone())
        })
        .await;
        assert_eq!(output["processed_images"], json!(["chair.webp"]));
    };
    done(&server).await;
    running.kill();
    attached(&server, 0).await;
    let _another = Service::start(&mut service(), &server);
    done(&server).await;
    let port = server.port().to_string();
    server.kill();
    server.restart_with(&["--port", &port]);
    attached(&server, 1).await;
    done(&server).await;
}

#[tokio::test]
#[ignore = "needs python3-venv"]
async fn a_service_in_python_attaches_and_does_its_step() {
    serves(in_python).await;
}

#[tokio::test]
#[ignore = "needs python3-venv and go"]
async fn a_service_in_go_attaches_and_does_its_step() {
    let program = in_go();
    serves(|| Command::new(&program)).await;
}
