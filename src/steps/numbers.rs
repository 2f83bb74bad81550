//! Numbers that people read out on the telephone: with two check digits at the end (ISO 7064, MOD 97-10, as in bank accounts), so that
//! one wrong or two swapped characters are noticed.

/// `prefix-text-NN`. Only letters and digits count for the check digits.
pub(super) fn with_check_digits(prefix: &str, text: &str) -> String {
    let counted = prefix.chars().chain(text.chars()).filter_map(|c| c.to_digit(36));
    // A letter stands for two decimal digits: a = 10, z = 35.
    let remainder = counted.fold(0, |rest, value| (rest * if value < 10 { 10 } else { 100 } + value) % 97);
    format!("{prefix}-{text}-{:02}", 98 - remainder * 100 % 97)
}

#[cfg(test)]
mod tests {
    use super::with_check_digits;

    #[test]
    fn a_wrong_character_changes_the_check_digits() {
        assert_eq!(with_check_digits("C", "ORD-1234567"), "C-ORD-1234567-54");
        let digits = |text: &str| with_check_digits("C", text).split_off(text.len() + 3);
        for other in ["ORD-1234568", "ORD-1235467", "ORE-1234567", "ODR-1234567"] {
            assert_ne!(digits(other), digits("ORD-1234567"), "{other}");
        }
    }
}
