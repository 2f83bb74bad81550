//! A cluster of three masters: each stream is in one place, different streams in different ones.

use crate::kit::Server;
use crate::kit::redis::Cluster;
use crate::kit::upload::assert_made;
use crate::kit::upload::suite::until_taken;
use crate::service::Line;
use crate::{BINARY, config, result, start};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs redis-server"]
async fn products_are_made_over_a_cluster() {
    let cluster = tokio::task::block_in_place(Cluster::start);
    let config = config(&cluster.url(), "crux", "");
    let mut nodes: Vec<Server> = (0..2).map(|_| Server::start(BINARY, &config)).collect();
    let line = Line::to_cluster(&cluster.url(), "crux").await;
    let _services = line.services(result).await;
    let mut ids = Vec::new();
    for n in 0..20 {
        ids.push(start(&nodes[n % 2], "Lamp").await);
        if n == 10 {
            nodes[0].kill();
            nodes[0].restart();
        }
    }
    for id in &ids {
        assert_made(&nodes[1].client(), id).await;
    }
    until_taken(&line).await;
    assert_eq!(line.length("dead").await, 0);
}
