//! `crux serve`: the server.

use std::path::PathBuf;

use clap::Args;

use super::{Common, Failure, out};
use crate::app::App;
use crate::server::Server;
use crate::telemetry;

/// Run the server: answer requests and run workflows until SIGTERM or Ctrl-C
///
/// Settings come from the configuration file, the environment (CRUX_SERVER__PORT=9090) and the
/// flags here, the later ones winning.
#[derive(Args, Default)]
#[command(
    after_help = "Examples:\n  crux serve --port 8080 --store ./crux.db\n  crux serve --steps none"
)]
pub(super) struct Serve {
    /// The port to listen on; 0 takes one that is free
    #[arg(long)]
    port: Option<u16>,
    /// The SQLite file
    #[arg(long, value_name = "FILE")]
    store: Option<PathBuf>,
    /// The step structs that run in this process: all, none, or a list of step types; workers
    /// (`crux worker`) run the others
    #[arg(long, value_name = "all|none|A,B")]
    steps: Option<String>,
    /// What to log: error, warn, info, debug, or by module
    #[arg(long, value_name = "LEVEL")]
    log: Option<String>,
}

impl Serve {
    pub(super) fn run(self, app: App, common: &Common) -> Result<(), Failure> {
        let mut flags = Vec::new();
        if let Some(port) = self.port {
            flags.push(("--port", "server.port", port.to_string()));
        }
        if let Some(store) = &self.store {
            flags.push(("--store", "store.path", store.display().to_string()));
        }
        if let Some(steps) = self.steps {
            flags.push(("--steps", "server.steps", steps));
        }
        if let Some(log) = self.log {
            flags.push(("--log", "log.level", log));
        }
        let sources = common.sources(flags);
        let config =
            crate::config::load(&sources).map_err(|error| Failure::usage(error.to_string()))?;
        telemetry::begin(&config.log).map_err(Failure::usage)?;
        out::mention_passed_over(&config);
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .enable_all()
            .build()
            .map_err(|error| Failure::refused(format!("threads cannot be started: {error}")))?;
        let served = runtime.block_on(async {
            let server = Server::open(app, &config).await?;
            let server = server.reloading(move || crate::config::load(&sources));
            // With port 0, this is how the caller learns the port.
            out::announce(format!("listening on http://{}", server.address()));
            server.run().await
        });
        // A step that still blocks a thread is continued by the next process.
        runtime.shutdown_background();
        telemetry::flush();
        served.map_err(|error| Failure::refused(error.to_string()))
    }
}
