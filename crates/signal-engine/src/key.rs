//! The key of a channel on a node, and the shard that owns it.

use std::ops::Bound;

use lianmai_protocol::{Appkey, ChannelName, UserId};

/// A channel of an app. Bans and holds are keyed by it, so they outlive an incarnation (KIC-2, CLS-2).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ChannelKey {
    /// The app.
    pub appkey: Appkey,
    /// The channel's name in the app.
    pub name: ChannelName,
}

impl ChannelKey {
    /// Where the channels of an app begin in a map by key: a space is the least character of a name (FRM-11).
    pub(crate) fn first_of(appkey: &Appkey) -> Bound<Self> {
        " ".parse::<ChannelName>().map_or(Bound::Unbounded, |name| {
            Bound::Included(ChannelKey { appkey: appkey.clone(), name })
        })
    }

    /// Routing value: the same for every process of one build, spread evenly. It travels inside stream
    /// names, so a shell can find the owner of a stream without asking.
    #[must_use]
    pub fn route(&self) -> u32 {
        let bytes = self.appkey.as_str().bytes().chain([0]).chain(self.name.as_str().bytes());
        (hash(bytes) >> 32) as u32
    }
}

/// A uid for a member that brings none, from 64 random or hashed bits: at least 2^32, above the uids of apps that fit
/// 32 bits.
pub(crate) fn given_uid(bits: u64) -> UserId {
    const LOW: u64 = 1 << 32;
    UserId(LOW + (bits >> 11) % ((1 << 53) - LOW))
}

/// A hash that is the same in every process; a client that makes two values collide harms only itself. FNV-1a with a
/// final mix (the avalanche step of MurmurHash3), both public domain.
pub(crate) fn hash(bytes: impl Iterator<Item = u8>) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for byte in bytes {
        hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    }
    hash ^= hash >> 33;
    hash.wrapping_mul(0xff51_afd7_ed55_8ccd)
}
