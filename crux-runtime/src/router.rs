//! The router: from an event to the workflows that it starts and the instances that wait for it. An event is first kept by the store;
//! everything that follows from it can be repeated, because starts carry the event's id as request id and a wait takes an event once.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::value::RawValue;
use tokio::sync::Semaphore;
use tracing::{info, warn};

use crate::app::App;
use crate::engine::Core;
use crate::engine::api::{Error, EventTaken, IncomingEvent, Start};
use crate::engine::elsewhere::Request;
use crate::engine::entry::Delivery;
use crate::machine::{Refusal, Trigger, TriggerSource};
use crate::store::{KeptEvent, Subscription};
use crate::wording::hint;

/// Events that are being delivered at a time; whoever brings more waits.
const AT_ONCE: usize = 1024;
const PAGE: usize = 512;

pub(crate) struct Router {
    room: Arc<Semaphore>,
    /// What each event name starts.
    starts: Vec<(&'static str, &'static str, &'static Trigger)>,
    /// Whether undelivered events are going to be looked for.
    looks: AtomicBool,
}

impl Router {
    pub(crate) fn new(app: &App) -> Self {
        let mut starts = Vec::new();
        for definition in app.workflows.iter().map(|workflow| workflow.definition).filter(|definition| !definition.retired) {
            for trigger in definition.triggers {
                if let TriggerSource::Event { name } = trigger.source {
                    starts.push((name, definition.workflow, trigger));
                }
            }
        }
        Self { room: Arc::new(Semaphore::new(AT_ONCE)), starts, looks: AtomicBool::new(false) }
    }

    /// Keeps events and has them delivered; the answers are in the order of the events.
    pub(crate) async fn take(&self, core: &Arc<Core>, events: Vec<IncomingEvent>) -> Vec<Result<EventTaken, Error>> {
        if core.is_closing() {
            return events.iter().map(|_| Err(Error::ShuttingDown)).collect();
        }
        let checked: Vec<Result<KeptEvent, Error>> = events.into_iter().map(|event| self.check(core, event)).collect();
        let good: Vec<KeptEvent> = checked.iter().filter_map(|checked| checked.as_ref().ok().cloned()).collect();
        let kept = if good.is_empty() { Ok(Vec::new()) } else { core.store.keep(good).await };
        let mut fresh = match kept {
            Ok(fresh) => fresh.into_iter(),
            Err(error) => {
                self.look_soon(core);
                return checked.into_iter().map(|checked| checked.and(Err(Error::Store(error.clone())))).collect();
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
                        self.deliver_soon(core, event).await;
                    }
                    Ok(EventTaken { id, duplicate })
                }
            });
        }
        answers
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
                return Err(Error::Limit(format!("an event id has 1 to 255 bytes, this one {}", id.len())));
            }
            Some(id) => id,
            None => crate::engine::fresh_id(now)?,
        };
        let value = declared.correlate.and_then(|field| text_of(&event.data, field));
        let keep_until = now.plus_ms(core.options.keep_events_ms);
        Ok(KeptEvent { name: event.name, value, id, data: event.data.get().to_owned(), at: now, keep_until })
    }

    async fn deliver_soon(&self, core: &Arc<Core>, event: KeptEvent) {
        let Ok(place) = self.room.clone().acquire_owned().await else { return };
        let core = core.clone();
        tokio::spawn(async move {
            let _place = place;
            core.router.deliver(&core, event).await;
        });
    }

    /// Events may have been kept although their keeping failed: whoever brings them again is told that they are known, and nobody else
    /// delivers them.
    fn look_soon(&self, core: &Arc<Core>) {
        if self.looks.swap(true, Ordering::Relaxed) {
            return;
        }
        let core = core.clone();
        tokio::spawn(async move {
            tokio::time::sleep(Duration::from_secs(1)).await;
            core.router.looks.store(false, Ordering::Relaxed);
            core.router.take_up(&core).await;
        });
    }

    /// After a restart: events that may not have reached everybody.
    pub(crate) async fn take_up(&self, core: &Arc<Core>) {
        loop {
            match core.store.undelivered(PAGE).await {
                Ok(events) => {
                    let full = events.len() == PAGE;
                    for event in events {
                        self.deliver(core, event).await;
                    }
                    if !full {
                        return;
                    }
                }
                Err(error) => {
                    warn!(%error, "events of an earlier process cannot be read; trying again");
                    tokio::time::sleep(Duration::from_secs(1)).await;
                }
            }
        }
    }

    async fn deliver(&self, core: &Arc<Core>, event: KeptEvent) {
        let mut pause = Duration::from_millis(50);
        loop {
            match self.deliver_once(core, &event).await {
                Ok(()) => break,
                Err(Error::ShuttingDown) => return,
                Err(error) => {
                    warn!(event = event.name, id = event.id, %error, "an event has not reached everybody; trying again");
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(Duration::from_secs(10));
                }
            }
        }
        if let Err(error) = core.store.delivered(vec![(event.name.clone(), event.id.clone())]).await {
            warn!(event = event.name, id = event.id, %error, "a mark could not be cleared; the event is delivered again after a restart");
        }
    }

    async fn deliver_once(&self, core: &Arc<Core>, event: &KeptEvent) -> Result<(), Error> {
        let data = raw(&event.data)?;
        for (_, workflow, trigger) in self.starts.iter().filter(|(name, ..)| *name == event.name) {
            self.start(core, event, &data, workflow, trigger).await?;
        }
        let mut after: Option<Subscription> = None;
        loop {
            let page = core.store.subscribers(event.name.clone(), event.value.clone(), after, PAGE).await?;
            let full = page.len() == PAGE;
            after = page.last().cloned();
            self.deliver_to(core, event, page).await?;
            if !full {
                return Ok(());
            }
        }
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
                warn!(event = event.name, id = event.id, workflow, text, "an event does not give the workflow's input and starts nothing");
                return Ok(());
            }
        };
        let request_id = arrived.key.unwrap_or_else(|| format!("{}:{}", event.name, event.id));
        let start = Start {
            workflow: workflow.to_owned(),
            input: arrived.input,
            request_id: Some(request_id),
            owner: String::new(),
            trigger: format!("event {}", event.name),
            traceparent: String::new(),
        };
        match core.start(start).await {
            Ok(started) => {
                info!(event = event.name, id = event.id, workflow, instance = %started.instance, "an event started an instance");
                Ok(())
            }
            Err(error) if error.is_passing() || matches!(error, Error::ShuttingDown) => Err(error),
            Err(error) => {
                warn!(event = event.name, id = event.id, workflow, %error, "an event starts nothing");
                Ok(())
            }
        }
    }

    /// All of a page side by side: they are different instances.
    async fn deliver_to(&self, core: &Arc<Core>, event: &KeptEvent, page: Vec<Subscription>) -> Result<(), Error> {
        let data: Arc<str> = Arc::from(event.data.as_str());
        let mut answers = Vec::with_capacity(page.len());
        for subscription in page {
            let delivery = Delivery { path: subscription.path.clone(), event_id: event.id.clone(), data: data.clone() };
            answers.push((subscription.clone(), core.request(subscription.instance, Request::Deliver(delivery))));
        }
        let (subscriptions, asked): (Vec<_>, Vec<_>) = answers.into_iter().unzip();
        for (subscription, answer) in subscriptions.into_iter().zip(futures_util::future::join_all(asked).await) {
            match answer {
                Ok(_) => {}
                Err(error) if error.is_passing() || matches!(error, Error::ShuttingDown) => return Err(error),
                // A subscription that stayed behind: its instance has ended or is gone.
                Err(Error::UnknownInstance(_) | Error::NotNow(_)) => core.unsubscribe(subscription),
                Err(error) => warn!(instance = %subscription.instance, %error, "an event could not be given to an instance"),
            }
        }
        Ok(())
    }
}

fn raw(data: &str) -> Result<Box<RawValue>, Error> {
    RawValue::from_string(data.to_owned()).map_err(|error| Error::Invalid(error.to_string()))
}

/// The text by which a field correlates: of texts themselves, of numbers and truth values their JSON.
fn text_of(data: &RawValue, field: &str) -> Option<String> {
    let value: serde_json::Value = serde_json::from_str(data.get()).ok()?;
    match value.get(field)? {
        serde_json::Value::Null => None,
        serde_json::Value::String(text) => Some(text.clone()),
        other => Some(other.to_string()),
    }
}
