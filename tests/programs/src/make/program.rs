//! A program as it is made: types, expressions and steps, and its YAML.

use std::collections::BTreeMap;

use serde_json::Value as Json;

#[derive(Debug, Clone, PartialEq)]
pub enum Ty {
    Str,
    Int,
    Num,
    Bool,
    Time,
    Dur,
    Json,
    Error,
    List(Box<Ty>),
    Map(Box<Ty>),
    Opt(Box<Ty>),
    /// A record without a name, such as a step's result.
    Fields(Fields),
    /// A record or an enum of the common types.
    Named(&'static str),
    /// A field with details.
    With(usize),
}

pub type Fields = Vec<(String, Ty)>;

#[derive(Debug, Clone, PartialEq)]
pub enum Val {
    Null,
    Str(String),
    Int(i64),
    Num(f64),
    Bool(bool),
    /// Microseconds since 1970.
    Time(i64),
    /// Milliseconds.
    Dur(i64),
    Word(String),
    Json(Json),
    List(Vec<Val>),
    Map(BTreeMap<String, Val>),
    Rec(Vec<(String, Val)>),
}

/// An expression with the type that it has on its own.
#[derive(Debug, Clone)]
pub struct Ex {
    pub ty: Ty,
    pub kind: Kind,
}

#[derive(Debug, Clone)]
pub enum Kind {
    /// Of a string, an integer, a number or a boolean; or a word, where the other side says of
    /// which enum.
    Lit(Val),
    Null,
    List(Vec<Ex>),
    Root(Root),
    /// `?.` where the record may be absent.
    Field(Box<Ex>, String),
    Index(Box<Ex>, Box<Ex>),
    Not(Box<Ex>),
    Neg(Box<Ex>),
    Bin(&'static str, Box<Ex>, Box<Ex>),
    Coalesce(Box<Ex>, Box<Ex>),
    If(Box<Ex>, Box<Ex>, Box<Ex>),
    Call(&'static str, Vec<Ex>),
    Method(&'static str, Box<Ex>, Vec<Ex>),
    Iter(&'static str, Box<Ex>, String, Box<Ex>),
}

#[derive(Debug, Clone, PartialEq)]
pub enum Root {
    Input,
    Step(String),
    Item(String),
    Event,
    Error,
    InstanceId,
    RequestId,
    /// `config.region`.
    Region,
    StartedAt,
}

/// What stands in a place of a known type: `with`, `data`, `output`.
#[derive(Debug, Clone)]
pub enum Sink {
    Ex(Ex),
    /// A text with expressions in it.
    Text(Vec<Ex>),
    List(Vec<Sink>),
    Rec(Vec<(String, Sink)>),
    Map(Vec<(String, Sink)>),
}

#[derive(Debug)]
pub struct Program {
    pub name: String,
    pub seed: u64,
    /// `Sample`, by its name or written out.
    pub named_input: bool,
    pub steps: Vec<Step>,
    pub output: Vec<(String, Sink)>,
    /// Whether a task that is used up waits for a person: `on_exhausted: park`.
    pub parks: bool,
    /// `on_start` and so on: those that have a routing key.
    pub hooks: Vec<&'static str>,
    /// A trigger's `when` and `key`; the machine knows nothing of them, but they must build.
    pub trigger: Vec<(&'static str, String)>,
    pub events: Vec<(String, Fields)>,
}

#[derive(Debug)]
pub struct Step {
    pub id: String,
    pub when: Option<Ex>,
    pub verb: Verb,
    pub catch: Vec<(Option<&'static str>, Vec<Step>)>,
    /// Of a group, a `parallel` or a loop.
    pub is_timed: bool,
}

#[derive(Debug)]
pub enum Verb {
    Task(Task),
    TaskThen(Task, Vec<Step>),
    Group(Vec<Step>),
    Parallel(Vec<(String, Vec<Step>)>),
    /// The last may have no condition: `else`.
    Switch(Vec<(Option<Ex>, Vec<Step>)>),
    Match {
        value: Ex,
        cases: Vec<(String, Vec<Step>)>,
        other: Option<Vec<Step>>,
    },
    Each {
        item: String,
        list: Ex,
        concurrency: usize,
        steps: Vec<Step>,
        yields: Option<Ex>,
    },
    Repeat {
        until: Ex,
        max: usize,
        every: bool,
        steps: Vec<Step>,
    },
    Wait {
        event: String,
        field: String,
        value: Ex,
        rest: Option<Ex>,
        is_timed: bool,
    },
    Sleep,
    SleepUntil(Ex),
    Emit {
        event: String,
        data: Vec<(String, Sink)>,
    },
    Fail {
        error: &'static str,
        message: Vec<Ex>,
    },
}

#[derive(Debug)]
pub struct Task {
    pub step_type: String,
    pub takes: Fields,
    pub with: Vec<(String, Sink)>,
    pub returns: Fields,
    pub raises: bool,
    pub key: Option<Vec<Ex>>,
    /// What the step that takes it back is given: values that are only read.
    pub undo: Option<Vec<(String, Ex)>>,
    pub retry: Option<Retry>,
    /// Of the undo.
    pub undo_retry: Option<Retry>,
}

/// How often a task is tried, and after which failures: after all, or `only` or `never` some.
#[derive(Debug, Clone, PartialEq)]
pub struct Retry {
    pub attempts: u32,
    /// Whether the next attempt follows without a pause.
    pub is_instant: bool,
    pub only: Option<&'static str>,
    pub never: Option<&'static str>,
}

impl Retry {
    /// Whether another attempt follows the one with this number, which failed so.
    pub fn repeats(&self, attempt: u32, error: &str) -> bool {
        let is_wanted = self.only.is_none_or(|only| only == error)
            && self.never.is_none_or(|never| never != error);
        is_wanted && attempt < self.attempts
    }

    fn yaml(&self) -> String {
        let backoff = if self.is_instant { "0s" } else { "10s" };
        let mut text = format!("{{ attempts: {}, backoff: {backoff}", self.attempts);
        for (key, error) in [("only", self.only), ("never", self.never)] {
            if let Some(error) = error {
                text.push_str(&format!(", {key}: [{error}]"));
            }
        }
        text + " }"
    }
}

/// How a type is written.
impl std::fmt::Display for Ty {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Ty::Str => f.write_str("string"),
            Ty::Int => f.write_str("integer"),
            Ty::Num => f.write_str("number"),
            Ty::Bool => f.write_str("boolean"),
            Ty::Time => f.write_str("timestamp"),
            Ty::Dur => f.write_str("duration"),
            Ty::Json => f.write_str("json"),
            Ty::Error => f.write_str("error"),
            Ty::List(of) => write!(f, "list<{of}>"),
            Ty::Map(of) => write!(f, "map<{of}>"),
            Ty::Opt(of) => write!(f, "{of}?"),
            Ty::Fields(_) => f.write_str("{…}"),
            Ty::Named(name) => f.write_str(name),
            Ty::With(at) => f.write_str(super::details::detail(*at).text),
        }
    }
}

impl Ty {
    pub fn list(of: Ty) -> Ty {
        Ty::List(Box::new(of))
    }

    pub fn opt(self) -> Ty {
        if self.is_opt() { self } else { Ty::Opt(Box::new(self)) }
    }

    pub fn is_opt(&self) -> bool {
        matches!(self, Ty::Opt(_))
    }

    pub fn present(&self) -> &Ty {
        if let Ty::Opt(of) = self { of } else { self }
    }
}

impl Ex {
    pub fn new(ty: Ty, kind: Kind) -> Self {
        Self { ty, kind }
    }

    fn power(&self) -> u8 {
        match &self.kind {
            Kind::If(..) => 0,
            Kind::Coalesce(..) => 1,
            Kind::Bin("||", ..) => 2,
            Kind::Bin("&&", ..) => 3,
            Kind::Bin("==" | "!=" | "<" | "<=" | ">" | ">=" | "in", ..) => 4,
            Kind::Bin("+" | "-", ..) => 5,
            Kind::Bin(..) => 6,
            Kind::Not(_) | Kind::Neg(_) => 7,
            Kind::Lit(Val::Int(value)) if *value < 0 => 7,
            Kind::Lit(Val::Num(value)) if *value < 0.0 => 7,
            _ => 8,
        }
    }

    fn within(&self, power: u8) -> String {
        if self.power() >= power { self.text() } else { format!("({})", self.text()) }
    }

    /// As it is written.
    pub fn text(&self) -> String {
        let all = |items: &[Ex]| items.iter().map(Ex::text).collect::<Vec<_>>().join(", ");
        match &self.kind {
            Kind::Lit(Val::Str(text) | Val::Word(text)) => format!("'{text}'"),
            Kind::Lit(Val::Int(value)) => value.to_string(),
            Kind::Lit(Val::Num(value)) => format!("{value:?}"),
            Kind::Lit(Val::Bool(value)) => value.to_string(),
            Kind::Lit(Val::Time(at)) => format!("timestamp('{}')", super::model::time_text(*at)),
            Kind::Lit(Val::Dur(ms)) => format!("duration('{}')", super::model::duration_text(*ms)),
            Kind::Lit(_) | Kind::Null => "null".into(),
            Kind::List(items) => format!("[{}]", all(items)),
            Kind::Root(root) => match root {
                Root::Input => "input".into(),
                Root::Step(id) => format!("steps.{id}"),
                Root::Item(name) => name.clone(),
                Root::Event => "event".into(),
                Root::Error => "error".into(),
                Root::InstanceId => "instance.id".into(),
                Root::RequestId => "instance.request_id".into(),
                Root::Region => "config.region".into(),
                Root::StartedAt => "instance.started_at".into(),
            },
            Kind::Field(of, name) => {
                format!("{}{}{name}", of.within(8), if of.ty.is_opt() { "?." } else { "." })
            }
            Kind::Index(of, index) => format!("{}[{}]", of.within(8), index.text()),
            Kind::Not(of) => format!("!{}", of.within(7)),
            Kind::Neg(of) => format!("-{}", of.within(8)),
            Kind::Bin(op, left, right) => {
                let power = self.power();
                let left_power = if power == 4 { 5 } else { power };
                format!("{} {op} {}", left.within(left_power), right.within(power + 1))
            }
            Kind::Coalesce(left, right) => format!("{} ?? {}", left.within(2), right.within(2)),
            Kind::If(condition, then, other) => {
                format!("{} ? {} : {}", condition.within(1), then.within(1), other.within(1))
            }
            Kind::Call(name, args) => format!("{name}({})", all(args)),
            Kind::Method(name, of, args) => format!("{}.{name}({})", of.within(8), all(args)),
            Kind::Iter(name, of, variable, body) => {
                format!("{}.{name}({variable}, {})", of.within(8), body.text())
            }
        }
    }

    /// What the language calls a literal.
    pub fn is_literal(&self) -> bool {
        match &self.kind {
            Kind::Lit(Val::Time(_) | Val::Dur(_)) => false,
            Kind::Lit(_) | Kind::Null => true,
            Kind::List(items) => items.iter().all(Ex::is_literal),
            _ => false,
        }
    }
}

/// Double-quoted YAML, which is JSON.
fn quoted(text: &str) -> String {
    Json::String(text.to_owned()).to_string()
}

fn template(parts: &[Ex]) -> String {
    let mut text = String::new();
    for part in parts {
        match &part.kind {
            Kind::Lit(Val::Str(plain)) => text.push_str(plain),
            _ => text.push_str(&format!("${{{}}}", part.text())),
        }
    }
    quoted(&text)
}

impl Sink {
    fn yaml(&self) -> String {
        match self {
            Sink::Ex(ex) => match &ex.kind {
                Kind::Lit(Val::Str(text) | Val::Word(text)) => quoted(text),
                _ => quoted(&format!("${{{}}}", ex.text())),
            },
            Sink::Text(parts) => template(parts),
            Sink::List(items) => {
                format!("[{}]", items.iter().map(Sink::yaml).collect::<Vec<_>>().join(", "))
            }
            Sink::Rec(fields) | Sink::Map(fields) => fields_yaml(fields),
        }
    }
}

fn fields_yaml(fields: &[(String, Sink)]) -> String {
    let fields = fields.iter().map(|(name, value)| format!("{name}: {}", value.yaml()));
    format!("{{ {} }}", fields.collect::<Vec<_>>().join(", "))
}

/// `{ a: string, b: list<integer?> }`.
pub fn types_yaml(fields: &[(String, Ty)]) -> String {
    let fields = fields.iter().map(|(name, ty)| format!("{name}: {ty}"));
    format!("{{ {} }}", fields.collect::<Vec<_>>().join(", "))
}

impl Program {
    /// The file.
    pub fn yaml(&self) -> String {
        let mut text =
            format!("# Made from the seed {}.\nworkflow: {}\nversion: 1\n", self.seed, self.name);
        let input =
            if self.named_input { "Sample".to_owned() } else { types_yaml(&super::sample()) };
        text.push_str(&format!("input: {input}\nexternal: ['#']\n"));
        if !self.events.is_empty() {
            text.push_str("events:\n");
            self.events.iter().for_each(|(name, fields)| {
                text.push_str(&format!("  {name}: {}\n", types_yaml(fields)))
            });
        }
        if !self.trigger.is_empty() {
            text.push_str(&format!("triggers:\n  - http: POST /{}\n", self.name));
            self.trigger
                .iter()
                .for_each(|(key, value)| text.push_str(&format!("    {key}: {}\n", quoted(value))));
        }
        if !self.hooks.is_empty() {
            text.push_str("hooks:\n");
            self.hooks
                .iter()
                .for_each(|hook| text.push_str(&format!("  {hook}: {}.{hook}\n", self.name)));
        }
        if self.parks {
            text.push_str("on_exhausted: park\n");
        }
        text.push_str("steps:\n");
        steps_yaml(&self.steps, 1, &mut text);
        if !self.output.is_empty() {
            text.push_str("output:\n");
            self.output
                .iter()
                .for_each(|(name, value)| text.push_str(&format!("  {name}: {}\n", value.yaml())));
        }
        text
    }
}

/// Steps as the value of a key that has just been written: `key:` and lines, or `key: []`.
fn list_yaml(key: &str, steps: &[Step], depth: usize, text: &mut String) {
    let indent = "  ".repeat(depth);
    if steps.is_empty() {
        text.push_str(&format!("{indent}{key}: []\n"));
    } else {
        text.push_str(&format!("{indent}{key}:\n"));
        steps_yaml(steps, depth + 1, text);
    }
}

fn steps_yaml(steps: &[Step], depth: usize, text: &mut String) {
    steps.iter().for_each(|step| step.yaml(depth, text));
}

impl Step {
    fn yaml(&self, depth: usize, text: &mut String) {
        let indent = "  ".repeat(depth + 1);
        text.push_str(&format!("{}- id: {}\n", "  ".repeat(depth), self.id));
        let mut line = |line: &str| text.push_str(&format!("{indent}{line}\n"));
        if let Some(when) = &self.when {
            line(&format!("when: {}", quoted(&when.text())));
        }
        match &self.verb {
            Verb::Task(task) | Verb::TaskThen(task, _) => {
                line(&format!("type: {}", task.step_type));
                line(&format!("takes: {}", types_yaml(&task.takes)));
                if !task.with.is_empty() {
                    line(&format!("with: {}", fields_yaml(&task.with)));
                }
                if !task.returns.is_empty() {
                    line(&format!("returns: {}", types_yaml(&task.returns)));
                }
                if task.raises {
                    line("raises: [Oops]");
                }
                if let Some(key) = &task.key {
                    line(&format!("key: {}", template(key)));
                }
                if let Some(retry) = &task.retry {
                    line(&format!("retry: {}", retry.yaml()));
                }
                if let Some(with) = &task.undo {
                    line("undo:");
                    line(&format!("  type: {}_undo", task.step_type));
                    let with: Vec<_> = with
                        .iter()
                        .map(|(name, ex)| (name.clone(), Sink::Ex(ex.clone())))
                        .collect();
                    if !with.is_empty() {
                        line(&format!("  with: {}", fields_yaml(&with)));
                    }
                    if let Some(retry) = &task.undo_retry {
                        line(&format!("  retry: {}", retry.yaml()));
                    }
                }
                if let Verb::TaskThen(_, steps) = &self.verb {
                    list_yaml("steps", steps, depth + 1, text);
                }
            }
            Verb::Group(steps) => list_yaml("steps", steps, depth + 1, text),
            Verb::Parallel(branches) => {
                line("parallel:");
                branches.iter().for_each(|(name, steps)| list_yaml(name, steps, depth + 2, text));
            }
            Verb::Switch(cases) => {
                line("switch:");
                for (when, steps) in cases {
                    match when {
                        Some(when) => {
                            text.push_str(&format!("{indent}  - when: {}\n", quoted(&when.text())));
                            list_yaml("steps", steps, depth + 3, text);
                        }
                        None => list_yaml("- else", steps, depth + 2, text),
                    }
                }
            }
            Verb::Match { value, cases, other } => {
                line("switch:");
                line(&format!("  value: {}", quoted(&value.text())));
                line("  cases:");
                cases.iter().for_each(|(word, steps)| list_yaml(word, steps, depth + 3, text));
                if let Some(other) = other {
                    list_yaml("else", other, depth + 2, text);
                }
            }
            Verb::Each { item, list, concurrency, steps, yields } => {
                line("each:");
                line(&format!("  item: {item}"));
                line(&format!("  in: {}", quoted(&list.text())));
                line(&format!("  concurrency: {concurrency}"));
                if let Some(yields) = yields {
                    line(&format!("  yield: {}", quoted(&yields.text())));
                }
                list_yaml("steps", steps, depth + 2, text);
            }
            Verb::Repeat { until, max, every, steps } => {
                line("repeat:");
                line(&format!("  until: {}", quoted(&until.text())));
                line(&format!("  max: {max}"));
                if *every {
                    line("  every: 1s");
                }
                list_yaml("steps", steps, depth + 2, text);
            }
            Verb::Wait { event, field, value, rest, is_timed } => {
                let rest =
                    rest.as_ref().map(|rest| format!(" && {}", rest.within(4))).unwrap_or_default();
                let condition = format!("event.{field} == {}{rest}", value.within(5));
                line(&format!("wait: {{ event: {event}, where: {} }}", quoted(&condition)));
                if *is_timed {
                    line("timeout: 2h");
                }
            }
            Verb::Sleep => line("sleep: 5m"),
            Verb::SleepUntil(until) => {
                line(&format!("sleep: {{ until: {} }}", quoted(&until.text())))
            }
            Verb::Emit { event, data } => {
                line(&format!("emit: {{ event: {event}, data: {} }}", fields_yaml(data)))
            }
            Verb::Fail { error, message } => {
                line(&format!("fail: {{ error: {error}, message: {} }}", template(message)))
            }
        }
        if self.is_timed {
            text.push_str(&format!("{indent}timeout: 3h\n"));
        }
        if !self.catch.is_empty() {
            text.push_str(&format!("{indent}catch:\n"));
            for (error, steps) in &self.catch {
                text.push_str(&format!("{indent}  - error: {}\n", error.unwrap_or("any")));
                list_yaml("steps", steps, depth + 3, text);
            }
        }
    }
}
