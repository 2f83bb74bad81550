//! The section `auth`: who may call, and what each client may do.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use serde::de::{Deserializer, Error as _};
use serde::{Deserialize, Serialize, Serializer};
use serde_json::Value;

use super::jwt::Jwt;
use super::{DurationSetting, Problem};
use crate::definition::secrets::MASK;
use crate::token::TokenSigner;

/// Keys that a client may have at the same time: the one in use, and others while it changes.
pub(crate) const KEYS_MAX: usize = 4;
/// What tokens are signed with, in characters.
const SECRET_LEN_MIN: usize = 32;
/// Client ids stand in keys, journals and logs.
const CLIENT_ID_LEN_MAX: usize = 64;

/// What a client is allowed to do. Each operation needs at most one role: see
/// `OPERATIONS` of `ingress`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Start workflows and send events.
    Start,
    /// See and follow instances.
    Read,
    /// Report results of steps.
    Complete,
    /// Decide about instances of everybody.
    Operate,
    /// See how the server is.
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

    /// All of them, for errors.
    pub(crate) fn words() -> String {
        format!("`{}`", Self::ALL.map(Self::word).join("`, `"))
    }
}

impl std::str::FromStr for Role {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = Role::ALL.into_iter().find(|role| role.word() == text);
        found.ok_or_else(|| format!("there are {}", Role::words()))
    }
}

/// With this section every caller has to prove who it is.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Auth {
    /// Clients with keys, by id.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub clients: BTreeMap<String, Client>,
    /// Tokens of an identity provider.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub jwt: Option<Jwt>,
    /// What may be done without a credential.
    pub anonymous: Vec<Anonymous>,
    pub tokens: Tokens,
}

/// What a caller that proves nothing may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Anonymous {
    /// Follow an instance whose id it knows.
    Follow,
}

/// Tokens that the server signs: of those who start, to follow, and of tasks, to report.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Tokens {
    /// What they are signed with. Without one it is another each time that the server starts, and
    /// on each node.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secret: Option<Secret>,
    /// Instead: the file that has it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secret_file: Option<PathBuf>,
    /// How long one is good for following.
    pub follow_lifetime: DurationSetting,
}

impl Default for Tokens {
    fn default() -> Self {
        Self {
            secret: None,
            secret_file: None,
            follow_lifetime: DurationSetting(Duration::from_secs(24 * 3600)),
        }
    }
}

impl Tokens {
    /// Reads the secret, or makes one.
    pub(crate) fn signer(&self) -> Result<TokenSigner, Problem> {
        let wrong = |key: &str, text: String| Problem::new(format!("auth.tokens.{key}"), text);
        let (key, secret) = match (&self.secret, &self.secret_file) {
            (None, None) => {
                return TokenSigner::random().map_err(|error| {
                    wrong("secret", format!("the system gives no random numbers: {error}"))
                });
            }
            (Some(Secret(secret)), _) => ("secret", secret.clone()),
            (None, Some(path)) => {
                let read = std::fs::read_to_string(path).map_err(|error| {
                    wrong("secret_file", format!("{} cannot be read: {error}", path.display()))
                });
                ("secret_file", read?)
            }
        };
        let secret = secret.trim();
        if secret.len() < SECRET_LEN_MIN {
            let text = format!(
                "has {} characters, and at least {SECRET_LEN_MIN} are needed that nobody can guess: `openssl rand -hex 32` prints some",
                secret.len()
            );
            return Err(wrong(key, text));
        }
        Ok(TokenSigner::new(secret.as_bytes()))
    }
}

/// Never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(MASK)
    }
}

impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(MASK)
    }
}

impl<'de> Deserialize<'de> for Secret {
    /// The error never quotes the value.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match Value::deserialize(deserializer)? {
            Value::String(secret) => Ok(Self(secret)),
            _ => Err(D::Error::custom("a secret is a string: put it in quotes")),
        }
    }
}

/// A client that proves its id with a key.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Client {
    /// The SHA-256 of its key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key_sha256: Option<KeyHash>,
    /// Of more keys, which are as good.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub keys: Vec<KeyHash>,
    pub roles: Vec<Role>,
    #[serde(skip_serializing_if = "Scope::is_unlimited")]
    pub scope: Scope,
}

/// What a client's roles apply to; what is not there is not narrowed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Scope {
    /// Instances of these workflows only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub workflows: Option<BTreeSet<String>>,
    /// Results of steps of these types only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub step_types: Option<BTreeSet<String>>,
    /// Events of these names only. A client that is narrowed to workflows sends none but these.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub events: Option<BTreeSet<String>>,
}

impl Scope {
    pub(crate) fn is_unlimited(&self) -> bool {
        *self == Self::default()
    }
}

/// The SHA-256 of a key. Never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct KeyHash(pub(crate) [u8; 32]);

impl fmt::Debug for KeyHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(MASK)
    }
}

impl Serialize for KeyHash {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(MASK)
    }
}

impl<'de> Deserialize<'de> for KeyHash {
    /// The error never quotes the value, which may be a key that was put here by mistake.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = Value::deserialize(deserializer)?;
        let digits = value.as_str().unwrap_or_default();
        let digest = hex(digits).ok_or_else(|| {
            let text = if digits.starts_with("crux_") {
                "this is a key, and its SHA-256 belongs here: `crux key new` prints both; take a new key, this one has been shown"
            } else {
                "not a SHA-256 of 64 hexadecimal digits, as `crux key new` prints it"
            };
            D::Error::custom(text)
        })?;
        Ok(Self(digest))
    }
}

fn hex(digits: &str) -> Option<[u8; 32]> {
    let digits = digits.as_bytes();
    let mut digest = [0; 32];
    if digits.len() != 2 * digest.len() {
        return None;
    }
    for (byte, pair) in digest.iter_mut().zip(digits.chunks_exact(2)) {
        let digit = |at: usize| char::from(*pair.get(at)?).to_digit(16);
        *byte = u8::try_from(digit(0)? * 16 + digit(1)?).ok()?;
    }
    Some(digest)
}

/// Whether it can stand in a key, a line of the log and a path of the configuration.
pub(crate) fn is_client_id(text: &str) -> bool {
    (1..=CLIENT_ID_LEN_MAX).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
}

/// What a client id looks like, for errors.
pub(crate) const CLIENT_ID_FORM: &str = "1 to 64 letters, digits, `-`, `_` and `.`";

impl Auth {
    pub(super) fn check(&self) -> Result<(), Problem> {
        if self.clients.is_empty() && self.jwt.is_none() {
            let text = "nobody could call this server: add `auth.clients` (`crux key new ID` makes a key) or `auth.jwt`, or leave `auth` out and listen on the loopback interface";
            return Err(Problem::new("auth", text));
        }
        if let Some(jwt) = &self.jwt {
            jwt.check().map_err(|(key, text)| Problem::new(format!("auth.jwt.{key}"), text))?;
        }
        if self.tokens.secret.is_some() && self.tokens.secret_file.is_some() {
            let text = "stands beside `secret`: keep one";
            return Err(Problem::new("auth.tokens.secret_file", text));
        }
        for (id, client) in &self.clients {
            let key = |name: &str| format!("auth.clients.{id}{name}");
            if !is_client_id(id) {
                let text = format!("`{id}` is not a client id: use {CLIENT_ID_FORM}");
                return Err(Problem::new(key(""), text));
            }
            let keys = client.hashes().count();
            if keys == 0 {
                let text = format!("has no key: add `key_sha256`; `crux key new {id}` prints one");
                return Err(Problem::new(key(""), text));
            }
            if keys > KEYS_MAX {
                let text = format!("a client has at most {KEYS_MAX} keys, not {keys}");
                return Err(Problem::new(key(".keys"), text));
            }
            if client.roles.is_empty() {
                let text = format!("may do nothing: give it some of {}", Role::words());
                return Err(Problem::new(key(".roles"), text));
            }
        }
        Ok(())
    }
}

impl Client {
    pub(crate) fn hashes(&self) -> impl Iterator<Item = &KeyHash> {
        self.key_sha256.iter().chain(&self.keys)
    }
}
