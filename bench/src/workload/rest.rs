//! The deployed binary (`crux`, of the root package) at rest: from the start of its process until
//! it answers that it is ready, and its memory a while later.

use std::time::Duration;

use super::Setting;
use crate::Outcome;
use crate::build::dist_binary;
use crate::crux::DATABASE;
use crate::measure::Latencies;
use crate::report::{Goal, Row};
use crate::server::Server;

const STARTS: usize = 11;
/// Until memory is read.
const CALM: Duration = Duration::from_secs(2);
const MIB: f64 = 1024.0 * 1024.0;

pub fn run(setting: &Setting) -> Outcome<Vec<Row>> {
    let binary = dist_binary("crux")?;
    let directory = setting.fresh()?;
    let database = directory.path().join(DATABASE);
    let mut ready = Latencies::default();
    for _ in 0..STARTS {
        let server = Server::of(&binary, &database)?;
        server.until_ready()?;
        ready.add(server.age());
        server.kill()?;
    }
    let server = Server::of(&binary, &database)?;
    server.until_ready()?;
    std::thread::sleep(CALM);
    let resident = server.process().resident_bytes().ok_or("the server's memory cannot be read")?;
    Ok(vec![
        Row::once("at rest: ready, p50", "ms", ready.ms_at(0.5).unwrap_or(0.0))
            .goal(Goal::AtMost(50.0)),
        Row::once("at rest: ready, longest", "ms", ready.ms_at(1.0).unwrap_or(0.0)),
        Row::once("at rest: memory", "MiB", resident as f64 / MIB).goal(Goal::AtMost(20.0)),
    ])
}
