//! Workloads beside their floors, printed as one table. Run it as what is deployed is
//! built: `cargo run --profile dist -p crux-bench`.
//!
//! `workload` holds what is measured, `floor` what it is held against, `crux` the engine under
//! measurement in this process, `server` one in a separate process, for which the bench starts
//! itself. `servers` are brokers and stores that others wrote, and `service` does the remote steps.

mod amqp;
mod build;
mod crux;
mod fill;
mod floor;
mod follow;
mod http;
mod lanes;
mod measure;
mod report;
mod server;
mod servers;
mod service;
mod streams;
mod watch;
mod workload;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use clap::Parser;

use workload::{ALL, Setting, Workload};

/// What can go wrong in a bench is shown as it is and ends it.
pub type Outcome<T> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// Measures Crux beside its floors.
#[derive(Debug, Parser)]
struct Arguments {
    /// Which workloads; all without a name. `--list` shows them.
    names: Vec<String>,
    /// Short runs, one each: does everything work?
    #[arg(long)]
    quick: bool,
    /// Leaves the floors out, for profiles.
    #[arg(long)]
    no_floors: bool,
    /// Of workloads that come with several numbers of instances or clients, only this one.
    #[arg(long)]
    only: Option<usize>,
    /// Runs per figure; their median counts.
    #[arg(long, default_value_t = 3)]
    runs: usize,
    /// Where databases are made: on the disk that is to be measured. Beside the executable if it is
    /// not said.
    #[arg(long)]
    directory: Option<PathBuf>,
    /// The table as JSON.
    #[arg(long)]
    json: bool,
    /// Shows the workloads.
    #[arg(long)]
    list: bool,
}

fn main() -> ExitCode {
    let ended = match std::env::args().nth(1).as_deref() {
        // The bench as a server, started by itself: the same command line as any binary of Crux.
        Some(server::SERVE | server::WORKER) => return crux_runtime::main(crux_bench::app()),
        Some(server::ECHO) => floor::echo::serve(),
        Some(service::SERVICE) => service::serve(&std::env::args().skip(2).collect::<Vec<_>>()),
        _ => run(Arguments::parse()),
    };
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Cargo puts what it builds into a folder of the profile's name.
fn is_dist_build() -> bool {
    let program = std::env::current_exe().ok();
    program.as_deref().and_then(Path::parent).is_some_and(|folder| folder.ends_with("dist"))
}

fn run(arguments: Arguments) -> Outcome<()> {
    if arguments.list {
        ALL.iter().for_each(|workload| println!("{:10} {}", workload.name, workload.about));
        return Ok(());
    }
    if !is_dist_build() {
        eprintln!("this was not built with `--profile dist`: its results say nothing");
    }
    let workloads = chosen(&arguments.names)?;
    let directory = match arguments.directory {
        Some(directory) => directory,
        None => {
            std::env::current_exe()?.parent().ok_or("the executable is in no directory")?.to_owned()
        }
    };
    servers::keep_data_in(&directory)?;
    let setting = Setting {
        runs: if arguments.quick { 1 } else { arguments.runs.max(1) },
        quick: arguments.quick,
        floors: !arguments.no_floors,
        only: arguments.only,
        directory,
    };
    let begun = Instant::now();
    let (mut rows, mut failed) = (Vec::new(), Vec::new());
    for workload in workloads {
        eprintln!("{}: {} …", workload.name, workload.about);
        let started = Instant::now();
        // One that cannot be measured does not take the others with it.
        match (workload.run)(&setting) {
            Ok(measured) => {
                eprintln!("{}({} s)\n", report::table(&measured), started.elapsed().as_secs());
                rows.extend(measured);
            }
            Err(error) => {
                eprintln!("error: {}: {error}\n", workload.name);
                failed.push(workload.name);
            }
        }
    }
    if arguments.json {
        println!("{:#}", report::json(&rows));
    } else {
        println!("{}", report::table(&rows));
    }
    let (goals, met) = report::goals(&rows);
    eprintln!("{met} of {goals} goals are met; it took {} s", begun.elapsed().as_secs());
    if failed.is_empty() {
        Ok(())
    } else {
        Err(format!("not measured: {}", failed.join(", ")).into())
    }
}

fn chosen(names: &[String]) -> Outcome<Vec<&'static Workload>> {
    if names.is_empty() {
        return Ok(ALL.iter().collect());
    }
    let known = || ALL.iter().map(|workload| workload.name).collect::<Vec<_>>().join(", ");
    let find = |name: &String| {
        ALL.iter()
            .find(|workload| workload.name == name)
            .ok_or_else(|| format!("there is no workload `{name}`; there are {}", known()).into())
    };
    names.iter().map(find).collect()
}
