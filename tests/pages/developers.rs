//! What is written for developers names files that are there, and no recipe has more than ten.

use std::collections::BTreeSet;
use std::path::Path;

use crate::kit::fences;

const RECIPES: &str = "docs/dev/recipes.md";

/// What stands in backticks and looks like a path of the project.
fn paths(text: &str) -> BTreeSet<&str> {
    let quoted = text.split('`').skip(1).step_by(2);
    quoted
        .filter(|word| word.contains('/') || [".md", ".toml"].iter().any(|end| word.ends_with(end)))
        .filter(|word| !word.contains([' ', '…', '<', ':', '{']))
        .collect()
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

#[test]
fn the_files_that_pages_for_developers_name_are_there() {
    let project = fences::project();
    let folder = std::fs::read_dir(project.join("docs/dev")).expect("a folder");
    let pages = folder.map(|entry| entry.expect("an entry").path());
    for page in pages.chain([project.join("CONTRIBUTING.md")]) {
        // Blocks are examples.
        let text = read(&page);
        let text: String = text.split("```").step_by(2).collect();
        for path in paths(&text) {
            assert!(project.join(path).exists(), "{}: there is no {path}", page.display());
        }
    }
}

#[test]
fn no_recipe_touches_more_than_ten_files() {
    let text = read(&fences::project().join(RECIPES));
    let recipes: Vec<&str> = text.split("\n## ").skip(1).collect();
    assert_eq!(recipes.len(), 7);
    for recipe in recipes {
        let title = recipe.lines().next().unwrap_or_default();
        let steps: String = recipe.split("\n\n").filter(|part| part.starts_with("1. ")).collect();
        let files = paths(&steps);
        assert!(!files.is_empty() && files.len() <= 10, "{title}: {files:?}");
    }
}
