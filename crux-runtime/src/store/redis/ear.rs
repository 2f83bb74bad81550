//! Hearing what other nodes publish: a connection of its own, on which nothing else is asked. When it breaks, a new one is made and
//! everything that is followed counts as missed.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use redis::aio::{AsyncPushSender, MultiplexedConnection, SendError};
use redis::cluster::ClusterClient;
use redis::cluster_async::ClusterConnection;
use redis::cluster_routing::{MultipleNodeRoutingInfo, RoutingInfo};
use redis::{AsyncConnectionConfig, ProtocolVersion, PushInfo, PushKind, RedisResult, Value};
use tokio::sync::{mpsc, watch};
use tokio::time::{MissedTickBehavior, interval, sleep};
use tracing::{info, warn};

use super::Shared;
use crate::id::InstanceId;
use crate::redis::link::{Address, tcp};
use crate::store::NodeNumber;
use crate::store::peers::Heard;

/// How often it is seen whether the connection still lives: one that only listens would not notice.
const PING_EVERY: Duration = Duration::from_secs(2);
/// Between two attempts to connect.
const PAUSE: Duration = Duration::from_millis(300);
/// What came and was not looked at yet; what finds no room is a gap.
const PUSHES: usize = 4096;

pub(super) struct Ear {
    pub shared: Arc<Shared>,
    pub address: Address,
    pub hears: mpsc::Sender<Heard>,
}

impl Ear {
    /// Until it is aborted, or nobody wants to hear any more.
    pub async fn listen(self, mut follows: watch::Receiver<BTreeSet<InstanceId>>) {
        let mut is_known = false;
        while !self.hears.is_closed() {
            let (pushes, pushed) = mpsc::channel(PUSHES);
            let missed = Arc::new(AtomicBool::new(false));
            let hears = Hears { pushes, missed: missed.clone() };
            let error = match Wire::open(&self.address, self.shared.link.is_cluster(), hears).await {
                Ok(wire) => {
                    if std::mem::take(&mut is_known) {
                        info!("other nodes are heard again");
                    }
                    match self.hear(wire, pushed, &missed, &mut follows).await {
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

    async fn hear(
        &self,
        mut wire: Wire,
        mut pushed: mpsc::Receiver<PushInfo>,
        missed: &AtomicBool,
        follows: &mut watch::Receiver<BTreeSet<InstanceId>>,
    ) -> RedisResult<()> {
        let mut membership = self.shared.node.membership();
        let mut number = membership.borrow_and_update().number;
        wire.subscribe(&self.shared.keys.inbox(number)).await?;
        let mut heard_of = BTreeSet::new();
        let wanted = follows.borrow_and_update().clone();
        self.follow(&mut wire, &mut heard_of, &wanted).await?;
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
                    wire.ping().await?;
                    if missed.swap(false, Ordering::SeqCst) && self.hears.send(Heard::Gap).await.is_err() {
                        return Ok(());
                    }
                }
            }
        }
    }

    /// Whoever begins to be heard of may have grown before.
    async fn follow(&self, wire: &mut Wire, heard_of: &mut BTreeSet<InstanceId>, wanted: &BTreeSet<InstanceId>) -> RedisResult<()> {
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
        let (Some(Value::BulkString(channel)), Some(Value::BulkString(message))) = (words.next(), words.next()) else { return None };
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

/// A connection that hears.
enum Wire {
    One(MultiplexedConnection),
    Many(ClusterConnection),
}

impl Wire {
    async fn open(address: &Address, is_cluster: bool, hears: Hears) -> RedisResult<Self> {
        if is_cluster {
            let client = ClusterClient::builder(address.nodes.clone())
                .use_protocol(ProtocolVersion::RESP3)
                .tcp_settings(tcp())
                .connection_timeout(address.timeout)
                .response_timeout(address.timeout)
                .retries(2)
                .push_sender(hears)
                .build()?;
            return Ok(Self::Many(client.get_async_connection().await?));
        }
        let mut last = broken("no address of Redis is known");
        for node in &address.nodes {
            let settings = node.redis_settings().clone().set_protocol(ProtocolVersion::RESP3);
            let client = redis::Client::open(node.clone().set_tcp_settings(tcp()).set_redis_settings(settings))?;
            let config = AsyncConnectionConfig::new()
                .set_connection_timeout(Some(address.timeout))
                .set_response_timeout(Some(address.timeout))
                .set_push_sender(hears.clone());
            match client.get_multiplexed_async_connection_with_config(&config).await {
                Ok(connection) => return Ok(Self::One(connection)),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    async fn subscribe(&mut self, channel: &str) -> RedisResult<()> {
        match self {
            Self::One(one) => redis::cmd("SSUBSCRIBE").arg(channel).exec_async(one).await,
            Self::Many(many) => many.ssubscribe(channel).await,
        }
    }

    async fn unsubscribe(&mut self, channel: &str) -> RedisResult<()> {
        match self {
            Self::One(one) => redis::cmd("SUNSUBSCRIBE").arg(channel).exec_async(one).await,
            Self::Many(many) => many.sunsubscribe(channel).await,
        }
    }

    async fn ping(&mut self) -> RedisResult<()> {
        let ping = redis::cmd("PING");
        match self {
            Self::One(one) => ping.exec_async(one).await,
            Self::Many(many) => {
                let masters = RoutingInfo::MultiNode((MultipleNodeRoutingInfo::AllMasters, None));
                many.route_command(ping, masters).await.map(drop)
            }
        }
    }
}
