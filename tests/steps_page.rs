//! The examples of `docs/steps.md` are pieces of the files that their fences name.

use std::path::Path;

#[test]
fn every_example_of_the_page_stands_in_its_file() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let page = std::fs::read_to_string(root.join("docs/steps.md")).expect("the page");
    let mut checked = 0;
    for block in page.split("\n```").skip(1).step_by(2) {
        let (fence, text) = block.split_once('\n').expect("a fence ends its line");
        let Some((_, file)) = fence.split_once(' ') else { continue };
        let source = std::fs::read_to_string(root.join(file)).expect(file);
        assert!(source.contains(text.trim_end()), "{file} does not contain this example of docs/steps.md:\n{text}");
        checked += 1;
    }
    assert!(checked >= 5, "the page has lost its examples: {checked}");
}
