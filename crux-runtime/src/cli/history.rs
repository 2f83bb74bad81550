//! `crux history`: the journal of an instance.

use clap::Args;

use super::commands::encoded;
use super::{Common, Failure, client, out, show};

/// Rows of one request.
const PAGE: usize = 1000;

/// Print the journal of an instance: what happened, and which effects that had
///
/// Unlike `crux watch` it ends with what has happened so far. With --json, each line is one page of
/// rows.
#[derive(Args)]
#[command(after_help = "Examples:\n  crux history $ID\n  crux history $ID --after 2")]
pub(super) struct History {
    /// The instance's id
    id: String,
    /// Begin after this row
    #[arg(long, value_name = "SEQ", default_value_t = 0)]
    after: u64,
}

impl History {
    pub(super) async fn run(self, common: &Common) -> Result<(), Failure> {
        let mut after = self.after;
        loop {
            let id = encoded(&self.id);
            let path = format!("/api/v1/workflow/{id}/history?after={after}&limit={PAGE}");
            let page = client::get(common, &path).await?;
            if common.json {
                out::print_line(&page)?;
            } else {
                out::print(&show::history(&page))?;
            }
            match page["next"].as_u64() {
                Some(next) if next > after => after = next,
                _ => return Ok(()),
            }
        }
    }
}
