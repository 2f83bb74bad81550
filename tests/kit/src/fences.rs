//! The fenced blocks of a Markdown page. The first word of a fence is the language, for programs
//! that shows the page; the rest is the block's kind, for tests.

use std::path::{Path, PathBuf};

#[derive(Debug, Clone)]
pub struct Block {
    pub language: String,
    pub kind: String,
    /// Without the fences; ends with a line end.
    pub text: String,
    /// `docs/api.md:21`, for messages.
    pub place: String,
}

/// The blocks of a page of the project, given by its path in it.
pub fn of_page(path: &str) -> Vec<Block> {
    let text = std::fs::read_to_string(project().join(path))
        .unwrap_or_else(|error| panic!("{path}: {error}"));
    let mut blocks: Vec<Block> = Vec::new();
    let mut is_open = false;
    for (number, line) in (1..).zip(text.lines()) {
        match (line.strip_prefix("```"), is_open) {
            (Some(fence), false) => {
                let (language, kind) = fence.split_once(' ').unwrap_or((fence, ""));
                blocks.push(Block {
                    language: language.to_owned(),
                    kind: kind.trim().to_owned(),
                    text: String::new(),
                    place: format!("{path}:{number}"),
                });
            }
            (None, true) => {
                let block = blocks.last_mut().expect("a block is open");
                block.text.push_str(line);
                block.text.push('\n');
            }
            _ => {}
        }
        is_open ^= line.starts_with("```");
    }
    assert!(!is_open, "{path}: a block without an end");
    blocks
}

/// The folder of the project.
pub fn project() -> PathBuf {
    let kit = Path::new(env!("CARGO_MANIFEST_DIR"));
    kit.ancestors().nth(2).expect("the kit is in tests/kit of the project").to_owned()
}
