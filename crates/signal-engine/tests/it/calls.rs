//! Commands in short form, for the tests.

use lianmai_protocol::message::Call;
use lianmai_protocol::message::media::{Mute, Publish, SetRole, Subscribe};
use lianmai_protocol::message::session::{
    AttributeTarget, CloseChannel, Empty, Kick, Ping, RenewToken, SendMessage, SetAttributes,
};
use lianmai_protocol::{MediaKind, MediaSelector, Role, UserId};

pub(crate) fn selector(kind: &str) -> MediaSelector {
    if kind.is_empty() { MediaSelector::Both } else { MediaSelector::Kind(MediaKind::from(kind)) }
}

pub(crate) fn publish(kind: &str) -> Call {
    Call::Publish(Publish { media_type: selector(kind), uid: None })
}

pub(crate) fn unpublish(kind: &str) -> Call {
    Call::Unpublish(Publish { media_type: selector(kind), uid: None })
}

pub(crate) fn unpublish_of(uid: u64, kind: &str) -> Call {
    Call::Unpublish(Publish { media_type: selector(kind), uid: Some(UserId(uid)) })
}

pub(crate) fn subscribe(uid: u64, kind: &str) -> Call {
    Call::Subscribe(Subscribe { uid: UserId(uid), media_type: MediaKind::from(kind) })
}

pub(crate) fn unsubscribe(uid: u64, kind: &str) -> Call {
    Call::Unsubscribe(Subscribe { uid: UserId(uid), media_type: MediaKind::from(kind) })
}

pub(crate) fn set_role(role: &str) -> Call {
    Call::SetRole(SetRole { role: Role::from(role), uid: None })
}

pub(crate) fn set_role_of(uid: u64, role: &str) -> Call {
    Call::SetRole(SetRole { role: Role::from(role), uid: Some(UserId(uid)) })
}

pub(crate) fn mute(kind: &str) -> Call {
    Call::Mute(Mute { media_type: selector(kind), uid: None })
}

pub(crate) fn unmute(kind: &str) -> Call {
    Call::Unmute(Mute { media_type: selector(kind), uid: None })
}

pub(crate) fn mute_of(uid: u64, kind: &str) -> Call {
    Call::Mute(Mute { media_type: selector(kind), uid: Some(UserId(uid)) })
}

pub(crate) fn unmute_of(uid: u64, kind: &str) -> Call {
    Call::Unmute(Mute { media_type: selector(kind), uid: Some(UserId(uid)) })
}

pub(crate) fn kick(uid: u64, duration_s: u32) -> Call {
    Call::Kick(Kick { uid: UserId(uid), duration_s, reason: None })
}

pub(crate) fn close_channel(hold_s: u32) -> Call {
    Call::CloseChannel(CloseChannel { hold_s, reason: None })
}

pub(crate) fn send_message(data: &str) -> Call {
    Call::SendMessage(SendMessage { data: data.to_owned(), to: None })
}

pub(crate) fn send_to(to: &[u64], data: &str) -> Call {
    let to = to.iter().copied().map(UserId).collect();
    Call::SendMessage(SendMessage { data: data.to_owned(), to: Some(to) })
}

/// A patch from `(key, value)`; an empty value removes the key.
pub(crate) fn patch(entries: &[(&str, &str)]) -> lianmai_protocol::Map<String, Option<String>> {
    let value = |value: &str| (!value.is_empty()).then(|| value.to_owned());
    entries.iter().map(|(key, v)| ((*key).to_owned(), value(v))).collect()
}

pub(crate) fn set_attributes(entries: &[(&str, &str)]) -> Call {
    Call::SetAttributes(SetAttributes { attributes: patch(entries), target: None, name: None })
}

pub(crate) fn rename(name: &str) -> Call {
    let name = Some(name.to_owned());
    Call::SetAttributes(SetAttributes { attributes: patch(&[]), target: None, name })
}

pub(crate) fn set_channel_attributes(entries: &[(&str, &str)]) -> Call {
    Call::SetAttributes(SetAttributes {
        attributes: patch(entries),
        target: Some(AttributeTarget::Channel),
        name: None,
    })
}

pub(crate) fn renew_token(token: &str) -> Call {
    Call::RenewToken(RenewToken { token: token.to_owned() })
}

pub(crate) fn leave() -> Call {
    Call::Leave(Empty {})
}

pub(crate) fn ping() -> Call {
    Call::Ping(Ping::default())
}
