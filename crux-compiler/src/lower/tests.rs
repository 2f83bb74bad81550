//! Whole workflows, from YAML to the intermediate representation.

use crate::graph::expression;
use crate::ir::{Node, Program, Verb, by_id};
use crate::render;
use crate::source::{File, Files};
use crate::types::show;

/// The program of one file; its diagnostics are a failure.
fn program(text: &str) -> Program {
    let name = text.lines().find_map(|line| line.strip_prefix("workflow: ")).unwrap_or("library");
    let files =
        Files::new(vec![File { path: format!("pipelines/{name}.yaml"), text: text.into() }]);
    let outcome = crate::check(&files);
    let said = render::human(&files, &outcome.diagnostics, render::Style::Plain);
    assert!(!outcome.has_errors(), "{said}");
    outcome.program.expect("no errors, so a program")
}

const BOOKING: &str = r#"
workflow: booking
version: 1
description: Confirm a booking and tell the customer.

input:
  orderId: string
  customerId: string
  bookingTime: timestamp
  channel: Channel?

types:
  Channel: email | sms | push        # an enum

events:
  booking.reviewed: { orderId: string, approved: boolean }

triggers:
  - event: booking.created
  - http: POST /api/v1/workflow/booking

hooks:
  on_start: workflow.start           # routing keys
  on_complete: workflow.completed
  on_failure: workflow.failed

steps:
  - id: notify
    type: send_notification
    class: NotificationStep          # runs in a Rust step struct
    with:
      customer: ${input.customerId}
      text: "Your booking ${input.orderId} is set for ${input.bookingTime}."
    returns: { message_id: string }
    retry: { attempts: 5, backoff: 200ms, max: 10s }
    timeout: 5s

  - id: look_closer
    parallel:
      seo:
        - id: seo
          type: seo_generation       # no class: a service, routing key step.seo_generation
          with:
            order: ${input.orderId}
          returns: { title: string, keywords: list<string> }
      fraud:
        - id: score
          routing_key: risk.score    # a service with its own key; its type is its id
          with:
            customer: ${input.customerId}
          returns: { value: number }

  - id: review
    switch:
      - when: steps.score.value > 0.8
        steps:
          - id: approval
            wait:
              event: booking.reviewed
              where: event.orderId == input.orderId
            timeout: 2d
      - else: []

  - id: finalize
    type: finalize_order
    class: FinalizeOrderStep
    when: "steps.approval?.approved ?? true"      # approval may not have run: its value is optional
    with:
      order: ${input.orderId}
    returns: { finalized_at: timestamp }
    undo:
      type: cancel_order
      with:
        order: ${input.orderId}

step_types:
  cancel_order:
    routing_key: step.cancel_order
    takes: { order: string }

output:
  finalized_at: ${steps.finalize?.finalized_at}
  keywords: ${steps.seo.keywords}
"#;

#[test]
fn the_booking_is_lowered_whole() {
    let program = program(BOOKING);
    let [workflow] = program.workflows.as_slice() else { panic!("one workflow") };
    let shown = |node: &Node| {
        format!(
            "{} {}..{} {}",
            node.path,
            node.no,
            node.end,
            node.result.as_ref().map_or("-".into(), show)
        )
    };
    let mut nodes: Vec<&Node> = by_id(&workflow.steps).into_values().collect();
    nodes.sort_by_key(|node| node.no);
    assert_eq!(
        nodes.into_iter().map(shown).collect::<Vec<_>>(),
        [
            "notify 0..1 { message_id: string }",
            "look_closer 1..4 -",
            "look_closer/seo 2..3 { title: string, keywords: list<string> }",
            "look_closer/score 3..4 { value: number }",
            "review 4..6 -",
            "review/approval 5..6 { orderId: string, approved: boolean }",
            "finalize 6..8 { finalized_at: timestamp }",
        ]
    );
    assert_eq!(workflow.nodes, 8);
    let output = workflow.output.as_ref().expect("an output");
    assert_eq!(show(&output.ty), "{ finalized_at: timestamp?, keywords: list<string> }");
    let Verb::Task(task) = &by_id(&workflow.steps)["notify"].verb else { panic!("a task") };
    assert_eq!(
        (
            task.policy.attempts,
            task.policy.backoff_ms,
            task.policy.max_backoff_ms,
            task.policy.run_ms
        ),
        (5, 200, Some(10_000), Some(5_000))
    );
    let takes = program.contracts.iter().map(|contract| {
        format!("{} {}", contract.name, crate::types::show_record(&contract.takes))
    });
    assert_eq!(
        takes.collect::<Vec<_>>(),
        [
            "cancel_order { order: string }",
            "finalize_order { order: string }",
            "score { customer: string }",
            "send_notification { customer: string, text: string }",
            "seo_generation { order: string }",
        ]
    );
    let events = program
        .events
        .iter()
        .map(|event| (event.name.as_str(), event.correlate.as_deref()))
        .collect::<Vec<_>>();
    assert_eq!(events, [("booking.created", None), ("booking.reviewed", Some("orderId"))]);
    let keys = program
        .routes
        .iter()
        .map(|route| format!("{}: {}", route.key, route.meaning))
        .collect::<Vec<_>>();
    assert_eq!(
        keys,
        [
            "booking.created: starts booking",
            "booking.reviewed: awaited by booking",
            "risk.score: task of score",
            "step.cancel_order: task of cancel_order",
            "step.seo_generation: task of seo_generation",
            "workflow.completed: hook of booking",
            "workflow.failed: hook of booking",
            "workflow.start: hook of booking",
        ]
    );
}

/// The hashes of the booking with one text replaced.
fn hashes(from: &str, to: &str) -> (String, String) {
    assert!(BOOKING.contains(from), "{from}");
    let program = program(&BOOKING.replace(from, to));
    (program.workflows[0].replay_hash.clone(), program.workflows[0].policy_hash.clone())
}

#[test]
fn formatting_changes_no_hash() {
    let before = hashes("workflow", "workflow");
    assert_eq!((before.0.len(), before.1.len()), (64, 64));
    for (from, to) in [
        ("# routing keys", "# other words"),
        ("    returns: { message_id: string }\n", "    returns:\n      message_id: string\n"),
        ("\"steps.approval?.approved ?? true\"", "'steps.approval?.approved   ?? (true)'"),
        (
            "      where: event.orderId == input.orderId",
            "      where: input.orderId == event.orderId",
        ),
        (
            "retry: { attempts: 5, backoff: 200ms, max: 10s }\n    timeout: 5s",
            "timeout: 5s\n    retry: { max: 10s, attempts: 5, backoff: 200ms }",
        ),
        ("    timeout: 5s", "    timeout: { run: 5000ms }"),
        ("  orderId: string\n  customerId: string\n", "  customerId: string\n  orderId: string\n"),
        (
            "      customer: ${input.customerId}\n      text: \"Your booking ${input.orderId} is set for ${input.bookingTime}.\"\n",
            "      text: \"Your booking ${input.orderId} is set for ${input.bookingTime}.\"\n      customer: ${input.customerId}\n",
        ),
    ] {
        assert_eq!(hashes(from, to), before, "{from}");
    }
    // The name of a type is no part of its meaning.
    let renamed = program(&BOOKING.replace("Channel", "Medium"));
    assert_eq!(renamed.workflows[0].replay_hash, before.0);
}

#[test]
fn what_replay_depends_on_changes_its_hash_and_policy_changes_the_other() {
    let before = hashes("workflow", "workflow");
    for (from, to) in [
        (
            "order: ${input.orderId}\n          returns",
            "order: ${input.customerId}\n          returns",
        ),
        ("returns: { value: number }", "returns: { value: number, more: string? }"),
        ("steps.score.value > 0.8", "steps.score.value > 0.9"),
        ("type: send_notification", "type: send_message"),
        ("- id: notify", "- id: tell"),
        ("approved: boolean }", "approved: boolean, by: string? }"),
        ("  channel: Channel?", "  channel: Channel"),
        ("email | sms | push", "email | push | sms"),
        ("version: 1", "version: 1\non_exhausted: park"),
        (
            "      type: cancel_order\n      with:\n        order: ${input.orderId}",
            "      type: cancel_order\n      with:\n        order: ${input.customerId}",
        ),
    ] {
        let after = hashes(from, to);
        assert_ne!(after.0, before.0, "{from}");
    }
    for (from, to) in [
        ("attempts: 5", "attempts: 6"),
        ("timeout: 5s", "timeout: 6s"),
        ("timeout: 2d", "timeout: 3d"),
        ("tell the customer.", "tell them."),
        ("on_complete: workflow.completed", "on_complete: workflow.done"),
        ("routing_key: risk.score", "routing_key: risk.rating"),
    ] {
        let after = hashes(from, to);
        assert_eq!(after.0, before.0, "{from}");
        assert_ne!(after.1, before.1, "{from}");
    }
}

#[test]
fn too_many_steps_are_refused() {
    let step = |number: usize| format!("  - {{ id: s{number}, sleep: 1m }}\n");
    let of = |count: usize| {
        format!("workflow: long\nversion: 1\nsteps:\n{}", (0..count).map(step).collect::<String>())
    };
    assert_eq!(program(&of(1_000)).workflows[0].nodes, 1_000);
    let files = Files::new(vec![File { path: "pipelines/long.yaml".into(), text: of(1_001) }]);
    let outcome = crate::check(&files);
    let said: Vec<_> = outcome.diagnostics.iter().map(|diagnostic| diagnostic.code).collect();
    assert_eq!(said, [crate::codes::TOO_MANY_STEPS]);
}

#[test]
fn a_workflow_is_drawn() {
    let program = program(BOOKING);
    let drawn = crate::graph::mermaid(&program.workflows[0]);
    assert_eq!(
        drawn,
        r##"flowchart TD
  start(["booking 1"])
  n0["notify<br/>send_notification<br/>5 attempts, 5s each"]
  start --> n0
  n1[/"look_closer: parallel"\]
  n0 --> n1
  n2["seo<br/>seo_generation"]
  n1 -->|"seo"| n2
  n3["score"]
  n1 -->|"fraud"| n3
  n4{"review"}
  n2 --> n4
  n3 --> n4
  n5{{"approval<br/>waits for booking.reviewed, within 2d"}}
  n4 -->|"steps.score.value #gt; 0.8"| n5
  n6when{"steps.approval?.approved ?? true?"}
  n5 --> n6when
  n4 -->|"else"| n6when
  n6["finalize<br/>finalize_order"]
  n6when -->|"yes"| n6
  u7["cancel_order"]
  n6 -.->|"undo"| u7
  done(["completed<br/>unbounded because `look_closer/seo` has no `timeout`"])
  n6 --> done
  n6when -.->|"no"| done
"##
    );
}

/// One line per node, in the order of their numbers: path, range, verb with its expressions,
/// result.
fn outline(steps: &[Node]) -> Vec<String> {
    let mut lines = Vec::new();
    for node in steps {
        let mut line = format!("{} {}..{}", node.path, node.no, node.end);
        if let Some(when) = &node.when {
            line += &format!(" when {}", expression(when));
        }
        line += &match &node.verb {
            Verb::Task(task) => {
                let undo = task.undo.as_ref().map(|undo| {
                    format!(" undo {} {} {}", undo.no, undo.contract, expression(&undo.with))
                });
                format!(
                    " task {} {}{}",
                    task.contract,
                    expression(&task.with),
                    undo.unwrap_or_default()
                )
            }
            Verb::TaskThen { .. } => " task, then".into(),
            Verb::Group { .. } => " group".into(),
            Verb::Parallel { .. } => " parallel".into(),
            Verb::Switch { branches } => {
                let cases = branches
                    .iter()
                    .map(|case| case.when.as_ref().map_or("else".into(), expression));
                format!(" switch {}", cases.collect::<Vec<_>>().join(" | "))
            }
            Verb::Each { item, item_type, list, yields, .. } => {
                let yields = yields.as_ref().map(|yields| format!(" yield {}", expression(yields)));
                format!(
                    " each {item}: {} of {}{}",
                    show(item_type),
                    expression(list),
                    yields.unwrap_or_default()
                )
            }
            Verb::Repeat { until, max, every_ms, .. } => {
                format!(" repeat until {} max {max} every {every_ms}", expression(until))
            }
            Verb::Wait { event, correlate, condition, .. } => {
                let part = |name: &str, part: &Option<crate::ir::Expr>| {
                    part.as_ref().map(|part| format!(" {name} {}", expression(part)))
                };
                format!(
                    " wait {event}{}{}",
                    part("=", correlate).unwrap_or_default(),
                    part("and", condition).unwrap_or_default()
                )
            }
            Verb::Sleep(_) => " sleep".into(),
            Verb::Emit { event, data, .. } => format!(" emit {event} {}", expression(data)),
            Verb::Fail { error, message } => format!(" fail {error} {}", expression(message)),
        };
        if let Some(result) = &node.result {
            line += &format!(" -> {}", show(result));
        }
        lines.push(line);
        if let Verb::TaskThen { task, .. } = &node.verb {
            lines.extend(outline(std::slice::from_ref(task)));
        }
        let handlers = node.catch.iter().map(|catch| catch.steps.len()).sum::<usize>();
        let children = node.children();
        let (own, caught) = children.split_at(children.len() - handlers);
        for child in own {
            lines.extend(outline(std::slice::from_ref(child)));
        }
        for child in caught {
            lines.extend(
                outline(std::slice::from_ref(child))
                    .into_iter()
                    .map(|line| format!("caught: {line}")),
            );
        }
    }
    lines
}

#[test]
fn every_verb_is_lowered() {
    let program = program(
        r#"
workflow: all
version: 1
input: { id: string, names: list<string>, kind: small | large, count: integer, note: string? }
events:
  all.done: { id: string, by: string, count: integer }
types:
  Label: { text: string, copies: { $type: integer, $default: 1 }, note: string? }
step_types:
  take_back:
    takes: { id: string, label: string? }
    effect: none
  print:
    takes: { label: Label, size: number }
    returns: { pages: integer }
    retry: { attempts: 3, backoff: 1s, max: 5s, never: [Timeout] }
    timeout: 10s
external: [all.started, all.kind]
steps:
  - emit: { event: all.started, data: { id: "${input.id}", region: "${config.region}" } }
  - type: first
    with: { id: "${input.id}", place: { town: "${config.town}", floors: [1, 2] } }
    returns: { text: string, copies: integer }
    undo:
      type: take_back
      with: { id: "${input.id}", label: "${steps.first?.text}" }
    steps:
      - id: nested
        type: print
        with: { label: "${steps.first}", size: "${input.count}" }
        retry: { attempts: 5 }
    catch:
      - error: Timeout
        steps:
          - sleep: 1m
  - id: by_kind
    switch:
      value: input.kind
      cases:
        small: []
        large:
          - id: big
            type: print
            with: { label: { text: big }, size: 2 }
  - id: letters
    each:
      item: name
      in: input.names
      steps:
        - type: write
          with: { name: "Dear ${name}, ${input.count}" }
          returns: { letter: string }
      yield: steps.write.letter
  - id: poll
    repeat:
      until: steps.ask.ready && now() > instance.started_at + duration("1m")
      max: 5
      every: 1s
      steps:
        - type: ask
          returns: { ready: boolean }
  - id: done
    wait:
      event: all.done
      where: event.count > 0 && input.id == event.id && event.by != "robot"
    timeout: 1h
    catch:
      - error: any
        steps:
          - fail: { error: NotDone, message: "after ${error.name}" }
  - emit: { event: all.kind, data: { kind: "${input.kind}", by: "${steps.done?.by}" } }
output:
  letters: ${steps.letters}
  pages: ${(steps.nested?.pages ?? 0) + (steps.big?.pages ?? 0)}
"#,
    );
    let workflow = &program.workflows[0];
    let lines = outline(&workflow.steps);
    let expected = [
        r#"emit_1 0..1 emit all.started { id: input.id, region: config.region }"#,
        r#"first 1..6 task, then -> { text: string, copies: integer }"#,
        r#"first 2..4 task first { id: input.id, place: { town: config.town, floors: [1, 2] } } undo 3 take_back { id: input.id, label: steps.first?.text } -> { text: string, copies: integer }"#,
        r#"first/nested 4..5 task print { label: steps.first, size: input.count } -> { pages: integer }"#,
        r#"caught: first/sleep_1 5..6 sleep"#,
        r#"by_kind 6..8 switch input.kind == "small" | input.kind == "large""#,
        r#"by_kind/big 7..8 task print { label: { text: "big", copies: 1, note: null }, size: 2 } -> { pages: integer }"#,
        r#"letters 8..10 each name: string of input.names yield steps.write.letter -> list<string>"#,
        r#"letters/write 9..10 task write { name: "Dear ${name}, ${input.count}" } -> { letter: string }"#,
        r#"poll 10..12 repeat until steps.ask.ready && now() > instance.started_at + duration("1m") max 5 every 1000"#,
        r#"poll/ask 11..12 task ask {  } -> { ready: boolean }"#,
        r#"done 12..14 wait all.done = input.id and event.count > 0 && event.by != "robot" -> { id: string, by: string, count: integer }"#,
        r#"caught: done/fail_1 13..14 fail NotDone "after ${error.name}""#,
        r#"emit_2 14..15 emit all.kind { kind: input.kind, by: steps.done?.by }"#,
    ];
    for (line, expected) in lines.iter().zip(expected) {
        assert_eq!(line, expected);
    }
    assert_eq!((lines.len(), workflow.nodes), (expected.len(), 15));
    assert_eq!(workflow.config, ["region", "town"]);
    assert_eq!(
        workflow.output.as_ref().map(|output| show(&output.ty)).as_deref(),
        Some("{ letters: list<string>, pages: integer }")
    );
    // The contract's defaults and the step's own, key by key.
    let Verb::Task(nested) = &by_id(&workflow.steps)["nested"].verb else { panic!("a task") };
    let policy = &nested.policy;
    assert_eq!(
        (policy.attempts, policy.backoff_ms, policy.max_backoff_ms, policy.run_ms),
        (5, 1_000, Some(5_000), Some(10_000))
    );
    assert_eq!(policy.never, ["Timeout"]);
    // What is inferred has separate types.
    let names: Vec<String> =
        program.types.iter().map(|def| format!("{}::{}", def.name.module, def.name.name)).collect();
    for wanted in [
        "steps::first::Input",
        "steps::first::InputPlace",
        "events::AllStarted",
        "all::InputKind",
        "all::Output",
        "types::Label",
    ] {
        assert!(names.iter().any(|name| name == wanted), "{wanted} in {names:?}");
    }
}

#[test]
fn the_same_text_gives_the_same_program() {
    assert_eq!(format!("{:?}", program(BOOKING)), format!("{:?}", program(BOOKING)));
}
