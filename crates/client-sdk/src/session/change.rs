//! The steps of a picture. Comes in: an event, an answer, a snapshot. Goes out: the same picture one step
//! later, wherever a copy of it is kept. Deliberately absent: what an event does to it (`picture.rs`).

use crate::prelude::*;
use lianmai_protocol::Map;
use lianmai_protocol::message::ChannelEvent;
use lianmai_protocol::{
    ChannelName, Cid, Epoch, Gen, KindSet, MediaKind, Mid, MonoTime, Rights, UserId,
};

use super::picture::{Own, Picture, set_muted};

/// What a new snapshot says and no event does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CaughtUp {
    /// The incarnation of the channel.
    pub cid: Cid,
    /// Its name.
    pub channel: ChannelName,
    /// Who made it.
    pub creator: UserId,
    /// The log that the picture follows now.
    pub epoch: Epoch,
    /// The last event that is in it.
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
    /// What a new snapshot shows to be different, told as the event that would have made it so; its log
    /// and number play no part.
    WhileAway(ChannelEvent),
    /// The app has another membership from here on.
    Reentered(Mid),
    /// The last step to a new snapshot: where it stands, and what no event tells.
    CaughtUp(Box<CaughtUp>),
    /// The number of members.
    MemberCount(u64),
    /// An answer of `publish`: these kinds travel on that push URL.
    Generation {
        /// The kinds.
        kinds: KindSet,
        /// The life of the URL.
        generation: Gen,
    },
    /// An answer of `subscribe`.
    Subscribed {
        /// Whose media.
        uid: UserId,
        /// Which kind.
        media_type: MediaKind,
    },
    /// An answer of `unsubscribe`.
    Unsubscribed {
        /// Whose media.
        uid: UserId,
        /// Which kind.
        media_type: MediaKind,
    },
    /// An answer of `mute` or `unmute` of an audience member, which makes no event.
    OwnMuted {
        /// The kinds.
        kinds: KindSet,
        /// Muted or not.
        muted: bool,
    },
    /// An answer of `setAttributes` of an audience member, which makes no event.
    OwnAttributes {
        /// Keys set and removed.
        patch: Map<String, Option<String>>,
        /// A new name.
        name: Option<String>,
    },
    /// When the token ends the membership now.
    TokenExpiry(MonoTime),
    /// An answer of `renewToken`. Subscriptions that the new token does not allow have ended.
    TokenRenewed {
        /// What it grants.
        rights: Rights,
        /// When it ends the membership, if it does.
        expires_at: Option<MonoTime>,
    },
    /// The channel was left, in whatever way.
    Ended,
}

impl Change {
    /// Applies the change to a picture; `None` stands for not being in a channel.
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
