//! The verbs that steer: groups, branches, loops, waits, sleeps, `emit` and `fail`.

use super::mapping::{Mapping, MisplacedKeyHint, Shape, list, nowhere, wrong_kind};
use super::scalar::{self, Zero};
use super::step::{self, elsewhere};
use super::tree::{BROKEN_KEY, Kind, Node, Pair};
use super::value;
use crate::codes;
use crate::diagnostic::{Diagnostic, Sink};
use crate::model::{Branch, Each, MatchCase, Name, Otherwise, Repeat, Sleep, SwitchCase, Verb};
use crate::names;
use crate::source::Spanned;
use crate::units;

/// Maximum concurrent elements and maximum rounds.
pub const COUNT_MAX: u32 = 10_000;

/// The shapes of steps with one specific key, some with a `timeout`.
macro_rules! shapes {
    ($($shape:ident = $what:literal, $schema:literal, $verb:literal $(, $timeout:literal)?;)*) => {
        $(pub static $shape: Shape = Shape {
            what: $what,
            schema: $schema,
            keys: &["id", "description", $verb, "when", $($timeout,)? "catch"],
        };)*
    };
}

shapes! {
    GROUP = "a group", "GroupStep", "steps", "timeout";
    PARALLEL = "a `parallel` step", "ParallelStep", "parallel", "timeout";
    SWITCH = "a `switch` step", "SwitchStep", "switch";
    EACH = "an `each` step", "EachStep", "each", "timeout";
    REPEAT = "a `repeat` step", "RepeatStep", "repeat", "timeout";
    WAIT = "a `wait` step", "WaitStep", "wait", "timeout";
    SLEEP = "a `sleep` step", "SleepStep", "sleep";
    EMIT = "an `emit` step", "EmitStep", "emit";
    FAIL = "a `fail` step", "FailStep", "fail";
}

pub static CASE: Shape =
    Shape { what: "a branch of `switch`", schema: "Case", keys: &["when", "steps"] };
pub static ELSE: Shape = Shape { what: "the `else` of `switch`", schema: "Else", keys: &["else"] };
pub static MATCH: Shape =
    Shape { what: "`switch`", schema: "Match", keys: &["value", "cases", "else"] };
pub static EACH_BODY: Shape = Shape {
    what: "`each`",
    schema: "Each",
    keys: &["item", "in", "concurrency", "steps", "yield"],
};
pub static REPEAT_BODY: Shape =
    Shape { what: "`repeat`", schema: "Repeat", keys: &["until", "max", "every", "steps"] };
pub static WAIT_BODY: Shape = Shape { what: "`wait`", schema: "Wait", keys: &["event", "where"] };
pub static SLEEP_BODY: Shape = Shape { what: "`sleep`", schema: "SleepUntil", keys: &["until"] };
pub static EMIT_BODY: Shape = Shape { what: "`emit`", schema: "Emit", keys: &["event", "data"] };
pub static FAIL_BODY: Shape = Shape { what: "`fail`", schema: "Fail", keys: &["error", "message"] };

/// `key` is the verb's key in `mapping`.
pub fn verb(key: &str, mapping: &Mapping<'_>, sink: &mut Sink) -> Option<Verb> {
    let timeout_ms = if matches!(key, "steps" | "parallel" | "each" | "repeat" | "wait") {
        timeout(mapping, sink)
    } else {
        None
    };
    let pair = mapping.get(key)?;
    match key {
        "steps" => Some(Verb::Group { steps: step::some_steps(pair, sink)?, timeout_ms }),
        "parallel" => Some(Verb::Parallel { branches: branches(pair, sink)?, timeout_ms }),
        "switch" => switch(pair, sink),
        "each" => each(pair, timeout_ms, sink).map(|each| Verb::Each(Box::new(each))),
        "repeat" => repeat(pair, timeout_ms, sink).map(|repeat| Verb::Repeat(Box::new(repeat))),
        "wait" => {
            if let Some(diagnostic) = wait_for_a_while(pair) {
                sink.push(diagnostic);
                return None;
            }
            let (body, event) = with_event(pair, &WAIT_BODY, sink)?;
            let condition = body.get("where").and_then(|pair| scalar::expression(pair, sink));
            Some(Verb::Wait { event: event?, condition, timeout_ms })
        }
        "sleep" => sleep(pair, sink).map(Verb::Sleep),
        "emit" => {
            let (body, event) = with_event(pair, &EMIT_BODY, sink)?;
            let data = body.get("data").and_then(|pair| value::entries(pair, sink));
            Some(Verb::Emit { event: event?, data })
        }
        _ => {
            let example = match shown(pair, "OutOfStock") {
                error if names::Kind::Type.accepts(error) => format!("{{ error: {error} }}"),
                message => format!("{{ error: Refused, message: \"{message}\" }}"),
            };
            let body = body(pair, &FAIL_BODY, &example, sink)?;
            let error = body.need("error", "error: OutOfStock", sink);
            let error = error.and_then(|pair| {
                scalar::name(&pair.value, names::Kind::Type, "the name of an error", sink)
            });
            let message = body.get("message").and_then(|pair| scalar::text(pair, sink));
            Some(Verb::Fail { error: error?, message })
        }
    }
}

/// The mapping of a verb that names an event, and the event.
fn with_event<'a>(
    pair: &'a Pair,
    shape: &'static Shape,
    sink: &mut Sink,
) -> Option<(Mapping<'a>, Option<Name>)> {
    let example = format!("{{ event: {} }}", shown(pair, "order.paid"));
    let body = body(pair, shape, &example, sink)?;
    let event =
        body.need("event", "event: order.paid", sink).and_then(|pair| scalar::filled(pair, sink));
    Some((body, event))
}

/// `wait: 5m`, which is a `sleep`.
fn wait_for_a_while(pair: &Pair) -> Option<Diagnostic> {
    let text = match &pair.value.kind {
        // `wait: { seconds: 10 }` has a separate hint.
        Kind::Text(text) | Kind::Integer(_, text) | Kind::Number(_, text) => text.value.as_str(),
        _ => return None,
    };
    let ms = units::parse_duration(text)
        .ok()
        .or_else(|| units::meant_duration(text))
        .or_else(|| text.parse().ok().map(|s: u64| s * 1000));
    let diagnostic = Diagnostic::error(
        codes::WRONG_KIND,
        pair.value.span,
        "`wait` waits for an event, not for a time",
    );
    Some(
        diagnostic
            .label("this is a duration")
            .help(format!("write `sleep: {}`", units::format_duration(ms?))),
    )
}

/// The timeout of everything but work.
pub fn timeout(mapping: &Mapping<'_>, sink: &mut Sink) -> Option<Spanned<u64>> {
    let pair = mapping.get("timeout")?;
    if matches!(pair.value.kind, Kind::Mapping(_)) {
        sink.push(
            Diagnostic::error(
                codes::WRONG_KIND,
                pair.value.span,
                "this `timeout` must be one duration, not a record",
            )
            .label("this is a record")
            .help("write `timeout: 10m`; only work has `queue`, `run`, `heartbeat` and `total`"),
        );
        return None;
    }
    scalar::duration(pair, Zero::Refused, sink)
}

/// The mapping of a verb; of a text that should be one, the fix is shown.
fn body<'a>(
    pair: &'a Pair,
    shape: &'static Shape,
    example: &str,
    sink: &mut Sink,
) -> Option<Mapping<'a>> {
    if let Kind::Text(_) = &pair.value.kind {
        sink.push(
            Diagnostic::error(
                codes::WRONG_KIND,
                pair.value.span,
                format!("`{}` must be a record, not a string", pair.key.value),
            )
            .label("this is a string")
            .help(format!("write `{}: {example}`", pair.key.value)),
        );
        return None;
    }
    let beside: MisplacedKeyHint = |key| match key {
        "id" | "when" | "timeout" | "catch" | "description" => {
            Some(format!("`{key}` belongs to the step itself, one level up"))
        }
        _ => elsewhere(key),
    };
    Mapping::under(pair, shape, beside, sink)
}

fn shown<'a>(pair: &'a Pair, example: &'a str) -> &'a str {
    match &pair.value.kind {
        Kind::Text(text) => &text.value,
        _ => example,
    }
}

fn branches(pair: &Pair, sink: &mut Sink) -> Option<Vec<Branch>> {
    let wanted = "a record of names to branches, `{ left: [...], right: [...] }`";
    by_name(pair, "`parallel`", wanted, sink, |pair, sink| {
        let name =
            scalar::check_name(pair.key.clone(), names::Kind::Id, "the name of a branch", sink);
        let steps = branch_steps(pair, sink);
        Some(Branch { name: name?, steps: steps? })
    })
}

/// The branches of a record of names to branches.
fn by_name<T>(
    pair: &Pair,
    what: &str,
    wanted: &str,
    sink: &mut Sink,
    branch: impl Fn(&Pair, &mut Sink) -> Option<T>,
) -> Option<Vec<T>> {
    let Kind::Mapping(pairs) = &pair.value.kind else {
        wrong_kind(what, &pair.value, wanted, sink);
        return None;
    };
    if pairs.is_empty() {
        scalar::empty(pair, sink);
        return None;
    }
    if too_many(pair, pairs.len(), sink) {
        return None;
    }
    let pairs = pairs.iter().filter(|pair| pair.key.value != BROKEN_KEY);
    Some(pairs.filter_map(|pair| branch(pair, sink)).collect())
}

/// Most branches of one step. A workflow has no more steps than that either.
const BRANCHES_MAX: usize = 1000;

fn too_many(pair: &Pair, branches: usize, sink: &mut Sink) -> bool {
    if branches > BRANCHES_MAX {
        let message =
            format!("`{}` has {branches} branches, more than {BRANCHES_MAX}", pair.key.value);
        let diagnostic =
            Diagnostic::error(codes::LIMIT, pair.key.span, message).label("too many branches");
        sink.push(diagnostic.help(
            "a list of things is done by `each`; what depends on a value of many belongs in a step",
        ));
    }
    branches > BRANCHES_MAX
}

/// The steps under a key that is a name, not one of a shape's.
fn branch_steps(pair: &Pair, sink: &mut Sink) -> Option<Vec<crate::model::Step>> {
    if matches!(pair.value.kind, Kind::Null | Kind::Absent) {
        super::mapping::no_value(pair, sink);
        return None;
    }
    step::steps(pair, sink)
}

fn switch(pair: &Pair, sink: &mut Sink) -> Option<Verb> {
    match &pair.value.kind {
        Kind::List(nodes) => switch_list(pair, nodes, sink),
        Kind::Mapping(_) => switch_value(pair, sink),
        _ => {
            wrong_kind(
                "`switch`",
                &pair.value,
                "a list of branches or a record with `value` and `cases`",
                sink,
            );
            None
        }
    }
}

fn switch_list(pair: &Pair, nodes: &[Node], sink: &mut Sink) -> Option<Verb> {
    if nodes.is_empty() {
        scalar::empty(pair, sink);
        return None;
    }
    if too_many(pair, nodes.len(), sink) {
        return None;
    }
    let mut cases = Vec::new();
    let mut otherwise = None;
    for (index, node) in nodes.iter().enumerate() {
        let is_else = matches!(&node.kind, Kind::Mapping(pairs) if pairs.iter().any(|pair| pair.key.value == "else"));
        if !is_else {
            cases.extend(case(node, sink));
            continue;
        }
        let Some(mapping) = Mapping::open(node, &ELSE, else_elsewhere, sink) else { continue };
        let Some(pair) = mapping.get("else") else { continue };
        if index + 1 < nodes.len() {
            sink.push(
                Diagnostic::error(codes::BAD_ELSE, pair.key.span, "`else` must be the last branch")
                    .label("branches follow it")
                    .help("move it to the end"),
            );
        }
        otherwise = step::steps(pair, sink).map(|steps| Otherwise { key: pair.key.span, steps });
    }
    Some(Verb::Switch { cases, otherwise })
}

fn else_elsewhere(key: &str) -> Option<String> {
    matches!(key, "when" | "steps")
        .then(|| "`else` has its steps directly: `else: [...]`, and no condition".into())
}

fn case(node: &Node, sink: &mut Sink) -> Option<SwitchCase> {
    let mapping = Mapping::open(node, &CASE, nowhere, sink)?;
    let when = mapping
        .need("when", "when: steps.score.value > 0.8", sink)
        .and_then(|pair| scalar::expression(pair, sink));
    let steps = mapping.need("steps", "steps: []", sink).and_then(|pair| step::steps(pair, sink));
    Some(SwitchCase { when: when?, steps: steps? })
}

fn switch_value(pair: &Pair, sink: &mut Sink) -> Option<Verb> {
    let mapping = Mapping::under(pair, &MATCH, match_elsewhere, sink)?;
    let value = mapping
        .need("value", "value: input.channel", sink)
        .and_then(|pair| scalar::expression(pair, sink));
    let cases = mapping
        .need("cases", "cases: { email: [], sms: [] }", sink)
        .and_then(|pair| match_cases(pair, sink));
    let otherwise = mapping
        .get("else")
        .and_then(|pair| Some(Otherwise { key: pair.key.span, steps: step::steps(pair, sink)? }));
    Some(Verb::Match { value: value?, cases: cases?, otherwise })
}

fn match_elsewhere(key: &str) -> Option<String> {
    matches!(key, "when" | "steps").then(|| {
        let forms = list(["value", "cases"]);
        format!("a `switch` over conditions is a list, `- when: …`; this form has {forms}")
    })
}

fn match_cases(pair: &Pair, sink: &mut Sink) -> Option<Vec<MatchCase>> {
    by_name(pair, "`cases`", "a record of values to branches", sink, |pair, sink| {
        Some(MatchCase { value: pair.key.clone(), steps: branch_steps(pair, sink)? })
    })
}

fn each(pair: &Pair, timeout_ms: Option<Spanned<u64>>, sink: &mut Sink) -> Option<Each> {
    let body = body(pair, &EACH_BODY, "{ item: line, in: input.lines, steps: [...] }", sink)?;
    let item = body.need("item", "item: line", sink);
    let item = item
        .and_then(|pair| scalar::name(&pair.value, names::Kind::Id, "the name of an item", sink));
    let list =
        body.need("in", "in: input.lines", sink).and_then(|pair| scalar::expression(pair, sink));
    let concurrency =
        body.get("concurrency").and_then(|pair| scalar::integer(pair, 1..=COUNT_MAX, sink));
    let steps =
        body.need("steps", "steps: [...]", sink).and_then(|pair| step::some_steps(pair, sink));
    let yields = body.get("yield").and_then(|pair| scalar::expression(pair, sink));
    Some(Each { item: item?, list: list?, concurrency, steps: steps?, yields, timeout_ms })
}

fn repeat(pair: &Pair, timeout_ms: Option<Spanned<u64>>, sink: &mut Sink) -> Option<Repeat> {
    let body = body(pair, &REPEAT_BODY, "{ until: steps.poll.done, max: 10, steps: [...] }", sink)?;
    let until = body
        .need("until", "until: steps.poll.done", sink)
        .and_then(|pair| scalar::expression(pair, sink));
    let max = body
        .need("max", "max: 10", sink)
        .and_then(|pair| scalar::integer(pair, 1..=COUNT_MAX, sink));
    let every_ms = body.get("every").and_then(|pair| scalar::duration(pair, Zero::Refused, sink));
    let steps =
        body.need("steps", "steps: [...]", sink).and_then(|pair| step::some_steps(pair, sink));
    Some(Repeat { until: until?, max: max?, every_ms, steps: steps?, timeout_ms })
}

fn sleep(pair: &Pair, sink: &mut Sink) -> Option<Sleep> {
    if !matches!(pair.value.kind, Kind::Mapping(_)) {
        return Some(Sleep::For { ms: scalar::duration(pair, Zero::Refused, sink)? });
    }
    if let Kind::Mapping(pairs) = &pair.value.kind
        && let [only] = pairs.as_slice()
        && matches!(
            only.key.value.as_str(),
            "for" | "duration" | "time" | "delay" | "ms" | "seconds" | "minutes" | "hours"
        )
        && let Kind::Text(text) | Kind::Integer(_, text) = &only.value.kind
    {
        let message = format!("unknown key `{}` in `sleep`", only.key.value);
        let unit = match only.key.value.as_str() {
            "ms" => "ms",
            "minutes" => "m",
            "hours" => "h",
            _ => "s",
        };
        let time = if matches!(only.value.kind, Kind::Integer(..)) {
            format!("{}{unit}", text.value)
        } else {
            text.value.clone()
        };
        let diagnostic =
            Diagnostic::error(codes::UNKNOWN_KEY, only.key.span, message).label("unknown key");
        sink.push(diagnostic.help(format!("write `sleep: {time}`")));
        return None;
    }
    let body = body(pair, &SLEEP_BODY, "{ until: input.bookingTime }", sink)?;
    let until = body.need("until", "until: input.bookingTime", sink)?;
    scalar::expression(until, sink).map(Sleep::Until)
}
