//! "Did you mean": the known name that is nearest to a misspelt one.

/// Longer names are not compared; the work is the product of both lengths.
const COMPARED_MAX: usize = 64;

/// The candidate that a misspelt name most probably meant: at most three of its letters differ, of
/// a short name fewer (a swap of adjacent letters counts once). Of equally near ones, the first.
pub fn nearest<'a>(name: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let chars: Vec<char> = name.chars().flat_map(char::to_lowercase).collect();
    if chars.is_empty() || chars.len() > COMPARED_MAX {
        return None;
    }
    let allowed = match chars.len() {
        0..=3 => 1,
        4..=7 => 2,
        _ => 3,
    };
    let mut best: Option<(usize, &str)> = None;
    for candidate in candidates {
        let other: Vec<char> = candidate.chars().flat_map(char::to_lowercase).collect();
        if candidate == name
            || other.len() > COMPARED_MAX
            || other.len().abs_diff(chars.len()) > allowed
        {
            continue;
        }
        let distance = distance(&chars, &other);
        if distance <= allowed
            && distance < other.len()
            && best.is_none_or(|(least, _)| distance < least)
        {
            best = Some((distance, candidate));
        }
    }
    best.map(|(_, candidate)| candidate)
}

/// Insertions, deletions, replacements and swaps of adjacent letters that lead from one to the
/// other.
fn distance(a: &[char], b: &[char]) -> usize {
    let mut before: Vec<usize> = Vec::new();
    let mut above: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.iter().enumerate() {
        let mut row = vec![i + 1];
        for (j, y) in b.iter().enumerate() {
            let mut least = (above[j] + usize::from(x != y)).min(above[j + 1] + 1).min(row[j] + 1);
            if i > 0 && j > 0 && *x == b[j - 1] && a[i - 1] == *y {
                least = least.min(before[j - 1] + 1);
            }
            row.push(least);
        }
        before = std::mem::replace(&mut above, row);
    }
    above.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::nearest;

    #[test]
    fn the_nearest_name_is_found_and_a_far_one_is_not() {
        let keys = ["retry", "timeout", "returns", "with", "when"];
        assert_eq!(nearest("retires", keys), Some("returns"));
        assert_eq!(nearest("rerty", keys), Some("retry"));
        assert_eq!(nearest("whit", keys), Some("with"));
        assert_eq!(nearest("return", keys), Some("returns"));
        assert_eq!(nearest("time_out", keys), Some("timeout"));
        assert_eq!(nearest("Timeout", keys), Some("timeout"));
        assert_eq!(nearest("xyz", keys), None);
        assert_eq!(nearest("a", ["b"]), None);
        assert_eq!(nearest("", keys), None);
    }
}
