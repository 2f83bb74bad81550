//! Values of the pipeline language: what each is in Rust, how it is read from JSON, and what of it is written.
//!
//! | in YAML | in Rust |
//! |---|---|
//! | `string`, `integer`, `number`, `boolean` | `String`, `i64`, `f64`, `bool` |
//! | `timestamp`, `duration`, `json` | [`Timestamp`], [`Duration`], [`Json`] |
//! | `T?`, `T[]`, `map<T>` | `Option<T>`, `Vec<T>`, `BTreeMap<String, T>` |
//! | records and enums | generated structs and enums, with the derives of `crux_macros` |
//!
//! A program has thousands of record types. Serde's derives would make code for each of them that is generic over formats, is made again
//! for every format, and needs a second pass under another deserializer to learn the path of a wrong field. Here a record has one small
//! function for reading and one for showing, and all the rest is shared: hundreds of pipelines build in a fraction of the time.

mod duration;
mod opaque;
mod read;
mod show;

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::value::RawValue;

pub use duration::{Duration, NotADuration};
pub use jiff::Timestamp;
pub use opaque::Json;
pub use read::{Field, Misfit, deserialize, fields, word};
pub use show::{Parts, ValueRef};

/// A value of the pipeline language.
pub trait Value {
    /// Reads it from its JSON. The error says where in it something does not fit.
    fn read(json: &RawValue) -> Result<Self, Misfit>
    where
        Self: Sized;

    /// As it is written.
    fn show(&self) -> ValueRef<'_>;

    /// What a record has where the field is absent; `None`: it must be there.
    fn absent() -> Option<Self>
    where
        Self: Sized,
    {
        None
    }
}

/// A value that serde knows, and how it is shown.
macro_rules! leaf {
    ($($type:ty: $value:ident => $show:expr;)*) => {
        $(impl Value for $type {
            fn read(json: &RawValue) -> Result<Self, Misfit> {
                read::leaf(json)
            }

            fn show(&self) -> ValueRef<'_> {
                let $value = self;
                $show
            }
        })*
    };
}

leaf! {
    String: value => ValueRef::Text(value);
    i64: value => ValueRef::Integer(*value);
    f64: value => ValueRef::Number(*value);
    bool: value => ValueRef::Boolean(*value);
    Timestamp: value => ValueRef::Displayed(value);
    Duration: value => ValueRef::Displayed(value);
}

impl Value for Json {
    fn read(json: &RawValue) -> Result<Self, Misfit> {
        Self::keep(json.to_owned()).ok_or_else(|| Misfit::new("must not be null"))
    }

    fn show(&self) -> ValueRef<'_> {
        ValueRef::Json(self.raw())
    }
}

/// Of steps without a result.
impl Value for () {
    fn read(json: &RawValue) -> Result<Self, Misfit> {
        read::leaf(json)
    }

    fn show(&self) -> ValueRef<'_> {
        ValueRef::Null
    }
}

impl<T: Value> Value for Option<T> {
    fn read(json: &RawValue) -> Result<Self, Misfit> {
        if json.get() == "null" { Ok(None) } else { T::read(json).map(Some) }
    }

    fn show(&self) -> ValueRef<'_> {
        self.as_ref().map_or(ValueRef::Null, Value::show)
    }

    fn absent() -> Option<Self> {
        Some(None)
    }
}

/// A result that several steps read.
impl<T: Value> Value for Arc<T> {
    fn read(json: &RawValue) -> Result<Self, Misfit> {
        T::read(json).map(Self::new)
    }

    fn show(&self) -> ValueRef<'_> {
        (**self).show()
    }
}

impl<T: Value> Value for Vec<T> {
    fn read(json: &RawValue) -> Result<Self, Misfit> {
        let elements = read::elements(json)?;
        let mut list = Self::with_capacity(elements.len());
        for (index, element) in elements.into_iter().enumerate() {
            list.push(T::read(element).map_err(|misfit| misfit.at(index))?);
        }
        Ok(list)
    }

    fn show(&self) -> ValueRef<'_> {
        ValueRef::List(self)
    }
}

impl<T: Value> Parts for Vec<T> {
    fn each(&self, visit: &mut dyn FnMut(&str, ValueRef<'_>)) {
        self.iter().for_each(|element| visit("", element.show()));
    }
}

impl<T: Value> Value for BTreeMap<String, T> {
    fn read(json: &RawValue) -> Result<Self, Misfit> {
        let mut map = Self::new();
        for (key, value) in read::entries(json)? {
            let value = T::read(value).map_err(|misfit| misfit.within(&key))?;
            map.insert(key, value);
        }
        Ok(map)
    }

    fn show(&self) -> ValueRef<'_> {
        ValueRef::Map(self)
    }
}

impl<T: Value> Parts for BTreeMap<String, T> {
    fn each(&self, visit: &mut dyn FnMut(&str, ValueRef<'_>)) {
        self.iter().for_each(|(key, value)| visit(key, value.show()));
    }
}
