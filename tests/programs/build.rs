//! Makes `CRUX_PROGRAMS` programs from the seed `CRUX_PROGRAMS_SEED` on, and compiles them as one
//! folder.

#[path = "src/make/mod.rs"]
#[allow(dead_code, reason = "only what makes programs runs here")]
mod make;

use std::path::{Path, PathBuf};
use std::{env, fs};

use crux_compiler::diagnostic::{Diagnostic, Severity};
use crux_compiler::render::{self, Style};
use crux_compiler::source::{File, Files};
use make::{Program, deep};

fn main() {
    println!("cargo::rerun-if-env-changed=CRUX_PROGRAMS_SEED");
    println!("cargo::rerun-if-env-changed=CRUX_PROGRAMS");
    println!("cargo::rerun-if-changed=src/make");
    println!("cargo::rerun-if-changed=build.rs");
    let number = |name: &str, default: u64| {
        env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
    };
    let (seed, count) = (number("CRUX_PROGRAMS_SEED", 1), number("CRUX_PROGRAMS", 40));
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("this runs in a build script"));

    let mut seeds: Vec<u64> = (seed..seed + count).collect();
    let refused = refused(&mut seeds);
    let mut programs: Vec<_> = seeds.iter().copied().map(make::program).collect();
    let mut deepest = Vec::new();
    for kind in 0..deep::KINDS.len() {
        let depth = deep::deepest(kind, |program| why_refused(program).is_none());
        deepest.push(depth);
        programs.push(deep::program(kind, depth));
    }
    let mut files = vec![File { path: "pipelines/common.yaml".into(), text: make::common() }];
    let mut arms = String::new();
    for program in &programs {
        let seed = program.seed;
        let name = &program.name;
        arms.push_str(&format!(
            "        {seed} => start::<pipelines::{name}::Workflow>(started, now, out),\n"
        ));
        files.push(File { path: format!("pipelines/{name}.yaml"), text: program.yaml() });
    }
    files.extend(found());
    let files = Files::new(files);
    let outcome = crux_compiler::compile(&files);
    let sources = outcome.rust.unwrap_or_else(|| panic!("{}", errors(&files, outcome.diagnostics)));
    let modules = out.join("pipelines");
    let _ = fs::remove_dir_all(&modules);
    fs::create_dir_all(&modules).expect("a writable folder");
    for source in sources {
        write(&out.join(source.path), &source.text);
    }
    let start = format!(
        "/// What these programs are made from.\n\
         pub const SEEDS: &[u64] = &{seeds:?};\n\n\
         /// How deep each of the nested programs is.\n\
         pub const DEEPEST: &[usize] = &{deepest:?};\n\n\
         /// Why `crux check` refuses some that it must accept.\n\
         pub const REFUSED: &[&str] = &{refused:?};\n\n\
         /// The program made from a seed, begun.\n\
         pub fn begin(seed: u64, started: &Started, now: Time, out: &mut Effects) -> Result<Box<dyn Instance>, String> {{\n\
         \x20   match seed {{\n{arms}        _ => Err(\"no such program\".into()),\n    }}\n}}\n"
    );
    write(&out.join("start.rs"), &start);
}

/// Programs that once did not build.
fn found() -> Vec<File> {
    println!("cargo::rerun-if-changed=found");
    let all = fs::read_dir("found")
        .expect("a readable folder")
        .map(|entry| entry.expect("a readable folder").path());
    let mut all: Vec<PathBuf> = all.collect();
    all.sort();
    let file = |path: PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        File { path: format!("pipelines/{name}"), text: fs::read_to_string(&path).expect("a text") }
    };
    all.into_iter().map(file).collect()
}

/// Takes those out of the seeds whose programs are refused; all others are still built.
fn refused(seeds: &mut Vec<u64>) -> Vec<String> {
    let mut all = Vec::new();
    seeds.retain(|&seed| {
        let why = why_refused(&make::program(seed));
        let is_refused = why.is_some();
        all.extend(why);
        !is_refused
    });
    all
}

fn why_refused(program: &Program) -> Option<String> {
    let common = File { path: "pipelines/common.yaml".into(), text: make::common() };
    let files = Files::new(vec![
        common,
        File { path: format!("pipelines/{}.yaml", program.name), text: program.yaml() },
    ]);
    let found = crux_compiler::check(&files).diagnostics;
    found.iter().any(|found| found.severity == Severity::Error).then(|| errors(&files, found))
}

fn errors(files: &Files, mut all: Vec<Diagnostic>) -> String {
    all.retain(|found| found.severity == Severity::Error);
    render::human(files, &all, Style::Plain)
}

fn write(path: &Path, text: &str) {
    fs::write(path, text).expect("a writable folder");
}
