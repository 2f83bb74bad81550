//! Makes `CRUX_PROGRAMS` programs from the seed `CRUX_PROGRAMS_SEED` on, and compiles them as one folder.

#[path = "src/make/mod.rs"]
#[allow(dead_code, reason = "only what makes programs runs here")]
mod make;

use std::path::{Path, PathBuf};
use std::{env, fs};

use crux_compiler::diagnostic::Severity;
use crux_compiler::render::{self, Style};
use crux_compiler::source::{File, Files};

fn main() {
    println!("cargo::rerun-if-env-changed=CRUX_PROGRAMS_SEED");
    println!("cargo::rerun-if-env-changed=CRUX_PROGRAMS");
    println!("cargo::rerun-if-changed=src/make");
    println!("cargo::rerun-if-changed=build.rs");
    let number = |name: &str, default: u64| env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default);
    let (seed, count) = (number("CRUX_PROGRAMS_SEED", 1), number("CRUX_PROGRAMS", 40));
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("this runs in a build script"));

    let mut files = vec![File { path: "pipelines/common.yaml".into(), text: make::common().to_owned() }];
    let mut arms = String::new();
    for seed in seed..seed + count {
        let program = make::program(seed);
        let name = &program.name;
        arms.push_str(&format!("        {seed} => start::<pipelines::{name}::Workflow>(started, now, out),\n"));
        files.push(File { path: format!("pipelines/{name}.yaml"), text: program.yaml() });
    }
    let files = Files::new(files);
    let outcome = crux_compiler::compile(&files);
    let Some(sources) = outcome.rust else {
        let errors: Vec<_> = outcome.diagnostics.into_iter().filter(|found| found.severity == Severity::Error).collect();
        panic!("{}", render::human(&files, &errors, Style::Plain));
    };
    let modules = out.join("pipelines");
    let _ = fs::remove_dir_all(&modules);
    fs::create_dir_all(&modules).expect("a writable folder");
    for source in sources {
        write(&out.join(source.path), &source.text);
    }
    let start = format!(
        "/// The first of the seeds that these programs are made from, and how many they are.\n\
         pub const SEEDS: (u64, u64) = ({seed}, {count});\n\n\
         /// The program made from a seed, begun.\n\
         pub fn begin(seed: u64, started: &Started, now: Time, out: &mut Effects) -> Result<Box<dyn Instance>, String> {{\n\
         \x20   match seed {{\n{arms}        _ => Err(\"no such program\".into()),\n    }}\n}}\n"
    );
    write(&out.join("start.rs"), &start);
}

fn write(path: &Path, text: &str) {
    fs::write(path, text).expect("a writable folder");
}
