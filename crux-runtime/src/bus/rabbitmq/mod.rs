//! The bus over RabbitMQ: tasks, hooks and emitted events leave by a topic exchange, results and events come in by queues.
//!
//! [`publisher`] owns the channel on which everything leaves and keeps what the broker has not confirmed; [`returns`] tells arrivals from
//! returns; [`consumer`] takes what comes in and acknowledges it when it is durable ([`acks`]). [`topology`] is what is declared,
//! [`connection`] how a connection is made and lost, [`state`] what others see of it all.

mod acks;
pub(crate) mod connection;
mod consumer;
mod letter;
mod publisher;
mod returns;
mod state;
pub mod topology;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;

pub use connection::Problem;
pub use topology::Topology;

use self::consumer::Consumer;
use self::letter::{Done, Post};
use self::publisher::Publisher;
use self::state::{Link, State};
use super::local::Local;
use super::{Bus, Door, Figure, Message, Published};
use crate::app::App;
use crate::machine::Runs;
use crate::worker::lane::Job;
use crate::worker::task::{Report, Task};

/// How long the start waits for the broker before it goes on without.
const FIRST_TRY: Duration = Duration::from_secs(2);

/// What can be set.
#[derive(Debug, Clone)]
pub struct Options {
    /// `amqp://user:password@host:port/vhost`.
    pub url: String,
    /// The topic exchange by which everything leaves.
    pub exchange: String,
    /// The names of the queues that Crux consumes begin with it.
    pub prefix: String,
    /// How often a message is published again that a queue did not take, before the instance shows it.
    pub max_retries: u32,
    /// Before the first of these; it doubles, up to a minute.
    pub retry_delay: Duration,
    /// Messages published and not confirmed, at most.
    pub window: usize,
    /// Messages that wait to be published, at most.
    pub queue: usize,
    /// Deliveries taken and not acknowledged, at most, of each queue.
    pub prefetch: u16,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            url: "amqp://guest:guest@localhost:5672/".to_owned(),
            exchange: "workflow_exchange".to_owned(),
            prefix: "crux".to_owned(),
            max_retries: 3,
            retry_delay: Duration::from_secs(5),
            window: 1024,
            queue: 8192,
            prefetch: 512,
        }
    }
}

/// See the module's text.
pub struct RabbitMq {
    options: Arc<Options>,
    topology: Arc<Topology>,
    state: Arc<State>,
    post: mpsc::Sender<Post>,
    /// Services that are attached by HTTP get their tasks so.
    pushed: Arc<Local>,
    stop: watch::Sender<bool>,
    tasks: Mutex<Vec<JoinHandle<()>>>,
}

impl RabbitMq {
    /// Begins to publish, on the tokio runtime of the caller. A broker that is not there is no error: what is to be published waits for
    /// it. The error: what is declared there contradicts what is declared here.
    pub async fn open(app: &App, options: Options, pushed: Arc<Local>) -> Result<Self, Problem> {
        let (options, topology) = (Arc::new(options.clone()), Arc::new(Topology::new(app, &options)));
        let keys = app.contracts.iter().filter_map(|contract| match contract.runs {
            Runs::Service { routing_key } => Some(routing_key),
            Runs::Class(_) => None,
        });
        let state = Arc::new(State::new(keys.collect()));
        let (stop, stopping) = watch::channel(false);
        let (post, inbox) = mpsc::channel(options.queue);
        let publisher = Publisher::new(options.clone(), topology.clone(), state.clone(), inbox, stopping);
        let (first, tried) = oneshot::channel();
        let publishing = tokio::spawn(publisher.run(first));
        // Not connected yet: the publisher says why, and tries again.
        if let Ok(Ok(Err(conflict @ Problem::Conflict(_)))) = tokio::time::timeout(FIRST_TRY, tried).await {
            publishing.abort();
            return Err(conflict);
        }
        Ok(Self { options, topology, state, post, pushed, stop, tasks: Mutex::new(vec![publishing]) })
    }

    /// Begins to consume.
    pub fn consume(&self, door: Arc<dyn Door>) {
        let consumer = Consumer {
            options: self.options.clone(),
            topology: self.topology.clone(),
            state: self.state.clone(),
            door,
            post: self.post.clone(),
            stopping: self.stop.subscribe(),
        };
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner).push(tokio::spawn(consumer.run()));
    }

    /// Once the broker has it, services that listen by HTTP get it too; only then it is out.
    fn and_pushed(&self, message: Message, done: Done) -> Done {
        let pushed = self.pushed.clone();
        Box::new(move |published| {
            if published != Published::Done {
                return done(published);
            }
            let (done, of_listeners) = share(done);
            if pushed.publish(message, of_listeners).is_err() {
                done(Published::Failed("the services that listen to it have no room".to_owned()));
            }
        })
    }

    /// Gives it back if there is no room.
    fn offer(&self, post: Post) -> Option<Post> {
        match self.post.try_send(post) {
            Ok(()) => None,
            Err(mpsc::error::TrySendError::Full(post) | mpsc::error::TrySendError::Closed(post)) => Some(post),
        }
    }

    fn waiting(&self) -> usize {
        self.post.max_capacity() - self.post.capacity()
    }
}

impl Bus for RabbitMq {
    fn dispatch(&self, task: Task, reports: &mpsc::Sender<Report>) -> Result<(), Task> {
        if self.pushed.serves(task.contract.step_type) {
            return self.pushed.dispatch(task, reports);
        }
        // While there is no connection as many wait here as find room: they are the first to go out.
        match self.offer(Post::Task { task, reports: reports.clone() }) {
            Some(Post::Task { task, reports }) => match self.state.publishing() {
                Link::Down(why) => Job { task, reports }.refuse(why),
                Link::Up | Link::Blocked(_) => Err(task),
            },
            _ => Ok(()),
        }
    }

    /// Who has bound a queue only the broker knows.
    fn wants(&self, _routing_key: &str) -> bool {
        true
    }

    fn publish(&self, message: Message, done: Done) -> Result<(), Message> {
        let done = if self.pushed.wants(message.routing_key) { self.and_pushed(message.clone(), done) } else { done };
        match self.offer(Post::Message { message, done }) {
            Some(Post::Message { message, .. }) => Err(message),
            _ => Ok(()),
        }
    }

    fn health(&self) -> Result<(), String> {
        match (self.state.health(), self.pushed.health()) {
            (Ok(()), health) | (health, Ok(())) => health,
            (Err(broker), Err(services)) => Err(format!("{broker}; {services}")),
        }
    }

    fn delay(&self, step_type: Option<&str>) -> Option<String> {
        if step_type.is_some_and(|step_type| self.pushed.serves(step_type)) { None } else { self.state.delay() }
    }

    fn congestion(&self) -> Option<String> {
        let waiting = self.waiting();
        if waiting * 4 < self.post.max_capacity() * 3 {
            return None;
        }
        match self.state.publishing() {
            // What finds no room is kept by the engine, and how much that may be has a limit of its own.
            Link::Down(_) => None,
            Link::Blocked(why) => Some(format!("{waiting} messages wait to be published: RabbitMQ has blocked publishing: {why}")),
            Link::Up => Some(format!("{waiting} messages wait to be published: RabbitMQ takes them more slowly than they come")),
        }
    }

    fn figures(&self) -> Vec<Figure> {
        self.state.figures(self.waiting())
    }

    fn close(&self) -> futures_util::future::BoxFuture<'_, ()> {
        Box::pin(async {
            self.stop.send_replace(true);
            let tasks = std::mem::take(&mut *self.tasks.lock().unwrap_or_else(PoisonError::into_inner));
            for task in tasks {
                if let Err(error) = task.await {
                    tracing::warn!(%error, "a part of the bus did not end in order");
                }
            }
        })
    }
}

/// Two ends of which the first that is used counts.
fn share(done: Done) -> (Done, Done) {
    let done = Arc::new(Mutex::new(Some(done)));
    let end = |done: Arc<Mutex<Option<Done>>>| -> Done {
        Box::new(move |published| {
            let done = done.lock().unwrap_or_else(PoisonError::into_inner).take();
            if let Some(done) = done {
                done(published);
            }
        })
    };
    (end(done.clone()), end(done))
}

/// Ends when the process stops.
async fn stopped(stopping: &mut watch::Receiver<bool>) {
    // Whoever could have said it is gone: then it stops too.
    let _ = stopping.wait_for(|stopping| *stopping).await;
}

/// Declares everything, the queues of services too, and says how it went.
pub async fn declare(app: &App, options: &Options) -> Result<Topology, Problem> {
    let topology = Topology::new(app, options);
    let connection = connection::connect(options, "topology").await?;
    let channel = connection.create_channel().await.map_err(|error| connection::problem(&error))?;
    topology.declare(&channel).await?;
    topology.declare_services(&channel).await?;
    connection.close(200, "done".into()).await.map_err(|error| connection::problem(&error))?;
    Ok(topology)
}
