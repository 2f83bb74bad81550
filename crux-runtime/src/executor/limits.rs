//! How many attempts of a step type may run and queue. The configuration fills [`Options`]; the
//! executor checks them against the step structs that it has.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::executor::step::AnyStep;
use crate::units::DurationSetting;

/// Bounds of one step type.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Limits {
    /// ThreadPool that stay when there is nothing to do. Only for blocking step structs: the others
    /// have no separate threads.
    pub minimum: usize,
    /// Attempts that run concurrently.
    pub maximum: usize,
    /// Attempts that wait in the queue; beyond it tasks are returned to the engine.
    pub max_queued: usize,
}

/// Limits of single step types; values that are not set are those of all others.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Share {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub minimum: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub maximum: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_queued: Option<usize>,
}

/// Limits of all step types, as `workers` in the configuration says them.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Options {
    /// Of each step struct that does not block.
    pub tasks: Share,
    /// Of each step struct that blocks its thread.
    pub threads: Share,
    /// By step type, instead of the two above.
    pub steps: BTreeMap<String, Share>,
    /// How long a worker may send no heartbeat, if a step has no `heartbeat` timeout.
    pub heartbeat_timeout: DurationSetting,
}

impl Default for Options {
    fn default() -> Self {
        let heartbeat_timeout = DurationSetting(std::time::Duration::from_secs(30));
        Self {
            tasks: Share::default(),
            threads: Share::default(),
            steps: BTreeMap::new(),
            heartbeat_timeout,
        }
    }
}

const TASKS: Limits = Limits { minimum: 0, maximum: 1024, max_queued: 8192 };
const THREADS: Limits = Limits { minimum: 0, maximum: 32, max_queued: 8192 };

impl Share {
    fn or(self, others: Limits) -> Limits {
        Limits {
            minimum: self.minimum.unwrap_or(others.minimum),
            maximum: self.maximum.unwrap_or(others.maximum),
            max_queued: self.max_queued.unwrap_or(others.max_queued),
        }
    }
}

impl Options {
    pub(super) fn limits_of(&self, step: &dyn AnyStep) -> Limits {
        let others =
            if step.is_blocking() { self.threads.or(THREADS) } else { self.tasks.or(TASKS) };
        self.steps.get(step.step_type()).copied().unwrap_or_default().or(others)
    }

    /// The setting to blame for the limits of a step struct.
    pub(super) fn place_of(&self, step: &dyn AnyStep) -> String {
        match step.step_type() {
            step_type if self.steps.contains_key(step_type) => format!("workers.steps.{step_type}"),
            _ if step.is_blocking() => "workers.threads".to_owned(),
            _ => "workers.tasks".to_owned(),
        }
    }
}
