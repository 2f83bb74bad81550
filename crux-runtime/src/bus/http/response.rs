//! Translates a service's HTTP status and body to a [`Reported`]. Knows no sockets.

use std::time::Duration;

use hyper::StatusCode;
use jiff::Timestamp;
use jiff::fmt::rfc2822;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::machine;
use crate::machine::{AttemptFailed, Contract, Failure, Outcome};
use crate::outside;
use crate::task::Reported;

/// Texts of failures are cut here: they are kept in the journal indefinitely.
const MAX_TEXT: usize = 4096;
/// How much of an answer that is not understood is shown.
const SHOWN: usize = 200;
/// A failure that wants more time than this before the next attempt gets this much.
const MAX_AFTER_MS: u64 = 30 * 24 * 3600 * 1000;
/// The longest `Retry-After` that is honoured.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(3600);
/// `{success, result | error}`.
#[derive(Deserialize)]
struct Answer {
    success: bool,
    result: Option<Box<RawValue>>,
    error: Option<ErrorBody>,
}

/// A failed answer may say less.
#[derive(Deserialize)]
struct Complaint {
    error: ErrorBody,
}

/// A failure as a service reports it, in its response or in a completion.
#[derive(Deserialize)]
#[serde(untagged, expecting = "expected a text or `{name, message, retry?, after?}`")]
pub(crate) enum ErrorBody {
    Text(String),
    Named {
        name: Option<String>,
        message: String,
        retry: Option<bool>,
        /// A duration's text: `30s`.
        after: Option<String>,
    },
}

/// What a status means for an attempt, as configured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Meaning {
    /// It was not taken, and comes again: no attempt is used up.
    Later,
    /// The failure `Unavailable`: retried as the step's `retry` says.
    Unavailable,
    /// Failed: retried as the step's `retry` says.
    Failed,
    /// Failed, and no attempt will ever succeed.
    Terminal,
}

/// A response, but for its head's other parts.
pub(crate) struct Response<'a> {
    /// The service's name in the configuration.
    pub(crate) service: &'a str,
    pub(crate) status: StatusCode,
    pub(crate) body: &'a [u8],
}

impl Response<'_> {
    /// What the response means for an attempt, `meaning` being what its status does; not for those
    /// that mean [`Meaning::Later`].
    pub(crate) fn reported(&self, contract: &Contract, meaning: Option<Meaning>) -> Reported {
        match meaning {
            Some(Meaning::Unavailable) => {
                return failed(self.complaint(Failure::UNAVAILABLE, None));
            }
            Some(Meaning::Failed) => return failed(self.complaint(Failure::ERROR, None)),
            Some(Meaning::Terminal) => {
                return failed(AttemptFailed {
                    retry: Some(false),
                    ..self.complaint(Failure::ERROR, Some(false))
                });
            }
            Some(Meaning::Later) | None => {}
        }
        match self.status {
            StatusCode::OK => self.completion(contract),
            StatusCode::NO_CONTENT => self.completed(None, contract),
            StatusCode::ACCEPTED => Reported::Delivered,
            // From a proxy in front of the service; whether the service got the task is unknown.
            StatusCode::BAD_GATEWAY | StatusCode::GATEWAY_TIMEOUT => {
                let failure = Failure::new(Failure::UNAVAILABLE, self.description());
                failed(AttemptFailed {
                    outcome: Outcome::Unknown,
                    failure,
                    retry: None,
                    after_ms: None,
                })
            }
            status if status.is_server_error() => failed(self.complaint(Failure::ERROR, None)),
            StatusCode::BAD_REQUEST | StatusCode::UNPROCESSABLE_ENTITY => failed(AttemptFailed {
                retry: Some(false),
                ..self.complaint(Failure::INVALID_INPUT, Some(false))
            }),
            status if status.is_client_error() => failed(AttemptFailed {
                retry: Some(false),
                ..self.complaint(Failure::ERROR, Some(false))
            }),
            status if status.is_redirection() => {
                let text = format!(
                    "{}: redirects are not followed; configure the final address as services.{}.url",
                    self.description(),
                    self.service
                );
                failed(AttemptFailed { retry: Some(false), ..plain(Failure::ERROR, text) })
            }
            _ => self.invalid(
                "the status is neither 200 (done) nor 202 (accepted, the result comes later)",
            ),
        }
    }

    fn completion(&self, contract: &Contract) -> Reported {
        let read = outside::check(self.body).map_err(|refused| refused.to_string());
        let read = read.and_then(|()| {
            serde_json::from_slice::<Answer>(self.body).map_err(|error| error.to_string())
        });
        match read {
            Ok(Answer { success: true, result, .. }) => self.completed(result, contract),
            Ok(Answer { success: false, error: Some(error), .. }) => failed(error.into_failed()),
            Ok(Answer { success: false, error: None, .. }) => {
                failed(plain(Failure::ERROR, format!("service `{}` gave no reason", self.service)))
            }
            Err(error) => self
                .invalid(&format!("not {{success, result | error}}: {error}: `{}`", self.shown())),
        }
    }

    fn completed(&self, result: Option<Box<RawValue>>, contract: &Contract) -> Reported {
        // A step type without `returns` may leave the result out.
        let result = result.map_or_else(|| RawValue::from_string("{}".to_owned()), Ok);
        match result {
            Ok(result) => match (contract.check_result)(&result) {
                Ok(()) => Reported::Completed { result },
                Err(text) => self.invalid(&within_result(&text)),
            },
            Err(error) => self.invalid(&error.to_string()),
        }
    }

    /// The error of a status that says failed; its body may say more.
    fn complaint(&self, name: &'static str, retry: Option<bool>) -> AttemptFailed {
        let complaint = serde_json::from_slice::<Complaint>(self.body)
            .ok()
            .map(|complaint| complaint.error.into_failed());
        let mut complaint = complaint.unwrap_or_else(|| plain(name, self.description()));
        if complaint.failure.name == Failure::ERROR {
            complaint.failure.name = name.into();
        }
        complaint.retry = retry.or(complaint.retry);
        complaint
    }

    fn invalid(&self, text: &str) -> Reported {
        failed(plain(
            Failure::INVALID_RESULT,
            format!("service `{}` answered {}: {text}", self.service, self.status.as_u16()),
        ))
    }

    fn description(&self) -> String {
        let shown = self.shown();
        let text = if shown.is_empty() { String::new() } else { format!(": {shown}") };
        format!("service `{}` answered {}{text}", self.service, self.status)
    }

    /// The body's beginning, for people.
    fn shown(&self) -> String {
        cut(String::from_utf8_lossy(self.body).trim(), SHOWN)
    }
}

impl ErrorBody {
    /// A failure is a failure, whatever its form. A name that no pipeline can have —
    /// `java.io.IOException` — is part of the message; a time that is none is left out, and the
    /// message says so.
    pub(crate) fn into_failed(self) -> AttemptFailed {
        match self {
            ErrorBody::Text(text) => plain(Failure::ERROR, text),
            ErrorBody::Named { name, mut message, retry, after } => {
                let name = match name {
                    Some(name) if is_error_name(&name) => name,
                    Some(name) if !name.is_empty() => {
                        message.insert_str(0, &format!("{}: ", cut(&name, SHOWN)));
                        Failure::ERROR.to_owned()
                    }
                    _ => Failure::ERROR.to_owned(),
                };
                let after_ms = match after.as_deref().map(duration_ms) {
                    Some(Err(text)) => {
                        message.push_str(&format!(" ({text})"));
                        None
                    }
                    Some(Ok(ms)) => Some(ms),
                    None => None,
                };
                let failure = Failure::new(name, cut(&message, MAX_TEXT));
                AttemptFailed { outcome: Outcome::Failed, failure, retry, after_ms }
            }
        }
    }
}

/// The text of a wrong result begins with the path of the field, if one is to blame.
fn within_result(text: &str) -> String {
    let has_path = text.split_once(": ").is_some_and(|(path, _)| !path.contains([' ', '`']));
    let separator = if has_path { "." } else { ": " };
    format!("result{separator}{text}")
}

/// The meaning of a status that says nothing about the task itself. A service that rejects Crux's
/// credentials has not looked at the task: a wrong token must not fail everything for good.
pub(crate) fn usual_meaning(status: StatusCode) -> Option<Meaning> {
    match status {
        StatusCode::TOO_MANY_REQUESTS
        | StatusCode::SERVICE_UNAVAILABLE
        | StatusCode::REQUEST_TIMEOUT
        | StatusCode::TOO_EARLY => Some(Meaning::Later),
        StatusCode::UNAUTHORIZED | StatusCode::PROXY_AUTHENTICATION_REQUIRED => {
            Some(Meaning::Unavailable)
        }
        _ => None,
    }
}

/// `Retry-After`: seconds or a date. `None`: not said, or not understood.
pub(crate) fn retry_after(header: &str, now: Timestamp) -> Option<Duration> {
    let pause = match header.trim().parse::<u64>() {
        Ok(seconds) => Duration::from_secs(seconds),
        Err(_) => {
            let until = rfc2822::DateTimeParser::new().parse_timestamp(header.trim()).ok()?;
            Duration::try_from(until.duration_since(now)).unwrap_or_default()
        }
    };
    Some(pause.min(RETRY_AFTER_MAX))
}

fn failed(failed: AttemptFailed) -> Reported {
    Reported::Failed(failed)
}

fn plain(name: &'static str, text: String) -> AttemptFailed {
    AttemptFailed {
        outcome: Outcome::Failed,
        failure: Failure::new(name, cut(&text, MAX_TEXT)),
        retry: None,
        after_ms: None,
    }
}

fn is_error_name(name: &str) -> bool {
    name.len() <= 255
        && name.starts_with(|c: char| c.is_ascii_uppercase())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric())
}

fn duration_ms(text: &str) -> Result<u64, String> {
    let ms =
        text.parse::<machine::Duration>().ok().and_then(|span| u64::try_from(span.as_ms()).ok());
    let ms = ms.ok_or_else(|| {
        format!(
            "its `after`, `{}`, is not a duration and does not count: write it like `30s`",
            cut(text, SHOWN)
        )
    })?;
    Ok(ms.min(MAX_AFTER_MS))
}

fn cut(text: &str, max: usize) -> String {
    if text.len() <= max {
        return text.to_owned();
    }
    let end = (0..=max).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
    format!("{}…", text.get(..end).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(status: u16, body: &str) -> Reported {
        let response = Response {
            service: "image",
            status: StatusCode::from_u16(status).unwrap(),
            body: body.as_bytes(),
        };
        response.reported(&crate::bus::http::tests::CONTRACT, usual_meaning(response.status))
    }

    fn failed_of(status: u16, body: &str) -> AttemptFailed {
        match of(status, body) {
            Reported::Failed(failed) => failed,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_named_error_keeps_its_name_and_its_wishes() {
        let failed = failed_of(
            200,
            r#"{"success":false,"error":{"name":"OutOfStock","message":"none left","retry":true,"after":"1m30s"}}"#,
        );
        assert_eq!(failed.failure, Failure::new("OutOfStock", "none left"));
        assert_eq!((failed.retry, failed.after_ms), (Some(true), Some(90_000)));
    }

    #[test]
    fn a_failure_in_a_strange_form_is_still_a_failure() {
        let of = |error: &str| failed_of(200, &format!(r#"{{"success":false,"error":{error}}}"#));
        let foreign = of(r#"{"name":"java.io.IOException","message":"no route"}"#);
        assert_eq!(
            (foreign.failure.to_string().as_str(), foreign.retry),
            ("java.io.IOException: no route", None)
        );
        assert_eq!(foreign.failure.name, "Error");
        let soon = of(r#"{"name":"OutOfStock","message":"none left","after":"soon"}"#);
        let text = "OutOfStock: none left (its `after`, `soon`, is not a duration and does not count: write it like `30s`)";
        assert_eq!((soon.failure.to_string().as_str(), soon.after_ms), (text, None));
        let day = 24 * 3600 * 1000;
        assert_eq!(of(r#"{"message":"m","after":"2d12h"}"#).after_ms, Some(2 * day + day / 2));
        assert_eq!(of(r#"{"message":"m","after":"99999999d"}"#).after_ms, Some(30 * day));
        assert_eq!(of(r#"{"message":"m","after":"-1s"}"#).after_ms, None);
    }

    #[test]
    fn credentials_that_are_not_taken_are_no_verdict_on_the_task() {
        let failed = failed_of(401, "who are you?");
        assert_eq!(
            failed.failure.to_string(),
            "Unavailable: service `image` answered 401 Unauthorized: who are you?"
        );
        assert_eq!((failed.outcome, failed.retry), (Outcome::Failed, None));
        let response = Response { service: "image", status: StatusCode::NOT_FOUND, body: b"" };
        let Reported::Failed(failed) =
            response.reported(&crate::bus::http::tests::CONTRACT, Some(Meaning::Failed))
        else {
            panic!()
        };
        assert_eq!((failed.failure.name.as_ref(), failed.retry), ("Error", None));
        let Reported::Failed(failed) =
            response.reported(&crate::bus::http::tests::CONTRACT, Some(Meaning::Terminal))
        else {
            panic!()
        };
        assert_eq!(failed.retry, Some(false));
    }

    #[test]
    fn a_text_is_the_plain_error() {
        assert_eq!(
            failed_of(200, r#"{"success":false,"error":"no"}"#).failure,
            Failure::new("Error", "no")
        );
        assert_eq!(failed_of(500, r#"{"error":"no"}"#).failure, Failure::new("Error", "no"));
    }

    #[test]
    fn a_client_error_is_terminal_whatever_its_body_wishes() {
        let failed = failed_of(422, r#"{"error":{"message":"no width","retry":true}}"#);
        assert_eq!(failed.failure, Failure::new("InvalidInput", "no width"));
        assert_eq!(failed.retry, Some(false));
        assert_eq!(
            failed_of(404, "nothing here").failure.message,
            "service `image` answered 404 Not Found: nothing here"
        );
    }

    #[test]
    fn garbage_is_an_invalid_result_and_says_what_is_wrong() {
        for (body, text) in [
            (
                "<html>",
                "service `image` answered 200: not {success, result | error}: expected value at line 1 column 1: `<html>`",
            ),
            (
                "",
                "service `image` answered 200: not {success, result | error}: nothing is there where a JSON value should be: ``",
            ),
            (
                r#"{"success":true,"result":{"width":1e400}}"#,
                "service `image` answered 200: not {success, result | error}: result.width: a number that no double can hold: send it as a \
                 string: `{\"success\":true,\"result\":{\"width\":1e400}}`",
            ),
            (
                r#"{"success":true,"result":{"width":"wide"}}"#,
                "service `image` answered 200: result.width: not a number",
            ),
        ] {
            assert_eq!(failed_of(200, body).failure, Failure::new("InvalidResult", text), "{body}");
        }
        assert_eq!(failed_of(201, "{}").failure.name, "InvalidResult");
    }

    #[test]
    fn the_answers_of_the_page_are_understood() {
        let page = include_str!("../../../../docs/services.md");
        let blocks =
            page.split("```json answer\n").skip(1).filter_map(|rest| rest.split("```").next());
        // The page also shows what Crux answers.
        let blocks: Vec<&str> = blocks.filter(|body| body.contains(r#""success""#)).collect();
        assert_eq!(blocks.len(), 2);
        for body in blocks {
            match of(200, body) {
                Reported::Completed { result } => {
                    assert!(result.get().contains("processed_images"))
                }
                Reported::Failed(failed) => {
                    assert_eq!(
                        failed.failure,
                        Failure::new("PictureNotFound", "chair.png is not there")
                    );
                    assert_eq!(failed.retry, Some(false));
                }
                other => panic!("{other:?}"),
            }
        }
    }

    #[test]
    fn long_texts_are_cut() {
        let failed =
            failed_of(200, &format!(r#"{{"success":false,"error":"{}"}}"#, "ä".repeat(5000)));
        assert_eq!(failed.failure.message.chars().count(), 2049);
    }

    #[test]
    fn retry_after_is_read_as_seconds_and_as_a_date() {
        let now: Timestamp = "2026-11-22T07:00:00Z".parse().unwrap();
        assert_eq!(retry_after("120", now), Some(Duration::from_secs(120)));
        assert_eq!(
            retry_after("Sun, 22 Nov 2026 07:00:30 GMT", now),
            Some(Duration::from_secs(30))
        );
        assert_eq!(retry_after("Sun, 22 Nov 2026 06:00:00 GMT", now), Some(Duration::ZERO));
        assert_eq!(retry_after("999999999", now), Some(RETRY_AFTER_MAX));
        assert_eq!(retry_after("soon", now), None);
    }
}
