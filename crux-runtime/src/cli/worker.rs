//! `crux worker`: a process that only runs step structs.

use clap::Args;

use super::client::CREDENTIAL;
use super::{Common, Failure, out};
use crate::app::App;
use crate::executor::StepSelection;
use crate::telemetry;
use crate::worker::{AttachedProcess, WorkerProcess};

/// Run a worker: step structs for servers that leave them to workers (`crux serve --steps`)
///
/// It takes tasks from the broker of the configuration, or with `--connect` from the servers
/// themselves, without a broker. It needs nothing else: no store, no port. Run as many workers as
/// you need, on any machine. On shutdown (SIGTERM) a worker takes no new
/// tasks and waits up to `server.shutdown` for running ones.
#[derive(Args)]
#[command(
    after_help = "Examples:\n  crux worker --connect http://localhost:8080\n  crux worker --steps send_notification,restock --concurrency 8"
)]
pub(super) struct Worker {
    /// The step types whose tasks it takes: all, or a list
    #[arg(long, value_name = "all|A,B", default_value = "all")]
    steps: String,
    /// Attach to this server instead of the broker; of several nodes, name each
    #[arg(long, value_name = "URL", value_delimiter = ',')]
    connect: Vec<String>,
    /// Maximum concurrent attempts across all step types
    #[arg(long, value_name = "N", default_value_t = 32)]
    concurrency: usize,
    /// What to log: error, warn, info, debug, or by module
    #[arg(long, value_name = "LEVEL")]
    log: Option<String>,
}

impl Worker {
    pub(super) fn run(self, app: App, common: &Common) -> Result<(), Failure> {
        let flags = self.log.map(|log| ("--log", "log.level", log)).into_iter().collect();
        let selection: StepSelection =
            self.steps.parse().map_err(|text| Failure::usage(format!("--steps: {text}")))?;
        let config = common.load(flags)?;
        telemetry::begin(&config.log).map_err(Failure::usage)?;
        out::mention_passed_over(&config);
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .enable_all()
            .build()
            .map_err(|error| Failure::refused(format!("threads cannot be started: {error}")))?;
        let worked = runtime.block_on(async {
            if !self.connect.is_empty() {
                let (concurrency, servers) = (self.concurrency, &self.connect);
                let key = std::env::var(CREDENTIAL).ok();
                let process = AttachedProcess::open(
                    app,
                    &config,
                    &selection,
                    concurrency,
                    servers,
                    key.as_deref(),
                )?;
                out::announce(process.about());
                return process.run().await;
            }
            let process = WorkerProcess::open(app, &config, &selection, self.concurrency).await?;
            out::announce(process.about());
            process.run().await
        });
        // Whatever still blocks a thread then is known to be lost.
        runtime.shutdown_background();
        telemetry::flush();
        worked.map_err(|error| Failure::refused(error.to_string()))
    }
}
