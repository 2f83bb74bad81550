//! What can be done with a product's text without any learned model. Pure functions from text to
//! text; English only.

pub mod clean;
pub mod keywords;
pub mod readability;

/// The words of a sentence, without punctuation around them.
fn words(sentence: &str) -> impl Iterator<Item = &str> {
    sentence
        .split_whitespace()
        .map(|word| word.trim_matches(|c: char| !c.is_alphanumeric()))
        .filter(|word| !word.is_empty())
}
