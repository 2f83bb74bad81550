//! Who speaks to the server, and what they may do. As long as it answers on the loopback interface
//! only, it asks nobody: whoever is on this machine may do everything, and no credential is read.

use serde::Serialize;

/// What somebody must be allowed to do for a route or a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Role {
    /// Anybody may ask.
    #[serde(skip)]
    Anybody,
    Start,
    Read,
    Complete,
    Operate,
    Admin,
}

/// As clients are told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Identity {
    /// `""`: nobody in particular.
    pub(crate) client_id: String,
    /// Whether somebody has proved to be this client.
    pub(crate) authenticated: bool,
    pub(crate) roles: &'static [Role],
}

impl Identity {
    /// Whoever is on this machine.
    pub(crate) fn local() -> Self {
        const ALL: &[Role] = &[Role::Start, Role::Read, Role::Complete, Role::Operate, Role::Admin];
        Self { client_id: String::new(), authenticated: false, roles: ALL }
    }
}
