//! Redis Streams, on one server and on a cluster: listeners are groups.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crux_runtime::bus::http::Local;
use crux_runtime::bus::redis_streams as bus;
use crux_runtime::bus::redis_streams::Options;
use futures_util::future::BoxFuture;
use redis::aio::{ConnectionLike, MultiplexedConnection};
use redis::cluster::ClusterClient;
use redis::cluster_async::ClusterConnection;
use redis::{Cmd, Value, cmd, from_redis_value};

use crate::harness::{Far, Got, Harness, app, fresh_name};

/// An id, and its fields.
type Entry = (String, BTreeMap<String, String>);

#[derive(Clone)]
enum Wire {
    One(MultiplexedConnection),
    Many(ClusterConnection),
}

struct Line {
    prefix: String,
    wire: Wire,
}

impl Line {
    fn stream(&self, key: &str) -> String {
        format!("{}:stream:{{{key}}}", self.prefix)
    }

    async fn ask(&self, command: Cmd) -> Value {
        let answer = match self.wire.clone() {
            Wire::One(mut one) => one.req_packed_command(&command).await,
            Wire::Many(mut many) => many.req_packed_command(&command).await,
        };
        answer.and_then(Value::extract_error).unwrap()
    }

    async fn group(&self, key: &str, group: &str) {
        let mut create = cmd("XGROUP");
        create.arg("CREATE").arg(self.stream(key)).arg(group).arg("0").arg("MKSTREAM");
        self.ask(create).await;
    }

    /// The fields of the next entry for a group, which is taken for good.
    async fn take(&self, key: &str, group: &str) -> BTreeMap<String, String> {
        loop {
            let mut read = cmd("XREADGROUP");
            read.arg("GROUP")
                .arg(group)
                .arg("test")
                .arg("COUNT")
                .arg(1)
                .arg("NOACK")
                .arg("STREAMS")
                .arg(self.stream(key))
                .arg(">");
            let read: Option<Vec<(String, Vec<Entry>)>> =
                from_redis_value(self.ask(read).await).unwrap();
            if let Some((_, fields)) = read
                .and_then(|mut streams| streams.pop())
                .and_then(|(_, mut entries)| entries.pop())
            {
                return fields;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

impl Far for Line {
    fn next<'a>(&'a self, key: &'a str, listener: &'a str) -> BoxFuture<'a, Got> {
        Box::pin(async move {
            let fields = self.take(key, listener).await;
            Got {
                correlation_id: fields["correlation_id"].clone(),
                traceparent: fields["traceparent"].clone(),
                body: serde_json::from_str(&fields["body"]).unwrap(),
            }
        })
    }

    fn send<'a>(&'a self, key: &'a str, id: &'a str, body: &'a str) -> BoxFuture<'a, ()> {
        Box::pin(async move {
            let mut add = cmd("XADD");
            add.arg(self.stream(key)).arg("*").arg("message_id").arg(id).arg("body").arg(body);
            self.ask(add).await;
        })
    }

    fn dead(&self) -> BoxFuture<'_, (String, String)> {
        Box::pin(async {
            self.group("dead", "people").await;
            let fields = self.take("dead", "people").await;
            (fields["body"].clone(), fields["reason"].clone())
        })
    }
}

async fn harness(url: String, wire: Wire, listeners: &[(&str, &str)]) -> Harness {
    let line = Line { prefix: fresh_name(), wire };
    for (key, listener) in listeners {
        line.group(key, listener).await;
    }
    let options = Options {
        prefix: line.prefix.clone(),
        lease: Duration::from_secs(2),
        prefetch: 7,
        parked_retry_delay: Duration::from_secs(1),
        ..Options::new(url)
    };
    let pushed = Arc::new(Local::new(&app(), Vec::new(), 1 << 20).unwrap());
    let broker = Arc::new(bus::open(&app(), options, pushed, &[]).await.unwrap());
    Harness { bus: broker.clone(), broker: Some(broker), far: Box::new(line) }
}

mod single {
    use std::sync::OnceLock;

    use super::*;
    use crate::redis_server::Redis;

    /// The server that tests share; it ends with the process.
    fn shared() -> String {
        static SERVER: OnceLock<Redis> = OnceLock::new();
        SERVER.get_or_init(Redis::start).url()
    }

    fn open(listeners: &'static [(&'static str, &'static str)]) -> BoxFuture<'static, Harness> {
        Box::pin(async move {
            let url = tokio::task::block_in_place(shared);
            let wire = redis::Client::open(url.as_str())
                .unwrap()
                .get_multiplexed_async_connection()
                .await
                .unwrap();
            harness(url, Wire::One(wire), listeners).await
        })
    }

    crate::suite! { broker "needs redis-server", open }
}

mod cluster {
    use std::sync::OnceLock;

    use super::*;
    use crate::redis_server::Cluster;

    fn shared() -> String {
        static CLUSTER: OnceLock<Cluster> = OnceLock::new();
        CLUSTER.get_or_init(Cluster::start).url()
    }

    fn open(listeners: &'static [(&'static str, &'static str)]) -> BoxFuture<'static, Harness> {
        Box::pin(async move {
            let url = tokio::task::block_in_place(shared);
            let wire = ClusterClient::new(vec![url.as_str()])
                .unwrap()
                .get_async_connection()
                .await
                .unwrap();
            harness(url, Wire::Many(wire), listeners).await
        })
    }

    crate::suite! { broker "needs redis-server", open }
}
