//! Broadcasts: workers' heartbeats to nodes, and nodes' cancellations to workers.
//! Each receiver reads the whole stream from now on, in no group.

use std::time::Duration;

use super::entry;
use crate::bus::redis_streams::consumer::Consumer;
use crate::bus::redis_streams::reader::READ_BLOCK_TIMEOUT;
use crate::bus::session::stopped;
use crate::redis_client::{Address, Error, RedisClient};

/// Read at a time.
const BATCH_LEN: usize = 100;
/// An entry before all others: what the stream's last entry is called if there is none.
const BEFORE_ALL: &str = "0-0";

impl Consumer {
    /// Passes broadcasts to `handle`, until the connection is lost or the process stops.
    pub(super) async fn listen(&self, key: &str, handle: impl Fn(&[u8])) -> Result<(), Error> {
        // A blocking read occupies its connection for the whole timeout.
        let blocking_client = RedisClient::open(&Address {
            timeout: self.address.timeout + READ_BLOCK_TIMEOUT,
            ..self.address.clone()
        })
        .await?;
        let mut last = newest(&blocking_client, key).await?;
        let mut stopping = self.stopping.clone();
        loop {
            let mut read = redis::cmd("XREAD");
            read.arg("COUNT")
                .arg(BATCH_LEN)
                .arg("BLOCK")
                .arg(millis(READ_BLOCK_TIMEOUT))
                .arg("STREAMS")
                .arg(key)
                .arg(&last);
            let answer = tokio::select! {
                answer = blocking_client.ask(read) => answer?,
                () = stopped(&mut stopping) => return Ok(()),
            };
            for entry in entry::read(answer)? {
                match entry.incoming(key) {
                    Ok(incoming) => handle(&incoming.body),
                    Err(error) => {
                        tracing::debug!(key, error, "a broadcast cannot be decoded")
                    }
                }
                last = entry.id;
            }
        }
    }
}

/// The id of the stream's newest entry.
async fn newest(client: &RedisClient, key: &str) -> Result<String, Error> {
    let mut look = redis::cmd("XREVRANGE");
    look.arg(key).arg("+").arg("-").arg("COUNT").arg(1);
    let entries = entry::listed(client.ask(look).await?)?;
    Ok(entries.into_iter().next().map_or_else(|| BEFORE_ALL.to_owned(), |entry| entry.id))
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
