//! The line and column of a setting in its file.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_saphyr::{Location, Spanned};

/// Line and column of the value of a dotted key, or of what is around it as far as the file has it.
pub(super) fn find(text: &str, key: &str) -> Option<Location> {
    let tree = serde_saphyr::from_str::<Spanned<Tree>>(text).ok()?;
    let mut at = &tree;
    for word in key.split('.') {
        // `origins[1]` is as good as `origins`.
        let word = word.split('[').next().unwrap_or(word);
        let Some(inner) = at.value.0.get(word) else { break };
        at = inner;
    }
    Some(at.referenced)
}

/// Keys and where their values stand; single values have none inside.
struct Tree(BTreeMap<String, Spanned<Tree>>);

impl<'de> Deserialize<'de> for Tree {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Places)
    }
}

struct Places;

impl<'de> Visitor<'de> for Places {
    type Value = Tree;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Tree, A::Error> {
        let mut tree = BTreeMap::new();
        while let Some((key, value)) = map.next_entry()? {
            tree.insert(key, value);
        }
        Ok(Tree(tree))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Tree, A::Error> {
        while list.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Tree(BTreeMap::new()))
    }

    fn visit_bool<E>(self, _: bool) -> Result<Tree, E> {
        Ok(Tree(BTreeMap::new()))
    }

    fn visit_i64<E>(self, _: i64) -> Result<Tree, E> {
        Ok(Tree(BTreeMap::new()))
    }

    fn visit_u64<E>(self, _: u64) -> Result<Tree, E> {
        Ok(Tree(BTreeMap::new()))
    }

    fn visit_f64<E>(self, _: f64) -> Result<Tree, E> {
        Ok(Tree(BTreeMap::new()))
    }

    fn visit_str<E>(self, _: &str) -> Result<Tree, E> {
        Ok(Tree(BTreeMap::new()))
    }

    fn visit_unit<E>(self) -> Result<Tree, E> {
        Ok(Tree(BTreeMap::new()))
    }
}
