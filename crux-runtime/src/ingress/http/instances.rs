//! Instances as they are now: `GET /api/v1/workflow/status?workflow_id=`, the status document, and
//! `GET /api/v1/workflow/list`, in pages.

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderValue, header};
use axum::response::Response;
use serde::{Deserialize, Serialize};

use crate::ingress::caller::Caller;
use crate::ingress::problem::{Kind, Problem};
use crate::ingress::query::Query;
use crate::ingress::service::{ListRequest, Snapshot};
use crate::ingress::{Shared, requests};
use crate::store::Record;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::ingress) struct StatusQuery {
    workflow_id: String,
}

pub(in crate::ingress) async fn status(
    State(ingress): State<Shared>,
    caller: Caller,
    Query(query): Query<StatusQuery>,
) -> Result<Response, Problem> {
    let instance = requests::instance_id(&query.workflow_id)?;
    document(&ingress.service.status(&caller, instance).await?)
}

/// 200 with the status document.
pub(super) fn document(snapshot: &Snapshot) -> Result<Response, Problem> {
    let body = serde_json::to_vec(&snapshot.document()).map_err(|error| {
        Problem::new(Kind::StoreFailed, format!("the document cannot be written: {error}"))
    })?;
    let mut response = Response::new(Body::from(body));
    let json = HeaderValue::from_static("application/json");
    response.headers_mut().insert(header::CONTENT_TYPE, json);
    Ok(response)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::ingress) struct ListQuery {
    workflow: Option<String>,
    status: Option<String>,
    /// The `next` of the page before.
    after: Option<String>,
    limit: Option<usize>,
}

#[derive(Serialize)]
pub(in crate::ingress) struct ListBody {
    workflows: Vec<ListedInstance>,
    /// The value of `after` for the next page; `""`: this was the last.
    next: String,
}

#[derive(Serialize)]
struct ListedInstance {
    workflow_id: String,
    workflow: String,
    version: u32,
    status: &'static str,
    start_time: String,
    end_time: String,
    owner: String,
}

pub(in crate::ingress) async fn list(
    State(ingress): State<Shared>,
    caller: Caller,
    Query(query): Query<ListQuery>,
) -> Result<Json<ListBody>, Problem> {
    // A parameter without a value is as good as none.
    let given = |text: Option<String>| text.filter(|text| !text.is_empty());
    let after = given(query.after).as_deref().map(requests::instance_id).transpose();
    let request = ListRequest {
        workflow: given(query.workflow),
        status: given(query.status).as_deref().map(requests::status).transpose()?,
        after: after.map_err(|problem| problem.at("after"))?,
        limit: query.limit,
    };
    let page = ingress.service.list(&caller, request).await?;
    Ok(Json(ListBody {
        workflows: page.records.into_iter().map(listed).collect(),
        next: page.next.map_or_else(String::new, |next| next.to_string()),
    }))
}

fn listed(record: Record) -> ListedInstance {
    ListedInstance {
        workflow_id: record.instance.to_string(),
        workflow: record.workflow,
        version: record.version,
        status: record.status.word(),
        start_time: record.started_at.to_string(),
        end_time: record.ended_at.map_or(String::new(), |at| at.to_string()),
        owner: record.owner,
    }
}
