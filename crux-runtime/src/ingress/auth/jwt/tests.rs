//! Tokens by keys that ring makes for the test, and hostile ones beside them.

use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair};
use serde_json::json;

use super::*;
use crate::ingress::problem::Kind;

/// A modulus, and a token that its key has signed once, until 2100; the key is gone.
const RSA_N: &str = concat!(
    "siLcdA-aQzdEOKINR-uc9AYIKYv3c_jkNwlUM47ojkFHE9Nf0WY6VP1a3tNwW-A1J_Imc2p74vRc--mwEvTY1GJB",
    "Sw2E4VWiT96EKmHhM-avAVZ0wpCgkUr5yajIXVgrATLmcJBp3NlLXZNpGulqWNq_8UMmSJrxvA-2eVV7bQtizH9c",
    "9_0_9aP2j1VM2etybZf7-L-eoT_jSwvgykwgTFjCz-fOlpPQAfPt3J25u1BV-e2bJFa4JmhZf7q5GhodxbhuvAa1",
    "eNj6QZ-hVVLQ0C0zvgufIGZySBRZYxhtGwALF8W_G-e6StJxwc4r-LulHyxFBoyi5JB5tO3yAubuZQ",
);
const RSA_TOKEN: &str = concat!(
    "eyJhbGciOiJSUzI1NiIsImtpZCI6InJzYSIsInR5cCI6IkpXVCJ9.eyJpc3MiOiJodHRwczovL2lkLmV4YW1wbGU",
    "iLCJhdWQiOiJjcnV4Iiwic3ViIjoic2hvcHwxIiwicm9sZXMiOlsic3RhcnQiLCJyZWFkIiwib3RoZXIiXSwiZXh",
    "wIjo0MTAyNDQ0ODAwfQ.o33yBEnuk-k_kRlFCng1WlTIojP6sqlXTpdJZji-NPwFJ3cNJy7PNvOXY5nqLKfHxcR9",
    "xY97Q6d02xGPs6WKYmF5EcN2bv0HxF9PyGyGkXqz5DvdzOIJmQItcDN2hQLfFLL_m-UTlEFnXF2XqAfp1kAi835v",
    "avrZBCAi2xS1xk8I1pxbisRm96WDlFM5J1d2Y1S6glqWzln4i8NWVNTDciZFKW_B1AxCQLwhm-xIohst9M6UAn-5",
    "BGhCPy-6xo7eR3HmyYxrBBUsiBaW7v697HJK5YDuxA3rSPHwAd8lcsCEGtetX8_5oOyfZI6DrwKBQNTtFPjGoW6U",
    "V0U9ha7ddA",
);

fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let number = (0..3).fold(0, |n, at| n << 8 | u32::from(*chunk.get(at).unwrap_or(&0)));
        for digit in 0..=chunk.len() {
            text.push(char::from(DIGITS[(number >> (18 - 6 * digit) & 63) as usize]));
        }
    }
    text
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

fn claims() -> Value {
    json!({"iss": "https://id.example", "aud": "crux", "sub": "shop|1", "roles": ["start"], "exp": now() + 600})
}

fn with(name: &str, value: Value) -> Value {
    let mut claims = claims();
    match value {
        Value::Null => drop(claims.as_object_mut().unwrap().remove(name)),
        value => claims[name] = value,
    }
    claims
}

struct Provider {
    ed: Ed25519KeyPair,
    ec: EcdsaKeyPair,
    folder: tempfile::TempDir,
}

impl Provider {
    fn new() -> Self {
        let random = SystemRandom::new();
        let ed = Ed25519KeyPair::generate_pkcs8(&random).unwrap();
        let scheme = &ECDSA_P256_SHA256_FIXED_SIGNING;
        let ec = EcdsaKeyPair::generate_pkcs8(scheme, &random).unwrap();
        let this = Self {
            ed: Ed25519KeyPair::from_pkcs8(ed.as_ref()).unwrap(),
            ec: EcdsaKeyPair::from_pkcs8(scheme, ec.as_ref(), &random).unwrap(),
            folder: tempfile::tempdir().unwrap(),
        };
        this.publish(&this.keys());
        this
    }

    fn ed_key(&self, id: &str) -> Value {
        let x = base64(self.ed.public_key().as_ref());
        json!({"kty": "OKP", "crv": "Ed25519", "kid": id, "x": x, "use": "sig"})
    }

    fn keys(&self) -> Vec<Value> {
        let point = self.ec.public_key().as_ref();
        let (x, y) = (base64(&point[1..33]), base64(&point[33..]));
        vec![
            self.ed_key("ed"),
            json!({"kty": "EC", "crv": "P-256", "kid": "ec", "alg": "ES256", "x": x, "y": y}),
            json!({"kty": "RSA", "kid": "rsa", "n": RSA_N, "e": "AQAB"}),
            json!({"kty": "RSA", "kid": "encrypts", "use": "enc", "n": RSA_N, "e": "AQAB"}),
            json!({"kty": "oct", "kid": "secret", "alg": "HS256", "k": base64(b"secret")}),
            json!({"kty": "AKP", "kid": "new", "alg": "ML-DSA-44", "pub": "AAAA"}),
        ]
    }

    fn publish(&self, keys: &[Value]) {
        std::fs::write(self.path(), json!({"keys": keys}).to_string()).unwrap();
    }

    fn path(&self) -> std::path::PathBuf {
        self.folder.path().join("keys.json")
    }

    async fn open(&self, change: impl FnOnce(&mut config::Jwt)) -> Jwts {
        let mut config = config::Jwt {
            issuer: "https://id.example".to_owned(),
            audience: vec!["crux".to_owned(), "other".to_owned()],
            jwks_file: Some(self.path()),
            ..config::Jwt::default()
        };
        change(&mut config);
        let jwts = Jwts::new(&config, HashSet::from(["taken".to_owned()]));
        jwts.open().await.unwrap();
        jwts
    }

    fn sign(&self, header: &Value, claims: &Value) -> String {
        let said = format!(
            "{}.{}",
            base64(header.to_string().as_bytes()),
            base64(claims.to_string().as_bytes())
        );
        let signature = match header["alg"].as_str() {
            Some("EdDSA") => self.ed.sign(said.as_bytes()).as_ref().to_vec(),
            Some("ES256") => {
                self.ec.sign(&SystemRandom::new(), said.as_bytes()).unwrap().as_ref().to_vec()
            }
            _ => Vec::new(),
        };
        format!("{said}.{}", base64(&signature))
    }

    fn token(&self, claims: &Value) -> String {
        self.sign(&json!({"alg": "EdDSA", "kid": "ed"}), claims)
    }
}

async fn refused(jwts: &Jwts, token: &str) -> String {
    let problem = jwts.authenticate(token).await.expect_err(token);
    assert_eq!(problem.kind, Kind::Unauthenticated);
    problem.detail
}

#[tokio::test]
async fn a_token_of_each_kind_of_key_is_its_client() {
    let provider = Provider::new();
    let jwts = provider.open(|_| {}).await;
    let ec = provider.sign(&json!({"alg": "ES256", "kid": "ec"}), &claims());
    for token in [provider.token(&claims()), ec] {
        // The second time it is known.
        for _ in 0..2 {
            let permissions = jwts.authenticate(&token).await.unwrap();
            assert_eq!(&*permissions.client_id, "shop|1");
            assert_eq!(permissions.roles, RoleSet::of(&[Role::Start]));
            let left = permissions.expires_at.unwrap() - Instant::now();
            assert!(left > Duration::from_secs(600) && left < Duration::from_secs(640));
        }
    }
    let permissions = jwts.authenticate(RSA_TOKEN).await.unwrap();
    assert_eq!(permissions.roles, RoleSet::of(&[Role::Start, Role::Read]));
}

#[tokio::test]
async fn a_token_of_another_time_issuer_or_audience_is_refused() {
    let provider = Provider::new();
    let jwts = provider.open(|_| {}).await;
    for (claims, why) in [
        (with("exp", json!(now() - 31)), "has expired"),
        (with("exp", Value::Null), "no claim `exp`"),
        (with("exp", json!("4102444800")), "claim `exp`"),
        (with("nbf", json!(now() + 60)), "counts from a later time"),
        (with("iss", json!("https://evil.example")), "another issuer"),
        (with("iss", Value::Null), "no claim `iss`"),
        (with("aud", json!("shop")), "another server"),
        (with("aud", json!([])), "another server"),
        (with("aud", Value::Null), "no claim `aud`"),
        (with("sub", Value::Null), "no claim `sub`"),
        (with("sub", json!("")), "no claim `sub`"),
        (with("sub", json!("a b")), "no claim `sub`"),
        (with("sub", json!("taken")), "a client that has a key"),
    ] {
        let said = refused(&jwts, &provider.token(&claims)).await;
        assert!(said.contains(why), "{claims}: {said}");
    }
    // Within the leeway.
    for claims in [with("exp", json!(now() - 10)), with("nbf", json!(now() + 10))] {
        assert!(jwts.authenticate(&provider.token(&claims)).await.is_ok(), "{claims}");
    }
}

#[tokio::test]
async fn a_token_chooses_neither_its_algorithm_nor_its_key() {
    let provider = Provider::new();
    let jwts = provider.open(|_| {}).await;
    let hmac = |secret: &[u8], header: &Value| {
        let said = provider.sign(header, &claims());
        let said = said.rsplit_once('.').unwrap().0;
        let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, secret);
        format!("{said}.{}", base64(ring::hmac::sign(&key, said.as_bytes()).as_ref()))
    };
    let good = provider.token(&claims());
    let (said, signature) = good.rsplit_once('.').unwrap();
    let (header, body) = said.split_once('.').unwrap();
    let other = base64(with("roles", json!(["admin"])).to_string().as_bytes());
    let own = json!({"alg": "EdDSA", "kid": "other", "jwk": provider.ed_key("other")});
    let hostile = [
        provider.sign(&json!({"alg": "none", "kid": "ed"}), &claims()),
        provider.sign(&json!({"alg": "none"}), &claims()),
        provider.sign(&json!({"kid": "ed"}), &claims()),
        // The public key as if it were a secret one.
        hmac(RSA_N.as_bytes(), &json!({"alg": "HS256", "kid": "rsa"})),
        hmac(provider.ed.public_key().as_ref(), &json!({"alg": "HS256", "kid": "ed"})),
        hmac(b"secret", &json!({"alg": "HS256", "kid": "secret"})),
        hmac(b"", &json!({"alg": "HS256", "kid": "ed"})),
        // The right signature under another key's name.
        provider.sign(&json!({"alg": "EdDSA", "kid": "ec"}), &claims()),
        provider.sign(&json!({"alg": "ES256", "kid": "ed"}), &claims()),
        provider.sign(&json!({"alg": "EdDSA", "kid": "rsa"}), &claims()),
        provider.sign(&json!({"alg": "EdDSA", "kid": "unknown"}), &claims()),
        // Of several keys none is the default.
        provider.sign(&json!({"alg": "EdDSA"}), &claims()),
        provider.sign(&own, &claims()),
        provider.sign(&json!({"alg": "EdDSA", "kid": "ed", "crit": ["exp"]}), &claims()),
        RSA_TOKEN.replacen("eyJ", "eyK", 1),
        format!("{header}.{other}.{signature}"),
        format!("{header}.{body}."),
        format!("{header}.{body}.{}", base64(&[0; 64])),
        format!("{header}..{signature}"),
        "..".to_owned(),
        "a.b.c".to_owned(),
        format!("{}.{body}.{signature}", "A".repeat(20_000)),
    ];
    for token in hostile {
        let said = refused(&jwts, &token).await;
        assert!(!said.contains(body), "{said}");
    }
    assert!(jwts.authenticate(&good).await.is_ok());
}

#[tokio::test]
async fn claims_mean_what_the_configuration_says() {
    let provider = Provider::new();
    let jwts = provider
        .open(|config| {
            config.claims.client_id = "azp".to_owned();
            config.claims.roles = "realm.roles".to_owned();
            config.claims.scope = Some("https://crux.example/scope".to_owned());
            config.roles.insert("front".to_owned(), vec![Role::Start, Role::Read]);
        })
        .await;
    let mut claims = claims();
    claims["azp"] = json!("web");
    claims["realm"] = json!({"roles": ["front", "admin"]});
    let without = refused(&jwts, &provider.token(&claims)).await;
    assert!(without.contains("no claim `https://crux.example/scope`"), "{without}");
    for scope in [json!("order"), json!({"workflow": ["order"]}), json!({"workflows": "order"})] {
        claims["https://crux.example/scope"] = scope;
        refused(&jwts, &provider.token(&claims)).await;
    }
    claims["https://crux.example/scope"] = json!({"workflows": ["order"]});
    let permissions = jwts.authenticate(&provider.token(&claims)).await.unwrap();
    assert_eq!(&*permissions.client_id, "web");
    // `admin` is no role here: only what the configuration names is one.
    assert_eq!(permissions.roles, RoleSet::of(&[Role::Start, Role::Read]));
    assert!(permissions.scope.workflows.as_ref().unwrap().contains("order"));
}

#[tokio::test(start_paused = true)]
async fn keys_are_exchanged_while_the_server_runs() {
    let provider = Provider::new();
    let jwts = provider.open(|_| {}).await;
    let old = provider.token(&claims());
    let new = provider.sign(&json!({"alg": "EdDSA", "kid": "new"}), &claims());
    assert!(jwts.authenticate(&old).await.is_ok());
    provider.publish(&[provider.ed_key("new")]);
    // Asked a moment ago: a client that sends unknown keys cannot make the provider busy.
    refused(&jwts, &new).await;
    tokio::time::advance(REFRESH_INTERVAL_MIN).await;
    assert!(jwts.authenticate(&new).await.is_ok());
    refused(&jwts, &old).await;
    // What cannot be read changes nothing.
    std::fs::write(provider.path(), "{}").unwrap();
    jwts.refresh().await;
    assert!(jwts.is_failing.load(Ordering::Relaxed));
    assert!(jwts.authenticate(&new).await.is_ok());
}

#[test]
fn a_set_without_a_usable_key_is_refused() {
    for (set, why) in [
        ("", "not a JSON Web Key Set"),
        ("{}", "not a JSON Web Key Set"),
        (r#"{"keys": []}"#, "there is no key for signatures"),
        (r#"{"keys": [{"kty": "oct", "kid": "a", "k": "c2VjcmV0"}]}"#, "there is no key"),
    ] {
        let said = PublicKeys::parse(set.as_bytes()).unwrap_err();
        assert!(said.contains(why), "{said}");
    }
    let many = vec![json!({"kty": "RSA", "kid": "rsa", "n": RSA_N, "e": "AQAB"}); 101];
    let said = PublicKeys::parse(json!({"keys": many}).to_string().as_bytes()).unwrap_err();
    assert!(said.contains("at most 100"), "{said}");
}
