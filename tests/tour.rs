//! The tour of the README, gone through step by step in a copy of this package.

use std::fs;
use std::path::Path;
use std::time::Instant;

use crux_test_kit::console::{Session, commands};
use crux_test_kit::fences::{Block, of_page, project};
use crux_test_kit::package::Package;
use crux_test_kit::{PATIENCE, Server};

/// This package under another name, so that its program is not put in the place of the one that
/// other tests run.
const NAME: &str = "crux-tour";

fn copy() -> Package {
    let package = Package::in_folder(NAME);
    let crux = project();
    let manifest = fs::read_to_string(crux.join("Cargo.toml")).expect("a manifest");
    // It is a workspace without other members.
    let (head, rest) = manifest.split_once("members = [").expect("the workspace has members");
    let manifest = head.to_owned() + rest.split_once("]\n").expect("an end of the list").1;
    let manifest = manifest
        .replacen("name = \"crux\"", &format!("name = \"{NAME}\""), 1)
        .replacen("default-run = \"crux\"", "", 1)
        .replacen("crux = { path = \".\" }\n", "", 1)
        .replace("path = \"crux-", &format!("path = \"{}/crux-", crux.display()))
        .replace("path = \"tests/", &format!("path = \"{}/tests/", crux.display()));
    package.write("Cargo.toml", &manifest);
    package.write("build.rs", &fs::read_to_string(crux.join("build.rs")).expect("a build script"));
    for folder in ["pipelines", "src", "src/steps"] {
        for file in fs::read_dir(crux.join(folder))
            .expect("a folder")
            .map(|entry| entry.expect("an entry").path())
        {
            if file.is_file() {
                let name = file
                    .strip_prefix(&crux)
                    .expect("it is in the project")
                    .to_str()
                    .expect("a text");
                let text = fs::read_to_string(&file).expect("a text");
                // Its library has the package's name.
                package.write(
                    name,
                    &if name == "src/main.rs" {
                        text.replace("crux::main", "crux_tour::main")
                    } else {
                        text
                    },
                );
            }
        }
    }
    if Path::new(&package.folder().join("src/steps/points.rs")).exists() {
        package.delete("src/steps/points.rs");
    }
    package
}

/// What Cargo shows for the command of a block is what a build of the package shows.
fn assert_broken_as_shown(package: &Package, block: &Block) {
    let said = package.broken_build().replace(NAME, "crux");
    for (command, shown) in commands(&block.text) {
        assert_eq!(command, "cargo build");
        // An empty line stands for lines that the page leaves out.
        for part in shown.split("\n\n").map(str::trim_end) {
            assert!(
                said.contains(part),
                "{}: `{part}` is not in what was shown:\n{said}",
                block.place
            );
        }
    }
}

/// A person takes a moment to type the next command; by then the refund sleeps.
fn until_it_sleeps(server: &Server) {
    let begun = Instant::now();
    while !server
        .run(&["list", "--status", "waiting"])
        .stdout
        .windows(6)
        .any(|word| word == b"refund")
    {
        assert!(begun.elapsed() < PATIENCE, "nothing waits");
    }
}

#[test]
fn the_tour_goes_as_the_readme_says() {
    let blocks: Vec<Block> =
        of_page("README.md").into_iter().filter(|block| block.kind == "tour").collect();
    let [mistake, error, missing, points, serve, start, kill] = &blocks[..] else {
        panic!("the tour has other blocks: {blocks:#?}")
    };
    let package = copy();

    let order = package.read("pipelines/order.yaml");
    let (steps, output) = order.split_once("\noutput:").expect("the steps end at the output");
    package.write("pipelines/order.yaml", &format!("{steps}\n{}\noutput:{output}", mistake.text));
    assert_broken_as_shown(&package, error);

    package.replace("pipelines/order.yaml", "input.customerID", "input.customerId");
    assert_broken_as_shown(&package, missing);

    package.write("src/steps/points.rs", &points.text);
    package.replace("src/steps/mod.rs", "mod restock;", "mod points;\nmod restock;");
    package.replace(
        "src/steps/mod.rs",
        "pub use restock::",
        "pub use points::PointsStep;\npub use restock::",
    );
    package.replace(
        "src/steps/mod.rs",
        "        restock: RestockStep,",
        "        grant_points: PointsStep,\n        restock: RestockStep,",
    );
    package.build();

    let [(command, listening)] = &commands(&serve.text)[..] else {
        panic!("{}: one command", serve.place)
    };
    assert_eq!(
        (command.as_str(), listening.as_str()),
        ("cargo run -- serve", "listening on http://127.0.0.1:8080\n")
    );
    // `Server` reads that line; the port is one that is free.
    let mut server = Server::start(&package.binary(), "");
    let mut session = Session::of(&server);
    session.run(start);

    let [begin, (pkill, _), watch] = &commands(&kill.text)[..] else {
        panic!("{}: three commands", kill.place)
    };
    session.expect(begin, &kill.place);
    assert!(pkill.starts_with("pkill -9 -x crux "), "{pkill}");
    until_it_sleeps(&server);
    server.kill();
    server.restart();
    session.is_now_with(&server);
    session.expect(watch, &kill.place);
}
