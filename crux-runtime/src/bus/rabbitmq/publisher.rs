//! The publisher: one task that owns one channel, so that confirms can be told apart. It keeps a
//! window of messages under way, publishes again what was not confirmed when a connection is lost,
//! and tells each sender what became of its message.

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
use crate::bus::broker::envelope::Post;
use crate::bus::broker::status::{Link, State};
use crate::bus::rabbitmq::properties::{Aside, Letter, To};
use crate::bus::rabbitmq::unroutable::{Fate, Returns};
use crate::bus::routing_keys::is_to_all;
use crate::bus::session::{self, keep_connected, stopped};

/// Bytes under way beyond which nothing more is taken.
const MAX_BYTES: usize = 64 << 20;
const LONGEST_REST: Duration = Duration::from_secs(60);

/// See the module's text.
pub(super) struct Publisher {
    pub(super) options: Arc<Options>,
    pub(super) topology: Arc<Topology>,
    pub(super) state: Arc<State>,
    pub(super) inbox: mpsc::Receiver<Post>,
    /// What the consumer puts aside.
    pub(super) refused: mpsc::Receiver<Aside>,
    pub(super) stopping: watch::Receiver<bool>,
    /// Under way when a connection was lost, in their order.
    again: VecDeque<Letter>,
    /// So many of `again` are published one at a time: one of them made the broker close the
    /// channel.
    alone: usize,
    /// Refused by a queue, until they are published again.
    resting: FuturesUnordered<BoxFuture<'static, Letter>>,
}

type Flight = BoxFuture<'static, (u64, lapin::Result<Confirmation>)>;

impl Publisher {
    pub(super) fn new(
        options: Arc<Options>,
        topology: Arc<Topology>,
        state: Arc<State>,
        (inbox, refused): (mpsc::Receiver<Post>, mpsc::Receiver<Aside>),
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
            resting: FuturesUnordered::new(),
        }
    }

    /// Runs until told to stop; `first` hears how the first try to connect went.
    pub(super) async fn run(self, first: oneshot::Sender<Result<(), Problem>>) {
        let stopping = self.stopping.clone();
        let publishing = Publishing { publisher: self, first: Some(first) };
        // What is not out when the process stops goes out after the next start.
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
        let held: Vec<Letter> = std::mem::take(&mut session.held).into_values().collect();
        drop(session);
        self.state.unconfirmed.store(0, Ordering::Relaxed);
        if let Err(lost) = &result {
            self.keep(held, lost).await;
        }
        result
    }

    /// What was under way goes first on the next connection. A message because of which the broker
    /// closes the channel must not come again for ever: as long as it is not known which one that
    /// is, they go one at a time.
    async fn keep(&mut self, mut held: Vec<Letter>, lost: &Problem) {
        match (lost, held.pop()) {
            (Problem::Refused(said), Some(letter)) if held.is_empty() => {
                letter.failed(format!("undeliverable: RabbitMQ refuses it: {said}")).await;
            }
            (Problem::Refused(_), Some(letter)) => {
                held.push(letter);
                self.alone += held.len();
            }
            (_, letter) => held.extend(letter),
        }
        for letter in held.into_iter().rev() {
            if letter.is_repeatable() {
                self.again.push_front(letter);
            } else {
                self.alone = self.alone.saturating_sub(1);
                letter
                    .lost(format!("the connection was lost before the broker had confirmed the task, which must not be sent twice: {lost}"))
                    .await;
            }
        }
    }

    fn is_idle(&self) -> bool {
        self.again.is_empty()
            && self.resting.is_empty()
            && self.inbox.is_empty()
            && self.refused.is_empty()
    }
}

struct Publishing {
    publisher: Publisher,
    /// Until the first try to connect.
    first: Option<oneshot::Sender<Result<(), Problem>>>,
}

impl session::Session for Publishing {
    type Error = Problem;

    async fn run(&mut self, backoff: &mut Backoff) -> Result<(), Problem> {
        let Self { publisher, first } = self;
        let opened = open(&publisher.options, &publisher.topology).await;
        if let Some(first) = first.take() {
            // The receiver may have waited long enough and be gone.
            let _ = first.send(opened.as_ref().map(drop).map_err(Clone::clone));
        }
        let (connection, channel) = opened?;
        publisher.state.set_publishing(Link::Up);
        backoff.reset();
        let result = publisher.session(&connection, channel).await;
        close(&connection).await;
        result
    }

    fn set_down(&mut self, reason: String) {
        self.publisher.state.set_publishing(Link::Down(reason));
    }
}

/// One channel's life.
struct Session<'a> {
    publisher: &'a mut Publisher,
    channel: Channel,
    flying: FuturesUnordered<Flight>,
    /// What is under way, by the number of its flight.
    held: BTreeMap<u64, Letter>,
    next: u64,
    bytes: usize,
    returns: Returns,
    /// The message under way is to stay the only one.
    is_alone: bool,
}

impl Session<'_> {
    async fn run(&mut self, events: impl Stream<Item = Event>) -> Result<(), Problem> {
        let mut events = std::pin::pin!(events);
        let mut stopping = self.publisher.stopping.clone();
        let mut known = Vec::new();
        loop {
            while self.has_room()
                && let Some(letter) = self.publisher.again.pop_front()
            {
                self.is_alone = self.publisher.alone > 0;
                self.publisher.alone = self.publisher.alone.saturating_sub(1);
                self.publish(letter);
            }
            if *stopping.borrow() && self.flying.is_empty() && self.publisher.is_idle() {
                return Ok(());
            }
            let has_room = self.has_room();
            let is_stopping = *stopping.borrow();
            tokio::select! {
                Some((n, outcome)) = self.flying.next() => {
                    self.landed(n, outcome, &mut known)?;
                    // All that have landed, before their senders are told.
                    while let Some(Some((n, outcome))) = self.flying.next().now_or_never() {
                        self.landed(n, outcome, &mut known)?;
                    }
                    for (n, fate) in known.drain(..) {
                        self.tell(n, fate).await;
                    }
                }
                Some(post) = self.publisher.inbox.recv(), if has_room => {
                    if let Some(letter) = envelope::Letter::new(post).await {
                        self.publish(letter.into());
                    }
                }
                Some(aside) = self.publisher.refused.recv(), if has_room => self.publish(aside.into()),
                Some(letter) = self.publisher.resting.next(), if has_room => self.publish(letter),
                event = events.next() => self.heard(event)?,
                () = stopped(&mut stopping), if !is_stopping => {}
            }
        }
    }

    fn has_room(&self) -> bool {
        if self.is_alone || self.publisher.alone > 0 {
            return self.flying.is_empty();
        }
        self.held.len() < self.publisher.options.max_unconfirmed && self.bytes < MAX_BYTES
    }

    fn heard(&self, event: Option<Event>) -> Result<(), Problem> {
        match event {
            Some(Event::ConnectionBlocked(why)) => {
                self.publisher.state.set_publishing(Link::Blocked(why))
            }
            Some(Event::ConnectionUnblocked) => self.publisher.state.set_publishing(Link::Up),
            Some(Event::Error(error)) => return Err(problem(&error)),
            None => return Err(Problem::Lost("the connection to RabbitMQ has ended".to_owned())),
            _ => {}
        }
        Ok(())
    }

    fn publish(&mut self, letter: Letter) {
        let n = self.next;
        self.next += 1;
        self.bytes += letter.body.len();
        let topology = &self.publisher.topology;
        let (exchange, key, mandatory) = match letter.to {
            To::Service(key) => (topology.exchange.as_str(), key, true),
            To::Anybody(key) => (topology.exchange.as_str(), key, false),
            To::Dead => ("", topology.dead(), false),
            To::Parked => ("", topology.parked(), false),
        };
        let options = BasicPublishOptions { mandatory, immediate: false };
        let (channel, exchange, key) = (self.channel.clone(), exchange.into(), key.into());
        let (body, properties) = (letter.body.clone(), letter.properties.clone());
        self.held.insert(n, letter);
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
        known: &mut Vec<(u64, Fate)>,
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
        if let Some(letter) = self.held.get(&n) {
            self.returns.confirmed((n, &letter.id, is_ack), carried, self.flying.is_empty(), known);
        }
        Ok(())
    }

    async fn tell(&mut self, n: u64, fate: Fate) {
        let Some(mut letter) = self.held.remove(&n) else { return };
        self.is_alone = false;
        self.bytes -= letter.body.len();
        let state = &self.publisher.state;
        state.unconfirmed.store(self.held.len(), Ordering::Relaxed);
        match fate {
            Fate::Arrived => {
                let is_counted = !matches!(letter.to, To::Anybody(key) if is_to_all(key));
                state.published.fetch_add(u64::from(is_counted), Ordering::Relaxed);
                letter.arrived().await;
            }
            Fate::Returned => {
                let To::Service(key) = letter.to else { return letter.arrived().await };
                state.count_no_queue(key);
                let exchange = &self.publisher.topology.exchange;
                letter.failed(format!("no_queue: no service listens on {key}: bind a queue to it on the exchange `{exchange}`")).await;
            }
            Fate::Refused => {
                state.refused.fetch_add(1, Ordering::Relaxed);
                letter.refusals += 1;
                let options = &self.publisher.options;
                if letter.refusals > options.max_retries
                    || self.publisher.resting.len() >= options.max_queued
                    || !letter.is_wanted()
                {
                    let times = letter.refusals;
                    let what = match letter.to {
                        To::Service(key) | To::Anybody(key) => key,
                        To::Dead => self.publisher.topology.dead(),
                        To::Parked => self.publisher.topology.parked(),
                    };
                    let text = format!(
                        "undeliverable: a queue did not take {what}, {times} times in a row: it is full, or has no leader"
                    );
                    return letter.failed(text).await;
                }
                let rest = rest(options.retry_delay, letter.refusals);
                self.publisher.resting.push(
                    async move {
                        tokio::time::sleep(rest).await;
                        letter
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
fn rest(delay: Duration, refusals: u32) -> Duration {
    delay.saturating_mul(1 << refusals.saturating_sub(1).min(16)).min(LONGEST_REST.max(delay))
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
    fn rests_double_from_the_delay() {
        let delay = Duration::from_secs(5);
        let rests: Vec<u64> =
            [1, 2, 3, 9].into_iter().map(|refusals| rest(delay, refusals).as_secs()).collect();
        assert_eq!(rests, [5, 10, 20, 60]);
        assert_eq!(rest(Duration::ZERO, 4), Duration::ZERO);
    }
}
