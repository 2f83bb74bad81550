//! Receives what other nodes publish, on its own connection. When it breaks, it reconnects and
//! every followed instance is treated as having missed rows.

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
use crate::redis_client::{Address, RedisClient, tcp};
use crate::store::NodeNumber;
use crate::store::peers::PeerEvent;

/// A connection that only receives would not notice that it is dead.
const PING_INTERVAL: Duration = Duration::from_secs(2);
/// How long an answer may take.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(2);
/// Between two attempts to connect.
const RECONNECT_DELAY: Duration = Duration::from_millis(300);
/// Pushes that were received and not read yet; beyond it a gap is reported.
const PUSHES_LEN_MAX: usize = 4096;

pub(super) struct PubSubListener {
    pub shared: Arc<Shared>,
    pub address: Address,
    pub events: mpsc::Sender<PeerEvent>,
}

/// The first subscriptions of a connection.
struct Subscribed {
    number: NodeNumber,
    followed: BTreeSet<InstanceId>,
}

impl PubSubListener {
    /// Runs until it is aborted, or the receiver is dropped.
    pub async fn listen(self, mut follows: watch::Receiver<BTreeSet<InstanceId>>) {
        let mut is_known = false;
        while !self.events.is_closed() {
            let (pushes, pushed) = mpsc::channel(PUSHES_LEN_MAX);
            let missed = Arc::new(AtomicBool::new(false));
            let sink = PushSink { pushes, missed: missed.clone() };
            let mut channels = Connections::new(&self.address, &self.shared.link, sink);
            let error = match self.begin(&mut channels, &mut follows).await {
                Ok(subscribed) => {
                    if std::mem::take(&mut is_known) {
                        info!("receiving from other nodes again");
                    }
                    match self.receive(channels, subscribed, pushed, &missed, &mut follows).await {
                        Ok(()) => return,
                        Err(error) => error,
                    }
                }
                Err(error) => error,
            };
            if !std::mem::replace(&mut is_known, true) {
                warn!(%error, "cannot receive from other nodes; retrying");
            }
            sleep(RECONNECT_DELAY).await;
        }
    }

    /// Subscribes to the node's inbox and to the followed instances.
    async fn begin(
        &self,
        channels: &mut Connections,
        follows: &mut watch::Receiver<BTreeSet<InstanceId>>,
    ) -> RedisResult<Subscribed> {
        let membership = self.shared.node.membership();
        let number = membership.borrow().number;
        channels.subscribe(&self.shared.keys.inbox(number)).await?;
        let mut followed = BTreeSet::new();
        let wanted = follows.borrow_and_update().clone();
        self.follow(channels, &mut followed, &wanted).await?;
        Ok(Subscribed { number, followed })
    }

    async fn receive(
        &self,
        mut channels: Connections,
        Subscribed { mut number, mut followed }: Subscribed,
        mut pushed: mpsc::Receiver<PushInfo>,
        missed: &AtomicBool,
        follows: &mut watch::Receiver<BTreeSet<InstanceId>>,
    ) -> RedisResult<()> {
        let mut membership = self.shared.node.membership();
        membership.mark_changed();
        if self.events.send(PeerEvent::Gap).await.is_err() {
            return Ok(());
        }
        let mut ping = interval(PING_INTERVAL);
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
                        && channels.by_name.contains_key(&*String::from_utf8_lossy(channel))
                    {
                        return Err(broken("a channel has moved to another server"));
                    }
                    if let Some(event) = self.read(push, number)
                        && self.events.send(event).await.is_err()
                    {
                        return Ok(());
                    }
                }
                changed = follows.changed() => {
                    if changed.is_err() {
                        return Ok(());
                    }
                    let wanted = follows.borrow_and_update().clone();
                    self.follow(&mut channels, &mut followed, &wanted).await?;
                }
                changed = membership.changed() => {
                    if changed.is_err() {
                        return Ok(());
                    }
                    let now = membership.borrow_and_update().number;
                    if now != number {
                        channels.unsubscribe(&self.shared.keys.inbox(number)).await?;
                        channels.subscribe(&self.shared.keys.inbox(now)).await?;
                        number = now;
                    }
                }
                _ = ping.tick() => {
                    channels.check().await?;
                    if missed.swap(false, Ordering::SeqCst) && self.events.send(PeerEvent::Gap).await.is_err() {
                        return Ok(());
                    }
                }
            }
        }
    }

    /// An instance may have grown before it is followed.
    async fn follow(
        &self,
        channels: &mut Connections,
        followed: &mut BTreeSet<InstanceId>,
        wanted: &BTreeSet<InstanceId>,
    ) -> RedisResult<()> {
        for instance in followed.difference(wanted) {
            channels.unsubscribe(&self.shared.keys.live(*instance)).await?;
        }
        for instance in wanted.difference(followed) {
            channels.subscribe(&self.shared.keys.live(*instance)).await?;
            // The receiver was dropped: seen by the main loop.
            let _ = self.events.send(PeerEvent::Row(*instance, u32::MAX)).await;
        }
        followed.clone_from(wanted);
        Ok(())
    }

    /// `None`: nothing to tell, as the confirmation of a subscription.
    fn read(&self, push: PushInfo, number: NodeNumber) -> Option<PeerEvent> {
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
            return Some(PeerEvent::Message(message));
        }
        let (_, instance) = channel.rsplit_once(":live:")?;
        Some(PeerEvent::Row(
            instance.parse().ok()?,
            std::str::from_utf8(&message).ok()?.parse().ok()?,
        ))
    }
}

fn broken(text: &'static str) -> redis::RedisError {
    redis::RedisError::from((redis::ErrorKind::Io, text))
}

/// Where a connection puts its pushes; it must not wait.
#[derive(Clone)]
struct PushSink {
    pushes: mpsc::Sender<PushInfo>,
    missed: Arc<AtomicBool>,
}

impl AsyncPushSender for PushSink {
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

/// Subscribed connections: to the server, or to each master of a cluster that has a channel.
struct Connections {
    address: Address,
    link: RedisClient,
    sink: PushSink,
    connections: BTreeMap<String, MultiplexedConnection>,
    /// The channels by name, with the server where each is subscribed. After a channel moved,
    /// everything is subscribed again.
    by_name: BTreeMap<String, String>,
}

impl Connections {
    fn new(address: &Address, link: &RedisClient, sink: PushSink) -> Self {
        let (address, link) = (address.clone(), link.clone());
        Self { address, link, sink, connections: BTreeMap::new(), by_name: BTreeMap::new() }
    }

    async fn subscribe(&mut self, channel: &str) -> RedisResult<()> {
        let place =
            self.link.place_of(channel).ok_or_else(|| broken("no server has the channel"))?;
        let mut subscribe = redis::cmd("SSUBSCRIBE");
        subscribe.arg(channel);
        self.ask(&place, subscribe).await?;
        self.by_name.insert(channel.to_owned(), place);
        Ok(())
    }

    async fn unsubscribe(&mut self, channel: &str) -> RedisResult<()> {
        let Some(place) = self.by_name.remove(channel) else { return Ok(()) };
        let mut unsubscribe = redis::cmd("SUNSUBSCRIBE");
        unsubscribe.arg(channel);
        self.ask(&place, unsubscribe).await
    }

    /// Whether the connections live, and all channels are still at their server.
    async fn check(&mut self) -> RedisResult<()> {
        if self
            .by_name
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
                    let connection =
                        connect(&self.address, self.link.is_cluster().then_some(place), &self.sink)
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
    sink: &PushSink,
) -> RedisResult<MultiplexedConnection> {
    let mut last = broken("no address of Redis is known");
    for node in &address.nodes {
        let settings = node.redis_settings().clone().set_protocol(ProtocolVersion::RESP3);
        let mut info = node.clone().set_tcp_settings(tcp()).set_redis_settings(settings);
        if let Some((host, port)) = place.and_then(|place| place.rsplit_once(':')) {
            let port = port.parse().map_err(|_| broken("the port of a server is not a number"))?;
            info =
                info.set_addr(ConnectionAddr::Tcp(host.trim_matches(['[', ']']).to_owned(), port));
        }
        let client = redis::Client::open(info)?;
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(address.timeout))
            .set_response_timeout(Some(address.timeout))
            .set_push_sender(sink.clone());
        match client.get_multiplexed_async_connection_with_config(&config).await {
            Ok(connection) => return Ok(connection),
            Err(error) => last = error,
        }
    }
    Err(last)
}
