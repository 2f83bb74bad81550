//! Whose file it is, and what is in it after a crash.

use std::fs;
use std::path::Path;

use crux_runtime::machine::Time;
use crux_runtime::store::sqlite::{Options, Sqlite};
use crux_runtime::store::{Append, Error, Filter, Seq, Settled, Status, Store};
use rusqlite::Connection;

use super::open;
use crate::harness::{T0, all_rows, assert_rows, done, end, id, next, start};

#[tokio::test]
async fn a_second_process_is_refused_and_told_which_one_holds_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("deep/crux.db");
    let store = Sqlite::open(Options::new(&path)).unwrap();
    let Err(error) = Sqlite::open(Options::new(&path)) else { panic!("it was opened twice") };
    let expected = format!(
        "{} is in use by another process (number {}): stop it, or set another `store.path`",
        path.display(),
        std::process::id()
    );
    assert_eq!(error.to_string(), expected);
    done(&store, vec![start(id(1))]).await;
    store.close().await.unwrap();
    assert_rows(&Sqlite::open(Options::new(&path)).unwrap(), id(1), 1).await;
}

#[tokio::test]
async fn a_newer_format_is_refused_and_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    drop(open(folder.path()));
    let path = folder.path().join("crux.db");
    Connection::open(&path).unwrap().execute_batch("PRAGMA user_version = 7").unwrap();
    let Err(error) = Sqlite::open(Options::new(&path)) else { panic!("it was opened") };
    let expected = format!(
        "{} was written by a newer version of Crux (format 7, this binary reads up to 1)",
        path.display()
    );
    assert_eq!(error.to_string(), expected);
    let format: i32 = Connection::open(&path)
        .unwrap()
        .query_row("PRAGMA user_version", [], |row| row.get(0))
        .unwrap();
    assert_eq!(format, 7);
}

#[tokio::test]
async fn what_is_no_store_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("theirs.db");
    Connection::open(&path).unwrap().execute_batch("CREATE TABLE theirs(a)").unwrap();
    let Err(error) = Sqlite::open(Options::new(&path)) else { panic!("it was opened") };
    assert!(
        error.to_string().contains("is a database of another program: set another `store.path`"),
        "{error}"
    );

    let path = folder.path().join("text.db");
    fs::write(&path, "no database ".repeat(1000)).unwrap();
    let Err(error @ Error::Broken(_)) = Sqlite::open(Options::new(&path)) else {
        panic!("it was opened")
    };
    assert!(error.to_string().contains("text.db: file is not a database"), "{error}");

    let path = folder.path().join("text.db/below");
    let Err(error @ Error::Broken(_)) = Sqlite::open(Options::new(&path)) else {
        panic!("it was opened")
    };
    assert!(error.to_string().contains("text.db"), "{error}");
}

/// The files as a crash would leave them: what is only in memory is not in them.
fn copy_as_after_a_crash(from: &Path, to: &Path) {
    // In this order: what a checkpoint is writing into the database meanwhile is in the log as
    // well.
    for name in ["crux.db", "crux.db-wal"] {
        fs::copy(from.join(name), to.join(name)).unwrap();
    }
}

/// Instances of all kinds, before and after the mark, so many rows that it moves.
#[tokio::test]
async fn a_crash_loses_nothing_wherever_the_mark_is() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let settled =
        |n, seq, wake_at: Option<i64>| Settled { instance: id(n), seq, wake_at: wake_at.map(Time) };
    // 1 never goes on and is never settled, 2 sleeps, 3 has ended, 4 ends late, 5 goes on from time
    // to time.
    done(&store, (1..=5).map(|n| start(id(n))).collect()).await;
    done(&store, vec![end(id(3), 2, Status::Failed, T0, 1_000)]).await;
    store.settle(vec![settled(2, 1, Some(77)), settled(3, 2, None)]).await.unwrap();
    let mut number = 1_000;
    let mut rows_of_5 = 1;
    let mut crowd: Vec<(u64, Seq)> = (0..200).map(|n| (n, 0)).collect();
    for round in 0..400 {
        let mut batch: Vec<Append> = Vec::new();
        let mut finished = Vec::new();
        for (n, seq) in &mut crowd {
            *seq += 1;
            let n = 10_000 + *n;
            batch.push(match *seq {
                1 => start(id(n)),
                12 => end(id(n), 12, Status::Completed, T0, 1_000),
                seq => next(id(n), seq),
            });
            if *seq == 12 {
                finished.push(settled(n, 12, None));
            }
        }
        if round % 50 == 7 {
            rows_of_5 += 1;
            batch.push(next(id(5), rows_of_5));
        }
        done(&store, batch).await;
        store.settle(finished).await.unwrap();
        for (n, seq) in crowd.iter_mut().filter(|(_, seq)| *seq == 12) {
            number += 1;
            (*n, *seq) = (number, 0);
        }
    }
    done(&store, vec![end(id(4), 2, Status::Cancelled, T0, 1_000)]).await;

    let crashed = tempfile::tempdir().unwrap();
    copy_as_after_a_crash(folder.path(), crashed.path());
    let tail: i64 = Connection::open(crashed.path().join("crux.db"))
        .unwrap()
        .query_row(
            "SELECT count(*) FROM journal WHERE row > (SELECT value FROM meta WHERE key = 'mark')",
            [],
            |row| row.get(0),
        )
        .unwrap();
    assert!(
        (60_000..70_000).contains(&tail),
        "the mark has not moved as it should: {tail} rows are behind it"
    );

    let last: Vec<(u64, Seq)> =
        crowd.iter().filter(|(_, seq)| *seq > 0).map(|(n, seq)| (10_000 + n, *seq)).collect();
    let check = async |store: &Sqlite, crashed: bool| {
        for (n, rows) in [(1, 1), (2, 1), (3, 2), (4, 2), (5, rows_of_5)] {
            assert_rows(store, id(n), rows).await;
        }
        for (n, rows) in &last {
            assert_rows(store, id(*n), *rows).await;
            assert_eq!(store.record(id(*n)).await.unwrap().unwrap().status, Status::Processing);
        }
        for n in (11_001..10_000 + number).step_by(97) {
            if !last.iter().any(|(open, _)| *open == n) {
                assert_rows(store, id(n), 12).await;
                assert_eq!(store.record(id(n)).await.unwrap().unwrap().status, Status::Completed);
            }
        }
        let status = async |n| store.record(id(n)).await.unwrap().unwrap().status;
        assert_eq!(status(3).await, Status::Failed);
        assert_eq!(status(4).await, Status::Cancelled);
        assert_eq!(store.due(None, Time(77), 10).await.unwrap(), [(Time(77), id(2))]);
        let unsettled = store.unsettled(None, usize::MAX).await.unwrap();
        let must: Vec<u64> = [1, 4, 5].into_iter().chain(last.iter().map(|(n, _)| *n)).collect();
        for n in &must {
            assert!(unsettled.contains(&id(*n)), "{n} is not unsettled");
        }
        for n in [2, 3] {
            assert!(!unsettled.contains(&id(n)), "{n} is unsettled");
        }
        // A crash brings back marks that were cleared lately, and no others.
        let most = if crashed { tail as usize / 12 + must.len() } else { must.len() };
        assert!(unsettled.len() <= most, "{} are unsettled", unsettled.len());
        let listed = store
            .list(Filter { status: Some(Status::Processing), limit: 10_000, ..Filter::default() })
            .await
            .unwrap();
        assert_eq!(listed.len(), 3 + last.len());
    };
    check(&store, false).await;
    let copy = open(crashed.path());
    check(&copy, true).await;
    done(&copy, vec![next(id(5), rows_of_5 + 1), next(id(1), 2)]).await;
    assert_rows(&copy, id(5), rows_of_5 + 1).await;

    // After an orderly end nothing is left for a restart to find out.
    store.close().await.unwrap();
    assert!(!folder.path().join("crux.db-wal").exists());
    let conn = Connection::open(folder.path().join("crux.db")).unwrap();
    let tail: i64 = conn
        .query_row(
            "SELECT count(*) FROM journal WHERE row > (SELECT value FROM meta WHERE key = 'mark')",
            [],
            |row| row.get(0),
        )
        .unwrap();
    assert_eq!(tail, 0);
    drop(conn);
    check(&open(folder.path()), false).await;
}

#[tokio::test]
async fn a_long_journal_is_removed_in_pieces_and_a_crash_between_them_brings_nothing_back() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    done(&store, vec![start(id(1)), start(id(2))]).await;
    for seq in 2..=2_499 {
        done(&store, vec![next(id(1), seq)]).await;
    }
    done(&store, vec![Append { settled: 2_500, ..end(id(1), 2_500, Status::Completed, T0, 10) }])
        .await;
    store.close().await.unwrap();
    drop(store);
    let store = open(folder.path());
    let expiring = store.expire(Time(T0.0 + 10), 10);
    // The first piece is committed as soon as another append, which comes after it, is
    // answered.
    let crashed = tempfile::tempdir().unwrap();
    let (expired, ()) = tokio::join!(expiring, async {
        while store.record(id(1)).await.unwrap().is_some() {}
        copy_as_after_a_crash(folder.path(), crashed.path());
    });
    assert_eq!(expired.unwrap(), 1);
    assert_eq!(all_rows(&store, id(1)).await, []);
    assert_rows(&store, id(2), 1).await;
    let rows = |folder: &Path| -> i64 {
        Connection::open(folder.join("crux.db"))
            .unwrap()
            .query_row("SELECT count(*) FROM journal", [], |row| row.get(0))
            .unwrap()
    };
    assert_eq!(rows(folder.path()), 1);

    let copy = open(crashed.path());
    assert!(copy.record(id(1)).await.unwrap().is_none());
    assert_eq!(copy.unsettled(None, 10).await.unwrap(), [id(2)]);
    assert_eq!(copy.expire(Time(T0.0 + 10), 10).await.unwrap(), 0);
    assert_eq!(rows(crashed.path()), 1);
}
