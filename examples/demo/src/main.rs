//! `cargo run -p crux-demo`: a Crux server, three services that do real work, products
//! that go through them, and a kill -9 in the middle. Start reading in `story`. Called with a
//! command of Crux (`crux-demo serve …`) it is the Crux binary itself: that is how the server
//! becomes a separate process.

mod client;
mod follow;
mod place;
mod server;
mod services;
mod show;
mod story;
mod text;

use std::env;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Parser;

use place::Place;
use story::{Story, Uploaded};

/// Uploads products to a Crux server, shows them live on their way through three services, and
/// kills the server in the middle.
#[derive(Debug, Parser)]
#[command(name = "crux-demo", version)]
struct Args {
    /// Keep server and services running at the end, to try things by hand; Ctrl-C ends them
    #[arg(long)]
    stay: bool,
    /// Where database, log and results are kept [default: the target folder]
    #[arg(long)]
    folder: Option<PathBuf>,
}

fn main() -> ExitCode {
    if env::args_os().nth(1).is_some_and(|first| first == "serve") {
        server::end_with_parent();
        return crux::main();
    }
    match run(Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("crux-demo: {error}");
            ExitCode::FAILURE
        }
    }
}

#[tokio::main]
async fn run(args: Args) -> Result<(), story::Error> {
    let parent = match args.folder {
        Some(folder) => folder,
        None => target_folder()?,
    };
    let place = Place::take(&parent)?;
    let mut story = Story::begin(place).await?;
    let uploaded = story.tell().await?;
    try_next(&story, &uploaded, args.stay);
    if args.stay {
        stay(&mut story).await?;
    }
    story.server.stop().await?;
    Ok(())
}

/// The folder in which `cargo` has put this program's own.
fn target_folder() -> Result<PathBuf, story::Error> {
    let program = env::current_exe()?;
    let folder = program.parent().and_then(Path::parent);
    folder
        .map(Path::to_owned)
        .ok_or_else(|| format!("{} is in no folder: use --folder", program.display()).into())
}

fn try_next(story: &Story, uploaded: &[Uploaded], stays: bool) {
    let base = story.client.base();
    let id = uploaded.last().map(|product| product.workflow_id.as_str()).unwrap_or_default();
    let when =
        if stays { "now, in another terminal" } else { "after `cargo run -p crux-demo -- --stay`" };
    story.show.heading(&format!("What to try next ({when}):"));
    println!(
        "  curl -X POST {base}/api/v1/workflow/upload -H 'Content-Type: application/json' \\
    -d '{{\"name\": \"Sample Product\", \"description\": \"A test product\", \"images\": [\"mug.jpg\"], \"category\": \"Electronics\", \"price\": 99.99}}'
  curl '{base}/api/v1/workflow/status?workflow_id={id}'
  curl '{base}/api/v1/workflow/list?workflow=product_upload&status=completed&limit=3'
  curl {base}/api/v1/workflow/{id}/history
  curl -X POST '{base}/api/v1/workflow/order?wait=5s' -H 'Content-Type: application/json' \\
    -d '{{\"orderId\": \"ORD-1234567\", \"customerId\": \"CUST-89101\", \"bookingTime\": \"2025-08-21T14:25:36Z\"}}'"
    );
    if stays {
        let pid = story.server.pid().unwrap_or_default();
        println!(
            "  kill -9 {pid}        the server is started again, and whatever was running continues"
        );
        println!("\nCtrl-C ends the demo.");
    }
}

/// Until Ctrl-C; a server that is killed is started again.
async fn stay(story: &mut Story) -> Result<(), story::Error> {
    loop {
        tokio::select! {
            interrupted = tokio::signal::ctrl_c() => return Ok(interrupted?),
            ended = story.server.ended() => {
                story.show.event(&format!("the server has ended ({}); it is started again", ended?));
                story.server.start_again().await?;
                story.show.event(&format!("running as process {}", story.server.pid().unwrap_or_default()));
            }
        }
    }
}
