//! The store in Redis, a single server or a cluster, shared by nodes. What belongs to an instance
//! is under one tag and changes in one script; nothing is ever changed in two tags together. An
//! answered append is as durable as the server's settings make it
//! ([`crate::redis_client::durability`]).
//!
//! Start reading at [`keys`], then [`append`] and `lua/append.lua`. No command of Redis is written
//! outside this folder.

mod append;
mod birth;
mod error;
mod events;
mod foreign;
mod index;
mod keys;
mod lease;
mod list;
mod peers;
mod process_identity;
mod read;
mod scripts;
mod startup_checks;
mod subscriber;
mod unsettled;

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinHandle;
use tracing::info;

use self::birth::Birth;
use self::error::closed;
use self::foreign::Foreign;
use self::keys::Keys;
use self::peers::RedisPeers;
use super::peers::{NodeInfo, Peers};
use super::{
    Append, Appended, Count, Error, Filter, InUse, KeptEvent, Membership, Pending, Record, Seq,
    Settled, Store, Stored, Subscription, UndeliveredEvent,
};
use crate::id::InstanceId;
use crate::machine::Time;
use crate::redis_client::address::address;
use crate::redis_client::durability;
use crate::redis_client::durability::Durability;
use crate::redis_client::{Address, RedisClient};
use crate::store::redis::lease::NodeLease;
use crate::store::redis::startup_checks::{check_channels, check_format, say_durability};
use crate::supervise;

/// How long an append waits for replicas before its outcome counts as unknown.
const REPLICAS_TIMEOUT: Duration = Duration::from_secs(1);

/// Where the store is, and how it is used.
#[derive(Clone)]
pub struct Options {
    /// `redis://user:password@host:port/db`; of a cluster, one or several of its servers.
    pub urls: Vec<String>,
    /// Instead of those in the addresses.
    pub username: Option<String>,
    pub password: Option<String>,
    /// Every key begins with it; stores of several installations can share a server.
    pub prefix: String,
    /// How long an answer may take; after that its outcome is unknown.
    pub timeout: Duration,
    /// How long a node that says nothing is taken for alive.
    pub lease: Duration,
    /// This node's description for the others.
    pub about: NodeInfo,
    /// An error, not only a warning, if the server is set so that answers may be lost beyond the
    /// usual.
    pub require_durable: bool,
    /// How many replicas must have an append before it is answered; 0: none.
    pub wait_replicas: u32,
}

impl Options {
    pub fn new(url: impl Into<String>) -> Self {
        Self {
            urls: vec![url.into()],
            username: None,
            password: None,
            prefix: "crux".to_owned(),
            timeout: Duration::from_secs(5),
            lease: Duration::from_secs(10),
            about: NodeInfo::default(),
            require_durable: false,
            wait_replicas: 0,
        }
    }
}

/// See the module.
pub struct Redis {
    shared: Arc<Shared>,
    renewing: JoinHandle<()>,
    peers: Arc<RedisPeers>,
}

struct Shared {
    link: RedisClient,
    /// For what replicas are waited for: nothing else is answered on a connection that waits.
    replicated: RedisClient,
    keys: Keys,
    node: NodeLease,
    /// How many replicas are waited for.
    replicas: Option<u32>,
    /// `u64::MAX`: not known.
    free_bytes: AtomicU64,
    foreign: Foreign,
}

impl Redis {
    /// Connects, checks format and settings, and joins the nodes.
    pub async fn open(options: Options) -> Result<Self, Error> {
        let Options {
            urls,
            username,
            password,
            prefix,
            timeout,
            lease,
            about,
            require_durable,
            wait_replicas,
        } = options;
        if prefix.is_empty() || prefix.contains(['{', '}']) {
            return Err(Error::Broken(format!(
                "`redis.prefix` is `{prefix}`: it begins every key, so that it is not empty and has no braces"
            )));
        }
        let nodes = urls
            .iter()
            .map(|url| address(url, username.as_deref(), password.as_deref()))
            .collect::<Result<Vec<_>, _>>()?;
        let place = nodes.first().map_or_else(String::new, |node| node.addr().to_string());
        let address = Address { nodes, timeout };
        let link = RedisClient::open(&address).await?;
        let keys = Keys::new(&prefix);
        check_format(&link, &keys, &place).await?;
        say_durability(Durability::look(&link).await, &place, require_durable)?;
        check_channels(&link, &keys).await?;
        let birth = Birth::of(&link, &keys, random()?).await?;
        let node = NodeLease::join(&link, &keys, about, lease, birth).await?;
        info!(place, cluster = link.is_cluster(), node = node.number()?, "the store is open");
        let replicas = Some(wait_replicas).filter(|replicas| *replicas > 0);
        let replicated =
            if replicas.is_some() { link.another(&address).await? } else { link.clone() };
        let shared = Arc::new(Shared {
            link,
            replicated,
            keys,
            node,
            replicas,
            free_bytes: AtomicU64::new(u64::MAX),
            foreign: Foreign::default(),
        });
        shared.measure().await;
        let renewing = supervise::keep_running(
            "renewing the lease",
            supervise::never,
            lease::keep_lease(shared.clone()),
        );
        let peers = RedisPeers::begin(shared.clone(), address);
        Ok(Self { shared, renewing, peers })
    }

    /// A query: cancelled when its future is dropped.
    fn read<T: Send + 'static, F>(
        &self,
        read: impl FnOnce(Arc<Shared>) -> F + Send + 'static,
    ) -> Pending<Result<T, Error>>
    where
        F: Future<Output = Result<T, Error>> + Send + 'static,
    {
        Box::pin(read(self.shared.clone()))
    }

    /// A change: it is made also when its future is dropped.
    fn write<T: Send + 'static, F>(
        &self,
        write: impl FnOnce(Arc<Shared>) -> F + Send + 'static,
    ) -> Pending<Result<T, Error>>
    where
        F: Future<Output = Result<T, Error>> + Send + 'static,
    {
        let writing = supervise::spawn("writing to Redis", write(self.shared.clone()));
        Box::pin(async move {
            writing.await.unwrap_or_else(|error| {
                Err(Error::Broken(format!("a write to Redis panicked: {error}")))
            })
        })
    }
}

impl Drop for Redis {
    /// Without a farewell: the others notice when the lease is over.
    fn drop(&mut self) {
        self.renewing.abort();
        self.peers.end();
    }
}

impl Shared {
    /// By which connections these tags are reached, to be said before something is written there
    /// that replicas are to have.
    async fn connections(&self, bases: &[&str]) -> Vec<Option<u64>> {
        if self.replicas.is_none() {
            return Vec::new();
        }
        futures_util::future::join_all(bases.iter().map(|base| self.replicated.connection(base)))
            .await
    }

    /// Waits until enough replicas have what was written in these tags since their connections were
    /// those.
    async fn wait_for_replicas(&self, bases: &[&str], before: &[Option<u64>]) -> Result<(), Error> {
        let Some(wanted) = self.replicas else { return Ok(()) };
        let written: BTreeMap<Option<u64>, &str> =
            before.iter().copied().zip(bases.iter().copied()).collect();
        let waits =
            written.values().map(|base| self.replicated.replicas(base, wanted, REPLICAS_TIMEOUT));
        for reached in futures_util::future::join_all(waits).await {
            let reached = reached?;
            if reached < wanted {
                return Err(Error::Unavailable(format!(
                    "{reached} of {wanted} replicas have it (`store.wait_replicas`)"
                )));
            }
        }
        // Another connection has written nothing, and another server may know nothing of it: then
        // the answer is worth nothing.
        if self.connections(bases).await != before || before.contains(&None) {
            return Err(Error::Unavailable(
                "the connection was lost before replicas had it (`store.wait_replicas`)".to_owned(),
            ));
        }
        Ok(())
    }

    /// How much memory is left, where there is a limit.
    async fn measure(&self) {
        let mut info = redis::cmd("INFO");
        info.arg("memory");
        // It is asked again soon, and what is said meanwhile is what was so last.
        let Ok(answers) = self.link.ask_masters(info).await else { return };
        let free = |(_, info): (String, redis::Value)| {
            let info: String = redis::from_redis_value(info).ok()?;
            let number = |key| durability::setting(&info, key)?.parse::<u64>().ok();
            let limit = number("maxmemory").filter(|limit| *limit > 0)?;
            Some(limit.saturating_sub(number("used_memory")?))
        };
        self.free_bytes.store(
            answers.into_iter().filter_map(free).min().unwrap_or(u64::MAX),
            Ordering::Relaxed,
        );
    }
}

fn random() -> Result<u64, Error> {
    getrandom::u64().map_err(|error| Error::Broken(format!("no random numbers: {error}")))
}

impl Store for Redis {
    fn append(&self, batch: Vec<Append>) -> Pending<Vec<Result<Appended, Error>>> {
        let count = batch.len();
        let appending =
            self.write(move |shared| async move { Ok(append::append(&shared, batch).await) });
        Box::pin(async move { appending.await.unwrap_or_else(|error| vec![Err(error); count]) })
    }

    fn settle(&self, batch: Vec<Settled>) -> Pending<Result<(), Error>> {
        self.write(move |shared| async move { unsettled::settle(&shared, batch).await })
    }

    fn record(&self, instance: InstanceId) -> Pending<Result<Option<Record>, Error>> {
        self.read(move |shared| async move {
            Ok(read::records(&shared, &[instance]).await?.pop().flatten())
        })
    }

    fn rows(
        &self,
        instance: InstanceId,
        after: Seq,
        limit: usize,
    ) -> Pending<Result<Vec<Stored>, Error>> {
        self.read(move |shared| async move { read::rows(&shared, instance, after, limit).await })
    }

    fn list(&self, filter: Filter) -> Pending<Result<Vec<Record>, Error>> {
        self.read(move |shared| async move { list::list(&shared, &filter).await })
    }

    fn unsettled(
        &self,
        after: Option<InstanceId>,
        limit: usize,
    ) -> Pending<Result<Vec<InstanceId>, Error>> {
        self.read(move |shared| async move { unsettled::unsettled(&shared, after, limit).await })
    }

    fn due(
        &self,
        after: Option<(Time, InstanceId)>,
        until: Time,
        limit: usize,
    ) -> Pending<Result<Vec<(Time, InstanceId)>, Error>> {
        self.read(move |shared| async move { unsettled::due(&shared, after, until, limit).await })
    }

    fn claim(&self, batch: Vec<InstanceId>) -> Pending<Result<Vec<InstanceId>, Error>> {
        self.write(move |shared| async move { unsettled::claim(&shared, batch).await })
    }

    fn peers(&self) -> Option<Arc<dyn Peers>> {
        Some(self.peers.clone())
    }

    fn membership(&self) -> watch::Receiver<Membership> {
        self.shared.node.membership()
    }

    fn subscribe(&self, batch: Vec<Subscription>) -> Pending<Result<(), Error>> {
        self.write(move |shared| async move { events::subscriptions(&shared, batch, true).await })
    }

    fn unsubscribe(&self, batch: Vec<Subscription>) -> Pending<Result<(), Error>> {
        self.write(move |shared| async move { events::subscriptions(&shared, batch, false).await })
    }

    fn subscribers(
        &self,
        event: String,
        value: Option<String>,
        after: Option<Subscription>,
        limit: usize,
    ) -> Pending<Result<Vec<Subscription>, Error>> {
        self.read(move |shared| async move {
            events::subscribers(&shared, &event, value.as_deref(), after.as_ref(), limit).await
        })
    }

    fn keep(&self, batch: Vec<KeptEvent>) -> Pending<Result<Vec<bool>, Error>> {
        self.write(move |shared| async move { events::keep(&shared, batch).await })
    }

    fn kept(
        &self,
        event: String,
        value: Option<String>,
        now: Time,
    ) -> Pending<Result<Vec<KeptEvent>, Error>> {
        self.read(move |shared| async move {
            events::kept(&shared, &event, value.as_deref(), now).await
        })
    }

    fn delivered(&self, batch: Vec<(String, String)>) -> Pending<Result<(), Error>> {
        self.write(move |shared| async move { events::delivered(&shared, batch).await })
    }

    fn started(&self, batch: Vec<(String, String)>) -> Pending<Result<(), Error>> {
        self.write(move |shared| async move { events::started(&shared, batch).await })
    }

    fn undelivered(
        &self,
        after: Option<String>,
        limit: usize,
    ) -> Pending<Result<Vec<UndeliveredEvent>, Error>> {
        self.read(move |shared| async move { events::undelivered(&shared, after, limit).await })
    }

    fn in_use(&self) -> Pending<Result<Vec<InUse>, Error>> {
        self.read(move |shared| async move { list::in_use(&shared).await })
    }

    fn count(&self, workflows: Vec<String>) -> Pending<Result<Vec<Count>, Error>> {
        self.read(move |shared| {
            let workflows = workflows.clone();
            async move { list::count(&shared, &workflows).await }
        })
    }

    fn define(&self, hash: String, document: String) -> Pending<Result<(), Error>> {
        self.write(move |shared| async move { read::define(&shared, &hash, &document).await })
    }

    fn definition(&self, hash: String) -> Pending<Result<Option<String>, Error>> {
        self.read(move |shared| async move { read::definition(&shared, &hash).await })
    }

    fn expire(&self, now: Time, limit: usize) -> Pending<Result<usize, Error>> {
        self.write(move |shared| async move { unsettled::expire(&shared, now, limit).await })
    }

    fn free_bytes(&self) -> Option<u64> {
        Some(self.shared.free_bytes.load(Ordering::Relaxed)).filter(|free| *free < u64::MAX)
    }

    fn problem(&self) -> Option<String> {
        self.shared.node.problem()
    }

    fn close(&self) -> Pending<Result<(), Error>> {
        if !self.shared.link.close() {
            return Box::pin(async { Err(closed()) });
        }
        self.renewing.abort();
        self.peers.end();
        self.write(move |shared| async move { shared.node.leave(&shared.link, &shared.keys).await })
    }
}
