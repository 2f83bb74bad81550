//! Private Redis servers for tests: on free ports, with their own folders, stopped by their own
//! ids.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::requirements;

/// How long a server may take for a command.
const PATIENCE: Duration = Duration::from_secs(20);

/// One server. It ends when this is dropped, and also when this process ends in whatever way.
pub struct Redis {
    folder: tempfile::TempDir,
    port: u16,
    settings: Vec<(String, String)>,
    running: Option<Running>,
}

/// A shell that starts the server, says its id and kills it when our end of its input is closed:
/// statics are never dropped, and a test process may be killed.
struct Running {
    watch: Child,
    pid: u32,
}

const WATCH: &str = r#"redis-server "$@" </dev/null >log 2>&1 & echo $!; read -r _; kill -KILL $! 2>/dev/null; wait $! 2>/dev/null"#;

impl Redis {
    /// A server that syncs its log before each answer.
    pub fn start() -> Self {
        Self::start_with(&[("appendonly", "yes"), ("appendfsync", "always")])
    }

    /// With these settings and no others: nothing is kept unless they say so.
    pub fn start_with(settings: &[(&str, &str)]) -> Self {
        assert!(is_installed(), "{}", requirements::missing("Redis", "redis-server"));
        let settings =
            settings.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        let folder = tempfile::tempdir().expect("a folder for the server");
        let mut redis = Self { folder, port: 0, settings, running: None };
        // A port that is free now may be taken a moment later.
        for _ in 0..5 {
            redis.port = free_port();
            if redis.try_run() {
                return redis;
            }
        }
        panic!("the server does not start:\n{}", redis.log());
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// Of the running server.
    pub fn pid(&self) -> u32 {
        self.running.as_ref().expect("the server runs").pid
    }

    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    pub fn is_running(&self) -> bool {
        self.running.is_some()
    }

    /// As a power cut does, as far as the process is concerned.
    pub fn kill(&mut self) {
        if let Some(Running { mut watch, pid: _ }) = self.running.take() {
            drop(watch.stdin.take());
            watch.wait().expect("the shell ends");
        }
    }

    /// Starts it again on the same port and folder.
    pub fn restart(&mut self) {
        self.kill();
        assert!(self.try_run(), "the server does not start again:\n{}", self.log());
    }

    /// SIGSTOP and SIGCONT: it hangs, and goes on.
    pub fn hang(&self, hangs: bool) {
        let pid = self.pid();
        let status = Command::new("kill")
            .args([if hangs { "-STOP" } else { "-CONT" }, &pid.to_string()])
            .status()
            .expect("kill runs");
        assert!(status.success());
    }

    /// Sends a command; its answer as text, lists with one item per line.
    pub fn command(&self, words: &[&str]) -> String {
        command(self.port, words)
            .unwrap_or_else(|error| panic!("{words:?}: {error}; the server's log:\n{}", self.log()))
    }

    fn try_run(&mut self) -> bool {
        let port = self.port.to_string();
        let folder = self.folder.path();
        let mut shell = Command::new("sh");
        shell
            .args([
                "-c",
                WATCH,
                "watch",
                "--port",
                &port,
                "--bind",
                "127.0.0.1",
                "--save",
                "",
                "--dir",
            ])
            .arg(folder);
        for (key, value) in &self.settings {
            shell.arg(format!("--{key}")).arg(value);
        }
        let mut watch = shell
            .current_dir(folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("a shell starts");
        let mut pid = String::new();
        let said = watch.stdout.take().map(|stdout| BufReader::new(stdout).read_line(&mut pid));
        assert!(matches!(said, Some(Ok(_))), "the shell says nothing");
        self.running = Some(Running { watch, pid: pid.trim().parse().expect("the server's id") });
        let begun = Instant::now();
        while begun.elapsed() < PATIENCE {
            // It may still be reading its log; one with a password answers as well, in its way.
            match command(self.port, &["PING"]) {
                Ok(answer) if answer == "PONG" => return true,
                Err(error) if error.to_string().starts_with("NOAUTH") => return true,
                _ => {}
            }
            if self.log().contains("Failed listening on port") {
                break;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        self.kill();
        false
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Three masters that share the slots, and perhaps a replica of each.
pub struct Cluster {
    /// First those that begin as masters, then the replicas in the same order.
    pub nodes: Vec<Redis>,
}

impl Cluster {
    pub fn start() -> Self {
        Self::of(3)
    }

    pub fn with_replicas() -> Self {
        let cluster = Self::of(6);
        for n in 0..3 {
            let id = cluster.nodes[n].command(&["CLUSTER", "MYID"]);
            wait("the replica knows its master", || {
                cluster.nodes[n + 3].command(&["CLUSTER", "NODES"]).contains(&id)
            });
            cluster.nodes[n + 3].command(&["CLUSTER", "REPLICATE", &id]);
        }
        cluster.wait_until_whole();
        cluster
    }

    fn of(count: usize) -> Self {
        let start = || {
            let bus = free_port().to_string();
            let settings = [
                ("appendonly", "yes"),
                ("appendfsync", "always"),
                ("cluster-enabled", "yes"),
                ("cluster-port", bus.as_str()),
                ("cluster-node-timeout", "2000"),
                ("cluster-replica-validity-factor", "0"),
                ("repl-diskless-sync-delay", "0"),
            ];
            (Redis::start_with(&settings), bus)
        };
        let nodes: Vec<(Redis, String)> = (0..count).map(|_| start()).collect();
        for ((node, _), (n, slots)) in
            nodes.iter().zip([(1, "0 5461"), (2, "5462 10922"), (3, "10923 16383")])
        {
            let (first, last) = slots.split_once(' ').expect("two numbers");
            node.command(&["CLUSTER", "ADDSLOTSRANGE", first, last]);
            node.command(&["CLUSTER", "SET-CONFIG-EPOCH", &n.to_string()]);
        }
        let (first, bus) = &nodes[0];
        for (other, _) in &nodes[1..] {
            other.command(&["CLUSTER", "MEET", "127.0.0.1", &first.port().to_string(), bus]);
        }
        let cluster = Self { nodes: nodes.into_iter().map(|(node, _)| node).collect() };
        wait("the cluster comes up", || {
            cluster
                .nodes
                .iter()
                .all(|node| node.command(&["CLUSTER", "INFO"]).contains("cluster_state:ok"))
        });
        cluster
    }

    pub fn url(&self) -> String {
        self.nodes[0].url()
    }

    pub fn slot_of(&self, key: &str) -> u16 {
        self.nodes[0].command(&["CLUSTER", "KEYSLOT", key]).parse().expect("a slot")
    }

    /// Of that pair, the one that is the master now.
    pub fn master(&self, pair: usize) -> usize {
        [pair, pair + 3]
            .into_iter()
            .find(|n| self.is_master(*n))
            .expect("one of the two is the master")
    }

    /// The other one of a pair.
    pub fn replica_of(&self, master: usize) -> usize {
        (master + 3) % 6
    }

    fn is_master(&self, node: usize) -> bool {
        self.myself(node).is_some_and(|line| line.contains("myself,master"))
    }

    /// What a node says of itself.
    fn myself(&self, node: usize) -> Option<String> {
        let said = self.nodes[node].command(&["CLUSTER", "NODES"]);
        said.lines().find(|line| line.contains("myself")).map(str::to_owned)
    }

    pub fn has(&self, node: usize, slot: u16) -> bool {
        let line = self.myself(node).unwrap_or_default();
        let has = |words: &str| {
            let (first, last) = words.split_once('-').unwrap_or((words, words));
            first.parse().is_ok_and(|first: u16| {
                last.parse().is_ok_and(|last: u16| (first..=last).contains(&slot))
            })
        };
        line.split(' ').skip(8).any(has)
    }

    /// As `redis-cli --cluster reshard` does it; in the middle of it, it takes its time.
    pub fn move_slot(&self, slot: u16, from: usize, to: usize, pause: Duration) {
        let (slot, port) = (slot.to_string(), self.nodes[to].port().to_string());
        let (giver, taker) = (&self.nodes[from], &self.nodes[to]);
        let [giver_id, taker_id] = [giver, taker].map(|node| node.command(&["CLUSTER", "MYID"]));
        taker.command(&["CLUSTER", "SETSLOT", &slot, "IMPORTING", &giver_id]);
        giver.command(&["CLUSTER", "SETSLOT", &slot, "MIGRATING", &taker_id]);
        for n in 0.. {
            let keys = giver.command(&["CLUSTER", "GETKEYSINSLOT", &slot, "10"]);
            if keys.is_empty() {
                break;
            }
            let mut migrate = vec!["MIGRATE", "127.0.0.1", &port, "", "0", "5000", "KEYS"];
            migrate.extend(keys.lines());
            giver.command(&migrate);
            if n == 0 {
                std::thread::sleep(pause);
            }
        }
        taker.command(&["CLUSTER", "SETSLOT", &slot, "NODE", &taker_id]);
        giver.command(&["CLUSTER", "SETSLOT", &slot, "NODE", &taker_id]);
    }

    /// Until that node is a master, and the cluster works.
    pub fn wait_until_master(&self, node: usize) {
        wait("a replica takes over", || {
            self.is_master(node)
                && self.nodes[node].command(&["CLUSTER", "INFO"]).contains("cluster_state:ok")
        });
    }

    /// Until all nodes know each other, and all replicas are up to date.
    pub fn wait_until_whole(&self) {
        wait("the cluster is whole", || {
            (0..self.nodes.len()).all(|node| {
                let (info, replication) = (
                    self.nodes[node].command(&["CLUSTER", "INFO"]),
                    self.nodes[node].command(&["INFO", "replication"]),
                );
                info.contains("cluster_state:ok")
                    && (replication.contains("role:master")
                        || replication.contains("master_link_status:up"))
                    && !self.nodes[node].command(&["CLUSTER", "NODES"]).contains("fail")
            })
        });
    }
}

fn wait(what: &str, mut is_so: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < PATIENCE, "{what}: not within {PATIENCE:?}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("it has an address").port()
}

/// One command on its own connection.
fn command(port: u16, words: &[&str]) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut request = format!("*{}\r\n", words.len());
    for word in words {
        request.push_str(&format!("${}\r\n{word}\r\n", word.len()));
    }
    stream.write_all(request.as_bytes())?;
    answer(&mut BufReader::new(stream))
}

fn answer(from: &mut impl BufRead) -> std::io::Result<String> {
    let mut line = String::new();
    from.read_line(&mut line)?;
    let (kind, rest) =
        line.trim_end().split_at_checked(1).ok_or(std::io::ErrorKind::UnexpectedEof)?;
    let length = rest.parse::<i64>().unwrap_or(-1);
    match kind {
        "-" => Err(std::io::Error::other(rest.to_owned())),
        "$" if length >= 0 => {
            let mut text = vec![0; usize::try_from(length).unwrap_or(0) + 2];
            from.read_exact(&mut text)?;
            text.truncate(text.len() - 2);
            String::from_utf8(text).map_err(std::io::Error::other)
        }
        "$" => Ok(String::new()),
        "*" => {
            let items =
                (0..length).map(|_| answer(from)).collect::<std::io::Result<Vec<String>>>()?;
            Ok(items.join("\n"))
        }
        _ => Ok(rest.to_owned()),
    }
}

pub fn is_installed() -> bool {
    Command::new("redis-server")
        .arg("--version")
        .stdout(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}
