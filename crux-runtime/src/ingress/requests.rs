//! Requests of clients over any transport: bodies of completions, events and commands, and
//! their translation for the service. The same names and the same rules for all transports.

use std::borrow::Cow;
use std::time::Duration;

use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::auth::Credential;
use super::problem::{Kind, Problem};
use super::service::NewEvent;
use crate::bus::http::response::ErrorBody;
use crate::engine::api::{Command, Completion, CompletionOutcome, Progress, ProgressKind, StepRef};
use crate::id::InstanceId;
use crate::machine::{AttemptFailed, Definition, Failure, Outcome};
use crate::store::Status;
use crate::suggest::hint;
use crate::units::DurationSetting;

/// Of ids, keys and names from outside.
pub(crate) const ID_BYTES_MAX: usize = 255;
/// Events in one request.
pub(crate) const EVENTS_MAX: usize = 1000;
/// Why an instance was cancelled, if its client does not say.
pub(crate) const CANCELLED: &str = "cancelled by a person";

/// `{workflow_id, step_id, step_type?, attempt?, success, result | error, completion_token?}`.
#[derive(Deserialize)]
pub(crate) struct CompletionBody {
    workflow_id: String,
    step_id: String,
    step_type: Option<String>,
    attempt: Option<u32>,
    success: bool,
    result: Option<Box<RawValue>>,
    error: Option<ErrorBody>,
    completion_token: Option<Credential>,
}

impl CompletionBody {
    /// For the authenticator.
    pub(crate) fn take_token(&mut self) -> Option<Credential> {
        self.completion_token.take()
    }

    pub(crate) fn into_completion(self) -> Result<Completion, Problem> {
        let outcome = if self.success {
            // A step type without `returns` may leave the result out.
            Ok(match self.result {
                Some(result) => result,
                None => super::json::raw(b"{}")?,
            })
        } else {
            Err(match self.error {
                Some(error) => error.into_failed(),
                None => AttemptFailed {
                    outcome: Outcome::Failed,
                    failure: Failure::new(Failure::ERROR, "the service gave no reason"),
                    retry: None,
                    after_ms: None,
                },
            })
        };
        let step_type = self.step_type.filter(|step_type| !step_type.is_empty());
        completion(&self.workflow_id, &self.step_id, step_type, self.attempt, outcome)
    }
}

/// A completion from the texts that name its step.
pub(crate) fn completion(
    workflow_id: &str,
    step_id: &str,
    step_type: Option<String>,
    attempt: Option<u32>,
    outcome: Result<Box<RawValue>, AttemptFailed>,
) -> Result<Completion, Problem> {
    let (instance, step) = (instance_id(workflow_id)?, step_ref(step_id)?);
    Ok(Completion { instance, step, step_type, attempt, outcome })
}

/// A failure as a service reports it in separate fields.
pub(crate) fn failure(
    name: Option<String>,
    message: String,
    retry: Option<bool>,
    after: Option<String>,
) -> AttemptFailed {
    ErrorBody::Named { name, message, retry, after }.into_failed()
}

/// How a completion was taken, in one word.
pub(crate) fn word(outcome: CompletionOutcome) -> &'static str {
    match outcome {
        CompletionOutcome::Accepted => "accepted",
        CompletionOutcome::Duplicate => "duplicate",
        CompletionOutcome::Superseded => "superseded",
    }
}

/// `{workflow_id, step_id, step_type?, attempt?, completion_token?}`.
#[derive(Deserialize)]
pub(crate) struct ProgressBody {
    workflow_id: String,
    step_id: String,
    step_type: Option<String>,
    attempt: Option<u32>,
    completion_token: Option<Credential>,
}

impl ProgressBody {
    /// For the authenticator.
    pub(crate) fn take_token(&mut self) -> Option<Credential> {
        self.completion_token.take()
    }

    pub(crate) fn into_progress(self, what: ProgressKind) -> Result<Progress, Problem> {
        Ok(Progress {
            instance: instance_id(&self.workflow_id)?,
            step: step_ref(&self.step_id)?,
            step_type: self.step_type.filter(|step_type| !step_type.is_empty()),
            attempt: self.attempt,
            what,
        })
    }
}

/// `{type, id?, data}`.
#[derive(Deserialize)]
pub(crate) struct EventBody {
    r#type: String,
    id: Option<String>,
    data: Option<Box<RawValue>>,
}

impl EventBody {
    pub(crate) fn into_event(self) -> Result<NewEvent, Problem> {
        let data = match self.data {
            Some(data) => data,
            None => super::json::raw(b"{}")?,
        };
        Ok(NewEvent { name: self.r#type, id: self.id, data })
    }
}

/// `{reason?}`, for commands that end something.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ReasonBody {
    #[serde(default)]
    pub(crate) reason: String,
}

/// `{step_id?, input?}`.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RetryBody {
    step_id: Option<String>,
    input: Option<Box<RawValue>>,
}

impl RetryBody {
    pub(crate) fn into_command(self) -> Result<Command, Problem> {
        Ok(Command::Retry {
            step: self.step_id.as_deref().map(step_ref).transpose()?,
            input: self.input,
        })
    }
}

/// An instance's id, bare or with its prefix.
pub(crate) fn instance_id(text: &str) -> Result<InstanceId, Problem> {
    text.parse().map_err(|error: crate::id::Error| {
        Problem::new(Kind::InvalidRequest, error.to_string()).at("workflow_id")
    })
}

/// A step by its id, bare or with its prefix, or by its path.
pub(crate) fn step_ref(text: &str) -> Result<StepRef, Problem> {
    if let Ok(id) = text.parse() {
        return Ok(StepRef::Id(id));
    }
    let is_path = !text.is_empty()
        && text.len() <= 1024
        && text.bytes().all(|byte| {
            byte.is_ascii_lowercase()
                || byte.is_ascii_digit()
                || matches!(byte, b'_' | b'/' | b'[' | b']' | b'#')
        });
    if is_path {
        return Ok(StepRef::Path(text.to_owned()));
    }
    let shown: String = text.chars().take(80).collect();
    Err(Problem::new(
        Kind::InvalidRequest,
        format!("`{shown}` is neither a step's id nor its path"),
    )
    .at("step_id"))
}

/// A request id of the client's.
pub(crate) fn request_id(text: &str, field: &str) -> Result<String, Problem> {
    if text.is_empty() || text.len() > ID_BYTES_MAX {
        let what = if field == "key" {
            "the trigger's key, which is the request id,"
        } else {
            "a request id"
        };
        let text = format!("{what} has 1 to {ID_BYTES_MAX} bytes, this one {}", text.len());
        return Err(Problem::new(Kind::InvalidRequest, text).at(field));
    }
    Ok(text.to_owned())
}

/// A status of instances by its word.
pub(crate) fn status(word: &str) -> Result<Status, Problem> {
    if let Some(status) = Status::ALL.into_iter().find(|status| status.word() == word) {
        return Ok(status);
    }
    let shown: String = word.chars().take(80).collect();
    let hint = hint(word, Status::ALL.map(Status::word).into_iter());
    let text = format!("there is no status `{shown}`{hint}");
    Err(Problem::new(Kind::InvalidRequest, text).at("status"))
}

/// The fields that an input may have. Others are kept with the instance, and no step sees them:
/// most often a name that is misspelt.
pub(crate) struct KnownFields {
    names: Vec<String>,
    /// Others are refused: the trigger says `additional: false`.
    is_closed: bool,
}

/// More would not help a client that sends something else altogether.
const WARNINGS_MAX: usize = 8;

impl KnownFields {
    pub(crate) fn of(definition: &Definition) -> Self {
        // Without a schema everything is known.
        let schema: serde_json::Value =
            serde_json::from_str(definition.input_schema).unwrap_or_default();
        let names = schema["properties"].as_object().map(|fields| fields.keys().cloned().collect());
        Self {
            names: names.unwrap_or_default(),
            is_closed: schema["additionalProperties"] == false,
        }
    }

    pub(crate) fn has(&self, name: &str) -> bool {
        self.names.iter().any(|known| known == name)
    }

    /// Warnings about fields of a record that are not known, `besides` those that mean something
    /// else. Refused, if there may be none.
    pub(crate) fn check(&self, input: &RawValue, besides: &[&str]) -> Result<Vec<String>, Problem> {
        struct Names<'k>(&'k KnownFields, &'k [&'k str]);

        impl<'de> Visitor<'de> for Names<'_> {
            type Value = Vec<String>;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a record")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut unknown = Vec::new();
                while let Some((name, IgnoredAny)) = map.next_entry::<Cow<'_, str>, _>()? {
                    if unknown.len() < WARNINGS_MAX
                        && !self.0.has(&name)
                        && !self.1.contains(&&*name)
                    {
                        unknown.push(name.chars().take(80).collect());
                    }
                }
                Ok(unknown)
            }
        }

        // Anything but a record has been refused before.
        let unknown = serde_json::Deserializer::from_str(input.get())
            .deserialize_map(Names(self, besides))
            .unwrap_or_default();
        if let (true, Some(name)) = (self.is_closed, unknown.first()) {
            let text = format!(
                "there is no field `{name}`{}",
                hint(name, self.names.iter().map(String::as_str))
            );
            return Err(Problem::new(Kind::InvalidInput, text).at(name));
        }
        let warning = |name: &String| {
            let hint = hint(name, self.names.iter().map(String::as_str));
            format!("`{name}` is not a field of the input: it is kept, and no step sees it{hint}")
        };
        Ok(unknown.iter().map(warning).collect())
    }
}

/// `30s`, at most `longest`.
pub(crate) fn wait(text: &str, longest: Duration) -> Result<Duration, Problem> {
    let span: DurationSetting = text.parse().map_err(|error: crate::units::Error| {
        Problem::new(Kind::InvalidRequest, error.to_string()).at("wait")
    })?;
    if span.0 > longest {
        let text = format!(
            "`{text}` is longer than this server holds a request: at most {}",
            DurationSetting(longest)
        );
        return Err(Problem::new(Kind::InvalidRequest, text).at("wait"));
    }
    Ok(span.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn completion(json: &str) -> Result<Completion, Problem> {
        super::super::json::parse::<CompletionBody>(json.as_bytes())?.into_completion()
    }

    const ID: &str = "01890a5d-ac96-774b-bcce-b302099a8057";

    #[test]
    fn both_forms_of_ids_are_read_and_a_path_too() {
        let read = |workflow: &str, step: &str| {
            completion(&format!(
                r#"{{"workflow_id":"{workflow}","step_id":"{step}","step_type":"x","success":true,"result":{{}}}}"#
            ))
        };
        let bare = read(ID, ID).unwrap();
        let prefixed =
            read(&format!("workflow_instance:{ID}"), &format!("step_instance:{ID}")).unwrap();
        assert_eq!((bare.instance, &bare.step), (prefixed.instance, &prefixed.step));
        assert_eq!(
            read(ID, "ship[3]/label").unwrap().step,
            StepRef::Path("ship[3]/label".to_owned())
        );
        assert_eq!(read("uuid-here", ID).unwrap_err().field.as_deref(), Some("workflow_id"));
        assert_eq!(read(ID, "Step UUID").unwrap_err().field.as_deref(), Some("step_id"));
    }

    #[test]
    fn an_error_is_a_text_or_a_record() {
        let failed = |error: &str| {
            completion(&format!(
                r#"{{"workflow_id":"{ID}","step_id":"{ID}","success":false{error}}}"#
            ))
            .map(|it| it.outcome.unwrap_err())
        };
        assert_eq!(
            failed(r#","error":"no disk""#).unwrap().failure,
            Failure::new("Error", "no disk")
        );
        let named = failed(
            r#","error":{"name":"OutOfStock","message":"none","retry":false,"after":"30s"}"#,
        )
        .unwrap();
        assert_eq!(
            (named.failure.name.as_ref(), named.retry, named.after_ms),
            ("OutOfStock", Some(false), Some(30_000))
        );
        assert_eq!(failed("").unwrap().failure.message, "the service gave no reason");
        assert_eq!(
            failed(r#","error":{"name":"out of stock","message":"none"}"#)
                .unwrap()
                .failure
                .to_string(),
            "out of stock: none"
        );
        let wrong = failed(r#","error":7"#).unwrap_err();
        assert!(wrong.detail.contains("expected a text or `{name, message"), "{}", wrong.detail);
    }

    #[test]
    fn a_wait_has_a_unit_and_a_limit() {
        let longest = Duration::from_secs(60);
        assert_eq!(wait("30s", longest).unwrap(), Duration::from_secs(30));
        assert!(wait("30", longest).unwrap_err().detail.contains("is not a valid duration"));
        assert!(wait("2m", longest).unwrap_err().detail.contains("at most 1m"));
    }
}
