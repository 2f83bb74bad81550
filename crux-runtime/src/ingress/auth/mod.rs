//! The authenticator: from what a request carries to who sent it. The only part that reads
//! credentials; what it gives out, a [`Permissions`], has none.

pub(crate) mod credential;
mod jwt;
pub(crate) mod key;
mod limit;

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use prometheus_client::metrics::counter::Counter;
use serde::Deserialize;
use subtle::{ConditionallySelectable, ConstantTimeEq};
use tokio::sync::watch;
use tokio::time::Instant;

use self::jwt::Jwts;
use self::key::{ApiKey, Digest, Malformed};
use self::limit::FailureLimit;
use super::caller::{Caller, Grant, Permissions, RoleSet, Standing};
use super::problem::{Kind, Problem};
use crate::config::{self, Auth, KEYS_MAX, KeyHash};
use crate::token::{Granted, Refusal, TokenSigner};

/// See the module's text.
pub(crate) struct Authenticator {
    /// `None`: the server does not ask. Exchanged as a whole when the configuration is read again.
    current: RwLock<Option<Arc<Credentials>>>,
    failed: FailureLimit,
    failures: Counter,
    /// Counts how often the configuration was read again.
    changes: watch::Sender<u64>,
}

/// What is taken.
pub(crate) struct Credentials {
    clients: HashMap<String, Client>,
    jwts: Option<Jwts>,
    tokens: Arc<TokenSigner>,
    anonymous: Arc<Permissions>,
}

struct Client {
    /// As many for every client, so that no answer takes longer than another; those that are not
    /// there are the digest of nothing that anyone could send.
    keys: [Digest; KEYS_MAX],
    /// Who shows which of them.
    permissions: Vec<Arc<Permissions>>,
    /// In seconds since 1970; 0: never.
    last_used_s: AtomicU64,
}

/// A credential inside a message. Only the authenticator reads it.
#[derive(Deserialize)]
#[serde(transparent)]
pub(crate) struct Credential(String);

impl Credential {
    /// Of a field that is empty without one.
    pub(crate) fn of_field(text: String) -> Option<Self> {
        Some(text).filter(|text| !text.is_empty()).map(Self)
    }
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Credential(***)")
    }
}

impl Credentials {
    /// Reads the secrets, and the keys of an identity provider for the first time.
    pub(crate) async fn open(auth: &Auth) -> Result<Self, config::Problem> {
        let tokens = auth.tokens.signer()?;
        Self::with(auth, Arc::new(tokens)).await
    }

    async fn with(auth: &Auth, tokens: Arc<TokenSigner>) -> Result<Self, config::Problem> {
        let client =
            |(id, client): (&String, &config::Client)| (id.clone(), Client::new(id, client));
        let reserved = auth.clients.keys().cloned().collect();
        let jwts = auth.jwt.as_ref().map(|jwt| Jwts::new(jwt, reserved));
        if let Some(jwts) = &jwts {
            jwts.open().await.map_err(|why| config::Problem::new("auth.jwt", why))?;
        }
        let anonymous = Permissions {
            grant: if auth.anonymous.is_empty() { Grant::Nothing } else { Grant::FollowAny },
            ..Permissions::default()
        };
        Ok(Self {
            clients: auth.clients.iter().map(client).collect(),
            jwts,
            tokens,
            anonymous: Arc::new(anonymous),
        })
    }

    pub(crate) fn tokens(&self) -> &Arc<TokenSigner> {
        &self.tokens
    }

    async fn authenticate(&self, credential: &str) -> Result<Arc<Permissions>, Problem> {
        if TokenSigner::is_token(credential) {
            return self.by_token(credential);
        }
        if let Some(jwts) = &self.jwts
            && Jwts::is_token(credential)
            // Ids of clients may have points.
            && !ApiKey::is_key(credential)
        {
            return jwts.authenticate(credential).await;
        }
        let key = ApiKey::parse(credential).map_err(|malformed| {
            refused(match malformed {
                Malformed::Form => {
                    "the credential is not a key or token of this server: keys begin with `crux_`"
                }
                Malformed::Checksum => {
                    "the key is damaged, its checksum does not match: send all of it, as it was given"
                }
            })
        })?;
        let permissions = self.by_key(key.client_id, &key.digest).ok_or_else(|| {
            // Not whether there is such a client.
            refused("no client has this key: it may have been replaced, ask who runs the server")
        })?;
        if let Some(client) = self.clients.get(key.client_id) {
            client.last_used_s.store(now_s(), Ordering::Relaxed);
        }
        Ok(permissions)
    }

    /// Takes as long whether the client is there or not, and whether the key is one of its keys.
    fn by_key(&self, client_id: &str, digest: &Digest) -> Option<Arc<Permissions>> {
        let client = self.clients.get(client_id);
        let keys = client.map_or(&[[0; 32]; KEYS_MAX], |client| &client.keys);
        let mut found = u32::MAX;
        for (n, key) in (0..).zip(keys) {
            found.conditional_assign(&n, key.ct_eq(digest));
        }
        let client = client?;
        let permissions = client.permissions.get(usize::try_from(found).ok()?)?;
        Some(permissions.clone())
    }

    /// Whether who had this credential may still do the same with it.
    fn is_still(&self, permissions: &Permissions) -> bool {
        match (&permissions.key, permissions.standing) {
            (Some(KeyHash(digest)), _) => self
                .by_key(&permissions.client_id, digest)
                .is_some_and(|now| now.may_do_as(permissions)),
            (None, Standing::Anonymous) => self.anonymous.may_do_as(permissions),
            // Tokens count until they expire.
            (None, Standing::Trusted | Standing::Authenticated) => true,
        }
    }

    fn by_token(&self, token: &str) -> Result<Arc<Permissions>, Problem> {
        let now_s = now_s();
        let (grant, expires_at) = match self.tokens.read(token, now_s) {
            Ok(Granted::Follow { instance, expires_s }) => {
                let left = Duration::from_secs(expires_s.saturating_sub(now_s));
                (Grant::Follow(instance), Instant::now().checked_add(left))
            }
            Ok(Granted::Report { instance, step, attempt }) => {
                (Grant::Report { instance, step, attempt }, None)
            }
            Err(Refusal::Expired) => {
                return Err(refused("the token has expired: start again, or follow with a key"));
            }
            Err(Refusal::Invalid) => {
                return Err(refused(
                    "the token is not of this server: it is damaged, or signed with another `auth.tokens.secret`",
                ));
            }
        };
        let standing = Standing::Authenticated;
        Ok(Arc::new(Permissions { standing, grant, expires_at, ..Permissions::default() }))
    }
}

impl Authenticator {
    pub(crate) fn new(credentials: Option<Credentials>, failures: Counter) -> Self {
        let current = RwLock::new(credentials.map(Arc::new));
        let changes = watch::Sender::new(0);
        Self { current, failed: FailureLimit::default(), failures, changes }
    }

    /// Whether callers have to prove who they are.
    pub(crate) fn is_required(&self) -> bool {
        self.current().is_some()
    }

    fn current(&self) -> Option<Arc<Credentials>> {
        self.current.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Takes what the configuration says now. Whether callers are asked at all cannot change: the
    /// address that the server listens on depends on it.
    pub(crate) async fn reload(&self, auth: Option<&Auth>) -> Result<(), config::Problem> {
        match (self.current(), auth) {
            (None, None) => Ok(()),
            (Some(former), Some(auth)) => {
                // The engine signs with it.
                let credentials = Credentials::with(auth, former.tokens.clone()).await?;
                for (id, client) in &credentials.clients {
                    if let Some(former) = former.clients.get(id) {
                        let at = former.last_used_s.load(Ordering::Relaxed);
                        client.last_used_s.store(at, Ordering::Relaxed);
                    }
                }
                *self.current.write().unwrap_or_else(PoisonError::into_inner) =
                    Some(Arc::new(credentials));
                self.changes.send_modify(|changes| *changes += 1);
                Ok(())
            }
            _ => Err(config::Problem::new(
                "auth",
                "whether callers are asked who they are cannot change while the server runs: start it again",
            )),
        }
    }

    /// Ends when a connection of the caller has to end: its credential has expired, or the
    /// configuration, read again, says something else of it.
    pub(crate) async fn lapsed(&self, caller: &Caller) {
        let mut changes = self.changes.subscribe();
        let expired = async {
            match caller.expires_at() {
                Some(at) => tokio::time::sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        let changed = async {
            while self.current().is_none_or(|current| current.is_still(caller.permissions())) {
                if changes.changed().await.is_err() {
                    std::future::pending::<()>().await;
                }
            }
        };
        tokio::select! {
            () = expired => {}
            () = changed => {}
        }
    }

    /// When each client with a key was here last, in seconds since 1970; 0: not since the server
    /// started. `None`: nobody is asked.
    pub(crate) fn last_used(&self) -> Option<BTreeMap<String, u64>> {
        let current = self.current()?;
        let clients = current.clients.iter();
        Some(
            clients
                .map(|(id, one)| (id.clone(), one.last_used_s.load(Ordering::Relaxed)))
                .collect(),
        )
    }

    /// Reads the keys of the identity provider again and again.
    pub(crate) async fn keep_fresh(&self) {
        loop {
            tokio::time::sleep(jwt::REFRESH_INTERVAL).await;
            if let Some(current) = self.current()
                && let Some(jwts) = &current.jwts
            {
                jwts.refresh().await;
            }
        }
    }

    /// Who sent a request with this credential from that address.
    pub(crate) async fn authenticate(
        &self,
        credential: Option<&str>,
        address: Option<IpAddr>,
    ) -> Result<Arc<Permissions>, Problem> {
        let Some(current) = self.current() else { return Ok(Permissions::trusted()) };
        let Some(credential) = credential else { return Ok(current.anonymous.clone()) };
        let authenticated = current.authenticate(credential).await;
        authenticated.map_err(|problem| self.failed(problem, credential, address))
    }

    /// Counts a credential that was refused.
    fn failed(&self, problem: Problem, credential: &str, address: Option<IpAddr>) -> Problem {
        self.failures.inc();
        let client_id = ApiKey::parse(credential).ok();
        let client_id = client_id.as_ref().map(|key| key.client_id);
        match self.failed.count(address, client_id) {
            None => problem,
            Some(wait) => {
                let seconds = u32::try_from(wait.as_secs()).unwrap_or(u32::MAX).max(1);
                let text = "too many wrong credentials have come from this address, or for this client: a right one is taken at any time";
                let problem = Problem::new(Kind::TooManyAttempts, text);
                Problem { retry_after_s: Some(seconds), ..problem }
            }
        }
    }

    /// A request whose credential cannot even be read.
    pub(crate) fn refuse(&self, problem: Problem, address: Option<IpAddr>) -> Problem {
        self.failed(problem, "", address)
    }

    /// Who sends the messages of a connection from `auth` on.
    pub(crate) async fn of_message(
        &self,
        text: &str,
        address: Option<IpAddr>,
    ) -> Result<Option<Arc<Permissions>>, Problem> {
        /// Others have other fields, which are not read.
        #[derive(Deserialize)]
        struct Message {
            token: Option<Credential>,
        }
        if !self.is_required() {
            return Ok(None);
        }
        // The error would quote the credential.
        let message = serde_json::from_str::<Message>(text).map_err(|_| {
            Problem::new(Kind::InvalidRequest, "`token` is a string: the key or token").at("token")
        })?;
        let Some(Credential(token)) = message.token else { return Ok(None) };
        self.authenticate(Some(&token), address).await.map(Some)
    }

    /// Who sends a report with that token of its task, which counts instead of what the sender is
    /// otherwise.
    pub(crate) async fn of_report(
        &self,
        caller: &Caller,
        token: Option<Credential>,
    ) -> Result<Caller, Problem> {
        match token {
            Some(Credential(token)) if self.is_required() => {
                let permissions = self.authenticate(Some(&token), caller.address).await?;
                Ok(caller.turned_into(permissions))
            }
            _ => Ok(caller.clone()),
        }
    }
}

impl Client {
    fn new(id: &str, client: &config::Client) -> Self {
        let mut keys = [[0; 32]; KEYS_MAX];
        for (slot, hash) in keys.iter_mut().zip(client.hashes()) {
            *slot = hash.0;
        }
        let permissions = |hash: &KeyHash| Permissions {
            client_id: id.to_owned().into(),
            standing: Standing::Authenticated,
            roles: RoleSet::of(&client.roles),
            scope: client.scope.clone(),
            key: Some(hash.clone()),
            ..Permissions::default()
        };
        let permissions = client.hashes().map(|hash| Arc::new(permissions(hash))).collect();
        Self { keys, permissions, last_used_s: AtomicU64::new(0) }
    }
}

/// 401.
fn refused(text: &str) -> Problem {
    Problem::new(Kind::Unauthenticated, text)
}

/// Since 1970.
fn now_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

#[cfg(test)]
mod tests {
    use super::super::caller::Role;
    use super::*;
    use crate::id::InstanceId;
    use crate::machine::Time;

    async fn authenticator(yaml: &str) -> Authenticator {
        let auth: Auth = serde_saphyr::from_str(yaml).unwrap();
        let credentials = Credentials::open(&auth).await.unwrap();
        Authenticator::new(Some(credentials), Counter::default())
    }

    fn hash(key: &str) -> String {
        key::hex(&key::digest(key))
    }

    #[tokio::test]
    async fn a_key_is_who_it_belongs_to_and_nothing_else_is_anybody() {
        let (old, new) = (key::generate("shop").unwrap(), key::generate("shop").unwrap());
        let other = key::generate("a.b.c").unwrap();
        let yaml = format!(
            "clients: {{ shop: {{ keys: ['{}', '{}'], roles: [start] }}, a.b.c: {{ key_sha256: '{}', roles: [read] }} }}",
            hash(&old),
            hash(&new),
            hash(&other),
        );
        let authenticator = authenticator(&yaml).await;
        for key in [&old, &new] {
            let permissions = authenticator.authenticate(Some(key), None).await.unwrap();
            assert_eq!(
                (&*permissions.client_id, permissions.roles),
                ("shop", RoleSet::of(&[Role::Start]))
            );
        }
        assert_eq!(
            &*authenticator.authenticate(Some(&other), None).await.unwrap().client_id,
            "a.b.c"
        );
        let anonymous = authenticator.authenticate(None, None).await.unwrap();
        assert_eq!(
            (anonymous.standing, anonymous.roles),
            (Standing::Anonymous, RoleSet::default())
        );
        // A right key under another's id has another digest, and no checksum.
        let foreign = new.replacen("shop", "a.b.c", 1);
        let (unknown, nobody) = (key::generate("shop").unwrap(), key::generate("nobody").unwrap());
        for wrong in [&*unknown, &nobody, &foreign, "xyz", "a.b.c", "cruxf_00_00"] {
            let problem = authenticator.authenticate(Some(wrong), None).await.unwrap_err();
            assert_eq!(problem.kind, Kind::Unauthenticated, "{wrong}");
            assert!(!problem.detail.contains(wrong), "{}", problem.detail);
        }
        assert_eq!(authenticator.failures.get(), 6);
    }

    #[tokio::test]
    async fn without_the_section_everybody_is_trusted() {
        let authenticator = Authenticator::new(None, Counter::default());
        assert!(!authenticator.is_required());
        let anybody = authenticator.authenticate(Some("anything"), None).await.unwrap();
        assert_eq!(anybody.standing, Standing::Trusted);
    }

    const TOKENS: &str = "tokens: { secret: 0123456789abcdef0123456789abcdef }";

    #[tokio::test]
    async fn a_token_of_the_server_grants_what_it_says() {
        let key = key::generate("shop").unwrap();
        let yaml = format!(
            "clients: {{ shop: {{ key_sha256: '{}', roles: [read] }} }}\n{TOKENS}",
            hash(&key)
        );
        let authenticator = authenticator(&yaml).await;
        let instance = InstanceId::new(Time(1), [0; 10], None);
        let signer = authenticator.current().unwrap().tokens().clone();
        let grant = async |token: String| {
            authenticator
                .authenticate(Some(&token), None)
                .await
                .map(|permissions| permissions.grant)
        };
        let later = now_s() + 60;
        assert_eq!(grant(signer.follow(instance, later)).await.unwrap(), Grant::Follow(instance));
        let step = instance.step("pay");
        let report = Grant::Report { instance, step, attempt: 1 };
        assert_eq!(grant(signer.report(instance, step, 1)).await.unwrap(), report);
        let expired = grant(signer.follow(instance, now_s())).await.unwrap_err();
        assert!(expired.detail.contains("expired"), "{}", expired.detail);
        let foreign = TokenSigner::new(b"another secret").follow(instance, later);
        assert_eq!(grant(foreign).await.unwrap_err().kind, Kind::Unauthenticated);
    }

    #[tokio::test]
    async fn keys_are_exchanged_and_tokens_stay_when_the_configuration_is_read_again() {
        let (old, new) = (key::generate("shop").unwrap(), key::generate("shop").unwrap());
        let yaml = |key: &str| {
            format!("clients: {{ shop: {{ key_sha256: '{}', roles: [read] }} }}", hash(key))
        };
        let authenticator = authenticator(&yaml(&old)).await;
        let instance = InstanceId::new(Time(1), [0; 10], None);
        let token = authenticator.current().unwrap().tokens().follow(instance, u64::MAX);
        let auth: Auth = serde_saphyr::from_str(&yaml(&new)).unwrap();
        let caller = async |key: &str| {
            let permissions = authenticator.authenticate(Some(key), None).await.unwrap();
            Caller::new(permissions, String::new(), String::new())
        };
        let (by_key, by_token) = (caller(&old).await, caller(&token).await);
        let lapsed = async |caller| {
            let lapsed = authenticator.lapsed(caller);
            tokio::time::timeout(std::time::Duration::from_millis(20), lapsed).await.is_ok()
        };
        assert!(!lapsed(&by_key).await && !lapsed(&by_token).await);
        authenticator.reload(Some(&auth)).await.unwrap();
        assert!(lapsed(&by_key).await && !lapsed(&by_token).await);
        assert!(!lapsed(&caller(&new).await).await);
        assert!(authenticator.last_used().unwrap()["shop"] > 0);
        assert!(authenticator.authenticate(Some(&old), None).await.is_err());
        assert!(authenticator.authenticate(Some(&new), None).await.is_ok());
        assert!(authenticator.authenticate(Some(&token), None).await.is_ok());
        assert!(authenticator.reload(None).await.is_err());
        assert!(authenticator.authenticate(Some(&new), None).await.is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn who_tries_keys_has_to_wait_and_a_right_key_comes_in() {
        let key = key::generate("shop").unwrap();
        let yaml =
            format!("clients: {{ shop: {{ key_sha256: '{}', roles: [read] }} }}", hash(&key));
        let authenticator = authenticator(&yaml).await;
        let wrong = key::generate("shop").unwrap();
        let address = "10.0.0.1".parse().ok();
        let mut kinds = Vec::new();
        for _ in 0..12 {
            let problem = authenticator.authenticate(Some(&wrong), address).await.unwrap_err();
            assert_eq!(problem.retry_after_s.is_some(), problem.kind == Kind::TooManyAttempts);
            kinds.push(problem.kind);
        }
        assert_eq!(
            kinds[9..],
            [Kind::Unauthenticated, Kind::TooManyAttempts, Kind::TooManyAttempts]
        );
        assert!(authenticator.authenticate(Some(&key), address).await.is_ok());
    }
}
