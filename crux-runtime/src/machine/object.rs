//! Records are JSON objects and nothing else. Serde's derive would read a record from an array too, by the order of its fields: a value
//! that no pipeline means, whose fields would change places with the next edit.

use serde::de::{Deserializer, Visitor};
use serde::forward_to_deserialize_any;

/// Where a generated record is read from: its derived code asks for a struct, and gets it from an object only.
#[derive(Debug)]
pub struct OnlyObject<D>(pub D);

impl<'de, D: Deserializer<'de>> Deserializer<'de> for OnlyObject<D> {
    type Error = D::Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
        self.0.deserialize_map(visitor)
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit unit_struct newtype_struct seq
        tuple tuple_struct map struct enum identifier ignored_any
    }
}
