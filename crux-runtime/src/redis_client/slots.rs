//! Which server has which slots: as reported by the cluster, and by redirections of servers.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use redis::cluster_routing::Slot;
use redis::{ConnectionAddr, ConnectionInfo, RedisResult, Value};
use tokio::time::Instant;

use crate::redis_client::server::Server;

/// How many slots a cluster has.
const SLOTS: u16 = 16_384;
/// A server that has no slots any more may still answer what it was asked; after that long, nobody
/// waits for it.
const GRACE: Duration = Duration::from_secs(1);

/// The servers.
pub(super) struct Slots {
    timeout: Duration,
    /// Of which addresses are made that the cluster names.
    pattern: ConnectionInfo,
    /// By their places: those that were configured, and those that the cluster names.
    known: BTreeMap<String, KnownServer>,
    /// Those that have slots; a single server is the only one.
    masters: Vec<Arc<Server>>,
    /// Of a cluster.
    of: HashMap<Slot, usize>,
    ranges: Vec<Range>,
    is_cluster: bool,
}

struct KnownServer {
    server: Arc<Server>,
    is_configured: bool,
    /// Since when it has no slots, if it had some.
    left: Option<Instant>,
}

/// Slots in a row, and who has them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Range {
    first: u16,
    last: u16,
    master: String,
    replicas: Vec<String>,
}

impl Slots {
    /// A single server.
    pub(super) fn one(info: ConnectionInfo, timeout: Duration) -> Self {
        let server = Arc::new(Server::new(info.addr().to_string(), info.clone(), timeout));
        let (known, masters) = (BTreeMap::new(), vec![server]);
        Self {
            timeout,
            pattern: info,
            known,
            masters,
            of: HashMap::new(),
            ranges: Vec::new(),
            is_cluster: false,
        }
    }

    /// A cluster of which nothing is known but some servers.
    pub(super) fn many(
        nodes: &[ConnectionInfo],
        pattern: ConnectionInfo,
        timeout: Duration,
    ) -> Self {
        let configured = |info: &ConnectionInfo| {
            let place = info.addr().to_string();
            let server = Arc::new(Server::new(place.clone(), info.clone(), timeout));
            (place, KnownServer { server, is_configured: true, left: None })
        };
        let known = nodes.iter().map(configured).collect();
        Self {
            timeout,
            pattern,
            known,
            masters: Vec::new(),
            of: HashMap::new(),
            ranges: Vec::new(),
            is_cluster: true,
        }
    }

    pub(super) fn is_cluster(&self) -> bool {
        self.is_cluster
    }

    pub(super) fn masters(&self) -> &[Arc<Server>] {
        &self.masters
    }

    /// Those that have no slots.
    pub(super) fn others(&self) -> Vec<Arc<Server>> {
        let is_other = |known: &&KnownServer| {
            !self.masters.iter().any(|master| Arc::ptr_eq(master, &known.server))
        };
        self.known.values().filter(is_other).map(|known| known.server.clone()).collect()
    }

    /// Who has that key; `None`: nobody, as far as is known.
    pub(super) fn master_of(&self, key: &[u8]) -> Option<&Arc<Server>> {
        if !self.is_cluster {
            return self.masters.first();
        }
        self.of.get(&Slot::for_key(key)).and_then(|n| self.masters.get(*n))
    }

    /// The server at that place.
    pub(super) fn at(&mut self, place: &str) -> Option<Arc<Server>> {
        if let Some(known) = self.known.get(place) {
            return Some(known.server.clone());
        }
        let (host, port) = place.rsplit_once(':')?;
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let info =
            self.pattern.clone().set_addr(ConnectionAddr::Tcp(host.to_owned(), port.parse().ok()?));
        let server = Arc::new(Server::new(place.to_owned(), info, self.timeout));
        self.known.insert(
            place.to_owned(),
            KnownServer { server: server.clone(), is_configured: false, left: None },
        );
        Some(server)
    }

    /// A server has answered that the key's slot belongs to `server`.
    pub(super) fn moved(&mut self, key: &[u8], server: &Arc<Server>) {
        let n = self.masters.iter().position(|master| Arc::ptr_eq(master, server)).unwrap_or_else(
            || {
                self.masters.push(server.clone());
                self.masters.len() - 1
            },
        );
        self.of.insert(Slot::for_key(key), n);
        // The cluster's next answer counts, even if it equals the previous one.
        self.ranges.clear();
    }

    /// Applies the cluster's answer.
    pub(super) fn update(&mut self, ranges: Vec<Range>) {
        if ranges != self.ranges {
            self.masters.clear();
            self.of.clear();
            for range in &ranges {
                let Some(server) = self.at(&range.master) else { continue };
                let n = self
                    .masters
                    .iter()
                    .position(|master| Arc::ptr_eq(master, &server))
                    .unwrap_or_else(|| {
                        self.masters.push(server);
                        self.masters.len() - 1
                    });
                self.of
                    .extend((range.first..=range.last).filter_map(Slot::new).map(|slot| (slot, n)));
                for replica in &range.replicas {
                    self.at(replica);
                }
            }
            self.ranges = ranges;
        }
        let (masters, ranges) = (&self.masters, &self.ranges);
        self.known.retain(|place, known| {
            if masters.iter().any(|master| Arc::ptr_eq(master, &known.server)) {
                known.left = None;
                return true;
            }
            if known.left.get_or_insert_with(Instant::now).elapsed() < GRACE {
                return true;
            }
            known.server.abandon();
            known.is_configured || ranges.iter().any(|range| range.replicas.contains(place))
        });
    }
}

/// The answer to `CLUSTER SLOTS` of the server at `place`; `None`: it is not one, or nobody has any
/// slot.
pub(super) fn read(answer: RedisResult<Value>, place: &str) -> Option<Vec<Range>> {
    let Ok(Value::Array(rows)) = answer else { return None };
    let ranges: Vec<Range> = rows.into_iter().filter_map(|row| range(row, place)).collect();
    Some(ranges).filter(|ranges| !ranges.is_empty())
}

fn range(row: Value, place: &str) -> Option<Range> {
    let Value::Array(words) = row else { return None };
    let mut words = words.into_iter();
    let mut number = || match words.next()? {
        Value::Int(number) => u16::try_from(number).ok().filter(|slot| *slot < SLOTS),
        _ => None,
    };
    let (first, last) = (number()?, number()?);
    let mut servers = words.filter_map(|server| server_place(server, place));
    Some(Range { first, last, master: servers.next()?, replicas: servers.collect() })
}

/// Without a host it is that of the server that says so.
fn server_place(server: Value, place: &str) -> Option<String> {
    let Value::Array(words) = server else { return None };
    let mut words = words.into_iter();
    let host = match words.next()? {
        Value::BulkString(host) => String::from_utf8(host).ok()?,
        Value::SimpleString(host) => host,
        _ => String::new(),
    };
    let Value::Int(port) = words.next()? else { return None };
    Some(complete(&format!("{host}:{port}"), place))
}

/// `:7000`, as a server says of itself, with the host under which it was asked.
pub(super) fn complete(said: &str, place: &str) -> String {
    match (said.rsplit_once(':'), place.rsplit_once(':')) {
        (Some(("" | "?", port)), Some((host, _))) => format!("{host}:{port}"),
        _ => said.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use redis::IntoConnectionInfo;

    use super::*;

    fn word(text: &str) -> Value {
        Value::BulkString(text.as_bytes().to_vec())
    }

    fn row(first: i64, last: i64, servers: &[(&str, i64)]) -> Value {
        let server = |(host, port): &(&str, i64)| {
            Value::Array(vec![word(host), Value::Int(*port), word("id"), Value::Array(Vec::new())])
        };
        Value::Array(
            [Value::Int(first), Value::Int(last)]
                .into_iter()
                .chain(servers.iter().map(server))
                .collect(),
        )
    }

    fn cluster(rows: Vec<Value>) -> Slots {
        let info = "redis://127.0.0.1:7001".into_connection_info().unwrap();
        let mut slots =
            Slots::many(std::slice::from_ref(&info), info.clone(), Duration::from_secs(1));
        slots.update(read(Ok(Value::Array(rows)), "127.0.0.1:7001").unwrap());
        slots
    }

    fn place(slots: &Slots, key: &str) -> String {
        slots.master_of(key.as_bytes()).map_or_else(String::new, |server| server.place.clone())
    }

    #[tokio::test(start_paused = true)]
    async fn a_slot_is_found_where_the_cluster_or_a_redirection_says_it_is() {
        // `123456789` has slot 0x31C3 = 12739.
        let rows = || {
            vec![
                row(0, 12738, &[("", 7001)]),
                row(12739, 16383, &[("127.0.0.1", 7002), ("127.0.0.1", 7003)]),
            ]
        };
        let mut slots = cluster(rows());
        assert_eq!(place(&slots, "a{123456789}b"), "127.0.0.1:7002");
        assert_eq!((slots.masters().len(), slots.others().len()), (2, 1));
        let third = slots.at("127.0.0.1:7004").unwrap();
        slots.moved(b"{123456789}", &third);
        assert_eq!(place(&slots, "123456789"), "127.0.0.1:7004");
        slots.update(read(Ok(Value::Array(rows())), "127.0.0.1:7001").unwrap());
        assert_eq!(
            place(&slots, "123456789"),
            "127.0.0.1:7002",
            "what the cluster tells counts, also if it tells the same again"
        );
        // The replica takes over; the old server is forgotten after a while.
        let after = || {
            read(Ok(Value::Array(vec![row(0, 16383, &[("127.0.0.1", 7003)])])), "127.0.0.1:7003")
                .unwrap()
        };
        slots.update(after());
        assert_eq!(place(&slots, "123456789"), "127.0.0.1:7003");
        tokio::time::advance(GRACE).await;
        slots.update(after());
        let others: Vec<String> =
            slots.others().iter().map(|server| server.place.clone()).collect();
        assert_eq!(others, ["127.0.0.1:7001"], "the one that was configured stays known");
    }

    #[test]
    fn an_answer_without_slots_is_none() {
        assert_eq!(read(Ok(Value::Array(Vec::new())), "a:1"), None);
        assert_eq!(read(Ok(Value::Array(vec![row(0, 99_999, &[("a", 1)])])), "a:1"), None);
    }
}
