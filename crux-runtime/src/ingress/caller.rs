//! Who asks. The authenticator makes one [`Caller`] for each request, connection or message, and
//! the transport hands it to the service with everything that is asked. Nothing behind the
//! authenticator reads a credential.

use std::borrow::Cow;
use std::net::IpAddr;
use std::sync::{Arc, LazyLock};

use serde::Serialize;
use tokio::time::Instant;

use super::operations::{Operation, OperationRow};
pub(crate) use crate::config::Role;
use crate::config::{KeyHash, Scope};
use crate::engine::api::StepRef;
use crate::id::{InstanceId, StepId};

/// A set of roles.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct RoleSet(u8);

impl RoleSet {
    pub(crate) const ALL: RoleSet = RoleSet::of(&Role::ALL);

    pub(crate) const fn of(roles: &[Role]) -> Self {
        let mut bits = 0;
        let mut rest = roles;
        while let [role, others @ ..] = rest {
            bits |= 1 << *role as u8;
            rest = others;
        }
        Self(bits)
    }

    pub(crate) fn has(self, role: Role) -> bool {
        self.0 & (1 << role as u8) != 0
    }

    pub(crate) fn iter(self) -> impl Iterator<Item = Role> {
        Role::ALL.into_iter().filter(move |role| self.has(*role))
    }
}

/// How a caller has proved who it is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Standing {
    /// It has not, and the server asks for it.
    #[default]
    Anonymous,
    /// The server does not ask: it has no `auth`, or a broker has let the sender in.
    Trusted,
    /// By a credential.
    Authenticated,
}

/// What a caller may do about one instance, whatever its roles.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Grant {
    #[default]
    Nothing,
    /// Follow every instance whose id it knows.
    FollowAny,
    Follow(InstanceId),
    /// Report about that attempt.
    Report {
        instance: InstanceId,
        step: StepId,
        attempt: u32,
    },
}

impl Grant {
    fn permits(self, operation: Operation) -> bool {
        match self {
            Self::Nothing => false,
            Self::FollowAny | Self::Follow(_) => {
                matches!(operation, Operation::Follow | Operation::Unfollow)
            }
            Self::Report { .. } => matches!(
                operation,
                Operation::CompleteStep | Operation::StepStarted | Operation::StepHeartbeat
            ),
        }
    }

    fn is_about(self, instance: InstanceId) -> bool {
        match self {
            Self::Nothing => false,
            Self::FollowAny => true,
            Self::Follow(its) | Self::Report { instance: its, .. } => its == instance,
        }
    }
}

/// A client and what it may do.
#[derive(Debug, Clone, Default)]
pub(crate) struct Permissions {
    /// Becomes the owner of what it starts. `""` unless it is authenticated.
    pub(crate) client_id: Cow<'static, str>,
    pub(crate) standing: Standing,
    pub(crate) roles: RoleSet,
    pub(crate) scope: Scope,
    /// What it may do without a role.
    pub(crate) grant: Grant,
    /// The SHA-256 of the key that it has shown, if it was one.
    pub(crate) key: Option<KeyHash>,
    /// From then on it has proved nothing; `None`: never.
    pub(crate) expires_at: Option<Instant>,
}

/// May do everything, and what it starts has no owner.
static TRUSTED: LazyLock<Arc<Permissions>> = LazyLock::new(|| {
    Arc::new(Permissions {
        standing: Standing::Trusted,
        roles: RoleSet::ALL,
        ..Permissions::default()
    })
});

impl Permissions {
    /// Whether both may do the same.
    pub(crate) fn may_do_as(&self, other: &Self) -> bool {
        self.roles == other.roles && self.scope == other.scope && self.grant == other.grant
    }

    pub(crate) fn trusted() -> Arc<Self> {
        TRUSTED.clone()
    }
}

/// The client of one request, connection or message.
#[derive(Debug, Clone)]
pub(crate) struct Caller {
    permissions: Arc<Permissions>,
    /// Names the request in the answer and in the log.
    pub(crate) correlation_id: String,
    /// W3C trace context of the request; `""` without one.
    pub(crate) traceparent: String,
    /// Where it comes from, as far as that is known; behind a proxy, in front of it.
    pub(crate) address: Option<IpAddr>,
}

/// The instances that a caller may see in a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Visible<'a> {
    All,
    OwnedBy(&'a str),
    None,
}

impl Caller {
    pub(crate) fn new(
        permissions: Arc<Permissions>,
        correlation_id: String,
        traceparent: String,
    ) -> Self {
        Self { permissions, correlation_id, traceparent, address: None }
    }

    /// A client that need not prove anything.
    pub(crate) fn trusted(correlation_id: String, traceparent: String) -> Self {
        Self::new(Permissions::trusted(), correlation_id, traceparent)
    }

    pub(crate) fn at(self, address: Option<IpAddr>) -> Self {
        Self { address, ..self }
    }

    /// For one request of a connection, which has its own trace.
    pub(crate) fn traced(&self, traceparent: String) -> Self {
        Self { traceparent, ..self.clone() }
    }

    pub(crate) fn client_id(&self) -> &str {
        &self.permissions.client_id
    }

    pub(crate) fn roles(&self) -> RoleSet {
        self.permissions.roles
    }

    pub(crate) fn standing(&self) -> Standing {
        self.permissions.standing
    }

    /// Whether a connection of it is of any use without a credential that is still to come.
    pub(crate) fn has_to_authenticate(&self) -> bool {
        self.standing() == Standing::Anonymous && self.permissions.grant == Grant::Nothing
    }

    /// When a connection that it has opened ends.
    pub(crate) fn expires_at(&self) -> Option<Instant> {
        self.permissions.expires_at
    }

    pub(crate) fn permissions(&self) -> &Permissions {
        &self.permissions
    }

    /// The same connection, once its client has sent another credential.
    pub(crate) fn turned_into(&self, permissions: Arc<Permissions>) -> Self {
        Self { permissions, ..self.clone() }
    }

    /// Whether its roles permit the operation at all.
    pub(crate) fn may(&self, row: &OperationRow) -> bool {
        self.has_role(row) || self.permissions.grant.permits(row.operation)
    }

    fn has_role(&self, row: &OperationRow) -> bool {
        row.role.is_none_or(|role| self.permissions.roles.has(role))
    }

    /// Whether it may report about the step, and which attempt that is.
    pub(crate) fn reports(
        &self,
        instance: InstanceId,
        step: &StepRef,
        attempt: Option<u32>,
    ) -> Option<Option<u32>> {
        let Grant::Report { instance: its, step: own, attempt: granted } = self.permissions.grant
        else {
            return Some(attempt);
        };
        let step = match step {
            StepRef::Id(id) => *id,
            StepRef::Path(path) => instance.step(path),
        };
        let is_it = its == instance && own == step && attempt.is_none_or(|said| said == granted);
        is_it.then_some(Some(granted))
    }

    /// Whether it may ask for the operation of every instance there is, so that none has to be
    /// looked at.
    pub(crate) fn sees_all(&self, row: &OperationRow) -> bool {
        self.has_role(row)
            && self.visible(row) == Visible::All
            && self.permissions.scope.workflows.is_none()
    }

    /// Whether an instance exists as far as the caller and the operation are concerned.
    pub(crate) fn sees(
        &self,
        row: &OperationRow,
        instance: InstanceId,
        owner: &str,
        workflow: &str,
    ) -> bool {
        let grant = self.permissions.grant;
        if grant.permits(row.operation) && grant.is_about(instance) {
            return true;
        }
        if !self.has_role(row) {
            return false;
        }
        let is_visible = match self.visible(row) {
            Visible::All => true,
            Visible::OwnedBy(client_id) => client_id == owner,
            Visible::None => false,
        };
        is_visible && self.has_workflow(workflow)
    }

    /// Whose instances the operation may be about, before the scope.
    pub(crate) fn visible(&self, row: &OperationRow) -> Visible<'_> {
        let roles = self.permissions.roles;
        // Who reports results of steps does so for instances of others: tasks are sent to it.
        let is_report = row.role == Some(Role::Complete) && roles.has(Role::Complete);
        if is_report || roles.has(Role::Operate) || roles.has(Role::Admin) {
            return Visible::All;
        }
        match self.client_id() {
            // Without an id nothing is one's own.
            "" => Visible::None,
            client_id => Visible::OwnedBy(client_id),
        }
    }

    /// Whether the scope has the workflow.
    pub(crate) fn has_workflow(&self, workflow: &str) -> bool {
        let workflows = self.permissions.scope.workflows.as_ref();
        workflows.is_none_or(|workflows| workflows.contains(workflow))
    }

    /// The only workflow of the scope, if there is only one.
    pub(crate) fn only_workflow(&self) -> Option<&str> {
        let workflows = self.permissions.scope.workflows.as_ref()?;
        workflows.first().filter(|_| workflows.len() == 1).map(String::as_str)
    }

    /// Whether the scope has the event. Events start workflows: a client that is narrowed to some
    /// sends only those that are named.
    pub(crate) fn has_event(&self, event: &str) -> bool {
        match &self.permissions.scope.events {
            Some(events) => events.contains(event),
            None => self.permissions.scope.workflows.is_none(),
        }
    }

    /// The step types of the scope; `None`: all.
    pub(crate) fn step_types(&self) -> Option<impl Iterator<Item = &str> + Clone> {
        Some(self.permissions.scope.step_types.as_ref()?.iter().map(String::as_str))
    }

    /// What a client may know about itself.
    pub(crate) fn identity(&self) -> Identity {
        Identity {
            client_id: self.permissions.client_id.clone(),
            authenticated: self.standing() == Standing::Authenticated,
            roles: self.roles().iter().collect(),
        }
    }
}

/// See [`Caller::identity`].
#[derive(Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Identity {
    client_id: Cow<'static, str>,
    authenticated: bool,
    roles: Vec<Role>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ingress::operations::{OPERATIONS, Operation};

    #[test]
    fn a_set_has_the_roles_that_it_is_made_of() {
        let set = RoleSet::of(&[Role::Read, Role::Admin]);
        assert_eq!(set.iter().collect::<Vec<_>>(), [Role::Read, Role::Admin]);
        assert_eq!(RoleSet::ALL.iter().collect::<Vec<_>>(), Role::ALL);
        assert_eq!(RoleSet::of(&[]).iter().next(), None);
    }

    fn instance(at: i64) -> InstanceId {
        InstanceId::new(crate::machine::Time(at), [0; 10], None)
    }

    #[test]
    fn a_grant_is_good_for_its_instance_and_its_operations_only() {
        let of = |grant| {
            let permissions = Permissions { grant, ..Permissions::default() };
            Caller::new(Arc::new(permissions), String::new(), String::new())
        };
        let step = instance(1).step("pay");
        let report = Grant::Report { instance: instance(1), step, attempt: 2 };
        for row in &OPERATIONS {
            let operation = row.operation;
            let is_follow = matches!(operation, Operation::Follow | Operation::Unfollow);
            // A stream gets tasks of all instances.
            let is_report = row.role == Some(Role::Complete) && operation != Operation::Work;
            for (grant, is_good, is_any) in [
                (Grant::Follow(instance(1)), is_follow, false),
                (Grant::FollowAny, is_follow, true),
                (report, is_report, false),
                (Grant::Nothing, false, false),
            ] {
                let caller = of(grant);
                assert_eq!(
                    caller.may(row),
                    is_good || row.role.is_none(),
                    "{grant:?} {operation:?}"
                );
                if row.role.is_some() {
                    assert_eq!(caller.sees(row, instance(1), "", "order"), is_good);
                    assert_eq!(caller.sees(row, instance(2), "", "order"), is_good && is_any);
                    assert!(!caller.sees_all(row));
                }
            }
        }
        let by_path = StepRef::Path("pay".to_owned());
        let caller = of(report);
        assert_eq!(caller.reports(instance(1), &StepRef::Id(step), None), Some(Some(2)));
        assert_eq!(caller.reports(instance(1), &by_path, Some(2)), Some(Some(2)));
        assert_eq!(caller.reports(instance(1), &by_path, Some(1)), None);
        assert_eq!(caller.reports(instance(2), &by_path, None), None);
        assert_eq!(caller.reports(instance(1), &StepRef::Path("ship".to_owned()), None), None);
        assert_eq!(of(Grant::Nothing).reports(instance(1), &by_path, None), Some(None));
    }

    fn caller(client_id: &'static str, roles: &[Role]) -> Caller {
        let permissions = Permissions {
            client_id: client_id.into(),
            roles: RoleSet::of(roles),
            ..Permissions::default()
        };
        Caller::new(Arc::new(permissions), String::new(), String::new())
    }

    #[test]
    fn who_neither_operates_nor_administers_sees_its_own_and_one_without_an_id_nothing() {
        let status = Operation::Status.row().unwrap();
        let sees = |caller: &Caller, owner| caller.sees(status, instance(1), owner, "order");
        let trusted = Caller::trusted(String::new(), String::new());
        assert!(sees(&trusted, "") && sees(&trusted, "ann"));
        let ann = caller("ann", &[Role::Start, Role::Read, Role::Complete]);
        assert!(sees(&ann, "ann") && !sees(&ann, "") && !sees(&ann, "bob"));
        let nameless = caller("", &[Role::Read]);
        assert!(!sees(&nameless, "") && !sees(&nameless, "ann"));
        for role in [Role::Operate, Role::Admin] {
            assert!(sees(&caller("carl", &[Role::Read, role]), "ann"), "{role:?}");
        }
    }

    #[test]
    fn reports_are_about_instances_of_others_and_nothing_else_is() {
        let service = caller("image", &[Role::Complete, Role::Read]);
        for row in &OPERATIONS {
            let sees = service.sees(row, instance(1), "ann", "order");
            let is_report = row.role == Some(Role::Complete);
            assert_eq!(sees, is_report, "{:?}", row.operation);
        }
    }

    #[test]
    fn a_scope_of_workflows_narrows_events_too() {
        let mut permissions = Permissions::default();
        let mut has = |workflows: &[&str], events: Option<&[&str]>| {
            let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
            permissions.scope.workflows = (!workflows.is_empty()).then(|| names(workflows));
            permissions.scope.events = events.map(names);
            let caller = Caller::new(Arc::new(permissions.clone()), String::new(), String::new());
            (caller.has_workflow("order"), caller.has_event("paid"))
        };
        assert_eq!(has(&[], None), (true, true));
        assert_eq!(has(&["order"], None), (true, false));
        assert_eq!(has(&["refund"], Some(&["paid"])), (false, true));
        assert_eq!(has(&[], Some(&["sent"])), (true, false));
    }
}
