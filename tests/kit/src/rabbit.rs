//! A RabbitMQ broker of the test's own: Debian's package, on free ports, with its own data, name
//! and cookie. It ends with the process that started it, however that ends.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::requirements;

const SERVER: &str = "/usr/lib/rabbitmq/bin/rabbitmq-server";
/// Much longer than it takes, also on a busy machine.
const PATIENCE: Duration = Duration::from_secs(120);
const COOKIE: &str = "ONLYFORTESTS";

/// Runs the broker until its standard input ends, which it does with the process that holds the
/// other end; its data goes too, unless that one said a word before. `epmd` is Erlang's directory
/// of names.
const GUARD: &str = r#"
epmd -port "$ERL_EPMD_PORT" -address 127.0.0.1 >/dev/null 2>&1 </dev/null & names=$!
"$0" >"$HOME/out" 2>&1 </dev/null & server=$!
word=$(cat)
kill -KILL "$server" "$names" 2>/dev/null
wait 2>/dev/null
[ -n "$word" ] || rm -rf "$HOME"
"#;

/// A running broker. Dropped: killed, and its data removed.
pub struct Broker {
    folder: tempfile::TempDir,
    port: u16,
    names_port: u16,
    nodes_port: u16,
    guard: Option<Child>,
}

impl Broker {
    /// Takes some seconds; returns when clients can connect.
    pub fn start() -> Self {
        assert!(is_installed(), "{}", requirements::missing("RabbitMQ", "rabbitmq-server"));
        let folder = tempfile::tempdir().expect("a folder for the broker");
        let cookie = folder.path().join(".erlang.cookie");
        std::fs::write(&cookie, COOKIE).expect("its cookie");
        restrict(&cookie);
        std::fs::write(folder.path().join("plugins"), "[].").expect("its plugins");
        std::fs::write(folder.path().join("rabbitmq.conf"), "disk_free_limit.absolute = 1MB\n")
            .expect("its configuration");
        let [port, names_port, nodes_port] = free_ports();
        let mut broker = Self { folder, port, names_port, nodes_port, guard: None };
        broker.begin();
        broker
    }

    /// `amqp://guest:guest@127.0.0.1:12345/`.
    pub fn url(&self) -> String {
        format!("amqp://guest:guest@127.0.0.1:{}/", self.port)
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// `kill -9`.
    pub fn kill(&mut self) {
        if let Some(mut guard) = self.guard.take() {
            let mut stdin = guard.stdin.take().expect("the guard listens");
            stdin.write_all(b"keep").expect("the guard listens");
            drop(stdin);
            guard.wait().expect("the broker ends");
        }
    }

    /// Starts it again with its data, at the same port; it must not run.
    pub fn begin(&mut self) {
        let home = self.folder.path();
        let file = |name: &str| home.join(name);
        let guard = Command::new("sh")
            .args(["-c", GUARD, SERVER])
            .env("HOME", home)
            .env("ERL_EPMD_PORT", self.names_port.to_string())
            .env("RABBITMQ_NODENAME", "crux@localhost")
            .env("RABBITMQ_NODE_IP_ADDRESS", "127.0.0.1")
            .env("RABBITMQ_NODE_PORT", self.port.to_string())
            .env("RABBITMQ_DIST_PORT", self.nodes_port.to_string())
            .env("RABBITMQ_MNESIA_BASE", file("data"))
            .env("RABBITMQ_LOG_BASE", file("log"))
            .env("RABBITMQ_ENABLED_PLUGINS_FILE", file("plugins"))
            .env("RABBITMQ_CONFIG_FILE", file("rabbitmq"))
            .env("RABBITMQ_GENERATED_CONFIG_DIR", file("generated"))
            .env("RABBITMQ_CONF_ENV_FILE", file("none"))
            .env("RABBITMQ_PID_FILE", file("pid"))
            // Its script then becomes the broker instead of starting it, so that there is one
            // process to end.
            .env("RABBITMQ_ALLOW_INPUT", "true")
            .env(
                "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS",
                "-noinput +sbwt none +sbwtdcpu none +sbwtdio none",
            )
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("sh runs");
        self.guard = Some(guard);
        let begun = Instant::now();
        while !self.answers() {
            assert!(begun.elapsed() < PATIENCE, "RabbitMQ does not start:\n{}", self.log());
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// Whether it greets a client: the first frame of a broker that is ready.
    fn answers(&self) -> bool {
        let Ok(mut stream) = TcpStream::connect(("127.0.0.1", self.port)) else { return false };
        let mut greeting = [0; 1];
        let asked = stream
            .set_read_timeout(Some(Duration::from_secs(5)))
            .and_then(|()| stream.write_all(b"AMQP\x00\x00\x09\x01"));
        asked.and_then(|()| stream.read_exact(&mut greeting)).is_ok() && greeting == [1]
    }

    /// Runs Erlang inside of the broker: what an operator does with `rabbitmqctl eval`, which takes
    /// seconds to start.
    pub fn eval(&self, erlang: &str) {
        let begun = Instant::now();
        // Calls that meet are refused now and then, before anything is run: then there is no answer.
        let (mut answer, mut error) = self.call(erlang);
        while answer.is_empty() && begun.elapsed() < PATIENCE {
            std::thread::sleep(Duration::from_millis(100));
            (answer, error) = self.call(erlang);
        }
        assert!(answer.starts_with("{ok"), "{erlang}: {answer}{error}");
    }

    /// What Erlang inside of the broker answers, and what the call complains of.
    fn call(&self, erlang: &str) -> (String, String) {
        let mut call = Command::new("erl_call")
            // Under a unique name: two calls of one name, or soon after each other, are
            // refused.
            .args(["-r", "-n", "crux@localhost", "-c", COOKIE, "-e"])
            .env("HOME", self.folder.path())
            .env("ERL_EPMD_PORT", self.names_port.to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("erl_call runs");
        let mut input = call.stdin.take().expect("it reads");
        // One that was refused may be gone already.
        let _ = input.write_all(format!("{erlang}\n").as_bytes());
        drop(input);
        let output = call.wait_with_output().expect("it ends");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (text(&output.stdout), text(&output.stderr))
    }

    /// Short of memory from now on, or no more: it blocks publishers.
    pub fn short_of_memory(&self, is_short: bool) {
        let memory = "{resource_limit, memory, node()}";
        self.eval(&if is_short {
            format!("rabbit_alarm:set_alarm({{{memory}, []}}).")
        } else {
            format!("rabbit_alarm:clear_alarm({memory}).")
        });
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("out")).unwrap_or_default()
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        self.kill();
    }
}

pub fn is_installed() -> bool {
    Path::new(SERVER).exists()
}

fn free_ports<const N: usize>() -> [u16; N] {
    // All together, so that they differ.
    let listeners = [(); N].map(|()| TcpListener::bind("127.0.0.1:0").expect("a free port"));
    listeners.map(|listener| listener.local_addr().expect("it has an address").port())
}

/// Erlang insists on it.
fn restrict(file: &Path) {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(file, std::fs::Permissions::from_mode(0o400))
        .expect("its rights can be set");
}
