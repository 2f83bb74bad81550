//! Who asks. A transport makes one [`Caller`] for each request, connection or message, and hands it
//! to the service with everything that is asked. As long as the server answers on the loopback
//! interface only, there is one kind of caller, which may do everything; no credential is read.

use std::borrow::Cow;

use serde::Serialize;

/// What a client is allowed to do. Each operation needs at most one role: see
/// [`super::operations::OPERATIONS`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Role {
    Start,
    Read,
    Complete,
    Operate,
    Admin,
}

impl Role {
    pub(crate) const ALL: [Role; 5] =
        [Role::Start, Role::Read, Role::Complete, Role::Operate, Role::Admin];

    pub(crate) fn word(self) -> &'static str {
        match self {
            Role::Start => "start",
            Role::Read => "read",
            Role::Complete => "complete",
            Role::Operate => "operate",
            Role::Admin => "admin",
        }
    }
}

/// A set of roles.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
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

/// Whose instances a caller's roles apply to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scope {
    /// Everybody's.
    Unlimited,
    /// The caller's own: those that it started.
    #[cfg_attr(not(test), expect(dead_code, reason = "the local caller's scope is unlimited"))]
    Own,
}

/// The client of one request, connection or message.
#[derive(Debug, Clone)]
pub(crate) struct Caller {
    /// Becomes the owner of what it starts. `""` without authentication.
    pub(crate) client_id: Cow<'static, str>,
    pub(crate) is_authenticated: bool,
    pub(crate) roles: RoleSet,
    pub(crate) scope: Scope,
    /// Names the request in the answer and in the log.
    pub(crate) correlation_id: String,
    /// W3C trace context of the request; `""` without one.
    pub(crate) traceparent: String,
}

impl Caller {
    /// A client on this machine. It may do everything, and what it starts has no owner.
    pub(crate) fn local(correlation_id: String, traceparent: String) -> Self {
        Self {
            client_id: Cow::Borrowed(""),
            is_authenticated: false,
            roles: RoleSet::ALL,
            scope: Scope::Unlimited,
            correlation_id,
            traceparent,
        }
    }

    /// Whether instances of this owner exist as far as the caller is concerned.
    pub(crate) fn may_see(&self, owner: &str) -> bool {
        match self.scope {
            Scope::Unlimited => true,
            // Without an id nothing is one's own.
            Scope::Own => !self.client_id.is_empty() && self.client_id == owner,
        }
    }

    /// What a client may know about itself.
    pub(crate) fn identity(&self) -> Identity {
        Identity {
            client_id: self.client_id.clone(),
            authenticated: self.is_authenticated,
            roles: self.roles.iter().collect(),
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

    #[test]
    fn a_set_has_the_roles_that_it_is_made_of() {
        let set = RoleSet::of(&[Role::Read, Role::Admin]);
        assert_eq!(set.iter().collect::<Vec<_>>(), [Role::Read, Role::Admin]);
        assert_eq!(RoleSet::ALL.iter().collect::<Vec<_>>(), Role::ALL);
        assert_eq!(RoleSet::of(&[]).iter().next(), None);
    }

    #[test]
    fn a_caller_with_a_scope_sees_its_own_and_one_without_an_id_nothing() {
        let local = Caller::local(String::new(), String::new());
        assert!(local.may_see("") && local.may_see("ann"));
        let ann = Caller { client_id: "ann".into(), scope: Scope::Own, ..local.clone() };
        assert!(ann.may_see("ann") && !ann.may_see("") && !ann.may_see("bob"));
        let nameless = Caller { scope: Scope::Own, ..local };
        assert!(!nameless.may_see("") && !nameless.may_see("ann"));
    }
}
