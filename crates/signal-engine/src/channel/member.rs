//! One membership: a uid in a channel, through its sockets. Plain state; the rules are in the siblings.

use std::collections::VecDeque;

use lianmai_protocol::attributes::json_bytes;
use lianmai_protocol::message::Request;
use lianmai_protocol::message::snapshot::{MemberInfo, StreamInfo};
use lianmai_protocol::{
    Attributes, Gen, KindSet, MediaKind, Mid, MonoTime, Pub, RequestId, Rights, Role, SessionId,
    UserId, WallTime,
};

use crate::input::{ConnId, MintId};
use crate::rate::Rate;

/// Push URLs that a member can have: audio and video share the first.
pub(crate) const SLOTS: usize = 3;

/// The push URL that carries a kind; `None` for an unknown kind.
pub(crate) fn slot_of(kind: &MediaKind) -> Option<usize> {
    match kind {
        MediaKind::Audio | MediaKind::Video => Some(0),
        MediaKind::ScreenShare => Some(1),
        MediaKind::SlaveAudio => Some(2),
        _ => None,
    }
}

/// Bytes of a name and attributes in a snapshot.
pub(crate) fn told_bytes(name: Option<&str>, attributes: &Attributes) -> usize {
    name.map_or(0, json_bytes) + attributes.bytes()
}

/// A command that waits for the outside; the session's later commands wait behind it (rule B9).
#[derive(Debug)]
pub(crate) struct Waiting {
    pub(crate) request: RequestId,
    pub(crate) on: WaitingOn,
    pub(crate) held: VecDeque<Request>,
}

#[derive(Clone, Debug)]
pub(crate) enum WaitingOn {
    /// `publish`: the push URL of a generation, which is new or `renewed`.
    Push { mint: MintId, generation: Gen, kinds: KindSet, renewed: bool },
    /// `subscribe`: the pull URL of a publication.
    Pull { mint: MintId, generation: Gen, publisher: UserId, kind: MediaKind, publication: Pub },
    /// `renewToken`: what the new token grants.
    Token,
}

#[derive(Debug)]
pub(crate) struct Member {
    pub(crate) uid: UserId,
    pub(crate) mid: Mid,
    pub(crate) session_id: SessionId,
    pub(crate) join_id: Option<Box<str>>,
    pub(crate) role: Role,
    pub(crate) rights: Rights,
    pub(crate) name: Option<Box<str>>,
    pub(crate) attributes: Attributes,
    pub(crate) muted: KindSet,
    /// When the token ends the membership.
    pub(crate) token_end: Option<WallTime>,
    /// When the token is looked at next; timers that come before it are of an older token.
    pub(crate) token_look: MonoTime,

    pub(crate) conn: Option<ConnId>,
    pub(crate) last_inbound: MonoTime,
    /// When the socket was lost; `None` while there is one.
    pub(crate) lost_at: Option<MonoTime>,
    pub(crate) last_media: Option<MonoTime>,
    /// Last event that was sent on the present connection.
    pub(crate) cursor: u64,
    pub(crate) last_id: Option<RequestId>,
    pub(crate) rate: Rate,
    /// `rateLimited` answers, less the commands that passed since.
    pub(crate) limited: u32,
    pub(crate) waiting: Option<Box<Waiting>>,
    /// Targeted messages so far.
    pub(crate) messages: u64,

    /// Publications by kind, in the order of [`MediaKind::ALL`].
    pub(crate) pubs: [Option<Pub>; 4],
    /// The live push URL of each slot.
    pub(crate) pushes: [Option<Gen>; SLOTS],
    /// Streams that it has a pull URL of; the kinds are with the stream.
    pub(crate) pulls: Vec<Gen>,
}

impl Member {
    /// Its share of the channel's `channel_attribute_bytes`.
    pub(crate) fn told_bytes(&self) -> usize {
        told_bytes(self.name.as_deref(), &self.attributes)
    }

    pub(crate) fn is_visible(&self) -> bool {
        self.role == Role::Broadcaster
    }

    pub(crate) fn published(&self) -> KindSet {
        MediaKind::ALL
            .iter()
            .zip(&self.pubs)
            .filter(|(_, publication)| publication.is_some())
            .map(|(kind, _)| kind.clone())
            .collect()
    }

    pub(crate) fn publication(&self, kind: &MediaKind) -> Option<Pub> {
        self.pubs[kind.index()?]
    }

    pub(crate) fn name(&self) -> Option<String> {
        self.name.as_deref().map(str::to_owned)
    }

    /// As others see it in a snapshot.
    pub(crate) fn info(&self) -> MemberInfo {
        MemberInfo {
            uid: self.uid,
            mid: self.mid,
            role: self.role.clone(),
            name: self.name(),
            attributes: self.attributes.clone(),
            muted: self.muted,
            streams: MediaKind::ALL
                .iter()
                .zip(&self.pubs)
                .filter_map(|(kind, publication)| {
                    publication
                        .map(|publication| StreamInfo { media_type: kind.clone(), publication })
                })
                .collect(),
        }
    }
}
