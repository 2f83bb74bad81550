//! The section `auth.jwt`: tokens of an identity provider.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{DurationSetting, Role};

/// A token that is wrong by a clock's difference.
const LEEWAY_MAX: Duration = Duration::from_secs(300);

/// Whose tokens are taken, and what their claims mean.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Jwt {
    /// The `iss` that every token must have.
    pub issuer: String,
    /// The `aud` that every token must have, or one of these.
    pub audience: Vec<String>,
    /// The provider's public keys: a JWKS in a file, read again when it changes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub jwks_file: Option<PathBuf>,
    /// Or from an address, asked again now and then and for a key that is not known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub jwks_url: Option<String>,
    /// How far the clocks of this machine and of the provider may differ.
    pub leeway: DurationSetting,
    pub claims: Claims,
    /// Which roles a value of the claim `claims.roles` gives. Empty: each role is called as here.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub roles: BTreeMap<String, Vec<Role>>,
}

/// The names of claims; `realm_access.roles` is `roles` inside `realm_access`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Claims {
    pub client_id: String,
    /// A list of strings, or a string of words.
    pub roles: String,
    /// A record like `scope` of a client. If it is set, every token must have it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scope: Option<String>,
}

impl Default for Jwt {
    fn default() -> Self {
        Self {
            issuer: String::new(),
            audience: Vec::new(),
            jwks_file: None,
            jwks_url: None,
            leeway: DurationSetting(Duration::from_secs(30)),
            claims: Claims::default(),
            roles: BTreeMap::new(),
        }
    }
}

impl Default for Claims {
    fn default() -> Self {
        Self { client_id: "sub".to_owned(), roles: "roles".to_owned(), scope: None }
    }
}

impl Jwt {
    /// Or what is wrong with which key.
    pub(super) fn check(&self) -> Result<(), (&'static str, String)> {
        let wrong = |key, text: &str| Err((key, text.to_owned()));
        if self.issuer.is_empty() {
            return wrong("issuer", "must be set: else the tokens of everybody would do");
        }
        if self.audience.is_empty() || self.audience.iter().any(String::is_empty) {
            return wrong(
                "audience",
                "must be set: else the provider's tokens for other servers would do",
            );
        }
        match (&self.jwks_file, &self.jwks_url) {
            (None, None) => {
                return wrong(
                    "jwks_file",
                    "must be set, or `jwks_url`: where the provider's public keys are",
                );
            }
            (Some(_), Some(_)) => return wrong("jwks_url", "stands beside `jwks_file`: keep one"),
            (None, Some(url)) if !is_on_loopback(url) => {
                return wrong(
                    "jwks_url",
                    "must be http:// on the loopback interface, because keys that come by plain HTTP from elsewhere could be anybody's (this binary is built without TLS): write them to a `jwks_file`, or put a TLS proxy on this machine in between",
                );
            }
            _ => {}
        }
        if self.leeway.0 > LEEWAY_MAX {
            return wrong("leeway", "must be at most 5m");
        }
        let claims = [&self.claims.client_id, &self.claims.roles];
        if claims.into_iter().chain(&self.claims.scope).any(String::is_empty) {
            return wrong("claims", "names a claim by nothing: leave it out, or write its name");
        }
        Ok(())
    }
}

fn is_on_loopback(url: &str) -> bool {
    let Some(rest) = url.strip_prefix("http://") else { return false };
    let authority = rest.split(['/', '?']).next().unwrap_or_default();
    if authority.contains('@') {
        return false;
    }
    let host = match authority.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => authority.rsplit_once(':').map_or(authority, |(host, _)| host),
    };
    host == "localhost"
        || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_come_from_this_machine_only() {
        for url in ["http://localhost:1/keys", "http://127.0.0.1/", "http://[::1]:8/x"] {
            assert!(is_on_loopback(url), "{url}");
        }
        for url in [
            "https://localhost/",
            "http://id.example/",
            "http://localhost.evil.example/",
            "http://localhost@evil.example/",
            "http://127.0.0.1:80@evil.example/",
        ] {
            assert!(!is_on_loopback(url), "{url}");
        }
    }
}
