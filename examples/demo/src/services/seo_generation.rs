//! The service for what search engines read: a title that is not cut off, a description of a good
//! length, an address and keywords.

use serde::{Deserialize, Serialize};

use super::Refused;

/// What result pages show of a title and of a description, in characters.
const TITLE: usize = 60;
const META: usize = 155;

/// Long addresses are cut at a word.
const SLUG: usize = 60;

#[derive(Debug, Deserialize)]
pub struct Input {
    name: String,
    category: String,
    price: f64,
    description: String,
    keywords: Vec<String>,
}

#[derive(Debug, Serialize)]
pub struct Output {
    pub title: String,
    pub meta_description: String,
    pub keywords: Vec<String>,
    pub slug: String,
}

pub fn generate(_workflow_id: &str, input: Input) -> Result<Output, Refused> {
    let slug = slug(&input.name);
    if slug.is_empty() {
        return Err(Refused::new(
            "InvalidInput",
            format!("no address can be made of the name `{}`", input.name),
        ));
    }
    let price = format!(" From {:.2}.", input.price);
    let text = shorten(&input.description, META.saturating_sub(price.chars().count()));
    Ok(Output {
        title: title(&input.name, &input.category),
        meta_description: text + &price,
        keywords: phrases(input.keywords),
        slug,
    })
}

/// `Name | Category`, the name alone where both are too long.
fn title(name: &str, category: &str) -> String {
    let both = format!("{name} | {category}");
    if !category.is_empty() && both.chars().count() <= TITLE { both } else { shorten(name, TITLE) }
}

/// At most `limit` characters: whole sentences if half of it can be filled with them, else cut at a
/// word.
fn shorten(text: &str, limit: usize) -> String {
    if text.chars().count() <= limit {
        return text.to_owned();
    }
    let head: String = text.chars().take(limit).collect();
    if let Some((whole, _)) = head.rsplit_once(". ")
        && whole.chars().count() >= limit / 2
    {
        return format!("{whole}.");
    }
    let head: String = text.chars().take(limit.saturating_sub(1)).collect();
    let whole_words = head.rsplit_once(' ').map_or(head.as_str(), |(words, _)| words);
    format!("{}…", whole_words.trim_end_matches([',', ':', ';', '.', ' ']))
}

/// The parts of a shop's address: lower-case ASCII letters and digits, hyphens between.
fn slug(name: &str) -> String {
    let mut slug = String::new();
    for c in name.chars().flat_map(char::to_lowercase) {
        match plain(c) {
            Some(letters) => slug.push_str(letters),
            None if c.is_ascii_alphanumeric() => slug.push(c),
            None if c == '\'' || c == '’' => {}
            None if !slug.is_empty() && !slug.ends_with('-') => slug.push('-'),
            None => {}
        }
    }
    let slug = slug.trim_end_matches('-');
    if slug.len() <= SLUG {
        return slug.to_owned();
    }
    let head: String = slug.chars().take(SLUG).collect();
    head.rsplit_once('-').map_or(head.as_str(), |(words, _)| words).to_owned()
}

/// Letters that have a usual spelling without accents.
fn plain(c: char) -> Option<&'static str> {
    Some(match c {
        'à' | 'á' | 'â' | 'ã' | 'å' => "a",
        'ç' => "c",
        'è' | 'é' | 'ê' | 'ë' => "e",
        'ì' | 'í' | 'î' | 'ï' => "i",
        'ñ' => "n",
        'ò' | 'ó' | 'ô' | 'õ' => "o",
        'ù' | 'ú' | 'û' => "u",
        'ä' | 'æ' => "ae",
        'ö' | 'ø' | 'œ' => "oe",
        'ü' => "ue",
        'ß' => "ss",
        _ => return None,
    })
}

/// Without those that another one contains: `oak desk lamp` makes `lamp` needless.
fn phrases(keywords: Vec<String>) -> Vec<String> {
    let within =
        |short: &str, long: &str| short != long && long.split(' ').any(|word| word == short);
    keywords
        .iter()
        .filter(|keyword| !keywords.iter().any(|other| within(keyword, other)))
        .cloned()
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_plain() {
        assert_eq!(slug("Oak Desk Lamp"), "oak-desk-lamp");
        assert_eq!(slug("  Café «Größe» 50% — it's new! "), "cafe-groesse-50-its-new");
        assert_eq!(slug("寿司"), "");
        let long = slug(&"seven words ".repeat(20));
        assert!(long.len() <= SLUG && !long.ends_with('-') && long.ends_with("words"), "{long}");
    }

    #[test]
    fn titles_and_descriptions_are_not_cut_off_in_a_word() {
        assert_eq!(title("Oak Desk Lamp", "Lighting"), "Oak Desk Lamp | Lighting");
        assert_eq!(title(&"very ".repeat(20), "Lighting").chars().count(), 55);
        assert_eq!(shorten("One two three four.", 12), "One two…");
        assert_eq!(shorten("It is here. It is long, and longer than wanted.", 20), "It is here.");
        assert_eq!(shorten("ééééé ééééé", 8), "ééééé…");
    }

    #[test]
    fn a_product_gets_all_four() {
        let input = Input {
            name: "Harbour Mug".into(),
            category: "Kitchen".into(),
            price: 18.5,
            description: "Stoneware mug, thrown by hand.".into(),
            keywords: vec!["harbour mug".into(), "mug".into(), "kitchen".into()],
        };
        let output = generate("id", input).expect("generated");
        assert_eq!(output.slug, "harbour-mug");
        assert_eq!(output.meta_description, "Stoneware mug, thrown by hand. From 18.50.");
        assert_eq!(output.keywords, ["harbour mug", "kitchen"]);
    }

    #[test]
    fn a_name_without_letters_is_refused() {
        let input = Input {
            name: "!!!".into(),
            category: String::new(),
            price: 1.0,
            description: String::new(),
            keywords: vec![],
        };
        assert_eq!(generate("id", input).expect_err("refused").name, "InvalidInput");
    }
}
