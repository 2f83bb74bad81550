//! Workflows that are right by construction: each step reads only what is there for it.

use std::collections::BTreeSet;

use serde_json::Value as Json;

use super::details::{self, default_of, detail};
use super::expressions::{Expressions, Scope};
use super::failures;
use super::model::json_of;
use super::program::{Ex, Fields, Program, Retry, Sink, Step, Task, Ty, Val, Verb};
use super::random::Random;

/// Depth of expressions.
const DEEP: usize = 3;
/// Depth of steps in steps.
const NESTED: usize = 3;

pub struct Maker {
    seed: u64,
    random: Random,
    name: String,
    scope: Scope,
    events: Vec<(String, Fields)>,
    ids: usize,
    /// How many steps may still be made.
    left: usize,
}

impl Maker {
    pub fn new(seed: u64) -> Self {
        let mut random = Random::new(seed);
        let left = 3 + random.below(8);
        Self {
            seed,
            random,
            name: format!("p{seed}"),
            scope: Scope::default(),
            events: Vec::new(),
            ids: 0,
            left,
        }
    }

    pub fn program(mut self) -> Program {
        let named_input = self.random.chance(90);
        let count = 2 + self.random.below(3);
        let steps = self.sequence(count, NESTED);
        let mut output = Vec::new();
        for at in 0..self.random.below(4) {
            output.extend(self.expressions(|make| {
                let sink = if make.random.chance(20) {
                    Sink::Text(make.text(2)?)
                } else {
                    Sink::Ex(make.output()?)
                };
                Some((format!("o{at}"), sink))
            }));
        }
        self.scope = Scope { is_before: true, ..Scope::default() };
        let mut trigger = Vec::new();
        if self.random.chance(30) {
            if self.random.chance(60) {
                trigger.extend(
                    self.expressions(|make| make.condition(2)).map(|ex| ("when", ex.text())),
                );
            }
            trigger.extend(
                self.expressions(|make| make.condition_value(&Ty::Str))
                    .map(|ex| ("key", ex.text())),
            );
        }
        let hooks = ["on_start", "on_complete", "on_failure"];
        let hooks = hooks.into_iter().filter(|_| self.random.chance(15)).collect();
        Program {
            parks: self.random.chance(20),
            hooks,
            trigger,
            name: self.name,
            seed: self.seed,
            named_input,
            steps,
            output,
            events: self.events,
        }
    }

    fn expressions<T>(&mut self, make: impl FnOnce(&mut Expressions<'_>) -> T) -> T {
        make(&mut Expressions::new(&mut self.random, self.scope.clone()))
    }

    fn id(&mut self) -> String {
        const NAMES: [&str; 8] = ["s", "step", "match", "value", "input_", "g", "at_x", "fx"];
        self.ids += 1;
        format!("{}{}", self.random.pick(&NAMES), self.ids)
    }

    /// At least one step.
    fn sequence(&mut self, count: usize, depth: usize) -> Vec<Step> {
        let mut steps = Vec::new();
        for _ in 0..count.max(1) {
            if !steps.is_empty() && self.left == 0 {
                break;
            }
            self.left = self.left.saturating_sub(1);
            let step = self.step(depth);
            let is_end = failures::ends(&step);
            steps.push(step);
            if is_end {
                break;
            }
        }
        steps
    }

    fn few(&mut self, depth: usize) -> Vec<Step> {
        let count = 1 + self.random.below(2);
        self.sequence(count, depth)
    }

    /// Perhaps none at all.
    fn some(&mut self, depth: usize) -> Vec<Step> {
        if self.random.chance(25) { Vec::new() } else { self.few(depth) }
    }

    /// What is read of the steps that were made since `before`, which may not have run.
    fn perhaps(&mut self, before: usize) {
        for (_, ty) in self.scope.steps.iter_mut().skip(before) {
            *ty = ty.clone().opt();
        }
    }

    fn step(&mut self, depth: usize) -> Step {
        let id = self.id();
        let when = if self.random.chance(20) {
            self.expressions(|make| make.condition(DEEP))
        } else {
            None
        };
        let before = self.scope.steps.len();
        let (verb, result) = self.verb(&id, depth);
        let inside = self.scope.steps.len();
        if let Some(ty) = result {
            self.scope.steps.push((id.clone(), ty));
        }
        let may_be_timed = matches!(
            verb,
            Verb::Group(_) | Verb::Parallel(_) | Verb::Each { .. } | Verb::Repeat { .. }
        );
        let is_timed = may_be_timed && self.random.chance(25);
        let mut step = Step { id, when, verb, catch: Vec::new(), is_timed };
        let raised = failures::within(&step);
        if self.random.chance(35) && !raised.is_empty() {
            self.catch(&mut step, &raised, before, inside, depth);
        }
        if step.when.is_some() || !step.catch.is_empty() {
            self.perhaps(before);
        }
        step
    }

    fn catch(
        &mut self,
        step: &mut Step,
        raised: &BTreeSet<&'static str>,
        before: usize,
        inside: usize,
        depth: usize,
    ) {
        let all = self.scope.clone();
        // Inside the catch the step itself has no result, and what is inside it may not have run.
        self.scope.steps.truncate(inside);
        self.perhaps(before);
        self.scope.error = true;
        let mut handlers = Vec::new();
        let visible = self.scope.clone();
        let mut made = Vec::new();
        let mut names: Vec<Option<&'static str>> = Vec::new();
        for name in raised {
            names.extend(self.random.chance(40).then_some(Some(*name)));
        }
        if names.is_empty() || (names.len() < raised.len() && self.random.chance(60)) {
            names.push(None);
        }
        for name in names {
            let steps =
                if depth == 0 || self.random.chance(30) { Vec::new() } else { self.few(depth - 1) };
            made.extend(self.scope.steps.drain(visible.steps.len()..));
            self.scope = visible.clone();
            handlers.push((name, steps));
        }
        self.scope = all;
        self.scope.steps.extend(made);
        step.catch = handlers;
    }

    /// Lists of steps that do not see each other; afterwards all are there.
    fn each_branch(
        &mut self,
        lists: Vec<usize>,
        depth: usize,
        may_be_empty: bool,
    ) -> Vec<Vec<Step>> {
        let visible = self.scope.steps.len();
        let mut made = Vec::new();
        let mut all = Vec::new();
        for _ in lists {
            all.push(if may_be_empty { self.some(depth) } else { self.few(depth) });
            made.extend(self.scope.steps.drain(visible..));
        }
        self.scope.steps.extend(made);
        all
    }

    fn verb(&mut self, id: &str, depth: usize) -> (Verb, Option<Ty>) {
        let choice = if depth == 0 { self.random.below(55) } else { self.random.below(100) };
        match choice {
            0..35 => {
                let task = self.task(id);
                let result = result(&task);
                (Verb::Task(task), result)
            }
            35..42 => self.wait().unwrap_or((Verb::Sleep, None)),
            42..45 => {
                let until = if self.random.chance(60) {
                    self.expressions(|make| make.condition_value(&Ty::Time))
                } else {
                    None
                };
                (until.map_or(Verb::Sleep, Verb::SleepUntil), None)
            }
            45..52 => {
                let event = format!("{}.e{}", self.name, self.ids);
                let fields = self.types(2);
                let data = self.expressions(|make| sinks(make, &fields));
                match data {
                    Some(data) => {
                        self.events.push((event.clone(), fields));
                        (Verb::Emit { event, data }, None)
                    }
                    None => (Verb::Sleep, None),
                }
            }
            52..55 => {
                let message = self.expressions(|make| make.text(1)).unwrap_or_default();
                (Verb::Fail { error: "Oops", message }, None)
            }
            55..65 => (Verb::Group(self.few(depth - 1)), None),
            65..73 => {
                let count = 2 + self.random.below(2);
                let lists = self.each_branch(vec![0; count], depth - 1, true);
                let names = ["left", "all", "event"];
                (
                    Verb::Parallel(
                        names.iter().map(|name| (*name).to_owned()).zip(lists).collect(),
                    ),
                    None,
                )
            }
            73..78 => self.switch(depth),
            78..82 => self.match_words(depth),
            82..90 => self.each(id, depth).unwrap_or((Verb::Sleep, None)),
            90..95 => {
                let steps = self.few(depth - 1);
                let until = self.expressions(|make| make.condition(2));
                let (max, every) = (1 + self.random.below(3), self.random.chance(30));
                match until {
                    Some(until) => (Verb::Repeat { until, max, every, steps }, None),
                    None => (Verb::Group(steps), None),
                }
            }
            _ => {
                let task = self.task(id);
                let result = result(&task);
                // The task comes first: what is inside reads its result, and no other than the step
                // itself has its id.
                let at = self.scope.steps.len();
                self.scope.steps.extend(result.clone().map(|ty| (id.to_owned(), ty)));
                let steps = self.few(depth - 1);
                if result.is_some() {
                    self.scope.steps.remove(at);
                }
                (Verb::TaskThen(task, steps), result)
            }
        }
    }

    fn types(&mut self, most: usize) -> Fields {
        use Ty::{Bool, Dur, Int, Json, Named, Num, Str, Time};
        let list = Ty::list;
        let types = [
            Str,
            Int,
            Num,
            Bool,
            Time,
            Dur,
            Json,
            Named("Colour"),
            Named("Shade"),
            Named("Part"),
            Named("Line"),
            Str.opt(),
            Int.opt(),
            Num.opt(),
            Named("Line").opt(),
            Named("Colour").opt(),
            list(Int),
            list(Str),
            list(Num),
            list(Str.opt()),
            list(Int.opt()),
            list(Named("Part")),
            list(list(Int)),
            Ty::Map(Box::new(Int)),
            Ty::Map(Box::new(Str.opt())),
        ];
        let count = 1 + self.random.below(most);
        let mut some = |at: usize| {
            let detailed = self.random.chance(15);
            let ty = if detailed {
                Ty::With(self.random.below(details::COUNT))
            } else {
                self.random.pick(&types).clone()
            };
            (["a", "b", "value", "type"][at].to_owned(), ty)
        };
        (0..count).map(&mut some).collect()
    }

    fn task(&mut self, id: &str) -> Task {
        let takes = self.types(4);
        let with = self.expressions(|make| sinks(make, &takes));
        // What cannot be made here is not asked for.
        let (takes, with) = with.map_or_else(|| (Vec::new(), Vec::new()), |with| (takes, with));
        let returns = if self.random.chance(85) { self.types(3) } else { Vec::new() };
        let key = if self.random.chance(15) { self.expressions(|make| make.key()) } else { None };
        let undo = self.random.chance(20).then(|| self.undo(id, &returns));
        let raises = self.random.chance(60);
        let retry = self.random.chance(35).then(|| self.retry(raises));
        let undo_retry = (undo.is_some() && self.random.chance(40)).then(|| self.retry(false));
        Task {
            step_type: format!("{}_{id}", self.name),
            takes,
            with,
            returns,
            raises,
            key,
            undo,
            retry,
            undo_retry,
        }
    }

    fn retry(&mut self, raises: bool) -> Retry {
        let error = if raises && self.random.chance(60) { "Oops" } else { "Error" };
        let (only, never) = match self.random.below(4) {
            0 => (Some(error), None),
            1 => (None, Some(error)),
            _ => (None, None),
        };
        let attempts = 2 + self.random.below(2) as u32;
        Retry { attempts, is_instant: self.random.chance(50), only, never }
    }

    /// What an undo reads: its own step's result too, which may not be there.
    fn undo(&mut self, id: &str, returns: &Fields) -> Vec<(String, Ex)> {
        let before = self.scope.steps.len();
        if !returns.is_empty() {
            self.scope.steps.push((id.to_owned(), Ty::Fields(returns.clone()).opt()));
        }
        let with = self.expressions(|make| {
            let all = make.readable();
            let count = 1 + make.random.below(3);
            (0..count).map(|at| (format!("u{at}"), make.random.pick(&all).clone())).collect()
        });
        self.scope.steps.truncate(before);
        with
    }

    fn wait(&mut self) -> Option<(Verb, Option<Ty>)> {
        let ty = self.random.pick(&[Ty::Str, Ty::Int, Ty::Named("Colour")]).clone();
        let value = self.expressions(|make| make.exact(&ty, 2))?;
        let mut fields = self.types(2);
        fields.push(("found_by".into(), ty));
        self.scope.event = Some(fields.clone());
        let rest =
            if self.random.chance(40) { self.expressions(|make| make.condition(2)) } else { None };
        self.scope.event = None;
        let event = format!("{}.w{}", self.name, self.ids);
        self.events.push((event.clone(), fields.clone()));
        Some((
            Verb::Wait {
                event,
                field: "found_by".into(),
                value,
                rest,
                is_timed: self.random.chance(30),
            },
            Some(Ty::Fields(fields)),
        ))
    }

    fn switch(&mut self, depth: usize) -> (Verb, Option<Ty>) {
        let count = 1 + self.random.below(2);
        let conditions: Vec<Ex> =
            (0..count).filter_map(|_| self.expressions(|make| make.condition(DEEP))).collect();
        if conditions.is_empty() {
            return (Verb::Sleep, None);
        }
        let mut cases: Vec<Option<Ex>> = conditions.into_iter().map(Some).collect();
        if self.random.chance(50) {
            cases.push(None);
        }
        let before = self.scope.steps.len();
        let lists = self.each_branch(vec![0; cases.len()], depth - 1, true);
        self.perhaps(before);
        (Verb::Switch(cases.into_iter().zip(lists).collect()), None)
    }

    fn match_words(&mut self, depth: usize) -> (Verb, Option<Ty>) {
        let ty = self.random.pick(&[Ty::Named("Colour"), Ty::Int, Ty::Str]).clone();
        let Some(value) = self.expressions(|make| make.condition_value(&ty)) else {
            return (Verb::Sleep, None);
        };
        let all: &[&str] = match ty {
            Ty::Int => &["1", "2"],
            Ty::Str => &["abc", "x"],
            _ => super::words("Colour"),
        };
        let is_whole = matches!(ty, Ty::Named(_)) && self.random.chance(50);
        let named = if is_whole { all.len() } else { 1 + self.random.below(all.len() - 1) };
        let before = self.scope.steps.len();
        let mut lists = self.each_branch(vec![0; named + usize::from(!is_whole)], depth - 1, true);
        self.perhaps(before);
        let other = if is_whole { None } else { lists.pop() };
        let cases = all.iter().take(named).map(|word| (*word).to_owned()).zip(lists).collect();
        (Verb::Match { value, cases, other }, None)
    }

    fn each(&mut self, id: &str, depth: usize) -> Option<(Verb, Option<Ty>)> {
        let list = self.expressions(|make| make.each_list())?;
        let Ty::List(element) = list.ty.clone() else { return None };
        let names = ["item", "at", "label", "each"];
        let item = format!(
            "{}{}",
            self.random.pick(&names),
            if self.scope.items.is_empty() { "" } else { id }
        );
        let before = self.scope.steps.len();
        self.scope.items.push((item.clone(), *element));
        let steps = self.few(depth - 1);
        let yields =
            if self.random.chance(70) { self.expressions(|make| make.output()) } else { None };
        self.scope.items.pop();
        self.scope.steps.truncate(before);
        let concurrency = 1 + self.random.below(3);
        let result = yields.as_ref().map(|ex| Ty::list(ex.ty.clone()));
        Some((Verb::Each { item, list, concurrency, steps, yields }, result))
    }
}

impl Expressions<'_> {
    /// Of any type that a result may have.
    pub fn output(&mut self) -> Option<Ex> {
        let types = [
            Ty::Str,
            Ty::Int,
            Ty::Num,
            Ty::Bool,
            Ty::Time,
            Ty::Dur,
            Ty::Json,
            Ty::Named("Colour"),
            Ty::Named("Line"),
            Ty::Str.opt(),
            Ty::Int.opt(),
            Ty::Named("Part").opt(),
            Ty::list(Ty::Int),
            Ty::list(Ty::Str.opt()),
            Ty::list(Ty::Named("Line")),
        ];
        let ty = self.random.pick(&types).clone();
        self.exact(&ty, DEEP)
    }

    /// What a `switch` looks at.
    fn condition_value(&mut self, ty: &Ty) -> Option<Ex> {
        (0..4).find_map(|_| self.exact(ty, 1).filter(|ex| !ex.is_literal()))
    }

    /// What an `each` goes over.
    fn each_list(&mut self) -> Option<Ex> {
        let elements = [
            Ty::Str,
            Ty::Int,
            Ty::Num,
            Ty::Bool,
            Ty::Time,
            Ty::Dur,
            Ty::Named("Colour"),
            Ty::Named("Line"),
            Ty::Str.opt(),
            Ty::Int.opt(),
            Ty::Named("Colour").opt(),
            Ty::Named("Line").opt(),
            Ty::list(Ty::Int),
        ];
        let element = self.random.pick(&elements).clone();
        (0..4).find_map(|_| self.exact(&Ty::list(element.clone()), 1).filter(|ex| !ex.is_literal()))
    }
}

/// A sink for each field.
fn sinks(make: &mut Expressions<'_>, fields: &[(String, Ty)]) -> Option<Vec<(String, Sink)>> {
    let mut all = Vec::new();
    for (name, ty) in fields {
        if default_of(ty) == Val::Null || make.random.chance(50) {
            all.push((name.clone(), make.sink(ty, DEEP)?));
        }
    }
    Some(all)
}

fn result(task: &Task) -> Option<Ty> {
    (!task.returns.is_empty()).then(|| Ty::Fields(task.returns.clone()))
}

/// The lists of steps directly inside a verb.
pub fn inside(verb: &Verb) -> Vec<&[Step]> {
    match verb {
        Verb::TaskThen(_, steps)
        | Verb::Group(steps)
        | Verb::Each { steps, .. }
        | Verb::Repeat { steps, .. } => vec![steps],
        Verb::Parallel(branches) => branches.iter().map(|(_, steps)| steps.as_slice()).collect(),
        Verb::Switch(cases) => cases.iter().map(|(_, steps)| steps.as_slice()).collect(),
        Verb::Match { cases, other, .. } => cases
            .iter()
            .map(|(_, steps)| steps.as_slice())
            .chain(other.iter().map(Vec::as_slice))
            .collect(),
        Verb::Task(_)
        | Verb::Wait { .. }
        | Verb::Sleep
        | Verb::SleepUntil(_)
        | Verb::Emit { .. }
        | Verb::Fail { .. } => Vec::new(),
    }
}

/// A value that a service might report for a type.
pub fn value(ty: &Ty, random: &mut Random) -> Val {
    match ty {
        Ty::Opt(_) if random.chance(35) => Val::Null,
        Ty::Opt(of) => value(of, random),
        Ty::Str | Ty::Error => Val::Str(
            (random.one_of(&["", "a", "b", "abc", "Zoë", "x y", "12", "-3", "2.5", "1h30m"]))
                .to_owned(),
        ),
        Ty::Int if random.chance(2) => Val::Int(*random.pick(&[i64::MAX, i64::MIN])),
        Ty::Int => Val::Int(random.below(12) as i64 - 3),
        Ty::Num => Val::Num(*random.pick(&[0.0, 1.5, -2.25, 100.0, 0.1, 3.0, 1e21, 2.5e-8])),
        Ty::Bool => Val::Bool(random.chance(50)),
        Ty::Time => {
            Val::Time(*random.pick(&[0, 1_767_323_045_000_000, 1_767_323_045_500_000, -1_000_000]))
        }
        Ty::Dur => Val::Dur(*random.pick(&[0, 1_500, 5_400_000, 86_400_000, -90_061_001])),
        Ty::Json => Val::Json(match random.below(4) {
            0 => serde_json::json!({"a": 1, "b": null, "abc": [1.5]}),
            1 => serde_json::json!("text"),
            2 => serde_json::json!(3),
            _ => serde_json::json!([{"a": true}]),
        }),
        Ty::List(of) => Val::List((0..random.below(4)).map(|_| value(of, random)).collect()),
        Ty::Map(of) => {
            let keys = ["a", "b", "abc"];
            Val::Map(
                (0..random.below(3)).map(|at| (keys[at].to_owned(), value(of, random))).collect(),
            )
        }
        Ty::With(at) => {
            let detail = detail(*at);
            let values: Vec<Val> = detail.values.into_iter().chain(detail.default).collect();
            random.pick(&values).clone()
        }
        Ty::Fields(fields) => record(fields, random),
        Ty::Named(name) => match super::words(name) {
            [] => record(&super::fields(name), random),
            words => Val::Word((*random.pick(words)).to_owned()),
        },
    }
}

pub fn record(fields: &[(String, Ty)], random: &mut Random) -> Val {
    Val::Rec(fields.iter().map(|(name, ty)| (name.clone(), value(ty, random))).collect())
}

/// As a service might write it: without what is the default anyway, or with a null for it.
pub fn shortened(mut json: Json, fields: &[(String, Ty)], random: &mut Random) -> Json {
    if let Json::Object(all) = &mut json {
        for (name, ty) in fields {
            let default = default_of(ty);
            if default == Val::Null || all.get(name) != Some(&json_of(&default)) {
                continue;
            }
            match random.below(3) {
                0 => drop(all.remove(name)),
                1 => drop(all.insert(name.clone(), Json::Null)),
                _ => {}
            }
        }
    }
    json
}
