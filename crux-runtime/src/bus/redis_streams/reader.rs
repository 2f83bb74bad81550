//! The reader of one stream: passes entries to the message handler, and acknowledges them once they
//! are durable. An entry that cannot be handled goes to the dead-letter stream, with the reason,
//! before it is acknowledged.
//!
//! A consumer owns an entry until it acknowledges it, as long as it keeps renewing its claim. An
//! entry whose claim was not renewed for the length of a lease is taken over by another node.

use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use tokio::time::{Instant, MissedTickBehavior, interval};
use tracing::{info, warn};

use super::entry;
use crate::bus::MessageHandler;
use crate::bus::broker::{RETRY_DELAY, Settlement, handle};
use crate::bus::redis_streams::consumer::Consumer;
use crate::bus::redis_streams::entry::Entry;
use crate::bus::redis_streams::scripts::{LEAVE, SETTLE, SWEEP};
use crate::bus::redis_streams::topology::{GROUP, Stream};
use crate::bus::session::stopped;
use crate::redis_client::{Call, Error, RedisClient};

/// How long the server lets a reader wait for an entry.
pub(super) const READ_BLOCK_TIMEOUT: Duration = Duration::from_secs(1);
/// How long acknowledgements wait to be batched.
const ACK_INTERVAL: Duration = Duration::from_millis(5);
/// Acknowledged by one call.
const ACKS_MAX: usize = 1000;
/// Leases after which an idle consumer without entries counts as dead.
const CONSUMER_EXPIRY_LEASES: u32 = 10;
/// Messages that could not be understood; the oldest go when there are more.
const DEAD_LETTERS_MAX: usize = 100_000;
/// Reasons are cut here.
const REASON_BYTES_MAX: usize = 2048;

/// See the module's text.
pub(super) struct Reader<'a> {
    consumer: &'a Consumer,
    handler: &'a dyn MessageHandler,
    stream: &'a Stream,
    /// The key of the dead-letter stream.
    dead: &'a str,
    /// For commands that do not block.
    client: &'a RedisClient,
    /// For blocking reads: a waiting read keeps the connection from other commands.
    blocking_client: RedisClient,
    /// Given to this consumer and not acknowledged, and when its claim was last renewed.
    held: HashMap<String, Instant>,
    acks: Vec<String>,
    /// The entry before the first of those that a consumer held and that were not looked at yet.
    cursor: String,
}

impl<'a> Reader<'a> {
    pub(super) fn new(
        consumer: &'a Consumer,
        handler: &'a dyn MessageHandler,
        stream: &'a Stream,
        dead: &'a str,
        client: &'a RedisClient,
        blocking_client: RedisClient,
    ) -> Self {
        Self {
            consumer,
            handler,
            stream,
            dead,
            client,
            blocking_client,
            held: HashMap::new(),
            acks: Vec::new(),
            cursor: "0-0".to_owned(),
        }
    }

    /// Until a connection is lost, or the process stops.
    pub(super) async fn run(mut self) -> Result<(), Error> {
        let (consumer, lease) = (self.consumer, self.consumer.options.lease);
        let mut stopping = consumer.stopping.clone();
        let (mut reading, mut in_hand, mut acking) =
            (FuturesUnordered::new(), FuturesUnordered::new(), FuturesUnordered::new());
        let mut tick = interval(ACK_INTERVAL);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut renewal = interval(lease / 3);
        renewal.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut swept = Instant::now();
        // Larger groups save little more.
        let group = (consumer.options.prefetch / 10).clamp(1, ACKS_MAX);
        // First what this consumer was given before, on a connection that was lost.
        let mut own = Some("0".to_owned());
        loop {
            if reading.is_empty() && self.room() > 0 {
                reading.push(self.read(own.as_deref().unwrap_or(">")));
            }
            tokio::select! {
                Some((id, is_done)) = in_hand.next(), if !in_hand.is_empty() => {
                    self.held.remove(&id);
                    if is_done {
                        self.acks.push(id);
                    }
                    if self.acks.len() >= group {
                        acking.push(self.acknowledge());
                    }
                }
                Some(entries) = reading.next(), if !reading.is_empty() => {
                    let entries: Vec<Entry> = entries?;
                    let is_own = own.is_some();
                    if is_own {
                        own = entries.last().map(|entry| entry.id.clone());
                    }
                    in_hand.extend(self.hold(entries, is_own));
                }
                Some(acknowledged) = acking.next(), if !acking.is_empty() => { let () = acknowledged?; }
                _ = tick.tick(), if !self.acks.is_empty() => acking.push(self.acknowledge()),
                _ = renewal.tick() => {
                    self.renew_claims().await?;
                    if own.is_none() {
                        let taken = self.claim_abandoned().await?;
                        in_hand.extend(self.hold(taken, true));
                    }
                    if swept.elapsed() >= lease * CONSUMER_EXPIRY_LEASES {
                        swept = Instant::now();
                        self.sweep().await?;
                    }
                }
                () = stopped(&mut stopping) => {
                    // Unacknowledged entries go to another node, or are read again after the
                    // restart.
                    if !self.acks.is_empty() {
                        acking.push(self.acknowledge());
                    }
                    while let Some(acknowledged) = acking.next().await {
                        let () = acknowledged?;
                    }
                    let Self { consumer, stream, client, blocking_client, .. } = self;
                    // From here on nothing is read that nobody would handle.
                    drop((reading, blocking_client));
                    return leave(consumer, stream, client).await;
                }
            }
        }
    }

    fn room(&self) -> usize {
        self.consumer.options.prefetch.saturating_sub(self.held.len())
    }

    /// Entries after `from`: of those that this consumer holds, or with `>` new ones, for which it
    /// waits.
    fn read(&self, from: &str) -> BoxFuture<'static, Result<Vec<Entry>, Error>> {
        let mut read = redis::cmd("XREADGROUP");
        read.arg("GROUP").arg(GROUP).arg(&*self.consumer.name).arg("COUNT").arg(self.room());
        read.arg("BLOCK")
            .arg(millis(READ_BLOCK_TIMEOUT))
            .arg("STREAMS")
            .arg(&self.stream.key)
            .arg(from);
        let blocking_client = self.blocking_client.clone();
        Box::pin(async move { entry::read(blocking_client.ask(read).await?) })
    }

    /// Gives entries to the handler. `again`: they were delivered before.
    fn hold(&mut self, entries: Vec<Entry>, again: bool) -> Vec<BoxFuture<'a, (String, bool)>> {
        let state = &self.consumer.state;
        let mut taking: Vec<BoxFuture<'a, (String, bool)>> = Vec::with_capacity(entries.len());
        for entry in entries {
            if entry.fields.is_none() {
                // Deleted while it was held: there is nothing to do but to forget it.
                self.acks.push(entry.id);
                continue;
            }
            if self.held.insert(entry.id.clone(), Instant::now()).is_some() {
                continue;
            }
            state.count_consumed(again);
            let (consumer, handler, stream, dead, client) =
                (self.consumer, self.handler, self.stream, self.dead, self.client);
            taking.push(Box::pin(async move {
                let is_done = take(consumer, handler, stream, dead, client, &entry).await;
                (entry.id, is_done)
            }));
        }
        taking
    }

    fn acknowledge(&mut self) -> BoxFuture<'static, Result<(), Error>> {
        let several = self.acks.len().min(ACKS_MAX);
        let mut args = vec![GROUP.as_bytes().to_vec()];
        args.extend(self.acks.drain(..several).map(String::into_bytes));
        let (client, call) =
            (self.client.clone(), Call { script: &SETTLE, base: self.stream.key.clone(), args });
        Box::pin(async move { client.call(call).await.map(drop) })
    }

    /// Of what takes long.
    async fn renew_claims(&mut self) -> Result<(), Error> {
        let (now, third) = (Instant::now(), self.consumer.options.lease / 3);
        let mut claim = redis::cmd("XCLAIM");
        claim.arg(&self.stream.key).arg(GROUP).arg(&*self.consumer.name).arg(0);
        let mut count = 0;
        for (id, renewed_at) in &mut self.held {
            if now.duration_since(*renewed_at) >= third / 2 {
                *renewed_at = now;
                claim.arg(id);
                count += 1;
            }
        }
        if count > 0 {
            claim.arg("JUSTID");
            self.client.ask(claim).await?;
        }
        Ok(())
    }

    /// Entries of consumers that have not renewed their claim for the length of a lease.
    async fn claim_abandoned(&mut self) -> Result<Vec<Entry>, Error> {
        let mut taken = Vec::new();
        while taken.len() < self.room() {
            let mut claim = redis::cmd("XAUTOCLAIM");
            claim
                .arg(&self.stream.key)
                .arg(GROUP)
                .arg(&*self.consumer.name)
                .arg(millis(self.consumer.options.lease));
            claim.arg(&self.cursor).arg("COUNT").arg(self.room() - taken.len());
            let (cursor, entries) = entry::claimed(self.client.ask(claim).await?)?;
            taken.extend(entries.into_iter().filter(|entry| !self.held.contains_key(&entry.id)));
            self.cursor = cursor;
            if self.cursor == "0-0" {
                break;
            }
        }
        if !taken.is_empty() {
            info!(
                stream = self.stream.key,
                count = taken.len(),
                "took over what another consumer held and did not acknowledge"
            );
        }
        Ok(taken)
    }

    /// Deletes dead consumers without entries.
    async fn sweep(&self) -> Result<(), Error> {
        let long = millis(self.consumer.options.lease * CONSUMER_EXPIRY_LEASES).to_string();
        let args = [GROUP, &*self.consumer.name, &long].map(|word| word.as_bytes().to_vec()).into();
        self.client
            .call(Call { script: &SWEEP, base: self.stream.key.clone(), args })
            .await
            .map(drop)
    }
}

/// Lets another consumer take over immediately what this one holds.
async fn leave(consumer: &Consumer, stream: &Stream, client: &RedisClient) -> Result<(), Error> {
    let lease = millis(consumer.options.lease).to_string();
    let args = [GROUP, &*consumer.name, &lease].map(|word| word.as_bytes().to_vec()).into();
    client.call(Call { script: &LEAVE, base: stream.key.clone(), args }).await.map(drop)
}

/// Whether the entry needs no more attention; if not, the process stops, and another gets it.
async fn take(
    consumer: &Consumer,
    handler: &dyn MessageHandler,
    stream: &Stream,
    dead: &str,
    client: &RedisClient,
    entry: &Entry,
) -> bool {
    let (reason, is_parked) = match entry.incoming(&stream.routing_key) {
        Ok(incoming) => match handle(handler, &incoming, &consumer.state).await {
            Settlement::Ack => return true,
            Settlement::DeadLetter(reason) => (reason, false),
            Settlement::Park(reason) => (reason, true),
            Settlement::Requeue => return false,
        },
        Err(reason) => (reason, false),
    };
    if !is_parked {
        warn!(stream = stream.key, id = entry.id, reason, "message rejected and dead-lettered");
    }
    // The client that loses this also ends the reader; then the entry is read again.
    loop {
        let put = match is_parked {
            true => client.call(consumer.park(stream, entry, &reason)).await,
            false => client.ask(dead_letter(dead, stream, entry, &reason)).await,
        };
        let Err(error) = put else { break };
        warn!(stream = stream.key, %error, "cannot dead-letter or park a message; retrying");
        tokio::time::sleep(RETRY_DELAY).await;
    }
    if is_parked {
        consumer.state.parking.parked(&stream.routing_key, &reason);
    } else {
        consumer.state.dead.fetch_add(1, Ordering::Relaxed);
    }
    true
}

/// As it came, and beside it why it is here.
pub(super) fn dead_letter(dead: &str, stream: &Stream, entry: &Entry, reason: &str) -> redis::Cmd {
    let mut add = redis::cmd("XADD");
    add.arg(dead).arg("MAXLEN").arg("~").arg(DEAD_LETTERS_MAX).arg("*");
    for (name, value) in [
        ("reason", reason_of(reason)),
        ("stream", &stream.key),
        ("routing_key", &stream.routing_key),
        ("entry", &entry.id),
    ] {
        add.arg(name).arg(value);
    }
    let is_ours =
        |name: &[u8]| [&b"reason"[..], b"stream", b"routing_key", b"entry"].contains(&name);
    for (name, value) in entry.fields.iter().flatten().filter(|(name, _)| !is_ours(name)) {
        add.arg(name.as_slice()).arg(value.as_slice());
    }
    add
}

/// As long as it may be.
pub(super) fn reason_of(reason: &str) -> &str {
    reason.get(..reason.floor_char_boundary(REASON_BYTES_MAX)).unwrap_or_default()
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
