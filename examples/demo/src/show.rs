//! What the terminal shows: one line per thing that happened, with the time since the start, and
//! colours where a person looks.

use std::io::{IsTerminal, stdout};
use std::time::Instant;

use serde_json::Value;

use crate::follow::Message;

/// Terminal codes, or nothing.
#[derive(Debug, Clone, Copy)]
pub struct Style {
    pub strong: &'static str,
    pub good: &'static str,
    pub bad: &'static str,
    pub faint: &'static str,
    pub plain: &'static str,
}

const COLOURS: Style = Style {
    strong: "\x1b[1m",
    good: "\x1b[32m",
    bad: "\x1b[31m",
    faint: "\x1b[2m",
    plain: "\x1b[0m",
};
const NOTHING: Style = Style { strong: "", good: "", bad: "", faint: "", plain: "" };

#[derive(Debug, Clone, Copy)]
pub struct Show {
    began: Instant,
    pub style: Style,
}

impl Show {
    pub fn new() -> Self {
        let coloured = stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
        Self { began: Instant::now(), style: if coloured { COLOURS } else { NOTHING } }
    }

    pub fn heading(&self, text: &str) {
        println!("\n{}{text}{}", self.style.strong, self.style.plain);
    }

    /// Something that happened to nobody's product.
    pub fn event(&self, text: &str) {
        let Style { bad, plain, .. } = self.style;
        println!("{}  {bad}{text}{plain}", self.time());
    }

    /// What a message says of a product.
    pub fn message(&self, product: &str, message: &Message) {
        if let Some((word, rest)) = words(message) {
            let Style { good, bad, faint, plain, .. } = self.style;
            let colour = match word {
                "done" | "completed" => good,
                "failed" | "lost" | "cancelled" => bad,
                _ => faint,
            };
            println!(
                "{}  {product:<24}  {:<16}  {colour}{word:<9}{plain}  {rest}",
                self.time(),
                step(message)
            );
        }
    }

    fn time(&self) -> String {
        format!(
            "{}{:7.3} s{}",
            self.style.faint,
            self.began.elapsed().as_secs_f64(),
            self.style.plain
        )
    }
}

fn step(message: &Message) -> &str {
    match message.text("step_type") {
        "" => "workflow",
        step_type => step_type,
    }
}

/// One word for what happened and the rest of the line; `None` for messages that say nothing to
/// people who watch.
fn words(message: &Message) -> Option<(&'static str, String)> {
    let attempt = message.data.get("attempt").and_then(Value::as_u64).unwrap_or(1);
    let error = || message.text("error").to_owned();
    Some(match message.r#type.as_str() {
        "workflow_started" => ("started", String::new()),
        "step_dispatched" if attempt > 1 => ("again", format!("attempt {attempt}")),
        "step_dispatched" => ("working", String::new()),
        "step_completed" => ("done", message.data.get("result").map(result).unwrap_or_default()),
        "attempt_failed" | "step_failed" | "workflow_failed" => ("failed", error()),
        "attempt_lost" => ("lost", error()),
        "workflow_completed" => ("completed", String::new()),
        "workflow_cancelled" => ("cancelled", message.text("reason").to_owned()),
        _ => return None,
    })
}

/// What the three services of the demo have to say, in a few words.
fn result(result: &Value) -> String {
    if let Some(pictures) = result.get("pictures").and_then(Value::as_array) {
        let sum = |key| {
            pictures.iter().filter_map(|picture| picture.get(key)?.as_u64()).sum::<u64>() / 1000
        };
        let noun = if pictures.len() == 1 { "picture" } else { "pictures" };
        let time = result.get("processing_time").and_then(Value::as_str).unwrap_or_default();
        return format!(
            "{} {noun}, {} KB → {} KB in {time}",
            pictures.len(),
            sum("bytes_before"),
            sum("bytes")
        );
    }
    if let Some(ease) = result.get("reading_ease").and_then(Value::as_f64) {
        let keywords = result.get("keywords").and_then(Value::as_array).map_or(0, Vec::len);
        return format!("{keywords} keywords, reading ease {ease}");
    }
    result.get("slug").and_then(Value::as_str).map(|slug| format!("/{slug}")).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn message(r#type: &str, data: Value) -> Message {
        Message { r#type: r#type.into(), seq: 1, n: 0, last: true, data }
    }

    #[test]
    fn results_are_shown_in_a_few_words() {
        let pictures = json!([{"bytes_before": 101_000, "bytes": 30_000}, {"bytes_before": 29_000, "bytes": 12_000}]);
        let images = json!({"result": {"pictures": pictures, "processing_time": "0.081s"}});
        assert_eq!(
            words(&message("step_completed", images)),
            Some(("done", "2 pictures, 130 KB → 42 KB in 0.081s".into()))
        );
        let texts = json!({"result": {"keywords": ["a", "b"], "reading_ease": 81.5}});
        assert_eq!(
            words(&message("step_completed", texts)),
            Some(("done", "2 keywords, reading ease 81.5".into()))
        );
        let seo = json!({"result": {"slug": "harbour-mug", "title": "Harbour Mug"}});
        assert_eq!(words(&message("step_completed", seo)), Some(("done", "/harbour-mug".into())));
    }

    #[test]
    fn failures_say_why() {
        let failed = message(
            "attempt_failed",
            json!({"error": "Unavailable: nobody listens", "attempt": 2}),
        );
        assert_eq!(words(&failed), Some(("failed", "Unavailable: nobody listens".into())));
        assert_eq!(
            words(&message("step_dispatched", json!({"attempt": 2}))),
            Some(("again", "attempt 2".into()))
        );
        assert_eq!(words(&message("timer_fired", json!({}))), None);
    }
}
