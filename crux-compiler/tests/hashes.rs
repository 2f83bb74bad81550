//! Two programs that differ in any field differ in one of their hashes, replay or policy. Found out
//! by changing single words of every pipeline that is accepted: whatever still compiles is compared
//! with the original, field by field of the intermediate representation.

mod common;

use crux_compiler::ir::{Program, Workflow};
use crux_compiler::source::{File, Files};

/// What both hashes leave out on purpose: places, the names of types, and the hashes themselves.
const LEFT_OUT: [(&str, &str); 4] =
    [("Place {", "}"), ("TypeName {", "}"), ("replay_hash: \"", "\""), ("policy_hash: \"", "\"")];

/// All fields of a workflow and of the contracts that it uses, as text.
fn fields(program: &Program, workflow: &Workflow) -> String {
    let (name, module, version) = (String::new(), String::new(), 0);
    let workflow = Workflow { name, module, version, ..workflow.clone() };
    let mut text = format!("{workflow:?}");
    let used = |name: &str| text.contains(&format!("contract: {name:?}"));
    let contracts: Vec<_> =
        program.contracts.iter().filter(|contract| used(&contract.name)).collect();
    text.push_str(&format!("{contracts:?}"));
    for (start, end) in LEFT_OUT {
        let mut left = String::with_capacity(text.len());
        let mut rest = text.as_str();
        while let Some((before, after)) = rest.split_once(start) {
            left.push_str(before);
            rest = after.split_once(end).map_or("", |(_, rest)| rest);
        }
        left.push_str(rest);
        text = left;
    }
    text
}

struct Seen {
    fields: String,
    replay: String,
    policy: String,
}

fn seen(text: &str, path: &str) -> Option<Seen> {
    let files = Files::new(vec![File { path: path.to_owned(), text: text.to_owned() }]);
    let program = crux_compiler::check(&files).program?;
    let workflow = program.workflows.first()?;
    Some(Seen {
        fields: fields(&program, workflow),
        replay: workflow.replay_hash.clone(),
        policy: workflow.policy_hash.clone(),
    })
}

/// What a word may become and still mean something.
fn replacements(word: &str) -> Vec<String> {
    if word.parse::<u64>().is_ok() {
        return vec![format!("{word}1")];
    }
    let opposite = match word {
        "true" => Some("false"),
        "false" => Some("true"),
        "once" => Some("idempotent"),
        "undo" => Some("park"),
        "string" => Some("integer"),
        "map" => Some("filter"),
        "all" => Some("exists"),
        "lower" => Some("upper"),
        _ => None,
    };
    match opposite {
        Some(word) => vec![word.to_owned()],
        // Times, then names.
        None if word.starts_with(|c: char| c.is_ascii_digit()) => vec![format!("1{word}")],
        None => vec![format!("{word}x")],
    }
}

#[test]
fn a_change_of_any_field_changes_a_hash() {
    let (mut compared, mut replays, mut policies) = (0, 0, 0);
    for (name, files) in common::accepted() {
        let Some((_, file)) = files.iter().next() else { continue };
        let Some(before) = seen(&file.text, &file.path) else { continue };
        // Every third word: all of them would say the same and take a minute.
        for (start, end) in common::words(&file.text).into_iter().step_by(3) {
            for with in replacements(&file.text[start..end]) {
                let text = format!("{}{with}{}", &file.text[..start], &file.text[end..]);
                let Some(after) = seen(&text, &file.path) else { continue };
                if after.fields == before.fields {
                    continue;
                }
                compared += 1;
                replays += usize::from(after.replay != before.replay);
                policies += usize::from(after.policy != before.policy);
                assert!(
                    (&after.replay, &after.policy) != (&before.replay, &before.policy),
                    "{name}: `{with}` in place of `{}` changes no hash; the programs differ in\n{}",
                    &file.text[start..end],
                    difference(&before.fields, &after.fields),
                );
            }
        }
    }
    println!("{compared} changes: {replays} of the replay, {policies} of the policy");
    assert!(compared > 150 && replays > 100 && policies > 50, "{compared} {replays} {policies}");
}

fn difference(a: &str, b: &str) -> String {
    let at = a.chars().zip(b.chars()).take_while(|(a, b)| a == b).count();
    let around =
        |text: &str| text.chars().skip(at.saturating_sub(80)).take(160).collect::<String>();
    format!("{}\n{}", around(a), around(b))
}
