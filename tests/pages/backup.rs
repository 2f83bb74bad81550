//! The page on durability says how to back a store up and restore it: its command, beside a server
//! that runs, and then the steps that it names.

use rusqlite::{Connection, OpenFlags};

use crate::kit::fences;
use crate::kit::{Server, order};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_of_a_running_store_has_what_was_answered() {
    let blocks = fences::of_page("docs/durability.md");
    let [command] = &blocks.iter().filter(|block| block.kind == "backup").collect::<Vec<_>>()[..]
    else {
        panic!("docs/durability.md has one command of a backup")
    };
    // What the `sqlite3` of the command would do; not every machine has it.
    let sql = command.text.split('"').nth(1).expect("SQL in quotes");
    assert!(command.text.starts_with("sqlite3 crux.db "), "{}", command.text);

    let mut server = Server::start(env!("CARGO_BIN_EXE_crux"), "");
    let client = server.client();
    let trigger = "/api/v1/workflow/order";
    let id = client.start(trigger, &order("ORD-1")).await;
    client.until(&id, "completed").await;
    let in_folder = |name: &str| server.folder().join(name);
    let backup = in_folder("backup.db");
    let sql = sql.replace("backup.db", backup.to_str().expect("a text"));
    let store = Connection::open_with_flags(in_folder("crux.db"), OpenFlags::SQLITE_OPEN_READ_ONLY)
        .expect("the store");
    store.execute_batch(&sql).unwrap_or_else(|error| panic!("{sql}: {error}"));
    drop(store);
    let later = client.start(trigger, &order("ORD-2")).await;
    client.until(&later, "completed").await;

    server.kill();
    for file in ["crux.db-wal", "crux.db-shm", "crux.db-lock"] {
        // The page says to remove them; some are not there after an orderly end.
        let _ = std::fs::remove_file(server.folder().join(file));
    }
    std::fs::rename(&backup, server.folder().join("crux.db")).expect("the backup is there");
    server.restart();
    let client = server.client();
    assert_eq!(client.status(&id).await["metadata"]["status"], "completed");
    let gone = client.get(&format!("/api/v1/workflow/status?workflow_id={later}")).await;
    assert_eq!(gone.status, 404, "it was started after the backup");
    assert!(server.log().contains("it is a copy"), "{}", server.log());
}
