//! Followers of one instance over WebSocket, in a separate process on the same machine: how
//! long after the request with the event was sent the last of them has received it, and what a
//! follower costs the server in memory.

use std::time::{Duration, Instant};

use hyper::StatusCode;
use rustix::process::{Resource, getrlimit, setrlimit};

use super::Setting;
use crate::Outcome;
use crate::crux::{DATABASE, runtime};
use crate::follow::Followers;
use crate::http::Client;
use crate::measure::{Latencies, Meter, Process};
use crate::report::{Goal, Row, count};
use crate::server::Server;

/// Events that are sent one after the other.
const ROUNDS: usize = 100;
/// Between two of them.
const PAUSE: Duration = Duration::from_millis(20);
/// Until memory is read.
const CALM: Duration = Duration::from_secs(1);
/// Files that a process has open beside its sockets.
const SPARE: u64 = 100;

pub fn run(setting: &Setting) -> Outcome<Vec<Row>> {
    let most = raise_file_limit()?;
    let mut rows = Vec::new();
    for followers in setting.only.map_or(vec![1_000, 10_000], |only| vec![only]) {
        if followers as u64 + SPARE > most {
            eprintln!(
                "{} followers need as many open files in each process, and {most} are allowed: left out",
                count(followers)
            );
            continue;
        }
        rows.extend(measure(setting, followers)?);
    }
    Ok(rows)
}

fn measure(setting: &Setting, followers: usize) -> Outcome<Vec<Row>> {
    let directory = setting.fresh()?;
    let server = Server::start(&directory.path().join(DATABASE))?;
    server.until_ready()?;
    let (status, body) = server.ask("POST", "/api/v1/workflow/followed", r#"{"room":"hall"}"#)?;
    let started: serde_json::Value = serde_json::from_str(&body)?;
    let instance = started["workflow_id"]
        .as_str()
        .ok_or_else(|| format!("not started: {status} {body}"))?
        .to_owned();
    let rounds = if setting.quick { 10 } else { ROUNDS };
    std::thread::sleep(CALM);
    let before = server.process().resident_bytes();
    runtime()?.block_on(async {
        let mut clients = Followers::connect(server.address, &instance, followers, rounds).await?;
        tokio::time::sleep(CALM).await;
        let after = server.process().resident_bytes();
        let mut http = Client::connect(server.address).await?;
        let mut latencies = Latencies::default();
        let (of_server, of_clients) =
            (Meter::begin(server.process()), Meter::begin(Process::own()));
        for mark in 0..rounds {
            let body = format!(
                r#"{{"type":"room.said","data":{{"room":"hall","mark":{mark},"last":false}}}}"#
            );
            let begun = Instant::now();
            http.must("/api/v1/events", body, StatusCode::ACCEPTED).await?;
            latencies.add(clients.last().await?.saturating_duration_since(begun));
            tokio::time::sleep(PAUSE).await;
        }
        let messages = (rounds * followers) as u64;
        let cpu: Vec<f64> = of_server.cpu_us_per(messages).into_iter().collect();
        let client_us = of_clients.cpu_us_per(messages);
        let most_used = server.process().resident_bytes();
        let what = format!("{} followers", count(followers));
        let each = |bytes: Option<u64>| {
            bytes
                .zip(before)
                .map(|(after, before)| after.saturating_sub(before) as f64 / followers as f64)
        };
        let mut rows = vec![
            Row::once(
                format!("{what}, the last one, p50"),
                "ms",
                latencies.ms_at(0.5).unwrap_or(0.0),
            )
            .cpu(&cpu),
            Row::once(
                format!("{what}, the last one, p99"),
                "ms",
                latencies.ms_at(0.99).unwrap_or(0.0),
            ),
        ];
        rows.extend(
            client_us.map(|us| Row::once(format!("{what}, clients' CPU per message"), "µs", us)),
        );
        rows.extend(each(after).map(|bytes| {
            Row::once(format!("{what}, memory each, at rest"), "bytes", bytes)
                .goal(Goal::AtMost(16_384.0))
        }));
        rows.extend(each(most_used).map(|bytes| {
            Row::once(format!("{what}, memory each, after {rounds} events"), "bytes", bytes)
        }));
        if followers == 10_000 {
            rows[0].goals.push(Goal::AtMost(100.0));
            rows[1].goals.push(Goal::AtMost(200.0));
        }
        Ok(rows)
    })
}

/// Sets the limit of open files as high as it may be, for this process and the servers that it
/// starts; what it is then.
fn raise_file_limit() -> Outcome<u64> {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    setrlimit(Resource::Nofile, limit)?;
    // No limit at all is written as none.
    Ok(limit.current.unwrap_or(u64::MAX))
}
