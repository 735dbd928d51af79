//! One membership: a uid in a channel, across its sockets. Plain state; the rules are in the siblings.

use std::collections::VecDeque;

use lianmai_protocol::message::snapshot::{MemberInfo, StreamInfo};
use lianmai_protocol::message::{Call, Request};
use lianmai_protocol::{
    Attributes, Epoch, Gen, KindSet, MediaKind, Mid, MonoTime, Pub, RequestId, Rights, Role,
    SessionId, UserId, WallTime,
};

use super::cost::Cost;
use super::session::{Answers, CommandKey, Messages, Tickets};
use super::text_budget::text_bytes;
use crate::ids::{AddrId, AskId, ConnId};
use crate::output::PushKind;
use crate::session_rate::SessionRate;

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

/// What the push URL of a slot carries.
pub(crate) const SLOT_KINDS: [PushKind; SLOTS] =
    [PushKind::Av, PushKind::ScreenShare, PushKind::SlaveAudio];

/// A command that waits for the shell; the session's later commands wait behind it (ORD-5).
#[derive(Debug)]
pub(crate) struct PendingCommand {
    pub(crate) command: CommandKey,
    /// The question; its continuation is kept with the engine's questions.
    pub(crate) ask: AskId,
    pub(crate) on: PendingOn,
    pub(crate) queue: VecDeque<QueuedCommand>,
}

/// A command that waits behind another, and what it was charged when it came.
#[derive(Debug)]
pub(crate) struct QueuedCommand {
    pub(crate) command: CommandKey,
    pub(crate) request: Request,
    pub(super) paid: Cost,
}

/// What a command waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PendingOn {
    /// `publish`: a push URL.
    Push,
    /// `subscribe`: a pull URL.
    Pull,
    /// `renewToken`: what the new token grants.
    Token,
    /// A request about tasks: its turn, its admission or its claims.
    Claims,
    /// A write: of a kick or close, which takes effect after it, or of a change that took effect already.
    Write,
    /// Nothing: it is superseded, and answered with that at the end of the turn.
    Superseded,
}

impl PendingCommand {
    /// The command with that id, if it waits, or is queued behind the one that waits.
    pub(crate) fn find(&self, id: RequestId) -> Option<CommandKey> {
        let queued = self.queue.iter().map(|queued| queued.command);
        std::iter::once(self.command).chain(queued).find(|command| command.id == id)
    }

    /// Whether a `leave` waits already.
    pub(crate) fn has_queued_leave(&self) -> bool {
        self.queue.iter().any(|queued| matches!(queued.request.call, Call::Leave(_)))
    }

    /// Whether a `leave` may overtake it: a command that is being stored is answered first.
    pub(crate) fn can_leave_overtake(&self) -> bool {
        self.on != PendingOn::Write
    }
}

#[derive(Debug)]
pub(crate) struct Member {
    pub(crate) uid: UserId,
    pub(crate) mid: Mid,
    pub(crate) session_id: SessionId,
    pub(crate) join_id: Option<Box<str>>,
    pub(crate) role: Role,
    pub(crate) rights: Rights,
    /// Its token is for its uid alone, or it is a debug join: rights of that uid are its rights (AUT-6).
    pub(crate) named: bool,
    pub(crate) name: Option<Box<str>>,
    pub(crate) attributes: Attributes,
    pub(crate) muted: KindSet,
    /// When the token ends the membership.
    pub(crate) token_end: Option<WallTime>,
    /// When the token is checked next; timers that fire before are of an older token.
    pub(crate) token_look: MonoTime,

    pub(crate) conn: Option<ConnId>,
    /// Address of the present or last connection; `None` if the token names the uid, which is then charged alone.
    pub(crate) addr: Option<AddrId>,
    /// When the present or last connection began.
    pub(crate) connected_at: MonoTime,
    pub(crate) last_inbound: MonoTime,
    /// When the socket was lost; `None` while there is one.
    pub(crate) lost_at: Option<MonoTime>,
    /// When a socket was lost for the first time since a connection lasted (LIV-3).
    pub(crate) first_lost: Option<MonoTime>,
    pub(crate) last_media: Option<MonoTime>,
    /// Last event that was sent on the present connection.
    pub(crate) cursor: u64,
    pub(crate) rate: SessionRate,
    /// The rate at the begin: what earlier memberships have used.
    pub(crate) carried: SessionRate,
    /// `rateLimited` answers, less the commands that passed since.
    pub(crate) limited: u32,
    /// A ping of the server has no answer yet.
    pub(crate) pinged: bool,
    pub(crate) pending: Option<Box<PendingCommand>>,
    pub(crate) tickets: Tickets,
    /// Last attempt to resume that was accepted.
    pub(crate) attempt: u64,
    pub(crate) answers: Answers,
    pub(crate) messages: Messages,
    /// Last change by somebody else that the client may not have seen (RES-10).
    pub(crate) forced: Option<(Epoch, u64)>,
    /// The last write of a change by somebody else, until it is known to be stored (RST-5).
    pub(crate) unstored: Option<AskId>,
    /// Kicked, but not yet visibly: its input is ignored (KIC-1, RST-5).
    pub(crate) being_kicked: bool,
    /// Restored after a crash, and its client is not known to be back.
    pub(crate) restored: bool,

    /// Publications by kind, in the order of [`MediaKind::ALL`].
    pub(crate) pubs: [Option<Pub>; 4],
    /// The live push URL of each slot.
    pub(crate) pushes: [Option<Gen>; SLOTS],
    /// Streams that it has a pull URL of; the stream holds the kinds.
    pub(crate) pulls: Vec<Gen>,
}

impl Member {
    /// The client has the answer that brought it back to the log `epoch`. Returns whether its record changes by that.
    pub(crate) fn confirm_return(&mut self, epoch: Epoch) -> bool {
        let cleared = self.clear_forced_before(epoch);
        std::mem::take(&mut self.restored) || cleared
    }

    /// The client has a snapshot of the log `epoch`, which contains every change in the log of an earlier process.
    /// Whether it has seen a change in this log is known from the `seq` with which it comes back (RES-10).
    pub(crate) fn clear_forced_before(&mut self, epoch: Epoch) -> bool {
        self.forced.take_if(|(of, _)| *of != epoch).is_some()
    }

    /// Bytes that it takes of `channel_attribute_bytes`.
    pub(crate) fn text_bytes(&self) -> usize {
        text_bytes(self.name.as_deref(), &self.attributes)
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

    /// The kinds that it publishes on a stream of its own.
    pub(crate) fn published_on(&self, generation: Gen) -> KindSet {
        let is_on_it = |kind: &&MediaKind| {
            slot_of(kind).is_some_and(|slot| self.pushes[slot] == Some(generation))
        };
        self.published().iter().filter(is_on_it).cloned().collect()
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
