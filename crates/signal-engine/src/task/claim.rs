//! Claims of push addresses. Comes in: the normal form of an address, the task that wants it. Goes out: the key of the
//! claim, and the values that travel between the channel of a task and the engine that keeps the claim (ADR 0041). The
//! key alone selects that engine, so it may be of another shard or node. Deliberately absent: the rules
//! (`engine/claims.rs`).

use std::fmt;
use std::fmt::Write as _;

use lianmai_protocol::{Appkey, ChannelName, TaskId};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::key::ChannelKey;

/// Rows of claims have this appkey, and the key as channel name. They differ from the rows of any channel, even of an
/// app with this appkey, by their kind.
const APPKEY: &str = "-";

/// Bytes of a key: enough that nobody can find two places with the same key.
const BYTES: usize = 20;

/// A hash of a place, since the place itself contains a secret.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ClaimKey([u8; BYTES]);

impl ClaimKey {
    /// The key of a place in its normal form.
    pub(super) fn of_place(place: &[u8]) -> ClaimKey {
        let mut key = [0; BYTES];
        key.copy_from_slice(&Sha256::digest(place)[..BYTES]);
        ClaimKey(key)
    }

    /// The name under which the claim is stored; its [`ChannelKey::route`] selects the engine that keeps it.
    ///
    /// # Panics
    /// Never: letters and digits make a name.
    #[must_use]
    pub fn name(self) -> ChannelKey {
        ChannelKey {
            appkey: APPKEY.parse().expect("a mark that an appkey may have"),
            name: self.to_string().parse().expect("40 digits are a name"),
        }
    }

    /// Reads what [`ClaimKey::name`] wrote; `None` for every other name.
    #[must_use]
    pub fn of_name(name: &ChannelKey) -> Option<ClaimKey> {
        let text = name.name.as_str();
        if name.appkey.as_str() != APPKEY || text.len() != 2 * BYTES || !text.is_ascii() {
            return None;
        }
        let mut key = [0; BYTES];
        for (at, byte) in key.iter_mut().enumerate() {
            *byte = u8::from_str_radix(&text[2 * at..2 * at + 2], 16).ok()?;
        }
        let key = ClaimKey(key);
        (key.to_string() == text).then_some(key)
    }
}

impl fmt::Display for ClaimKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = String::with_capacity(2 * BYTES);
        for byte in self.0 {
            write!(text, "{byte:02x}")?;
        }
        f.write_str(&text)
    }
}

impl fmt::Debug for ClaimKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ClaimKey({self})")
    }
}

/// The holder of a claim: one life of one task.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holder {
    /// The app of its channel.
    pub appkey: Appkey,
    /// The channel.
    pub channel: ChannelName,
    /// The task.
    pub task: TaskId,
    /// Its life; a later task with the same id has another one.
    pub life: u64,
}

/// A claim of a place. If its holder repeats it, nothing changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    /// The place.
    pub key: ClaimKey,
    /// The task that wants it.
    pub holder: Holder,
}

/// The answer to a [`Claim`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Claimed {
    /// The holder has it, and that is stored.
    Granted,
    /// Another task holds it, or it rests.
    Busy {
        /// Milliseconds until it is free; `None` while a task holds it.
        retry_after_ms: Option<u64>,
    },
    /// The claim cannot be decided: too many claims, a disk that fails, a server that stops.
    Unavailable,
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Proves no rule of the protocol: names of claims.
    #[test]
    fn a_key_is_read_as_it_was_written_and_in_no_other_spelling() {
        let key = ClaimKey::of_place(b"a place");
        assert_eq!(ClaimKey::of_name(&key.name()), Some(key));
        let name = |appkey: &str, name: &str| ChannelKey {
            appkey: appkey.parse().unwrap(),
            name: name.parse().unwrap(),
        };
        let text = key.to_string();
        for other in [
            name("demo", &text),
            name("-", &text[2..]),
            name("-", &text.to_uppercase()),
            name("-", &"+1".repeat(BYTES)),
        ] {
            assert_eq!(ClaimKey::of_name(&other), None, "{other:?}");
        }
    }
}
