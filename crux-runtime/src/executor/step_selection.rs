//! Which step structs a process runs.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use serde::de::{Error as _, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::executor::manager::Error;
use crate::suggest::hint;

/// `all`, `none`, or the step types of some.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum StepSelection {
    #[default]
    All,
    None,
    Only(BTreeSet<String>),
}

impl StepSelection {
    pub fn takes(&self, step_type: &str) -> bool {
        match self {
            Self::All => true,
            Self::None => false,
            Self::Only(steps) => steps.contains(step_type),
        }
    }

    /// The error: it names a step type that is none of `known`.
    pub fn check<'a>(&self, known: impl Iterator<Item = &'a str> + Clone) -> Result<(), Error> {
        let Self::Only(steps) = self else { return Ok(()) };
        match steps.iter().find(|step| !known.clone().any(|known| known == *step)) {
            Some(unknown) => Err(Error::NotChosen(unknown.clone(), hint(unknown, known))),
            None => Ok(()),
        }
    }

    fn of<'a>(names: impl Iterator<Item = &'a str>) -> Result<Self, String> {
        let names: BTreeSet<String> = names.map(|name| name.trim().to_owned()).collect();
        if names.is_empty() || names.contains("") {
            return Err("expected `all`, `none`, or step types: `a,b`".to_owned());
        }
        if names.len() > 1
            && let Some(word) = ["all", "none"].into_iter().find(|word| names.contains(*word))
        {
            return Err(format!("`{word}` stands for itself, not beside step types"));
        }
        Ok(match names.first().map(String::as_str) {
            Some("all") => Self::All,
            Some("none") => Self::None,
            _ => Self::Only(names),
        })
    }
}

impl FromStr for StepSelection {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::of(text.split(','))
    }
}

impl fmt::Display for StepSelection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => f.write_str("all"),
            Self::None => f.write_str("none"),
            Self::Only(steps) => {
                f.write_str(&steps.iter().map(String::as_str).collect::<Vec<_>>().join(","))
            }
        }
    }
}

impl Serialize for StepSelection {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::All | Self::None => serializer.collect_str(self),
            Self::Only(steps) => serializer.collect_seq(steps),
        }
    }
}

impl<'de> Deserialize<'de> for StepSelection {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Words;

        impl<'de> Visitor<'de> for Words {
            type Value = StepSelection;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("`all`, `none`, or a list of step types")
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<StepSelection, E> {
                text.parse().map_err(E::custom)
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<StepSelection, A::Error> {
                let mut names = Vec::new();
                while let Some(name) = items.next_element::<String>()? {
                    names.push(name);
                }
                if names.is_empty() {
                    return Ok(StepSelection::None);
                }
                StepSelection::of(names.iter().map(String::as_str)).map_err(A::Error::custom)
            }
        }

        deserializer.deserialize_any(Words)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_a_word_or_names() {
        let only = |names: &[&str]| {
            StepSelection::Only(names.iter().map(|name| (*name).to_owned()).collect())
        };
        assert_eq!("all".parse(), Ok(StepSelection::All));
        assert_eq!("none".parse(), Ok(StepSelection::None));
        assert_eq!("b, a".parse(), Ok(only(&["a", "b"])));
        assert!(
            "a,,b".parse::<StepSelection>().is_err()
                && "".parse::<StepSelection>().is_err()
                && "all,a".parse::<StepSelection>().is_err()
        );
        let read = |json: &str| serde_json::from_str::<StepSelection>(json);
        assert_eq!(
            (read("\"all\"").unwrap(), read("[\"a\"]").unwrap(), read("[]").unwrap()),
            (StepSelection::All, only(&["a"]), StepSelection::None)
        );
        assert_eq!(serde_json::to_string(&only(&["a", "b"])).unwrap(), r#"["a","b"]"#);
        assert!(
            read("7")
                .unwrap_err()
                .to_string()
                .contains("expected `all`, `none`, or a list of step types")
        );
    }

    #[test]
    fn an_unknown_name_gets_a_suggestion() {
        let known = ["double", "wake_up"];
        let error = "doubel"
            .parse::<StepSelection>()
            .unwrap()
            .check(known.into_iter())
            .unwrap_err()
            .to_string();
        assert!(
            error.ends_with(
                "no step struct of this binary has the step type `doubel`; did you mean `double`?"
            ),
            "{error}"
        );
        assert!(
            "double,wake_up".parse::<StepSelection>().unwrap().check(known.into_iter()).is_ok()
        );
    }
}
