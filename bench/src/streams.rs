//! What the bench's service and the floor over Redis Streams have in common: the least of a client
//! that loses nothing. It reads as a consumer of a group, adds what it has to say, and then
//! acknowledges and deletes what it has read.

use std::time::Duration;

use redis::aio::{ConnectionLike, MultiplexedConnection};
use redis::{AsyncConnectionConfig, Cmd, Pipeline, Value};

use crate::Outcome;
use crate::servers;

/// Entries per read: what Crux has if nothing is set.
const COUNT: usize = 512;
/// How long the server lets a reader wait.
const BLOCK: Duration = Duration::from_secs(1);

/// A consumer of one stream.
pub struct Line {
    prefix: String,
    /// The stream that is read.
    key: String,
    group: &'static str,
    /// For commands that do not block.
    link: MultiplexedConnection,
    /// For reading: a blocking read occupies the connection.
    wire: MultiplexedConnection,
}

/// An entry's id and body.
pub type Entry = (String, Vec<u8>);
/// A stream with its entries: id, and names and values in turn.
type Read = (String, Vec<(String, Vec<Vec<u8>>)>);

impl Line {
    /// Creates the group, and the stream if there is none.
    pub async fn open(
        url: &str,
        prefix: &str,
        routing_key: &str,
        group: &'static str,
    ) -> Outcome<Self> {
        let client = servers::client(url)?;
        let config = AsyncConnectionConfig::new().set_response_timeout(None);
        let mut link = client.get_multiplexed_async_connection_with_config(&config).await?;
        let wire = client.get_multiplexed_async_connection_with_config(&config).await?;
        let key = key(prefix, routing_key);
        let mut create = redis::cmd("XGROUP");
        create.arg("CREATE").arg(&key).arg(group).arg("0").arg("MKSTREAM");
        match link.req_packed_command(&create).await?.extract_error() {
            Err(error) if error.code() != Some("BUSYGROUP") => return Err(error.into()),
            _ => {}
        }
        Ok(Self { prefix: prefix.to_owned(), key, group, link, wire })
    }

    /// The next entries; none if nothing comes for a while.
    pub fn read(&self) -> impl Future<Output = Outcome<Vec<Entry>>> + use<> {
        let mut read = redis::cmd("XREADGROUP");
        read.arg("GROUP")
            .arg(self.group)
            .arg("bench")
            .arg("COUNT")
            .arg(COUNT)
            .arg("BLOCK")
            .arg(BLOCK.as_millis() as u64);
        read.arg("STREAMS").arg(&self.key).arg(">");
        let mut wire = self.wire.clone();
        async move {
            let answer = wire.req_packed_command(&read).await?.extract_error()?;
            let streams: Option<Vec<Read>> = redis::from_redis_value(answer)?;
            let entries = streams.unwrap_or_default().into_iter().flat_map(|(_, entries)| entries);
            let body = |fields: Vec<Vec<u8>>| {
                fields.chunks_exact(2).find(|pair| pair[0] == b"body").map(|pair| pair[1].clone())
            };
            let read = entries
                .map(|(id, fields)| Ok((id, body(fields).ok_or("an entry without a body")?)));
            read.collect()
        }
    }

    /// Adds an entry to the stream of that key.
    pub fn add(&self, routing_key: &str, message_id: &str, body: &[u8]) -> Cmd {
        let mut add = redis::cmd("XADD");
        add.arg(key(&self.prefix, routing_key))
            .arg("*")
            .arg("routing_key")
            .arg(routing_key)
            .arg("message_id")
            .arg(message_id);
        add.arg("correlation_id").arg("").arg("traceparent").arg("").arg("body").arg(body);
        add
    }

    /// Acknowledges and deletes what was read.
    pub fn settle(&self, ids: &[String]) -> [Cmd; 2] {
        let (mut ack, mut delete) = (redis::cmd("XACK"), redis::cmd("XDEL"));
        ack.arg(&self.key).arg(self.group).arg(ids);
        delete.arg(&self.key).arg(ids);
        [ack, delete]
    }

    /// All together, in their order; an error of one is the error of all.
    pub fn send(&self, commands: Vec<Cmd>) -> impl Future<Output = Outcome<Vec<Value>>> + use<> {
        let mut link = self.link.clone();
        async move {
            let count = commands.len();
            let mut pipeline = Pipeline::with_capacity(count);
            for command in commands {
                pipeline.add_command(command);
            }
            let answers = link.req_packed_commands(&pipeline, 0, count).await?;
            Ok(answers.into_iter().map(Value::extract_error).collect::<Result<_, _>>()?)
        }
    }
}

/// As Crux names them.
fn key(prefix: &str, routing_key: &str) -> String {
    format!("{prefix}:stream:{{{routing_key}}}")
}
