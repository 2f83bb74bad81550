//! Two processes by two names, and what people and tools do to the files while nothing runs: what
//! was acknowledged is there, or the store is not opened and the files are as they were.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use crux_runtime::store::sqlite::{Options, Sqlite};
use crux_runtime::store::{Error, Store};
use rusqlite::Connection;

use super::open;
use crate::harness::{assert_rows, done, event, id, next, start};

fn refusal(path: &Path) -> String {
    match Sqlite::open(Options::new(path)) {
        Ok(_) => panic!("{} was opened", path.display()),
        Err(Error::Refused(why)) => why,
        Err(error @ Error::InUse { .. }) => error.to_string(),
        Err(error) => panic!("another error: {error}"),
    }
}

/// All files of a folder, but for the log's index, which SQLite makes anew, and an empty log, which
/// is none.
fn files(folder: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let paths = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<_> = paths
        .filter(|path| !path.to_string_lossy().ends_with("-shm"))
        .map(|path| (path.clone(), fs::read(path).unwrap()))
        .collect();
    files.retain(|(path, content)| !(path.ends_with("crux.db-wal") && content.is_empty()));
    files.sort();
    files
}

/// The files as a crash leaves them.
fn crashed(from: &Path) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for name in ["crux.db", "crux.db-wal", "crux.db-lock"] {
        fs::copy(from.join(name), folder.path().join(name)).unwrap();
    }
    folder
}

/// Refused, with these words, and nothing is touched but for the number of the process that tried.
fn assert_refused(folder: &Path, words: &[&str]) {
    let without_number = |mut files: Vec<(PathBuf, Vec<u8>)>| {
        for (_, content) in files.iter_mut().filter(|(path, _)| path.ends_with("crux.db-lock")) {
            *content = content.splitn(2, |byte| *byte == b'\n').last().unwrap_or_default().to_vec();
        }
        // Of a lock file that was not there the number is all.
        files.retain(|(path, content)| !(path.ends_with("crux.db-lock") && content.is_empty()));
        files
    };
    let before = without_number(files(folder));
    for _ in 0..2 {
        let why = refusal(&folder.join("crux.db"));
        assert!(words.iter().all(|word| why.contains(word)), "{why}");
    }
    assert!(without_number(files(folder)) == before, "the files are not as they were");
}

#[tokio::test]
async fn one_database_has_one_process_by_whatever_name() {
    let folder = tempfile::tempdir().unwrap();
    let (path, other) = (folder.path().join("crux.db"), folder.path().join("other.db"));
    symlink("crux.db", &other).unwrap();
    // A link to what is not there yet.
    let store = Sqlite::open(Options::new(&other)).unwrap();
    assert!(path.exists() && folder.path().join("crux.db-wal").exists());
    done(&store, vec![start(id(1))]).await;
    assert!(refusal(&path).contains("in use by another process"));
    assert!(refusal(&other).contains("in use by another process"));
    fs::remove_file(folder.path().join("crux.db-lock")).unwrap();
    assert!(refusal(&path).contains("in use by another process"));
    let third = folder.path().join("third.db");
    fs::hard_link(&path, &third).unwrap();
    assert!(refusal(&third).contains("third.db has 2 names (hard links)"));
    done(&store, vec![next(id(1), 2)]).await;
    store.close().await.unwrap();
    drop(store);
    assert!(refusal(&path).contains("crux.db has 2 names (hard links)"));
    fs::remove_file(third).unwrap();
    assert_rows(&Sqlite::open(Options::new(&path)).unwrap(), id(1), 2).await;
}

#[tokio::test]
async fn a_log_that_is_gone_cut_or_anothers_is_refused_and_can_be_put_back() {
    let folder = tempfile::tempdir().unwrap();
    // Something is in the database itself.
    let store = open(folder.path());
    done(&store, vec![start(id(1))]).await;
    store.close().await.unwrap();
    drop(store);
    let store = open(folder.path());
    done(&store, vec![next(id(1), 2)]).await;
    let older = crashed(folder.path());
    done(&store, vec![next(id(1), 3)]).await;
    let left = crashed(folder.path());
    store.keep(vec![event("paid", None, "e1", 1, 2)]).await.unwrap();
    let latest = crashed(folder.path());
    let wal = latest.path().join("crux.db-wal");
    let (whole, of_older) =
        (fs::read(&wal).unwrap(), fs::read(older.path().join("crux.db-wal")).unwrap());

    fs::remove_file(&wal).unwrap();
    assert_refused(latest.path(), &["crux.db-wal is gone", "remove", "crux.db-lock"]);
    fs::write(&wal, "").unwrap();
    assert_refused(latest.path(), &["crux.db-wal is gone"]);
    // By so much that the last event is missing, and that the last row is.
    for wal_of in [&left, &older] {
        let length = used(&fs::read(wal_of.path().join("crux.db-wal")).unwrap());
        fs::write(&wal, &whole[..length]).unwrap();
        assert_refused(latest.path(), &["crux.db-wal ends before what was committed last"]);
    }
    fs::write(&wal, &whole[..20]).unwrap();
    assert_refused(latest.path(), &["crux.db-wal ends before what was committed last"]);
    fs::write(&wal, of_older).unwrap();
    assert_refused(latest.path(), &["crux.db-wal ends before what was committed last"]);

    let stranger = tempfile::tempdir().unwrap();
    let strange = open(stranger.path());
    done(&strange, vec![start(id(9))]).await;
    fs::copy(stranger.path().join("crux.db-wal"), &wal).unwrap();
    assert_refused(latest.path(), &["crux.db-wal is not the log of", "crux.db-lock"]);
    // Also where nothing was written down of it.
    let lock = latest.path().join("crux.db-lock");
    let said = fs::read(&lock).unwrap();
    fs::remove_file(&lock).unwrap();
    assert_refused(latest.path(), &["crux.db-wal is the log of another database"]);
    fs::write(&lock, said).unwrap();

    fs::write(&wal, whole).unwrap();
    let whole = open(latest.path());
    assert_rows(&whole, id(1), 3).await;
    assert_eq!(whole.undelivered(None, 9).await.unwrap().len(), 1);
}

/// Without the zeros at its end.
fn used(log: &[u8]) -> usize {
    log.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1)
}

#[tokio::test]
async fn a_database_that_is_gone_old_or_another_is_refused_beside_a_log() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    done(&store, vec![start(id(1))]).await;
    store.close().await.unwrap();
    drop(store);
    let old = fs::read(folder.path().join("crux.db")).unwrap();
    for seq in [2, 3] {
        let store = open(folder.path());
        done(&store, vec![next(id(1), seq)]).await;
        store.close().await.unwrap();
    }
    let store = open(folder.path());
    done(&store, vec![next(id(1), 4)]).await;
    let left = crashed(folder.path());
    let db = left.path().join("crux.db");
    let whole = fs::read(&db).unwrap();

    fs::remove_file(&db).unwrap();
    assert_refused(left.path(), &["crux.db is not there or empty, but its log", "crux.db-wal"]);
    assert!(!db.exists());
    fs::write(&db, "").unwrap();
    assert_refused(left.path(), &["crux.db is not there or empty, but its log"]);
    fs::write(&db, old).unwrap();
    assert_refused(left.path(), &["crux.db is older than"]);
    let stranger = tempfile::tempdir().unwrap();
    open(stranger.path()).close().await.unwrap();
    fs::copy(stranger.path().join("crux.db"), &db).unwrap();
    assert_refused(left.path(), &["crux.db is not the database that", "crux.db-wal belongs to"]);

    fs::write(&db, whole).unwrap();
    assert_rows(&open(left.path()), id(1), 4).await;

    // Neither of them.
    let left = crashed(folder.path());
    fs::remove_file(left.path().join("crux.db")).unwrap();
    fs::remove_file(left.path().join("crux.db-wal")).unwrap();
    assert_refused(left.path(), &["crux.db is not there or empty, but", "says that it was in use"]);
}

#[tokio::test]
async fn what_may_be_done_to_the_files_does_not_stop_a_start() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    done(&store, vec![start(id(1)), next(id(1), 2)]).await;
    // A person looks into what a crash has left: SQLite moves the log into the database.
    let left = crashed(folder.path());
    let looking = Connection::open(left.path().join("crux.db")).unwrap();
    looking.query_row("SELECT count(*) FROM journal", [], |row| row.get::<_, i64>(0)).unwrap();
    drop(looking);
    assert!(!left.path().join("crux.db-wal").exists());
    assert_rows(&open(left.path()), id(1), 2).await;
    // The index and the lock are gone, or everything but the two was left behind.
    let left = crashed(folder.path());
    fs::remove_file(left.path().join("crux.db-lock")).unwrap();
    assert_rows(&open(left.path()), id(1), 2).await;
    // A copy made while it ran, in the place of what was given up.
    let left = crashed(folder.path());
    let copy = left.path().join("copy.db");
    Connection::open(folder.path().join("crux.db"))
        .unwrap()
        .execute("VACUUM INTO ?1", [copy.to_str()])
        .unwrap();
    done(&store, vec![next(id(1), 3)]).await;
    for name in ["crux.db-wal", "crux.db-lock"] {
        fs::remove_file(left.path().join(name)).unwrap();
    }
    fs::rename(&copy, left.path().join("crux.db")).unwrap();
    assert_rows(&open(left.path()), id(1), 2).await;
    // After an orderly end anything goes: another copy, or none.
    store.close().await.unwrap();
    drop(store);
    fs::copy(left.path().join("crux.db"), folder.path().join("crux.db")).unwrap();
    assert_rows(&open(folder.path()), id(1), 2).await;
    for name in ["crux.db", "crux.db-wal", "crux.db-shm"] {
        let _ = fs::remove_file(folder.path().join(name));
    }
}

#[tokio::test]
async fn a_log_beside_a_database_that_was_closed_in_order_is_refused() {
    let (folder, stranger) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let store = open(folder.path());
    done(&store, vec![start(id(1))]).await;
    store.close().await.unwrap();
    drop(store);
    let strange = open(stranger.path());
    done(&strange, vec![start(id(2))]).await;
    fs::copy(stranger.path().join("crux.db-wal"), folder.path().join("crux.db-wal")).unwrap();
    assert_refused(
        folder.path(),
        &["crux.db was closed properly and had no log then", "Move", "crux.db-wal away"],
    );
    fs::remove_file(folder.path().join("crux.db-wal")).unwrap();
    assert_rows(&open(folder.path()), id(1), 1).await;
}

#[tokio::test]
async fn nothing_is_acknowledged_that_goes_into_a_file_without_a_name() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    done(&store, vec![start(id(1))]).await;
    fs::remove_file(folder.path().join("crux.db")).unwrap();
    tokio::time::sleep(std::time::Duration::from_millis(1_100)).await;
    let answer = store.append(vec![next(id(1), 2)]).await.remove(0);
    assert!(
        matches!(&answer, Err(Error::Broken(why)) if why.contains("crux.db was removed or replaced")),
        "{answer:?}"
    );
}
