//! The data of a memory store, with the operations of the contract as plain functions.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use crate::id::InstanceId;
use crate::machine::Time;
use crate::store::{
    Append, Appended, Count, Error, Filter, InUse, KeptEvent, NewInstance, Record, RecordChange,
    RequestKey, Seq, Settled, Status, Stored, Subscription, UndeliveredEvent,
};

#[derive(Debug, Default)]
pub(super) struct Data {
    instances: BTreeMap<InstanceId, Instance>,
    requests: HashMap<(String, String), (InstanceId, [u8; 32])>,
    /// Instances with the unsettled flag, and the wake-ups of those without.
    unsettled: BTreeSet<InstanceId>,
    wakes: BTreeSet<(Time, InstanceId)>,
    /// By event, whether for any value, value, instance and path.
    subscriptions: BTreeSet<(String, bool, String, InstanceId, String)>,
    events: BTreeMap<u64, Event>,
    event_numbers: HashMap<(String, String), u64>,
    next_event: u64,
    definitions: HashMap<String, String>,
}

#[derive(Debug)]
struct Instance {
    record: Record,
    expires_at: Option<Time>,
    request: Option<(String, String)>,
    rows: Vec<(Stored, u64)>,
    mark: UnsettledFlag,
    /// Whether a crash may set the flag again.
    lazy: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum UnsettledFlag {
    Unsettled,
    Settled(Option<Time>),
}

#[derive(Debug)]
struct Event {
    event: KeptEvent,
    has_started: bool,
    delivered: bool,
}

impl Instance {
    fn seq(&self) -> Seq {
        Seq::try_from(self.rows.len()).unwrap_or(Seq::MAX)
    }
}

impl Data {
    pub fn append(&mut self, append: Append) -> Result<Appended, Error> {
        let id = append.instance;
        if let Some(instance) = self.instances.get(&id) {
            let seq = instance.seq();
            if append.seq == 0 || append.seq > seq + 1 {
                return Err(Error::Broken(format!(
                    "row {} cannot follow row {seq} of {id}",
                    append.seq
                )));
            }
            let later = &instance.rows[(append.seq - 1) as usize..];
            match later.first() {
                Some((_, token)) if *token == append.token => return Ok(Appended::Same),
                Some(_) => {
                    return Ok(Appended::Behind(
                        later.iter().map(|(row, _)| row.clone()).collect(),
                    ));
                }
                None => {}
            }
        } else {
            let Some(new) = append.start.as_deref().filter(|_| append.seq == 1) else {
                return Err(Error::Broken(format!("there is no instance {id} to append to")));
            };
            if let Some(used) = self.used(new.request.as_ref()) {
                return Ok(used);
            }
            self.begin(id, new);
        }
        let mark = if append.settled >= append.seq {
            UnsettledFlag::Settled(None)
        } else {
            UnsettledFlag::Unsettled
        };
        if let Some(instance) = self.instances.get_mut(&id) {
            instance.rows.push((
                Stored { seq: append.seq, settled: append.settled, row: append.row },
                append.token,
            ));
            if let Some(RecordChange { status, ended }) = append.record {
                instance.record.status = status;
                instance.record.ended_at = ended.map(|(at, _)| at);
                instance.expires_at = ended.map(|(at, keep_ms)| at.plus_ms(keep_ms));
            }
        }
        self.mark(id, mark, false);
        Ok(Appended::Done)
    }

    fn used(&self, request: Option<&RequestKey>) -> Option<Appended> {
        let RequestKey { scope, id, input_hash } = request?;
        let (instance, hash) = self.requests.get(&(scope.clone(), id.clone()))?;
        Some(Appended::Used { instance: *instance, same_input: hash == input_hash })
    }

    fn begin(&mut self, id: InstanceId, new: &NewInstance) {
        let NewInstance { workflow, version, definition, owner, started_at, request } = new.clone();
        let status = Status::Pending;
        let record = Record {
            instance: id,
            workflow,
            version,
            definition,
            owner,
            status,
            started_at,
            ended_at: None,
            settled: true,
            owner_node: None,
        };
        let request = request.map(|RequestKey { scope, id: request_id, input_hash }| {
            self.requests.insert((scope.clone(), request_id.clone()), (id, input_hash));
            (scope, request_id)
        });
        let instance = Instance {
            record,
            expires_at: None,
            request,
            rows: Vec::new(),
            mark: UnsettledFlag::Settled(None),
            lazy: false,
        };
        self.instances.insert(id, instance);
    }

    fn mark(&mut self, id: InstanceId, mark: UnsettledFlag, lazy: bool) {
        let Some(instance) = self.instances.get_mut(&id) else { return };
        match std::mem::replace(&mut instance.mark, mark) {
            UnsettledFlag::Unsettled => drop(self.unsettled.remove(&id)),
            UnsettledFlag::Settled(Some(at)) => drop(self.wakes.remove(&(at, id))),
            UnsettledFlag::Settled(None) => {}
        }
        match mark {
            UnsettledFlag::Unsettled => drop(self.unsettled.insert(id)),
            UnsettledFlag::Settled(Some(at)) => drop(self.wakes.insert((at, id))),
            UnsettledFlag::Settled(None) => {}
        }
        instance.lazy = lazy;
    }

    pub fn settle(&mut self, settled: Settled) {
        if self
            .instances
            .get(&settled.instance)
            .is_some_and(|instance| instance.seq() == settled.seq)
        {
            self.mark(settled.instance, UnsettledFlag::Settled(settled.wake_at), true);
        }
    }

    /// Flags that were cleared lately are set again, unless they survive.
    pub fn lose_lazy(&mut self, mut survives: impl FnMut(InstanceId) -> bool) {
        let lazy: Vec<InstanceId> = self
            .instances
            .iter()
            .filter(|(_, instance)| instance.lazy)
            .map(|(id, _)| *id)
            .collect();
        for id in lazy {
            if survives(id) {
                self.make_durable(id);
            } else {
                self.mark(id, UnsettledFlag::Unsettled, false);
            }
        }
    }

    fn make_durable(&mut self, id: InstanceId) {
        if let Some(instance) = self.instances.get_mut(&id) {
            instance.lazy = false;
        }
    }

    pub fn record(&self, id: InstanceId) -> Option<Record> {
        self.instances.get(&id).map(|instance| Record {
            settled: instance.mark != UnsettledFlag::Unsettled,
            ..instance.record.clone()
        })
    }

    pub fn rows(&self, id: InstanceId, after: Seq, limit: usize) -> Vec<Stored> {
        let rows = self.instances.get(&id).map_or(&[][..], |instance| &instance.rows);
        rows.iter().skip(after as usize).take(limit).map(|(row, _)| row.clone()).collect()
    }

    pub fn list(&self, filter: &Filter) -> Vec<Record> {
        let Filter { workflow, status, owner, after, limit } = filter;
        let older = match after {
            Some(after) => self.instances.range(..after),
            None => self.instances.range(..),
        };
        let records = older.rev().map(|(_, instance)| &instance.record);
        records
            .filter(|record| workflow.as_ref().is_none_or(|workflow| *workflow == record.workflow))
            .filter(|record| status.is_none_or(|status| status == record.status))
            .filter(|record| owner.as_ref().is_none_or(|owner| *owner == record.owner))
            .take(*limit)
            .cloned()
            .collect()
    }

    pub fn unsettled(&self, after: Option<InstanceId>, limit: usize) -> Vec<InstanceId> {
        let later = self.unsettled.iter().filter(|id| after.is_none_or(|after| **id > after));
        later.take(limit).copied().collect()
    }

    pub fn due(
        &self,
        after: Option<(Time, InstanceId)>,
        until: Time,
        limit: usize,
    ) -> Vec<(Time, InstanceId)> {
        let later = self.wakes.iter().filter(|wake| after.is_none_or(|after| **wake > after));
        later.take_while(|(at, _)| *at <= until).take(limit).copied().collect()
    }

    pub fn subscribe(&mut self, batch: Vec<Subscription>) {
        self.subscriptions.extend(batch.into_iter().map(key));
    }

    pub fn unsubscribe(&mut self, batch: Vec<Subscription>) {
        for subscription in batch {
            self.subscriptions.remove(&key(subscription));
        }
    }

    pub fn subscribers(
        &self,
        event: &str,
        value: Option<&str>,
        after: Option<Subscription>,
        limit: usize,
    ) -> Vec<Subscription> {
        let after = after.map(key);
        let matching = self
            .subscriptions
            .iter()
            .filter(|(name, any, of, _, _)| name == event && (*any || value == Some(of)));
        let later = matching.filter(|one| after.as_ref().is_none_or(|after| *one > after));
        later
            .take(limit)
            .map(|(event, any, value, instance, path)| Subscription {
                event: event.clone(),
                value: (!any).then(|| value.clone()),
                instance: *instance,
                path: path.clone(),
            })
            .collect()
    }

    pub fn keep(&mut self, batch: Vec<KeptEvent>) -> Vec<bool> {
        let mut new = Vec::with_capacity(batch.len());
        for event in batch {
            let key = (event.name.clone(), event.id.clone());
            let is_new = !self.event_numbers.contains_key(&key);
            if is_new {
                self.next_event += 1;
                self.event_numbers.insert(key, self.next_event);
                self.events
                    .insert(self.next_event, Event { event, has_started: false, delivered: false });
            }
            new.push(is_new);
        }
        new
    }

    pub fn kept(&self, name: &str, value: Option<&str>, now: Time) -> Vec<KeptEvent> {
        let of_name = self
            .events
            .values()
            .map(|kept| &kept.event)
            .filter(|event| event.name == name && event.keep_until > now);
        of_name
            .filter(|event| value.is_none() || event.value.as_deref() == value)
            .cloned()
            .collect()
    }

    pub fn delivered(&mut self, batch: Vec<(String, String)>) {
        for key in batch {
            if let Some(event) =
                self.event_numbers.get(&key).and_then(|number| self.events.get_mut(number))
            {
                event.delivered = true;
            }
        }
    }

    pub fn started(&mut self, batch: Vec<(String, String)>) {
        for key in batch {
            if let Some(event) =
                self.event_numbers.get(&key).and_then(|number| self.events.get_mut(number))
            {
                event.has_started = true;
            }
        }
    }

    pub fn undelivered(&self, after: Option<&str>, limit: usize) -> Vec<UndeliveredEvent> {
        let after = after.and_then(|place| place.parse::<u64>().ok()).map_or(0, |place| place + 1);
        let undelivered =
            self.events.range(after..).filter(|(_, event)| !event.delivered).take(limit);
        let read = |(number, event): (&u64, &Event)| UndeliveredEvent {
            event: event.event.clone(),
            has_started: event.has_started,
            place: number.to_string(),
        };
        undelivered.map(read).collect()
    }

    pub fn in_use(&self) -> Vec<InUse> {
        let mut counts: BTreeMap<(&str, u32, &str), u64> = BTreeMap::new();
        for record in self
            .instances
            .values()
            .map(|instance| &instance.record)
            .filter(|record| !record.status.is_ended())
        {
            *counts.entry((&record.workflow, record.version, &record.definition)).or_default() += 1;
        }
        let of = |((workflow, version, definition), instances): ((&str, u32, &str), u64)| InUse {
            workflow: workflow.to_owned(),
            version,
            definition: definition.to_owned(),
            instances,
        };
        counts.into_iter().map(of).collect()
    }

    pub fn count(&self, workflows: &[String]) -> Vec<Count> {
        let mut counts: BTreeMap<(&String, Status), u64> = BTreeMap::new();
        for record in self.instances.values().map(|instance| &instance.record) {
            if !record.status.is_ended() && workflows.contains(&record.workflow) {
                *counts.entry((&record.workflow, record.status)).or_default() += 1;
            }
        }
        let of = |((workflow, status), instances): ((&String, Status), u64)| Count {
            workflow: workflow.clone(),
            status,
            instances,
        };
        counts.into_iter().map(of).collect()
    }

    pub fn define(&mut self, hash: String, document: String) {
        self.definitions.entry(hash).or_insert(document);
    }

    pub fn definition(&self, hash: &str) -> Option<String> {
        self.definitions.get(hash).cloned()
    }

    pub fn expire(&mut self, now: Time, limit: usize) -> usize {
        let over = |instance: &Instance| {
            instance.mark != UnsettledFlag::Unsettled
                && instance.expires_at.is_some_and(|at| at <= now)
        };
        let old: Vec<InstanceId> = self
            .instances
            .iter()
            .filter(|(_, instance)| over(instance))
            .map(|(id, _)| *id)
            .take(limit)
            .collect();
        for id in &old {
            self.mark(*id, UnsettledFlag::Settled(None), false);
            if let Some(request) = self.instances.remove(id).and_then(|instance| instance.request) {
                self.requests.remove(&request);
            }
        }
        let past = |event: &Event| event.delivered && event.event.keep_until <= now;
        let events: Vec<u64> = self
            .events
            .iter()
            .filter(|(_, event)| past(event))
            .map(|(number, _)| *number)
            .take(limit)
            .collect();
        for number in events {
            if let Some(Event { event, .. }) = self.events.remove(&number) {
                self.event_numbers.remove(&(event.name, event.id));
            }
        }
        old.len()
    }
}

fn key(subscription: Subscription) -> (String, bool, String, InstanceId, String) {
    let Subscription { event, value, instance, path } = subscription;
    (event, value.is_none(), value.unwrap_or_default(), instance, path)
}
