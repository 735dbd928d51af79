//! Names and attributes: how much of the channel's budget each may take (ATT-6), and that they say nothing for those who
//! may not speak (ATT-7). Comes in: what a member has and wants. Goes out: whether it may. Deliberately absent: the
//! events that tell it.
//!
//! Broadcasters are in every snapshot and have the budget of the channel. Nobody sees the audience: it has one of its own,
//! so that it takes nothing from them. The channel's own attributes count for neither.

use std::collections::BTreeMap;

use lianmai_protocol::attributes::json_bytes;
use lianmai_protocol::limits::MAX_NAME_BYTES;
use lianmai_protocol::{Attributes, ErrorName, RpcError, UserId};
use lianmai_shares::Share;

use super::member::Member;
use crate::context::Context;
use crate::key;

/// Of what is left of a budget, one member may take this part, and a usual name in any case.
const SHARE: Share = Share::of(1, 16).at_least(MAX_NAME_BYTES + 3);
/// Most members without the right to speak whose names are remembered behind them.
const MAX_SILENT: usize = 1_024;

/// What the members of a channel take.
#[derive(Debug, Default)]
pub(super) struct Told {
    /// Bytes of broadcasters, and of the audience.
    bytes: [usize; 2],
    /// What others have seen of those who left and may not speak, as a hash.
    silent: BTreeMap<UserId, u64>,
}

/// What somebody takes: as a broadcaster or not, and how much.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Taken {
    pub(super) visible: bool,
    pub(super) bytes: usize,
}

impl Taken {
    pub(super) fn of(member: &Member) -> Self {
        Taken { visible: member.is_visible(), bytes: member.told_bytes() }
    }
}

/// Of a text as others see it.
fn hash(name: Option<&str>, attributes: &Attributes) -> u64 {
    let entries = attributes.0.iter().flat_map(|(key, value)| [key.as_str(), value.as_str()]);
    let texts = name.into_iter().chain(entries);
    key::hash(texts.flat_map(|text| text.bytes().chain([0xff])))
}

/// Bytes of a name and attributes in a snapshot.
pub(crate) fn told_bytes(name: Option<&str>, attributes: &Attributes) -> usize {
    name.map_or(0, json_bytes) + attributes.bytes()
}

impl Told {
    fn pool(&mut self, of: Taken) -> &mut usize {
        &mut self.bytes[usize::from(!of.visible)]
    }

    /// Whether `new` may take the place of `old`. What takes no more there than before always may.
    pub(super) fn check(
        &self,
        cx: &Context,
        old: Option<Taken>,
        new: Taken,
    ) -> Result<(), RpcError> {
        let before = old.filter(|old| old.visible == new.visible).map_or(0, |old| old.bytes);
        let others = self.bytes[usize::from(!new.visible)] - before;
        let left = cx.config.limits.channel_attribute_bytes.saturating_sub(others);
        if new.bytes > before && new.bytes > SHARE.room(left, 0) {
            return Err(RpcError::new(ErrorName::AttributesTooLarge)
                .message("The names and attributes of the channel leave no room for so much."));
        }
        Ok(())
    }

    pub(super) fn add(&mut self, new: Taken) {
        *self.pool(new) += new.bytes;
    }

    pub(super) fn remove(&mut self, old: Taken) {
        *self.pool(old) -= old.bytes;
    }

    /// A member has gone: who may not speak comes back with the same name and attributes, or it would say something by
    /// them.
    pub(super) fn gone(&mut self, member: &Member) {
        if member.rights.message || !member.is_visible() {
            return;
        }
        if self.silent.len() >= MAX_SILENT {
            self.silent.pop_first();
        }
        self.silent.insert(member.uid, hash(member.name.as_deref(), &member.attributes));
    }

    /// Whether a uid that may not speak was seen with another name or other attributes.
    pub(super) fn says_something(
        &self,
        uid: UserId,
        name: Option<&str>,
        attributes: &Attributes,
    ) -> bool {
        self.silent.get(&uid).is_some_and(|seen| *seen != hash(name, attributes))
    }
}
