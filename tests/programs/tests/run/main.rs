//! Each program beside the model: the same events, the same effects, the same end.
//! `CRUX_PROGRAMS_SEED=17 CRUX_PROGRAMS=1` makes one again.

#![allow(clippy::unwrap_used, reason = "a test that fails shows where")]

use crux_compiler::render::{self, Style};
use crux_compiler::source::{File, Files};
use crux_runtime::machine::{
    AttemptFailed, Effect, Effects, Ended, Event, Failure, Hook, Instance, Note, Open, Outcome,
    Path, Phase, Started, StepEvent, StepHappened, Time, Timer,
};
use crux_test_programs::make::life::{self, Happened, Life, What};
use crux_test_programs::make::model::json_of;
use crux_test_programs::make::random::Random;
use crux_test_programs::make::{self, Program, deep, steps};
use crux_test_programs::{DEEPEST, REFUSED, SEEDS, begin};
use serde_json::Value as Json;
use serde_json::value::RawValue;

/// Of one instance.
const EVENTS_MAX: usize = 60;
/// Instances of one program, each with other inputs and results.
const INSTANCES: u64 = 6;

fn raw(json: &Json) -> Box<RawValue> {
    RawValue::from_string(json.to_string()).unwrap()
}

/// What is open in a machine, one line each.
fn open(instance: &dyn Instance) -> Vec<String> {
    let definition = instance.definition();
    let mut all = Vec::new();
    instance.open(&mut |open| match open {
        Open::Task(task)
            if matches!(task.attempt, crux_runtime::machine::Attempt::Exhausted(_)) => {}
        Open::Task(task)
            if matches!(task.attempt, crux_runtime::machine::Attempt::BackingOff { .. }) =>
        {
            all.push(format!("backing off {}", definition.path_text(&task.path)));
        }
        Open::Task(task) => {
            all.push(format!("task {} {}", definition.path_text(&task.path), task.number));
        }
        Open::Timer { path, timer: Timer::Timeout, .. } => {
            all.push(format!("timeout {}", definition.path_text(&path)));
        }
        Open::Wait { path, event, value, .. } => {
            all.push(format!(
                "wait {} {event} {}",
                definition.path_text(&path),
                value.unwrap_or_default()
            ));
        }
        Open::Timer { path, .. } => all.push(format!("sleep {}", definition.path_text(&path))),
    });
    all.sort();
    all
}

fn open_in_model(life: &Life<'_>) -> Vec<String> {
    let line = |open: life::Open| match open.what {
        What::Task { attempt, .. } => format!("task {} {attempt}", open.path),
        What::BackOff { .. } => format!("backing off {}", open.path),
        What::Timeout => format!("timeout {}", open.path),
        What::Person => format!("person {}", open.path),
        What::Wait { event, value, .. } => format!("wait {} {event} {value}", open.path),
        What::Sleep => format!("sleep {}", open.path),
    };
    let mut all: Vec<String> = life.open().into_iter().map(line).collect();
    all.sort();
    all
}

fn effects(instance: &dyn Instance, out: &Effects) -> Vec<life::Effect> {
    let definition = instance.definition();
    let parsed = |json: &RawValue| serde_json::from_str(json.get()).unwrap();
    let text = |path: &Path| definition.path_text(path).into_owned();
    let one = |effect: &Effect| match effect {
        Effect::Dispatch { path, input, key, .. } => {
            let key = key.as_deref().map(|key| ("key", text(path), Json::from(key)));
            [Some(("dispatch", text(path), parsed(input))), key]
        }
        Effect::Emit { path, data, .. } => [Some(("emit", text(path), parsed(data))), None],
        Effect::Hook { kind, .. } => {
            let name = match kind {
                Hook::Start => "on_start",
                Hook::Complete => "on_complete",
                Hook::Failure => "on_failure",
            };
            [Some(("hook", name.to_owned(), Json::Null)), None]
        }
        _ => [None, None],
    };
    out.all.iter().flat_map(one).flatten().collect()
}

fn outcome(instance: &dyn Instance, out: &Effects) -> life::Outcome {
    match instance.phase() {
        Phase::Completed => {
            let output = out.notes.iter().find_map(|note| match note {
                Note::Ended(Ended::Completed { output }) => {
                    Some(serde_json::from_str(output.get()).unwrap())
                }
                _ => None,
            });
            life::Outcome::Completed(output.unwrap_or_default())
        }
        Phase::Failed => life::Outcome::Failed(
            instance.failure().map(|failure| failure.name.to_string()).unwrap_or_default(),
        ),
        Phase::Parked => life::Outcome::Parked,
        _ => life::Outcome::Running,
    }
}

fn completed(returns: &make::Fields, path: Path, random: &mut Random) -> (Happened, StepEvent) {
    let result = steps::record(returns, random);
    let json = raw(&steps::shortened(json_of(&result), returns, random));
    let what = StepHappened::Completed { attempt: None, result: json };
    (Happened::Completed(result), StepEvent { path, what })
}

/// One instance; the error says what differs.
fn run(program: &Program, random: &mut Random) -> Result<(), String> {
    let input = steps::record(&make::sample(), random);
    let started = Started {
        workflow: program.name.clone(),
        version: 1,
        definition: String::new(),
        input: raw(&steps::shortened(json_of(&input), &make::sample(), random)),
        request_id: "r1".into(),
        config: [("region".to_owned(), "eu".to_owned())].into_iter().collect(),
        owner: String::new(),
        trigger: String::new(),
        traceparent: String::new(),
    };
    let mut now = Time(1_000);
    let mut out = Effects::default();
    let mut log = vec![format!("input {}", started.input)];
    let mut machine = begin(program.seed, &started, now, &mut out)?;
    let mut model = Life::start(program, input);
    for _ in 0..EVENTS_MAX {
        let same =
            |what: &str, machine: String, model: String, log: &[String]| match machine == model {
                true => Ok(()),
                false => Err(format!(
                    "{what}\n  machine {machine}\n  model   {model}\nafter\n  {}",
                    log.join("\n  ")
                )),
            };
        let text = |effects: &[life::Effect]| {
            effects
                .iter()
                .map(|(what, path, json)| format!("{what} {path} {json}"))
                .collect::<Vec<_>>()
                .join("; ")
        };
        same("effects", text(&effects(&*machine, &out)), text(&model.effects), &log)?;
        same(
            "outcome",
            format!("{:?}", outcome(&*machine, &out)),
            format!("{:?}", model.outcome()),
            &log,
        )?;
        same("open", open(&*machine).join("; "), open_in_model(&model).join("; "), &log)?;
        let all = model.open();
        if all.is_empty() {
            return Ok(());
        }
        let mut next = random.pick(&all).clone();
        // What is inside is to come to something now and then.
        while next.what == What::Timeout && random.chance(80) {
            next = random.pick(&all).clone();
        }
        let path = machine
            .definition()
            .parse_path(&next.path)
            .ok_or_else(|| format!("no path {}", next.path))?;
        now.0 += 1_000;
        model.now += 1_000_000;
        let (happened, event) = match &next.what {
            What::Task { returns, is_undo, .. }
                if random.chance(if *is_undo { 85 } else { 75 }) =>
            {
                completed(returns, path, random)
            }
            What::BackOff { returns } if random.chance(20) => completed(returns, path, random),
            What::BackOff { .. } => (
                Happened::Fired,
                StepEvent { path, what: StepHappened::TimerFired { timer: Timer::Retry } },
            ),
            What::Timeout | What::Person => (
                Happened::TimedOut,
                StepEvent { path, what: StepHappened::TimerFired { timer: Timer::Timeout } },
            ),
            What::Task { raises, attempt, .. } => {
                let name = if *raises && random.chance(70) { "Oops" } else { "Error" };
                let failed = AttemptFailed {
                    outcome: Outcome::Failed,
                    failure: Failure::new(name, "it did not work"),
                    retry: None,
                    after_ms: None,
                };
                let event =
                    machine.decide(&path, *attempt, failed, now).map_err(|why| why.to_string())?;
                (Happened::Failed(name), event)
            }
            What::Wait { is_timed: true, .. } if random.chance(30) => (
                Happened::TimedOut,
                StepEvent { path, what: StepHappened::TimerFired { timer: Timer::Timeout } },
            ),
            What::Wait { fields, .. } => {
                let data = steps::record(fields, random);
                let json = raw(&steps::shortened(json_of(&data), fields, random));
                let event_id = format!("e{}", now.0);
                (
                    Happened::Received(data),
                    StepEvent { path, what: StepHappened::Received { event_id, data: json } },
                )
            }
            What::Sleep => (
                Happened::Fired,
                StepEvent { path, what: StepHappened::TimerFired { timer: Timer::Sleep } },
            ),
        };
        let json = if let Happened::Completed(value) | Happened::Received(value) = &happened {
            json_of(value).to_string()
        } else {
            String::new()
        };
        log.push(format!(
            "{} {}",
            next.path,
            if json.is_empty() { format!("{happened:?}") } else { json }
        ));
        out.clear();
        let (in_machine, in_model) =
            (machine.apply(&Event::Step(event), now, &mut out), model.offer(&next.path, &happened));
        same("taken", format!("{}", in_machine.is_ok()), format!("{in_model}"), &log)?;
    }
    Ok(())
}

#[test]
fn programs_do_what_the_model_of_the_language_says() {
    REFUSED.iter().for_each(|why| println!("{why}"));
    let mut wrong = Vec::new();
    for &seed in SEEDS {
        let program = make::program(seed);
        let found = (0..INSTANCES).find_map(|instance| {
            run(&program, &mut Random::new(seed * INSTANCES + instance)).err()
        });
        if let Some(found) = found {
            println!(
                "{}\n{found}\nCRUX_PROGRAMS_SEED={seed} CRUX_PROGRAMS=1 makes it again\n",
                program.yaml()
            );
            wrong.push(seed);
        }
    }
    assert!(REFUSED.is_empty(), "{} programs are refused", REFUSED.len());
    assert!(
        wrong.is_empty(),
        "the programs of {} seeds do otherwise than the model: {wrong:?}",
        wrong.len()
    );
}

/// The deepest that the check accepts is built into this test; one more is refused.
#[test]
fn programs_as_deep_as_the_check_accepts_build_and_run() {
    for (kind, (name, &depth)) in deep::KINDS.iter().zip(DEEPEST).enumerate() {
        println!("{name}: {depth}");
        assert!(
            depth
                >= match *name {
                    "expression" => 20,
                    "elements" => 6,
                    _ => 13,
                },
            "{name} only {depth} deep"
        );
        let program = deep::program(kind, depth);
        for instance in 0..INSTANCES {
            run(&program, &mut Random::new(instance))
                .unwrap_or_else(|found| panic!("{name}: {found}"));
        }
    }
}

/// Without rustc, so that there can be many.
#[test]
fn programs_are_accepted_and_become_rust() {
    let count = std::env::var("CRUX_CHECKED").ok().and_then(|text| text.parse().ok()).unwrap_or(60);
    let first = 1_000_000;
    for seed in first..first + count {
        let program = make::program(seed);
        let yaml = program.yaml();
        let files = Files::new(vec![
            File { path: "pipelines/common.yaml".into(), text: make::common() },
            File { path: format!("pipelines/{}.yaml", program.name), text: yaml.clone() },
        ]);
        let outcome = crux_compiler::compile(&files);
        let Some(sources) = outcome.rust else {
            panic!(
                "seed {seed}\n{yaml}\n{}",
                render::human(&files, &outcome.diagnostics, Style::Plain)
            );
        };
        for source in sources {
            let is_rust =
                syn::parse_file(&source.text).is_ok() && !source.text.contains("compile_error!");
            assert!(is_rust, "seed {seed}\n{yaml}\n{}", source.text);
        }
    }
}
