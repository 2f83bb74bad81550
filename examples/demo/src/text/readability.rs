//! How easy a text is to read, by Flesch's formula: long sentences and long words make it hard.

use super::words;

/// From 0, hard, to 100, easy, with one decimal; 100 for no text at all.
pub fn flesch(sentences: &[String]) -> f64 {
    let words: Vec<&str> = sentences.iter().flat_map(|sentence| words(sentence)).collect();
    if words.is_empty() {
        return 100.0;
    }
    let per_sentence = words.len() as f64 / sentences.len() as f64;
    let per_word =
        words.iter().map(|word| syllables(word)).sum::<usize>() as f64 / words.len() as f64;
    let ease: f64 = 206.835 - 1.015 * per_sentence - 84.6 * per_word;
    (ease.clamp(0.0, 100.0) * 10.0).round() / 10.0
}

/// Groups of vowels, without a silent `e` at the end: right for nine of ten English words.
fn syllables(word: &str) -> usize {
    let word = word.to_lowercase();
    let is_vowel = |c: char| matches!(c, 'a' | 'e' | 'i' | 'o' | 'u' | 'y');
    let mut groups = 0;
    let mut in_group = false;
    for c in word.chars() {
        groups += usize::from(is_vowel(c) && !in_group);
        in_group = is_vowel(c);
    }
    let silent = word.ends_with('e') && !word.ends_with("le") && !word.ends_with("ee");
    (groups - usize::from(silent && groups > 1)).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn syllables_are_counted() {
        for (word, count) in [
            ("lamp", 1),
            ("shade", 1),
            ("table", 2),
            ("walnut", 2),
            ("stationery", 4),
            ("40", 1),
            ("the", 1),
        ] {
            assert_eq!(syllables(word), count, "{word}");
        }
    }

    #[test]
    fn short_words_read_easily() {
        let easy = flesch(&["The cat sat on the mat.".to_owned()]);
        let hard = flesch(&[
            "Administrative considerations necessitate comprehensive organisational reorientation."
                .to_owned(),
        ]);
        assert_eq!(easy, 100.0);
        assert_eq!(hard, 0.0);
        assert_eq!(
            flesch(&["A brass ring on a walnut cabinet reflects very little.".to_owned()]),
            61.3
        );
        assert_eq!(flesch(&[]), 100.0);
    }
}
