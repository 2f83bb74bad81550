//! The static tables of a workflow: its nodes, triggers and hooks, and its document.

use std::collections::BTreeSet;

use proc_macro2::TokenStream;
use quote::quote;
use serde_json::{Value, json};

use super::expr::{count, time};
use super::paths::Module;
use super::plan::Plan;
use super::text::Items;
use super::tokens::time_option;
use super::{kept, schema, trigger};
use crate::ir::{Node, OnExhausted, Policy, Program, Runs, Task, Verb, Workflow};
use crate::secrets;

pub(super) fn items(
    workflow: &Workflow,
    program: &Program,
    plan: &Plan<'_>,
    module: Module<'_>,
) -> Items {
    let mut items = Items::new();
    let mut rows = Rows { module, plan, kept: kept::nodes(workflow), all: Vec::new() };
    rows.nodes(&workflow.steps, None, &Catching::default());
    rows.all.sort_by_key(|(number, _)| *number);
    let rows = rows.all.into_iter().map(|(_, row)| row);
    let triggers = workflow
        .triggers
        .iter()
        .enumerate()
        .map(|(index, declared)| trigger::row(index, declared, workflow, module));
    let hook = |key: &Option<String>| match key {
        Some(key) => {
            let constant = super::routes::constant(key);
            quote!(Some(routes::#constant))
        }
        None => quote!(None),
    };
    let hooks = &workflow.hooks;
    let (on_start, on_complete, on_failure) =
        (hook(&hooks.on_start), hook(&hooks.on_complete), hook(&hooks.on_failure));
    let hooks = match (&hooks.on_start, &hooks.on_complete, &hooks.on_failure) {
        (None, None, None) => quote!(Hooks::NONE),
        _ => {
            quote!(Hooks { on_start: #on_start, on_complete: #on_complete, on_failure: #on_failure })
        }
    };
    let Workflow { name, retired, replay_hash, policy_hash, config, .. } = workflow;
    let version = count(workflow.version.into());
    let (source, description) =
        (&workflow.place.file, workflow.description.as_deref().unwrap_or(""));
    let deadline = time_option(workflow.deadline_ms);
    let on_exhausted = match workflow.on_exhausted {
        OnExhausted::Undo => quote!(OnExhausted::Undo),
        OnExhausted::Park => quote!(OnExhausted::Park),
    };
    let retain = time(workflow.retain_ms);
    let document = schema::raw(&document(workflow, program));
    let mut input_schema = schema::record(&workflow.input);
    if workflow.triggers.iter().any(|trigger| trigger.is_closed) {
        input_schema["additionalProperties"] = Value::Bool(false);
    }
    let input_schema = schema::raw(&input_schema);
    let output_schema = schema::raw(
        &workflow.output.as_ref().map_or_else(schema::anything, |output| schema::ty(&output.ty)),
    );
    items.push(quote! {
        pub static DEFINITION: Definition = Definition {
            workflow: #name,
            version: #version,
            retired: #retired,
            hash: #replay_hash,
            policy_hash: #policy_hash,
            source: #source,
            description: #description,
            nodes: NODES,
            triggers: TRIGGERS,
            hooks: #hooks,
            deadline_ms: #deadline,
            on_exhausted: #on_exhausted,
            retain_ms: #retain,
            config: &[#(#config),*],
            document: DOCUMENT,
            input_schema: INPUT_SCHEMA,
            output_schema: OUTPUT_SCHEMA,
        };
    });
    items.push(quote!(static TRIGGERS: &[Trigger] = &[#(#triggers),*];));
    items.push(quote!(static NODES: &[Node] = &[#(#rows),*];));
    items.push(plan.node_module());
    // Long and of no interest to who reads the machine: last.
    items.push(quote!(const DOCUMENT: &str = #document;));
    items.push(quote!(const INPUT_SCHEMA: &str = #input_schema;));
    items.push(quote!(const OUTPUT_SCHEMA: &str = #output_schema;));
    items
}

/// Which failures the catches around a node take.
#[derive(Debug, Clone, Default)]
struct Catching {
    any: bool,
    names: Vec<String>,
}

impl Catching {
    fn with(&self, node: &Node) -> Self {
        let mut all = self.clone();
        for catch in &node.catch {
            match &catch.error {
                None => all.any = true,
                Some(name) if !all.names.contains(name) => all.names.push(name.clone()),
                Some(_) => {}
            }
        }
        all
    }

    fn tokens(&self) -> Option<TokenStream> {
        let names = &self.names;
        if self.any {
            Some(quote!(.caught_any()))
        } else {
            (!names.is_empty()).then(|| quote!(.caught(&[#(#names),*])))
        }
    }
}

/// What a node stands in.
#[derive(Clone, Copy)]
enum Parent {
    Verb(u16),
    Catch(u16),
}

impl Parent {
    fn tokens(self, plan: &Plan<'_>) -> TokenStream {
        let (Self::Verb(number) | Self::Catch(number)) = self;
        let number = plan.node(number);
        if let Self::Verb(_) = self {
            quote!(.inside(#number))
        } else {
            quote!(.in_catch_of(#number))
        }
    }
}

/// The rows of the table of nodes, with their numbers.
struct Rows<'m, 'a> {
    module: Module<'m>,
    plan: &'m Plan<'a>,
    kept: BTreeSet<u16>,
    all: Vec<(u16, TokenStream)>,
}

impl Rows<'_, '_> {
    fn nodes(&mut self, steps: &[Node], parent: Option<Parent>, around: &Catching) {
        for step in steps {
            self.node(step, parent, around);
        }
    }

    /// The rows of a node and of everything inside it. `around`: the catches around it.
    fn node(&mut self, node: &Node, parent: Option<Parent>, around: &Catching) {
        let own = Some(Parent::Verb(node.no));
        let inside = around.with(node);
        let (id, path, line) = (&node.id, &node.path, count(node.place.line as u64));
        let plain = |kind: TokenStream| quote!(Node::new(#id, #path, #line, #kind));
        let row = match &node.verb {
            Verb::Task(task) => self.task(node, task),
            Verb::TaskThen { task, steps } => {
                self.node(task, own, &inside);
                self.nodes(steps, own, &inside);
                plain(quote!(Kind::Group))
            }
            Verb::Group { steps, .. } => {
                self.nodes(steps, own, &inside);
                plain(quote!(Kind::Group))
            }
            Verb::Parallel { branches, .. } => {
                branches.iter().for_each(|branch| self.nodes(&branch.steps, own, &inside));
                plain(quote!(Kind::Parallel))
            }
            Verb::Switch { branches } => {
                branches.iter().for_each(|case| self.nodes(&case.steps, own, &inside));
                plain(quote!(Kind::Switch))
            }
            Verb::Each { steps, .. } => {
                self.nodes(steps, own, &inside);
                plain(quote!(Kind::Each))
            }
            Verb::Repeat { steps, .. } => {
                self.nodes(steps, own, &inside);
                plain(quote!(Kind::Repeat))
            }
            Verb::Wait { event, .. } => quote!(Node::wait(#id, #path, #line, #event)),
            Verb::Sleep(_) => plain(quote!(Kind::Sleep)),
            Verb::Emit { .. } => plain(quote!(Kind::Emit)),
            Verb::Fail { .. } => plain(quote!(Kind::Fail)),
        };
        for catch in &node.catch {
            self.nodes(&catch.steps, Some(Parent::Catch(node.no)), around);
        }
        self.push(node.no, row, parent, &inside);
    }

    fn push(&mut self, number: u16, row: TokenStream, parent: Option<Parent>, catching: &Catching) {
        let parent = parent.map(|parent| parent.tokens(self.plan));
        let (caught, kept) =
            (catching.tokens(), self.kept.contains(&number).then(|| quote!(.kept())));
        self.all.push((number, quote!(#row #parent #caught #kept)));
    }

    /// A task, and the row of its undo.
    fn task(&mut self, node: &Node, task: &Task) -> TokenStream {
        let (id, path, line) = (&node.id, &node.path, count(node.place.line as u64));
        if let Some(undo) = &task.undo {
            let (contract, policy) = (self.module.contract(&undo.contract), policy(&undo.policy));
            let path = format!("{path}/undo");
            let row = quote!(Node::undo(#id, #path, #line, &#contract::CONTRACT) #policy);
            // Nothing catches what an undo raises: it parks the instance.
            self.push(undo.no, row, Some(Parent::Verb(node.no)), &Catching::default());
        }
        let (contract, policy) = (self.module.contract(&task.contract), policy(&task.policy));
        let keyed = task.key.is_some().then(|| quote!(.keyed()));
        let undo = task.undo.as_ref().map(|undo| {
            let number = self.plan.node(undo.no);
            quote!(.undone_by(#number))
        });
        quote!(Node::task(#id, #path, #line, &#contract::CONTRACT) #policy #keyed #undo)
    }
}

/// `.policy(…)`, with what differs from one attempt without timeouts.
fn policy(policy: &Policy) -> Option<TokenStream> {
    let (attempts, backoff) = (count(policy.attempts.into()), count(policy.backoff_ms));
    let is_retried = policy.attempts != 1 || policy.backoff_ms != 1000;
    let mut tokens = TokenStream::new();
    if policy.factor_milli != 2000 {
        let factor = count(policy.factor_milli.into());
        tokens.extend(quote!(.factor_milli(#factor)));
    }
    let times = [
        ("max_backoff_ms", policy.max_backoff_ms),
        ("queue_ms", policy.queue_ms),
        ("run_ms", policy.run_ms),
        ("heartbeat_ms", policy.heartbeat_ms),
        ("total_ms", policy.total_ms),
    ];
    for (name, ms) in times {
        if let Some(ms) = ms {
            let (name, ms) = (super::names::ident(name), time(ms));
            tokens.extend(quote!(.#name(#ms)));
        }
    }
    if !policy.jitter {
        tokens.extend(quote!(.without_jitter()));
    }
    for (name, names) in [("only", &policy.only), ("never", &policy.never)] {
        if !names.is_empty() {
            let name = super::names::ident(name);
            tokens.extend(quote!(.#name(&[#(#names),*])));
        }
    }
    match (is_retried, tokens.is_empty()) {
        (true, _) => Some(quote!(.policy(Policy::retry(#attempts, #backoff) #tokens))),
        (false, false) => Some(quote!(.policy(Policy::ONCE #tokens))),
        (false, true) => None,
    }
}

/// The status document's `definition`, and which case of a switch each of its steps belongs to.
fn document(workflow: &Workflow, program: &Program) -> Value {
    let hook = |key: &Option<String>| key.clone().unwrap_or_default();
    let mut document = json!({
        "hooks": {
            "on_start": hook(&workflow.hooks.on_start),
            "on_complete": hook(&workflow.hooks.on_complete),
            "on_failure": hook(&workflow.hooks.on_failure),
        },
        "steps": steps(&workflow.steps, program),
    });
    if let Some(secrets) = secrets::document(workflow, &program.contracts) {
        document["secrets"] = secrets;
    }
    document
}

fn steps(nodes: &[Node], program: &Program) -> Vec<Value> {
    nodes.iter().map(|node| step(node, program)).collect()
}

fn step(node: &Node, program: &Program) -> Value {
    let task = match &node.verb {
        Verb::Task(task) => Some(task),
        Verb::TaskThen { task, .. } => super::plan::task(task),
        _ => None,
    };
    let contract = task
        .and_then(|task| program.contracts.iter().find(|contract| contract.name == task.contract));
    let class = match contract.map(|contract| &contract.runs) {
        Some(Runs::Class(class)) => class.as_str(),
        _ => "",
    };
    let ty = match &node.verb {
        Verb::Task(task) => task.contract.as_str(),
        Verb::TaskThen { .. } => task.map_or("", |task| task.contract.as_str()),
        Verb::Group { .. } => "steps",
        Verb::Parallel { .. } => "parallel",
        Verb::Switch { .. } => "switch",
        Verb::Each { .. } => "each",
        Verb::Repeat { .. } => "repeat",
        Verb::Wait { .. } => "wait",
        Verb::Sleep(_) => "sleep",
        Verb::Emit { .. } => "emit",
        Verb::Fail { .. } => "fail",
    };
    let mut children: Vec<Value> =
        node.children().into_iter().map(|child| step(child, program)).collect();
    if let Verb::Switch { branches } = &node.verb {
        // The steps of the cases come first among the children.
        let cases = (0_usize..)
            .zip(branches)
            .flat_map(|(case, branch)| branch.steps.iter().map(move |_| case));
        for (child, case) in children.iter_mut().zip(cases) {
            child["case"] = json!(case);
        }
    }
    json!({ "id": node.id, "type": ty, "class": class, "steps": children })
}
