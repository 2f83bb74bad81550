//! The router: delivers an event to the workflows that it starts and the instances that wait for
//! it. An event is first kept by the store; everything that follows from it can be repeated,
//! because starts carry the event's id as request id and a wait takes an event once.

use std::collections::{BTreeSet, HashMap};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::value::RawValue;
use tokio::sync::{Semaphore, watch};
use tracing::{debug, error, info, warn};

use super::Core;
use crate::app::App;
use crate::backoff::{self, Backoff};
use crate::engine::active_instance::Delivery;
use crate::engine::api::{Error, EventAccepted, IncomingEvent, Start};
use crate::engine::forwarding::Request;
use crate::id::InstanceId;
use crate::machine::{Json, Kind as NodeKind, Refusal, Trigger, TriggerSource, TypeError, fields};
use crate::store;
use crate::store::{KeptEvent, Subscription, UndeliveredEvent};
use crate::suggest::hint;
use crate::supervise;

/// Events that are delivered concurrently; beyond it the sender waits.
const DELIVERIES_MAX: usize = 1024;
const PAGE_LEN: usize = 512;
/// How long a sender waits for the undelivered events of an earlier process to be queued first.
const RECOVERY_TIMEOUT: Duration = Duration::from_secs(5);
/// Of a trigger's key, which becomes a request id.
const KEY_BYTES_MAX: usize = 255;

pub(crate) struct Router {
    permits: Arc<Semaphore>,
    /// The workflows that each event name starts.
    starts: Vec<(&'static str, &'static str, &'static Trigger)>,
    /// Names that some step waits for.
    awaited: BTreeSet<&'static str>,
    turns: Turns,
    /// Whether what an earlier process has left has its place before what comes now.
    is_ready: watch::Sender<bool>,
    /// Whether undelivered events are going to be looked for.
    looks: AtomicBool,
}

impl Router {
    pub(crate) fn new(app: &App) -> Self {
        let mut starts = Vec::new();
        for definition in app
            .workflows
            .iter()
            .map(|workflow| workflow.definition)
            .filter(|definition| !definition.retired)
        {
            for trigger in definition.triggers {
                if let TriggerSource::Event { name } = trigger.source {
                    starts.push((name, definition.workflow, trigger));
                }
            }
        }
        let waits = app.workflows.iter().flat_map(|workflow| workflow.definition.nodes).filter_map(
            |node| match node.kind {
                NodeKind::Wait { event } => Some(event),
                _ => None,
            },
        );
        Self {
            permits: Arc::new(Semaphore::new(DELIVERIES_MAX)),
            starts,
            awaited: waits.collect(),
            turns: Turns::default(),
            is_ready: watch::Sender::new(false),
            looks: AtomicBool::new(false),
        }
    }

    /// Keeps events and has them delivered; the answers are in the order of the events.
    pub(crate) async fn take(
        &self,
        core: &Arc<Core>,
        events: Vec<IncomingEvent>,
    ) -> Vec<Result<EventAccepted, Error>> {
        if core.is_closing() {
            return events.iter().map(|_| Err(Error::ShuttingDown)).collect();
        }
        // Events accepted now come after those accepted before this process started.
        if !self.is_ready().await {
            let error = store::Error::Unavailable(
                "undelivered events are still being recovered".to_owned(),
            );
            return events.iter().map(|_| Err(Error::Store(error.clone()))).collect();
        }
        let checked: Vec<Result<KeptEvent, Error>> =
            events.into_iter().map(|event| self.check(core, event)).collect();
        let good: Vec<KeptEvent> =
            checked.iter().filter_map(|checked| checked.as_ref().ok().cloned()).collect();
        let kept = if good.is_empty() { Ok(Vec::new()) } else { core.store.keep(good).await };
        let mut fresh = match kept {
            Ok(fresh) => fresh.into_iter(),
            Err(error) => {
                self.recover_soon(core);
                return checked
                    .into_iter()
                    .map(|checked| checked.and(Err(Error::Store(error.clone()))))
                    .collect();
            }
        };
        let mut answers = Vec::with_capacity(checked.len());
        for event in checked {
            answers.push(match event {
                Err(error) => Err(error),
                Ok(event) => {
                    let duplicate = !fresh.next().unwrap_or(true);
                    let id = event.id.clone();
                    if !duplicate {
                        let event =
                            UndeliveredEvent { event, has_started: false, place: String::new() };
                        self.deliver_soon(core, event).await;
                    }
                    Ok(EventAccepted { id, duplicate })
                }
            });
        }
        answers
    }

    async fn is_ready(&self) -> bool {
        let mut is_ready = self.is_ready.subscribe();
        // The sender lives as long as this.
        tokio::time::timeout(RECOVERY_TIMEOUT, is_ready.wait_for(|is_ready| *is_ready))
            .await
            .is_ok()
    }

    fn check(&self, core: &Core, event: IncomingEvent) -> Result<KeptEvent, Error> {
        let Some(declared) = core.app.event(&event.name) else {
            let names = core.app.events.iter().map(|event| event.name);
            return Err(Error::UnknownEvent { hint: hint(&event.name, names), name: event.name });
        };
        (declared.check)(&event.data).map_err(Error::Invalid)?;
        let now = core.clock.now();
        let id = match event.id {
            Some(id) if id.is_empty() || id.len() > 255 => {
                return Err(Error::Limit(format!(
                    "an event id has 1 to 255 bytes, this one {}",
                    id.len()
                )));
            }
            Some(id) => id,
            None => crate::engine::fresh_id(&*core.options.source, now)?,
        };
        let value = declared.correlate.map_or(Ok(None), |field| text_of(&event.data, field))?;
        let keep_until = now.plus_ms(core.options.keep_events_ms);
        Ok(KeptEvent {
            name: event.name,
            value,
            id,
            data: event.data.get().to_owned(),
            owner: event.owner,
            traceparent: event.traceparent,
            at: now,
            keep_until,
        })
    }

    async fn deliver_soon(&self, core: &Arc<Core>, event: UndeliveredEvent) {
        let Ok(place) = self.permits.clone().acquire_owned().await else { return };
        let turn =
            self.awaited.contains(event.event.name.as_str()).then(|| self.turns.take(&event.event));
        let core = core.clone();
        supervise::spawn("delivering an event", async move {
            let _place = place;
            core.router.deliver(&core, event, turn).await;
        });
    }

    /// The store may have kept the events although it reported a failure. A sender that repeats
    /// them is answered as a duplicate, so only this recovery delivers them.
    fn recover_soon(&self, core: &Arc<Core>) {
        if self.looks.swap(true, Ordering::Relaxed) {
            return;
        }
        let core = core.clone();
        supervise::spawn("looking for undelivered events", async move {
            tokio::time::sleep(Duration::from_secs(1)).await;
            core.router.looks.store(false, Ordering::Relaxed);
            core.router.recover(&core).await;
        });
    }

    /// After a restart: events that may be undelivered, in their order, and before any new ones.
    pub(crate) async fn recover(&self, core: &Arc<Core>) {
        let mut after = None;
        let mut backoff = core.backoff(backoff::STORE);
        loop {
            match core.store.undelivered(after.clone(), PAGE_LEN).await {
                Ok(events) => {
                    let Some(last) = events.last() else { break };
                    after = Some(last.place.clone());
                    backoff.reset();
                    for event in events {
                        self.deliver_soon(core, event).await;
                    }
                }
                Err(error) => {
                    warn!(%error, "cannot list undelivered events; retrying");
                    tokio::time::sleep(backoff.pause()).await;
                    if core.is_closing() {
                        return;
                    }
                }
            }
        }
        self.is_ready.send_replace(true);
    }

    async fn deliver(&self, core: &Arc<Core>, mut event: UndeliveredEvent, mut turn: Option<Turn>) {
        let seed = crate::machine::hash(&[event.event.id.as_bytes()]);
        let mut backoff = Backoff::of(backoff::EVENT, seed);
        let was_left = event.has_started;
        let left = loop {
            match self.deliver_once(core, &mut event, &mut turn).await {
                Ok(left) => break left,
                Err(Error::ShuttingDown) => return,
                Err(error @ Error::Store(store::Error::Broken(_))) => {
                    // It stays where the next process finds it. Others must not wait for what a
                    // person has to repair.
                    error!(event = event.event.name, id = event.event.id, %error, "cannot finish delivering an event; retried after a restart");
                    return;
                }
                Err(error) => {
                    warn!(event = event.event.name, id = event.event.id, %error, "cannot finish delivering an event; retrying");
                    tokio::time::sleep(backoff.pause()).await;
                }
            }
        };
        drop(turn);
        let KeptEvent { name, id, .. } = event.event;
        let key = vec![(name.clone(), id.clone())];
        let Some((instance, error)) = left else {
            if let Err(error) = core.store.delivered(key).await {
                warn!(event = name, id, %error, "cannot mark an event as delivered; it is delivered again after a restart");
            }
            return;
        };
        if was_left {
            debug!(event = name, id, %instance, %error, "an event is still undelivered to an instance");
            return;
        }
        warn!(
            event = name,
            id,
            %instance,
            %error,
            "cannot deliver an event to a waiting instance; the event is kept until a process can deliver it"
        );
        core.missing.look();
        if let Err(error) = core.store.started(key).await {
            warn!(event = name, id, %error, "cannot mark an event's starts as done; they are repeated after a restart");
        }
    }

    /// The rest: an instance that this process cannot move, and why.
    async fn deliver_once(
        &self,
        core: &Arc<Core>,
        event: &mut UndeliveredEvent,
        turn: &mut Option<Turn>,
    ) -> Result<Option<(InstanceId, Error)>, Error> {
        let UndeliveredEvent { event, has_started, .. } = event;
        let data = raw(&event.data)?;
        if !*has_started {
            for (_, workflow, trigger) in
                self.starts.iter().filter(|(name, ..)| *name == event.name)
            {
                self.start(core, event, &data, workflow, trigger).await?;
            }
            *has_started = true;
        }
        if let Some(turn) = turn {
            turn.come().await;
        }
        let mut after: Option<Subscription> = None;
        let mut left = None;
        loop {
            let page = core
                .store
                .subscribers(event.name.clone(), event.value.clone(), after, PAGE_LEN)
                .await?;
            let full = page.len() == PAGE_LEN;
            after = page.last().cloned();
            if !page.is_empty() {
                for earlier in self.earlier(core, event).await? {
                    self.deliver_to(core, &earlier, &page).await?;
                }
            }
            left = self.deliver_to(core, event, &page).await?.or(left);
            if !full {
                return Ok(left);
            }
        }
    }

    /// Where nodes share the store: what was taken a moment before, perhaps by another node that
    /// has not delivered it yet.
    async fn earlier(&self, core: &Arc<Core>, event: &KeptEvent) -> Result<Vec<KeptEvent>, Error> {
        const MOMENT_MS: u64 = 10_000;
        const FLUSH_LEN: usize = 16;
        if core.nodes_share() && event.value.is_some() {
            let kept =
                core.store.kept(event.name.clone(), event.value.clone(), core.clock.now()).await?;
            let before = kept.into_iter().take_while(|kept| kept.id != event.id);
            let mut earlier: Vec<KeptEvent> =
                before.filter(|kept| kept.at.plus_ms(MOMENT_MS) >= event.at).collect();
            return Ok(earlier.split_off(earlier.len().saturating_sub(FLUSH_LEN)));
        }
        Ok(Vec::new())
    }

    async fn start(
        &self,
        core: &Arc<Core>,
        event: &KeptEvent,
        data: &RawValue,
        workflow: &'static str,
        trigger: &'static Trigger,
    ) -> Result<(), Error> {
        let arrived = match (trigger.input)(data) {
            Ok(arrived) => arrived,
            Err(Refusal::NotWanted) => return Ok(()),
            Err(Refusal::Invalid(text)) => {
                warn!(
                    event = event.name,
                    id = event.id,
                    workflow,
                    text,
                    "the event does not match the workflow's input; nothing is started"
                );
                return Ok(());
            }
        };
        let request_id = match arrived.key {
            Some(key) if key.is_empty() || key.len() > KEY_BYTES_MAX => {
                let len = key.len();
                warn!(
                    event = event.name,
                    id = event.id,
                    workflow,
                    len,
                    "the trigger's key must have 1 to 255 bytes; nothing is started"
                );
                return Ok(());
            }
            Some(key) => key,
            None => format!("{}:{}", event.name, event.id),
        };
        let start = Start {
            workflow: workflow.to_owned(),
            input: arrived.input,
            request_id: Some(request_id),
            owner: event.owner.clone(),
            trigger: format!("event {}", event.name),
            traceparent: event.traceparent.clone(),
        };
        match core.start(start).await {
            Ok(started) => {
                info!(event = event.name, id = event.id, workflow, instance = %started.instance, "an event started an instance");
                Ok(())
            }
            Err(error)
                if error.is_passing() || matches!(error, Error::ShuttingDown | Error::Store(_)) =>
            {
                Err(error)
            }
            Err(error) => {
                warn!(event = event.name, id = event.id, workflow, %error, "the event could not start the workflow");
                Ok(())
            }
        }
    }

    /// A page concurrently: they are different instances, or different waits of one.
    async fn deliver_to(
        &self,
        core: &Arc<Core>,
        event: &KeptEvent,
        page: &[Subscription],
    ) -> Result<Option<(InstanceId, Error)>, Error> {
        let data: Arc<str> = Arc::from(event.data.as_str());
        let ask = |subscription: &Subscription| {
            let delivery = Delivery {
                path: subscription.path.clone(),
                event_id: event.id.clone(),
                data: data.clone(),
                keep_until: Some(event.keep_until),
                is_kept: false,
            };
            core.request(subscription.instance, Request::Deliver(delivery))
        };
        let answers = futures_util::future::join_all(page.iter().map(ask)).await;
        let mut left = None;
        for (subscription, answer) in page.iter().zip(answers) {
            match answer {
                Ok(_) => {}
                Err(error) if error.is_passing() || matches!(error, Error::ShuttingDown) => {
                    return Err(error);
                }
                // A stale subscription: its instance has ended or was deleted.
                Err(Error::UnknownInstance(_) | Error::InvalidState(_)) => {
                    core.unsubscribe(subscription.clone())
                }
                // Another build may be able to.
                Err(
                    error @ (Error::DefinitionMissing { .. }
                    | Error::Corrupted(_)
                    | Error::Store(_)),
                ) => left = Some((subscription.instance, error)),
                Err(error) => {
                    let instance = subscription.instance;
                    warn!(event = event.name, id = event.id, %instance, %error, "the waiting instance rejects an event");
                }
            }
        }
        Ok(left)
    }
}

/// Events about one thing reach those who wait one after the other, in the order in which they were
/// taken.
#[derive(Clone, Default)]
struct Turns {
    last: Arc<Mutex<HashMap<Thing, (u64, watch::Receiver<()>)>>>,
}

/// The order key of an event: its correlation value, else its name.
type Thing = Result<String, String>;

/// Dropped when the event has reached those who wait.
struct Turn {
    turns: Turns,
    thing: Thing,
    number: u64,
    /// The event before it, until it is its turn.
    before: Option<watch::Receiver<()>>,
    _ended: watch::Sender<()>,
}

impl Turns {
    fn take(&self, event: &KeptEvent) -> Turn {
        let thing = event.value.clone().ok_or_else(|| event.name.clone());
        let (_ended, ended) = watch::channel(());
        let mut last = self.last();
        let before = last.remove(&thing);
        let number = before.as_ref().map_or(0, |(number, _)| number + 1);
        last.insert(thing.clone(), (number, ended));
        drop(last);
        Turn { turns: self.clone(), thing, number, before: before.map(|(_, ended)| ended), _ended }
    }

    fn last(&self) -> MutexGuard<'_, HashMap<Thing, (u64, watch::Receiver<()>)>> {
        // Nothing panics under the lock.
        self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Turn {
    async fn come(&mut self) {
        if let Some(mut before) = self.before.take() {
            // Nothing is ever sent: it ends when the other one is dropped.
            let _ = before.changed().await;
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut last = self.turns.last();
        if last.get(&self.thing).is_some_and(|(number, _)| *number == self.number) {
            last.remove(&self.thing);
        }
    }
}

fn raw(data: &str) -> Result<Box<RawValue>, Error> {
    RawValue::from_string(data.to_owned()).map_err(|error| Error::Invalid(error.to_string()))
}

/// The text by which a field correlates: of texts themselves, of numbers their JSON. The event's
/// type has been checked, so that the field is there; what else the event holds is not looked at.
fn text_of(data: &RawValue, field: &'static str) -> Result<Option<String>, Error> {
    let misfit = |error: TypeError| Error::Invalid(error.to_string());
    let [field] = fields(data, [field]).map_err(misfit)?;
    let Some(value) = field.read::<Option<Json>>().map_err(misfit)? else { return Ok(None) };
    let text = value.raw().get();
    if text.starts_with('"') {
        field.read().map(Some).map_err(misfit)
    } else {
        Ok(Some(text.to_owned()))
    }
}
