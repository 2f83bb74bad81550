//! `crux health`: for people, and for probes of containers that have no HTTP client.

use clap::Args;

use super::{Common, Failure, client, out, show};

/// Show whether the server works, and what does not
///
/// Exits with 1 if the server answers 503, and with 3 if none answers. --live and --ready are for
/// probes: they ask what GET /health/live and GET /health/ready answer.
#[derive(Args)]
#[command(after_help = "Examples:\n  crux health\n  crux health --ready\n  crux health --live")]
pub(super) struct Health {
    /// Whether the process should be kept rather than restarted
    #[arg(long, conflicts_with = "ready")]
    live: bool,
    /// Whether requests should be sent to it
    #[arg(long)]
    ready: bool,
}

impl Health {
    pub(super) async fn run(self, common: &Common) -> Result<(), Failure> {
        let path = match (self.live, self.ready) {
            (true, _) => "/health/live",
            (_, true) => "/health/ready",
            _ => "/health",
        };
        let (status, document) = client::get_whatever_status(common, path).await?;
        if common.json {
            out::print_line(&document)?;
        } else {
            out::print(&show::health(&document))?;
        }
        // The reason is printed already.
        if status.is_success() { Ok(()) } else { Err(Failure::refused("")) }
    }
}
