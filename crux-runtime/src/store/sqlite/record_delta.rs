//! Changes of records are written to the journal first, in the column `record` of the row. The
//! table of records follows a little later, so that a short-lived instance costs one insert instead
//! of several updates.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::machine::Time;
use crate::store::{RecordChange, RequestKey, Status};

/// What never changes in a record.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct RecordStart {
    /// Stands for workflow, version and definition.
    pub kind: i64,
    pub owner: String,
    pub started_at: Time,
    pub request: Option<[u8; 16]>,
}

/// What a row makes of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct RecordDelta {
    pub status: Status,
    pub ended_at: Option<Time>,
    pub expires_at: Option<Time>,
}

impl From<RecordChange> for RecordDelta {
    fn from(change: RecordChange) -> Self {
        let RecordChange { status, ended } = change;
        Self {
            status,
            ended_at: ended.map(|(at, _)| at),
            expires_at: ended.map(|(at, keep_ms)| at.plus_ms(keep_ms)),
        }
    }
}

/// The column's text.
#[derive(Serialize, Deserialize)]
struct Column {
    status: Status,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    ended_at: Option<Time>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    expires_at: Option<Time>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    start: Option<StartColumn>,
}

#[derive(Serialize, Deserialize)]
struct StartColumn {
    kind: i64,
    owner: String,
    at: Time,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    request: Option<String>,
}

pub(super) fn to_column(
    start: Option<&RecordStart>,
    change: RecordDelta,
) -> Result<String, serde_json::Error> {
    let start = start.map(|RecordStart { kind, owner, started_at, request }| StartColumn {
        kind: *kind,
        owner: owner.clone(),
        at: *started_at,
        request: request.map(|key| format!("{:032x}", u128::from_be_bytes(key))),
    });
    let RecordDelta { status, ended_at, expires_at } = change;
    serde_json::to_string(&Column { status, ended_at, expires_at, start })
}

pub(super) fn from_column(
    text: &str,
) -> Result<(Option<Arc<RecordStart>>, RecordDelta), serde_json::Error> {
    let Column { status, ended_at, expires_at, start } = serde_json::from_str(text)?;
    let start = match start {
        Some(StartColumn { kind, owner, at, request }) => {
            let key = |text: String| {
                u128::from_str_radix(&text, 16)
                    .map(u128::to_be_bytes)
                    .map_err(serde::de::Error::custom)
            };
            Some(Arc::new(RecordStart {
                kind,
                owner,
                started_at: at,
                request: request.map(key).transpose()?,
            }))
        }
        None => None,
    };
    Ok((start, RecordDelta { status, ended_at, expires_at }))
}

/// Short, so that many of them share a page: request ids are in no order, and each start touches
/// one page of them.
pub(super) fn request_key(request: &RequestKey) -> [u8; 16] {
    let mut hash = Sha256::new();
    hash.update(u64::try_from(request.scope.len()).unwrap_or(u64::MAX).to_be_bytes());
    hash.update(request.scope.as_bytes());
    hash.update(request.id.as_bytes());
    let digest = hash.finalize();
    let mut key = [0; 16];
    key.copy_from_slice(&digest[..16]);
    key
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_column_says_all_that_a_restart_needs() {
        let start = RecordStart {
            kind: 3,
            owner: "ann \"a\"".to_owned(),
            started_at: Time(5),
            request: Some([7; 16]),
        };
        let change = RecordDelta {
            status: Status::Parked,
            ended_at: Some(Time(9)),
            expires_at: Some(Time(19)),
        };
        let (start_read, change_read) =
            from_column(&to_column(Some(&start), change).unwrap()).unwrap();
        assert_eq!((start_read.as_deref(), change_read), (Some(&start), change));
        let change = RecordDelta { status: Status::Waiting, ended_at: None, expires_at: None };
        assert_eq!(to_column(None, change).unwrap(), r#"{"status":"waiting"}"#);
        assert!(from_column(r#"{"status":"dancing"}"#).is_err());
    }
}
