//! What happened to an instance: its journal as it is (`history`), and its live messages as
//! server-sent events (`events`), for browsers and tools without WebSocket.

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

use crate::id::InstanceId;
use crate::ingress::caller::Caller;
use crate::ingress::problem::Problem;
use crate::ingress::query::Query;
use crate::ingress::service::{Follow, HistoryRow};
use crate::ingress::{Shared, requests};
use crate::journal::Entry;
use crate::live::LiveRow;
use crate::store::Seq;
use crate::view::messages;

/// Proxies and browsers take a silent stream for dead after a while.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::ingress) struct HistoryQuery {
    #[serde(default)]
    after: Seq,
    limit: Option<usize>,
}

#[derive(Serialize)]
pub(in crate::ingress) struct HistoryBody {
    workflow_id: String,
    rows: Vec<RowBody>,
    /// The value of `after` for the next page; 0: this was the last.
    next: Seq,
}

#[derive(Serialize)]
struct RowBody {
    seq: Seq,
    time: String,
    /// The journal events.
    events: Vec<Entry>,
    /// Their effects.
    out: Vec<Entry>,
}

pub(in crate::ingress) async fn history(
    State(ingress): State<Shared>,
    caller: Caller,
    Path(id): Path<String>,
    Query(query): Query<HistoryQuery>,
) -> Result<Json<HistoryBody>, Problem> {
    let instance = requests::instance_id(&id)?;
    let page = ingress.service.history(&caller, instance, query.after, query.limit).await?;
    let row = |HistoryRow { seq, row }| RowBody {
        seq,
        time: row.at.to_string(),
        events: row.events,
        out: row.out,
    };
    let rows = page.rows.into_iter().map(row).collect();
    Ok(Json(HistoryBody { workflow_id: instance.to_string(), rows, next: page.next }))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::ingress) struct EventsQuery {
    after: Option<Seq>,
}

/// Each message is an event without a name, so that `onmessage` gets it. A row's last one carries
/// the row's number as id: a browser that comes back resumes after whole rows. When the instance
/// has ended the stream ends, and a client that comes back then is answered 204, to stop.
pub(in crate::ingress) async fn events(
    State(ingress): State<Shared>,
    caller: Caller,
    Path(id): Path<String>,
    Query(query): Query<EventsQuery>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let instance = requests::instance_id(&id)?;
    let resumed = headers
        .get("last-event-id")
        .and_then(|value| value.to_str().ok())
        .and_then(|text| text.parse::<Seq>().ok());
    let after = resumed.or(query.after).unwrap_or(0);
    let mut follow = ingress.service.follow(&caller, instance, after).await?;
    if resumed.is_some() && follow.is_over().await? {
        return Ok(StatusCode::NO_CONTENT.into_response());
    }
    let state = (ingress, caller, follow, Vec::new().into_iter());
    let stream = stream::unfold(
        state,
        move |(ingress, caller, mut follow, mut waiting)| async move {
            loop {
                if let Some(event) = waiting.next() {
                    return Some((
                        Ok::<Event, Infallible>(event),
                        (ingress, caller, follow, waiting),
                    ));
                }
                let next = tokio::select! {
                    next = follow.next() => next,
                    () = ingress.authenticator.lapsed(&caller) => return None,
                    () = ingress.service.stopping() => return None,
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
        },
    );
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
