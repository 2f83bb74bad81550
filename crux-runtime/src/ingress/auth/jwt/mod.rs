//! Tokens of an identity provider: a JWT with a signature by one of the provider's keys, for this
//! server, in its time. The token chooses nothing: neither the algorithm, which is the key's, nor
//! its own key.

mod crypto;
mod keys;

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::{Validation, decode, decode_header};
use serde_json::Value;
use tokio::time::Instant;
use tracing::{info, warn};

use self::keys::{KeySource, PublicKeys};
use super::key::{Digest, digest};
use super::refused;
use crate::config;
use crate::ingress::caller::{Permissions, Role, RoleSet, Standing};
use crate::ingress::problem::Problem;

/// Longer ones are no tokens of anybody who wants to come in.
const TOKEN_BYTES_MAX: usize = 16 << 10;
/// How often the keys are read again, for changes.
pub(super) const REFRESH_INTERVAL: Duration = Duration::from_secs(60);
/// Between two reads because a token has a key that is not known.
const REFRESH_INTERVAL_MIN: Duration = Duration::from_secs(10);
/// Tokens that were verified, so that each is verified once.
const VERIFIED_MAX: usize = 10_000;
const CLIENT_ID_BYTES_MAX: usize = 128;

/// See the module's text.
pub(crate) struct Jwts {
    config: config::Jwt,
    source: KeySource,
    /// Ids of clients with keys: no token may claim to be one of them.
    reserved: HashSet<String>,
    keys: RwLock<Arc<PublicKeys>>,
    verified: Mutex<HashMap<Digest, Verified>>,
    /// When the keys were read last; held while they are read.
    read_at: tokio::sync::Mutex<Option<Instant>>,
    is_failing: AtomicBool,
}

#[derive(Clone)]
struct Verified {
    permissions: Arc<Permissions>,
    expires_at: SystemTime,
}

impl Jwts {
    pub(super) fn new(config: &config::Jwt, reserved: HashSet<String>) -> Self {
        crypto::install();
        let source = match (&config.jwks_file, &config.jwks_url) {
            (Some(path), _) => KeySource::File(path.clone()),
            (None, url) => KeySource::Url(url.clone().unwrap_or_default()),
        };
        Self {
            config: config.clone(),
            source,
            reserved,
            keys: RwLock::default(),
            verified: Mutex::default(),
            read_at: tokio::sync::Mutex::default(),
            is_failing: AtomicBool::new(false),
        }
    }

    /// The first reading of the keys: what is wrong with them stops the start.
    pub(super) async fn open(&self) -> Result<(), String> {
        self.read().await
    }

    /// Reads the keys again. While they cannot be read the former ones count.
    pub(super) async fn refresh(&self) {
        let read = self.read().await;
        let was_failing = self.is_failing.swap(read.is_err(), Ordering::Relaxed);
        match read {
            Ok(()) if was_failing => info!("the keys of the identity provider can be read again"),
            Err(why) if !was_failing => {
                warn!(
                    why,
                    "the keys of the identity provider cannot be read; those from before count"
                );
            }
            Ok(()) | Err(_) => {}
        }
    }

    async fn read(&self) -> Result<(), String> {
        let mut read_at = self.read_at.lock().await;
        *read_at = Some(Instant::now());
        self.take(self.source.read().await?);
        Ok(())
    }

    /// A token has a key that is not known: the provider may have a new one. However many such
    /// tokens come, the provider is asked now and then.
    async fn read_for_unknown_key(&self) {
        let mut read_at = self.read_at.lock().await;
        if read_at.is_some_and(|at| at.elapsed() < REFRESH_INTERVAL_MIN) {
            return;
        }
        *read_at = Some(Instant::now());
        // Said by the next regular reading, too.
        if let Ok(keys) = self.source.read().await {
            self.take(keys);
        }
    }

    fn take(&self, keys: PublicKeys) {
        *self.keys.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(keys);
        // A key may be gone, and with it the tokens that it has signed.
        self.verified().clear();
    }

    /// Whether a credential has the form of a token.
    pub(super) fn is_token(credential: &str) -> bool {
        credential.split('.').count() == 3
    }

    pub(super) async fn authenticate(&self, token: &str) -> Result<Arc<Permissions>, Problem> {
        if token.len() > TOKEN_BYTES_MAX {
            return Err(refused("the token is too long"));
        }
        let now = SystemTime::now();
        let digest = digest(token);
        let known = self.verified().get(&digest).cloned();
        if let Some(known) = known.filter(|known| known.expires_at > now) {
            return Ok(known.permissions);
        }
        let header = decode_header(token).map_err(|_| refused("the token cannot be read"))?;
        let id = header.kid.as_deref();
        if self.keys().find(id).is_none() {
            self.read_for_unknown_key().await;
        }
        let keys = self.keys();
        let Some(key) = keys.find(id) else {
            return Err(refused(
                "the token is signed with a key that the identity provider does not have",
            ));
        };
        let mut validation = Validation::new(key.algorithm);
        validation.set_required_spec_claims(&["exp", "iss", "aud"]);
        validation.set_issuer(&[&self.config.issuer]);
        validation.set_audience(&self.config.audience);
        validation.validate_nbf = true;
        validation.leeway = self.config.leeway.0.as_secs();
        let token = decode::<Value>(token, &key.key, &validation)
            .map_err(|error| refused(&why(error.kind())))?;
        let verified = self.verified_token(&token.claims, now)?;
        let mut all = self.verified();
        if all.len() >= VERIFIED_MAX {
            all.clear();
        }
        all.insert(digest, verified.clone());
        Ok(verified.permissions)
    }

    fn verified_token(&self, claims: &Value, now: SystemTime) -> Result<Verified, Problem> {
        let names = &self.config.claims;
        let missing =
            |name: &str| refused(&format!("the token has no claim `{name}` that can be used"));
        let client_id = claim(claims, &names.client_id)
            .and_then(Value::as_str)
            .filter(|id| is_client_id(id))
            .ok_or_else(|| missing(&names.client_id))?;
        if self.reserved.contains(client_id) {
            return Err(refused(
                "the token claims to be a client that has a key in the configuration",
            ));
        }
        let scope = match &names.scope {
            None => config::Scope::default(),
            Some(name) => claim(claims, name)
                .and_then(|scope| serde_json::from_value(scope.clone()).ok())
                .ok_or_else(|| missing(name))?,
        };
        let expires = claims["exp"].as_f64().filter(|at| at.is_finite() && *at >= 0.0);
        let expires = expires.and_then(|at| Duration::try_from_secs_f64(at).ok());
        let expires_at = expires
            .and_then(|at| UNIX_EPOCH.checked_add(at)?.checked_add(self.config.leeway.0))
            .ok_or_else(|| missing("exp"))?;
        let left = expires_at.duration_since(now).unwrap_or_default();
        let permissions = Permissions {
            client_id: client_id.to_owned().into(),
            standing: Standing::Authenticated,
            roles: self.roles(claim(claims, &names.roles)),
            scope,
            expires_at: Instant::now().checked_add(left),
            ..Permissions::default()
        };
        Ok(Verified { permissions: Arc::new(permissions), expires_at })
    }

    /// Values that mean nothing here give nothing: providers have roles for other servers.
    fn roles(&self, claim: Option<&Value>) -> RoleSet {
        let words: Vec<&str> = match claim {
            Some(Value::String(words)) => words.split_whitespace().collect(),
            Some(Value::Array(words)) => words.iter().filter_map(Value::as_str).collect(),
            _ => Vec::new(),
        };
        let roles = words.into_iter().flat_map(|word| match self.config.roles.is_empty() {
            true => Role::ALL.into_iter().filter(|role| role.word() == word).collect(),
            false => self.config.roles.get(word).cloned().unwrap_or_default(),
        });
        RoleSet::of(&roles.collect::<Vec<_>>())
    }

    fn keys(&self) -> Arc<PublicKeys> {
        self.keys.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn verified(&self) -> std::sync::MutexGuard<'_, HashMap<Digest, Verified>> {
        self.verified.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A claim by its name, which may itself have points (`https://crux.example/roles`), or by its path.
fn claim<'a>(claims: &'a Value, name: &str) -> Option<&'a Value> {
    claims.get(name).or_else(|| name.split('.').try_fold(claims, |at, name| at.get(name)))
}

/// An owner of instances stands in the journal, in the log and in addresses.
fn is_client_id(text: &str) -> bool {
    (1..=CLIENT_ID_BYTES_MAX).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_graphic() && !b"{}\"\\".contains(&byte))
}

/// What the client is answered; never anything of the token.
fn why(error: &ErrorKind) -> String {
    match error {
        ErrorKind::ExpiredSignature => "the token has expired: get a new one".to_owned(),
        ErrorKind::ImmatureSignature => {
            "the token counts from a later time on (`nbf`): the clocks may differ".to_owned()
        }
        ErrorKind::InvalidIssuer => "the token is of another issuer (`iss`)".to_owned(),
        ErrorKind::InvalidAudience => "the token is for another server (`aud`)".to_owned(),
        ErrorKind::MissingRequiredClaim(claim) => format!("the token has no claim `{claim}`"),
        ErrorKind::InvalidClaimFormat(claim) => {
            format!("the token's claim `{claim}` cannot be read")
        }
        ErrorKind::InvalidAlgorithm | ErrorKind::UnsupportedAlgorithm => {
            "the token names another algorithm than its key has".to_owned()
        }
        ErrorKind::InvalidSignature => "the token's signature is wrong".to_owned(),
        _ => "the token cannot be read".to_owned(),
    }
}

#[cfg(test)]
mod tests;
