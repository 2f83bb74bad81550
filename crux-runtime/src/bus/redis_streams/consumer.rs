//! The consumer: reads what services and others add, all nodes together as one group. Each stream
//! has a reader; when one of them loses its connection all begin again, with what they had and did
//! not acknowledge.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::{BoxFuture, try_join_all};
use tokio::sync::watch;
use tracing::{debug, error};

use super::{Options, PAUSE_MAX, say_durability};
use crate::backoff::Backoff;
use crate::bus::Door;
use crate::bus::broker::Consume;
use crate::bus::broker::status::{Link as Condition, State};
use crate::bus::broker::task_delivery::Hands;
use crate::bus::broker::worker_registry::Roster;
use crate::bus::redis_streams::reader::{BLOCK, Reader};
use crate::bus::redis_streams::scripts::TIDY;
use crate::bus::redis_streams::task_consumer::Tasks;
use crate::bus::redis_streams::topology::{Stream, Topology};
use crate::bus::session::{Session, keep_connected, stopped};
use crate::redis_client::{Address, Call, Error, Link};

/// How often what all groups have acknowledged is removed where it was not at once.
const TIDY_EVERY: Duration = Duration::from_secs(5);

/// See the module's text.
#[derive(Clone)]
pub(super) struct Consumer {
    pub(super) options: Arc<Options>,
    pub(super) address: Address,
    pub(super) topology: Arc<Topology>,
    pub(super) state: Arc<State>,
    pub(super) roster: Arc<Roster>,
    /// This process in the groups.
    pub(super) name: Arc<str>,
    pub(super) stopping: watch::Receiver<bool>,
}

impl Consume for Consumer {
    fn run(&self, door: Arc<dyn Door>) -> BoxFuture<'static, ()> {
        let (consumer, stopping) = (self.clone(), self.stopping.clone());
        let says_durability = self.options.says_durability;
        let consuming = Consuming { consumer, door, says_durability };
        Box::pin(keep_connected(consuming, Backoff::up_to(PAUSE_MAX), stopping))
    }

    fn fetch(&self, hands: Arc<dyn Hands>) -> BoxFuture<'static, ()> {
        let (consumer, stopping) = (self.clone(), self.stopping.clone());
        Box::pin(keep_connected(Tasks { consumer, hands }, Backoff::up_to(PAUSE_MAX), stopping))
    }

    fn roster(&self) -> Option<&Arc<Roster>> {
        Some(&self.roster)
    }
}

/// Gives the door what services and others add.
struct Consuming {
    consumer: Consumer,
    door: Arc<dyn Door>,
    /// Until the first connection.
    says_durability: bool,
}

impl Session for Consuming {
    type Error = Error;

    async fn run(&mut self, backoff: &mut Backoff) -> Result<(), Error> {
        let link = Link::open(&self.consumer.address).await?;
        if std::mem::take(&mut self.says_durability) {
            say_durability(&link, &self.consumer.address).await;
        }
        self.consumer.session(&link, &*self.door, backoff).await
    }

    fn set_down(&mut self, reason: String) {
        self.consumer.state.set_consuming(Condition::Down(reason));
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
            roster: Arc::default(),
            name: name().into(),
            stopping,
        }
    }

    /// Reads until a connection is lost, or until the process stops. `link`: for everything that
    /// does not block.
    async fn session(
        &self,
        link: &Link,
        door: &dyn Door,
        backoff: &mut Backoff,
    ) -> Result<(), Error> {
        let mut wrong = Vec::new();
        for stream in &self.topology.work {
            match create_group(link, &stream.key, crate::bus::redis_streams::topology::WORKERS)
                .await
            {
                Err(Error::WrongType(why)) => wrong.push((stream, why)),
                result => result?,
            }
        }
        let mut readers = Vec::new();
        for stream in &self.topology.own {
            match self.reader(link, door, stream).await {
                Err(Error::WrongType(why)) => wrong.push((stream, why)),
                reader => readers.push(reader?),
            }
        }
        for (stream, why) in &wrong {
            error!(
                stream = stream.key,
                why,
                "what is stored there is no stream, and somebody else has written it: delete it; others are read"
            );
        }
        self.state.set_consuming(match wrong.first() {
            None => Condition::Up,
            Some((stream, why)) => {
                Condition::Blocked(format!("`{}` is no stream: {why}", stream.key))
            }
        });
        backoff.reset();
        let reading = async { try_join_all(readers.into_iter().map(Reader::run)).await.map(drop) };
        let mut stopping = self.stopping.clone();
        let tidying = async {
            tokio::select! {
                result = self.tidy(link) => result,
                result = self.take_back(link) => result,
                result = until_right(link, &wrong) => result,
                () = stopped(&mut stopping) => Ok(()),
            }
        };
        let hearing = self.listen(&self.topology.workers, |said| self.roster.hear_text(said));
        tokio::try_join!(reading, tidying, hearing).map(drop)
    }

    async fn reader<'a>(
        &'a self,
        link: &'a Link,
        door: &'a dyn Door,
        stream: &'a Stream,
    ) -> Result<Reader<'a>, Error> {
        create_group(link, &stream.key, crate::bus::redis_streams::topology::GROUP).await?;
        // Who waits for an entry keeps the connection from everybody else, and gets no answer for
        // so long.
        let patient = Address { timeout: self.address.timeout + BLOCK, ..self.address.clone() };
        let wire = Link::open(&patient).await?;
        Ok(Reader::new(self, door, stream, &self.topology.dead, link, wire))
    }

    /// What services acknowledge and do not delete goes when all groups have.
    async fn tidy(&self, link: &Link) -> Result<(), Error> {
        loop {
            tokio::time::sleep(TIDY_EVERY).await;
            let calls = self.topology.keys().map(|key| Call {
                script: &TIDY,
                base: key.to_owned(),
                args: Vec::new(),
            });
            for result in link.call_all(calls.collect()).await {
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

/// Ends, so that everything begins anew, when one of these is a stream after all.
async fn until_right(link: &Link, wrong: &[(&Stream, String)]) -> Result<(), Error> {
    loop {
        tokio::time::sleep(TIDY_EVERY).await;
        for (stream, _) in wrong {
            let mut look = redis::cmd("TYPE");
            look.arg(&stream.key);
            let kind = link.ask(look).await?;
            if matches!(&kind, redis::Value::SimpleString(kind) if kind == "none" || kind == "stream")
            {
                return Err(Error::Refused(format!("`{}` can be read now", stream.key)));
            }
        }
    }
}

/// A group that begins with the stream's first entry; the stream too, if there is none.
pub(super) async fn create_group(link: &Link, key: &str, group: &str) -> Result<(), Error> {
    let mut create = redis::cmd("XGROUP");
    create.arg("CREATE").arg(key).arg(group).arg("0").arg("MKSTREAM");
    match link.ask(create).await {
        Err(error) if error.to_string().contains("BUSYGROUP") => Ok(()),
        result => result.map(drop),
    }
}

/// Unlike that of any other process, also of one that had this number before.
fn name() -> String {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let mut random = [0; 4];
    // Without randomness two processes of one number and host may share a name, and what the older
    // one held is taken up at once.
    let _ = getrandom::fill(&mut random);
    let random: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{}-{}-{random}", host.trim(), std::process::id())
}
