//! The text service. It stands where a language model would: what it does instead are plain methods
//! without any learning — cleaning sentences, extracting keywords (RAKE), choosing the sentences
//! that hold most of them, and Flesch's reading ease. The contract with Crux is the one that a
//! model behind the same address would have.

use serde::{Deserialize, Serialize};

use super::Refused;
use crate::text::{clean, keywords, readability};

/// How many keywords and highlights are enough.
const KEYWORDS: usize = 8;
const HIGHLIGHTS: usize = 2;

#[derive(Debug, Deserialize)]
pub struct Input {
    name: String,
    description: String,
    category: String,
    colours: Vec<String>,
}

#[derive(Debug, Serialize)]
pub struct Output {
    pub description: String,
    pub highlights: Vec<String>,
    pub keywords: Vec<String>,
    pub reading_ease: f64,
}

pub fn enhance(_workflow_id: &str, input: Input) -> Result<Output, Refused> {
    let mut sentences = clean::sentences(&input.description);
    let phrases = keywords::ranked(&sentences);
    let highlights = keywords::best_sentences(&sentences, &phrases, HIGHLIGHTS);
    sentences.extend(seen_in(&input.colours));
    let own = [input.name.to_lowercase(), input.category.to_lowercase()];
    let mut keywords: Vec<String> = own.into_iter().filter(|word| !word.is_empty()).collect();
    for phrase in phrases {
        if keywords.len() < KEYWORDS && !keywords.contains(&phrase.text) {
            keywords.push(phrase.text);
        }
    }
    let reading_ease = readability::flesch(&sentences);
    Ok(Output { description: sentences.join(" "), highlights, keywords, reading_ease })
}

/// A sentence from what the image service has seen.
fn seen_in(colours: &[String]) -> Option<String> {
    let mut different: Vec<&str> = Vec::new();
    for colour in colours {
        if !different.contains(&colour.as_str()) {
            different.push(colour);
        }
    }
    (!different.is_empty()).then(|| format!("Shown in {}.", different.join(" and ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_description_becomes_clean_and_gains_what_the_pictures_show() {
        let input = Input {
            name: "Harbour Mug".into(),
            description: "stoneware mug,thrown by hand !!!  BUY NOW!!! It holds 350 ml.".into(),
            category: "Kitchen".into(),
            colours: vec!["blue".into(), "blue".into()],
        };
        let output = enhance("id", input).expect("enhanced");
        assert_eq!(
            output.description,
            "Stoneware mug, thrown by hand. It holds 350 ml. Shown in blue."
        );
        assert_eq!(output.keywords[..2], ["harbour mug", "kitchen"]);
        assert!(output.keywords.contains(&"stoneware mug".to_owned()), "{:?}", output.keywords);
        assert!(
            output.highlights.contains(&"Stoneware mug, thrown by hand.".to_owned()),
            "{:?}",
            output.highlights
        );
    }
}
