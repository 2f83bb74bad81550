//! The walk over the steps of one workflow, in the order in which they run. It numbers them, keeps
//! up what can be read where, and gives each to the file that knows its verb.

use std::collections::{BTreeMap, BTreeSet};

use crate::codes;
use crate::diagnostic::{Diagnostic, Sink};
use crate::ir::{Catch, Node, Verb};
use crate::model::{self, Caught, Step};
use crate::resolve::Folder;
use crate::resolve::uses::each_step;
use crate::source::Span;
use crate::typing::{Checker, Scope, Standing, StepResult, VisibleStep};

/// Most steps of a workflow, at any depth.
const MAX_STEPS: usize = 1_000;

pub(super) struct Walk<'w, 'a> {
    pub folder: &'w mut Folder<'a>,
    pub sink: &'w mut Sink,
    pub scope: Scope,
    /// The loops around the step at hand, outermost first.
    pub loops: Vec<Loop>,
    /// Of every step, by its place.
    ids: BTreeMap<Span, String>,
    next: u16,
}

/// A loop around a step.
pub(super) struct Loop {
    /// Of an `each`; a `repeat` has none.
    pub item: Option<String>,
    /// The ids of the steps inside.
    pub steps: BTreeSet<String>,
}

/// A step while its verb is lowered.
pub(super) struct Here<'s> {
    pub id: &'s str,
    pub path: &'s str,
    /// Where messages about the whole step point.
    pub span: Span,
}

/// What a verb becomes, and what can be read of it.
pub(super) struct Lowered {
    pub verb: Option<Verb>,
    pub result: StepResult,
}

impl<'w, 'a> Walk<'w, 'a> {
    /// Gives every step an id. `None` if there are too many.
    pub fn new(
        folder: &'w mut Folder<'a>,
        sink: &'w mut Sink,
        scope: Scope,
        workflow: &'a model::Workflow,
    ) -> Option<Self> {
        let mut walk =
            Self { folder, sink, scope, loops: Vec::new(), ids: BTreeMap::new(), next: 0 };
        let mut steps: Vec<&Step> = Vec::new();
        each_step(&workflow.steps, &mut |step| steps.push(step));
        if steps.len() > MAX_STEPS {
            let message =
                format!("this workflow has {} steps; the limit is {MAX_STEPS}", steps.len());
            let diagnostic = Diagnostic::error(codes::TOO_MANY_STEPS, workflow.name.span, message);
            walk.sink.push(
                diagnostic
                    .help("use `each` for what repeats, or start a second workflow with an event"),
            );
            return None;
        }
        walk.name(&steps);
        Some(walk)
    }

    pub fn config(&self) -> Vec<String> {
        self.scope.config.iter().cloned().collect()
    }

    /// The number one past the last node's.
    pub fn nodes(&self) -> u16 {
        self.next
    }

    pub fn checker(&mut self) -> Checker<'_> {
        Checker { scope: &mut self.scope, sink: self.sink }
    }

    /// The next node's number. There are at most three nodes per step, so that it never ends.
    pub fn number(&mut self) -> u16 {
        let number = self.next;
        self.next = self.next.saturating_add(1);
        number
    }

    fn name(&mut self, steps: &[&Step]) {
        let mut places: BTreeMap<&str, Span> = BTreeMap::new();
        for step in steps {
            let Some((id, span)) = written_id(step) else { continue };
            self.ids.insert(step.span, id.to_owned());
            if let Some(first) = places.get(id) {
                let message = format!("two steps have the id `{id}`");
                let diagnostic = Diagnostic::error(codes::STEP_ID_TWICE, span, message)
                    .other(*first, "first here");
                let help = if step.id.is_some() {
                    "ids are unique in a workflow"
                } else {
                    "give each step an `id`: without one its type's name is its id"
                };
                self.sink.push(diagnostic.help(help));
            }
            places.entry(id).or_insert(span);
            if id == "undo" {
                let message = "`undo` cannot be the id of a step: it is the end of the path of what undoes one";
                self.sink.push(
                    Diagnostic::error(codes::NAME_TAKEN, span, message).help("choose another id"),
                );
            }
        }
        let taken: BTreeSet<String> = places.keys().map(|id| (*id).to_owned()).collect();
        let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
        for step in steps.iter().filter(|step| written_id(step).is_none()) {
            let verb = unnamed(&step.verb);
            let count = counts.entry(verb).or_default();
            let id = loop {
                *count += 1;
                let id = format!("{verb}_{count}");
                if !taken.contains(&id) {
                    break id;
                }
            };
            self.ids.insert(step.span, id);
        }
        for step in steps {
            let id = self.id(step);
            let place = step.id.as_ref().map_or(step.verb_key, |id| id.span);
            let known =
                VisibleStep { place, result: StepResult::Broken, standing: Standing::Later };
            self.scope.steps.get_or_insert_default().entry(id).or_insert(known);
        }
    }

    pub fn id(&self, step: &Step) -> String {
        self.ids.get(&step.span).cloned().unwrap_or_default()
    }

    /// Steps one after the other. All are looked at, also behind a broken one.
    pub fn steps(&mut self, steps: &'a [Step], parent: &str) -> Option<Vec<Node>> {
        let nodes: Vec<Option<Node>> = steps.iter().map(|step| self.step(step, parent)).collect();
        nodes.into_iter().collect()
    }

    fn step(&mut self, step: &'a Step, parent: &str) -> Option<Node> {
        let id = self.id(step);
        let path = if parent.is_empty() { id.clone() } else { format!("{parent}/{id}") };
        let span = step.id.as_ref().map_or(step.verb_key, |id| id.span);
        let here = Here { id: &id, path: &path, span };
        let no = self.number();
        self.scope.set_standing(&id, Standing::Itself);
        let when = match &step.when {
            None => Some(None),
            Some(when) => self.checker().condition(when).map(Some),
        };
        let lowered = self.verb(step, &here);
        self.know(&id, lowered.result);
        let catch = self.catch(step, &here);
        self.settle(step, &id);
        let result =
            self.scope.steps.as_ref().and_then(|steps| steps.get(&id)).and_then(
                |known| match &known.result {
                    StepResult::Type(ty) => Some(ty.clone()),
                    StepResult::None(_) | StepResult::Broken => None,
                },
            );
        Some(Node {
            place: self.folder.types.place(span),
            no,
            end: self.next,
            description: step.description.as_ref().map(|text| text.value.clone()),
            when: when?,
            verb: lowered.verb?,
            catch: catch?,
            result,
            path,
            id,
        })
    }

    /// Tells readers what a step gives.
    pub fn know(&mut self, id: &str, result: StepResult) {
        if let Some(known) = self.scope.steps.as_mut().and_then(|steps| steps.get_mut(id)) {
            known.result = result;
        }
    }

    fn verb(&mut self, step: &'a Step, here: &Here<'_>) -> Lowered {
        match &step.verb {
            model::Verb::Work(work) => self.work(work, here),
            model::Verb::Group { steps, timeout_ms } => {
                self.group(steps, timeout_ms.map(|timeout| timeout.value), here)
            }
            model::Verb::Parallel { branches, timeout_ms } => {
                self.parallel(branches, timeout_ms.map(|timeout| timeout.value), here)
            }
            model::Verb::Switch { cases, otherwise } => {
                self.switch(cases, otherwise.as_ref(), here)
            }
            model::Verb::Match { value, cases, otherwise } => {
                self.switch_by_value(value, cases, otherwise.as_ref(), step.verb_key, here)
            }
            model::Verb::Each(each) => self.each(each, here),
            model::Verb::Repeat(repeat) => self.repeat(repeat, here),
            model::Verb::Wait { event, condition, timeout_ms } => {
                self.wait(event, condition.as_ref(), timeout_ms.map(|timeout| timeout.value))
            }
            model::Verb::Sleep(sleep) => self.sleep(sleep),
            model::Verb::Emit { event, data } => self.emit(event, data.as_deref()),
            model::Verb::Fail { error, message } => self.fail(error, message.as_ref()),
            // Refused by name, before anything is lowered.
            model::Verb::Child(_) => Lowered { verb: None, result: StepResult::Broken },
        }
    }

    fn catch(&mut self, step: &'a Step, here: &Here<'_>) -> Option<Vec<Catch>> {
        let Some(written) = step.catch.as_ref().filter(|written| !written.is_empty()) else {
            return Some(Vec::new());
        };
        let handlers: Vec<&'a [Step]> =
            written.iter().map(|catch| catch.steps.as_slice()).collect();
        let failed = self.fail_for_handlers(step, here.id);
        let nested = std::mem::replace(&mut self.scope.error, true);
        let lists = self.each_branch(&handlers, here);
        self.scope.error = nested;
        self.restore(failed);
        let catches = written.iter().zip(lists).map(|(catch, steps)| {
            let error = match &catch.error.value {
                Caught::Any => None,
                Caught::Named(name) => Some(name.clone()),
            };
            Some(Catch { error, steps: steps? })
        });
        catches.collect()
    }
}

/// The id of a step that has one, and where it is written.
fn written_id(step: &Step) -> Option<(&str, Span)> {
    match (&step.id, &step.verb) {
        (Some(id), _) => Some((&id.value, id.span)),
        (None, model::Verb::Work(work)) => Some((&work.type_name.value, work.type_name.span)),
        _ => None,
    }
}

fn unnamed(verb: &model::Verb) -> &'static str {
    match verb {
        model::Verb::Sleep(_) => "sleep",
        model::Verb::Emit { .. } => "emit",
        model::Verb::Fail { .. } => "fail",
        _ => "step",
    }
}
