//! What an expression can read where it stands: the roots (`input`, `event`, `error`, …), items,
//! and for each step whether its result is there. The walk over the steps keeps it up to date; the
//! checker only asks.

use std::collections::{BTreeMap, BTreeSet};

use crate::ir::{Type, Value};
use crate::secrets;
use crate::source::Span;

/// What stands for a value at the root of an expression besides steps and items.
pub const ROOTS: [&str; 6] = ["input", "steps", "event", "error", "instance", "config"];

#[derive(Debug, Clone)]
pub struct Scope {
    pub input: Root,
    /// Every step of the workflow, by id. `None` where no step is to be read (triggers).
    pub steps: Option<BTreeMap<String, VisibleStep>>,
    /// Element variables, outermost first.
    pub items: Vec<(String, Type)>,
    /// What `event` means, and of which type it is.
    pub event: Root,
    pub event_value: Value,
    /// Inside a `catch`.
    pub error: bool,
    /// Whether `instance` and `config` can be read.
    pub instance: bool,
    /// Whether `now()` can be asked.
    pub now: bool,
    /// The names of `config` that were read.
    pub config: BTreeSet<String>,
    /// What is secret of results and items beyond what their types say.
    pub secrets: secrets::SecrecyScope,
}

/// A value at the root of an expression.
#[derive(Debug, Clone)]
pub enum Root {
    /// It cannot be read here.
    Missing,
    /// Its type had an error, which is reported; reading it says nothing more.
    Broken,
    Known(Type),
}

impl Root {
    /// Of a type that may be broken.
    pub fn of(ty: Option<Type>) -> Self {
        ty.map_or(Self::Broken, Self::Known)
    }

    fn is_there(&self) -> bool {
        !matches!(self, Self::Missing)
    }
}

/// A step as its readers see it.
#[derive(Debug, Clone)]
pub struct VisibleStep {
    /// Where it stands: its id, or the key of its verb.
    pub place: Span,
    pub result: StepResult,
    pub standing: Standing,
}

#[derive(Debug, Clone)]
pub enum StepResult {
    Type(Type),
    /// None; why, as in "a `sleep` has no result".
    None(String),
    /// It had an error, which is reported; reading it says nothing more.
    Broken,
}

/// Whether a step's result is there for a reader.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    Certain,
    /// It may not have run; why.
    Maybe(String),
    Later,
    /// The reader stands in the step itself, or in its `when`.
    Itself,
    /// In another branch of the step of this id, which never or not surely ran before.
    OtherBranch(String),
    /// In the body of the `each` of this id.
    InEach(String),
    /// The reader handles its failure.
    Failed,
}

impl Scope {
    /// Of a workflow's steps.
    pub fn steps(input: Option<Type>) -> Self {
        Self {
            input: Root::of(input),
            steps: Some(BTreeMap::new()),
            instance: true,
            ..Self::nothing()
        }
    }

    /// Of a trigger's `with`.
    pub fn trigger_with(event: Option<Type>) -> Self {
        Self {
            event: Root::of(event),
            event_value: Value::TriggerEvent,
            now: false,
            ..Self::nothing()
        }
    }

    /// Of a trigger's `when` and `key`.
    pub fn trigger(input: Option<Type>) -> Self {
        Self { input: Root::of(input), now: false, ..Self::nothing() }
    }

    /// Nothing at all: of literals.
    pub fn nothing() -> Self {
        Self {
            input: Root::Missing,
            steps: None,
            items: Vec::new(),
            event: Root::Missing,
            event_value: Value::Event,
            error: false,
            instance: false,
            now: true,
            config: BTreeSet::new(),
            secrets: secrets::SecrecyScope::default(),
        }
    }

    /// The innermost item of this name.
    pub fn item(&self, name: &str) -> Option<&Type> {
        self.items.iter().rev().find(|(item, _)| item == name).map(|(_, ty)| ty)
    }

    pub fn standing(&self, id: &str) -> Option<&Standing> {
        self.steps.as_ref()?.get(id).map(|known| &known.standing)
    }

    pub fn set_standing(&mut self, id: &str, standing: Standing) {
        if let Some(known) = self.steps.as_mut().and_then(|steps| steps.get_mut(id)) {
            known.standing = standing;
        }
    }

    /// The names that an expression can begin with here.
    pub fn names(&self) -> Vec<&str> {
        let there = |name: &&str| match *name {
            "input" => self.input.is_there(),
            "steps" => self.steps.is_some(),
            "event" => self.event.is_there(),
            "error" => self.error,
            _ => self.instance,
        };
        let mut names: Vec<&str> = ROOTS.into_iter().filter(there).collect();
        names.extend(self.items.iter().map(|(name, _)| name.as_str()));
        names
    }
}
