//! Attribute maps of members and channels. They are ordered; a map in which a key occurs twice is refused when it is
//! read. Deliberately absent: limits of size, which the owner of a map checks.

use crate::prelude::*;
use core::fmt;
use core::marker::PhantomData;

use crate::Map;
use crate::limits::MAX_PATCH_KEYS;
use crate::wire::Wire;
use serde::de::{self, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Keys and values, in order of the keys, so that equal maps have the same encoding.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, Wire)]
#[serde(transparent)]
pub struct Attributes(#[serde(with = "unique_keys")] pub Map<String, String>);

/// Reads and writes maps with serde.
pub(crate) mod unique_keys {
    use super::*;

    /// Writes a map as an object, also if it is empty.
    pub(crate) fn serialize<S, V>(map: &Map<String, V>, serializer: S) -> Result<S::Ok, S::Error>
    where
        S: Serializer,
        V: Serialize,
    {
        serializer.collect_map(map)
    }

    /// Reads a map and refuses a key that occurs twice (FRM-3); serde would keep the last value. Reading stops with an
    /// error at the first entry beyond `MAX_PATCH_KEYS` (ATT-4), so the rest of a long map costs no time.
    pub(crate) fn deserialize<'de, D, V>(deserializer: D) -> Result<Map<String, V>, D::Error>
    where
        D: Deserializer<'de>,
        V: Deserialize<'de>,
    {
        deserializer.deserialize_map(Unique(PhantomData))
    }

    struct Unique<V>(PhantomData<V>);

    impl<'de, V: Deserialize<'de>> Visitor<'de> for Unique<V> {
        type Value = Map<String, V>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an object")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Self::Value, A::Error> {
            let mut map = Map::new();
            while let Some(key) = entries.next_key::<String>()? {
                if map.len() == MAX_PATCH_KEYS {
                    return Err(de::Error::custom("badAttributes: too many keys"));
                }
                let value = entries.next_value()?;
                if map.insert(key, value).is_some() {
                    return Err(de::Error::custom("a key comes twice"));
                }
            }
            Ok(map)
        }
    }
}

impl FromIterator<(String, String)> for Attributes {
    fn from_iter<I: IntoIterator<Item = (String, String)>>(entries: I) -> Self {
        Attributes(Map::from_iter(entries))
    }
}

impl core::ops::Index<&str> for Attributes {
    type Output = String;

    /// # Panics
    /// If there is no such key.
    fn index(&self, key: &str) -> &String {
        self.0.get(key).expect("the key is there")
    }
}

impl Attributes {
    /// Whether there is no key.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Bytes of all keys and values as JSON: what `attribute_bytes` limits.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.0.iter().map(|(key, value)| json_bytes(key) + json_bytes(value)).sum()
    }

    /// Applies a patch: a value sets its key, `None` removes it. Returns whether anything changed.
    pub fn apply(&mut self, patch: &Map<String, Option<String>>) -> bool {
        let mut changed = false;
        for (key, value) in patch {
            changed |= match value {
                Some(value) => self.0.insert(key.clone(), value.clone()).as_ref() != Some(value),
                None => self.0.remove(key).is_some(),
            };
        }
        changed
    }
}

/// Bytes of a text inside the quotes of a JSON string: control characters take six.
#[must_use]
pub fn escaped_bytes(text: &str) -> usize {
    let escaped = |byte: u8| match byte {
        b'"' | b'\\' | b'\n' | b'\r' | b'\t' | 0x08 | 0x0c => 2,
        0..=0x1f => 6,
        _ => 1,
    };
    text.bytes().map(escaped).sum()
}

/// Bytes of a text as a JSON string, including its quotes and one separator (`:` or `,`).
#[must_use]
pub fn json_bytes(text: &str) -> usize {
    escaped_bytes(text) + 3
}
