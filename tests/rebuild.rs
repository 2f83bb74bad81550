//! A separate package, as a newcomer makes it from `docs/package.md`, and what happens to it when
//! its pipelines change.

use std::sync::{Mutex, MutexGuard, PoisonError};

use crux_test_kit::console::{Session, commands};
use crux_test_kit::fences::{self, Block};
use crux_test_kit::package::Package;
use crux_test_kit::{Redis, Server, eventually, fences::of_page};
use serde_json::json;

const PAGE: &str = "docs/package.md";
const GREETING: &str = "pipelines/greeting.yaml";

/// The files of the page and no others, built. There is one such package, and one test at a time
/// has it.
fn package_of_the_page() -> (Package, MutexGuard<'static, ()>) {
    static ONE: Mutex<()> = Mutex::new(());
    let turn = ONE.lock().unwrap_or_else(PoisonError::into_inner);
    let package = Package::in_folder("greetings");
    package.keep_only("pipelines", &[GREETING]);
    for block in of_page(PAGE) {
        match block.kind.as_str() {
            // The clone is not beside it, and a package inside of the workspace's folder has to say
            // that it is none of its members.
            "Cargo.toml" => {
                let crux = fences::project().display().to_string();
                package.write(
                    "Cargo.toml",
                    &format!("{}\n[workspace]\n", block.text.replace("../crux", &crux)),
                );
            }
            "run" | "broken" | "tools" => {}
            file => package.write(file, &block.text),
        }
    }
    package.build();
    (package, turn)
}

fn serve(package: &Package) -> Server {
    Server::start(&package.binary(), "")
}

fn block(kind: &str) -> Block {
    of_page(PAGE).into_iter().find(|block| block.kind == kind).expect("the page has this block")
}

/// What a workflow greets Ada with; the error's text if it does not.
fn greeted(server: &Server, workflow: &str) -> Result<String, String> {
    let output = server.run(&[
        "start",
        workflow,
        "--input",
        r#"{"name": "Ada"}"#,
        "--wait",
        "30s",
        "--json",
    ]);
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into_owned());
    }
    let answer: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    Ok(answer["document"]["output"]["text"].as_str().expect("a text").to_owned())
}

#[test]
fn the_package_of_the_page_runs() {
    let (package, _turn) = package_of_the_page();
    Session::of(&serve(&package)).run(&block("run"));
}

/// They read the pipelines of the folder, so they need no build of the package.
#[test]
fn the_tools_of_the_clone_read_the_pipelines_of_the_package() {
    let folder = tempfile::tempdir().expect("a folder");
    let pipeline = block(GREETING);
    std::fs::create_dir(folder.path().join("pipelines")).expect("a folder");
    std::fs::write(folder.path().join(GREETING), pipeline.text).expect("a file");
    for (command, shown) in commands(&block("tools").text) {
        let command = command.replace("crux ", &format!("{} ", env!("CARGO_BIN_EXE_crux")));
        let output = std::process::Command::new("bash")
            .args(["-euc", &command])
            .current_dir(folder.path())
            .output()
            .expect("bash runs");
        assert!(output.status.success(), "{command}: {}", String::from_utf8_lossy(&output.stderr));
        assert_eq!(String::from_utf8_lossy(&output.stdout), shown, "$ {command}");
    }
    for (file, begins) in [("greeting.rs", "//"), ("pipeline.schema.json", "{")] {
        let written = std::fs::read_to_string(folder.path().join(file)).expect("a file");
        assert!(written.starts_with(begins), "{file}: {written}");
    }
}

#[test]
fn a_build_without_a_change_does_nothing() {
    let (package, _turn) = package_of_the_page();
    let said = package.build();
    let acts = ["Compiling", "Dirty", "Running"];
    let acted: Vec<&str> = said
        .lines()
        .filter(|line| acts.iter().any(|act| line.trim_start().starts_with(act)))
        .collect();
    assert!(acted.is_empty(), "{acted:#?}");
    assert!(said.contains("Fresh greetings v0.1.0"), "{said}");
}

#[test]
fn edited_added_renamed_and_deleted_pipelines_are_in_the_next_build() {
    let (package, _turn) = package_of_the_page();
    package.replace(GREETING, "name: ${input.name}", "name: dear ${input.name}");
    let said = package.build();
    assert_eq!(
        said.matches("build-script-build`").count(),
        1,
        "the build script runs once:\n{said}"
    );
    assert_eq!(
        said.matches("Compiling ").count(),
        1,
        "of all packages only this one is compiled:\n{said}"
    );
    assert_eq!(greeted(&serve(&package), "greeting").as_deref(), Ok("Hello, dear Ada!"));

    // A second workflow with the same step type, whose contract moves to its own file.
    package.replace(GREETING, "    class: GreetStep\n", "");
    package.replace(GREETING, "    returns: { text: string }\n", "");
    package.write(
        "pipelines/contracts.yaml",
        "step_types:\n  greet:\n    class: GreetStep\n    takes: { name: string }\n    returns: { text: string }\n",
    );
    package.write(
        "pipelines/farewell.yaml",
        &package.read(GREETING).replace("greeting", "farewell").replace("dear", "and goodbye,"),
    );
    package.build();
    let server = serve(&package);
    assert_eq!(greeted(&server, "greeting").as_deref(), Ok("Hello, dear Ada!"));
    assert_eq!(greeted(&server, "farewell").as_deref(), Ok("Hello, and goodbye, Ada!"));

    // A workflow is named as its file.
    package.rename("pipelines/farewell.yaml", "pipelines/goodbye.yaml");
    package.replace("pipelines/goodbye.yaml", "farewell", "goodbye");
    package.build();
    let server = serve(&package);
    assert_eq!(greeted(&server, "goodbye").as_deref(), Ok("Hello, and goodbye, Ada!"));
    assert!(
        greeted(&server, "farewell").is_err_and(|error| error.contains("`farewell`")),
        "it is still there"
    );

    package.delete("pipelines/goodbye.yaml");
    package.build();
    let server = serve(&package);
    assert_eq!(greeted(&server, "greeting").as_deref(), Ok("Hello, dear Ada!"));
    assert!(
        greeted(&server, "goodbye").is_err_and(|error| error.contains("`goodbye`")),
        "it is still there"
    );
}

#[test]
fn a_broken_pipeline_is_shown_where_it_is_broken_and_builds_again_when_it_is_fixed() {
    let (package, _turn) = package_of_the_page();
    package.replace(GREETING, "input.name", "input.nmae");
    let page = block("broken");
    let (_, shown) = page.text.split_once('\n').expect("a command and its output");
    // Cargo does not take the failure for done.
    for _ in 0..2 {
        let said = package.broken_build();
        assert!(said.contains(shown), "{}: this was shown instead:\n{said}", page.place);
        // No panic, nothing of Cargo's own about a script that failed, and no error that follows
        // from the first.
        for word in [
            "panicked",
            "--- stdout",
            "--- stderr",
            "didn't exit successfully",
            "cargo::",
            "build-script-build",
            "error[E",
        ] {
            assert!(!said.contains(word), "`{word}` in:\n{said}");
        }
    }
    package
        .write("pipelines/letter.yaml", "workflow: letter\nversion: 1\nsteps:\n  - type: post\n    with: { to: \"${input.address}\" }\n");
    let said = package.broken_build();
    for place in ["--> pipelines/greeting.yaml:14:21", "--> pipelines/letter.yaml:5:26"] {
        assert!(said.contains(place), "no `{place}` in:\n{said}");
    }
    package.delete("pipelines/letter.yaml");
    package.replace(GREETING, "input.nmae", "input.name");
    package.build();
    assert_eq!(greeted(&serve(&package), "greeting").as_deref(), Ok("Hello, Ada!"));
}

/// A program of this greeting and version, apart from where the next build puts its own.
fn program(package: &Package, version: u32, greeting: &str) -> tempfile::TempDir {
    let page = block(GREETING).text;
    let rests = page.replace("steps:\n", "steps:\n  - sleep: 3s\n");
    let text = rests
        .replace("version: 1", &format!("version: {version}"))
        .replace("${input.name}", greeting);
    package.write(GREETING, &text);
    package.build();
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::copy(package.binary(), folder.path().join("greetings"))
        .expect("the program can be copied");
    folder
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs redis-server"]
#[expect(clippy::await_holding_lock, reason = "nothing else runs on this test's threads")]
async fn nodes_of_two_builds_work_together_and_a_rollback_loses_nothing() {
    let (package, _turn) = package_of_the_page();
    let (old, new) =
        (program(&package, 1, "old ${input.name}"), program(&package, 2, "new ${input.name}"));
    let redis = Redis::start();
    let config = format!(
        "store: {{ kind: redis }}\nredis: {{ host: 127.0.0.1, lease: 1500ms, port: {} }}\n",
        redis.port()
    );
    let node = |program: &tempfile::TempDir| {
        Server::start(&program.path().join("greetings").display().to_string(), &config)
    };
    let end = |mut node: Server| {
        node.tell_to_end();
        assert!(node.ended().success());
    };
    let start = async |node: &Server| {
        node.client().start("/api/v1/workflow/greeting", &json!({"name": "Ada"})).await
    };
    let said = async |node: &Server, id: &str| {
        let document = node.client().until(id, "completed").await;
        (document["version"].clone(), document["output"]["text"].clone())
    };
    let of = |version: u32, text: &str| (json!(version), json!(text));

    // Of two old nodes one makes way for a new one. What it has begun, the other goes on with;
    // either answers for it.
    let (a, b) = (node(&old), node(&old));
    let first = start(&a).await;
    end(a);
    let a = node(&new);
    assert_eq!(said(&a, &first).await, of(1, "Hello, old Ada!"));
    assert_eq!(said(&b, &first).await, of(1, "Hello, old Ada!"));

    // Together, each on its own version, and each answers for both.
    let (second, third) = (start(&a).await, start(&b).await);
    assert_eq!(said(&b, &second).await, of(2, "Hello, new Ada!"));
    assert_eq!(said(&a, &third).await, of(1, "Hello, old Ada!"));

    // The last old node goes with an instance of its version: it is shown, and waits for such a
    // node.
    let fourth = start(&b).await;
    end(b);
    eventually("it is seen that no node has its definition", async || {
        let health = a.client().get("/health").await.json();
        (health["definitions"]["status"] == "failing").then_some(())
    })
    .await;
    let document = a.client().status(&fourth).await;
    assert_eq!(
        (&document["version"], &document["metadata"]["status"]),
        (&json!(1), &json!("waiting")),
        "{document:#}"
    );

    // The new version is taken back. Its instances wait as well, until it comes again.
    let fifth = start(&a).await;
    end(a);
    let b = node(&old);
    assert_eq!(said(&b, &fourth).await, of(1, "Hello, old Ada!"));
    assert_eq!(b.client().status(&fifth).await["metadata"]["status"], "waiting");
    let a = node(&new);
    assert_eq!(said(&b, &fifth).await, of(2, "Hello, new Ada!"));
    drop((a, b));
    // The page's own pipeline again, for the next test.
    package.write(GREETING, &block(GREETING).text);
}
