//! A Redis Cluster changes under load: slots go from one master to another, replicas take over,
//! masters die. What was acknowledged is there, ends and is recorded once, and soon after the
//! cluster works again Crux does too.

use std::time::{Duration, Instant};

use crate::kill::Load;
use crate::kit::redis::Cluster;
use crate::kit::{PATIENCE, eventually};

/// Within it the nodes work again when the cluster does, on a machine that is as fast as it was
/// when nothing had happened.
const BACK_WITHIN: Duration = Duration::from_secs(5);

fn store(cluster: &Cluster) -> String {
    let nodes: Vec<String> =
        cluster.nodes.iter().skip(1).map(|node| format!("'127.0.0.1:{}'", node.port())).collect();
    format!(
        "store: {{ kind: redis, wait_replicas: 1 }}\nredis: {{ host: 127.0.0.1, port: {}, nodes: [{}] }}\n",
        cluster.nodes[0].port(),
        nodes.join(", ")
    )
}

/// Until all that was asked for is acknowledged, and more. `usual`: how long that takes when nothing
/// has happened; gives how long it took.
async fn goes_on(load: &Load, what: &str, usual: Duration) -> Duration {
    let (begun, before, pending) = (Instant::now(), load.starts(), load.pending());
    eventually(what, async || {
        (load.starts() >= before + 40 && load.pending().is_disjoint(&pending)).then_some(())
    })
    .await;
    let (back, longest) = (begun.elapsed(), load.longest_wait());
    println!("{what}: all answered after {back:?}, the longest wait {longest:?}");
    assert!(back < BACK_WITHIN + 10 * usual, "{what}: {back:?}; usually {usual:?}");
    back
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs redis-server"]
async fn nothing_acknowledged_is_lost_when_slots_move_replicas_take_over_and_masters_die() {
    // `CRUX_ROUNDS=10` makes it long.
    let rounds: usize =
        std::env::var("CRUX_ROUNDS").ok().and_then(|rounds| rounds.parse().ok()).unwrap_or(1);
    let mut cluster = tokio::task::block_in_place(Cluster::with_replicas);
    let load = Load::begin(&store(&cluster), 2).await;
    goes_on(&load, "the nodes begin", PATIENCE).await;
    let usual = goes_on(&load, "there is work", PATIENCE).await;
    for round in 0..rounds {
        // Slots with tags of the store: first of them the one where nodes register.
        let slots: Vec<u16> = (0..256).map(|tag| cluster.slot_of(&format!("{{{tag}}}"))).collect();
        let [from, to, dies] = [0, 1, 2].map(|n| cluster.master((n + round) % 3));
        let moving: Vec<u16> =
            slots.into_iter().filter(|slot| cluster.has(from, *slot)).take(24).collect();
        assert!(moving.len() > 10);
        tokio::task::block_in_place(|| {
            for slot in moving {
                cluster.move_slot(slot, from, to, Duration::from_millis(30));
            }
        });
        goes_on(&load, "work goes on with slots elsewhere", usual).await;

        let replica = cluster.replica_of(from);
        cluster.nodes[replica].command(&["CLUSTER", "FAILOVER"]);
        tokio::task::block_in_place(|| cluster.wait_until_master(replica));
        goes_on(&load, "work goes on with a replica", usual).await;

        // Without a word; its replica notices after a while.
        let replica = cluster.replica_of(dies);
        if round % 2 == 0 {
            cluster.nodes[dies].kill();
        } else {
            cluster.nodes[dies].hang(true);
        }
        let died = Instant::now();
        tokio::task::block_in_place(|| cluster.wait_until_master(replica));
        let away = died.elapsed();
        // No replica of it is left that could have what is written: one comes back.
        if round % 2 == 0 {
            tokio::task::block_in_place(|| cluster.nodes[dies].restart());
        } else {
            cluster.nodes[dies].hang(false);
        }
        println!("a master died: {away:?} until its replica took over");
        goes_on(&load, "work goes on without the dead master", usual).await;
        tokio::task::block_in_place(|| cluster.wait_until_whole());
    }
    load.end(1).await;
}
