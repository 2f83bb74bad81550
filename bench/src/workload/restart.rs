//! A process that is killed (`kill -9`) with 100,000 open instances, 1,000 of which have a step
//! running; then the next process on the same database, from its start until it accepts and until
//! every step is running again.

use std::time::Duration;

use super::Setting;
use crate::Outcome;
use crate::crux::{DATABASE, runtime};
use crate::http;
use crate::report::{Goal, Row};
use crate::server::Server;

/// Connections over which the instances are started.
const CLIENTS: usize = 64;
/// Until what the server writes lazily is written.
const CALM: Duration = Duration::from_secs(2);

pub fn run(setting: &Setting) -> Outcome<Vec<Row>> {
    let (waiting, working) = (setting.many(99_000), setting.many(1_000));
    let open = crate::report::count(waiting + working);
    let (mut accept_ms, mut resumed_ms, mut cpu) = (vec![], vec![], vec![]);
    for _ in 0..setting.runs {
        let directory = setting.fresh()?;
        let database = directory.path().join(DATABASE);
        let server = Server::start(&database)?;
        runtime()?.block_on(async {
            http::post_all(server.address, "/api/v1/workflow/waiting", CLIENTS, waiting, order)
                .await?;
            http::post_all(server.address, "/api/v1/workflow/slow", CLIENTS, working, order).await
        })?;
        server.until("only the slow ones have something running", |server| {
            Ok(server.metric("instances_unsettled")? == working as u64
                && server.metric("attempts_dispatched")? == working as u64)
        })?;
        // Marks are cleared on disk a little later than in memory.
        std::thread::sleep(CALM);
        server.kill()?;

        let server = Server::start(&database)?;
        server.until("accepting", |server| {
            Ok(server
                .ask("POST", "/api/v1/workflow/waiting", &order(waiting))
                .is_ok_and(|(status, _)| status == 202))
        })?;
        accept_ms.push(server.age().as_secs_f64() * 1e3);
        server.until("all resumed", |server| {
            let (_, health) = server.ask("GET", "/health", "")?;
            Ok(health.contains(r#""has_recovered":true"#)
                && server.metric("attempts_dispatched")? >= working as u64)
        })?;
        resumed_ms.push(server.age().as_secs_f64() * 1e3);
        cpu.extend(server.process().cpu().map(|cpu| cpu.as_secs_f64() * 1e6 / working as f64));
    }
    Ok(vec![
        Row::of_runs(format!("kill -9 with {open} open: first accept"), "ms", &accept_ms)
            .goal(Goal::AtMost(2_000.0)),
        Row::of_runs(
            format!(
                "kill -9 with {open} open: {} unsettled resumed",
                crate::report::count(working)
            ),
            "ms",
            &resumed_ms,
        )
        .goal(Goal::AtMost(10_000.0))
        .cpu(&cpu),
    ])
}

fn order(n: usize) -> String {
    format!(r#"{{"order":"ORD-{n:08}"}}"#)
}
