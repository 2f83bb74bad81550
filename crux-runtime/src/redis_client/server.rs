//! One server, and the connection to it: made when it is first needed, and again when it was lost.
//! Concurrent commands share it, and commands of one call are pipelined.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::io::tcp::TcpSettings;
use redis::{
    AsyncConnectionConfig, Cmd, ConnectionInfo, ErrorKind, Pipeline, RedisError, RedisResult, Value,
};
use tokio::sync::watch;
use tokio::time::Instant;

/// After a failed attempt to connect, the next one is made so much later at the earliest; who asks
/// before gets the same error.
const RECONNECT_DELAY: Duration = Duration::from_millis(50);

/// The numbers of connections: no two of a process have the same.
static CONNECTIONS: AtomicU64 = AtomicU64::new(1);

/// See the module.
pub(super) struct Server {
    /// `host:port`.
    pub(super) place: String,
    info: ConnectionInfo,
    /// How long an answer may take.
    timeout: Duration,
    live: Mutex<Option<Live>>,
    /// Held while connecting: when the last attempt failed, and why.
    connecting: tokio::sync::Mutex<Option<(Instant, RedisError)>>,
}

/// A connection that works as far as is known.
#[derive(Clone)]
struct Live {
    number: u64,
    connection: MultiplexedConnection,
    /// Whether answers are still worth waiting for.
    abandoned: Arc<watch::Sender<bool>>,
}

/// How it went with commands that were sent together.
pub(super) enum Exchange {
    /// An answer of the server for each.
    Answered(Vec<RedisResult<Value>>),
    /// There was no connection: nothing was sent.
    NotSent(RedisError),
    /// It is not known whether they were done.
    Unknown(RedisError),
}

impl Server {
    pub(super) fn new(place: String, info: ConnectionInfo, timeout: Duration) -> Self {
        Self {
            place,
            info,
            timeout,
            live: Mutex::default(),
            connecting: tokio::sync::Mutex::default(),
        }
    }

    /// Sends these together. `asking`: the server has only a part of the slot, and answers about
    /// that part.
    pub(super) async fn exchange(&self, commands: &[&Cmd], asking: bool) -> Exchange {
        let mut live = match self.live().await {
            Ok(live) => live,
            Err(error) => return Exchange::NotSent(error),
        };
        let mut abandoned = live.abandoned.subscribe();
        let answers = tokio::select! {
            answers = send(&mut live.connection, commands, asking) => answers,
            // An error: nobody can say it any more, which is the same.
            _ = abandoned.wait_for(|abandoned| *abandoned) => {
                Err(RedisError::from((ErrorKind::Io, "another server has taken its place")))
            }
        };
        match answers {
            Ok(answers) => Exchange::Answered(answers),
            Err(error) => {
                // Also after a timeout: a connection that the network has forgotten would never
                // answer again.
                if error.is_io_error() || error.is_unrecoverable_error() {
                    self.forget(live.number);
                }
                Exchange::Unknown(error)
            }
        }
    }

    /// The number of the connection that would be used now; `None`: there is none.
    pub(super) async fn connection(&self) -> Option<u64> {
        self.live().await.ok().map(|live| live.number)
    }

    /// The connection is lost: everything that waits for an answer fails.
    pub(super) fn abandon(&self) {
        if let Some(live) = self.lock().take() {
            live.abandoned.send_replace(true);
        }
    }

    async fn live(&self) -> RedisResult<Live> {
        if let Some(live) = self.lock().clone() {
            return Ok(live);
        }
        let asked = Instant::now();
        let mut failed = self.connecting.lock().await;
        if let Some(live) = self.lock().clone() {
            return Ok(live);
        }
        if let Some((at, error)) = &*failed
            && (*at >= asked || at.elapsed() < RECONNECT_DELAY)
        {
            return Err(error.clone());
        }
        match connect(&self.info, self.timeout).await {
            Ok(connection) => {
                let number = CONNECTIONS.fetch_add(1, Ordering::Relaxed);
                let live =
                    Live { number, connection, abandoned: Arc::new(watch::Sender::new(false)) };
                *self.lock() = Some(live.clone());
                Ok(live)
            }
            Err(error) => {
                *failed = Some((Instant::now(), error.clone()));
                Err(error)
            }
        }
    }

    fn forget(&self, number: u64) {
        let mut live = self.lock();
        if live.as_ref().is_some_and(|live| live.number == number) {
            *live = None;
        }
    }

    fn lock(&self) -> MutexGuard<'_, Option<Live>> {
        // Nothing panics under the lock.
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn connect(info: &ConnectionInfo, timeout: Duration) -> RedisResult<MultiplexedConnection> {
    let client = redis::Client::open(info.clone().set_tcp_settings(tcp()))?;
    let config = AsyncConnectionConfig::new()
        .set_connection_timeout(Some(timeout))
        .set_response_timeout(Some(timeout));
    client.get_multiplexed_async_connection_with_config(&config).await
}

async fn send(
    connection: &mut MultiplexedConnection,
    commands: &[&Cmd],
    asking: bool,
) -> RedisResult<Vec<RedisResult<Value>>> {
    if let ([command], false) = (commands, asking) {
        return match connection.send_packed_command(command).await {
            Ok(value) => Ok(vec![value.extract_error()]),
            Err(error) if error.is_io_error() || error.is_unrecoverable_error() => Err(error),
            Err(error) => Ok(vec![Err(error)]),
        };
    }
    let mut pipeline = Pipeline::with_capacity(commands.len() + usize::from(asking));
    // It counts for the next command of the connection only, between which and it there must be
    // nobody else's.
    let before = usize::from(asking);
    if asking {
        pipeline.cmd("ASKING");
    }
    for command in commands {
        pipeline.add_command((*command).clone());
    }
    let values = connection.send_packed_commands(&pipeline, before, commands.len()).await?;
    if values.len() != commands.len() {
        return Err(RedisError::from((ErrorKind::Io, "answers are missing")));
    }
    Ok(values.into_iter().map(Value::extract_error).collect())
}

/// Small packets immediately; a peer that vanishes is noticed.
pub(crate) fn tcp() -> TcpSettings {
    let settings = TcpSettings::default().set_nodelay(true);
    #[cfg(target_os = "linux")]
    let settings = settings.set_user_timeout(Duration::from_secs(10));
    settings
}
