//! The steps by which a picture changes. In: an event, an answer, a snapshot. Out: the same picture one step later, for
//! every copy of it. Deliberately absent: the effect of an event (`picture.rs`).

use crate::prelude::*;
use lianmai_protocol::Map;
use lianmai_protocol::message::ChannelEvent;
use lianmai_protocol::{
    ChannelName, Cid, Epoch, Gen, KindSet, MediaKind, Mid, MonoTime, Rights, UserId,
};

use super::picture::{Own, Picture, set_muted};

/// The contents of a new snapshot that no event carries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CaughtUp {
    /// The incarnation of the channel.
    pub cid: Cid,
    /// Name of the channel.
    pub channel: ChannelName,
    /// The user that created the channel.
    pub creator: UserId,
    /// The log that the picture follows from now on.
    pub epoch: Epoch,
    /// Number of the last event in the snapshot.
    pub seq: u64,
    /// The app's own state: rights, generations, subscriptions.
    pub own: Own,
}

/// One step of the picture.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Change {
    /// A channel was entered.
    Entered(Box<Picture>),
    /// An event of the log.
    Event {
        /// Its number.
        seq: u64,
        /// The event.
        event: ChannelEvent,
    },
    /// A difference that a new snapshot shows, in the form of the event that would have caused it. Its log and number
    /// are meaningless.
    WhileAway(ChannelEvent),
    /// The app has a new membership from here on.
    Reentered(Mid),
    /// The last step to a new snapshot: its position in the log, and the state that no event carries.
    CaughtUp(Box<CaughtUp>),
    /// The number of members.
    MemberCount(u64),
    /// An answer to `publish`: these kinds use that push URL.
    Generation {
        /// The kinds.
        kinds: KindSet,
        /// The generation of the push URL.
        generation: Gen,
    },
    /// An answer to `subscribe`.
    Subscribed {
        /// The member.
        uid: UserId,
        /// The kind.
        media_type: MediaKind,
    },
    /// An answer to `unsubscribe`.
    Unsubscribed {
        /// The member.
        uid: UserId,
        /// The kind.
        media_type: MediaKind,
    },
    /// An answer to `mute` or `unmute` of an audience member, which causes no event.
    OwnMuted {
        /// The kinds.
        kinds: KindSet,
        /// `true` for `mute`, `false` for `unmute`.
        muted: bool,
    },
    /// An answer to `setAttributes` of an audience member, which causes no event.
    OwnAttributes {
        /// The changed keys; `None` removes a key.
        patch: Map<String, Option<String>>,
        /// The new name, if it changed.
        name: Option<String>,
    },
    /// The new time at which the token ends the membership.
    TokenExpiry(MonoTime),
    /// An answer to `renewToken`. Subscriptions that the new token does not allow have ended.
    TokenRenewed {
        /// The rights that the token grants.
        rights: Rights,
        /// The time at which it ends the membership; `None` if it never does.
        expires_at: Option<MonoTime>,
    },
    /// The membership ended, for any reason.
    Ended,
}

impl Change {
    /// Applies the change to a picture; `None` means that the app is in no channel.
    pub fn apply(&self, picture: &mut Option<Picture>) {
        match (self, picture) {
            (Change::Entered(entered), picture) => *picture = Some((**entered).clone()),
            (Change::Ended, picture) => *picture = None,
            (change, Some(picture)) => change.step(picture),
            (_, None) => {}
        }
    }

    /// Applies a change within a membership.
    pub(super) fn step(&self, picture: &mut Picture) {
        match self {
            Change::Event { seq, event } => {
                picture.seq = *seq;
                picture.fold(event);
            }
            Change::WhileAway(event) => picture.fold(event),
            Change::Reentered(mid) => picture.own.mid = *mid,
            Change::CaughtUp(rest) => rest.step(picture),
            Change::MemberCount(count) => picture.member_count = *count,
            Change::Generation { kinds, generation } => {
                for kind in kinds.iter() {
                    if let Some(own) = picture.own.published.get_mut(kind) {
                        own.generation = Some(*generation);
                    }
                }
            }
            Change::Subscribed { uid, media_type } => {
                let publication = picture.members.get(uid).and_then(|m| m.streams.get(media_type));
                if let Some(publication) = publication {
                    picture.own.subscriptions.insert((*uid, media_type.clone()), *publication);
                }
            }
            Change::Unsubscribed { uid, media_type } => {
                picture.own.subscriptions.remove(&(*uid, media_type.clone()));
            }
            Change::OwnMuted { kinds, muted } => set_muted(&mut picture.own.muted, *kinds, *muted),
            Change::OwnAttributes { patch, name } => {
                picture.own.attributes.apply(patch);
                if name.is_some() {
                    picture.own.name.clone_from(name);
                }
            }
            Change::TokenExpiry(at) => picture.own.token_expires_at = Some(*at),
            Change::TokenRenewed { rights, expires_at } => {
                picture.own.rights = *rights;
                picture.own.token_expires_at = *expires_at;
                picture.own.subscriptions.retain(|(_, kind), _| rights.subscribe.contains(kind));
            }
            Change::Entered(_) | Change::Ended => {}
        }
    }
}

impl CaughtUp {
    fn step(&self, picture: &mut Picture) {
        picture.cid = self.cid;
        picture.channel.clone_from(&self.channel);
        picture.creator = self.creator;
        picture.epoch = self.epoch;
        picture.seq = self.seq;
        picture.own = self.own.clone();
    }
}
