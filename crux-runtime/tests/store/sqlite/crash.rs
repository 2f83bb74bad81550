//! Processes that die while they append: what was answered is there afterwards. The ledger of
//! answers is kept outside, by the parent that reads what the child prints.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use crux_runtime::id::InstanceId;
use crux_runtime::machine::Time;
use crux_runtime::store::{Append, Appended, Seq, Settled, Status, Store};

use super::open;
use crate::harness::{T0, done, end, event, id, next, one, request, start, text};

const FOLDER: &str = "CRUX_TEST_STORE";
const ROUND: &str = "CRUX_TEST_ROUND";

/// Rows of a life that ends.
const ROWS: Seq = 8;

/// What a child says that was answered: one word and one instance's number per line, and the number
/// of the row.
#[derive(Default)]
struct Ledger {
    rows: HashMap<u64, Seq>,
    settled: HashMap<u64, Seq>,
    events: Vec<String>,
}

impl Ledger {
    fn read(&mut self, line: &str) {
        let words: Vec<&str> = line.split(' ').collect();
        match words[..] {
            ["row", n, seq] => drop(self.rows.insert(n.parse().unwrap(), seq.parse().unwrap())),
            ["settled", n, seq] => {
                self.settled.insert(n.parse().unwrap(), seq.parse().unwrap());
            }
            ["event", id] => self.events.push(id.to_owned()),
            // The test runner's own lines.
            _ => {}
        }
    }

    /// All that was answered is in the store, and nothing else but what was on its way.
    async fn check(&self, folder: &Path) {
        let store = open(folder);
        let unsettled = store.unsettled(None, usize::MAX).await.unwrap();
        for (n, answered) in &self.rows {
            let rows = store.rows(id(*n), 0, usize::MAX).await.unwrap();
            let count = Seq::try_from(rows.len()).unwrap();
            assert!(
                (*answered..=answered + 1).contains(&count),
                "instance {n}: {answered} rows were answered, {count} are there"
            );
            for (row, seq) in rows.iter().zip(1..) {
                assert_eq!((row.seq, &*row.row), (seq, text(id(*n), seq).as_str()));
            }
            let status = store.record(id(*n)).await.unwrap().unwrap().status;
            assert_eq!(
                status,
                if count == ROWS { Status::Completed } else { Status::Processing },
                "instance {n}"
            );
            if self.settled.get(n) != Some(&count) {
                assert!(
                    unsettled.contains(&id(*n)),
                    "instance {n} has something to do and would be forgotten"
                );
            }
            let used = one(&store, with_request(9_000_000 + n, *n)).await.unwrap();
            assert!(
                matches!(used, Appended::Used { instance, same_input: true } if instance == id(*n)),
                "{used:?}"
            );
        }
        let kept: Vec<String> = store
            .kept("paid".to_owned(), None, Time(0))
            .await
            .unwrap()
            .into_iter()
            .map(|event| event.id)
            .collect();
        for event in &self.events {
            assert!(kept.contains(event), "event {event} is lost");
        }
        store.close().await.unwrap();
    }
}

fn with_request(n: u64, request_of: u64) -> Append {
    let mut append = start(id(n));
    append.start.as_mut().unwrap().request = Some(request(&format!("r{request_of}"), 1));
    append
}

/// What the children of the tests below run, until they are killed.
async fn child(folder: &Path) {
    let round: u64 = std::env::var(ROUND).unwrap().parse().unwrap();
    let store = open(folder);
    let mut number = round * 100_000;
    let mut lives: Vec<(u64, Seq)> = Vec::new();
    loop {
        while lives.len() < 40 {
            number += 1;
            lives.push((number, 0));
        }
        let append = |(n, seq): &(u64, Seq)| match *seq + 1 {
            1 => with_request(*n, *n),
            ROWS => end(id(*n), ROWS, Status::Completed, T0, 1_000_000_000),
            seq => next(id(*n), seq),
        };
        done(&store, lives.iter().map(append).collect()).await;
        let mut lines = String::new();
        for (n, seq) in &mut lives {
            *seq += 1;
            lines.push_str(&format!("row {n} {seq}\n"));
        }
        // Some are settled: those that have ended, and some that wait.
        let settled: Vec<(u64, Seq)> = lives
            .iter()
            .filter(|(n, seq)| *seq == ROWS || (n + u64::from(*seq)) % 5 == 0)
            .copied()
            .collect();
        let mark = |(n, seq): &(u64, Seq)| Settled {
            instance: id(*n),
            seq: *seq,
            wake_at: (*seq < ROWS).then_some(Time(5)),
        };
        store.settle(settled.iter().map(mark).collect()).await.unwrap();
        settled.iter().for_each(|(n, seq)| lines.push_str(&format!("settled {n} {seq}\n")));
        lives.retain(|(_, seq)| *seq < ROWS);
        if number.is_multiple_of(3) {
            store.keep(vec![event("paid", None, &format!("e{number}"), 1, 2)]).await.unwrap();
            lines.push_str(&format!("event e{number}\n"));
        }
        std::io::stdout().lock().write_all(lines.as_bytes()).unwrap();
    }
}

/// A child runs this test, which sees that it is one.
const THIS: &str = "sqlite::crash::nothing_that_was_answered_is_lost_when_the_process_is_killed";

fn start_child(mut command: Command, folder: &Path, round: u64) -> Child {
    command.args(["--exact", THIS, "--nocapture"]);
    command
        .env(FOLDER, folder)
        .env(ROUND, round.to_string())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

/// Reads until the child has died.
fn read_to_the_end(child: &mut Child, ledger: &mut Ledger) -> ExitStatus {
    let lines = BufReader::new(child.stdout.take().unwrap()).split(b'\n');
    for line in lines {
        // The last line may be cut off: then it does not count.
        if let Ok(line) = String::from_utf8(line.unwrap()) {
            ledger.read(&line);
        }
    }
    child.wait().unwrap()
}

#[tokio::test]
async fn nothing_that_was_answered_is_lost_when_the_process_is_killed() {
    if let Some(folder) = std::env::var_os(FOLDER) {
        return child(Path::new(&folder)).await;
    }
    let folder = tempfile::tempdir().unwrap();
    let mut ledger = Ledger::default();
    for round in 1..=20 {
        let before = ledger.rows.len();
        let mut child =
            start_child(Command::new(std::env::current_exe().unwrap()), folder.path(), round);
        let pid = child.id();
        let killer = std::thread::spawn(move || {
            // A different moment each time.
            std::thread::sleep(Duration::from_millis(60 + round * 37 % 200));
            assert!(
                Command::new("kill").args(["-9", &pid.to_string()]).status().unwrap().success()
            );
        });
        let status = read_to_the_end(&mut child, &mut ledger);
        killer.join().unwrap();
        assert!(!status.success());
        if round > 1 && ledger.rows.len() == before {
            eprintln!("round {round}: killed before anything was answered");
        }
        ledger.check(folder.path()).await;
    }
    assert!(
        ledger.rows.len() > 200,
        "too little was answered to say anything: {} instances",
        ledger.rows.len()
    );
    let instances: Vec<InstanceId> = ledger.rows.keys().map(|n| id(*n)).collect();
    assert_eq!(instances.len(), ledger.rows.len());
}

/// A limit on the size of files makes the write of a commit fail: what is on the disk then is not
/// known, so the process ends.
#[cfg(unix)]
#[tokio::test]
async fn a_commit_that_fails_ends_the_process_and_loses_nothing() {
    use std::os::unix::process::ExitStatusExt;

    let folder = tempfile::tempdir().unwrap();
    let mut ledger = Ledger::default();
    let mut limited = Command::new("sh");
    // In blocks of 512 or 1024 bytes; without the trap the signal would end the process instead.
    limited
        .args(["-c", r#"trap "" XFSZ; ulimit -c 0; ulimit -f 1500; exec "$0" "$@""#])
        .arg(std::env::current_exe().unwrap());
    let mut child = start_child(limited, folder.path(), 1);
    let status = read_to_the_end(&mut child, &mut ledger);
    assert_eq!(status.signal(), Some(6), "it ended otherwise: {status}");
    assert!(ledger.rows.len() > 100);
    ledger.check(folder.path()).await;
}
