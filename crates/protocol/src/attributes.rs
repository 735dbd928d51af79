//! Attribute maps of members and channels: small, ordered, and bounded when they are read.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Keys to values. Ordered, so that one state has one encoding.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Attributes(pub BTreeMap<String, String>);

impl Attributes {
    /// Whether there is no key.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Bytes of all keys and values: what `attribute_bytes` limits.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.0.iter().map(|(k, v)| k.len() + v.len()).sum()
    }

    /// Applies a patch: a value sets its key, `None` removes it. Returns whether anything changed.
    pub fn apply(&mut self, patch: &BTreeMap<String, Option<String>>) -> bool {
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
