//! How much Rust a step becomes: at most 40 lines, and no more of them in a long workflow than in a
//! short one.
//!
//! The rule of counting. A step is a row of the table of nodes: a step of the YAML, or an undo. Its
//! lines are those of the workflow's generated file without blank lines and comments, and without
//! what does not belong to steps: imports, aliases, the types that the YAML declares (with how they
//! are read), what stands around `start` and the arms of `apply`, triggers, and the frame of the
//! tables. The structs of live values and views do count. A step that is more than 13 lines of YAML
//! may have three for each of them.

#[path = "common/mod.rs"]
mod common;
#[path = "common/monster.rs"]
mod monster;

use crux_compiler::source::{File, Files};
use crux_compiler::{Outcome, emit, folder};

const LINES_PER_STEP: usize = 40;
const LINES_PER_YAML_LINE: usize = 3;

/// A workflow's name, its lines by the rule, its steps, and the lines of its YAML.
struct Count {
    workflow: String,
    lines: usize,
    steps: usize,
    yaml: usize,
}

fn count(files: &Files) -> Vec<Count> {
    let Outcome { rust, program, diagnostics } = crux_compiler::compile(files);
    let (Some(rust), Some(program)) = (rust, program) else { panic!("{diagnostics:#?}") };
    let counts = program.workflows.iter().map(|workflow| {
        let file = emit::file(workflow);
        let text =
            &rust.iter().find(|source| source.path == file).expect("a file for each workflow").text;
        let yaml = files
            .iter()
            .find(|(_, file)| file.path == workflow.place.file)
            .map_or(0, |(_, file)| file.text.lines().count());
        Count {
            workflow: workflow.name.clone(),
            lines: lines(text),
            steps: workflow.nodes.into(),
            yaml,
        }
    });
    counts.collect()
}

/// The lines that belong to steps.
fn lines(text: &str) -> usize {
    const FRAME: &[&str] = &[
        "use ",
        // Aliases name types, and are none.
        "type ",
        "pub enum Workflow",
        "pub type Output",
        "impl Machine",
        "    fn start(",
        "pub static",
        "static TRIGGERS",
        "fn arrived_",
        // Parts of the tables above.
        "mod node {",
        "const DOCUMENT",
        "const INPUT_SCHEMA",
        "const OUTPUT_SCHEMA",
    ];
    let mut count = 0;
    for item in text.split("\n\n") {
        let is_code = |line: &&str| !line.trim().is_empty() && !line.trim_start().starts_with("//");
        let code: Vec<&str> = item.lines().filter(is_code).collect();
        let Some(first) = code.iter().find(|line| !line.starts_with("#[")) else { continue };
        let is_declared = item.contains("Serialize")
            || first.starts_with("fn ") && item.contains("Deserializer<'de>");
        let is_default = first.starts_with("fn ") && first.contains("_default() ->");
        count += match *first {
            _ if is_declared
                || is_default
                || FRAME.iter().any(|start| first.starts_with(start)) =>
            {
                0
            }
            // Of the machine's `apply`, the arms.
            "    fn apply(" => code.iter().filter(|line| line.starts_with("            ")).count(),
            "static NODES: &[Node] = &[" => code.len() - 2,
            _ => code.len(),
        };
    }
    count
}

#[test]
fn no_step_becomes_more_than_its_lines() {
    let mut counts = Vec::new();
    for of_package in
        ["pipelines", "bench/pipelines", "tests/machines/pipelines", "tests/app/pipelines"]
    {
        let read = folder::read(&common::folder("../..").join(of_package), of_package);
        counts.extend(count(&read.files));
    }
    counts.extend(count(&monstrous(20)));
    for Count { workflow, lines, steps, yaml } in counts {
        let budget = (LINES_PER_STEP * steps).max(LINES_PER_YAML_LINE * yaml);
        println!(
            "{workflow}: {lines} lines, {steps} steps, {:.1} lines per step",
            lines as f64 / steps as f64
        );
        assert!(
            lines <= budget,
            "{workflow}: {lines} lines for {steps} steps, {budget} are allowed"
        );
    }
}

fn monstrous(blocks: usize) -> Files {
    Files::new(vec![File { path: "pipelines/monster.yaml".into(), text: monster::monster(blocks) }])
}

/// Each step reads the one before it; `kept` values from the beginning are read at the end.
fn chain(steps: usize, kept: usize) -> Files {
    let mut text = "workflow: chain\nversion: 1\ninput: { text: string }\nstep_types:\n  work:\n    takes: { text: string }\n    returns: { text: string }\nsteps:\n".to_owned();
    let mut before = "input.text".to_owned();
    for step in 0..steps {
        text.push_str(&format!(
            "  - id: s{step}\n    type: work\n    with:\n      text: ${{{before}}}\n    catch:\n      - error: any\n        steps: []\n"
        ));
        before = format!("steps.s{step}?.text ?? \"\"");
    }
    text.push_str("output:\n");
    (0..kept).for_each(|kept| text.push_str(&format!("  kept{kept}: ${{steps.s{kept}?.text}}\n")));
    text.push_str(&format!("  last: ${{{before}}}\n"));
    Files::new(vec![File { path: "pipelines/chain.yaml".into(), text }])
}

fn lines_of(files: &Files) -> usize {
    count(files).iter().map(|count| count.lines).sum()
}

#[test]
fn twice_the_steps_are_twice_the_lines() {
    // Where names and numbers get longer, a line may break.
    let grows =
        |short: usize, long: usize| assert!(long <= 2 * short + short / 50, "{short}, {long}");
    let [first, second, third] = [100, 200, 300].map(|steps| lines_of(&chain(steps, 0)));
    grows(second - first, third - first);
    let [short, long] = [8, 16].map(|blocks| lines_of(&monstrous(blocks)));
    grows(short, long);
}

/// What a value costs that is read much later: a field, and moving it on, in each step between.
#[test]
fn a_value_that_lives_on_is_two_lines_in_each_step() {
    let (steps, kept) = (100, 5);
    let more = lines_of(&chain(steps, kept)) - lines_of(&chain(steps, 0));
    // And a struct that no longer fits on one line.
    assert!(more <= 2 * (kept + 1) * steps, "{more}");
}
