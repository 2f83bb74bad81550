//! From a journal back to an instance: replay. The journal's own effects are not repeated, except
//! those that were not settled.

use super::api::Error;
use super::journal_size::JournalSize;
use crate::app::App;
use crate::id::InstanceId;
use crate::journal::{self, Row};
use crate::machine::{Effect, Effects, Event, Failure, Instance, Time};
use crate::store::{Record, Seq, Stored};

/// An instance made of its journal.
pub(super) struct Replayed {
    pub(super) instance: Box<dyn Instance>,
    pub(super) traceparent: String,
    pub(super) seq: Seq,
    pub(super) last_at: Time,
    pub(super) journal_size: JournalSize,
    /// Effects of rows that were not settled, with the row's number and their number in it.
    pub(super) unsettled: Vec<(Seq, u32, Effect)>,
}

/// Replays `rows`, which are the whole journal of `id`.
pub(super) fn replay(
    app: &App,
    id: InstanceId,
    record: &Record,
    rows: &[Stored],
) -> Result<Replayed, Error> {
    let broken = |text: String| Error::Corrupted(Failure::new(Failure::ERROR, text));
    let Some(workflow) = app.by_hash(&record.definition) else {
        return Err(Error::DefinitionMissing {
            workflow: record.workflow.clone(),
            version: record.version,
            definition: record.definition.chars().take(12).collect(),
        });
    };
    // Rows say it as of their append; the record knows what was done since, when all is.
    let settled = if record.settled {
        Seq::MAX
    } else {
        rows.iter().map(|row| row.settled).max().unwrap_or(0)
    };
    let mut replayed: Option<Replayed> = None;
    let mut out = Effects::default();
    let mut events = Vec::new();
    for stored in rows {
        let unreadable =
            |error: journal::Error| broken(format!("row {} of the journal: {error}", stored.seq));
        let row = Row::parse(&stored.row).map_err(unreadable)?;
        out.clear();
        events.clear();
        for entry in row.events {
            let event = entry.into_event(workflow.definition).map_err(unreadable)?;
            match (&mut replayed, event) {
                (None, Event::Started(started)) => {
                    let instance = (workflow.start)(&id.to_string(), &started, row.at, &mut out)
                        .map_err(&broken)?;
                    let traceparent = started.traceparent;
                    let journal_size = JournalSize::default();
                    replayed = Some(Replayed {
                        instance,
                        traceparent,
                        seq: 0,
                        last_at: row.at,
                        journal_size,
                        unsettled: Vec::new(),
                    });
                }
                (None, _) => {
                    return Err(broken("the journal does not begin with `started`".to_owned()));
                }
                (Some(replayed), event) => {
                    replayed.instance.apply(&event, row.at, &mut out).map_err(|why| {
                        broken(format!(
                            "row {} of the journal does not apply ({why}): the definition behaves differently than it did",
                            stored.seq
                        ))
                    })?;
                    events.push(event);
                }
            }
        }
        if let Some(replayed) = &mut replayed {
            replayed.seq = stored.seq;
            replayed.last_at = row.at;
            replayed.journal_size.add(&events, stored.row.len(), out.passes, &*replayed.instance);
            if stored.seq > settled {
                replayed.unsettled.extend(
                    (0..).zip(out.all.drain(..)).map(|(n, effect)| (stored.seq, n, effect)),
                );
            }
        }
    }
    let mut replayed = replayed.ok_or_else(|| broken("the journal is empty".to_owned()))?;
    replayed.journal_size.close_all(&*replayed.instance);
    Ok(replayed)
}
