//! Makes programs, and knows what they must do. Nothing of the compiler or the runtime is used
//! here: this is the language once more, from its documentation.

pub mod deep;
pub mod details;
pub mod expressions;
pub mod failures;
pub mod life;
pub mod model;
pub mod program;
pub mod random;
pub mod steps;

pub use program::{Fields, Program, Ty};

/// Types that the programs share.
pub fn common() -> String {
    let details =
        (0..details::COUNT).map(|at| format!("    w{at}: {}\n", details::detail(at).text));
    let details: String = details.collect();
    format!("{PLAIN}{details}")
}

const PLAIN: &str = "\
types:
  Colour: red | blue | in-transit
  Shade: red | dark | blue | in-transit
  Part: { sku: string, count: integer, note: string? }
  Line: { sku: string, count: integer, price: number, note: string?, colour: Colour, parts: list<Part>, spare: Part? }
  Sample:
    s: string
    s2: string?
    i: integer
    i2: integer?
    x: number
    x2: number?
    b: boolean
    b2: boolean?
    t: timestamp
    t2: timestamp?
    d: duration
    d2: duration?
    j: json
    j2: json?
    c: Colour
    c2: Colour?
    line: Line
    line2: Line?
    ss: list<string>
    is: list<integer>
    xs: list<number>
    bs: list<boolean>
    ts: list<timestamp>
    ds: list<duration>
    cs: list<Colour>
    lines: list<Line>
    so: list<string?>
    io: list<integer?>
    co: list<Colour?>
    lo: list<Line?>
    iss: list<list<integer>>
    mi: map<integer>
    mso: map<string?>
    ml: map<Line>
";

/// The fields of `Sample`.
pub fn sample() -> Fields {
    fields("Sample")
}

/// The fields of a common record.
pub fn fields(name: &str) -> Fields {
    use Ty::{Bool, Dur, Int, Json, Named, Num, Str, Time};
    let list = Ty::list;
    let map = |of: Ty| Ty::Map(Box::new(of));
    let all: Vec<(&str, Ty)> = match name {
        "Part" => vec![("sku", Str), ("count", Int), ("note", Str.opt())],
        "Line" => vec![
            ("sku", Str),
            ("count", Int),
            ("price", Num),
            ("note", Str.opt()),
            ("colour", Named("Colour")),
            ("parts", list(Named("Part"))),
            ("spare", Named("Part").opt()),
        ],
        "Sample" => vec![
            ("s", Str),
            ("s2", Str.opt()),
            ("i", Int),
            ("i2", Int.opt()),
            ("x", Num),
            ("x2", Num.opt()),
            ("b", Bool),
            ("b2", Bool.opt()),
            ("t", Time),
            ("t2", Time.opt()),
            ("d", Dur),
            ("d2", Dur.opt()),
            ("j", Json),
            ("j2", Json.opt()),
            ("c", Named("Colour")),
            ("c2", Named("Colour").opt()),
            ("line", Named("Line")),
            ("line2", Named("Line").opt()),
            ("ss", list(Str)),
            ("is", list(Int)),
            ("xs", list(Num)),
            ("bs", list(Bool)),
            ("ts", list(Time)),
            ("ds", list(Dur)),
            ("cs", list(Named("Colour"))),
            ("lines", list(Named("Line"))),
            ("so", list(Str.opt())),
            ("io", list(Int.opt())),
            ("co", list(Named("Colour").opt())),
            ("lo", list(Named("Line").opt())),
            ("iss", list(list(Int))),
            ("mi", map(Int)),
            ("mso", map(Str.opt())),
            ("ml", map(Named("Line"))),
        ],
        _ => Vec::new(),
    };
    let mut all: Fields = all.into_iter().map(|(name, ty)| (name.to_owned(), ty)).collect();
    if name == "Sample" {
        all.extend((0..details::COUNT).map(|at| (format!("w{at}"), Ty::With(at))));
    }
    all
}

/// The words of a common enum.
pub fn words(name: &str) -> &'static [&'static str] {
    match name {
        "Colour" => &["red", "blue", "in-transit"],
        "Shade" => &["red", "dark", "blue", "in-transit"],
        _ => &[],
    }
}

/// The program of a seed.
pub fn program(seed: u64) -> Program {
    steps::Maker::new(seed).program()
}
