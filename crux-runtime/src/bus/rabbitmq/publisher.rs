//! The publisher: one task that owns one channel, so that its confirms are its own. It keeps a
//! window of unconfirmed messages, publishes again what was not confirmed when a connection is
//! lost, and reports the result of each message to its sender.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt, Stream, StreamExt};
use lapin::options::{BasicPublishOptions, ConfirmSelectOptions};
use lapin::{Channel, Confirmation, Connection, Event};
use tokio::sync::{mpsc, oneshot, watch};

use super::Options;
use super::connection::{self, Problem, problem};
use super::topology::Topology;
use crate::backoff::Backoff;
use crate::bus::broker::envelope;
use crate::bus::broker::envelope::Outgoing;
use crate::bus::broker::status::{LinkStatus, State};
use crate::bus::rabbitmq::properties::{AmqpMessage, DivertedMessage, Route};
use crate::bus::rabbitmq::unroutable::{Returns, Routing};
use crate::bus::routing_keys::is_to_all;
use crate::bus::session::{self, keep_connected, stopped};

/// Unconfirmed bytes beyond which nothing more is taken.
const UNCONFIRMED_BYTES_MAX: usize = 64 << 20;
const RETRY_DELAY_MAX: Duration = Duration::from_secs(60);

/// Publishes what the engine hands over, and keeps each message until the broker confirms it. When
/// the connection is lost with `m7` to `m9` unconfirmed, these three go first on the next one; an
/// at-most-once task among them is reported as of unknown outcome instead.
pub(super) struct Publisher {
    pub(super) options: Arc<Options>,
    pub(super) topology: Arc<Topology>,
    pub(super) state: Arc<State>,
    pub(super) inbox: mpsc::Receiver<Outgoing>,
    /// Dead letters and parked messages of the consumer.
    pub(super) refused: mpsc::Receiver<DivertedMessage>,
    pub(super) stopping: watch::Receiver<bool>,
    /// In flight when a connection was lost, in their order.
    again: VecDeque<AmqpMessage>,
    /// So many of `again` are published one at a time: one of them made the broker close the
    /// channel.
    alone: usize,
    /// Refused by a queue, until they are published again.
    delayed: FuturesUnordered<BoxFuture<'static, AmqpMessage>>,
}

type Flight = BoxFuture<'static, (u64, lapin::Result<Confirmation>)>;

impl Publisher {
    pub(super) fn new(
        options: Arc<Options>,
        topology: Arc<Topology>,
        state: Arc<State>,
        (inbox, refused): (mpsc::Receiver<Outgoing>, mpsc::Receiver<DivertedMessage>),
        stopping: watch::Receiver<bool>,
    ) -> Self {
        Self {
            options,
            topology,
            state,
            inbox,
            refused,
            stopping,
            again: VecDeque::new(),
            alone: 0,
            delayed: FuturesUnordered::new(),
        }
    }

    /// Runs until stopped; `first` receives the result of the first connection attempt.
    pub(super) async fn run(self, first: oneshot::Sender<Result<(), Problem>>) {
        let stopping = self.stopping.clone();
        let publishing = PublisherSession { publisher: self, first: Some(first) };
        // Unpublished messages are published after the next start.
        keep_connected(publishing, Backoff::new(), stopping).await;
    }

    /// Publishes on this channel until it is lost, or until there is nothing left and the process
    /// stops.
    async fn session(&mut self, connection: &Connection, channel: Channel) -> Result<(), Problem> {
        let events = connection.events_listener();
        let mut session = Session {
            publisher: self,
            channel,
            flying: FuturesUnordered::new(),
            held: BTreeMap::new(),
            next: 0,
            bytes: 0,
            returns: Returns::default(),
            is_alone: false,
        };
        let result = session.run(events).await;
        let held: Vec<AmqpMessage> = std::mem::take(&mut session.held).into_values().collect();
        drop(session);
        self.state.unconfirmed.store(0, Ordering::Relaxed);
        if let Err(lost) = &result {
            self.keep(held, lost).await;
        }
        result
    }

    /// What was in flight goes first on the next connection. A message that makes the broker close
    /// the channel must not be repeated forever: until that message is identified, they are
    /// published one at a time.
    async fn keep(&mut self, mut held: Vec<AmqpMessage>, lost: &Problem) {
        match (lost, held.pop()) {
            (Problem::Refused(said), Some(message)) if held.is_empty() => {
                message.failed(format!("undeliverable: RabbitMQ refuses it: {said}")).await;
            }
            (Problem::Refused(_), Some(message)) => {
                held.push(message);
                self.alone += held.len();
            }
            (_, message) => held.extend(message),
        }
        for message in held.into_iter().rev() {
            if message.is_repeatable() {
                self.again.push_front(message);
            } else {
                self.alone = self.alone.saturating_sub(1);
                message
                    .lost(format!("the connection was lost before the broker had confirmed the task, which must not be sent twice: {lost}"))
                    .await;
            }
        }
    }

    fn is_idle(&self) -> bool {
        self.again.is_empty()
            && self.delayed.is_empty()
            && self.inbox.is_empty()
            && self.refused.is_empty()
    }
}

struct PublisherSession {
    publisher: Publisher,
    /// Until the first try to connect.
    first: Option<oneshot::Sender<Result<(), Problem>>>,
}

impl session::Session for PublisherSession {
    type Error = Problem;

    async fn run(&mut self, backoff: &mut Backoff) -> Result<(), Problem> {
        let Self { publisher, first } = self;
        let opened = open(&publisher.options, &publisher.topology).await;
        if let Some(first) = first.take() {
            // The receiver may have timed out.
            let _ = first.send(opened.as_ref().map(drop).map_err(Clone::clone));
        }
        let (connection, channel) = opened?;
        publisher.state.set_publishing(LinkStatus::Up);
        backoff.reset();
        let result = publisher.session(&connection, channel).await;
        close(&connection).await;
        result
    }

    fn set_down(&mut self, reason: String) {
        self.publisher.state.set_publishing(LinkStatus::Down(reason));
    }
}

/// One channel's life.
struct Session<'a> {
    publisher: &'a mut Publisher,
    channel: Channel,
    flying: FuturesUnordered<Flight>,
    /// What is in flight, by its number.
    held: BTreeMap<u64, AmqpMessage>,
    next: u64,
    bytes: usize,
    returns: Returns,
    /// The message in flight is to stay the only one.
    is_alone: bool,
}

impl Session<'_> {
    async fn run(&mut self, events: impl Stream<Item = Event>) -> Result<(), Problem> {
        let mut events = std::pin::pin!(events);
        let mut stopping = self.publisher.stopping.clone();
        let mut known = Vec::new();
        loop {
            while self.has_room()
                && let Some(message) = self.publisher.again.pop_front()
            {
                self.is_alone = self.publisher.alone > 0;
                self.publisher.alone = self.publisher.alone.saturating_sub(1);
                self.publish(message);
            }
            if *stopping.borrow() && self.flying.is_empty() && self.publisher.is_idle() {
                return Ok(());
            }
            let has_room = self.has_room();
            let is_stopping = *stopping.borrow();
            tokio::select! {
                Some((n, outcome)) = self.flying.next() => {
                    self.landed(n, outcome, &mut known)?;
                    // All that have landed, before their senders are notified.
                    while let Some(Some((n, outcome))) = self.flying.next().now_or_never() {
                        self.landed(n, outcome, &mut known)?;
                    }
                    for (n, routing) in known.drain(..) {
                        self.reply(n, routing).await;
                    }
                }
                Some(outgoing) = self.publisher.inbox.recv(), if has_room => {
                    if let Some(message) = envelope::Envelope::new(outgoing).await {
                        self.publish(message.into());
                    }
                }
                Some(diverted) = self.publisher.refused.recv(), if has_room => self.publish(diverted.into()),
                Some(message) = self.publisher.delayed.next(), if has_room => self.publish(message),
                event = events.next() => self.handle_event(event)?,
                () = stopped(&mut stopping), if !is_stopping => {}
            }
        }
    }

    fn has_room(&self) -> bool {
        if self.is_alone || self.publisher.alone > 0 {
            return self.flying.is_empty();
        }
        self.held.len() < self.publisher.options.max_unconfirmed
            && self.bytes < UNCONFIRMED_BYTES_MAX
    }

    fn handle_event(&self, event: Option<Event>) -> Result<(), Problem> {
        match event {
            Some(Event::ConnectionBlocked(why)) => {
                self.publisher.state.set_publishing(LinkStatus::Blocked(why))
            }
            Some(Event::ConnectionUnblocked) => self.publisher.state.set_publishing(LinkStatus::Up),
            Some(Event::Error(error)) => return Err(problem(&error)),
            None => return Err(Problem::Lost("the connection to RabbitMQ has ended".to_owned())),
            _ => {}
        }
        Ok(())
    }

    fn publish(&mut self, message: AmqpMessage) {
        let n = self.next;
        self.next += 1;
        self.bytes += message.body.len();
        let topology = &self.publisher.topology;
        let (exchange, key, mandatory) = match message.to {
            Route::Service(key) => (topology.exchange.as_str(), key, true),
            Route::Subscribers(key) => (topology.exchange.as_str(), key, false),
            Route::DeadLetter => ("", topology.dead(), false),
            Route::Parked => ("", topology.parked(), false),
        };
        let options = BasicPublishOptions { mandatory, immediate: false };
        let (channel, exchange, key) = (self.channel.clone(), exchange.into(), key.into());
        let (body, properties) = (message.body.clone(), message.properties.clone());
        self.held.insert(n, message);
        self.publisher.state.unconfirmed.store(self.held.len(), Ordering::Relaxed);
        self.flying.push(
            async move {
                let confirm =
                    match channel.basic_publish(exchange, key, options, &body, properties).await {
                        Ok(confirm) => confirm.await,
                        Err(error) => Err(error),
                    };
                (n, confirm)
            }
            .boxed(),
        );
    }

    fn landed(
        &mut self,
        n: u64,
        outcome: lapin::Result<Confirmation>,
        known: &mut Vec<(u64, Routing)>,
    ) -> Result<(), Problem> {
        let (is_ack, carried) = match outcome {
            Ok(Confirmation::Ack(carried)) => (true, carried),
            Ok(Confirmation::Nack(carried)) => (false, carried),
            Ok(Confirmation::NotRequested) => {
                return Err(Problem::Lost("the channel does not confirm".to_owned()));
            }
            Err(error) => return Err(problem(&error)),
        };
        let carried = carried.map(|message| {
            message.properties.message_id().as_ref().map_or_else(String::new, ToString::to_string)
        });
        if let Some(message) = self.held.get(&n) {
            self.returns.confirmed(
                (n, &message.id, is_ack),
                carried,
                self.flying.is_empty(),
                known,
            );
        }
        Ok(())
    }

    async fn reply(&mut self, n: u64, routing: Routing) {
        let Some(mut message) = self.held.remove(&n) else { return };
        self.is_alone = false;
        self.bytes -= message.body.len();
        let state = &self.publisher.state;
        state.unconfirmed.store(self.held.len(), Ordering::Relaxed);
        match routing {
            Routing::Routed => {
                let is_counted = !matches!(message.to, Route::Subscribers(key) if is_to_all(key));
                state.published.fetch_add(u64::from(is_counted), Ordering::Relaxed);
                message.arrived().await;
            }
            Routing::Unroutable => {
                let Route::Service(key) = message.to else { return message.arrived().await };
                state.count_no_queue(key);
                let exchange = &self.publisher.topology.exchange;
                message.failed(format!("no_queue: no service listens on {key}: bind a queue to it on the exchange `{exchange}`")).await;
            }
            Routing::Rejected => {
                state.refused.fetch_add(1, Ordering::Relaxed);
                message.refusals += 1;
                let options = &self.publisher.options;
                if message.refusals > options.max_retries
                    || self.publisher.delayed.len() >= options.max_queued
                    || !message.is_wanted()
                {
                    let times = message.refusals;
                    let what = match message.to {
                        Route::Service(key) | Route::Subscribers(key) => key,
                        Route::DeadLetter => self.publisher.topology.dead(),
                        Route::Parked => self.publisher.topology.parked(),
                    };
                    let text = format!(
                        "undeliverable: a queue did not take {what}, {times} times in a row: it is full, or has no leader"
                    );
                    return message.failed(text).await;
                }
                let delay = retry_delay(options.retry_delay, message.refusals);
                self.publisher.delayed.push(
                    async move {
                        tokio::time::sleep(delay).await;
                        message
                    }
                    .boxed(),
                );
            }
        }
    }
}

async fn open(options: &Options, topology: &Topology) -> Result<(Connection, Channel), Problem> {
    let connection = connection::connect(options, "publisher").await?;
    let channel = connection.create_channel().await.map_err(|error| problem(&error))?;
    topology.declare(&channel).await?;
    channel
        .confirm_select(ConfirmSelectOptions::default())
        .await
        .map_err(|error| problem(&error))?;
    Ok((connection, channel))
}

/// The delay doubles with each refusal.
fn retry_delay(delay: Duration, refusals: u32) -> Duration {
    delay.saturating_mul(1 << refusals.saturating_sub(1).min(16)).min(RETRY_DELAY_MAX.max(delay))
}

/// In order where the broker still answers.
async fn close(connection: &Connection) {
    let closed =
        tokio::time::timeout(Duration::from_secs(1), connection.close(200, "done".into())).await;
    if !matches!(closed, Ok(Ok(()))) {
        tracing::debug!("the connection to RabbitMQ was dropped rather than closed");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retry_delays_double_from_the_first() {
        let delay = Duration::from_secs(5);
        let delays: Vec<u64> = [1, 2, 3, 9]
            .into_iter()
            .map(|refusals| retry_delay(delay, refusals).as_secs())
            .collect();
        assert_eq!(delays, [5, 10, 20, 60]);
        assert_eq!(retry_delay(Duration::ZERO, 4), Duration::ZERO);
    }
}
