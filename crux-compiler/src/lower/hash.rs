//! The two hashes of a workflow version. *Replay*: whatever the state of a running instance depends
//! on when its journal is applied again — steps, order, verbs, expressions, types of input, results
//! and events. *Policy*: what may change freely under running instances.
//!
//! Both are taken over a canonical byte form of the program, never over text, so that comments,
//! formatting, the order of keys and the names of types make no difference. The form is written out
//! here by hand: a derived one would change with every refactoring and turn released versions into
//! changed ones.

use std::collections::BTreeMap;

use sha2::{Digest, Sha256};

use crate::bound::Bound;
use crate::ir::{
    Catch, Contract, Expr, ExprKind, Field, Function, Iterate, Node, OnExhausted, Op, Policy,
    Record, Runs, SleepUntil, TriggerSource, Type, TypeName, Undo, Value, Verb, Workflow,
};

/// Fills in both hashes.
pub(super) fn hash(workflow: &mut Workflow, contracts: &[Contract]) {
    let mut replay = Canon::new("replay 1");
    replay.record(&workflow.input);
    replay.nodes(&workflow.steps, contracts);
    replay.option(workflow.output.as_ref(), Canon::expr);
    // Whether the instance parked or began to undo is in its state and not in its journal.
    if workflow.on_exhausted == OnExhausted::Park {
        replay.text("park");
    }
    let mut policy = Canon::new("policy 1");
    policy.workflow(workflow);
    policy.policies(&workflow.steps, contracts);
    workflow.replay_hash = replay.finish();
    workflow.policy_hash = policy.finish();
}

struct Canon {
    hasher: Sha256,
    /// Types written before are written as their number: shared types would take exponential time
    /// otherwise.
    types: BTreeMap<TypeName, u64>,
}

impl Canon {
    fn new(tag: &str) -> Self {
        let mut canon = Self { hasher: Sha256::new(), types: BTreeMap::new() };
        canon.text(tag);
        canon
    }

    fn finish(self) -> String {
        self.hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// With its length before it, so that no two sequences of parts are one sequence of bytes.
    fn text(&mut self, text: &str) {
        self.number(text.len() as u64);
        self.hasher.update(text.as_bytes());
    }

    fn number(&mut self, number: u64) {
        self.hasher.update(number.to_be_bytes());
    }

    fn flag(&mut self, flag: bool) {
        self.number(u64::from(flag));
    }

    fn option<T>(&mut self, value: Option<T>, write: impl FnOnce(&mut Self, T)) {
        self.flag(value.is_some());
        if let Some(value) = value {
            write(self, value);
        }
    }

    fn list<T>(&mut self, items: &[T], mut write: impl FnMut(&mut Self, &T)) {
        self.number(items.len() as u64);
        for item in items {
            write(self, item);
        }
    }

    fn ty(&mut self, ty: &Type) {
        match ty {
            Type::String => self.text("string"),
            Type::Integer => self.text("integer"),
            Type::Number => self.text("number"),
            Type::Boolean => self.text("boolean"),
            Type::Timestamp => self.text("timestamp"),
            Type::Duration => self.text("duration"),
            Type::Json => self.text("json"),
            Type::Error => self.text("error"),
            Type::List(of) => self.tagged("list", of),
            Type::Map(of) => self.tagged("map", of),
            Type::Optional(of) => self.tagged("optional", of),
            Type::Record(record) => self.record(record),
            Type::Enum(words) => {
                self.text("enum");
                self.list(&words.words, |canon, word| canon.text(word));
            }
        }
    }

    fn tagged(&mut self, tag: &str, ty: &Type) {
        self.text(tag);
        self.ty(ty);
    }

    fn record(&mut self, record: &Record) {
        if let Some(number) = self.types.get(&record.name).copied() {
            self.text("known");
            return self.number(number);
        }
        self.types.insert(record.name.clone(), self.types.len() as u64);
        self.text("record");
        // Fields have no order: that of the YAML is a matter of taste.
        let mut fields: Vec<&Field> = record.fields.iter().collect();
        fields.sort_by(|a, b| a.name.cmp(&b.name));
        self.list(&fields, |canon, field| {
            canon.text(&field.name);
            canon.ty(&field.ty);
            canon.option(field.default.as_ref(), Self::expr);
            canon.option(field.min, Self::bound);
            canon.option(field.max, Self::bound);
            canon.option(field.pattern.as_ref(), |canon, pattern| canon.text(pattern));
        });
    }

    fn bound(&mut self, bound: Bound) {
        self.number(bound.number().to_bits());
        if let Some(whole) = bound.beyond_doubles() {
            self.number(whole.cast_unsigned());
        }
    }

    fn nodes(&mut self, nodes: &[Node], contracts: &[Contract]) {
        self.list(nodes, |canon, node| canon.node(node, contracts));
    }

    fn node(&mut self, node: &Node, contracts: &[Contract]) {
        self.text(&node.path);
        self.option(node.when.as_ref(), Self::expr);
        self.option(node.result.as_ref(), Self::ty);
        self.verb(&node.verb, contracts);
        self.list(&node.catch, |canon, Catch { error, steps }| {
            canon.option(error.as_ref(), |canon, error| canon.text(error));
            canon.nodes(steps, contracts);
        });
    }

    fn verb(&mut self, verb: &Verb, contracts: &[Contract]) {
        match verb {
            Verb::Task(task) => {
                self.text("task");
                self.text(&task.contract);
                self.expr(&task.with);
                self.option(task.key.as_ref(), Self::expr);
                let returns = contracts
                    .iter()
                    .find(|contract| contract.name == task.contract)
                    .and_then(|contract| contract.returns.as_ref());
                self.option(returns, |canon, record| canon.record(record));
                self.option(task.undo.as_ref(), |canon, Undo { contract, with, .. }| {
                    canon.text(contract);
                    canon.expr(with);
                });
            }
            Verb::TaskThen { task, steps } => {
                self.text("task then");
                self.node(task, contracts);
                self.nodes(steps, contracts);
            }
            Verb::Group { steps, .. } => {
                self.text("group");
                self.nodes(steps, contracts);
            }
            Verb::Parallel { branches, .. } => {
                self.text("parallel");
                self.list(branches, |canon, branch| {
                    canon.text(&branch.name);
                    canon.nodes(&branch.steps, contracts);
                });
            }
            Verb::Switch { branches } => {
                self.text("switch");
                self.list(branches, |canon, case| {
                    canon.option(case.when.as_ref(), Self::expr);
                    canon.nodes(&case.steps, contracts);
                });
            }
            Verb::Each { item, item_type, list, concurrency, steps, yields, .. } => {
                self.text("each");
                self.text(item);
                self.ty(item_type);
                self.expr(list);
                self.number(u64::from(*concurrency));
                self.nodes(steps, contracts);
                self.option(yields.as_ref(), Self::expr);
            }
            Verb::Repeat { until, max, every_ms, steps, .. } => {
                self.text("repeat");
                self.expr(until);
                self.number(u64::from(*max));
                self.number(*every_ms);
                self.nodes(steps, contracts);
            }
            Verb::Wait { event, event_type, correlate, condition, .. } => {
                self.text("wait");
                self.text(event);
                self.record(event_type);
                self.option(correlate.as_ref(), Self::expr);
                self.option(condition.as_ref(), Self::expr);
            }
            Verb::Sleep(SleepUntil::For { ms }) => {
                self.text("sleep");
                self.number(*ms);
            }
            Verb::Sleep(SleepUntil::Until(until)) => {
                self.text("sleep until");
                self.expr(until);
            }
            Verb::Emit { event, data, .. } => {
                self.text("emit");
                self.text(event);
                self.expr(data);
            }
            Verb::Fail { error, message } => {
                self.text("fail");
                self.text(error);
                self.expr(message);
            }
        }
    }

    fn expr(&mut self, expr: &Expr) {
        self.ty(&expr.ty);
        match &expr.kind {
            ExprKind::Text(text) => {
                self.text("text");
                self.text(text);
            }
            ExprKind::Integer(value) => {
                self.text("integer");
                self.number(value.cast_unsigned());
            }
            ExprKind::Number(value) => {
                self.text("number");
                self.number(value.to_bits());
            }
            ExprKind::Boolean(value) => {
                self.text("boolean");
                self.flag(*value);
            }
            ExprKind::Timestamp(micros) => {
                self.text("timestamp");
                self.number(micros.cast_unsigned());
            }
            ExprKind::Duration { ms } => {
                self.text("duration");
                self.number(ms.cast_unsigned());
            }
            ExprKind::Null => self.text("null"),
            ExprKind::Word(word) => {
                self.text("word");
                self.text(word);
            }
            ExprKind::List(items) => {
                self.text("list");
                self.list(items, Self::expr);
            }
            ExprKind::Record(fields) => {
                self.text("record");
                let mut fields: Vec<&(String, Expr)> = fields.iter().collect();
                fields.sort_by(|(a, _), (b, _)| a.cmp(b));
                self.list(&fields, |canon, (name, value)| {
                    canon.text(name);
                    canon.expr(value);
                });
            }
            ExprKind::Value(value) => self.value(value),
            ExprKind::Field { of, name, optional } => {
                self.text("field");
                self.expr(of);
                self.text(name);
                self.flag(*optional);
            }
            ExprKind::Index { of, index } => self.parts("index", &[of, index]),
            ExprKind::Not(of) => self.parts("not", &[of]),
            ExprKind::Negate(of) => self.parts("negate", &[of]),
            ExprKind::Binary { op, left, right } => self.parts(symbol(*op), &[left, right]),
            ExprKind::Coalesce { left, right } => self.parts("??", &[left, right]),
            ExprKind::If { condition, then, other } => self.parts("if", &[condition, then, other]),
            ExprKind::Call { function, args } => {
                self.text(name_of(*function));
                self.list(args, Self::expr);
            }
            ExprKind::Iterate { how, over, variable, body } => {
                self.text(match how {
                    Iterate::Map => "map",
                    Iterate::Filter => "filter",
                    Iterate::All => "all",
                    Iterate::Exists => "exists",
                });
                self.expr(over);
                self.text(variable);
                self.expr(body);
            }
            ExprKind::Interpolate(parts) => {
                self.text("interpolate");
                self.list(parts, Self::expr);
            }
            ExprKind::Coerce(inner) => self.parts("coerce", &[inner]),
        }
    }

    fn parts(&mut self, tag: &str, parts: &[&Expr]) {
        self.text(tag);
        self.list(parts, |canon, part| canon.expr(part));
    }

    fn value(&mut self, value: &Value) {
        match value {
            Value::Input => self.text("input"),
            Value::Event => self.text("event"),
            Value::TriggerEvent => self.text("trigger event"),
            Value::Error => self.text("the error"),
            Value::InstanceId => self.text("instance.id"),
            Value::RequestId => self.text("instance.request_id"),
            Value::StartedAt => self.text("instance.started_at"),
            Value::Now => self.text("now"),
            Value::Step(id) => self.named("step", id),
            Value::Item(name) => self.named("item", name),
            Value::Config(name) => self.named("config", name),
        }
    }

    fn named(&mut self, tag: &str, name: &str) {
        self.text(tag);
        self.text(name);
    }

    // ---- policy ----

    fn workflow(&mut self, workflow: &Workflow) {
        self.option(workflow.description.as_ref(), |canon, text| canon.text(text));
        let hooks = &workflow.hooks;
        for hook in [&hooks.on_start, &hooks.on_complete, &hooks.on_failure] {
            self.option(hook.as_ref(), |canon, hook| canon.text(hook));
        }
        self.option(workflow.deadline_ms, Self::number);
        self.number(workflow.retain_ms);
        self.list(&workflow.triggers, |canon, trigger| {
            match &trigger.source {
                TriggerSource::Http { path } => canon.named("http", path),
                TriggerSource::Event { name } => canon.named("event", name),
            }
            for expr in [&trigger.with, &trigger.when, &trigger.key] {
                canon.option(expr.as_ref(), Self::expr);
            }
        });
    }

    fn policies(&mut self, nodes: &[Node], contracts: &[Contract]) {
        self.list(nodes, |canon, node| {
            canon.text(&node.path);
            canon.option(node.description.as_ref(), |canon, text| canon.text(text));
            match &node.verb {
                Verb::Task(task) => {
                    canon.policy(&task.policy);
                    canon.contract(&task.contract, contracts);
                    canon.option(task.undo.as_ref(), |canon, undo| {
                        canon.policy(&undo.policy);
                        canon.contract(&undo.contract, contracts);
                    });
                }
                Verb::TaskThen { task, .. } => {
                    canon.policies(std::slice::from_ref(task), contracts)
                }
                Verb::Group { timeout_ms, .. }
                | Verb::Parallel { timeout_ms, .. }
                | Verb::Each { timeout_ms, .. }
                | Verb::Repeat { timeout_ms, .. }
                | Verb::Wait { timeout_ms, .. } => canon.option(*timeout_ms, Self::number),
                Verb::Switch { .. } | Verb::Sleep(_) | Verb::Emit { .. } | Verb::Fail { .. } => {}
            }
            for child in node.children() {
                canon.policies(std::slice::from_ref(child), contracts);
            }
        });
    }

    fn contract(&mut self, name: &str, contracts: &[Contract]) {
        let Some(contract) = contracts.iter().find(|contract| contract.name == name) else {
            return;
        };
        match &contract.runs {
            Runs::Class(class) => self.named("class", class),
            Runs::Service { routing_key } => self.named("service", routing_key),
        }
        self.option(contract.description.as_ref(), |canon, text| canon.text(text));
        self.list(&contract.raises, |canon, error| canon.text(error));
        self.text(match contract.effect {
            crate::ir::EffectKind::None => "none",
            crate::ir::EffectKind::Idempotent => "idempotent",
            crate::ir::EffectKind::Once => "once",
        });
        self.flag(contract.reports_started);
        self.flag(contract.payload);
    }

    fn policy(&mut self, policy: &Policy) {
        self.number(u64::from(policy.attempts));
        self.number(policy.backoff_ms);
        self.number(u64::from(policy.factor_milli));
        self.flag(policy.jitter);
        for names in [&policy.only, &policy.never] {
            self.list(names, |canon, name| canon.text(name));
        }
        for time in [
            policy.max_backoff_ms,
            policy.queue_ms,
            policy.run_ms,
            policy.heartbeat_ms,
            policy.total_ms,
        ] {
            self.option(time, Self::number);
        }
    }
}

fn symbol(op: Op) -> &'static str {
    match op {
        Op::Add => "+",
        Op::Subtract => "-",
        Op::Multiply => "*",
        Op::Divide => "/",
        Op::Remainder => "%",
        Op::Equal => "==",
        Op::NotEqual => "!=",
        Op::Less => "<",
        Op::LessEqual => "<=",
        Op::Greater => ">",
        Op::GreaterEqual => ">=",
        Op::And => "&&",
        Op::Or => "||",
        Op::In => "in",
    }
}

fn name_of(function: Function) -> &'static str {
    match function {
        Function::Size => "size",
        Function::Has => "has",
        Function::Contains => "contains",
        Function::StartsWith => "startsWith",
        Function::EndsWith => "endsWith",
        Function::Lower => "lower",
        Function::Upper => "upper",
        Function::Join => "join",
        Function::Sum => "sum",
        Function::Min => "min",
        Function::Max => "max",
        Function::ToString => "string",
        Function::ToInteger => "integer",
        Function::ToNumber => "number",
        Function::ToTimestamp => "timestamp",
        Function::ToDuration => "duration",
    }
}
