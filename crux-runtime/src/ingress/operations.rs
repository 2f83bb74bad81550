//! Every operation that a client may ask for, in one table: the role that it needs, and how each
//! transport names it. REST's routes and the gateway's requests are built from it.

use std::collections::BTreeSet;

use super::caller::Role;

/// What the routes of gRPC begin with.
pub(crate) const GRPC_SERVICE: &str = "/crux.v1.Crux/";

/// One thing that a client may ask for. In the order of [`OPERATIONS`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Operation {
    Start,
    Restart,
    SendEvents,
    CompleteStep,
    StepStarted,
    StepHeartbeat,
    Work,
    Status,
    List,
    History,
    Follow,
    Unfollow,
    Cancel,
    Retry,
    Undo,
    Fail,
    Pause,
    Resume,
    Workers,
    Metrics,
    Health,
    HealthDetail,
    Live,
    Ready,
    Connect,
    Identify,
}

/// A row of [`OPERATIONS`].
#[derive(Debug)]
pub(crate) struct OperationRow {
    pub(crate) operation: Operation,
    /// `None`: every client may ask for it.
    pub(crate) role: Option<Role>,
    /// Method and path. A start's paths are those of the pipelines' triggers.
    pub(crate) http: Option<(&'static str, &'static str)>,
    /// `type` of the gateway's request.
    pub(crate) websocket: Option<&'static str>,
    /// Method of `crux.v1.Crux`; one method may do several operations.
    pub(crate) grpc: Option<&'static str>,
}

const fn row(
    operation: Operation,
    role: Option<Role>,
    http: Option<(&'static str, &'static str)>,
    websocket: Option<&'static str>,
    grpc: Option<&'static str>,
) -> OperationRow {
    OperationRow { operation, role, http, websocket, grpc }
}

/// See the module's text.
#[rustfmt::skip]
pub(crate) static OPERATIONS: [OperationRow; 26] = {
    use Operation as O;
    const START: Option<Role> = Some(Role::Start);
    const READ: Option<Role> = Some(Role::Read);
    const COMPLETE: Option<Role> = Some(Role::Complete);
    const OPERATE: Option<Role> = Some(Role::Operate);
    const ADMIN: Option<Role> = Some(Role::Admin);
    [
        row(O::Start, START, None, Some("start"), Some("Start")),
        row(O::Restart, OPERATE, Some(("POST", "/api/v1/workflow/{id}/restart")), None, Some("Command")),
        row(O::SendEvents, START, Some(("POST", "/api/v1/events")), Some("event"), Some("SendEvents")),
        row(O::CompleteStep, COMPLETE, Some(("POST", "/api/v1/workflow/step-completed")), Some("complete_step"), Some("CompleteStep")),
        row(O::StepStarted, COMPLETE, Some(("POST", "/api/v1/workflow/step-started")), None, Some("StepStarted")),
        row(O::StepHeartbeat, COMPLETE, Some(("POST", "/api/v1/workflow/step-heartbeat")), None, Some("Heartbeat")),
        row(O::Work, COMPLETE, None, None, Some("Work")),
        row(O::Status, READ, Some(("GET", "/api/v1/workflow/status")), None, Some("GetStatus")),
        row(O::List, READ, Some(("GET", "/api/v1/workflow/list")), None, Some("List")),
        row(O::History, READ, Some(("GET", "/api/v1/workflow/{id}/history")), None, None),
        row(O::Follow, READ, Some(("GET", "/api/v1/workflow/{id}/events")), Some("subscribe"), Some("Watch")),
        row(O::Unfollow, READ, None, Some("unsubscribe"), None),
        row(O::Cancel, OPERATE, Some(("POST", "/api/v1/workflow/{id}/cancel")), None, Some("Command")),
        row(O::Retry, OPERATE, Some(("POST", "/api/v1/workflow/{id}/retry")), None, Some("Command")),
        row(O::Undo, OPERATE, Some(("POST", "/api/v1/workflow/{id}/undo")), None, Some("Command")),
        row(O::Fail, OPERATE, Some(("POST", "/api/v1/workflow/{id}/fail")), None, Some("Command")),
        row(O::Pause, OPERATE, Some(("POST", "/api/v1/workflow/{id}/pause")), None, Some("Command")),
        row(O::Resume, OPERATE, Some(("POST", "/api/v1/workflow/{id}/resume")), None, Some("Command")),
        row(O::Workers, ADMIN, Some(("GET", "/api/v1/workers")), None, None),
        row(O::Metrics, ADMIN, Some(("GET", "/metrics")), None, None),
        row(O::Health, None, Some(("GET", "/health")), None, None),
        // What `/health` says beside its one word.
        row(O::HealthDetail, ADMIN, None, None, None),
        row(O::Live, None, Some(("GET", "/health/live")), None, None),
        row(O::Ready, None, Some(("GET", "/health/ready")), None, None),
        // Opens a socket. What it then follows and asks for is checked one by one.
        row(O::Connect, None, Some(("GET", "/ws")), None, None),
        row(O::Identify, None, None, Some("auth"), None),
    ]
};

impl Operation {
    pub(crate) fn row(self) -> Option<&'static OperationRow> {
        OPERATIONS.get(self as usize)
    }

    /// The operation of a route, whose path is a trigger's if it is in no row; `None`: it does not
    /// take that method, or the request's body has to say which operation it is.
    pub(crate) fn of_route(method: &str, path: &str) -> Option<Self> {
        if let Some(name) = path.strip_prefix(GRPC_SERVICE) {
            let mut rows = OPERATIONS.iter().filter(|row| row.grpc == Some(name));
            let first = rows.next()?;
            return rows.next().is_none().then_some(first.operation);
        }
        // Health and reflection of gRPC, which need no role.
        if path.starts_with("/grpc.") {
            return None;
        }
        let mut rows = OPERATIONS.iter().filter_map(|row| Some((row.operation, row.http?)));
        match rows.find(|(_, (_, route))| *route == path) {
            Some((operation, (takes, _))) => (takes == method).then_some(operation),
            None => (method == "POST").then_some(Self::Start),
        }
    }

    /// The operation that the gateway's `type` asks for.
    pub(crate) fn of_websocket(word: &str) -> Option<Self> {
        OPERATIONS.iter().find(|row| row.websocket == Some(word)).map(|row| row.operation)
    }

    /// The methods of `crux.v1.Crux`, each once.
    pub(crate) fn grpc_methods() -> BTreeSet<&'static str> {
        OPERATIONS.iter().filter_map(|row| row.grpc).collect()
    }

    /// The gateway's words.
    pub(crate) fn websocket_words() -> impl Iterator<Item = &'static str> + Clone {
        OPERATIONS.iter().filter_map(|row| row.websocket)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DOCS: &str = include_str!("../../../docs/api.md");

    #[test]
    fn every_operation_stands_where_it_is_looked_for() {
        for (n, row) in OPERATIONS.iter().enumerate() {
            assert_eq!(row.operation as usize, n, "{:?}", row.operation);
        }
    }

    #[test]
    fn a_route_is_its_operation_and_that_of_a_trigger_a_start() {
        for row in &OPERATIONS {
            let Some((method, path)) = row.http else { continue };
            assert_eq!(Operation::of_route(method, path), Some(row.operation), "{path}");
            let other = if method == "GET" { "POST" } else { "GET" };
            assert_eq!(Operation::of_route(other, path), None, "{other} {path}");
        }
        let trigger = "/api/v1/workflow/order";
        assert_eq!(Operation::of_route("POST", trigger), Some(Operation::Start));
        assert_eq!(Operation::of_route("GET", trigger), None);
        let grpc = |name| Operation::of_route("POST", name);
        assert_eq!(grpc("/crux.v1.Crux/Watch"), Some(Operation::Follow));
        assert_eq!(grpc("/crux.v1.Crux/Command"), None);
        assert_eq!(grpc("/crux.v1.Crux/Other"), None);
        assert_eq!(grpc("/grpc.health.v1.Health/Check"), None);
    }

    #[test]
    fn every_route_and_every_request_is_documented() {
        for (method, path) in OPERATIONS.iter().filter_map(|row| row.http) {
            let written = format!("\n{method} {path}\n");
            assert!(DOCS.contains(&written), "docs/api.md does not list `{method} {path}`");
        }
        for word in Operation::websocket_words() {
            let written = format!("`{{\"type\": \"{word}\"");
            assert!(DOCS.contains(&written), "docs/api.md does not explain `{word}`");
        }
    }

    /// Of the interface as clients see it.
    #[test]
    fn every_method_of_grpc_does_an_operation_of_the_table() {
        let proto = include_str!("../../proto/crux/v1/crux.proto");
        let methods = proto.lines().filter_map(|line| line.trim().strip_prefix("rpc "));
        let methods: BTreeSet<&str> = methods.filter_map(|rest| rest.split('(').next()).collect();
        assert_eq!(methods, Operation::grpc_methods());
    }

    #[test]
    fn changes_are_posted_and_only_health_and_sockets_need_no_role() {
        for row in &OPERATIONS {
            let Some((method, path)) = row.http else { continue };
            let changes = matches!(row.role, Some(Role::Start | Role::Complete | Role::Operate));
            assert_eq!(changes, method == "POST", "{method} {path}");
            let is_open = path.starts_with("/health") || path == "/ws";
            assert_eq!(row.role.is_none(), is_open, "{method} {path}");
        }
    }
}
