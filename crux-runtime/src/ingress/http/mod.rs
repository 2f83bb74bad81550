//! REST: a file per family of handlers, and `body` for what requests carry. Handlers parse, call
//! the service and render; which path each serves is in `routes`.

mod body;
pub(super) mod commands;
pub(super) mod events;
pub(super) mod health;
pub(super) mod history;
pub(super) mod instances;
pub(super) mod monitoring;
pub(super) mod steps;
pub(super) mod triggers;
