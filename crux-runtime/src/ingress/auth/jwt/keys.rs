//! The public keys of an identity provider: where they come from, which of them are taken, and each
//! key's one algorithm, which no token can choose.

use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Empty, Limited};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, JwkSet, PublicKeyUse};
use jsonwebtoken::{Algorithm, AlgorithmFamily, DecodingKey};

const KEYS_MAX: usize = 100;
const BYTES_MAX: usize = 256 << 10;
const FETCH_TIMEOUT: Duration = Duration::from_secs(5);

/// One key.
#[derive(Debug)]
pub(super) struct PublicKey {
    id: Option<String>,
    pub(super) algorithm: Algorithm,
    pub(super) key: DecodingKey,
}

/// All that are taken.
#[derive(Debug, Default)]
pub(super) struct PublicKeys(Vec<PublicKey>);

impl PublicKeys {
    /// Keys of kinds that are not known, or for something else than signatures, are left out: one
    /// new key must not break the others.
    pub(super) fn parse(json: &[u8]) -> Result<Self, String> {
        let set: JwkSet = serde_json::from_slice(json)
            .map_err(|error| format!("not a JSON Web Key Set: {error}"))?;
        if set.keys.len() > KEYS_MAX {
            return Err(format!(
                "there are {} keys, and at most {KEYS_MAX} are taken",
                set.keys.len()
            ));
        }
        let keys: Vec<PublicKey> = set.keys.iter().filter_map(PublicKey::of).collect();
        if keys.is_empty() {
            return Err(
                "there is no key for signatures by RSA, P-256, P-384 or Ed25519 in it".to_owned()
            );
        }
        Ok(Self(keys))
    }

    /// The key of that id; a token without an id is of the only key there is.
    pub(super) fn find(&self, id: Option<&str>) -> Option<&PublicKey> {
        match (id, self.0.as_slice()) {
            (Some(id), keys) => keys.iter().find(|key| key.id.as_deref() == Some(id)),
            (None, [only]) => Some(only),
            (None, _) => None,
        }
    }
}

impl PublicKey {
    fn of(jwk: &Jwk) -> Option<Self> {
        let is_for_signatures =
            matches!(jwk.common.public_key_use, None | Some(PublicKeyUse::Signature));
        let said = jwk.common.key_algorithm.map(|said| said.to_string().parse::<Algorithm>());
        // An algorithm that cannot be read is one that is not for signatures.
        let said = said.transpose().ok()?;
        let algorithm = match (&jwk.algorithm, said) {
            (AlgorithmParameters::RSA(_), Some(said)) if said.family() == AlgorithmFamily::Rsa => {
                said
            }
            (AlgorithmParameters::RSA(_), None) => Algorithm::RS256,
            (AlgorithmParameters::EllipticCurve(key), said) => {
                let own = match key.curve {
                    EllipticCurve::P256 => Algorithm::ES256,
                    EllipticCurve::P384 => Algorithm::ES384,
                    _ => return None,
                };
                said.is_none_or(|said| said == own).then_some(own)?
            }
            (AlgorithmParameters::OctetKeyPair(key), None | Some(Algorithm::EdDSA))
                if key.curve == EllipticCurve::Ed25519 =>
            {
                Algorithm::EdDSA
            }
            // Secret keys above all: with one of them everybody who verifies could sign.
            _ => return None,
        };
        let key = DecodingKey::from_jwk(jwk).ok().filter(|_| is_for_signatures)?;
        Some(Self { id: jwk.common.key_id.clone(), algorithm, key })
    }
}

/// Where they are.
#[derive(Debug, Clone)]
pub(super) enum KeySource {
    File(PathBuf),
    Url(String),
}

impl KeySource {
    pub(super) async fn read(&self) -> Result<PublicKeys, String> {
        let json = match self {
            Self::File(path) => Bytes::from(read(path).await?),
            Self::Url(url) => match tokio::time::timeout(FETCH_TIMEOUT, fetch(url)).await {
                Ok(fetched) => fetched?,
                Err(_) => {
                    return Err(format!(
                        "{url} has not answered for {} s",
                        FETCH_TIMEOUT.as_secs()
                    ));
                }
            },
        };
        let place = match self {
            Self::File(path) => path.display().to_string(),
            Self::Url(url) => url.clone(),
        };
        PublicKeys::parse(&json).map_err(|why| format!("{place}: {why}"))
    }
}

async fn read(path: &Path) -> Result<Vec<u8>, String> {
    let wrong = |why: String| format!("{} cannot be read: {why}", path.display());
    let about = tokio::fs::metadata(path).await.map_err(|error| wrong(error.to_string()))?;
    if about.len() > BYTES_MAX as u64 {
        return Err(wrong(format!("it is larger than {BYTES_MAX} bytes")));
    }
    tokio::fs::read(path).await.map_err(|error| wrong(error.to_string()))
}

/// Redirects are not followed.
async fn fetch(url: &str) -> Result<Bytes, String> {
    let wrong = |why: String| format!("{url} cannot be fetched: {why}");
    let address =
        url.parse().map_err(|error: hyper::http::uri::InvalidUri| wrong(error.to_string()))?;
    let client: Client<_, Empty<Bytes>> = Client::builder(TokioExecutor::new()).build_http();
    let response = client.get(address).await.map_err(|error| wrong(error.to_string()))?;
    if response.status() != hyper::StatusCode::OK {
        return Err(wrong(format!("the answer is {}", response.status())));
    }
    let body = Limited::new(response.into_body(), BYTES_MAX).collect().await;
    body.map(http_body_util::Collected::to_bytes).map_err(|error| wrong(error.to_string()))
}
