//! Numbers that people read out on the telephone: with two check digits at the end (ISO 7064, MOD
//! 97-10, as in bank accounts), so that one wrong or two swapped characters are noticed.

/// `prefix-text-NN`. Only letters and digits count for the check digits.
pub(super) fn with_check_digits(prefix: &str, text: &str) -> String {
    format!("{prefix}-{text}-{:02}", 98 - remainder(&format!("{prefix}{text}00")))
}

/// Of the number that a text is if each letter is read as two digits, from a = 10 to z = 35,
/// divided by 97.
fn remainder(text: &str) -> u32 {
    let values = text.chars().filter_map(|c| c.to_digit(36));
    values.fold(0, |rest, value| (rest * if value < 10 { 10 } else { 100 } + value) % 97)
}

#[cfg(test)]
mod tests {
    use super::{remainder, with_check_digits};

    #[test]
    fn a_number_with_its_check_digits_leaves_1() {
        // The example of every page about IBANs: GB82 WEST 1234 5698 7654 32, with land and check
        // digits at the end.
        assert_eq!(remainder("WEST12345698765432GB82"), 1);
        for order in ["ORD-1234567", "7", "ÄÖ-1"] {
            assert_eq!(remainder(&with_check_digits("C", order)), 1, "{order}");
        }
    }

    #[test]
    fn a_wrong_character_and_two_swapped_ones_are_noticed() {
        let number = with_check_digits("C", "ORD-1234567");
        let (_, digits) = number.rsplit_once('-').expect("check digits");
        for other in ["ORD-1234568", "ORD-1235467", "ORE-1234567", "ODR-1234567"] {
            assert_ne!(remainder(&format!("C-{other}-{digits}")), 1, "{other}");
        }
    }
}
