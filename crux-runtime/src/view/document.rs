//! The status document: one instance as people and clients see it. It is made of the journal's rows
//! and the definition's document, never of the machine's state, so that it also works for instances
//! whose workflow this binary does not have. Texts and times that are absent are `""`, never null
//! and never missing.

#[cfg(test)]
pub(crate) mod tests;

use std::borrow::Cow;
use std::collections::HashMap;

use serde::{Serialize, Serializer};
use serde_json::value::RawValue;

use crate::engine::api::Undelivered;
use crate::id::InstanceId;
use crate::machine::{Failure, Kind, Time};

pub use crate::definition::shape::{Error as ShapeError, Hooks, Shape, Step, static_path};
pub use crate::view::fold::{Fold, StepInstance, StepState, Waits};

/// See the module's text. The first three fields are the workflow instance as other systems know
/// it.
#[derive(Debug, Serialize)]
pub struct Document<'a> {
    definition: DefinitionPart<'a>,
    data: DataPart<'a>,
    metadata: MetadataPart,
    workflow_id: String,
    workflow: &'a str,
    version: u32,
    /// The hash of what the instance runs.
    definition_hash: &'a str,
    /// The number of the last row that went into this.
    seq: u32,
    owner: &'a str,
    /// What started it.
    trigger: &'a str,
    output: OrEmpty<Shown<'a>>,
    error: String,
    error_name: &'a str,
    current_steps: Vec<Current>,
    /// Hooks and emitted events that do not reach everybody who listens, and are sent again and
    /// again.
    undelivered: Vec<UndeliveredPart<'a>>,
    /// Steps that the definition's list does not hold: those that undo others, in the order in
    /// which they began.
    undo: Vec<InstancePart<'a>>,
}

#[derive(Debug, Serialize)]
struct DefinitionPart<'a> {
    hooks: &'a Hooks,
    steps: Vec<StepPart<'a>>,
}

#[derive(Debug, Serialize)]
struct DataPart<'a> {
    payload: OrEmpty<Shown<'a>>,
    workflow_instance_id: String,
    request_id: &'a str,
}

#[derive(Debug, Serialize)]
struct MetadataPart {
    start_time: OrEmpty<Stamp>,
    end_time: OrEmpty<Stamp>,
    status: &'static str,
    current_step: String,
}

/// One step of the definition.
#[derive(Debug, Serialize)]
struct StepPart<'a> {
    /// `""` inside a loop, where there are many.
    step_instance_id: String,
    definition: StepDefinition<'a>,
    id: &'a str,
    path: &'a str,
    #[serde(flatten)]
    progress: ProgressPart<'a>,
    /// Inside a loop only: the step's instances, in the order of its elements and rounds.
    #[serde(skip_serializing_if = "Option::is_none")]
    instances: Option<Vec<InstancePart<'a>>>,
}

#[derive(Debug, Serialize)]
struct StepDefinition<'a> {
    class: &'a str,
    r#type: &'a str,
    steps: Vec<StepPart<'a>>,
}

#[derive(Debug, Serialize)]
struct InstancePart<'a> {
    step_instance_id: String,
    path: &'a str,
    r#type: &'a str,
    #[serde(flatten)]
    progress: ProgressPart<'a>,
}

#[derive(Debug, Serialize)]
struct ProgressPart<'a> {
    state: &'static str,
    attempts: u32,
    start_time: OrEmpty<Stamp>,
    end_time: OrEmpty<Stamp>,
    output: OrEmpty<Shown<'a>>,
    error: String,
    error_name: &'a str,
}

/// An open step, and why it is not done.
#[derive(Debug, Serialize)]
struct Current {
    step_id: String,
    path: String,
    r#type: String,
    state: &'static str,
    waits_for: String,
}

/// A message that is not published, and why.
#[derive(Debug, Serialize)]
struct UndeliveredPart<'a> {
    routing_key: &'a str,
    problem: &'a str,
}

/// What is absent is `""`.
#[derive(Debug, Clone)]
struct OrEmpty<T>(Option<T>);

impl<T: Serialize> Serialize for OrEmpty<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match &self.0 {
            Some(value) => value.serialize(serializer),
            None => serializer.serialize_str(""),
        }
    }
}

/// A recorded value without what is secret in it.
type Shown<'a> = Cow<'a, RawValue>;

/// RFC 3339.
#[derive(Debug, Clone, Copy)]
struct Stamp(Time);

impl Serialize for Stamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

/// The element and round numbers in a path, outermost first: `ship[3]/poll#12/ask` → 3, 12.
fn numbers(path: &str) -> Vec<u32> {
    path.split(['[', '#'])
        .skip(1)
        .filter_map(|part| part.split([']', '/']).next()?.parse().ok())
        .collect()
}

/// Makes the document.
pub fn document<'a>(
    instance: InstanceId,
    shape: &'a Shape,
    fold: &'a Fold,
    undelivered: &'a Undelivered,
) -> Document<'a> {
    let Undelivered { tasks: stuck, blocked, .. } = undelivered;
    let mut view = View {
        instance,
        shape,
        fold,
        stuck,
        blocked: blocked.as_deref(),
        looped: HashMap::new(),
        current: Vec::new(),
        seen: 0,
    };
    for step in fold.steps() {
        if step.path.contains(['[', '#']) {
            view.looped.entry(static_path(&step.path)).or_default().push(step);
        }
    }
    view.looped
        .values_mut()
        .for_each(|instances| instances.sort_by_cached_key(|step| numbers(&step.path)));
    let steps =
        view.steps(&shape.steps, StepContext { in_loop: false, is_over: fold.has_stopped() });
    let undo = view.unlisted();
    let started = fold.started.as_ref();
    let (error, error_name) = failure_texts(fold.failure.as_ref());
    let current_step = view
        .current
        .first()
        .map_or(String::new(), |current| format!("step_instance:{}", current.step_id));
    Document {
        definition: DefinitionPart { hooks: &shape.hooks, steps },
        data: DataPart {
            payload: OrEmpty(started.map(|started| shape.secrets.input(&started.input))),
            workflow_instance_id: instance.prefixed(),
            request_id: started.map_or("", |started| &started.request_id),
        },
        metadata: MetadataPart {
            start_time: OrEmpty(fold.started_at.map(Stamp)),
            end_time: OrEmpty(fold.ended_at.map(Stamp)),
            status: fold.status().word(),
            current_step,
        },
        workflow_id: instance.to_string(),
        workflow: started.map_or("", |started| &started.workflow),
        version: started.map_or(0, |started| started.version),
        definition_hash: started.map_or("", |started| &started.definition),
        seq: fold.seq,
        owner: started.map_or("", |started| &started.owner),
        trigger: started.map_or("", |started| &started.trigger),
        output: OrEmpty(fold.output.as_deref().map(|output| shape.secrets.output(output))),
        error,
        error_name,
        current_steps: view.current,
        undelivered: undelivered
            .messages
            .iter()
            .map(|(routing_key, problem)| UndeliveredPart { routing_key, problem })
            .collect(),
        undo,
    }
}

fn failure_texts(failure: Option<&Failure>) -> (String, &str) {
    failure.map_or((String::new(), ""), |failure| (failure.to_string(), failure.name.as_ref()))
}

/// What is around a step.
#[derive(Clone, Copy)]
struct StepContext {
    in_loop: bool,
    /// Nothing begins here any more.
    is_over: bool,
}

struct View<'a, 's> {
    instance: InstanceId,
    shape: &'a Shape,
    fold: &'a Fold,
    stuck: &'s [(String, String)],
    /// Why nothing goes on.
    blocked: Option<&'s str>,
    /// Steps inside loops, by their path without numbers.
    looped: HashMap<String, Vec<&'a StepInstance>>,
    current: Vec<Current>,
    /// How many steps of the fold the definition's list has named.
    seen: usize,
}

impl<'a> View<'a, '_> {
    fn steps(&mut self, steps: &'a [Step], place: StepContext) -> Vec<StepPart<'a>> {
        // Of a switch: the case that was taken. Inside a loop each round takes its own.
        let taken = steps
            .iter()
            .find(|step| !place.in_loop && self.fold.step(&step.path).is_some())
            .and_then(|step| step.case);
        let is_over = |step: &Step| {
            place.is_over || (step.case.is_some() && taken.is_some() && step.case != taken)
        };
        steps
            .iter()
            .map(|step| self.step(step, StepContext { is_over: is_over(step), ..place }))
            .collect()
    }

    fn step(&mut self, step: &'a Step, place: StepContext) -> StepPart<'a> {
        let fold = self.fold;
        let StepContext { in_loop, is_over } = place;
        let own = fold.step(&step.path).filter(|_| !in_loop);
        let instances = in_loop.then(|| self.looped.remove(&step.path).unwrap_or_default());
        for instance in own.into_iter().chain(instances.iter().flatten().copied()) {
            self.seen += 1;
            self.note_current(instance);
        }
        let mut progress = match &instances {
            None => self.progress(own),
            Some(instances) => self.summary(instances),
        };
        if is_over && progress.state == StepState::Pending.word() {
            progress.state = StepState::Skipped.word();
        }
        let instances = instances.map(|instances| {
            instances.into_iter().map(|instance| self.instance_part(instance)).collect()
        });
        let is_loop = matches!(step.kind.as_str(), "each" | "repeat");
        let inner = StepContext {
            in_loop: in_loop || is_loop,
            is_over: is_over
                || (!step.steps.is_empty() && own.is_some_and(|own| fold.is_over(own))),
        };
        let inner = self.steps(&step.steps, inner);
        StepPart {
            step_instance_id: if in_loop {
                String::new()
            } else {
                self.instance.step(&step.path).prefixed()
            },
            definition: StepDefinition { class: &step.class, r#type: &step.kind, steps: inner },
            id: &step.id,
            path: &step.path,
            progress,
            instances,
        }
    }

    /// What the rows name and the definition's list does not.
    fn unlisted(&mut self) -> Vec<InstancePart<'a>> {
        let fold = self.fold;
        if self.seen == fold.steps().len() {
            return Vec::new();
        }
        let mut listed = std::collections::HashSet::new();
        let mut rest: Vec<&Step> = self.shape.steps.iter().collect();
        while let Some(step) = rest.pop() {
            listed.insert(step.path.as_str());
            rest.extend(&step.steps);
        }
        let unlisted: Vec<&StepInstance> = fold
            .steps()
            .iter()
            .filter(|step| !listed.contains(static_path(&step.path).as_str()))
            .collect();
        unlisted.iter().for_each(|step| self.note_current(step));
        unlisted.into_iter().map(|step| self.instance_part(step)).collect()
    }

    fn instance_part(&self, step: &'a StepInstance) -> InstancePart<'a> {
        InstancePart {
            step_instance_id: self.instance.step(&step.path).prefixed(),
            path: &step.path,
            r#type: self.shape.step_type(&step.path),
            progress: self.progress(Some(step)),
        }
    }

    fn progress(&self, step: Option<&'a StepInstance>) -> ProgressPart<'a> {
        let (error, error_name) = failure_texts(step.and_then(|step| step.failure.as_ref()));
        ProgressPart {
            state: step.map_or(StepState::Pending, |step| self.fold.state_of(step)).word(),
            attempts: step.map_or(0, |step| step.attempts),
            start_time: OrEmpty(step.and_then(|step| step.started_at).map(Stamp)),
            end_time: OrEmpty(step.and_then(|step| step.ended_at).map(Stamp)),
            output: OrEmpty(step.and_then(|step| {
                Some(self.shape.secrets.result(&step.path, step.output.as_deref()?))
            })),
            error,
            error_name,
        }
    }

    /// Of many instances of one step: open if any is, else failed if the failure of any was taken
    /// by no `catch`, else completed if any is, else as the last; their attempts together.
    fn summary(&self, instances: &[&'a StepInstance]) -> ProgressPart<'a> {
        let with = |wanted: &[StepState]| {
            instances.iter().rev().find(|step| wanted.contains(&self.fold.state_of(step))).copied()
        };
        let shown = with(&[StepState::Processing, StepState::Retrying, StepState::Waiting])
            .or_else(|| {
                instances
                    .iter()
                    .rev()
                    .find(|step| step.state == StepState::Failed && !self.is_caught(step))
                    .copied()
            })
            .or_else(|| with(&[StepState::Completed]))
            .or_else(|| instances.last().copied());
        let all_ended = instances.iter().all(|step| step.ended_at.is_some());
        let (error, error_name) = failure_texts(shown.and_then(|step| step.failure.as_ref()));
        ProgressPart {
            state: shown.map_or(StepState::Pending, |step| self.fold.state_of(step)).word(),
            attempts: instances.iter().map(|step| step.attempts).sum(),
            start_time: OrEmpty(
                instances.iter().filter_map(|step| step.started_at).min().map(Stamp),
            ),
            end_time: OrEmpty(
                instances
                    .iter()
                    .filter_map(|step| step.ended_at)
                    .max()
                    .filter(|_| all_ended)
                    .map(Stamp),
            ),
            output: OrEmpty(None),
            error,
            error_name,
        }
    }

    /// Whether a `catch` of the step took its failure. Not known without the definition.
    fn is_caught(&self, step: &StepInstance) -> bool {
        let node = self.shape.node(&step.path);
        node.zip(step.failure.as_ref())
            .is_some_and(|(node, failure)| node.caught.takes(&failure.name))
    }

    fn note_current(&mut self, step: &StepInstance) {
        let waits_for_person = self.waits_for_person(step);
        if waits_for_person || self.fold.is_current(step) {
            let kind = self.shape.step_type(&step.path);
            let stuck = self
                .stuck
                .iter()
                .find(|(path, _)| *path == step.path)
                .map(|(_, reason)| reason.as_str());
            self.current.push(Current {
                step_id: self.instance.step(&step.path).to_string(),
                path: step.path.clone(),
                r#type: kind.to_owned(),
                state: self.fold.state_of(step).word(),
                waits_for: match self.blocked {
                    Some(reason) => reason.to_owned(),
                    None if waits_for_person => "a person: retry, undo or fail".to_owned(),
                    None if self.fold.is_held() => waits_parked(step, waits_for(step, stuck)),
                    None => waits_for(step, stuck),
                },
            });
        }
    }

    /// Whether a step of a parked instance has failed and nothing took its failure.
    fn waits_for_person(&self, step: &StepInstance) -> bool {
        if !self.fold.is_parked()
            || step.state != StepState::Failed
            || self.fold.has_ended_around(step)
        {
            return false;
        }
        match self.shape.node(&step.path).map(|node| (&node.kind, &node.caught)) {
            Some((Kind::Undo(_), _)) => true,
            Some((Kind::Task(_), caught)) => {
                let is_caught =
                    step.failure.as_ref().is_some_and(|failure| caught.takes(&failure.name));
                !is_caught && !self.fold.has_stopped()
            }
            Some(_) => false,
            // Which failures it takes is not known without the definition.
            None => step.attempts > 0 && (!self.fold.has_stopped() || step.path.ends_with("/undo")),
        }
    }
}

/// Of an instance that the engine has parked: nothing begins and no time counts.
fn waits_parked(step: &StepInstance, waits: String) -> String {
    match &step.waits {
        Some(Waits::NextAttempt { .. } | Waits::Until(_)) => {
            format!("the parked instance to go on, then for {waits}")
        }
        _ => waits,
    }
}

/// Why a step is not done, for people.
fn waits_for(step: &StepInstance, stuck: Option<&str>) -> String {
    if let Some(reason) = stuck {
        return format!("its delivery: {reason}");
    }
    match &step.waits {
        Some(Waits::Attempt { attempt, since, has_begun: false }) => {
            format!("the result of attempt {attempt}, handed out at {since}")
        }
        Some(Waits::Attempt { attempt, since, has_begun: true }) => {
            format!("the result of attempt {attempt}, begun at {since}")
        }
        Some(Waits::NextAttempt { attempt, at }) => format!("attempt {attempt} at {at}"),
        Some(Waits::Event { name, value: Some(value) }) => {
            format!("the event {name} with `{value}`")
        }
        Some(Waits::Event { name, value: None }) => format!("the event {name}"),
        Some(Waits::Until(time)) => format!("{time}"),
        None => String::new(),
    }
}
