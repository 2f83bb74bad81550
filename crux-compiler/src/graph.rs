//! A workflow as a Mermaid flowchart, for `crux graph` and the documentation of the generated code:
//! steps, branches, what fails where, what undoes what, and how long all of it can take. It reads
//! the program only; expressions are written back by [`mod@expression`].

mod expression;

use std::fmt::Write as _;

use crate::check::bound;
use crate::ir::{Case, Node, Policy, SleepUntil, Task, Type, Verb, Workflow, by_word};
use crate::units::format_duration;

pub use expression::expression;

/// Longest condition on an edge, in characters; a longer one would make the graph unreadable.
const MAX_LABEL: usize = 60;

/// The flowchart of a workflow, as the text of a Mermaid diagram.
pub fn mermaid(workflow: &Workflow) -> String {
    let mut graph = Graph { text: "flowchart TD\n".into(), depth: 1 };
    graph.line(&format!("start([\"{} {}\"])", escape(&workflow.name), workflow.version));
    let exits = graph.steps(&workflow.steps, vec![Exit::plain("start".into())]);
    graph.line(&format!(
        "done([\"completed<br/>{}\"])",
        escape(&bound(&workflow.steps).to_string())
    ));
    graph.edges(exits, "done");
    graph.text
}

/// Where the flow comes from: an edge that has no end yet.
#[derive(Clone)]
struct Exit {
    from: String,
    label: Option<String>,
    /// Taken if something did not happen, or failed.
    dotted: bool,
}

impl Exit {
    fn plain(from: String) -> Self {
        Self { from, label: None, dotted: false }
    }

    fn labelled(from: &str, label: impl Into<String>) -> Self {
        Self { from: from.to_owned(), label: Some(label.into()), dotted: false }
    }

    fn dotted(from: &str, label: impl Into<String>) -> Self {
        Self { from: from.to_owned(), label: Some(label.into()), dotted: true }
    }
}

struct Graph {
    text: String,
    /// Of subgraphs, for indentation.
    depth: usize,
}

impl Graph {
    fn line(&mut self, line: &str) {
        // Writing to a string cannot fail.
        let _ = writeln!(self.text, "{:indent$}{line}", "", indent = self.depth * 2);
    }

    fn edges(&mut self, exits: Vec<Exit>, to: &str) {
        for Exit { from, label, dotted } in exits {
            let arrow = if dotted { "-.->" } else { "-->" };
            match label {
                Some(label) => {
                    self.line(&format!("{from} {arrow}|\"{}\"| {to}", escape(&shortened(&label))))
                }
                None => self.line(&format!("{from} {arrow} {to}")),
            }
        }
    }

    /// Steps one after the other: draws them, and returns where the flow leaves them.
    fn steps(&mut self, steps: &[Node], mut exits: Vec<Exit>) -> Vec<Exit> {
        for node in steps {
            exits = self.step(node, exits);
        }
        exits
    }

    fn step(&mut self, node: &Node, entries: Vec<Exit>) -> Vec<Exit> {
        let name = name(node);
        let mut skipped = Vec::new();
        let entries = match &node.when {
            None => entries,
            Some(when) => {
                let asked = format!("{name}when");
                self.line(&format!("{asked}{{\"{}?\"}}", escape(&shortened(&expression(when)))));
                self.edges(entries, &asked);
                skipped.push(Exit::dotted(&asked, "no"));
                vec![Exit::labelled(&asked, "yes")]
            }
        };
        let mut exits = self.verb(node, &name, entries);
        for catch in &node.catch {
            let error = catch.error.as_deref().unwrap_or("any failure");
            let taken = vec![Exit::dotted(&name, format!("on {error}"))];
            exits.extend(self.steps(&catch.steps, taken));
        }
        exits.extend(skipped);
        exits
    }

    fn verb(&mut self, node: &Node, name: &str, entries: Vec<Exit>) -> Vec<Exit> {
        let id = escape(&node.id);
        match &node.verb {
            Verb::Task(task) => {
                self.task(node, name, task, entries);
                vec![Exit::plain(name.to_owned())]
            }
            Verb::TaskThen { task, steps } => self.subgraph(name, &id, entries, |graph| {
                let exits = graph.step(task, Vec::new());
                graph.steps(steps, exits);
            }),
            Verb::Group { steps, timeout_ms } => {
                let title = format!("{id}{}", within(*timeout_ms));
                self.subgraph(name, &title, entries, |graph| {
                    graph.steps(steps, Vec::new());
                })
            }
            Verb::Parallel { branches, timeout_ms } => {
                self.line(&format!("{name}[/\"{id}: parallel{}\"\\]", within(*timeout_ms)));
                self.edges(entries, name);
                branches
                    .iter()
                    .flat_map(|branch| {
                        self.steps(&branch.steps, vec![Exit::labelled(name, &branch.name)])
                    })
                    .collect()
            }
            Verb::Switch { branches } => {
                self.line(&format!("{name}{{\"{id}\"}}"));
                self.edges(entries, name);
                let mut exits = Vec::new();
                for case in branches {
                    let label = case.when.as_ref().map_or("else".into(), expression);
                    exits.extend(self.steps(&case.steps, vec![Exit::labelled(name, label)]));
                }
                if !is_exhaustive(branches) {
                    exits.push(Exit::dotted(name, "none of them"));
                }
                exits
            }
            Verb::Each { item, list, concurrency, steps, timeout_ms, .. } => {
                let title = format!(
                    "{id}: each {item} of {}, {concurrency} at a time{}",
                    escape(&shortened(&expression(list))),
                    within(*timeout_ms)
                );
                self.subgraph(name, &title, entries, |graph| {
                    graph.steps(steps, Vec::new());
                })
            }
            Verb::Repeat { until, max, every_ms, steps, timeout_ms } => {
                let pause = if *every_ms == 0 {
                    String::new()
                } else {
                    format!(" every {}", format_duration(*every_ms))
                };
                let until = escape(&shortened(&expression(until)));
                let title = format!(
                    "{id}: repeat{pause} until {until}, {max} times at most{}",
                    within(*timeout_ms)
                );
                self.subgraph(name, &title, entries, |graph| {
                    graph.steps(steps, Vec::new());
                })
            }
            Verb::Wait { event, timeout_ms, .. } => self.leaf(
                name,
                "{{",
                &format!("{id}<br/>waits for {}{}", escape(event), within(*timeout_ms)),
                "}}",
                entries,
            ),
            Verb::Sleep(until) => {
                let until = match until {
                    SleepUntil::For { ms } => format_duration(*ms),
                    SleepUntil::Until(until) => {
                        format!("until {}", escape(&shortened(&expression(until))))
                    }
                };
                self.leaf(name, "([", &format!("{id}<br/>sleeps {until}"), "])", entries)
            }
            Verb::Emit { event, .. } => {
                self.leaf(name, ">", &format!("{id}<br/>emits {}", escape(event)), "]", entries)
            }
            Verb::Fail { error, .. } => {
                self.leaf(
                    name,
                    "(((",
                    &format!("{id}<br/>fails with {}", escape(error)),
                    ")))",
                    entries,
                );
                Vec::new()
            }
        }
    }

    fn leaf(
        &mut self,
        name: &str,
        open: &str,
        label: &str,
        close: &str,
        entries: Vec<Exit>,
    ) -> Vec<Exit> {
        self.line(&format!("{name}{open}\"{label}\"{close}"));
        self.edges(entries, name);
        vec![Exit::plain(name.to_owned())]
    }

    fn task(&mut self, node: &Node, name: &str, task: &Task, entries: Vec<Exit>) {
        let step_type = if task.contract == node.id {
            String::new()
        } else {
            format!("<br/>{}", escape(&task.contract))
        };
        self.leaf(
            name,
            "[",
            &format!("{}{step_type}{}", escape(&node.id), times(&task.policy)),
            "]",
            entries,
        );
        if let Some(undo) = &task.undo {
            let undo_name = format!("u{}", undo.no);
            self.line(&format!(
                "{undo_name}[\"{}{}\"]",
                escape(&undo.contract),
                times(&undo.policy)
            ));
            self.edges(vec![Exit::dotted(name, "undo")], &undo_name);
        }
    }

    /// A box with steps inside; edges end at the box.
    fn subgraph(
        &mut self,
        name: &str,
        title: &str,
        entries: Vec<Exit>,
        inside: impl FnOnce(&mut Self),
    ) -> Vec<Exit> {
        self.line(&format!("subgraph {name}[\"{title}\"]"));
        self.depth += 1;
        inside(self);
        self.depth -= 1;
        self.line("end");
        self.edges(entries, name);
        vec![Exit::plain(name.to_owned())]
    }
}

/// Of a node in the diagram: ids of steps could be words of Mermaid.
/// Whether some case always holds: there is an `else`, or each word of an enum has a case.
fn is_exhaustive(branches: &[Case]) -> bool {
    let has_else = branches.last().is_some_and(|last| last.when.is_none());
    let has_all_words = by_word(branches).is_some_and(|(value, words)| match &value.ty {
        Type::Enum(all) => all.words.iter().all(|word| words.contains(&word.as_str())),
        _ => false,
    });
    has_else || has_all_words
}

fn name(node: &Node) -> String {
    format!("n{}", node.no)
}

fn within(timeout_ms: Option<u64>) -> String {
    timeout_ms.map(|timeout| format!(", within {}", format_duration(timeout))).unwrap_or_default()
}

fn times(policy: &Policy) -> String {
    let attempts =
        if policy.attempts > 1 { format!("{} attempts", policy.attempts) } else { String::new() };
    let run = policy.run_ms.map(|run| format!("{} each", format_duration(run))).unwrap_or_default();
    let parts: Vec<String> = [attempts, run].into_iter().filter(|part| !part.is_empty()).collect();
    if parts.is_empty() { String::new() } else { format!("<br/>{}", parts.join(", ")) }
}

fn shortened(label: &str) -> String {
    if label.chars().count() <= MAX_LABEL {
        return label.to_owned();
    }
    format!("{}…", label.chars().take(MAX_LABEL).collect::<String>())
}

/// Text inside of quotes in Mermaid, whose entities begin with `#`.
fn escape(text: &str) -> String {
    text.chars().fold(String::new(), |mut escaped, c| {
        match c {
            '"' => escaped.push_str("#quot;"),
            '#' => escaped.push_str("#35;"),
            '<' => escaped.push_str("#lt;"),
            '>' => escaped.push_str("#gt;"),
            '&' => escaped.push_str("#amp;"),
            '\n' | '\r' => escaped.push(' '),
            c => escaped.push(c),
        }
        escaped
    })
}
