//! Programs that are nested as deep as the check lets them be: they must build like any other.

use super::program::{Ex, Kind, Program, Root, Sink, Step, Task, Ty, Val, Verb};

/// What is nested.
pub const KINDS: [&str; 6] = ["groups", "elements", "catches", "forks", "mixed", "expression"];

/// The seed of the first of them; each has one.
pub const FIRST: u64 = 1 << 60;

/// As deep as the check accepts.
pub fn deepest(kind: usize, is_accepted: impl Fn(&Program) -> bool) -> usize {
    let (mut accepted, mut refused) = (1_usize, 200);
    while accepted + 1 < refused {
        let depth = accepted.midpoint(refused);
        *(if is_accepted(&program(kind, depth)) { &mut accepted } else { &mut refused }) = depth;
    }
    accepted
}

pub fn program(kind: usize, depth: usize) -> Program {
    let step = match KINDS[kind] {
        "expression" => Step { when: Some(expression(depth)), ..task(kind) },
        name => (0..depth).fold(task(kind), |inner, at| around(name, at, inner)),
    };
    Program {
        name: format!("deep_{}", KINDS[kind]),
        seed: FIRST + kind as u64,
        named_input: true,
        steps: vec![step],
        output: Vec::new(),
        parks: false,
        hooks: Vec::new(),
        trigger: Vec::new(),
        events: Vec::new(),
    }
}

fn input(name: &str, ty: Ty) -> Ex {
    let root = Ex::new(Ty::Fields(super::sample()), Kind::Root(Root::Input));
    Ex::new(ty, Kind::Field(Box::new(root), name.to_owned()))
}

fn step(id: String, verb: Verb) -> Step {
    Step { id, when: None, verb, catch: Vec::new(), is_timed: false }
}

fn task(kind: usize) -> Step {
    let task = Task {
        step_type: format!("deep_in_{}", KINDS[kind]),
        takes: vec![("a".into(), Ty::Int)],
        with: vec![("a".into(), Sink::Ex(input("i", Ty::Int)))],
        returns: vec![("b".into(), Ty::Int)],
        raises: false,
        key: None,
        undo: None,
        retry: None,
        undo_retry: None,
    };
    step("deepest".into(), Verb::Task(task))
}

fn around(kind: &str, at: usize, inner: Step) -> Step {
    let which = match kind {
        "groups" => 0,
        "elements" => 1,
        "catches" => 2,
        // What is largest in Rust: as many loops as may be, and else branches.
        "forks" if at < 6 => 1,
        "forks" => 4,
        _ => at % 6,
    };
    let id = format!("s{at}");
    match which {
        0 => step(id, Verb::Group(vec![inner])),
        1 => {
            let list = Ex::new(Ty::list(Ty::Int), Kind::List(vec![input("i", Ty::Int)]));
            step(
                id,
                Verb::Each {
                    item: format!("item{at}"),
                    list,
                    concurrency: 1,
                    steps: vec![inner],
                    yields: None,
                },
            )
        }
        2 => {
            let fail = step(format!("fail{at}"), Verb::Fail { error: "Oops", message: Vec::new() });
            Step { catch: vec![(Some("Oops"), vec![inner])], ..fail }
        }
        3 => step(
            id,
            Verb::Switch(vec![(Some(input("b", Ty::Bool)), vec![inner]), (None, Vec::new())]),
        ),
        4 => step(
            id,
            Verb::Parallel(vec![("left".into(), vec![inner]), ("right".into(), Vec::new())]),
        ),
        _ => {
            let now = Ex::new(Ty::Time, Kind::Call("now", Vec::new()));
            let started = Ex::new(Ty::Time, Kind::Root(Root::StartedAt));
            let until = Ex::new(Ty::Bool, Kind::Bin(">=", Box::new(now), Box::new(started)));
            step(id, Verb::Repeat { until, max: 2, every: false, steps: vec![inner] })
        }
    }
}

fn expression(depth: usize) -> Ex {
    (0..depth).fold(input("b", Ty::Bool), |inner, at| {
        let (inner, other) = (Box::new(inner), Box::new(input("w9", Ty::Bool)));
        let list = |inner| Box::new(Ex::new(Ty::list(Ty::Bool), Kind::List(vec![inner])));
        let kind = match at % 5 {
            0 => Kind::Not(inner),
            1 => Kind::Bin("&&", other, inner),
            2 => Kind::If(other, inner, Box::new(input("b", Ty::Bool))),
            3 => {
                let zero = Box::new(Ex::new(Ty::Int, Kind::Lit(Val::Int(0))));
                let first = Ex::new(Ty::Bool.opt(), Kind::Index(list(*inner), zero));
                Kind::Coalesce(
                    Box::new(first),
                    Box::new(Ex::new(Ty::Bool, Kind::Lit(Val::Bool(false)))),
                )
            }
            _ => Kind::Iter("exists", list(*other), format!("v{at}"), inner),
        };
        Ex::new(Ty::Bool, kind)
    })
}
