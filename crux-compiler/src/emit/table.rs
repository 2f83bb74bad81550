//! The static tables of a workflow: its nodes, triggers and hooks, and its document.

use proc_macro2::TokenStream;
use quote::quote;
use serde_json::{Value, json};

use super::expr::count;
use super::paths::{Module, module_path};
use super::text::Items;
use super::{schema, trigger, types};
use crate::ir::{Node, OnExhausted, Policy, Program, Runs, TriggerSource, Verb, Workflow};

pub(super) fn items(workflow: &Workflow, program: &Program, _: Module<'_>) -> Items {
    let mut items = Items::new();
    let mut rows = Vec::new();
    for node in &workflow.steps {
        self::node(node, None, &Catching::default(), &mut rows);
    }
    rows.sort_by_key(|(number, _)| *number);
    let rows = rows.into_iter().map(|(_, row)| row);
    let triggers = workflow.triggers.iter().enumerate().map(|(index, declared)| {
        let source = match &declared.source {
            TriggerSource::Http { path } => quote!(TriggerSource::Http { path: #path }),
            TriggerSource::Event { name } => quote!(TriggerSource::Event { name: #name }),
        };
        let function = trigger::name(index);
        quote!(Trigger { source: #source, input: #function })
    });
    let hook = |key: &Option<String>| match key {
        Some(key) => {
            let constant = super::routes::constant(key);
            quote!(Some(routes::#constant))
        }
        None => quote!(None),
    };
    let hooks = &workflow.hooks;
    let (on_start, on_complete, on_failure) = (hook(&hooks.on_start), hook(&hooks.on_complete), hook(&hooks.on_failure));
    let Workflow { name, retired, replay_hash, policy_hash, config, .. } = workflow;
    let version = count(workflow.version.into());
    let (source, description) = (&workflow.place.file, workflow.description.as_deref().unwrap_or(""));
    let deadline = option(workflow.deadline_ms);
    let on_exhausted = match workflow.on_exhausted {
        OnExhausted::Undo => quote!(OnExhausted::Undo),
        OnExhausted::Park => quote!(OnExhausted::Park),
    };
    let retain = count(workflow.retain_ms);
    let document = schema::raw(&document(workflow, program));
    let input_schema = schema::raw(&schema::record(&workflow.input));
    let output_schema = schema::raw(&workflow.output.as_ref().map_or_else(schema::anything, |output| schema::ty(&output.ty)));
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
            hooks: Hooks { on_start: #on_start, on_complete: #on_complete, on_failure: #on_failure },
            deadline_ms: #deadline,
            on_exhausted: #on_exhausted,
            retain_ms: #retain,
            config: &[#(#config),*],
            document: #document,
            input_schema: #input_schema,
            output_schema: #output_schema,
        };
    });
    items.push(quote!(static TRIGGERS: &[Trigger] = &[#(#triggers),*];));
    items.push(quote!(static NODES: &[Node] = &[#(#rows),*];));
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
            Some(quote!(.caught(Caught::Any)))
        } else {
            (!names.is_empty()).then(|| quote!(.caught(Caught::Names(&[#(#names),*]))))
        }
    }
}

/// The rows of a node and of everything inside it. `around`: its parent, and the catches around it.
fn node(node: &Node, parent: Option<u16>, around: &Catching, rows: &mut Vec<(u16, TokenStream)>) {
    let inside = around.with(node);
    let kind = match &node.verb {
        Verb::Task(task) => {
            if let Some(undo) = &task.undo {
                let contract = module_path(&format!("steps::{}", undo.contract));
                let policy = policy(&undo.policy);
                let kind = quote!(Kind::Undo(Task::new(&#contract::CONTRACT, #policy)));
                let path = format!("{}/undo", node.path);
                // Nothing catches what an undo raises: it parks the instance.
                rows.push((undo.no, row(&node.id, &path, node, Some(node.no), &kind, &Catching::default())));
            }
            let contract = module_path(&format!("steps::{}", task.contract));
            let policy = policy(&task.policy);
            let keyed = task.key.is_some().then(|| quote!(.keyed()));
            let undo = task.undo.as_ref().map(|undo| {
                let number = count(undo.no.into());
                quote!(.undone_by(#number))
            });
            quote!(Kind::Task(Task::new(&#contract::CONTRACT, #policy)#keyed #undo))
        }
        Verb::TaskThen { task, steps } => {
            self::node(task, Some(node.no), &inside, rows);
            nodes(steps, node, &inside, rows);
            quote!(Kind::Group)
        }
        Verb::Group { steps, .. } => {
            nodes(steps, node, &inside, rows);
            quote!(Kind::Group)
        }
        Verb::Parallel { branches, .. } => {
            branches.iter().for_each(|branch| nodes(&branch.steps, node, &inside, rows));
            quote!(Kind::Parallel)
        }
        Verb::Switch { branches } => {
            branches.iter().for_each(|case| nodes(&case.steps, node, &inside, rows));
            quote!(Kind::Switch)
        }
        Verb::Each { steps, .. } => {
            nodes(steps, node, &inside, rows);
            quote!(Kind::Each)
        }
        Verb::Repeat { steps, .. } => {
            nodes(steps, node, &inside, rows);
            quote!(Kind::Repeat)
        }
        Verb::Wait { event, .. } => quote!(Kind::Wait { event: #event }),
        Verb::Sleep(_) => quote!(Kind::Sleep),
        Verb::Emit { .. } => quote!(Kind::Emit),
        Verb::Fail { .. } => quote!(Kind::Fail),
    };
    for catch in &node.catch {
        nodes(&catch.steps, node, around, rows);
    }
    rows.push((node.no, row(&node.id, &node.path, node, parent, &kind, &inside)));
}

fn nodes(steps: &[Node], parent: &Node, around: &Catching, rows: &mut Vec<(u16, TokenStream)>) {
    for step in steps {
        node(step, Some(parent.no), around, rows);
    }
}

fn row(id: &str, path: &str, node: &Node, parent: Option<u16>, kind: &TokenStream, catching: &Catching) -> TokenStream {
    let place = types::place(&node.place);
    let parent = parent.map(|number| {
        let number = count(number.into());
        quote!(.inside(#number))
    });
    let caught = catching.tokens();
    quote!(Node::new(#id, #path, #place, #kind)#parent #caught)
}

/// Only what differs from one attempt without time-outs.
fn policy(policy: &Policy) -> TokenStream {
    let mut tokens = quote!(Policy::ONCE);
    if policy.attempts != 1 {
        let attempts = count(policy.attempts.into());
        tokens.extend(quote!(.attempts(#attempts)));
    }
    if policy.backoff_ms != 0 {
        let backoff = count(policy.backoff_ms);
        tokens.extend(quote!(.backoff_ms(#backoff)));
    }
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
            let (name, ms) = (super::names::ident(name), count(ms));
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
    tokens
}

fn option(ms: Option<u64>) -> TokenStream {
    match ms {
        Some(ms) => {
            let ms = count(ms);
            quote!(Some(#ms))
        }
        None => quote!(None),
    }
}

/// The status document's `definition`, and which case of a switch each of its steps belongs to.
fn document(workflow: &Workflow, program: &Program) -> Value {
    let hook = |key: &Option<String>| key.clone().unwrap_or_default();
    json!({
        "hooks": {
            "on_start": hook(&workflow.hooks.on_start),
            "on_complete": hook(&workflow.hooks.on_complete),
            "on_failure": hook(&workflow.hooks.on_failure),
        },
        "steps": steps(&workflow.steps, program),
    })
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
    let contract = task.and_then(|task| program.contracts.iter().find(|contract| contract.name == task.contract));
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
    let mut children: Vec<Value> = node.children().into_iter().map(|child| step(child, program)).collect();
    if let Verb::Switch { branches } = &node.verb {
        // The steps of the cases come first among the children.
        let cases = (0_usize..).zip(branches).flat_map(|(case, branch)| branch.steps.iter().map(move |_| case));
        for (child, case) in children.iter_mut().zip(cases) {
            child["case"] = json!(case);
        }
    }
    json!({ "id": node.id, "type": ty, "class": class, "steps": children })
}
