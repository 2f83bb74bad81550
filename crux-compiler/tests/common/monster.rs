//! A workflow that nobody would write: blocks of ten steps, a `parallel` in a `switch` in an `each`
//! in a group, each block inside the last one to a depth of three, and what is inside reading what
//! is around it.

use std::fmt::Write as _;

const DEPTH: usize = 3;

/// The YAML of a workflow `monster` with `blocks` of ten steps each.
pub fn monster(blocks: usize) -> String {
    let mut text = HEAD.to_owned();
    let mut number = 0;
    while number < blocks {
        let depth = DEPTH.min(blocks - number);
        block(&mut text, number, depth, 2, None);
        number += depth;
    }
    text
}

fn block(text: &mut String, n: usize, depth: usize, indent: usize, around: Option<usize>) {
    let known = around.map_or("input.title".to_owned(), |around| format!("item{around}.name"));
    let mut line = |deeper: usize, line: &str| {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{:indent$}{line}", "", indent = indent + deeper);
    };
    line(0, &format!("- id: group{n}"));
    line(2, "timeout: 1h");
    line(2, "steps:");
    line(4, &format!("- id: first{n}"));
    line(6, "type: work");
    line(6, "with:");
    line(8, &format!("text: ${{{known}}}"));
    line(8, "number: 1");
    line(4, &format!("- id: every{n}"));
    line(6, "each:");
    line(8, &format!("item: item{n}"));
    line(8, "in: input.items");
    line(8, "concurrency: 3");
    line(8, "steps:");
    line(10, &format!("- id: choice{n}"));
    line(12, "switch:");
    line(14, &format!("- when: item{n}.big"));
    line(16, "steps:");
    line(18, &format!("- id: fork{n}"));
    line(20, "parallel:");
    line(22, "left:");
    line(24, &format!("- id: left{n}"));
    line(26, "type: work");
    line(26, "with:");
    line(28, &format!("text: ${{item{n}.name}}"));
    line(28, &format!("number: ${{steps.first{n}.number}}"));
    line(26, "undo:");
    line(28, "type: unwork");
    line(28, &format!("with: {{ text: \"${{item{n}.name}} of ${{{known}}}\" }}"));
    line(26, "catch:");
    line(28, "- error: WorkerLost");
    line(30, "steps: []");
    line(22, "right:");
    line(24, &format!("- id: waited{n}"));
    line(26, "wait:");
    line(28, "event: monster.fed");
    line(28, &format!("where: event.name == item{n}.name"));
    line(26, "timeout: 2h");
    line(24, &format!("- id: again{n}"));
    line(26, "repeat:");
    line(28, &format!("until: steps.asked{n}.number > steps.first{n}.number"));
    line(28, "max: 3");
    line(28, "steps:");
    line(30, &format!("- id: asked{n}"));
    line(32, "type: work");
    line(32, "with:");
    line(34, &format!("text: ${{steps.waited{n}.name}}"));
    line(34, "number: ${input.number}");
    if depth > 1 {
        line(22, "inner:");
    }
    if depth > 1 {
        block(text, n + 1, depth - 1, indent + 24, Some(n));
    }
    let mut line = |deeper: usize, line: &str| {
        let _ = writeln!(text, "{:indent$}{line}", "", indent = indent + deeper);
    };
    line(14, "- else:");
    line(18, &format!("- id: rest{n}"));
    line(20, "sleep: 5m");
    line(8, &format!("yield: steps.left{n}?.text"));
}

const HEAD: &str = "\
workflow: monster
version: 1
input: { title: string, number: integer, items: list<Item> }
types:
  Item: { name: string, big: boolean }
events:
  monster.fed: { name: string }
step_types:
  work:
    takes: { text: string, number: integer }
    returns: { text: string, number: integer }
  unwork:
    takes: { text: string }
steps:
";
