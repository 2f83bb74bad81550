//! The authenticator: from what a request carries to who sent it. The only part that reads
//! credentials; what it gives out, a [`Principal`], has none.

pub(crate) mod credential;
pub(crate) mod key;

use std::collections::HashMap;
use std::sync::Arc;

use serde::Deserialize;
use subtle::{Choice, ConstantTimeEq};

use self::key::{ApiKey, Digest, Malformed};
use super::caller::{Principal, RoleSet, Standing};
use super::problem::{Kind, Problem};
use crate::config::{self, KEYS_MAX};

/// See the module's text.
pub(crate) struct Authenticator {
    /// `None`: the server does not ask.
    clients: Option<HashMap<String, Client>>,
}

struct Client {
    /// As many for every client, so that no answer takes longer than another; those that are not
    /// there are the digest of nothing that anyone could send.
    keys: [Digest; KEYS_MAX],
    principal: Arc<Principal>,
}

impl Authenticator {
    pub(crate) fn new(auth: Option<&config::Auth>) -> Self {
        let client =
            |(id, client): (&String, &config::Client)| (id.clone(), Client::new(id, client));
        Self { clients: auth.map(|auth| auth.clients.iter().map(client).collect()) }
    }

    /// Whether callers have to prove who they are.
    pub(crate) fn is_required(&self) -> bool {
        self.clients.is_some()
    }

    /// Who sent a message of a connection, by the credential inside; `None`: there is none, and the
    /// sender is who it was.
    pub(crate) fn of_message(&self, text: &str) -> Result<Option<Arc<Principal>>, Problem> {
        /// Others have other fields, which are not read.
        #[derive(Deserialize)]
        struct Message {
            token: Option<String>,
        }
        if !self.is_required() {
            return Ok(None);
        }
        // The error would quote the credential.
        let message = serde_json::from_str::<Message>(text).map_err(|_| {
            Problem::new(Kind::InvalidRequest, "`token` is a string: the key or token").at("token")
        })?;
        message.token.map(|token| self.authenticate(Some(&token))).transpose()
    }

    /// Who sent a request with this credential.
    pub(crate) fn authenticate(&self, credential: Option<&str>) -> Result<Arc<Principal>, Problem> {
        let Some(clients) = &self.clients else { return Ok(Principal::trusted()) };
        let Some(credential) = credential else { return Ok(Principal::anonymous()) };
        let key = ApiKey::parse(credential).map_err(|malformed| match malformed {
            Malformed::Form => {
                refused("the credential is not a key of this server: those begin with `crux_`")
            }
            Malformed::Checksum => refused(
                "the key is damaged, its checksum does not match: send all of it, as it was given",
            ),
        })?;
        let client = clients.get(key.client_id);
        let keys = client.map_or(&[[0; 32]; KEYS_MAX], |client| &client.keys);
        let is_known =
            keys.iter().fold(Choice::from(0), |found, known| found | known.ct_eq(&key.digest));
        match client {
            Some(client) if bool::from(is_known) => Ok(client.principal.clone()),
            // Not which of the two: that would say which clients there are.
            _ => Err(refused(
                "no client has this key: it may have been replaced, ask who runs the server",
            )),
        }
    }
}

impl Client {
    fn new(id: &str, client: &config::Client) -> Self {
        let mut keys = [[0; 32]; KEYS_MAX];
        for (slot, hash) in keys.iter_mut().zip(client.hashes()) {
            *slot = hash.0;
        }
        let principal = Principal {
            client_id: id.to_owned().into(),
            standing: Standing::Authenticated,
            roles: RoleSet::of(&client.roles),
            scope: client.scope.clone(),
            expires_at: None,
        };
        Self { keys, principal: Arc::new(principal) }
    }
}

/// 401.
fn refused(text: &str) -> Problem {
    Problem::new(Kind::Unauthenticated, text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Auth;

    fn authenticator(yaml: &str) -> Authenticator {
        let auth: Auth = serde_saphyr::from_str(yaml).unwrap();
        Authenticator::new(Some(&auth))
    }

    #[test]
    fn a_key_is_who_it_belongs_to_and_nothing_else_is_anybody() {
        let (old, new) = (key::generate("shop").unwrap(), key::generate("shop").unwrap());
        let hash = |key: &str| key::hex(&key::digest(key));
        let yaml = format!(
            "clients: {{ shop: {{ keys: ['{}', '{}'], roles: [start] }}, other: {{ key_sha256: '{}', roles: [read] }} }}",
            hash(&old),
            hash(&new),
            hash(&key::generate("other").unwrap()),
        );
        let authenticator = authenticator(&yaml);
        for key in [&old, &new] {
            let principal = authenticator.authenticate(Some(key)).unwrap();
            assert_eq!(
                (&*principal.client_id, principal.roles),
                ("shop", RoleSet::of(&[super::super::caller::Role::Start]))
            );
        }
        let anonymous = authenticator.authenticate(None).unwrap();
        assert_eq!(
            (anonymous.standing, anonymous.roles),
            (Standing::Anonymous, RoleSet::default())
        );
        // A right key under another's id has another digest, and no checksum.
        let foreign = new.replacen("shop", "other", 1);
        for wrong in
            [&key::generate("shop").unwrap(), &key::generate("nobody").unwrap(), &foreign, "x", ""]
        {
            let problem = authenticator.authenticate(Some(wrong)).unwrap_err();
            assert_eq!(problem.kind, Kind::Unauthenticated, "{wrong}");
            assert!(wrong.is_empty() || wrong.len() < 2 || !problem.detail.contains(wrong));
        }
    }

    #[test]
    fn without_the_section_everybody_is_trusted() {
        let authenticator = Authenticator::new(None);
        assert!(!authenticator.is_required());
        assert_eq!(
            authenticator.authenticate(Some("anything")).unwrap().standing,
            Standing::Trusted
        );
    }
}
