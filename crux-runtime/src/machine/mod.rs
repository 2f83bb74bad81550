//! The library of generated code: how events change an instance's state, and which effects follow.
//!
//! Everything in here is pure. No clock, no randomness, no file, no socket, no task: time is the
//! event's, ids and jitter are hashes, maps are ordered; the same journal gives the same state
//! forever. A rejected event leaves state and effects unchanged.
//!
//! Where to start reading: [`Machine`] is what the compiler generates for a workflow, [`Run`] the
//! life around it, [`Instance`] what the engine sees. The parts of generated states are [`TaskStep`],
//! [`Composite`], [`Branch`], [`Each`], [`Repeat`], [`Wait`] and [`Sleep`]; [`Flow`] and [`Then`]
//! connect them.

mod composite;
mod definition;
mod drain;
mod each;
mod effect;
mod event;
pub mod expr;
mod failure;
mod flow;
mod fx;
mod handler;
mod instance;
pub mod json;
mod kept;
mod parallel;
mod part;
mod path;
mod repeat;
mod rules;
mod run;
mod task;
mod task_step;
mod time;
mod undo;
mod value;
mod wait;

pub use crux_macros::{Enum, Join, Part, Record, Serde};
pub use serde_json::value::RawValue;

pub use composite::{Composite, Inside};
pub use definition::{
    Arrived, Caught, Contract, Definition, EffectKind, EventType, Hooks, Kind, Node, OnExhausted,
    Policy, Refusal, Runs, Task, Trigger, TriggerSource,
};
pub use each::{Each, MAX_ELEMENTS};
pub use effect::{Effect, Effects, Ended, Hook, Note, Waiting};
pub use event::{Cause, Event, Outcome, Started, StepEvent, StepHappened, Timer};
pub use failure::Failure;
pub use flow::{Applied, Flow, Refused, RejectReason, Then, With};
pub use fx::{Env, Fx};
pub use handler::Handler;
pub use instance::{Instance, Phase};
pub use parallel::{Branch, Join, advanced, joined};
pub use part::{Never, Open, Part, never, never_stays, never_stays_with};
pub use path::{Indices, MAX_LOOPS, Path};
pub use repeat::{Repeat, Rounds};
pub use rules::{Pattern, Ruled, Rules};
pub use run::{Machine, Run};
pub use task::{Attempt, AttemptFailed, FREE_RESENDS, TaskState};
pub use task_step::{Raised, StepType, TaskStep};
pub use time::{Time, days, hours, minutes};
pub use undo::{NoUndo, Undo};
pub use value::{
    AsValueRef, Duration, Field, IndexMap, Json, NotADuration, Parts, Record, Timestamp, TypeError,
    Value, ValueRef, deserialize, fields, word,
};
pub use wait::{Sleep, Wait};

/// A 64-bit FNV-1a hash with a final mix: for jitter, never for identity.
pub(crate) fn hash(parts: &[&[u8]]) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for byte in parts.iter().flat_map(|part| part.iter()) {
        hash = (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
    }
    hash = (hash ^ (hash >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    hash ^ (hash >> 33)
}
