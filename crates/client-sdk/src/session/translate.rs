//! Translation of server messages into events for the app. In: channel events, notices, close codes. Out: events, or
//! none. Deliberately absent: changes of the picture, and any side effect.

use crate::prelude::*;
use alloc::sync::Arc;
use lianmai_protocol::message::event::{ClientJoin, ClientUpdate, MuteChange, StreamChange};
use lianmai_protocol::message::media::Mute;
use lianmai_protocol::message::session::{AttributeTarget, ResumeReason};
use lianmai_protocol::message::{Call, ChannelEvent, Notice};
use lianmai_protocol::{Action, CloseCode, KindSet, MediaKind, Mid, Role, UserId};

use super::change::Change;
use super::event::Event;
use super::picture::Own;
use super::requests::Requests;
use super::restore::patch;

/// The identity of the app and its pending calls. An answer comes after every event that its command caused (ORD-4).
/// Therefore an event about the app itself without such a pending call has an external cause.
pub(super) struct Cause<'a> {
    pub(super) uid: UserId,
    pub(super) mid: Mid,
    pub(super) requests: &'a Requests,
}

impl Cause<'_> {
    /// The event for the app; `None` if the answer to the app's own call reports the change.
    pub(super) fn channel_event(&self, event: &ChannelEvent) -> Option<Event> {
        match event {
            ChannelEvent::ClientJoin(e) => self.foreign(e.mid, || Event::ClientJoin(e.clone())),
            ChannelEvent::ClientLeave(e) => self.foreign(e.mid, || Event::ClientLeave(e.clone())),
            ChannelEvent::ClientUpdate(e) => {
                let asked = e.mid == self.mid
                    && self.asked(|call| {
                        matches!(call,
                    Call::SetAttributes(p) if p.target != Some(AttributeTarget::Channel))
                    });
                (!asked).then(|| Event::ClientUpdate(e.clone()))
            }
            ChannelEvent::ChannelUpdate(e) => Some(Event::ChannelUpdate(e.clone())),
            ChannelEvent::RoleChanged(e) => {
                let asked = e.mid == self.mid && self.asked_role(&e.role);
                (!asked).then(|| Event::RoleChanged(e.clone()))
            }
            ChannelEvent::StreamAdded(e) if e.mid == self.mid => {
                let asked = self.asked(|call| {
                    matches!(call,
                    Call::Publish(p) if p.media_type.kinds().contains(&e.media_type))
                });
                (!asked).then(|| Event::Published { media_type: e.media_type.clone() })
            }
            ChannelEvent::StreamAdded(e) => Some(Event::StreamAdded(e.clone())),
            ChannelEvent::StreamRemoved(e) if e.mid == self.mid => self.own_removal(e),
            ChannelEvent::StreamRemoved(e) => Some(Event::StreamRemoved(e.clone())),
            ChannelEvent::Muted(e) => {
                let asked = self.asked(|call| {
                    matches!(call,
                    Call::Mute(p) if self.is_own_mute(p, e))
                });
                (!asked).then(|| Event::Muted(e.clone()))
            }
            ChannelEvent::Unmuted(e) => {
                let asked = self.asked(|call| {
                    matches!(call,
                    Call::Unmute(p) if self.is_own_mute(p, e))
                });
                (!asked).then(|| Event::Unmuted(e.clone()))
            }
            ChannelEvent::Message(e) => (e.uid != self.uid).then(|| Event::Message {
                uid: e.uid,
                data: e.data.clone(),
                targeted: false,
            }),
            ChannelEvent::RtmpTasksStatus(e) => Some(Event::RtmpTasksStatus(e.clone())),
            ChannelEvent::LiveRoomClose(e) => Some(Event::LiveRoomClose(e.clone())),
            ChannelEvent::Unknown { method, params } => {
                Some(Event::Unknown { method: method.clone(), params: params.clone() })
            }
            _ => None,
        }
    }

    /// The app becomes visible with its present attributes and mutes. They may differ from what it knows, if it took a
    /// call for lost. The differences are returned as steps, as by [`own_changes`].
    pub(super) fn own_entry(&self, join: &ClientJoin, own: &Own) -> Steps {
        if join.mid != self.mid {
            return vec![];
        }
        let patch = patch(&own.attributes, &join.attributes);
        let (muted, unmuted) = (join.muted.difference(own.muted), own.muted.difference(join.muted));
        let changes = [
            Change::OwnAttributes { patch, name: join.name.clone() },
            Change::OwnMuted { kinds: muted, muted: true },
            Change::OwnMuted { kinds: unmuted, muted: false },
        ];
        let steps = changes.into_iter().flat_map(|change| own_changes(&Arc::new(change), own));
        let told = |event| match event {
            Event::ClientUpdate(e) => self.channel_event(&ChannelEvent::ClientUpdate(e)),
            Event::Muted(e) => self.channel_event(&ChannelEvent::Muted(e)),
            Event::Unmuted(e) => self.channel_event(&ChannelEvent::Unmuted(e)),
            other => Some(other),
        };
        steps.map(|(change, event)| (change, event.and_then(told))).collect()
    }

    fn foreign(&self, mid: Mid, event: impl FnOnce() -> Event) -> Option<Event> {
        (mid != self.mid).then(event)
    }

    fn asked(&self, caused_by: impl Fn(&Call) -> bool) -> bool {
        self.requests.live().any(caused_by)
    }

    fn is_own(&self, target: Option<UserId>) -> bool {
        target.is_none_or(|uid| uid == self.uid)
    }

    fn asked_role(&self, role: &Role) -> bool {
        self.asked(|call| matches!(call, Call::SetRole(p) if p.role == *role && self.is_own(p.uid)))
    }

    fn is_own_mute(&self, asked: &Mute, event: &MuteChange) -> bool {
        event.mid == self.mid
            && self.is_own(asked.uid)
            && asked.media_type.kinds().contains(&event.media_type)
    }

    fn own_removal(&self, event: &StreamChange) -> Option<Event> {
        let asked = self.asked(|call| match call {
            Call::Unpublish(p) => {
                self.is_own(p.uid) && p.media_type.kinds().contains(&event.media_type)
            }
            Call::Leave(_) => true,
            _ => false,
        });
        (!asked && !self.asked_role(&Role::Audience))
            .then(|| Event::Unpublished { media_type: event.media_type.clone() })
    }
}

/// Changes, each with the event for the app.
pub(super) type Steps = Vec<(Arc<Change>, Option<Event>)>;

/// Splits a change of the app's own state that an answer reports into steps, each with the event that the app receives
/// if the answer belongs to none of its calls.
pub(super) fn own_changes(change: &Arc<Change>, own: &Own) -> Steps {
    let (uid, mid) = (own.uid, own.mid);
    match &**change {
        Change::OwnMuted { kinds, muted } => {
            let news =
                if *muted { kinds.difference(own.muted) } else { kinds.intersection(own.muted) };
            let step = |kind: &MediaKind| {
                let change = Change::OwnMuted { kinds: KindSet::of(kind), muted: *muted };
                let told = MuteChange { uid, mid, media_type: kind.clone() };
                (
                    Arc::new(change),
                    Some(if *muted { Event::Muted(told) } else { Event::Unmuted(told) }),
                )
            };
            news.iter().map(step).collect()
        }
        Change::OwnAttributes { patch, name } => {
            let mut attributes = own.attributes.clone();
            attributes.apply(patch);
            let told_name = name.clone().or_else(|| own.name.clone());
            if (&told_name, &attributes) == (&own.name, &own.attributes) {
                return vec![];
            }
            let update = ClientUpdate { uid, mid, name: told_name, attributes };
            vec![(Arc::clone(change), Some(Event::ClientUpdate(update)))]
        }
        _ => vec![(Arc::clone(change), None)],
    }
}

/// The event for a notice.
pub(super) fn notice(notice: Notice) -> Option<Event> {
    Some(match notice {
        Notice::Kicked(n) => Event::Kicked(n),
        Notice::SyncDone(n) => Event::SyncDone(n),
        Notice::TokenWillExpire(n) => Event::TokenWillExpire { expires_in_ms: n.expires_in_ms },
        Notice::ServerRestarting(n) => Event::ServerRestarting(n),
        Notice::MemberCount(n) => Event::MemberCount { count: n.count },
        Notice::NetworkQuality(n) => Event::NetworkQuality(n),
        Notice::Message(n) => Event::Message { uid: n.uid, data: n.data, targeted: true },
        Notice::Closing(n) => Event::Closing(n),
        Notice::Unknown { method, params } => Event::Unknown { method, params },
        _ => return None,
    })
}

/// The action after a close: that of the notice, otherwise that of the code's row in the table, otherwise that of the
/// code's class (CLO-1, CLO-3, NOT-3). A bare 1000 does not count as a leave, because phones close sockets with it in
/// the background.
pub(super) fn advice(code: u16, action: Option<&Action>) -> Action {
    let of_code = || match CloseCode(code).row() {
        _ if code == CloseCode::NORMAL.0 => Action::Reconnect,
        Some(row) => row.action.clone(),
        None if CloseCode(code).is_terminal() => Action::None,
        None => Action::Reconnect,
    };
    match action {
        None | Some(Action::Unknown(_)) => of_code(),
        Some(known) => known.clone(),
    }
}

/// The code and reason with which a membership ends if the server refuses to resume it (docs/protocol.md §14).
pub(super) fn end_of(reason: &ResumeReason) -> (CloseCode, String) {
    let code = match reason {
        ResumeReason::Left => CloseCode::NORMAL,
        ResumeReason::Kicked => CloseCode::KICKED,
        ResumeReason::Replaced => CloseCode::REPLACED,
        ResumeReason::ChannelClosed => CloseCode::CHANNEL_CLOSED,
        ResumeReason::TokenExpired => CloseCode::TOKEN_EXPIRED,
        _ => CloseCode::JOIN_REFUSED,
    };
    (code, reason.as_str().to_owned())
}
