//! What the generator must know of a workflow before it writes a line: its scopes, the values that
//! are live at each step, what each scope gives to the one around it, and what the steps of a scope
//! read of what is around them.
//!
//! Liveness is computed backwards, once per scope: a step holds what it, or anything after it in
//! its scope, reads.

use std::collections::{BTreeMap, BTreeSet};

use proc_macro2::TokenStream;
use quote::quote;

use crate::ir::{Expr, Node, Task, Type, Value, Verb, Workflow};

use super::names::{Names, bare, variable};
use super::reads;
use crate::names as rust;

pub(super) type StepId = usize;
pub(super) type ScopeId = usize;

/// A value that states hold, by the id of its step; steps are ordered by number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Key<'a> {
    Input,
    Step(u16, &'a str),
}

/// What the steps of a scope see of what is around them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Outer<'a> {
    /// The live values of a step around the scope.
    At(StepId),
    Item(&'a str),
    Error,
}

/// Where an expression finds a value of the state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ValueLocation<'a> {
    /// Among the live values where it stands.
    Here(Key<'a>),
    /// Among those of a step around.
    Around(StepId, Key<'a>),
    Item(&'a str),
    Error,
    /// Its step stands inside one that has failed; the machine has kept it.
    Kept(Key<'a>),
}

pub(super) struct Scope<'a> {
    /// Of its enum.
    pub(super) name: String,
    /// Of its functions: `apply_<snake>`.
    pub(super) snake: String,
    /// The step that it is inside of.
    pub(super) around: Option<StepId>,
    pub(super) kind: ScopeKind<'a>,
    /// One sequence of steps, or one for each case of a `switch`.
    pub(super) sequences: Vec<Vec<StepId>>,
    /// The results that it gives to the scope around, in the order of the steps.
    pub(super) exports: Vec<Key<'a>>,
    pub(super) view: BTreeSet<Outer<'a>>,
    /// Of the struct that holds [`Self::view`], where it needs one.
    pub(super) view_name: String,
    /// Whether nothing in it ever stays open: then it has no enum.
    pub(super) is_instant: bool,
    /// Of the type of what entering a step gives.
    pub(super) flow_name: String,
    /// Of the tuple of [`Self::exports`], where there are several.
    pub(super) out_name: String,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum ScopeKind<'a> {
    Root,
    /// The steps of a group, or of a task with steps.
    Group,
    /// One branch of a `parallel`.
    Branch(usize),
    Switch,
    Each {
        item: &'a str,
        item_type: &'a Type,
        yields: Option<&'a Expr>,
    },
    Repeat,
    Catch(usize),
}

pub(super) struct Step<'a> {
    pub(super) node: &'a Node,
    pub(super) scope: ScopeId,
    /// Unique in its workflow: `enter_<snake>`.
    pub(super) snake: String,
    /// Unique: its variant.
    pub(super) camel: String,
    /// Of the struct that holds [`Self::live`].
    pub(super) at_name: String,
    /// Of a `parallel`: the struct of its branches, and the tuple of what they give, where that is
    /// several.
    pub(super) join_name: String,
    pub(super) join_out_name: String,
    /// Of a step with `undo`: the struct of what that reads.
    pub(super) undo_name: String,
    pub(super) live: Vec<Key<'a>>,
    /// What the rest of its scope reads of what it, or anything inside it, gives.
    pub(super) gives: Vec<Key<'a>>,
    /// The scopes of its verb: one, or one per branch of a `parallel`.
    pub(super) inside: Vec<ScopeId>,
    /// One per `catch`; `None` where it has no steps.
    pub(super) catches: Vec<Option<ScopeId>>,
    /// The steps before and after it in its sequence.
    pub(super) previous: Option<StepId>,
    pub(super) next: Option<StepId>,
    /// Whether entering it, beyond what is inside it, reads something that is around its scope.
    pub(super) reads_outside: bool,
    /// Whether offering it an event does.
    pub(super) holds_outside: bool,
}

pub(super) struct Plan<'a> {
    pub(super) workflow: &'a Workflow,
    pub(super) scopes: Vec<Scope<'a>>,
    /// In the order of their numbers.
    pub(super) steps: Vec<Step<'a>>,
    keys: BTreeMap<&'a str, Key<'a>>,
    /// The step whose result a key is; of a task with steps the task.
    owners: BTreeMap<Key<'a>, StepId>,
    /// The nodes whose results are read after a failure.
    kept: BTreeSet<u16>,
    /// What a result is called among live values.
    fields: BTreeMap<Key<'a>, String>,
    /// What the numbers of nodes are called, those of undos among them.
    constants: BTreeMap<u16, String>,
}

impl<'a> Plan<'a> {
    pub(super) fn new(workflow: &'a Workflow, names: &mut Names) -> Self {
        let mut keys = BTreeMap::new();
        let mut todo: Vec<&Node> = workflow.steps.iter().collect();
        while let Some(node) = todo.pop() {
            keys.insert(node.id.as_str(), Key::Step(node.no, &node.id));
            todo.extend(node.children());
        }
        let mut plan = Self {
            workflow,
            scopes: Vec::new(),
            steps: Vec::new(),
            keys,
            owners: BTreeMap::new(),
            kept: super::kept::nodes(workflow),
            fields: BTreeMap::new(),
            constants: BTreeMap::new(),
        };
        let end =
            workflow.output.as_ref().map(|output| plan.read_by(&[output])).unwrap_or_default();
        plan.scope(
            ScopeKind::Root,
            None,
            vec![workflow.steps.iter().collect()],
            &end,
            &BTreeSet::new(),
            names,
        );
        plan.fill_views();
        plan.name_nodes();
        plan
    }

    fn name_nodes(&mut self) {
        let mut taken = BTreeSet::new();
        for step in &self.steps {
            let undo = task(step.node).and_then(|task| task.undo.as_ref());
            let of_step = (step.node.no, bare(&step.snake).to_uppercase());
            let of_undo =
                undo.map(|undo| (undo.no, format!("{}_UNDO", bare(&step.snake).to_uppercase())));
            for (number, wanted) in std::iter::once(of_step).chain(of_undo) {
                let mut name = wanted;
                while !taken.insert(name.clone()) {
                    name.push('_');
                }
                self.constants.insert(number, name);
            }
        }
    }

    /// The number of a node, by its name: `node::SEO`.
    pub(super) fn node(&self, number: u16) -> TokenStream {
        match self.constants.get(&number) {
            Some(name) => {
                let name = super::names::ident(name);
                quote!(node::#name)
            }
            // A step that is never reached has none.
            None => super::expr::count(number.into()),
        }
    }

    /// The last step with a number below this one. No event is for an undo while its step is open.
    pub(super) fn last_step_before(&self, end: u16) -> Option<u16> {
        self.steps.iter().map(|step| step.node.no).filter(|number| *number < end).max()
    }

    /// The module of these names.
    pub(super) fn node_module(&self) -> TokenStream {
        let constants = self.constants.iter().map(|(number, name)| {
            let (name, number) = (super::names::ident(name), super::expr::count((*number).into()));
            quote!(pub const #name: u16 = #number;)
        });
        quote! {
            /// The numbers of the steps: events name steps by them, and the table below has them in
            /// this order.
            mod node {
                #(#constants)*
            }
        }
    }

    /// The step that ends a scope with one sequence.
    pub(super) fn last(&self, scope: &Scope<'a>) -> Option<&Step<'a>> {
        scope.sequences.first()?.last().map(|last| &self.steps[*last])
    }

    pub(super) fn root(&self) -> &Scope<'a> {
        &self.scopes[0]
    }

    fn read_by(&self, exprs: &[&'a Expr]) -> BTreeSet<Key<'a>> {
        let mut read = BTreeSet::new();
        for expr in exprs {
            reads::of_expr(expr, &mut |value| read.extend(self.key(value)));
        }
        read
    }

    fn read_by_node(&self, node: &'a Node) -> BTreeSet<Key<'a>> {
        let mut read = BTreeSet::new();
        reads::of_node(node, &mut |value| read.extend(self.key(value)));
        read
    }

    pub(super) fn key(&self, value: &Value) -> Option<Key<'a>> {
        match value {
            Value::Input => Some(Key::Input),
            Value::Step(id) => self.keys.get(id.as_str()).copied(),
            _ => None,
        }
    }

    /// The results that a step and everything inside it gives.
    fn inside(&self, node: &'a Node) -> BTreeSet<Key<'a>> {
        let mut all: BTreeSet<Key<'a>> =
            self.keys.get(node.id.as_str()).copied().into_iter().collect();
        for child in node.children() {
            all.extend(self.inside(child));
        }
        all
    }

    /// Plans a scope and everything inside it. `end`: what its last expression reads; `wanted`:
    /// what others read.
    fn scope(
        &mut self,
        kind: ScopeKind<'a>,
        around: Option<StepId>,
        sequences: Vec<Vec<&'a Node>>,
        end: &BTreeSet<Key<'a>>,
        wanted: &BTreeSet<Key<'a>>,
        names: &mut Names,
    ) -> ScopeId {
        let id = self.scopes.len();
        let (name, snake) = self.scope_name(kind, around, names);
        let view_name = if kind == ScopeKind::Root {
            String::new()
        } else {
            names.take_type(&format!("In{name}"))
        };
        let flow_name = names.take_type(&format!("{name}Flow"));
        self.scopes.push(Scope {
            name,
            snake,
            around,
            kind,
            sequences: Vec::new(),
            exports: Vec::new(),
            view: BTreeSet::new(),
            view_name,
            is_instant: false,
            flow_name,
            out_name: String::new(),
        });
        let is_root = kind == ScopeKind::Root;
        let mut exports = BTreeSet::new();
        for nodes in sequences {
            let nodes = reachable(nodes);
            let mut known: BTreeSet<Key<'a>> =
                nodes.iter().flat_map(|node| self.inside(node)).collect();
            known.extend(is_root.then_some(Key::Input));
            let given: BTreeSet<Key<'a>> = wanted.intersection(&known).copied().collect();
            // Nothing is read behind a `fail`.
            let ends = nodes.last().is_some_and(|last| is_end(last));
            let read = given.iter().chain(end.intersection(&known)).copied();
            let at_end: BTreeSet<Key<'a>> = if ends { BTreeSet::new() } else { read.collect() };
            exports.extend(given);
            let steps = self.sequence(id, &nodes, at_end, names);
            self.scopes[id].sequences.push(steps);
        }
        self.scopes[id].exports = exports.into_iter().collect();
        let steps = self.scopes[id].sequences.iter().flatten();
        self.scopes[id].is_instant =
            !is_root && steps.map(|step| &self.steps[*step]).all(|step| self.is_instant(step));
        if self.scopes[id].exports.len() > 1 {
            self.scopes[id].out_name = names.take_type(&format!("{}Out", self.scopes[id].name));
        }
        id
    }

    fn sequence(
        &mut self,
        scope: ScopeId,
        nodes: &[&'a Node],
        at_end: BTreeSet<Key<'a>>,
        names: &mut Names,
    ) -> Vec<StepId> {
        // What is known before each step.
        let mut known = Vec::with_capacity(nodes.len());
        let mut so_far: BTreeSet<Key<'a>> = (self.scopes[scope].kind == ScopeKind::Root)
            .then_some(Key::Input)
            .into_iter()
            .collect();
        for node in nodes {
            known.push(so_far.clone());
            so_far.extend(self.inside(node));
        }
        let mut live_after = at_end;
        let mut lives = Vec::with_capacity(nodes.len());
        for (node, known) in nodes.iter().zip(known).rev() {
            let gives: Vec<Key<'a>> = live_after.difference(&known).copied().collect();
            let mut live: BTreeSet<Key<'a>> = live_after.intersection(&known).copied().collect();
            live.extend(self.read_by_node(node).intersection(&known));
            lives.push((gives, live.iter().copied().collect::<Vec<_>>()));
            live_after = live;
        }
        let mut ids: Vec<StepId> = Vec::with_capacity(nodes.len());
        for (node, (gives, live)) in nodes.iter().zip(lives.into_iter().rev()) {
            let id = self.step(scope, node, gives, live, names);
            if let Some(before) = ids.last() {
                self.steps[*before].next = Some(id);
                self.steps[id].previous = Some(*before);
            }
            ids.push(id);
        }
        ids
    }

    fn step(
        &mut self,
        scope: ScopeId,
        node: &'a Node,
        gives: Vec<Key<'a>>,
        live: Vec<Key<'a>>,
        names: &mut Names,
    ) -> StepId {
        let id = self.steps.len();
        // The task of a task with steps has the id of both.
        let key = self.keys.get(node.id.as_str()).copied();
        let is_task_of_both = key.is_some_and(|key| self.owners.contains_key(&key));
        let (snake, camel) = if is_task_of_both {
            names.take_step(&format!("{}_task", node.id))
        } else {
            names.take_step(&node.id)
        };
        let at_name = names.take_type(&format!("At{camel}"));
        let join_name = if matches!(node.verb, Verb::Parallel { .. }) {
            names.take_type(&camel)
        } else {
            String::new()
        };
        let undo_name = if task(node).is_some_and(|task| task.undo.is_some()) {
            names.take_type(&format!("Undo{camel}"))
        } else {
            String::new()
        };
        if let Some(key) = key {
            self.owners.insert(key, id);
            self.fields.entry(key).or_insert_with(|| snake.clone());
        }
        let wanted: BTreeSet<Key<'a>> = gives.iter().copied().collect();
        let nothing = BTreeSet::new();
        self.steps.push(Step {
            node,
            scope,
            snake,
            camel,
            at_name,
            join_name,
            join_out_name: String::new(),
            undo_name,
            live,
            gives,
            inside: Vec::new(),
            catches: Vec::new(),
            previous: None,
            next: None,
            reads_outside: false,
            holds_outside: false,
        });
        let around = Some(id);
        let inside = match &node.verb {
            Verb::TaskThen { task, steps } => {
                let nodes = std::iter::once(&**task).chain(steps).collect();
                vec![self.scope(ScopeKind::Group, around, vec![nodes], &nothing, &wanted, names)]
            }
            Verb::Group { steps, .. } => {
                vec![self.scope(
                    ScopeKind::Group,
                    around,
                    vec![steps.iter().collect()],
                    &nothing,
                    &wanted,
                    names,
                )]
            }
            Verb::Parallel { branches, .. } => {
                let mut scopes = Vec::with_capacity(branches.len());
                for (index, branch) in branches.iter().enumerate() {
                    let steps = vec![branch.steps.iter().collect()];
                    scopes.push(self.scope(
                        ScopeKind::Branch(index),
                        around,
                        steps,
                        &nothing,
                        &wanted,
                        names,
                    ));
                }
                scopes
            }
            Verb::Switch { branches } => {
                let sequences = branches.iter().map(|case| case.steps.iter().collect()).collect();
                vec![self.scope(ScopeKind::Switch, around, sequences, &nothing, &wanted, names)]
            }
            Verb::Each { item, item_type, steps, yields, .. } => {
                let end = self.read_by(&yields.iter().collect::<Vec<_>>());
                let kind = ScopeKind::Each { item, item_type, yields: yields.as_ref() };
                vec![self.scope(kind, around, vec![steps.iter().collect()], &end, &nothing, names)]
            }
            Verb::Repeat { until, steps, .. } => {
                let wanted = self.read_by(&[until]).union(&wanted).copied().collect();
                vec![self.scope(
                    ScopeKind::Repeat,
                    around,
                    vec![steps.iter().collect()],
                    &nothing,
                    &wanted,
                    names,
                )]
            }
            Verb::Task(_)
            | Verb::Wait { .. }
            | Verb::Sleep(_)
            | Verb::Emit { .. }
            | Verb::Fail { .. } => Vec::new(),
        };
        let mut catches = Vec::with_capacity(node.catch.len());
        for (index, catch) in node.catch.iter().enumerate() {
            let steps = vec![catch.steps.iter().collect()];
            let scope = (!catch.steps.is_empty()).then(|| {
                self.scope(ScopeKind::Catch(index), around, steps, &nothing, &wanted, names)
            });
            catches.push(scope);
        }
        if matches!(node.verb, Verb::Parallel { .. }) && inside.len() > 1 {
            self.steps[id].join_out_name =
                names.take_type(&format!("{}Out", self.steps[id].join_name));
        }
        self.steps[id].inside = inside;
        self.steps[id].catches = catches;
        id
    }

    /// Whether a scope is a `fail` and nothing else, so that entering it gives a failure.
    pub(super) fn is_failure(&self, id: ScopeId) -> bool {
        let scope = &self.scopes[id];
        matches!(scope.kind, ScopeKind::Catch(_))
            && matches!(scope.sequences.as_slice(), [steps] if steps.len() == 1)
            && self.last(scope).is_some_and(|last| is_end(last.node))
    }

    pub(super) fn is_instant(&self, step: &Step<'a>) -> bool {
        let catches = step.catches.iter().flatten().all(|scope| self.scopes[*scope].is_instant);
        self.is_instant_verb(step) && catches
    }

    /// Whether the step itself never stays open.
    pub(super) fn is_instant_verb(&self, step: &Step<'a>) -> bool {
        matches!(step.node.verb, Verb::Emit { .. } | Verb::Fail { .. })
    }

    fn scope_name(
        &self,
        kind: ScopeKind<'a>,
        around: Option<StepId>,
        names: &mut Names,
    ) -> (String, String) {
        let Some(step) = around.map(|step| &self.steps[step]) else {
            return (names.take_type("State"), names.take_scope("state"));
        };
        let (camel, snake) = match (kind, &step.node.verb) {
            (ScopeKind::Branch(index), Verb::Parallel { branches, .. }) => {
                let branch = branches.get(index).map_or("", |branch| branch.name.as_str());
                (
                    format!("{}{}", step.camel, rust::type_name(branch)),
                    format!("{}_{}", step.snake, bare(&rust::module(branch))),
                )
            }
            (ScopeKind::Catch(index), _) => {
                let error = step
                    .node
                    .catch
                    .get(index)
                    .and_then(|catch| catch.error.as_deref())
                    .unwrap_or("Any");
                (
                    format!("{}Catch{}", step.camel, rust::type_name(error)),
                    format!("{}_catch_{}", step.snake, bare(&rust::module(error))),
                )
            }
            _ => (step.camel.clone(), step.snake.clone()),
        };
        let name = if matches!(kind, ScopeKind::Catch(_)) {
            names.take_catch(&camel)
        } else {
            names.take_type(&camel)
        };
        (name, names.take_scope(&snake))
    }

    /// Whether the result may be absent for those who stand in `scope`, after its step.
    pub(super) fn is_optional(&self, key: Key<'a>, scope: ScopeId) -> bool {
        let mut next = self.owners.get(&key).copied();
        while let Some(id) = next {
            let step = &self.steps[id];
            if step.node.when.is_some() || !step.node.catch.is_empty() {
                return true;
            }
            if step.scope == scope {
                return false;
            }
            let around = &self.scopes[step.scope];
            if matches!(around.kind, ScopeKind::Switch | ScopeKind::Catch(_)) {
                return true;
            }
            next = around.around;
        }
        false
    }

    /// Whether a scope gives a result as one that may be absent.
    pub(super) fn is_export_optional(&self, key: Key<'a>, scope: ScopeId) -> bool {
        self.scopes[scope].kind == ScopeKind::Switch || self.is_optional(key, scope)
    }

    /// What a value is called among live values.
    pub(super) fn field(&self, key: Key<'a>) -> proc_macro2::Ident {
        variable(self.fields.get(&key).map_or("input", String::as_str))
    }

    /// Whether a result is called so.
    pub(super) fn is_field(&self, name: &proc_macro2::Ident) -> bool {
        self.fields.values().any(|field| *name == variable(field))
    }

    pub(super) fn owner_id(&self, key: Key<'a>) -> Option<StepId> {
        self.owners.get(&key).copied()
    }

    /// The step that a result comes from.
    pub(super) fn owner(&self, key: Key<'a>) -> Option<&Step<'a>> {
        self.owners.get(&key).map(|id| &self.steps[*id])
    }

    /// Where an expression that stands in `scope`, with `live` at hand, finds a value. `None`: it
    /// is not part of the state.
    pub(super) fn find<'v>(
        &self,
        value: &'v Value,
        scope: ScopeId,
        live: &[Key<'a>],
    ) -> Option<ValueLocation<'v>>
    where
        'a: 'v,
    {
        match value {
            Value::Item(name) => return Some(ValueLocation::Item(name)),
            Value::Error => return Some(ValueLocation::Error),
            _ => {}
        }
        let key = self.key(value)?;
        if live.contains(&key) {
            return Some(ValueLocation::Here(key));
        }
        let mut next = self.scopes[scope].around;
        while let Some(id) = next {
            if self.steps[id].live.contains(&key) {
                return Some(ValueLocation::Around(id, key));
            }
            next = self.scopes[self.steps[id].scope].around;
        }
        self.kept_number(key).map(|_| ValueLocation::Kept(key))
    }

    /// The number by which the machine knows a result that is read after a failure.
    pub(super) fn kept_number(&self, key: Key<'a>) -> Option<u16> {
        Some(super::kept::result_number(self.owner(key)?.node))
            .filter(|number| self.kept.contains(number))
    }

    /// Whether the step of a key stands inside the verb of a step (or is the task of that), so that
    /// it may have completed though that failed.
    pub(super) fn stands_inside(&self, key: Key<'a>, step: StepId) -> bool {
        let Some(owner) = self.owners.get(&key) else { return false };
        if *owner == step {
            return matches!(self.steps[step].node.verb, Verb::TaskThen { .. });
        }
        let mut scope = self.steps[*owner].scope;
        while let Some(around) = self.scopes[scope].around {
            if around == step {
                return !matches!(self.scopes[scope].kind, ScopeKind::Catch(_));
            }
            scope = self.steps[around].scope;
        }
        false
    }
}

impl Step<'_> {
    /// Whether it has live values. Where it has none, nothing is passed on and held for them.
    pub(super) fn has_at(&self) -> bool {
        !self.live.is_empty()
    }
}

/// The task of a step that is one.
pub(super) fn task(node: &Node) -> Option<&Task> {
    if let Verb::Task(task) = &node.verb { Some(task) } else { None }
}

/// Whether nothing comes after the step, whatever happens.
pub(super) fn is_end(node: &Node) -> bool {
    matches!(node.verb, Verb::Fail { .. }) && node.when.is_none() && node.catch.is_empty()
}

/// Without what follows a `fail`.
fn reachable(mut nodes: Vec<&Node>) -> Vec<&Node> {
    if let Some(end) = nodes.iter().position(|node| is_end(node)) {
        nodes.truncate(end + 1);
    }
    nodes
}
