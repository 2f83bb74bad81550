//! What happened to an instance: its journal as it is (`history`), and its live messages as
//! server-sent events (`events`), for browsers and tools that speak no WebSocket.

use std::convert::Infallible;
use std::time::Duration;

use axum::Json;
use axum::extract::ws::Utf8Bytes;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use serde::{Deserialize, Serialize};

use super::Query;
use crate::engine::api;
use crate::id::InstanceId;
use crate::ingress::follow::Follow;
use crate::ingress::problem::{Kind, Problem};
use crate::ingress::{Shared, requests};
use crate::journal::{Entry, Row};
use crate::live::LiveRow;
use crate::store::Seq;
use crate::view::messages;

const PAGE: usize = 100;
const LARGEST_PAGE: usize = 1000;
/// Proxies and browsers hold a silent stream for dead after a while.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct HistoryQuery {
    #[serde(default)]
    after: Seq,
    limit: Option<usize>,
}

#[derive(Serialize)]
pub(super) struct History {
    workflow_id: String,
    rows: Vec<HistoryRow>,
    /// What to ask for `after` to get the next page; 0: this was the last.
    next: Seq,
}

#[derive(Serialize)]
struct HistoryRow {
    seq: Seq,
    time: String,
    /// What was applied.
    events: Vec<Entry>,
    /// What came of it.
    out: Vec<Entry>,
}

pub(super) async fn history(
    State(ingress): State<Shared>,
    Path(id): Path<String>,
    Query(query): Query<HistoryQuery>,
) -> Result<Json<History>, Problem> {
    let instance = requests::instance_id(&id)?;
    let limit = query.limit.unwrap_or(PAGE);
    if !(1..=LARGEST_PAGE).contains(&limit) {
        return Err(Problem::new(
            Kind::InvalidRequest,
            format!("a page has 1 to {LARGEST_PAGE} rows, not {limit}"),
        )
        .at("limit"));
    }
    let Some(record) = ingress.engine.store().record(instance).await? else {
        return Err(api::Error::UnknownInstance(instance).into());
    };
    let shape = ingress.shapes.of(&ingress.engine, &record.definition).await?;
    let mut stored = ingress.engine.store().rows(instance, query.after, limit + 1).await?;
    let has_more = stored.len() > limit;
    stored.truncate(limit);
    let next = stored.last().filter(|_| has_more).map_or(0, |row| row.seq);
    let rows = stored.into_iter().map(|stored| {
        let mut row = Row::parse(&stored.row)
            .map_err(|error| Problem::new(Kind::StoreFailed, error.to_string()))?;
        shape.secrets.hide(&mut row);
        Ok(HistoryRow {
            seq: stored.seq,
            time: row.at.to_string(),
            events: row.events,
            out: row.out,
        })
    });
    Ok(Json(History {
        workflow_id: instance.to_string(),
        rows: rows.collect::<Result<_, Problem>>()?,
        next,
    }))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct EventsQuery {
    after: Option<Seq>,
}

/// Each message is an event without a name, so that `onmessage` gets it. A row's last one carries
/// the row's number as id: a browser that comes back resumes after whole rows. When the instance
/// has ended the stream ends, and whoever comes back then is told (204) to stop.
pub(super) async fn events(
    State(ingress): State<Shared>,
    Path(id): Path<String>,
    Query(query): Query<EventsQuery>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let instance = requests::instance_id(&id)?;
    let resumed = headers
        .get("last-event-id")
        .and_then(|value| value.to_str().ok())
        .and_then(|text| text.parse::<Seq>().ok());
    let mut follow = Follow::open(&ingress, instance, resumed.or(query.after).unwrap_or(0)).await?;
    if resumed.is_some() && follow.is_over().await? {
        return Ok(StatusCode::NO_CONTENT.into_response());
    }
    let state = (ingress, follow, Vec::new().into_iter());
    let stream = stream::unfold(state, move |(ingress, mut follow, mut waiting)| async move {
        loop {
            if let Some(event) = waiting.next() {
                return Some((Ok::<Event, Infallible>(event), (ingress, follow, waiting)));
            }
            let next = tokio::select! {
                next = follow.next() => next,
                () = ingress.stopping() => return None,
            };
            match next {
                Ok(Some(row)) => waiting = events_of(instance, &follow, &row).into_iter(),
                Ok(None) => return None,
                Err(problem) => {
                    tracing::warn!(%instance, detail = problem.detail, "a stream of events broke off");
                    return None;
                }
            }
        }
    });
    Ok(Sse::new(stream).keep_alive(KeepAlive::new().interval(KEEP_ALIVE)).into_response())
}

fn events_of(instance: InstanceId, follow: &Follow, row: &LiveRow) -> Vec<Event> {
    // A row that cannot be encoded has been refused by `follow` already.
    let Ok(encoded) = messages::of_row(instance, follow.shape(), row) else { return Vec::new() };
    let count = encoded.messages.len();
    let event = |(n, message): (usize, &Utf8Bytes)| {
        let event = Event::default().data(message.as_str());
        if n + 1 == count { event.id(row.stored.seq.to_string()) } else { event }
    };
    encoded.messages.iter().enumerate().map(event).collect()
}
