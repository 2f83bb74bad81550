//! How a worker process gets tasks: it reads as many as it has free slots. A task that it did not
//! begin within a lease, because it died, is claimed by another worker.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::future::{BoxFuture, try_join_all};
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval};
use tracing::{debug, info};

use super::entry;
use crate::backoff::Backoff;
use crate::bus::broker::status::LinkStatus;
use crate::bus::broker::task_delivery;
use crate::bus::broker::task_delivery::{Capacity, Delivery, Receipt, RejectedTask, TaskHandler};
use crate::bus::redis_streams::consumer::{Consumer, create_group};
use crate::bus::redis_streams::entry::Entry;
use crate::bus::redis_streams::reader::{READ_BLOCK_TIMEOUT, dead_letter};
use crate::bus::redis_streams::scripts::{GIVE_BACK, LEAVE, SETTLE};
use crate::bus::redis_streams::topology::{Stream, WORKERS};
use crate::bus::session::{Session, stopped};
use crate::redis_client::{Address, Call, Error, RedisClient};

/// How many tasks of a type are read at a time, at most.
const READ_COUNT_MAX: usize = 64;

/// Gives tasks of step structs to a worker's handler.
pub(super) struct TaskSession {
    pub(super) consumer: Consumer,
    pub(super) handler: Arc<dyn TaskHandler>,
}

impl Session for TaskSession {
    type Error = Error;

    async fn run(&mut self, backoff: &mut Backoff) -> Result<(), Error> {
        let client = RedisClient::open(&self.consumer.address).await?;
        self.consumer.fetch_tasks(&client, &self.handler, backoff).await
    }

    fn set_down(&mut self, reason: String) {
        self.consumer.state.set_consuming(LinkStatus::Down(reason));
    }
}

impl Consumer {
    async fn fetch_tasks(
        &self,
        client: &RedisClient,
        handler: &Arc<dyn TaskHandler>,
        backoff: &mut Backoff,
    ) -> Result<(), Error> {
        let mut streams = Vec::new();
        for (step_type, stream) in handler
            .step_types()
            .into_iter()
            .filter_map(|step_type| Some((step_type, self.topology.work_of(step_type)?)))
        {
            create_group(client, &stream.key, WORKERS).await?;
            // A blocking read occupies its connection for the whole timeout.
            let blocking_client = RedisClient::open(&Address {
                timeout: self.address.timeout + READ_BLOCK_TIMEOUT,
                ..self.address.clone()
            })
            .await?;
            streams.push(TaskFetcher {
                consumer: self,
                handler,
                step_type,
                stream,
                client,
                blocking_client,
                held: Arc::default(),
            });
        }
        self.state.set_consuming(LinkStatus::Up);
        backoff.reset();
        let fetching = try_join_all(streams.into_iter().map(TaskFetcher::run));
        let hearing =
            self.listen(&self.topology.cancelled, |said| task_delivery::cancel(&**handler, said));
        tokio::try_join!(fetching, hearing).map(drop)
    }
}

/// Given to this process and not settled, and when its claim was last renewed.
type Held = Arc<Mutex<HashMap<String, Instant>>>;

/// One stream.
struct TaskFetcher<'a> {
    consumer: &'a Consumer,
    handler: &'a Arc<dyn TaskHandler>,
    step_type: &'static str,
    stream: &'a Stream,
    /// For commands that do not block.
    client: &'a RedisClient,
    /// For reading.
    blocking_client: RedisClient,
    held: Held,
}

impl TaskFetcher<'_> {
    async fn run(self) -> Result<(), Error> {
        let mut stopping = self.consumer.stopping.clone();
        let lease = self.consumer.options.lease;
        let mut renewal = interval(lease / 3);
        renewal.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut capacity = self.handler.capacity(self.step_type);
        let mut reading: Option<BoxFuture<'_, Result<Vec<Entry>, Error>>> = None;
        loop {
            let now = *capacity.borrow_and_update();
            if now.is_closed && reading.is_none() {
                break;
            }
            if now.free > 0 && !now.is_closed && reading.is_none() {
                reading = Some(Box::pin(self.read(now.free)));
            }
            tokio::select! {
                entries = async { match reading.as_mut() { Some(reading) => reading.await, None => std::future::pending().await } } => {
                    reading = None;
                    for entry in entries? {
                        self.take(entry, false).await?;
                    }
                }
                _ = changed(&mut capacity), if reading.is_none() => {}
                _ = renewal.tick() => {
                    self.renew_claims().await?;
                    if now.free > 0 && !now.is_closed {
                        self.claim_abandoned(now.free).await?;
                    }
                }
                () = stopped(&mut stopping) => break,
            }
        }
        drop(reading);
        // Earlier tasks are settled until the process ends.
        stopped(&mut stopping).await;
        let lease = millis(lease).to_string();
        let args =
            [WORKERS, &*self.consumer.name, &lease].map(|word| word.as_bytes().to_vec()).into();
        self.client
            .call(Call { script: &LEAVE, base: self.stream.key.clone(), args })
            .await
            .map(drop)
    }

    async fn read(&self, free: usize) -> Result<Vec<Entry>, Error> {
        let mut read = redis::cmd("XREADGROUP");
        read.arg("GROUP")
            .arg(WORKERS)
            .arg(&*self.consumer.name)
            .arg("COUNT")
            .arg(free.min(READ_COUNT_MAX));
        read.arg("BLOCK")
            .arg(millis(READ_BLOCK_TIMEOUT))
            .arg("STREAMS")
            .arg(&self.stream.key)
            .arg(">");
        entry::read(self.blocking_client.ask(read).await?)
    }

    /// Entries of workers that have not renewed their claim for the length of a lease.
    async fn claim_abandoned(&self, free: usize) -> Result<(), Error> {
        let mut claim = redis::cmd("XAUTOCLAIM");
        claim
            .arg(&self.stream.key)
            .arg(WORKERS)
            .arg(&*self.consumer.name)
            .arg(millis(self.consumer.options.lease));
        claim.arg("0-0").arg("COUNT").arg(free.min(READ_COUNT_MAX));
        let (_, entries) = entry::claimed(self.client.ask(claim).await?)?;
        for entry in entries {
            info!(
                stream = self.stream.key,
                id = entry.id,
                "took over a task that another worker was given and did not begin with"
            );
            self.take(entry, true).await?;
        }
        Ok(())
    }

    async fn take(&self, entry: Entry, is_again: bool) -> Result<(), Error> {
        let state = &self.consumer.state;
        if entry.fields.is_none()
            || lock(&self.held).insert(entry.id.clone(), Instant::now()).is_some()
        {
            // Deleted while a consumer held it; or it is in hand here.
            return Ok(());
        }
        state.count_consumed(is_again);
        let receipt = Box::new(Ticket {
            id: entry.id.clone(),
            key: self.stream.key.clone(),
            client: self.client.clone(),
            held: self.held.clone(),
        });
        let rejected = match entry.incoming(&self.stream.routing_key) {
            Ok(incoming) => {
                let task = Delivery { body: incoming.body, is_again, receipt };
                task_delivery::deliver(self.handler, &self.stream.key, task).await
            }
            Err(reason) => {
                Some(RejectedTask::new(&self.stream.key, Default::default(), receipt, reason))
            }
        };
        if let Some(RejectedTask { receipt, reason, .. }) = rejected {
            let dead = &self.consumer.topology.dead;
            self.client.ask(dead_letter(dead, self.stream, &entry, &reason)).await?;
            task_delivery::acknowledge_dead_letter(state, receipt).await;
        }
        Ok(())
    }

    /// Of what takes long to settle.
    async fn renew_claims(&self) -> Result<(), Error> {
        let (now, third) = (Instant::now(), self.consumer.options.lease / 3);
        let mut claim = redis::cmd("XCLAIM");
        claim.arg(&self.stream.key).arg(WORKERS).arg(&*self.consumer.name).arg(0);
        let mut count = 0;
        for (id, renewed_at) in lock(&self.held)
            .iter_mut()
            .filter(|(_, renewed_at)| now.duration_since(**renewed_at) >= third / 2)
        {
            *renewed_at = now;
            claim.arg(id);
            count += 1;
        }
        if count > 0 {
            claim.arg("JUSTID");
            self.client.ask(claim).await?;
        }
        Ok(())
    }
}

/// Renews the claim of an entry.
struct Ticket {
    id: String,
    key: String,
    client: RedisClient,
    held: Held,
}

impl Ticket {
    fn call(&self, script: &'static crate::redis_client::Script) -> Call {
        Call {
            script,
            base: self.key.clone(),
            args: vec![WORKERS.as_bytes().to_vec(), self.id.as_bytes().to_vec()],
        }
    }
}

impl Receipt for Ticket {
    fn done(self: Box<Self>) -> BoxFuture<'static, bool> {
        Box::pin(async move {
            match self.client.call(self.call(&SETTLE)).await {
                Ok(settled) => settled == redis::Value::Int(1),
                Err(error) => {
                    debug!(%error, "a task could not be acknowledged: it comes again");
                    false
                }
            }
        })
    }

    fn give_back(self: Box<Self>) -> BoxFuture<'static, ()> {
        Box::pin(async move {
            if let Err(error) = self.client.call(self.call(&GIVE_BACK)).await {
                debug!(%error, "a task could not be given back: it comes again when nobody has said for long that he is at it");
            }
        })
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        lock(&self.held).remove(&self.id);
    }
}

/// A dropped handler has been closed before.
async fn changed(capacity: &mut watch::Receiver<Capacity>) {
    if capacity.changed().await.is_err() {
        std::future::pending().await
    }
}

fn lock(held: &Held) -> MutexGuard<'_, HashMap<String, Instant>> {
    // Nothing panics under the lock.
    held.lock().unwrap_or_else(PoisonError::into_inner)
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
