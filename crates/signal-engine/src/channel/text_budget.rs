//! Names and attributes: how much of the channel's budget each may take (ATT-6), and that they say nothing for members
//! without the right `message` (ATT-7). Comes in: present and wanted texts of a member. Goes out: whether it may have
//! them. Deliberately absent: the events that contain them.
//!
//! Broadcasters are in every snapshot and have the budget of the channel. The audience is invisible: it has a budget of
//! its own, so that it takes nothing from broadcasters. The channel's own attributes count for neither.

use std::collections::BTreeMap;

use lianmai_protocol::attributes::json_bytes;
use lianmai_protocol::limits::MAX_NAME_BYTES;
use lianmai_protocol::{Attributes, ErrorName, RpcError, UserId};
use lianmai_shares::Share;

use super::member::Member;
use crate::context::Context;

/// Share of one member in the rest of a budget; at least a usual name.
const SHARE: Share = Share::of(1, 16).at_least(MAX_NAME_BYTES + 3);
/// Most bytes of remembered texts of members that are no longer visible.
const MAX_HIDDEN_BYTES: usize = 64 * 1024;
/// Bytes that each of them costs besides its texts.
const HIDDEN_COST: usize = 64;

/// A name and attributes.
pub(super) type Texts = (Option<Box<str>>, Attributes);

/// The bytes that the members of a channel take.
#[derive(Debug, Default)]
pub(super) struct TextBudget {
    /// Bytes of broadcasters, and of the audience.
    bytes: [usize; 2],
    /// Last visible texts of members that are no longer visible and have no right `message`, with a number that grows.
    hidden: BTreeMap<UserId, (u64, Texts)>,
    hidden_bytes: usize,
    hidden_last: u64,
}

/// The bytes that a member takes, and whether as a broadcaster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TextUsage {
    pub(super) visible: bool,
    pub(super) bytes: usize,
}

impl TextUsage {
    pub(super) fn of(member: &Member) -> Self {
        TextUsage { visible: member.is_visible(), bytes: member.text_bytes() }
    }
}

fn cost((name, attributes): &Texts) -> usize {
    HIDDEN_COST + text_bytes(name.as_deref(), attributes)
}

/// Bytes of a name and attributes in a snapshot.
pub(crate) fn text_bytes(name: Option<&str>, attributes: &Attributes) -> usize {
    name.map_or(0, json_bytes) + attributes.bytes()
}

impl TextBudget {
    fn pool(&mut self, of: TextUsage) -> &mut usize {
        &mut self.bytes[usize::from(!of.visible)]
    }

    /// Whether `new` may replace `old`. A change that takes no more of the same budget always may.
    pub(super) fn check(
        &self,
        cx: &Context,
        old: Option<TextUsage>,
        new: TextUsage,
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

    pub(super) fn add(&mut self, new: TextUsage) {
        *self.pool(new) += new.bytes;
    }

    pub(super) fn remove(&mut self, old: TextUsage) {
        *self.pool(old) -= old.bytes;
    }

    /// A member is no longer visible. Without the right `message` it keeps its texts for its return, since a new name
    /// would be a message. For other members nothing is kept, and texts from before are forgotten.
    pub(super) fn keep_hidden_texts(&mut self, member: &Member) {
        if !member.is_visible() {
            return;
        }
        self.forget(member.uid);
        if member.rights.message {
            return;
        }
        let texts = (member.name.clone(), member.attributes.clone());
        self.hidden_bytes += cost(&texts);
        self.hidden_last += 1;
        self.hidden.insert(member.uid, (self.hidden_last, texts));
        while self.hidden_bytes > MAX_HIDDEN_BYTES
            && let Some(uid) = self.oldest_hidden()
        {
            self.forget(uid);
        }
    }

    fn oldest_hidden(&self) -> Option<UserId> {
        self.hidden.iter().min_by_key(|(_, (number, _))| *number).map(|(uid, _)| *uid)
    }

    fn forget(&mut self, uid: UserId) {
        if let Some((_, texts)) = self.hidden.remove(&uid) {
            self.hidden_bytes -= cost(&texts);
        }
    }

    /// The name and attributes of a uid that joins with `texts`: these, or its last visible ones if it may not send
    /// messages.
    pub(super) fn texts(&self, uid: UserId, may_speak: bool, texts: Texts) -> Texts {
        let hidden = self.hidden.get(&uid).filter(|_| !may_speak);
        hidden.map_or(texts, |(_, shown)| shown.clone())
    }
}
