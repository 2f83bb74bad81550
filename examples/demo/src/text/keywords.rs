//! Keywords by RAKE (Rose, Engel, Cramer, Cowley 2010): what stands between stop words and
//! punctuation is a phrase; a word counts the more, the longer the phrases are in which it stands;
//! a phrase counts what its words count.

use std::collections::HashMap;

use super::words;

/// Longer phrases are half sentences.
const PHRASE_WORDS: usize = 3;

const STOP_WORDS: &str = " a about above after again all also am an and any are as at be because been before being below between both but by can \
    carry catches could did do does doing down during each enough every few first for four from further had has have \
    having he her here hers him his how i if in into is it its itself just keep keeps leave leaves left lies like little \
    long made make makes many may me more most much my no nor not nothing of off on once one only or other our out over \
    own room same she should sit sits so some spreads such take takes than that the their them then there these they this \
    those three through to too two under until up us very was we were what when where which while who whom why will with \
    within without works would you your ";

#[derive(Debug, Clone, PartialEq)]
pub struct Phrase {
    /// In small letters.
    pub text: String,
    pub score: f64,
}

/// The best first; equal ones in the order of the text.
pub fn ranked(sentences: &[String]) -> Vec<Phrase> {
    let candidates: Vec<Vec<String>> =
        sentences.iter().flat_map(|sentence| candidates(sentence)).collect();
    let mut weights: HashMap<&str, (f64, f64)> = HashMap::new();
    for phrase in &candidates {
        for word in phrase {
            let (degree, frequency) = weights.entry(word).or_default();
            *degree += phrase.len() as f64;
            *frequency += 1.0;
        }
    }
    let weight = |word: &String| {
        weights.get(word.as_str()).map_or(0.0, |(degree, frequency)| degree / frequency)
    };
    let mut ranked: Vec<Phrase> = Vec::new();
    for phrase in &candidates {
        let text = phrase.join(" ");
        if ranked.iter().all(|before| before.text != text) {
            ranked.push(Phrase { text, score: phrase.iter().map(weight).sum() });
        }
    }
    ranked.sort_by(|one, other| other.score.total_cmp(&one.score));
    ranked
}

/// The `count` sentences that hold most of the phrases for their length, in the order of the text.
pub fn best_sentences(sentences: &[String], phrases: &[Phrase], count: usize) -> Vec<String> {
    let score = |sentence: &String| {
        let lower = sentence.to_lowercase();
        let held: f64 = phrases
            .iter()
            .filter(|phrase| lower.contains(&phrase.text))
            .map(|phrase| phrase.score)
            .sum();
        held / (words(sentence).count().max(1) as f64).sqrt()
    };
    let mut scored: Vec<(usize, f64)> = sentences.iter().map(score).enumerate().collect();
    scored.sort_by(|one, other| other.1.total_cmp(&one.1));
    scored.truncate(count);
    scored.sort_by_key(|&(position, _)| position);
    scored.into_iter().filter_map(|(position, _)| sentences.get(position).cloned()).collect()
}

/// The runs of words between stop words, numbers and punctuation.
fn candidates(sentence: &str) -> Vec<Vec<String>> {
    let mut found: Vec<Vec<String>> = Vec::new();
    let mut run: Vec<String> = Vec::new();
    for part in sentence.split_inclusive(|c: char| c.is_whitespace()) {
        let word = part.trim_matches(|c: char| !c.is_alphanumeric()).to_lowercase();
        if counts(&word) {
            run.push(word);
        } else {
            found.push(std::mem::take(&mut run));
        }
        if part.trim_end().ends_with([',', ';', ':', '.', '!', '?', ')']) {
            found.push(std::mem::take(&mut run));
        }
    }
    found.push(run);
    found.retain(|run| (1..=PHRASE_WORDS).contains(&run.len()));
    found
}

fn counts(word: &str) -> bool {
    word.chars().count() > 2
        && !word.starts_with(|c: char| c.is_ascii_digit())
        && !STOP_WORDS.contains(&format!(" {word} "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text() -> Vec<String> {
        [
            "A desk lamp with a turned oak foot.",
            "The switch is in the cable.",
            "The oak foot is heavy.",
        ]
        .map(str::to_owned)
        .to_vec()
    }

    #[test]
    fn phrases_stand_between_stop_words() {
        let found: Vec<String> = ranked(&text()).into_iter().map(|phrase| phrase.text).collect();
        assert_eq!(found[..3], ["turned oak foot", "oak foot", "desk lamp"]);
        assert!(
            !found.iter().any(|phrase| phrase.contains("with") || phrase.contains("the")),
            "{found:?}"
        );
    }

    #[test]
    fn the_best_sentences_keep_their_order() {
        let text = text();
        assert_eq!(best_sentences(&text, &ranked(&text), 2), [text[0].clone(), text[2].clone()]);
        assert_eq!(best_sentences(&text, &ranked(&text), 9), text);
    }

    #[test]
    fn nothing_gives_nothing() {
        assert!(ranked(&[]).is_empty());
        assert!(best_sentences(&[], &[], 2).is_empty());
    }
}
