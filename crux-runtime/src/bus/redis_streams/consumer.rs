//! The consumer: reads what services and other programs add, all nodes together as one consumer
//! group. Each stream has a reader; when one of them loses its connection all start again, with
//! their unacknowledged entries.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::{BoxFuture, try_join_all};
use tokio::sync::watch;
use tracing::{debug, error};

use super::{Options, RECONNECT_DELAY_MAX, say_durability};
use crate::backoff::Backoff;
use crate::bus::MessageHandler;
use crate::bus::broker::Consume;
use crate::bus::broker::status::{LinkStatus, State};
use crate::bus::broker::task_delivery::TaskHandler;
use crate::bus::broker::worker_registry::WorkerRegistry;
use crate::bus::redis_streams::reader::{READ_BLOCK_TIMEOUT, Reader};
use crate::bus::redis_streams::scripts::TIDY;
use crate::bus::redis_streams::task_consumer::TaskSession;
use crate::bus::redis_streams::topology::{Stream, Topology};
use crate::bus::session::{Session, keep_connected, stopped};
use crate::redis_client::{Address, Call, Error, RedisClient};

/// How often what all groups have acknowledged is removed where it was not removed immediately.
const TRIM_INTERVAL: Duration = Duration::from_secs(5);

/// See the module's text.
#[derive(Clone)]
pub(super) struct Consumer {
    pub(super) options: Arc<Options>,
    pub(super) address: Address,
    pub(super) topology: Arc<Topology>,
    pub(super) state: Arc<State>,
    pub(super) workers: Arc<WorkerRegistry>,
    /// This process in the groups.
    pub(super) name: Arc<str>,
    pub(super) stopping: watch::Receiver<bool>,
}

impl Consume for Consumer {
    fn run(&self, handler: Arc<dyn MessageHandler>) -> BoxFuture<'static, ()> {
        let (consumer, stopping) = (self.clone(), self.stopping.clone());
        let says_durability = self.options.says_durability;
        let consuming = ConsumerSession { consumer, handler, says_durability };
        Box::pin(keep_connected(consuming, Backoff::up_to(RECONNECT_DELAY_MAX), stopping))
    }

    fn fetch(&self, handler: Arc<dyn TaskHandler>) -> BoxFuture<'static, ()> {
        let (consumer, stopping) = (self.clone(), self.stopping.clone());
        Box::pin(keep_connected(
            TaskSession { consumer, handler },
            Backoff::up_to(RECONNECT_DELAY_MAX),
            stopping,
        ))
    }

    fn worker_registry(&self) -> Option<&Arc<WorkerRegistry>> {
        Some(&self.workers)
    }
}

/// Gives the handler what services and others add.
struct ConsumerSession {
    consumer: Consumer,
    handler: Arc<dyn MessageHandler>,
    /// Until the first connection.
    says_durability: bool,
}

impl Session for ConsumerSession {
    type Error = Error;

    async fn run(&mut self, backoff: &mut Backoff) -> Result<(), Error> {
        let client = RedisClient::open(&self.consumer.address).await?;
        if std::mem::take(&mut self.says_durability) {
            say_durability(&client, &self.consumer.address).await;
        }
        self.consumer.session(&client, &*self.handler, backoff).await
    }

    fn set_down(&mut self, reason: String) {
        self.consumer.state.set_consuming(LinkStatus::Down(reason));
    }
}

impl Consumer {
    pub(super) fn new(
        options: Arc<Options>,
        address: Address,
        topology: Arc<Topology>,
        state: Arc<State>,
        stopping: watch::Receiver<bool>,
    ) -> Self {
        Self {
            options,
            address,
            topology,
            state,
            workers: Arc::default(),
            name: name().into(),
            stopping,
        }
    }

    /// Reads until a connection is lost, or until the process stops. `client`: for everything that
    /// does not block.
    async fn session(
        &self,
        client: &RedisClient,
        handler: &dyn MessageHandler,
        backoff: &mut Backoff,
    ) -> Result<(), Error> {
        let mut wrong = Vec::new();
        for stream in &self.topology.work {
            match create_group(client, &stream.key, crate::bus::redis_streams::topology::WORKERS)
                .await
            {
                Err(Error::WrongType(why)) => wrong.push((stream, why)),
                result => result?,
            }
        }
        let mut readers = Vec::new();
        for stream in &self.topology.own {
            match self.reader(client, handler, stream).await {
                Err(Error::WrongType(why)) => wrong.push((stream, why)),
                reader => readers.push(reader?),
            }
        }
        for (stream, why) in &wrong {
            error!(
                stream = stream.key,
                why,
                "the key does not hold a stream: another client wrote it; delete the key. Other streams are read"
            );
        }
        self.state.set_consuming(match wrong.first() {
            None => LinkStatus::Up,
            Some((stream, why)) => {
                LinkStatus::Blocked(format!("`{}` is not a stream: {why}", stream.key))
            }
        });
        backoff.reset();
        let reading = async { try_join_all(readers.into_iter().map(Reader::run)).await.map(drop) };
        let mut stopping = self.stopping.clone();
        let tidying = async {
            tokio::select! {
                result = self.tidy(client) => result,
                result = self.redeliver_due(client) => result,
                result = wait_until_stream(client, &wrong) => result,
                () = stopped(&mut stopping) => Ok(()),
            }
        };
        let hearing = self.listen(&self.topology.workers, |said| self.workers.receive_text(said));
        tokio::try_join!(reading, tidying, hearing).map(drop)
    }

    async fn reader<'a>(
        &'a self,
        client: &'a RedisClient,
        handler: &'a dyn MessageHandler,
        stream: &'a Stream,
    ) -> Result<Reader<'a>, Error> {
        create_group(client, &stream.key, crate::bus::redis_streams::topology::GROUP).await?;
        // A blocking read occupies its connection for the whole timeout.
        let patient =
            Address { timeout: self.address.timeout + READ_BLOCK_TIMEOUT, ..self.address.clone() };
        let blocking_client = RedisClient::open(&patient).await?;
        Ok(Reader::new(self, handler, stream, &self.topology.dead, client, blocking_client))
    }

    /// Entries that services acknowledge but do not delete are deleted once all groups have
    /// acknowledged them.
    async fn tidy(&self, client: &RedisClient) -> Result<(), Error> {
        loop {
            tokio::time::sleep(TRIM_INTERVAL).await;
            let calls = self.topology.keys().map(|key| Call {
                script: &TIDY,
                base: key.to_owned(),
                args: Vec::new(),
            });
            for result in client.call_all(calls.collect()).await {
                match result {
                    Err(Error::Broken(why) | Error::WrongType(why)) => {
                        debug!(why, "a stream cannot be tidied up")
                    }
                    result => drop(result?),
                }
            }
        }
    }
}

/// Ends, so that everything starts again, when one of these is a stream after all.
async fn wait_until_stream(client: &RedisClient, wrong: &[(&Stream, String)]) -> Result<(), Error> {
    loop {
        tokio::time::sleep(TRIM_INTERVAL).await;
        for (stream, _) in wrong {
            let mut look = redis::cmd("TYPE");
            look.arg(&stream.key);
            let kind = client.ask(look).await?;
            if matches!(&kind, redis::Value::SimpleString(kind) if kind == "none" || kind == "stream")
            {
                return Err(Error::Refused(format!("`{}` can be read now", stream.key)));
            }
        }
    }
}

/// A group that begins with the stream's first entry; the stream too, if there is none.
pub(super) async fn create_group(
    client: &RedisClient,
    key: &str,
    group: &str,
) -> Result<(), Error> {
    let mut create = redis::cmd("XGROUP");
    create.arg("CREATE").arg(key).arg(group).arg("0").arg("MKSTREAM");
    match client.ask(create).await {
        Err(error) if error.to_string().contains("BUSYGROUP") => Ok(()),
        result => result.map(drop),
    }
}

/// Unlike that of any other process, also of one that had this number before.
fn name() -> String {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let mut random = [0; 4];
    // Without randomness two processes of one number and host may share a name, and what the older
    // one held is taken over immediately.
    let _ = getrandom::fill(&mut random);
    let random: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{}-{}-{random}", host.trim(), std::process::id())
}
