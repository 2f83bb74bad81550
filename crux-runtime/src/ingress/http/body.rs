//! Bodies of requests: content type, size, then JSON. A body that is too large is read to its end,
//! within limits, because a client that is still sending does not read the answer.

use std::time::Duration;

use axum::body::Body;
use axum::extract::{FromRequest, Request};
use axum::http::{HeaderMap, header};
use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;

use crate::ingress::connection::ConnectionPermit;
use crate::ingress::problem::{Kind, Problem};
use crate::ingress::{Ingress, Shared, json};

/// The whole body must have come by then.
const BODY_TIMEOUT: Duration = Duration::from_secs(30);
/// How much of a body that is too large is read and thrown away.
const DISCARDED_BYTES_MAX: usize = 32 << 20;
/// The response to a body that is still arriving when the server stops.
const SHUTDOWN_GRACE: Duration = Duration::from_secs(1);

/// A body whose content type is JSON, of a size that is allowed.
pub(in crate::ingress) struct JsonBody(Bytes);

impl FromRequest<Shared> for JsonBody {
    type Rejection = Problem;

    async fn from_request(request: Request, ingress: &Shared) -> Result<Self, Problem> {
        check_content_type(request.headers())?;
        let limit = ingress.settings.max_body_bytes;
        let permit = request.extensions().get::<ConnectionPermit>().cloned();
        tokio::select! {
            body = tokio::time::timeout(BODY_TIMEOUT, read(request.into_body(), limit, permit)) => match body {
                Ok(result) => result.map(Self),
                Err(_) => Err(Problem::new(Kind::NotJson, format!("the body did not come within {} s", BODY_TIMEOUT.as_secs()))),
            },
            () = no_time_left(ingress) => Err(crate::engine::api::Error::ShuttingDown.into()),
        }
    }
}

impl JsonBody {
    pub(super) fn raw(&self) -> Result<Box<RawValue>, Problem> {
        json::raw(&self.0)
    }

    pub(super) fn parse<T: DeserializeOwned>(&self) -> Result<T, Problem> {
        json::parse(&self.0)
    }

    /// No body at all is the default.
    pub(super) fn parse_or_default<T: DeserializeOwned + Default>(&self) -> Result<T, Problem> {
        if self.0.is_empty() { Ok(T::default()) } else { json::parse(&self.0) }
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.0
    }
}

/// A page of another site can make a browser send forms and plain texts without asking, but not
/// JSON.
fn check_content_type(headers: &HeaderMap) -> Result<(), Problem> {
    let given = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let media_type = given.map(|given| given.split(';').next().unwrap_or_default().trim());
    if media_type.is_some_and(|media_type| media_type.eq_ignore_ascii_case("application/json")) {
        return Ok(());
    }
    let given = given.map_or_else(
        || "none".to_owned(),
        |given| format!("`{}`", given.chars().take(80).collect::<String>()),
    );
    Err(Problem::new(
        Kind::UnsupportedMediaType,
        format!("the content type is {given}: send `Content-Type: application/json`"),
    ))
}

async fn no_time_left(ingress: &Ingress) {
    ingress.service.stopping().await;
    tokio::time::sleep(SHUTDOWN_GRACE).await;
}

async fn read(
    mut body: Body,
    limit: usize,
    permit: Option<ConnectionPermit>,
) -> Result<Bytes, Problem> {
    let mut first: Option<Bytes> = None;
    let mut all = BytesMut::new();
    let mut read = 0_usize;
    while let Some(frame) = body.frame().await {
        let frame = match frame {
            Ok(frame) => frame,
            Err(_) if permit.as_ref().is_some_and(ConnectionPermit::is_overdrawn) => {
                return Err(Problem::too_many_bodies());
            }
            Err(error) => {
                return Err(Problem::new(Kind::NotJson, format!("the body broke off: {error}")));
            }
        };
        let Ok(data) = frame.into_data() else { continue };
        read = read.saturating_add(data.len());
        if read > DISCARDED_BYTES_MAX {
            break;
        }
        if read > limit {
            (first, all) = (None, BytesMut::new());
            if let Some(permit) = &permit {
                permit.release();
            }
            continue;
        }
        // Most bodies come in one piece and need not be copied.
        match first.take() {
            None if all.is_empty() => first = Some(data),
            held => {
                if let Some(held) = held {
                    all.extend_from_slice(&held);
                }
                all.extend_from_slice(&data);
            }
        }
    }
    if read > limit {
        return Err(Problem::new(
            Kind::TooLarge,
            format!(
                "a body has at most {limit} bytes (`limits.max_body_size`): keep what is big elsewhere, and send its address"
            ),
        ));
    }
    Ok(first.unwrap_or_else(|| all.freeze()))
}
