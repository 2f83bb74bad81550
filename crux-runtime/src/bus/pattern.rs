//! Patterns of routing keys, as in topic exchanges: words between dots, `*` for one word,
//! `#` for any number of them.

use std::fmt;

/// AMQP's own limit, of keys and of patterns.
const MAX_BYTES: usize = 255;

/// A pattern that is well-formed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Pattern(String);

impl Pattern {
    /// The error says what is wrong with the pattern and how to write one.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let is_word = |word: &str| {
            let is_plain = || {
                word.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'))
            };
            matches!(word, "*" | "#") || (!word.is_empty() && is_plain())
        };
        if text.len() > MAX_BYTES {
            return Err(format!(
                "a routing key has at most {MAX_BYTES} bytes, this one {}",
                text.len()
            ));
        }
        match text.split('.').find(|word| !is_word(word)) {
            None => Ok(Self(text.to_owned())),
            Some(_) => Err("write words with dots between them, `*` for one word, `#` for any number: `workflow.*`".to_owned()),
        }
    }

    pub(super) fn fits(&self, key: &str) -> bool {
        let words = |text| str::split(text, '.').collect::<Vec<_>>();
        fits(&words(&self.0), &words(key))
    }
}

fn fits(pattern: &[&str], key: &[&str]) -> bool {
    match (pattern, key) {
        ([], []) => true,
        (["#", rest @ ..], _) => {
            fits(rest, key) || key.split_first().is_some_and(|(_, key)| fits(pattern, key))
        }
        ([word, rest @ ..], [first, key @ ..]) => {
            (*word == "*" || word == first) && fits(rest, key)
        }
        _ => false,
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_stars_and_hashes() {
        for (pattern, key, expected) in [
            ("workflow.completed", "workflow.completed", true),
            ("workflow.completed", "workflow.failed", false),
            ("workflow.*", "workflow.failed", true),
            ("workflow.*", "workflow", false),
            ("workflow.*", "workflow.order.failed", false),
            ("workflow.#", "workflow", true),
            ("workflow.#", "workflow.order.failed", true),
            ("#.failed", "workflow.order.failed", true),
            ("#", "anything.at.all", true),
            ("*.shipped", "order.shipped", true),
            ("*", "order.shipped", false),
        ] {
            assert_eq!(Pattern::parse(pattern).unwrap().fits(key), expected, "{pattern} {key}");
        }
    }

    #[test]
    fn an_invalid_pattern_gets_an_error_that_shows_the_form() {
        for text in ["", "workflow.", ".a", "a..b", "work flow", "work*", "a.b#"] {
            assert!(Pattern::parse(text).unwrap_err().contains("`workflow.*`"), "{text}");
        }
        assert!(Pattern::parse(&"a".repeat(256)).unwrap_err().contains("255 bytes"));
    }
}
