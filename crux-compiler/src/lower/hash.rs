//! The two hashes of a workflow version. *Replay*: whatever the state of a running instance depends
//! on when its journal is applied again — steps, order, verbs, expressions, types of input, results
//! and events. *Policy*: what may change freely under running instances.
//!
//! Both are taken over a canonical byte form of the program, never over text, so that comments,
//! formatting, the order of keys and the names of types make no difference. The form is written out
//! here by hand: a derived one would change with every refactoring and turn released versions into
//! changed ones.
//!
//! Everything is taken apart without `..`, so that rustc asks of a new field which hash it belongs
//! to; a field that belongs to neither is named and dropped (`place: _`). Numbers of steps are in
//! neither: paths and order say the same.

use std::collections::{BTreeMap, BTreeSet};

use sha2::{Digest, Sha256};

use crate::bound::Bound;
use crate::builtins;
use crate::ir::{
    Branch, Case, Catch, Contract, EffectKind, Enum, Expr, ExprKind, Field, Hooks, Iterate, Node,
    OnExhausted, Op, Policy, Record, Runs, SleepUntil, Task, Trigger, TriggerSource, Type,
    TypeName, Undo, Value, Verb, Workflow,
};

/// Fills in both hashes.
pub(super) fn hash(workflow: &mut Workflow, contracts: &[Contract]) {
    let (replay, policy) = (replay(workflow, contracts), policy(workflow, contracts));
    workflow.replay_hash = replay;
    workflow.policy_hash = policy;
}

fn replay(workflow: &Workflow, contracts: &[Contract]) -> String {
    let Workflow {
        // A version is deployed beside others under its name and number.
        name: _,
        version: _,
        retired: _,
        module: _,
        place: _,
        replay_hash: _,
        policy_hash: _,
        // See `Canon::workflow`.
        description: _,
        triggers: _,
        hooks: _,
        deadline_ms: _,
        retain_ms: _,
        // What expressions read, once more.
        config: _,
        // The number of the steps.
        nodes: _,
        input,
        on_exhausted,
        steps,
        output,
    } = workflow;
    let mut canon = Canon::new("replay 1");
    canon.record(input);
    canon.nodes(steps, contracts);
    canon.option(output.as_ref(), Canon::expr);
    // Whether the instance parked or began to undo is in its state and not in its journal.
    match on_exhausted {
        OnExhausted::Park => canon.text("park"),
        OnExhausted::Undo => {}
    }
    canon.finish()
}

fn policy(workflow: &Workflow, contracts: &[Contract]) -> String {
    let mut canon = Canon::new("policy 1");
    canon.workflow(workflow);
    canon.policies(&workflow.steps, contracts);
    canon.finish()
}

struct Canon {
    hasher: Sha256,
    /// Types written before are written as their number: shared types would take exponential time
    /// otherwise.
    types: BTreeMap<TypeName, u64>,
    /// Records of which [`Canon::shown`] has been written.
    shown: BTreeSet<TypeName>,
}

impl Canon {
    fn new(tag: &str) -> Self {
        let mut canon =
            Self { hasher: Sha256::new(), types: BTreeMap::new(), shown: BTreeSet::new() };
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
                let Enum { name: _, words } = &**words;
                self.text("enum");
                self.list(words, |canon, word| canon.text(word));
            }
        }
    }

    fn tagged(&mut self, tag: &str, ty: &Type) {
        self.text(tag);
        self.ty(ty);
    }

    fn record(&mut self, record: &Record) {
        let Record { name, fields } = record;
        if let Some(number) = self.types.get(name).copied() {
            self.text("known");
            return self.number(number);
        }
        self.types.insert(name.clone(), self.types.len() as u64);
        self.text("record");
        // Fields have no order: that of the YAML is a matter of taste.
        let mut fields: Vec<&Field> = fields.iter().collect();
        fields.sort_by(|a, b| a.name.cmp(&b.name));
        self.list(&fields, |canon, field| {
            // See `Canon::shown`.
            let Field { name, ty, default, min, max, pattern, secret: _, description: _ } = field;
            canon.text(name);
            canon.ty(ty);
            canon.option(default.as_ref(), Self::expr);
            canon.option(*min, Self::bound);
            canon.option(*max, Self::bound);
            canon.option(pattern.as_ref(), |canon, pattern| canon.text(pattern));
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
        // The id is the last part of the path.
        let Node {
            id: _,
            no: _,
            end: _,
            place: _,
            description: _,
            path,
            when,
            verb,
            catch,
            result,
        } = node;
        self.text(path);
        self.option(when.as_ref(), Self::expr);
        self.option(result.as_ref(), Self::ty);
        self.verb(verb, contracts);
        self.list(catch, |canon, Catch { error, steps }| {
            canon.option(error.as_ref(), |canon, error| canon.text(error));
            canon.nodes(steps, contracts);
        });
    }

    fn verb(&mut self, verb: &Verb, contracts: &[Contract]) {
        match verb {
            Verb::Task(Task { contract: name, with, policy: _, key, undo }) => {
                self.text("task");
                self.text(name);
                self.expr(with);
                self.option(key.as_ref(), Self::expr);
                let returns = contracts
                    .iter()
                    .find(|contract| contract.name == *name)
                    .and_then(|contract| contract.returns.as_ref());
                self.option(returns, |canon, record| canon.record(record));
                self.option(undo.as_ref(), |canon, Undo { no: _, contract, with, policy: _ }| {
                    canon.text(contract);
                    canon.expr(with);
                });
            }
            Verb::TaskThen { task, steps } => {
                self.text("task then");
                self.node(task, contracts);
                self.nodes(steps, contracts);
            }
            Verb::Group { steps, timeout_ms: _ } => {
                self.text("group");
                self.nodes(steps, contracts);
            }
            Verb::Parallel { branches, timeout_ms: _ } => {
                self.text("parallel");
                self.list(branches, |canon, Branch { name, steps }| {
                    canon.text(name);
                    canon.nodes(steps, contracts);
                });
            }
            Verb::Switch { branches } => {
                self.text("switch");
                self.list(branches, |canon, Case { when, steps }| {
                    canon.option(when.as_ref(), Self::expr);
                    canon.nodes(steps, contracts);
                });
            }
            Verb::Each { item, item_type, list, concurrency, steps, yields, timeout_ms: _ } => {
                self.text("each");
                self.text(item);
                self.ty(item_type);
                self.expr(list);
                self.number(u64::from(*concurrency));
                self.nodes(steps, contracts);
                self.option(yields.as_ref(), Self::expr);
            }
            Verb::Repeat { until, max, every_ms, steps, timeout_ms: _ } => {
                self.text("repeat");
                self.expr(until);
                self.number(u64::from(*max));
                self.number(*every_ms);
                self.nodes(steps, contracts);
            }
            Verb::Wait { event, event_type, correlate, condition, timeout_ms: _ } => {
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
            // The routing key is the event's name.
            Verb::Emit { event, routing_key: _, data } => {
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
                self.text(builtins::name_of(*function).0);
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
        let Workflow {
            name: _,
            module: _,
            version: _,
            retired: _,
            place: _,
            replay_hash: _,
            policy_hash: _,
            // See `replay`.
            on_exhausted: _,
            config: _,
            steps: _,
            nodes: _,
            input,
            output,
            description,
            triggers,
            hooks: Hooks { on_start, on_complete, on_failure },
            deadline_ms,
            retain_ms,
        } = workflow;
        self.option(description.as_ref(), |canon, text| canon.text(text));
        for hook in [on_start, on_complete, on_failure] {
            self.option(hook.as_ref(), |canon, hook| canon.text(hook));
        }
        self.option(*deadline_ms, Self::number);
        self.number(*retain_ms);
        self.shown(&Type::Record(input.clone()));
        if let Some(output) = output {
            self.shown(&output.ty);
        }
        self.list(triggers, |canon, Trigger { place: _, source, with, when, key, is_closed }| {
            match source {
                TriggerSource::Http { path } => canon.named("http", path),
                TriggerSource::Event { name } => canon.named("event", name),
            }
            for expr in [with, when, key] {
                canon.option(expr.as_ref(), Self::expr);
            }
            if *is_closed {
                canon.text("closed");
            }
        });
    }

    /// What fields say of themselves without changing what happens: that they are masked, and their
    /// descriptions. Of a field that says nothing, nothing is written.
    fn shown(&mut self, ty: &Type) {
        match ty {
            Type::List(of) | Type::Map(of) | Type::Optional(of) => self.shown(of),
            Type::Record(record) => {
                let Record { name, fields } = &**record;
                if !self.shown.insert(name.clone()) {
                    return;
                }
                for field in fields {
                    let Field {
                        name,
                        ty,
                        secret,
                        description,
                        default: _,
                        min: _,
                        max: _,
                        pattern: _,
                    } = field;
                    if *secret || description.is_some() {
                        self.named("shown", name);
                        self.flag(*secret);
                        self.option(description.as_ref(), |canon, text| canon.text(text));
                    }
                    self.shown(ty);
                }
            }
            Type::String
            | Type::Integer
            | Type::Number
            | Type::Boolean
            | Type::Timestamp
            | Type::Duration
            | Type::Json
            | Type::Error
            | Type::Enum(_) => {}
        }
    }

    fn policies(&mut self, nodes: &[Node], contracts: &[Contract]) {
        self.list(nodes, |canon, node| {
            let Node {
                id: _,
                no: _,
                end: _,
                place: _,
                when: _,
                catch: _,
                result: _,
                path,
                description,
                verb,
            } = node;
            canon.text(path);
            canon.option(description.as_ref(), |canon, text| canon.text(text));
            match verb {
                Verb::Task(Task { contract, with: _, policy, key: _, undo }) => {
                    canon.policy(policy);
                    canon.contract(contract, contracts);
                    canon.option(
                        undo.as_ref(),
                        |canon, Undo { no: _, contract, with: _, policy }| {
                            canon.policy(policy);
                            canon.contract(contract, contracts);
                        },
                    );
                }
                Verb::TaskThen { task, steps: _ } => {
                    canon.policies(std::slice::from_ref(task), contracts)
                }
                Verb::Group { timeout_ms, steps: _ }
                | Verb::Parallel { timeout_ms, branches: _ }
                | Verb::Each {
                    timeout_ms,
                    item: _,
                    item_type: _,
                    list: _,
                    concurrency: _,
                    steps: _,
                    yields: _,
                }
                | Verb::Repeat { timeout_ms, until: _, max: _, every_ms: _, steps: _ } => {
                    canon.option(*timeout_ms, Self::number)
                }
                Verb::Wait { timeout_ms, event_type, event: _, correlate: _, condition: _ } => {
                    canon.option(*timeout_ms, Self::number);
                    canon.shown(&Type::Record(event_type.clone()));
                }
                Verb::Emit { event: _, routing_key: _, data } => canon.shown(&data.ty),
                Verb::Switch { branches: _ }
                | Verb::Sleep(_)
                | Verb::Fail { error: _, message: _ } => {}
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
        let Contract {
            name: _,
            place: _,
            takes,
            returns,
            description,
            runs,
            raises,
            effect,
            reports_started,
            payload,
        } = contract;
        match runs {
            Runs::Class(class) => self.named("class", class),
            Runs::Service { routing_key } => self.named("service", routing_key),
        }
        self.option(description.as_ref(), |canon, text| canon.text(text));
        self.list(raises, |canon, error| canon.text(error));
        self.text(match effect {
            EffectKind::None => "none",
            EffectKind::Idempotent => "idempotent",
            EffectKind::Once => "once",
        });
        self.flag(*reports_started);
        self.flag(*payload);
        for record in std::iter::once(takes).chain(returns) {
            self.shown(&Type::Record(record.clone()));
        }
    }

    fn policy(&mut self, policy: &Policy) {
        let Policy {
            attempts,
            backoff_ms,
            factor_milli,
            max_backoff_ms,
            jitter,
            only,
            never,
            queue_ms,
            run_ms,
            heartbeat_ms,
            total_ms,
        } = policy;
        self.number(u64::from(*attempts));
        self.number(*backoff_ms);
        self.number(u64::from(*factor_milli));
        self.flag(*jitter);
        for names in [only, never] {
            self.list(names, |canon, name| canon.text(name));
        }
        for time in [max_backoff_ms, queue_ms, run_ms, heartbeat_ms, total_ms] {
            self.option(*time, Self::number);
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
