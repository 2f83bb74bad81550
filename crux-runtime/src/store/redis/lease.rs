//! This process among the nodes that share the store: its number, and the lease on it. A lease
//! lasts 10 s by the server's clock and is renewed every 3 s; a node that cannot renew stops its
//! work while its lease still holds, before others take over. For example: node 3 pauses for 12 s;
//! node 5 sees at its next renewal that node 3 is gone, fences it off in every tag, and claims its
//! instances; node 3 wakes up, its renewal is refused, and it continues as node 6. A node whose
//! lease expired never comes back under the same number.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use redis::Value;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};
use tracing::{info, warn};

use super::Shared;
use crate::redis_client::{Call, RedisClient};
use crate::store::peers::{NodeInfo, Peer};
use crate::store::redis::birth::Birth;
use crate::store::redis::error::unreadable;
use crate::store::redis::keys::Keys;
use crate::store::redis::process_identity::{NodeRecord, Process};
use crate::store::redis::scripts::{FENCE, LEAVE, RENEW};
use crate::store::{Error, Membership, NodeNumber};

/// The nodes at the last renewal.
#[derive(Debug, Clone, Default)]
pub(super) struct KnownNodes {
    /// Greater numbers may have come since, and live.
    pub newest: NodeNumber,
    pub live: Vec<NodeNumber>,
    /// Descriptions of the live nodes.
    pub records: Vec<NodeRecord>,
}

#[derive(Debug)]
pub(super) struct NodeLease {
    number: AtomicU64,
    known: Mutex<KnownNodes>,
    info: Mutex<NodeInfo>,
    membership: watch::Sender<Membership>,
    lease: Duration,
    pub birth: Birth,
    /// Why the last renewal failed; empty: it did not.
    failure: Mutex<String>,
}

impl NodeLease {
    /// Takes a number.
    pub async fn join(
        link: &RedisClient,
        keys: &Keys,
        info: NodeInfo,
        lease: Duration,
        birth: Birth,
    ) -> Result<Self, Error> {
        let (membership, _) = watch::channel(Membership::default());
        let (number, known, failure) = (AtomicU64::new(0), Mutex::default(), Mutex::default());
        let node =
            Self { number, known, info: Mutex::new(info), membership, lease, birth, failure };
        let first = node.renew(link, keys).await?;
        release_dead_nodes(link, keys, &first).await?;
        Ok(node)
    }

    /// Under which effects are carried out. An error while the lease does not hold.
    pub fn number(&self) -> Result<u64, Error> {
        if self.membership.borrow().holds_lease {
            Ok(self.number.load(Ordering::SeqCst))
        } else {
            Err(Error::Unavailable(self.without_lease()))
        }
    }

    fn without_lease(&self) -> String {
        let text =
            "this node could not renew its lease in time, so that others may have taken its place";
        match self.failure().as_str() {
            "" => text.to_owned(),
            failure => format!("{text}: {failure}"),
        }
    }

    /// Why it cannot work, although the server answers.
    pub fn problem(&self) -> Option<String> {
        let holds = self.membership.borrow().holds_lease;
        self.birth.problem().or_else(|| (!holds).then(|| self.without_lease()))
    }

    fn failure(&self) -> MutexGuard<'_, String> {
        // Nothing panics under the lock.
        self.failure.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn known(&self) -> KnownNodes {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The definitions that this node has; empty: it takes whatever there is.
    pub fn definitions(&self) -> Vec<String> {
        self.info().definitions.iter().map(|definition| definition.hash.clone()).collect()
    }

    pub fn publish_info(&self, info: NodeInfo) {
        *self.info() = info;
    }

    /// Those that live, as of the last renewal.
    pub fn nodes(&self) -> Vec<Peer> {
        let known = self.known();
        let peer = |(number, record): (NodeNumber, NodeRecord)| Peer {
            number,
            process: record.process.to_string(),
            info: record.info,
        };
        known.live.into_iter().zip(known.records).map(peer).collect()
    }

    fn info(&self) -> MutexGuard<'_, NodeInfo> {
        // Nothing panics under the lock.
        self.info.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn membership(&self) -> watch::Receiver<Membership> {
        self.membership.subscribe()
    }

    /// Lets the others take over immediately.
    pub async fn leave(&self, link: &RedisClient, keys: &Keys) -> Result<(), Error> {
        Ok(link.call_last(leave(keys, self.number.load(Ordering::SeqCst))).await?)
    }

    /// One renewal, and what it shows.
    async fn renew(&self, link: &RedisClient, keys: &Keys) -> Result<RenewalReply, Error> {
        let number = self.number.load(Ordering::SeqCst);
        let own = NodeRecord { process: Process::this(), info: self.info().clone() }.text();
        let ask = async |number| {
            RenewalReply::ask(link, keys, number, self.lease, &own, self.birth.id()).await
        };
        let mut answer = ask(Some(number).filter(|number| *number > 0)).await?;
        if matches!(answer, Renewal::Over) {
            warn!(
                node = number,
                "this node's lease expired and was taken over; continuing as a new node"
            );
            answer = ask(None).await?;
        }
        let seen = match answer {
            Renewal::Renewed(seen) => seen,
            Renewal::Over => return Err(unreadable("the answer to a new node")),
            Renewal::OtherStore => {
                self.birth.set_gone(true);
                // There is no lease any more, nor anything else.
                self.lost();
                return Err(Error::Broken("Redis was emptied, or is another store now".to_owned()));
            }
        };
        self.birth.set_gone(false);
        if !seen.gone.is_empty() {
            fence(link, keys, &seen.gone).await?;
        }
        self.number.store(seen.number, Ordering::SeqCst);
        let records = seen.records.iter().map(|text| NodeRecord::read(text)).collect();
        let known = KnownNodes { newest: seen.newest, live: seen.live.clone(), records };
        let before = std::mem::replace(
            &mut *self.known.lock().unwrap_or_else(PoisonError::into_inner),
            known,
        );
        // Another node may have fenced them off already.
        let departed =
            !seen.gone.is_empty() || before.live.iter().any(|number| !seen.live.contains(number));
        self.membership.send_if_modified(|membership| {
            let changed = departed || !membership.holds_lease || membership.number != seen.number;
            membership.number = seen.number;
            membership.departures += u64::from(departed);
            membership.holds_lease = true;
            changed
        });
        Ok(seen)
    }

    fn lost(&self) {
        let was_held = self
            .membership
            .send_if_modified(|membership| std::mem::take(&mut membership.holds_lease));
        if was_held {
            warn!(
                node = self.number.load(Ordering::SeqCst),
                "cannot renew the lease; this node stops working before it expires"
            );
        }
    }
}

/// Renews until the store is closed.
pub(super) async fn keep_lease(shared: Arc<Shared>) {
    let node = &shared.node;
    let (pause, notice) = (node.lease.mul_f64(0.3), node.lease.mul_f64(0.7));
    let mut held_since = Instant::now();
    let mut has_failed = false;
    loop {
        // Soon again after a failure: a fail-over may be over before the lease is.
        let pause = if has_failed { pause / 3 } else { pause };
        sleep(
            pause.min(notice.saturating_sub(held_since.elapsed())).max(Duration::from_millis(20)),
        )
        .await;
        let asked = Instant::now();
        let limit =
            pause.min(notice.saturating_sub(held_since.elapsed())).max(Duration::from_millis(20));
        match timeout(limit, node.renew(&shared.link, &shared.keys)).await {
            Ok(Ok(seen)) => {
                held_since = asked;
                node.failure().clear();
                // The next renewal does not wait for it.
                let _ = timeout(pause / 3, node.birth.look(&shared.link, &shared.keys)).await;
                if let Err(error) = release_dead_nodes(&shared.link, &shared.keys, &seen).await {
                    warn!(%error, "cannot announce the death of another node; its lease will expire by itself");
                }
                if std::mem::take(&mut has_failed) {
                    info!(node = seen.number, "the lease is being renewed again");
                }
            }
            failed => {
                let error = match failed {
                    Ok(Err(error)) => error.to_string(),
                    _ => "no answer in time".to_owned(),
                };
                if !std::mem::replace(&mut has_failed, true) {
                    warn!(error, "cannot renew the lease; retrying");
                }
                *node.failure() = error;
                if held_since.elapsed() >= notice {
                    node.lost();
                }
            }
        }
        shared.measure().await;
    }
}

/// The result of a renewal.
#[derive(Debug)]
struct RenewalReply {
    number: u64,
    newest: u64,
    live: Vec<u64>,
    gone: Vec<u64>,
    /// Descriptions of the live nodes.
    records: Vec<String>,
}

/// The result of a renewal.
enum Renewal {
    Renewed(RenewalReply),
    /// The lease expired, and another node took over.
    Over,
    /// The store is no longer the one that was opened.
    OtherStore,
}

impl RenewalReply {
    async fn ask(
        link: &RedisClient,
        keys: &Keys,
        number: Option<u64>,
        lease: Duration,
        record: &str,
        birth: &str,
    ) -> Result<Renewal, Error> {
        let number = number.map_or_else(String::new, |number| number.to_string());
        let args = [number, lease.as_millis().to_string(), record.to_owned(), birth.to_owned()]
            .map(String::into_bytes)
            .into();
        let answer =
            link.call(Call { script: &RENEW, base: keys.registry().to_owned(), args }).await?;
        match &answer {
            Value::Array(words) if matches!(words[..], [Value::Int(0)]) => {
                return Ok(Renewal::Over);
            }
            Value::Array(words) if matches!(words[..], [Value::Int(-1)]) => {
                return Ok(Renewal::OtherStore);
            }
            _ => {}
        }
        let (number, newest, live, gone, records) =
            redis::from_redis_value(answer).map_err(|_| unreadable("the answer to a renewal"))?;
        Ok(Renewal::Renewed(Self { number, newest, live, gone, records }))
    }

    fn others(&self) -> impl Iterator<Item = (u64, &str)> {
        self.live
            .iter()
            .copied()
            .zip(self.records.iter().map(String::as_str))
            .filter(|(number, _)| *number != self.number)
    }
}

/// Nodes of this machine whose process has ended are dead before their lease expires.
async fn release_dead_nodes(
    link: &RedisClient,
    keys: &Keys,
    seen: &RenewalReply,
) -> Result<(), Error> {
    let me = Process::this();
    for (number, about) in seen.others() {
        if me.knows_dead(about) {
            link.call(leave(keys, number)).await?;
        }
    }
    Ok(())
}

fn leave(keys: &Keys, number: u64) -> Call {
    Call {
        script: &LEAVE,
        base: keys.registry().to_owned(),
        args: vec![number.to_string().into_bytes()],
    }
}

/// After this, dead nodes cannot write anywhere; only then they are removed.
async fn fence(link: &RedisClient, keys: &Keys, gone: &[u64]) -> Result<(), Error> {
    let numbers: Vec<Vec<u8>> = gone.iter().map(|number| number.to_string().into_bytes()).collect();
    let call = |base: &String| Call { script: &FENCE, base: base.clone(), args: numbers.clone() };
    link.call_all(keys.all().iter().map(call).collect())
        .await
        .into_iter()
        .try_for_each(|result| result.map(drop))?;
    let mut forget = redis::cmd("SREM");
    forget.arg(format!("{}:gone", keys.registry())).arg(&numbers);
    Ok(link.ask(forget).await.map(drop)?)
}
