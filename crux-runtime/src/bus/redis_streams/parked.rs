//! Entries that cannot be handled yet wait in a separate stream. After a delay one of the nodes
//! adds each to its own stream again.

use std::time::Duration;

use futures_util::future::try_join_all;
use tracing::warn;

use super::entry;
use crate::bus::redis_streams::consumer::Consumer;
use crate::bus::redis_streams::entry::Entry;
use crate::bus::redis_streams::reader::{dead_letter, reason_of};
use crate::bus::redis_streams::scripts::{DUE, PARK};
use crate::bus::redis_streams::topology::{Stream, key};
use crate::redis_client::{Call, Error, RedisClient};

/// How often it is looked for what was parked long enough.
const DUE_POLL_INTERVAL: Duration = Duration::from_secs(5);
/// Taken back at a time.
const BATCH_LEN: usize = 100;
/// Entries that wait; one for which there is no room stays where it is.
const PARKED_MAX: usize = 100_000;

impl Consumer {
    /// With why it is here and what an entry is read by. The id by which it was known is its
    /// message id: it comes back under another one.
    pub(super) fn park(&self, stream: &Stream, entry: &Entry, reason: &str) -> Call {
        let id =
            entry.field("message_id").filter(|id| !id.is_empty()).unwrap_or(entry.id.as_bytes());
        let field = |name| entry.field(name).unwrap_or_default();
        let pairs: [(&str, &[u8]); 7] = [
            ("reason", reason_of(reason).as_bytes()),
            ("stream", stream.key.as_bytes()),
            ("routing_key", stream.routing_key.as_bytes()),
            ("message_id", id),
            ("correlation_id", field("correlation_id")),
            ("traceparent", field("traceparent")),
            ("body", field("body")),
        ];
        let mut args = vec![PARKED_MAX.to_string().into_bytes()];
        args.extend(
            pairs.into_iter().flat_map(|(name, value)| [name.as_bytes().to_vec(), value.to_vec()]),
        );
        Call { script: &PARK, base: self.topology.parked.clone(), args }
    }

    /// Until the connection is lost.
    pub(super) async fn redeliver_due(&self, client: &RedisClient) -> Result<(), Error> {
        let pause = self.options.parked_retry_delay;
        loop {
            tokio::time::sleep(DUE_POLL_INTERVAL.min(pause / 2)).await;
            let args = [pause.as_millis().to_string(), BATCH_LEN.to_string()]
                .map(String::into_bytes)
                .into();
            let due = match client
                .call(Call { script: &DUE, base: self.topology.parked.clone(), args })
                .await
            {
                // Another client has written there: a person has to act, and everything else goes
                // on.
                Err(error @ (Error::WrongType(_) | Error::Broken(_) | Error::Full(_))) => {
                    warn!(stream = self.topology.parked, %error, "cannot read parked messages; retrying");
                    continue;
                }
                due => entry::listed(due?)?,
            };
            try_join_all(due.iter().map(|entry| self.again(client, entry))).await?;
        }
    }

    /// Back to its stream. One that cannot go there stays, and is due again.
    async fn again(&self, client: &RedisClient, entry: &Entry) -> Result<(), Error> {
        let parked = &self.topology.parked;
        let routing_key = entry
            .field("routing_key")
            .and_then(|key| std::str::from_utf8(key).ok())
            .unwrap_or_default();
        // Perhaps only another node reads it.
        let stream = key(&self.options.prefix, routing_key);
        let add = if entry.field("stream") == Some(stream.as_bytes()) {
            let mut add = redis::cmd("XADD");
            add.arg(stream).arg("*");
            let is_why = |name: &[u8]| [&b"reason"[..], b"stream"].contains(&name);
            for (name, value) in entry.fields.iter().flatten().filter(|(name, _)| !is_why(name)) {
                add.arg(name.as_slice()).arg(value.as_slice());
            }
            add
        } else {
            let here = Stream {
                key: parked.clone(),
                routing_key: routing_key.to_owned(),
                group: None,
                purpose: String::new(),
            };
            dead_letter(
                &self.topology.dead,
                &here,
                entry,
                "another client has put it among the parked messages",
            )
        };
        let mut delete = redis::cmd("XDEL");
        delete.arg(parked).arg(&entry.id);
        for command in [add, delete] {
            match client.ask(command).await {
                Err(error @ (Error::WrongType(_) | Error::Broken(_) | Error::Full(_))) => {
                    warn!(id = entry.id, routing_key, %error, "cannot redeliver a parked message; retrying");
                    return Ok(());
                }
                result => drop(result?),
            }
        }
        Ok(())
    }
}
