//! From a text as people type it into a form to clean sentences: blanks and punctuation in order,
//! no shouting, no sales cries, no sentence twice.

use super::words;

/// A short sentence that begins so says nothing about the product.
const CRIES: [&str; 8] = [
    "buy now",
    "best price",
    "click here",
    "order now",
    "order today",
    "limited offer",
    "hurry",
    "do not miss",
];

/// Longer ones are kept, whatever they begin with.
const CRY_WORDS: usize = 5;

/// Words of so many capitals are shouted; shorter ones are names like LED or USB.
const SHOUTED_LETTERS: usize = 4;

/// Each ends with a full stop or a question mark.
pub fn sentences(text: &str) -> Vec<String> {
    let mut clean: Vec<String> = Vec::new();
    for raw in split(&even(text)) {
        let sentence = finish(&quiet(&raw));
        let is_new =
            |sentence: &String| clean.iter().all(|before| !before.eq_ignore_ascii_case(sentence));
        if words(&sentence).next().is_some() && !is_cry(&sentence) && is_new(&sentence) {
            clean.push(sentence);
        }
    }
    clean
}

/// One blank between words, none before punctuation, one after a comma, one mark where there were
/// many.
fn even(text: &str) -> String {
    let mut even = String::with_capacity(text.len());
    for word in text.split_whitespace() {
        // Marks that stand before a word belong to the word before: `warm .Nice`; `.5` is a number.
        let body = word.trim_start_matches(is_mark);
        let marks = word
            .strip_suffix(body)
            .filter(|_| !body.starts_with(|c: char| c.is_ascii_digit()))
            .unwrap_or_default();
        push_even(&mut even, marks);
        let rest = word.strip_prefix(marks).unwrap_or(word);
        if !even.is_empty() && !rest.is_empty() {
            even.push(' ');
        }
        push_even(&mut even, rest);
    }
    even
}

fn push_even(even: &mut String, text: &str) {
    for c in text.chars() {
        let before = even.chars().last();
        if before == Some(',') && c.is_alphabetic() {
            even.push(' ');
        }
        if !(is_mark(c) && before.is_some_and(is_mark)) {
            even.push(c);
        }
    }
}

fn is_mark(c: char) -> bool {
    matches!(c, '.' | ',' | ';' | ':' | '!' | '?')
}

fn split(text: &str) -> Vec<String> {
    let mut sentences = vec![String::new()];
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        if let Some(sentence) = sentences.last_mut() {
            sentence.push(c);
        }
        if matches!(c, '.' | '!' | '?') && chars.peek().is_none_or(|next| next.is_whitespace()) {
            sentences.push(String::new());
        }
    }
    sentences
}

/// Shouted sentences and words in small letters.
fn quiet(sentence: &str) -> String {
    let capitals = |text: &str| text.chars().filter(|c| c.is_uppercase()).count();
    let letters = |text: &str| text.chars().filter(|c| c.is_alphabetic()).count();
    if words(sentence).count() >= 3 && capitals(sentence) * 10 > letters(sentence) * 6 {
        return sentence.trim().to_lowercase();
    }
    let quiet = |word: &str| {
        let shouted = letters(word) >= SHOUTED_LETTERS && capitals(word) == letters(word);
        if shouted { word.to_lowercase() } else { word.to_owned() }
    };
    sentence.split_whitespace().map(quiet).collect::<Vec<_>>().join(" ")
}

/// A capital first, a mark last.
fn finish(sentence: &str) -> String {
    let sentence = sentence.trim_end_matches(['!', '.', ',', ';', ':', ' ']);
    let mut chars = sentence.chars();
    let mut finished: String =
        chars.next().map(|first| first.to_uppercase().chain(chars).collect()).unwrap_or_default();
    if !finished.ends_with('?') {
        finished.push('.');
    }
    finished
}

fn is_cry(sentence: &str) -> bool {
    let lower = sentence.to_lowercase();
    words(sentence).count() <= CRY_WORDS && CRIES.iter().any(|cry| lower.starts_with(cry))
}

#[cfg(test)]
mod tests {
    use super::sentences;

    #[test]
    fn blanks_and_marks_are_put_in_order() {
        assert_eq!(
            sentences("a lamp,bright  and  warm .Nice"),
            ["A lamp, bright and warm.", "Nice."]
        );
        assert_eq!(sentences("Holds 1.5 litres !!! Light?!"), ["Holds 1.5 litres.", "Light?"]);
    }

    #[test]
    fn nobody_shouts_but_names_stay() {
        assert_eq!(
            sentences("A STURDY STOOL FOR YOU. ONLY with LED and USB."),
            ["A sturdy stool for you.", "Only with LED and USB."]
        );
    }

    #[test]
    fn cries_and_repetitions_go() {
        assert_eq!(
            sentences("BUY NOW!!! It is good. it is GOOD. Best price ever!"),
            ["It is good."]
        );
        assert_eq!(
            sentences("Order now and you will have it on Friday."),
            ["Order now and you will have it on Friday."]
        );
    }

    #[test]
    fn nothing_gives_nothing() {
        assert!(sentences("  \n ... !").is_empty());
    }
}
