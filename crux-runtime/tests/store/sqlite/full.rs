//! A disk that gets full: nothing is lost, what has begun goes on while it can, and all goes on
//! when there is room again.

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crux_runtime::store::sqlite::{Options, Sqlite};
use crux_runtime::store::{Append, Appended, Error, Seq, Store};

use crate::harness::{assert_rows, done, event, id, next, one, start};

/// A small file system in memory, for as long as it lives.
struct Disk(tempfile::TempDir);

impl Disk {
    fn mount(size: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let output = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={size}"), "crux-test"])
            .arg(folder.path())
            .output()
            .unwrap();
        assert!(output.status.success(), "mounting a small file system needs root: {output:?}");
        Self(folder)
    }

    fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // Without it the folder cannot be removed, which the operating system's clean-up will
        // report.
        let _ = Command::new("umount").arg("-l").arg(self.path()).status();
    }
}

fn options(disk: &Disk, died: &Arc<AtomicBool>) -> Options {
    let died = died.clone();
    let on_fatal = move |error: &Error| {
        eprintln!("{error}");
        died.store(true, Ordering::SeqCst);
    };
    Options {
        reserve_bytes: 2 << 20,
        on_fatal: Arc::new(on_fatal),
        ..Options::new(disk.path().join("crux.db"))
    }
}

/// Takes all room but for `leave` bytes.
fn fill(disk: &Disk, store: &Sqlite, leave: u64) {
    let mut file =
        File::options().create(true).append(true).open(disk.path().join("filler")).unwrap();
    while let Some(free) = store.free_bytes()
        && free > leave
    {
        let chunk = vec![1; usize::try_from((free - leave).min(65_536)).unwrap()];
        if file.write_all(&chunk).is_err() {
            return;
        }
    }
}

#[tokio::test]
#[ignore = "needs mount"]
async fn near_the_end_of_the_room_nothing_begins_and_what_has_begun_goes_on() {
    let disk = Disk::mount("24m");
    let died = Arc::default();
    let store = Sqlite::open(options(&disk, &died)).unwrap();
    let mut first = start(id(1));
    first.start.as_mut().unwrap().request = Some(crate::harness::request("r", 1));
    done(&store, vec![first.clone()]).await;
    fill(&disk, &store, 1_900_000);
    let Err(Error::Full(text)) = one(&store, start(id(2))).await else { panic!("it began") };
    assert!(
        text.contains("bytes are free in") && text.contains("2097152 are kept for what has begun"),
        "{text}"
    );
    assert!(matches!(store.keep(vec![event("paid", None, "e", 1, 2)]).await, Err(Error::Full(_))));
    // Only what begins is refused, in one batch with what goes on; and a repeated question gets its
    // first answer.
    let mut again = start(id(3));
    again.start.as_mut().unwrap().request = Some(crate::harness::request("r", 1));
    let results = store.append(vec![start(id(2)), next(id(1), 2), again, first]).await;
    assert!(
        matches!(
            &results[..],
            [
                Err(Error::Full(_)),
                Ok(Appended::Done),
                Ok(Appended::Used { same_input: true, .. }),
                Ok(Appended::Same)
            ]
        ),
        "{results:?}"
    );
    fs::remove_file(disk.path().join("filler")).unwrap();
    done(&store, vec![start(id(2))]).await;
    assert_rows(&store, id(1), 2).await;
    assert!(!died.load(Ordering::SeqCst));
}

#[tokio::test]
#[ignore = "needs mount"]
async fn a_full_disk_loses_nothing_and_is_left_when_there_is_room() {
    let disk = Disk::mount("24m");
    let died = Arc::default();
    let store = Sqlite::open(options(&disk, &died)).unwrap();
    done(&store, (1..=20).map(|n| start(id(n))).collect()).await;
    let mut rows: Vec<Seq> = vec![1; 20];
    for round in 0..3 {
        fill(&disk, &store, 300_000);
        let mut refused = Vec::new();
        // The log grows until there is no room for it.
        'full: for _ in 0..2_000 {
            let batch: Vec<Append> =
                (1..=20).map(|n| next(id(n), rows[n as usize - 1] + 1)).collect();
            let results = store.append(batch.clone()).await;
            for (append, (result, rows)) in
                batch.into_iter().zip(results.into_iter().zip(&mut rows))
            {
                match result {
                    Ok(Appended::Done) => *rows += 1,
                    // Refused, or not known: the same append may be tried again.
                    Err(Error::Full(_) | Error::Unavailable(_)) => refused.push(append),
                    other => panic!("{other:?}"),
                }
            }
            if !refused.is_empty() {
                break 'full;
            }
        }
        assert_eq!(refused.len(), 20, "the disk did not get full in round {round}");
        assert!(!died.load(Ordering::SeqCst));
        for n in [1, 11, 20] {
            let there = store.rows(id(n), 0, usize::MAX).await.unwrap().len();
            assert_eq!(there, rows[n as usize - 1] as usize, "round {round}");
        }
        fs::remove_file(disk.path().join("filler")).unwrap();
        for result in store.append(refused).await {
            assert!(matches!(result, Ok(Appended::Done | Appended::Same)), "{result:?}");
        }
        rows.iter_mut().for_each(|rows| *rows += 1);
    }
    let check = async |store: &Sqlite| {
        for n in 1..=20 {
            assert_rows(store, id(n), rows[n as usize - 1]).await;
        }
    };
    check(&store).await;
    drop(store);
    check(&Sqlite::open(options(&disk, &died)).unwrap()).await;
    assert!(!died.load(Ordering::SeqCst));
}
