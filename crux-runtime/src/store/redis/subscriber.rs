//! Hearing what other nodes publish: a connection of its own, on which nothing else is asked. When
//! it breaks, a new one is made and everything that is followed counts as missed.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use redis::aio::{AsyncPushSender, MultiplexedConnection, SendError};
use redis::{
    AsyncConnectionConfig, Cmd, ConnectionAddr, ProtocolVersion, PushInfo, PushKind, RedisResult,
    Value,
};
use tokio::sync::{mpsc, watch};
use tokio::time::{MissedTickBehavior, interval, sleep};
use tracing::{info, warn};

use super::Shared;
use crate::id::InstanceId;
use crate::redis_client::{Address, Link, tcp};
use crate::store::NodeNumber;
use crate::store::peers::Heard;

/// How often it is seen whether the connection still lives: one that only listens would not notice.
const PING_EVERY: Duration = Duration::from_secs(2);
/// How long an answer may take.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(2);
/// Between two attempts to connect.
const PAUSE: Duration = Duration::from_millis(300);
/// What came and was not looked at yet; what finds no room is a gap.
const PUSHES: usize = 4096;

pub(super) struct Ear {
    pub shared: Arc<Shared>,
    pub address: Address,
    pub hears: mpsc::Sender<Heard>,
}

/// What is heard from the beginning.
struct Begun {
    number: NodeNumber,
    heard_of: BTreeSet<InstanceId>,
}

impl Ear {
    /// Until it is aborted, or nobody wants to hear any more.
    pub async fn listen(self, mut follows: watch::Receiver<BTreeSet<InstanceId>>) {
        let mut is_known = false;
        while !self.hears.is_closed() {
            let (pushes, pushed) = mpsc::channel(PUSHES);
            let missed = Arc::new(AtomicBool::new(false));
            let hears = Hears { pushes, missed: missed.clone() };
            let mut wire = Wire::new(&self.address, &self.shared.link, hears);
            let error = match self.begin(&mut wire, &mut follows).await {
                Ok(begun) => {
                    if std::mem::take(&mut is_known) {
                        info!("other nodes are heard again");
                    }
                    match self.hear(wire, begun, pushed, &missed, &mut follows).await {
                        Ok(()) => return,
                        Err(error) => error,
                    }
                }
                Err(error) => error,
            };
            if !std::mem::replace(&mut is_known, true) {
                warn!(%error, "other nodes are not heard; trying again");
            }
            sleep(PAUSE).await;
        }
    }

    /// Subscribes to what is to be heard.
    async fn begin(
        &self,
        wire: &mut Wire,
        follows: &mut watch::Receiver<BTreeSet<InstanceId>>,
    ) -> RedisResult<Begun> {
        let membership = self.shared.node.membership();
        let number = membership.borrow().number;
        wire.subscribe(&self.shared.keys.inbox(number)).await?;
        let mut heard_of = BTreeSet::new();
        let wanted = follows.borrow_and_update().clone();
        self.follow(wire, &mut heard_of, &wanted).await?;
        Ok(Begun { number, heard_of })
    }

    async fn hear(
        &self,
        mut wire: Wire,
        Begun { mut number, mut heard_of }: Begun,
        mut pushed: mpsc::Receiver<PushInfo>,
        missed: &AtomicBool,
        follows: &mut watch::Receiver<BTreeSet<InstanceId>>,
    ) -> RedisResult<()> {
        let mut membership = self.shared.node.membership();
        membership.mark_changed();
        if self.hears.send(Heard::Gap).await.is_err() {
            return Ok(());
        }
        let mut ping = interval(PING_EVERY);
        ping.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                push = pushed.recv() => {
                    let Some(push) = push else { return Err(broken("the connection is gone")) };
                    if push.kind == PushKind::Disconnection {
                        return Err(broken("the connection broke"));
                    }
                    // Not asked for: the slot of the channel is another server's now.
                    if let (PushKind::SUnsubscribe, Some(Value::BulkString(channel))) = (&push.kind, push.data.first())
                        && wire.channels.contains_key(&*String::from_utf8_lossy(channel))
                    {
                        return Err(broken("a channel has moved to another server"));
                    }
                    if let Some(heard) = self.read(push, number)
                        && self.hears.send(heard).await.is_err()
                    {
                        return Ok(());
                    }
                }
                changed = follows.changed() => {
                    if changed.is_err() {
                        return Ok(());
                    }
                    let wanted = follows.borrow_and_update().clone();
                    self.follow(&mut wire, &mut heard_of, &wanted).await?;
                }
                changed = membership.changed() => {
                    if changed.is_err() {
                        return Ok(());
                    }
                    let now = membership.borrow_and_update().number;
                    if now != number {
                        wire.unsubscribe(&self.shared.keys.inbox(number)).await?;
                        wire.subscribe(&self.shared.keys.inbox(now)).await?;
                        number = now;
                    }
                }
                _ = ping.tick() => {
                    wire.check().await?;
                    if missed.swap(false, Ordering::SeqCst) && self.hears.send(Heard::Gap).await.is_err() {
                        return Ok(());
                    }
                }
            }
        }
    }

    /// Whoever begins to be heard of may have grown before.
    async fn follow(
        &self,
        wire: &mut Wire,
        heard_of: &mut BTreeSet<InstanceId>,
        wanted: &BTreeSet<InstanceId>,
    ) -> RedisResult<()> {
        for instance in heard_of.difference(wanted) {
            wire.unsubscribe(&self.shared.keys.live(*instance)).await?;
        }
        for instance in wanted.difference(heard_of) {
            wire.subscribe(&self.shared.keys.live(*instance)).await?;
            // Nobody wants to hear any more: seen where it is waited for.
            let _ = self.hears.send(Heard::Row(*instance, u32::MAX)).await;
        }
        heard_of.clone_from(wanted);
        Ok(())
    }

    /// `None`: nothing to tell, as the confirmation of a subscription.
    fn read(&self, push: PushInfo, number: NodeNumber) -> Option<Heard> {
        if push.kind != PushKind::SMessage {
            return None;
        }
        let mut words = push.data.into_iter();
        let (Some(Value::BulkString(channel)), Some(Value::BulkString(message))) =
            (words.next(), words.next())
        else {
            return None;
        };
        let channel = String::from_utf8(channel).ok()?;
        if channel == self.shared.keys.inbox(number) {
            return Some(Heard::Message(message));
        }
        let (_, instance) = channel.rsplit_once(":live:")?;
        Some(Heard::Row(instance.parse().ok()?, std::str::from_utf8(&message).ok()?.parse().ok()?))
    }
}

fn broken(text: &'static str) -> redis::RedisError {
    redis::RedisError::from((redis::ErrorKind::Io, text))
}

/// Where a connection puts what it hears; it must not wait.
#[derive(Clone)]
struct Hears {
    pushes: mpsc::Sender<PushInfo>,
    missed: Arc<AtomicBool>,
}

impl AsyncPushSender for Hears {
    fn send(&self, push: PushInfo) -> Result<(), SendError> {
        match self.pushes.try_send(push) {
            Ok(()) => Ok(()),
            Err(mpsc::error::TrySendError::Full(_)) => {
                self.missed.store(true, Ordering::SeqCst);
                Ok(())
            }
            Err(mpsc::error::TrySendError::Closed(_)) => Err(SendError),
        }
    }
}

/// Connections that hear: to the server, or to each master of a cluster that has a channel.
struct Wire {
    address: Address,
    link: Link,
    hears: Hears,
    connections: BTreeMap<String, MultiplexedConnection>,
    /// The channels, and where they are heard. What is not heard there any more is not searched
    /// for: everything begins anew.
    channels: BTreeMap<String, String>,
}

impl Wire {
    fn new(address: &Address, link: &Link, hears: Hears) -> Self {
        let (address, link) = (address.clone(), link.clone());
        Self { address, link, hears, connections: BTreeMap::new(), channels: BTreeMap::new() }
    }

    async fn subscribe(&mut self, channel: &str) -> RedisResult<()> {
        let place =
            self.link.place_of(channel).ok_or_else(|| broken("no server has the channel"))?;
        let mut subscribe = redis::cmd("SSUBSCRIBE");
        subscribe.arg(channel);
        self.ask(&place, subscribe).await?;
        self.channels.insert(channel.to_owned(), place);
        Ok(())
    }

    async fn unsubscribe(&mut self, channel: &str) -> RedisResult<()> {
        let Some(place) = self.channels.remove(channel) else { return Ok(()) };
        let mut unsubscribe = redis::cmd("SUNSUBSCRIBE");
        unsubscribe.arg(channel);
        self.ask(&place, unsubscribe).await
    }

    /// Whether the connections live, and all channels are where they are heard.
    async fn check(&mut self) -> RedisResult<()> {
        if self
            .channels
            .iter()
            .any(|(channel, place)| self.link.place_of(channel).as_ref() != Some(place))
        {
            return Err(broken("a channel is at another server now"));
        }
        let places: Vec<String> = self.connections.keys().cloned().collect();
        for place in places {
            self.ask(&place, redis::cmd("PING")).await?;
        }
        Ok(())
    }

    async fn ask(&mut self, place: &str, command: Cmd) -> RedisResult<()> {
        let limit = ANSWER_TIMEOUT.min(self.address.timeout);
        let asked = async {
            let connection = match self.connections.get_mut(place) {
                Some(connection) => connection,
                None => {
                    let connection = connect(
                        &self.address,
                        self.link.is_cluster().then_some(place),
                        &self.hears,
                    )
                    .await?;
                    self.connections.entry(place.to_owned()).or_insert(connection)
                }
            };
            command.exec_async(connection).await
        };
        tokio::time::timeout(limit, asked)
            .await
            .unwrap_or_else(|_| Err(broken("no answer in time")))
    }
}

/// To that server of the cluster, or to the first that is there.
async fn connect(
    address: &Address,
    place: Option<&str>,
    hears: &Hears,
) -> RedisResult<MultiplexedConnection> {
    let mut last = broken("no address of Redis is known");
    for node in &address.nodes {
        let settings = node.redis_settings().clone().set_protocol(ProtocolVersion::RESP3);
        let mut info = node.clone().set_tcp_settings(tcp()).set_redis_settings(settings);
        if let Some((host, port)) = place.and_then(|place| place.rsplit_once(':')) {
            let port = port.parse().map_err(|_| broken("the port of a server is no number"))?;
            info =
                info.set_addr(ConnectionAddr::Tcp(host.trim_matches(['[', ']']).to_owned(), port));
        }
        let client = redis::Client::open(info)?;
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(address.timeout))
            .set_response_timeout(Some(address.timeout))
            .set_push_sender(hears.clone());
        match client.get_multiplexed_async_connection_with_config(&config).await {
            Ok(connection) => return Ok(connection),
            Err(error) => last = error,
        }
    }
    Err(last)
}
