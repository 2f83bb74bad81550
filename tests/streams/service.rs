//! A service behind Redis Streams: it creates its own group, reads tasks, takes over what a dead
//! consumer held, reports by `step.completed`, and acknowledges.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use redis::aio::{ConnectionLike, MultiplexedConnection};
use redis::cluster::ClusterClient;
use redis::cluster_async::ClusterConnection;
use redis::{AsyncConnectionConfig, Cmd, RedisResult, Value as Answer, cmd, from_redis_value};
use serde_json::Value;

use crate::kit::upload::{self, Answering, DeadLetter, Services, Task};
pub use crate::kit::upload::{STEPS, completion};
use crate::kit::{PATIENCE, eventually};

/// After so long the services of these tests take over what another consumer holds.
const IDLE_MS: u64 = 1000;

/// A connection of a client that knows the prefix.
#[derive(Clone)]
pub struct Line {
    url: String,
    is_cluster: bool,
    pub prefix: String,
    wire: Wire,
}

#[derive(Clone)]
enum Wire {
    One(MultiplexedConnection),
    Many(ClusterConnection),
}

/// An entry as it was read.
#[derive(Debug, Clone)]
pub struct Entry {
    pub id: String,
    pub fields: BTreeMap<String, String>,
}

impl Entry {
    pub fn text(&self, name: &str) -> &str {
        self.fields.get(name).map_or("", String::as_str)
    }

    pub fn task(&self) -> Task {
        let [routing_key, message_id, correlation_id, traceparent] =
            ["routing_key", "message_id", "correlation_id", "traceparent"]
                .map(|name| self.text(name).to_owned());
        Task { routing_key, message_id, correlation_id, traceparent, body: self.body() }
    }

    pub fn body(&self) -> Value {
        serde_json::from_str(self.text("body")).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

impl Line {
    pub async fn open(url: &str, prefix: &str) -> Self {
        Self::try_open(url, prefix, false).await.expect("Redis takes connections")
    }

    pub async fn to_cluster(url: &str, prefix: &str) -> Self {
        Self::try_open(url, prefix, true).await.expect("the cluster takes connections")
    }

    async fn try_open(url: &str, prefix: &str, is_cluster: bool) -> RedisResult<Self> {
        let wire = if is_cluster {
            Wire::Many(
                ClusterClient::builder(vec![url])
                    .response_timeout(Duration::from_secs(5))
                    .build()?
                    .get_async_connection()
                    .await?,
            )
        } else {
            let patient =
                AsyncConnectionConfig::new().set_response_timeout(Some(Duration::from_secs(5)));
            Wire::One(
                redis::Client::open(url)?
                    .get_multiplexed_async_connection_with_config(&patient)
                    .await?,
            )
        };
        Ok(Self { url: url.to_owned(), is_cluster, prefix: prefix.to_owned(), wire })
    }

    pub async fn ask(&self, command: Cmd) -> RedisResult<Answer> {
        let answer = match &self.wire {
            Wire::One(one) => one.clone().req_packed_command(&command).await,
            Wire::Many(many) => many.clone().req_packed_command(&command).await,
        };
        answer.and_then(Answer::extract_error)
    }

    pub fn stream(&self, routing_key: &str) -> String {
        format!("{}:stream:{{{routing_key}}}", self.prefix)
    }

    /// Creates a group that reads from the beginning, unless there is one.
    pub async fn group(&self, routing_key: &str, group: &str) -> RedisResult<()> {
        let mut create = cmd("XGROUP");
        create.arg("CREATE").arg(self.stream(routing_key)).arg(group).arg("0").arg("MKSTREAM");
        match self.ask(create).await {
            Err(error) if error.code() != Some("BUSYGROUP") => Err(error),
            _ => Ok(()),
        }
    }

    pub async fn publish(&self, routing_key: &str, fields: &[(&str, &str)]) -> RedisResult<String> {
        let mut add = cmd("XADD");
        add.arg(self.stream(routing_key)).arg("*");
        for (name, value) in fields {
            add.arg(name).arg(value);
        }
        Ok(from_redis_value(self.ask(add).await?)?)
    }

    pub async fn complete(&self, task: &Value, result: &Value) {
        self.publish("step.completed", &[("body", &completion(task, result).to_string())])
            .await
            .unwrap();
    }

    /// Entries that nobody in the group was given before, for a consumer, which waits for them for
    /// a moment.
    pub async fn read(
        &self,
        routing_key: &str,
        group: &str,
        consumer: &str,
    ) -> RedisResult<Vec<Entry>> {
        let mut read = cmd("XREADGROUP");
        read.arg("GROUP").arg(group).arg(consumer).arg("COUNT").arg(20).arg("BLOCK").arg(200);
        read.arg("STREAMS").arg(self.stream(routing_key)).arg(">");
        match self.ask(read).await? {
            Answer::Array(mut streams) => match streams.pop() {
                Some(Answer::Array(mut stream)) => Ok(entries(stream.pop())),
                _ => Ok(Vec::new()),
            },
            _ => Ok(Vec::new()),
        }
    }

    /// What a consumer of the group held for long and did not acknowledge.
    pub async fn take_over(
        &self,
        routing_key: &str,
        group: &str,
        consumer: &str,
    ) -> RedisResult<Vec<Entry>> {
        let mut claim = cmd("XAUTOCLAIM");
        claim
            .arg(self.stream(routing_key))
            .arg(group)
            .arg(consumer)
            .arg(IDLE_MS)
            .arg("0-0")
            .arg("COUNT")
            .arg(20);
        match self.ask(claim).await? {
            Answer::Array(mut words) if words.len() >= 2 => Ok(entries(Some(words.swap_remove(1)))),
            _ => Ok(Vec::new()),
        }
    }

    /// Acknowledges and removes.
    pub async fn acknowledge(&self, routing_key: &str, group: &str, id: &str) -> RedisResult<()> {
        let key = self.stream(routing_key);
        let (mut ack, mut delete) = (cmd("XACK"), cmd("XDEL"));
        ack.arg(&key).arg(group).arg(id);
        delete.arg(&key).arg(id);
        self.ask(ack).await?;
        self.ask(delete).await.map(drop)
    }

    /// The next entry for a group, which is left unacknowledged.
    pub async fn next(&self, routing_key: &str, group: &str) -> Entry {
        self.group(routing_key, group).await.unwrap();
        let mut read = cmd("XREADGROUP");
        read.arg("GROUP")
            .arg(group)
            .arg("test")
            .arg("COUNT")
            .arg(1)
            .arg("STREAMS")
            .arg(self.stream(routing_key))
            .arg(">");
        eventually(&format!("an entry in {routing_key}"), || async {
            match self.ask(read.clone()).await.unwrap() {
                Answer::Array(mut streams) => match streams.pop() {
                    Some(Answer::Array(mut stream)) => entries(stream.pop()).pop(),
                    _ => None,
                },
                _ => None,
            }
        })
        .await
    }

    /// How many entries there are.
    pub async fn length(&self, routing_key: &str) -> u64 {
        let mut length = cmd("XLEN");
        length.arg(self.stream(routing_key));
        from_redis_value(self.ask(length).await.unwrap()).unwrap()
    }

    pub async fn is_empty(&self, routing_key: &str) {
        eventually(&format!("{routing_key} is not empty"), || async {
            (self.length(routing_key).await == 0).then_some(())
        })
        .await;
    }

    /// How many entries each consumer of Crux holds.
    pub async fn held(&self, routing_key: &str) -> BTreeMap<String, u64> {
        let mut info = cmd("XINFO");
        info.arg("CONSUMERS").arg(self.stream(routing_key)).arg("crux");
        let consumers: Vec<BTreeMap<String, Answer>> =
            from_redis_value(self.ask(info).await.unwrap()).unwrap();
        let consumer = |of: BTreeMap<String, Answer>| {
            (
                from_redis_value(of["name"].clone()).unwrap(),
                from_redis_value(of["pending"].clone()).unwrap(),
            )
        };
        consumers.into_iter().map(consumer).collect()
    }

    /// The three services of a product.
    pub async fn services(
        &self,
        answer: impl Fn(&Value) -> Value + Send + Sync + 'static,
    ) -> Services {
        let seen: Arc<Mutex<Vec<Task>>> = Arc::default();
        let answer: Arc<Answering> = Arc::new(answer);
        let mut working = Vec::new();
        for step in STEPS {
            let (url, prefix, is_cluster) =
                (self.url.clone(), self.prefix.clone(), self.is_cluster);
            let (tasks, answer) = (seen.clone(), answer.clone());
            let (ready, is_ready) = tokio::sync::oneshot::channel();
            working.push(tokio::spawn(async move {
                let mut ready = Some(ready);
                // As services do: the server may go, and come back.
                loop {
                    let worked = async {
                        let line = Line::try_open(&url, &prefix, is_cluster).await?;
                        work(&line, step, &tasks, &*answer, &mut ready).await
                    };
                    if let Err(error) = worked.await {
                        eprintln!("service of {step}: {error}");
                    }
                    tokio::time::sleep(Duration::from_millis(200)).await;
                }
            }));
            tokio::time::timeout(PATIENCE, is_ready)
                .await
                .expect("the service reads")
                .expect("the service lives");
        }
        Services::new(seen, working)
    }
}

impl upload::Line for Line {
    async fn services(&self, answer: impl Fn(&Value) -> Value + Send + Sync + 'static) -> Services {
        Self::services(self, answer).await
    }

    async fn publish(&self, routing_key: &str, message_id: &str, body: &str) {
        let fields = [("message_id", message_id), ("body", body)];
        // Without its own id it is the entry's.
        let from = usize::from(message_id.is_empty());
        Self::publish(self, routing_key, &fields[from..]).await.unwrap();
    }

    async fn dead_letter(&self) -> DeadLetter {
        let dead = self.next("dead", "people").await;
        self.acknowledge("dead", "people", &dead.id).await.unwrap();
        let [reason, routing_key, message_id, body] =
            ["reason", "routing_key", "message_id", "body"].map(|name| dead.text(name).to_owned());
        DeadLetter { reason, routing_key, message_id, body }
    }

    async fn dead_letters(&self) -> u64 {
        self.length("dead").await
    }

    async fn until_empty(&self, routing_key: &str) {
        self.is_empty(routing_key).await;
    }
}

async fn work(
    line: &Line,
    step: &str,
    tasks: &Mutex<Vec<Task>>,
    answer: &Answering,
    ready: &mut Option<tokio::sync::oneshot::Sender<()>>,
) -> RedisResult<()> {
    let (key, group, me) = (format!("step.{step}"), "workers", "one");
    line.group(&key, group).await?;
    if let Some(ready) = ready.take() {
        // Who asked for it waits.
        let _ = ready.send(());
    }
    loop {
        let mut entries = line.take_over(&key, group, me).await?;
        entries.extend(line.read(&key, group, me).await?);
        for entry in entries {
            let task = entry.body();
            let result = answer(&task);
            tasks.lock().unwrap().push(entry.task());
            // First the answer, then the acknowledgement: a service that dies in between does it again.
            if !result.is_null() {
                line.publish(
                    "step.completed",
                    &[("body", &completion(&task, &result).to_string())],
                )
                .await?;
            }
            line.acknowledge(&key, group, &entry.id).await?;
        }
    }
}

fn entries(answer: Option<Answer>) -> Vec<Entry> {
    let Some(Answer::Array(list)) = answer else { return Vec::new() };
    let entry = |answer: Answer| {
        let Answer::Array(mut words) = answer else { panic!("an entry is a list") };
        let fields = words.pop().unwrap();
        let fields: Vec<String> = from_redis_value(fields).unwrap();
        let pairs = fields.chunks(2).map(|pair| (pair[0].clone(), pair[1].clone()));
        Entry { id: from_redis_value(words.pop().unwrap()).unwrap(), fields: pairs.collect() }
    };
    list.into_iter().map(entry).collect()
}
