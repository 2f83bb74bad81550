//! The server: assembles the parts and shuts them down in order. Everything that can be wrong with
//! the environment (port, file, services, settings) is an error before the first request is
//! accepted.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::watch;
use tracing::{info, warn};

use crate::app::App;
use crate::bus::broker::Broker;
use crate::bus::event_source::{EventSource, EventSources};
use crate::bus::http::{self as push, Local};
use crate::bus::rabbitmq;
use crate::bus::redis_streams as streams;
use crate::bus::routing_keys::class_types;
use crate::bus::{Bus, MessageHandler};
use crate::config::{self, BusKind, Config, StoreKind};
use crate::engine::{self, Engine};
use crate::executor;
use crate::executor::Executor;
use crate::ingress::auth::{Authenticator, Credentials};
use crate::ingress::broker::BrokerIngress;
use crate::ingress::listen;
use crate::ingress::metrics::Metrics;
use crate::ingress::service::{FollowTokens, Service, ServiceOptions};
use crate::ingress::{Ingress, Settings, routes};
use crate::live::Hub;
use crate::machine::{Kind, Runs, Time};
use crate::open_files;
use crate::signals::{Hangups, Signals};
use crate::source::{Source, System};
use crate::store::memory::{Memory, NoFaults};
use crate::store::peers::{HostedDefinition, NodeInfo};
use crate::store::redis::{self, Redis};
use crate::store::sqlite::{self, Sqlite};
use crate::store::{self, Store};
use crate::suggest::hint;
use crate::supervise;
use crate::token::TokenSigner;

/// Bounds of how often a worker or this node says that it lives.
const HEARTBEAT_INTERVAL_MIN: Duration = Duration::from_millis(10);
const HEARTBEAT_INTERVAL_MAX: Duration = Duration::from_secs(5);
/// Extra time for closing connections after the shutdown timeout.
const SHUTDOWN_GRACE: Duration = Duration::from_secs(2);

/// Why the server does not start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("server.host: `{host}` is not an address of this machine: {error}")]
    Address { host: String, error: std::io::Error },
    #[error(
        "port {port} of {host} is in use: stop what listens there, or choose another with --port or `server.port` (0 takes one that is free)"
    )]
    PortInUse { host: String, port: u16 },
    #[error("cannot listen on {host}:{port}: {error}")]
    Listen { host: String, port: u16, error: std::io::Error },
    #[error(transparent)]
    Store(#[from] store::Error),
    #[error(
        "store.path: the folder {folder} does not exist: create it (`mkdir -p {folder}`), or correct the path `{path}`",
        folder = folder.display(), path = path.display()
    )]
    StoreFolder { folder: PathBuf, path: PathBuf },
    #[error(transparent)]
    Workers(#[from] executor::Error),
    #[error(transparent)]
    Services(#[from] push::Error),
    #[error(transparent)]
    Broker(#[from] rabbitmq::Problem),
    #[error(transparent)]
    Streams(#[from] streams::Problem),
    #[error("{0}")]
    Name(String),
    #[error("{key}: {text}")]
    Auth { key: String, text: String },
    #[error(transparent)]
    Engine(#[from] engine::OpenError),
    #[error(
        "the clock of this machine is before 1970: set it, then start again; times in the store would stay wrong"
    )]
    Clock,
    #[error("cannot install signal handlers: {0}")]
    Signals(std::io::Error),
}

/// A server that listens and does not yet answer.
pub struct Server {
    listener: TcpListener,
    address: SocketAddr,
    engine: Engine,
    sources: EventSources,
    ingress: Arc<Ingress>,
    stop: watch::Sender<bool>,
    limits: listen::Limits,
    /// How long a shutdown may take.
    limit: Duration,
    /// How the configuration is read once more; `None`: it is not.
    reload: Option<Reload>,
}

type Reload = Box<dyn Fn() -> Result<Config, config::Error> + Send + Sync>;

impl From<config::Problem> for Error {
    fn from(config::Problem { key, text }: config::Problem) -> Self {
        Self::Auth { key, text }
    }
}

impl Server {
    /// Puts everything together: port, store, workers, services, engine.
    pub async fn open(app: App, config: &Config) -> Result<Self, Error> {
        if !crate::clock::is_set() {
            return Err(Error::Clock);
        }
        let app = Arc::new(app);
        let listener = bind(&config.server.host, config.server.port).await?;
        let address = listener
            .local_addr()
            .map_err(|error| Error::Address { host: config.server.host.clone(), error })?;
        let workers = Executor::of(&app.steps, &config.server.steps, &config.workers)?;
        let work: Vec<&'static str> =
            class_types(&app).into_iter().filter(|step_type| !workers.runs(step_type)).collect();
        check_scopes(&app, config)?;
        let credentials = match &config.auth {
            Some(auth) => Some(Credentials::open(auth).await?),
            None => None,
        };
        let signer = credentials.as_ref().map(|credentials| credentials.tokens().clone());
        let options = engine::Options { tokens: signer.clone(), ..engine_options(config) };
        let services = Arc::new(Local::new(&app, services(config), options.max_result_bytes)?);
        let Transports { bus, broker, sources } =
            open_transports(&app, config, &services, &work).await?;
        if bus.worker_registry().is_none() {
            mention_steps_of_workers(&app, &work);
        }
        let store = open_store(config, about(&app, address)).await?;
        let engine = Engine::open(app, store, bus, workers, Hub::default(), options).await?;
        let (stop, stopping) = watch::channel(false);
        let metrics = Arc::new(Metrics::default());
        let failures = metrics.authentication_failures();
        let authenticator = Arc::new(Authenticator::new(credentials, failures));
        let service = Arc::new(Service::new(
            engine.clone(),
            services,
            metrics.clone(),
            authenticator.clone(),
            service_options(engine.app(), config, signer),
            stopping,
        ));
        if let Some(broker) = broker {
            let name = engine::fresh_id(&System, Time(System.wall_ms()))
                .map_err(|error| Error::Name(error.to_string()))?;
            broker.start_self_probe(name, self_probe_interval(engine.app(), config));
        }
        let handler: Arc<dyn MessageHandler> =
            Arc::new(BrokerIngress::new(service.clone(), authenticator.clone()));
        sources.consume(&handler);
        if config.redis.is_some()
            && config.store.kind != StoreKind::Redis
            && config.bus != BusKind::Redis
        {
            warn!("`redis` is set, and neither `store.kind` nor `bus` is `redis`: it is not used");
        }
        if !config.server.is_loopback() {
            warn!(
                "this server is reached from other machines and does not speak TLS: keys and tokens can be read on the way; put a TLS proxy in front of it"
            );
        }
        let settings = settings(config);
        let ingress = Ingress { service, metrics, authenticator, settings };
        let bodies = usize::try_from(config.limits.max_buffered_bodies.0).unwrap_or(usize::MAX);
        let limits = listen::Limits {
            connections: open_files::admit(
                config.server.max_connections,
                config::Server::default().max_connections,
            ),
            bodies,
        };
        Ok(Self {
            listener,
            address,
            engine,
            sources,
            ingress: Arc::new(ingress),
            stop,
            limits,
            limit: config.server.shutdown.0,
            reload: None,
        })
    }

    /// On SIGHUP the configuration is read again, and its section `auth` counts from then on;
    /// connections stay.
    pub fn reloading(
        mut self,
        reload: impl Fn() -> Result<Config, config::Error> + Send + Sync + 'static,
    ) -> Self {
        self.reload = Some(Box::new(reload));
        self
    }

    /// Where it listens, with the port that was chosen.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves until the process receives SIGTERM or SIGINT (Ctrl-C), then shuts down: takes nothing
    /// new, lets running work finish, answers 503 meanwhile, and releases the rest for the
    /// next process. A second signal ends it immediately; nothing acknowledged is lost by that.
    pub async fn run(self) -> Result<(), Error> {
        let mut signals = Signals::new().map_err(Error::Signals)?;
        let Self { listener, address, engine, sources, ingress, stop, limits, limit, reload } =
            self;
        let package = engine.app().package;
        info!(%address, package = package.name, version = package.version, runtime = env!("CARGO_PKG_VERSION"), "ready");
        let authenticator = ingress.authenticator.clone();
        let refreshing = authenticator.clone();
        let reading = "reading keys of the identity provider";
        supervise::keep_running(reading, supervise::never, async move {
            refreshing.keep_fresh().await;
        });
        if let Some(reload) = reload {
            let mut hangups = Hangups::new().map_err(Error::Signals)?;
            let reading = "reading the configuration again";
            supervise::keep_running(reading, supervise::never, async move {
                loop {
                    hangups.next().await;
                    reread(&authenticator, &reload).await;
                }
            });
        }
        let router = routes::router(ingress);
        let (close, closing) = watch::channel(false);
        let stops = listen::Stops { stopping: stop.subscribe(), closing };
        let stopping = stop.subscribe();
        let listening = supervise::keep_running(
            "accepting connections",
            move || *stopping.borrow(),
            listen::listen(listener, router, limits, stops),
        );
        let signal = signals.next().await;
        info!(signal, limit_s = limit.as_secs(), "shutting down: nothing new is taken");
        // All receivers were notified, or are dropped.
        let _ = stop.send(true);
        let ending = async {
            engine.shutdown(limit).await;
            // Nothing can be answered any more.
            let _ = close.send(true);
            tokio::join!(sources.close(), engine.close_bus());
            // Answers to what was taken before go out before the process ends.
            let _ = listening.await;
        };
        tokio::select! {
            ended = tokio::time::timeout(limit + SHUTDOWN_GRACE, ending) => match ended {
                Ok(()) => info!("shutdown complete"),
                Err(_) => warn!("not everything ended in time; unfinished work resumes after restart"),
            },
            again = signals.next() => warn!(signal = again, "second signal received, exiting immediately; unfinished work resumes after restart"),
        }
        Ok(())
    }
}

/// What takes a broker's messages, for programs that put the parts together themselves.
pub fn broker_ingress(engine: Engine, services: Arc<Local>) -> Arc<dyn MessageHandler> {
    let metrics = Arc::new(Metrics::default());
    let (_, stopping) = watch::channel(false);
    let options = service_options(engine.app(), &Config::default(), None);
    let authenticator = Arc::new(Authenticator::new(None, metrics.authentication_failures()));
    let service = Service::new(engine, services, metrics, authenticator.clone(), options, stopping);
    Arc::new(BrokerIngress::new(Arc::new(service), authenticator))
}

async fn reread(authenticator: &Authenticator, reload: &Reload) {
    let result = match reload() {
        Ok(config) => {
            let reloaded = authenticator.reload(config.auth.as_ref()).await;
            reloaded.map_err(|config::Problem { key, text }| format!("{key}: {text}"))
        }
        Err(error) => Err(error.to_string()),
    };
    match result {
        Ok(()) => info!("SIGHUP: `auth` was read again and is in force"),
        Err(error) => {
            warn!(error, "SIGHUP: `auth` cannot be read again; what was in force stays");
        }
    }
}

/// A scope that names what is not there is a mistake: it would narrow to nothing.
fn check_scopes(app: &App, config: &Config) -> Result<(), Error> {
    let workflows: Vec<&str> = app.workflows.iter().map(|one| one.definition.workflow).collect();
    let step_types: Vec<&str> = app.contracts.iter().map(|one| one.step_type).collect();
    let events: Vec<&str> = app.events.iter().map(|one| one.name).collect();
    for (id, client) in config.auth.iter().flat_map(|auth| &auth.clients) {
        let scope = &client.scope;
        for (key, what, names, known) in [
            ("workflows", "workflow", &scope.workflows, &workflows),
            ("step_types", "step type", &scope.step_types, &step_types),
            ("events", "event", &scope.events, &events),
        ] {
            let mut names = names.iter().flatten();
            if let Some(name) = names.find(|name| !known.contains(&name.as_str())) {
                return Err(Error::Auth {
                    key: format!("auth.clients.{id}.scope.{key}"),
                    text: format!(
                        "there is no {what} `{name}`{}",
                        hint(name, known.iter().copied())
                    ),
                });
            }
        }
    }
    Ok(())
}

async fn bind(host: &str, port: u16) -> Result<TcpListener, Error> {
    TcpListener::bind((host, port)).await.map_err(|error| match error.kind() {
        std::io::ErrorKind::AddrInUse => Error::PortInUse { host: host.to_owned(), port },
        std::io::ErrorKind::AddrNotAvailable => Error::Address { host: host.to_owned(), error },
        _ => Error::Listen { host: host.to_owned(), port, error },
    })
}

async fn open_store(config: &Config, about: NodeInfo) -> Result<Arc<dyn Store>, Error> {
    match config.store.kind {
        StoreKind::Memory => Ok(Arc::new(Memory::new(Arc::new(NoFaults)))),
        StoreKind::Sqlite => {
            check_store_path(&config.store.path)?;
            let options = sqlite::Options {
                reserve_bytes: config.limits.min_free_disk.0,
                ..sqlite::Options::new(&config.store.path)
            };
            // Opening may have to read a log that a crash left behind.
            let opening = tokio::task::spawn_blocking(move || Sqlite::open(options)).await;
            let opened = opening.map_err(|error| {
                store::Error::Broken(format!("opening the store panicked: {error}"))
            })?;
            Ok(Arc::new(opened?))
        }
        StoreKind::Redis => Ok(Arc::new(Redis::open(redis_options(config, about)).await?)),
    }
}

/// A misspelt path must not look like a store without instances.
fn check_store_path(path: &Path) -> Result<(), Error> {
    if let Some(folder) =
        path.parent().filter(|folder| !folder.as_os_str().is_empty() && !folder.is_dir())
    {
        return Err(Error::StoreFolder { folder: folder.to_owned(), path: path.to_owned() });
    }
    if !path.exists() {
        let whole = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
        info!(path = %whole.display(), "no store here yet; creating an empty one");
    }
    Ok(())
}

/// What this node says of itself to others on its store.
fn about(app: &App, address: SocketAddr) -> NodeInfo {
    let hosted = |workflow: &crate::app::Workflow| HostedDefinition {
        workflow: workflow.definition.workflow.to_owned(),
        version: workflow.definition.version,
        hash: workflow.definition.hash.to_owned(),
    };
    NodeInfo {
        version: app.package.version.to_owned(),
        address: format!("http://{address}"),
        started_at: Time(System.wall_ms()).to_string(),
        definitions: app.workflows.iter().map(hosted).collect(),
        dependencies: Default::default(),
    }
}

fn redis_options(config: &Config, about: NodeInfo) -> redis::Options {
    let redis = config.redis.clone().unwrap_or_default();
    redis::Options {
        urls: redis.urls(),
        username: redis.username,
        password: redis.password,
        prefix: redis.prefix,
        timeout: redis.timeout.0,
        lease: redis.lease.0,
        about,
        require_durable: config.store.require_durable,
        wait_replicas: config.store.wait_replicas,
    }
}

/// The shortest time after which a worker of this app counts as silent.
fn shortest_heartbeat_timeout(app: &App, config: &Config) -> Duration {
    let tasks =
        app.workflows.iter().flat_map(|workflow| workflow.definition.nodes).filter_map(|node| {
            match &node.kind {
                Kind::Task(task) | Kind::Undo(task)
                    if matches!(task.contract.runs, Runs::Class(_)) =>
                {
                    task.policy.heartbeat_ms
                }
                _ => None,
            }
        });
    tasks
        .map(Duration::from_millis)
        .min()
        .unwrap_or(config.workers.heartbeat_timeout.0)
        .min(config.workers.heartbeat_timeout.0)
}

/// Self-probe interval. Must be short enough to detect a stalled broker before any worker's
/// heartbeat timeout expires.
fn self_probe_interval(app: &App, config: &Config) -> Duration {
    (shortest_heartbeat_timeout(app, config) / 4)
        .clamp(HEARTBEAT_INTERVAL_MIN, HEARTBEAT_INTERVAL_MAX)
}

/// How often an attached worker says that it lives: two may be late.
fn heartbeat_interval(app: &App, config: &Config) -> Duration {
    (shortest_heartbeat_timeout(app, config) / 3)
        .clamp(HEARTBEAT_INTERVAL_MIN, HEARTBEAT_INTERVAL_MAX)
}

/// Says which step structs that a workflow needs wait for a worker of another process.
fn mention_steps_of_workers(app: &App, left_out: &[&'static str]) {
    let nodes = app.workflows.iter().flat_map(|workflow| workflow.definition.nodes);
    let used: BTreeSet<&'static str> = nodes
        .filter_map(|node| match &node.kind {
            Kind::Task(task) | Kind::Undo(task) => Some(task.contract.step_type),
            _ => None,
        })
        .filter(|step_type| left_out.contains(step_type))
        .collect();
    if !used.is_empty() {
        let steps = used.into_iter().collect::<Vec<_>>().join(",");
        info!(
            steps,
            "these step types are left to workers: start `crux worker --connect` with this server's address"
        );
    }
}

/// The one task bus, and the sources of messages beside it.
struct Transports {
    bus: Arc<dyn Bus>,
    /// The bus once more, if it is one over a broker.
    broker: Option<Arc<Broker>>,
    sources: EventSources,
}

impl Transports {
    fn over(broker: Broker) -> Self {
        let broker = Arc::new(broker);
        let sources: Vec<Arc<dyn EventSource>> = vec![broker.clone()];
        Self { bus: broker.clone(), broker: Some(broker), sources: EventSources::new(sources) }
    }
}

async fn open_transports(
    app: &App,
    config: &Config,
    services: &Arc<Local>,
    work: &[&'static str],
) -> Result<Transports, Error> {
    if config.rabbitmq.is_some() && config.bus != BusKind::Rabbitmq {
        warn!("`rabbitmq` is set and not used: for tasks over RabbitMQ set `bus: rabbitmq` too");
    }
    match config.bus {
        BusKind::Local => {
            services.warn_of_unserved(app);
            let bus: Arc<dyn Bus> = services.clone();
            Ok(Transports { bus, broker: None, sources: EventSources::default() })
        }
        BusKind::Redis => {
            let options = config
                .redis
                .clone()
                .unwrap_or_default()
                .streams(config.store.kind != StoreKind::Redis);
            Ok(Transports::over(streams::open(app, options, services.clone(), work).await?))
        }
        BusKind::Rabbitmq => {
            let options = config.rabbitmq.clone().unwrap_or_default().options();
            Ok(Transports::over(rabbitmq::open(app, options, services.clone(), work).await?))
        }
    }
}

fn engine_options(config: &Config) -> engine::Options {
    let limits = &config.limits;
    let fit = |bytes: u64| usize::try_from(bytes).unwrap_or(usize::MAX);
    engine::Options {
        max_unsettled: fit(limits.max_unsettled_instances),
        min_free_bytes: limits.min_free_disk.0,
        max_result_bytes: fit(limits.max_result_size.0),
        max_journal_rows: limits.max_journal_events,
        max_journal_bytes: fit(limits.max_journal_size.0),
        keep_events_ms: u64::try_from(limits.event_retention.0.as_millis()).unwrap_or(u64::MAX),
        cached_instances: limits.max_cached_instances,
        heartbeat_timeout_ms: u64::try_from(config.workers.heartbeat_timeout.0.as_millis())
            .unwrap_or(u64::MAX),
        values: config.config.clone(),
        ..engine::Options::default()
    }
}

fn services(config: &Config) -> Vec<push::Service> {
    let served = config.services.iter().filter(|(_, service)| service.is_pushed_to());
    let service = |(name, service): (&String, &crate::config::Service)| push::Service {
        name: name.clone(),
        url: service.address().unwrap_or_default(),
        steps: service.steps.clone(),
        subscribe: service.subscribe.clone(),
        concurrency: service.concurrency.unwrap_or(push::DEFAULT_CONCURRENCY),
        statuses: service.statuses(),
    };
    served.map(service).collect()
}

fn service_options(app: &App, config: &Config, signer: Option<Arc<TokenSigner>>) -> ServiceOptions {
    let lifetime = config.auth.as_ref().map(|auth| auth.tokens.follow_lifetime.0);
    ServiceOptions {
        environment: config.server.environment.clone(),
        max_wait: config.server.max_wait.0,
        tokens: signer.zip(lifetime).map(|(signer, lifetime)| FollowTokens { signer, lifetime }),
        heartbeat_interval: heartbeat_interval(app, config),
    }
}

fn settings(config: &Config) -> Settings {
    Settings {
        hosts: config.server.hosts.iter().map(|host| host.to_ascii_lowercase()).collect(),
        origins: config.server.origins.clone(),
        proxies: config.server.behind_proxy.clone(),
        max_body_bytes: usize::try_from(config.limits.max_body_size.0).unwrap_or(usize::MAX),
    }
}
