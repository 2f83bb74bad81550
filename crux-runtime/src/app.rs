//! The interface between generated code and the runtime: everything that one folder of pipelines
//! compiles to, with its step structs.

use std::sync::Arc;

use crate::executor::step::AnyStep;
use crate::machine::{
    Contract, Definition, Effects, EventType, Instance, Machine, Run, Started, Time,
};

/// A compiled folder of pipelines; made by the generated `pipelines::app`.
pub struct App {
    /// By name, the current version of each first.
    pub workflows: &'static [Workflow],
    /// By name.
    pub contracts: &'static [&'static Contract],
    /// By name.
    pub events: &'static [EventType],
    /// Every routing key that is published or consumed, and what for.
    pub routes: &'static [Route],
    /// One per class step type.
    pub steps: Vec<Arc<dyn AnyStep>>,
    pub package: Package,
}

/// The package that the pipelines belong to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Package {
    pub name: &'static str,
    pub version: &'static str,
}

/// The [`Package`] in which this is written.
#[macro_export]
macro_rules! this_package {
    () => {
        $crate::app::Package {
            name: ::core::env!("CARGO_PKG_NAME"),
            version: ::core::env!("CARGO_PKG_VERSION"),
        }
    };
}

/// One version of one workflow.
#[derive(Debug, Clone, Copy)]
pub struct Workflow {
    pub definition: &'static Definition,
    /// Makes an instance by its first event: the id as text, the event, its time. The error: the
    /// input is not of the workflow's type, with the path of the field.
    pub start: fn(&str, &Started, Time, &mut Effects) -> Result<Box<dyn Instance>, String>,
}

impl Workflow {
    /// Of the generated machine `M`.
    pub const fn of<M: Machine>() -> Self {
        Self {
            definition: M::DEFINITION,
            start: |id, started, now, out| Ok(Box::new(Run::<M>::start(id, started, now, out)?)),
        }
    }
}

#[derive(Debug, Clone, Copy)]
pub struct Route {
    pub key: &'static str,
    /// `task of image_processing`, `hook of order`, `emitted by refund`.
    pub meaning: &'static str,
    /// Whether messages go out under it: hooks and emitted events.
    pub is_published: bool,
}

impl App {
    /// The version that starts new instances.
    pub fn current(&self, workflow: &str) -> Option<&'static Workflow> {
        self.workflows.iter().find(|candidate| {
            candidate.definition.workflow == workflow && !candidate.definition.retired
        })
    }

    /// The version that runs an instance with that definition hash.
    pub fn by_hash(&self, hash: &str) -> Option<&'static Workflow> {
        self.workflows.iter().find(|candidate| candidate.definition.hash == hash)
    }

    pub fn contract(&self, step_type: &str) -> Option<&'static Contract> {
        self.contracts.iter().find(|contract| contract.step_type == step_type).copied()
    }

    pub fn event(&self, name: &str) -> Option<&'static EventType> {
        self.events.iter().find(|event| event.name == name)
    }
}
