//! Rows out. Written by hand: this is on the path of every transition.

use std::fmt::Write;

use serde::Serialize;

use crate::machine::{
    Definition, Ended, Event, Failure, Note, Outcome, Path, StepHappened, Time, Waiting,
};

/// One row, in place of what `text` holds: the events of a transition and its notes.
pub fn row(text: &mut String, definition: &Definition, at: Time, events: &[Event], notes: &[Note]) {
    text.clear();
    let mut out = Writer { text, definition };
    out.push("{\"v\":1,\"at\":");
    out.number(at.0);
    out.push(",\"events\":[");
    for (n, event) in events.iter().enumerate() {
        out.separate(n);
        out.event(event);
    }
    if !notes.is_empty() {
        out.push("],\"out\":[");
        for (n, note) in notes.iter().enumerate() {
            out.separate(n);
            out.note(note);
        }
    }
    out.push("]}");
}

struct Writer<'a> {
    text: &'a mut String,
    definition: &'a Definition,
}

impl Writer<'_> {
    fn push(&mut self, text: &str) {
        self.text.push_str(text);
    }

    fn separate(&mut self, n: usize) {
        if n > 0 {
            self.text.push(',');
        }
    }

    fn number(&mut self, number: i64) {
        // Writing to a String cannot fail.
        let _ = write!(self.text, "{number}");
    }

    fn json<T: Serialize + ?Sized>(&mut self, value: &T) {
        match serde_json::to_string(value) {
            Ok(json) => self.text.push_str(&json),
            // Only texts and structs of texts come here; they always encode.
            Err(_) => self.text.push_str("null"),
        }
    }

    /// `{"type":"name"`, to be closed by the caller.
    fn open(&mut self, name: &str) {
        self.push("{\"type\":\"");
        self.push(name);
        self.push("\"");
    }

    fn step(&mut self, name: &str, path: &Path) {
        self.open(name);
        self.push(",\"path\":\"");
        // Paths are made of identifiers and numbers: nothing in them needs an escape.
        let path = self.definition.path_text(path);
        self.push(&path);
        self.push("\"");
    }

    fn attempt(&mut self, attempt: u32) {
        self.push(",\"attempt\":");
        match u8::try_from(attempt) {
            // Nearly all of them, and formatting costs more than the rest of the note.
            Ok(digit @ 0..=9) => self.text.push(char::from(b'0' + digit)),
            _ => self.number(i64::from(attempt)),
        }
    }

    fn field<T: Serialize + ?Sized>(&mut self, name: &str, value: &T) {
        self.push(",\"");
        self.push(name);
        self.push("\":");
        self.json(value);
    }

    fn raw(&mut self, name: &str, value: &serde_json::value::RawValue) {
        self.push(",\"");
        self.push(name);
        self.push("\":");
        self.push(value.get());
    }

    fn error(&mut self, failure: &Failure) {
        self.field("error", failure);
    }

    fn event(&mut self, event: &Event) {
        match event {
            Event::Started(started) => {
                self.open("started");
                self.field("started", started);
            }
            Event::Step(event) => return self.step_event(&event.path, &event.what),
            Event::StopRequested { cause, reason } => {
                self.open("stop_requested");
                self.field("cause", cause);
                self.field("reason", reason);
            }
            Event::PauseRequested => self.open("pause_requested"),
            Event::ResumeRequested => self.open("resume_requested"),
            Event::RetryRequested { step, input } => {
                match step {
                    Some(path) => self.step("retry_requested", path),
                    None => self.open("retry_requested"),
                }
                if let Some(input) = input {
                    self.raw("input", input);
                }
            }
            Event::UndoRequested => self.open("undo_requested"),
            Event::FailRequested { reason } => {
                self.open("fail_requested");
                self.field("reason", reason);
            }
            Event::ParkRequested { failure } => {
                self.open("park_requested");
                self.error(failure);
            }
        }
        self.push("}");
    }

    fn step_event(&mut self, path: &Path, what: &StepHappened) {
        match what {
            StepHappened::Started { attempt } => {
                self.step("step_began", path);
                self.attempt(*attempt);
            }
            StepHappened::Completed { attempt, result } => {
                self.step("step_completed", path);
                if let Some(attempt) = attempt {
                    self.attempt(*attempt);
                }
                self.raw("result", result);
            }
            StepHappened::Failed { attempt, outcome, failure, next } => {
                self.step("step_failed", path);
                self.attempt(*attempt);
                if *outcome == Outcome::Unknown {
                    self.push(",\"outcome\":\"unknown\"");
                }
                self.error(failure);
                if let Some(next) = next {
                    self.field("next", next);
                }
            }
            StepHappened::Lost { attempt, next } => {
                self.step("task_lost", path);
                self.attempt(*attempt);
                self.field("next", next);
            }
            StepHappened::Returned { attempt, next } => {
                self.step("task_returned", path);
                self.attempt(*attempt);
                self.field("next", next);
            }
            StepHappened::TimerFired { timer } => {
                self.step("timer_fired", path);
                self.field("timer", timer);
            }
            StepHappened::Received { event_id, data } => {
                self.step("event_received", path);
                self.field("event_id", event_id);
                self.raw("data", data);
            }
            StepHappened::Retry { input } => {
                self.step("retry_requested", path);
                if let Some(input) = input {
                    self.raw("input", input);
                }
            }
        }
        self.push("}");
    }

    fn note(&mut self, note: &Note) {
        match note {
            Note::StepStarted { path, attempt } => {
                self.step("step_started", path);
                self.attempt(*attempt);
            }
            Note::StepWaiting { path, why } => {
                self.step("step_waiting", path);
                match why {
                    Waiting::Event { name, value } => {
                        self.field("event", name);
                        if let Some(value) = value {
                            self.field("value", value);
                        }
                    }
                    Waiting::Until(until) => self.field("until", until),
                }
            }
            Note::StepSkipped { path } => self.step("step_skipped", path),
            Note::StepFailed { path, failure } => {
                self.step("step_failed", path);
                self.error(failure);
            }
            Note::StepCompleted { path } => self.step("step_done", path),
            Note::Stopping { failure } => {
                self.open("workflow_stopping");
                self.error(failure);
            }
            Note::Undoing => self.open("workflow_undoing"),
            Note::Parked { failure } => {
                self.open("workflow_parked");
                self.error(failure);
            }
            Note::Paused => self.open("workflow_paused"),
            Note::Resumed => self.open("workflow_resumed"),
            Note::Ended(Ended::Completed { output }) => {
                self.open("workflow_completed");
                self.raw("output", output);
            }
            Note::Ended(Ended::Failed { failure }) => {
                self.open("workflow_failed");
                self.error(failure);
            }
            Note::Ended(Ended::Cancelled { failure }) => {
                self.open("workflow_cancelled");
                self.error(failure);
            }
        }
        self.push("}");
    }
}
