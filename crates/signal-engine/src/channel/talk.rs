//! Messages, attributes and tokens of members.

use lianmai_protocol::attributes::escaped_bytes;
use lianmai_protocol::limits::{
    MAX_ATTRIBUTE_KEY_BYTES, MAX_ATTRIBUTE_KEYS, MAX_MESSAGE_RECIPIENTS, MAX_NAME_BYTES,
};
use lianmai_protocol::message::event::{ChannelMessage, ChannelUpdate, ClientUpdate, LeaveReason};
use lianmai_protocol::message::notice::TokenWillExpire;
use lianmai_protocol::message::session::{AttributeTarget, RenewToken, SendMessage, SetAttributes};
use lianmai_protocol::message::{ChannelEvent, Notice};
use lianmai_protocol::{Attributes, CloseCode, ErrorName, Map, Role, RpcError, UserId};

use super::member::PendingOn;
use super::session::CommandKey;
use super::text_budget::{TextUsage, text_bytes};
use super::{Channel, CommandResult, Reply};
use crate::asks::{Continuation, Question, Token, TokenRequest};
use crate::context::Context;
use crate::grant::Grant;
use crate::ids::AskId;
use crate::key::ChannelKey;
use crate::timers::Timer;

/// `tokenWillExpire` comes this long before the end of the membership, in milliseconds (AUT-4).
const TOKEN_WARNING_MS: u64 = 30_000;

/// Checks a display name.
pub(super) fn check_name(name: Option<&String>) -> Result<(), RpcError> {
    if name.is_some_and(|name| name.len() > MAX_NAME_BYTES) {
        return Err(RpcError::new(ErrorName::BadName).field("name"));
    }
    Ok(())
}

fn check_keys<'a>(mut keys: impl Iterator<Item = &'a String>) -> Result<(), RpcError> {
    if keys.any(|key| key.is_empty() || key.len() > MAX_ATTRIBUTE_KEY_BYTES) {
        return Err(RpcError::new(ErrorName::BadAttributes).field("attributes"));
    }
    Ok(())
}

/// Checks an attribute map as a whole.
pub(super) fn check_attributes(attributes: &Attributes, max_bytes: usize) -> Result<(), RpcError> {
    check_keys(attributes.0.keys())?;
    if attributes.0.len() > MAX_ATTRIBUTE_KEYS {
        return Err(RpcError::new(ErrorName::BadAttributes).field("attributes"));
    }
    if attributes.bytes() > max_bytes {
        return Err(RpcError::new(ErrorName::AttributesTooLarge).field("attributes"));
    }
    Ok(())
}

/// The attributes after a patch, and whether they changed. A key that a patch removes is checked, too (ATT-4).
pub(super) fn patched(
    attributes: &Attributes,
    patch: &Map<String, Option<String>>,
    max_bytes: usize,
) -> Result<(Attributes, bool), RpcError> {
    check_keys(patch.keys())?;
    let mut attributes = attributes.clone();
    let changed = attributes.apply(patch);
    check_attributes(&attributes, max_bytes)?;
    Ok((attributes, changed))
}

impl Channel {
    pub(super) fn send_message(
        &mut self,
        cx: &mut Context,
        uid: UserId,
        params: SendMessage,
    ) -> CommandResult {
        let member = self.members.get(&uid).ok_or(ErrorName::NotJoined)?;
        if !member.rights.message {
            return Err(RpcError::new(ErrorName::Forbidden).message("The method needs `message`."));
        }
        if escaped_bytes(&params.data) > cx.config.limits.message_bytes {
            return Err(RpcError::new(ErrorName::MessageTooLarge).field("data"));
        }
        let Some(to) = params.to else {
            let message = ChannelMessage { uid, data: params.data };
            self.emit(cx, &ChannelEvent::Message(message));
            return Ok(Reply::Sent { delivered: 0 });
        };
        if to.len() > MAX_MESSAGE_RECIPIENTS {
            return Err(RpcError::new(ErrorName::TooManyRecipients).field("to"));
        }
        let recipients: std::collections::BTreeSet<UserId> = to.into_iter().collect();
        // The answer does not tell which uids are in the audience (MSG-2).
        let delivered = recipients.len() as u64;
        for recipient in recipients {
            self.send_targeted(cx, recipient, uid, &params.data);
        }
        Ok(Reply::Sent { delivered })
    }

    pub(super) fn set_attributes(
        &mut self,
        cx: &mut Context,
        uid: UserId,
        params: &SetAttributes,
    ) -> CommandResult {
        check_name(params.name.as_ref())?;
        let max_bytes = cx.config.limits.attribute_bytes;
        match params.target.as_ref().unwrap_or(&AttributeTarget::Own) {
            AttributeTarget::Own => {
                let member = self.members.get(&uid).ok_or(ErrorName::NotJoined)?;
                if !member.rights.message {
                    return Err(
                        RpcError::new(ErrorName::Forbidden).message("The method needs `message`.")
                    );
                }
                let (attributes, mut changed) =
                    patched(&member.attributes, &params.attributes, max_bytes)?;
                let name = params.name.as_deref().or(member.name.as_deref());
                let old = TextUsage::of(member);
                let new = TextUsage { bytes: text_bytes(name, &attributes), ..old };
                self.text_budget.check(cx, Some(old), new)?;
                self.text_budget.remove(old);
                self.text_budget.add(new);
                let member = self.members.get_mut(&uid).ok_or(ErrorName::NotJoined)?;
                member.attributes = attributes;
                if let Some(name) = &params.name {
                    changed |= member.name.as_deref() != Some(name);
                    member.name = Some(name.as_str().into());
                }
                self.touch(uid);
                let Some(member) = self.members.get(&uid) else { return Ok(Reply::Done) };
                // An audience member is invisible: no event (ATT-2).
                if changed && member.is_visible() {
                    let update = ClientUpdate {
                        uid,
                        mid: member.mid,
                        name: member.name(),
                        attributes: member.attributes.clone(),
                    };
                    self.emit(cx, &ChannelEvent::ClientUpdate(update));
                }
            }
            AttributeTarget::Channel => {
                self.require_moderator(uid)?;
                if params.name.is_some() {
                    return Err(RpcError::new(ErrorName::InvalidParams).field("name"));
                }
                let (attributes, changed) =
                    patched(&self.attributes, &params.attributes, max_bytes)?;
                if changed {
                    self.unwritten = true;
                    self.attributes = attributes.clone();
                    self.emit(cx, &ChannelEvent::ChannelUpdate(ChannelUpdate { attributes }));
                }
            }
            _ => {
                return Err(RpcError::new(ErrorName::InvalidParams).field("target"));
            }
        }
        Ok(Reply::Done)
    }

    pub(super) fn renew_token(
        &mut self,
        cx: &mut Context,
        uid: UserId,
        command: CommandKey,
        params: RenewToken,
    ) -> CommandResult {
        let ChannelKey { appkey, name: channel } = self.key.clone();
        let request = TokenRequest { appkey, uid, channel, token: Token(params.token) };
        let ask =
            cx.ask(Question::Verify(request), Continuation::Token { member: self.member_ref(uid) });
        self.set_pending(uid, command, ask, PendingOn::Token);
        Ok(Reply::Deferred)
    }

    /// The shell checked the token of a `renewToken`.
    pub(crate) fn token_verified(
        &mut self,
        cx: &mut Context,
        uid: UserId,
        ask: AskId,
        grant: Result<Grant, ErrorName>,
    ) {
        if self.awaits(uid, ask) {
            let outcome = self.apply_token(cx, uid, grant);
            self.finish_pending(cx, uid, "renewToken", outcome);
        }
    }

    fn apply_token(
        &mut self,
        cx: &mut Context,
        uid: UserId,
        grant: Result<Grant, ErrorName>,
    ) -> CommandResult {
        let grant = grant?;
        cx.restrictions.check(cx.now, &self.key, uid, &grant)?;
        grant.check(cx.now, &self.key.name, Some(uid))?;
        self.apply_grant(cx, uid, &grant);
        let member = self.members.get(&uid).ok_or(ErrorName::NotJoined)?;
        Ok(Reply::Renewed {
            rights: member.rights,
            token_expires_in_ms: member.token_end.map(|end| end.0.saturating_sub(cx.now.wall.0)),
        })
    }

    /// A member has a new token: rights that it does not grant end.
    pub(super) fn apply_grant(&mut self, cx: &mut Context, uid: UserId, grant: &Grant) {
        let named = grant.names_uid(uid);
        let rights = self.policy.rights(grant.rights, named && self.creator == Some(uid));
        let Some(member) = self.members.get_mut(&uid) else { return };
        (member.rights, member.named) = (rights, named);
        member.token_end = grant.membership_end();
        let role = member.role.clone();
        self.touch(uid);
        let Some(member) = self.members.get(&uid) else { return };
        let lost = member.published().difference(rights.publish);
        self.remove_streams(cx, uid, lost);
        self.restrict_pulls(cx, uid, rights.subscribe);
        if role == Role::Broadcaster && !rights.broadcast {
            self.demote(cx, uid);
        }
        self.arm_token(cx, uid);
    }

    /// Makes sure that the end of a member's token is noticed.
    pub(super) fn arm_token(&mut self, cx: &mut Context, uid: UserId) {
        let Some(member) = self.members.get_mut(&uid) else { return };
        let Some(end) = member.token_end else { return };
        let left = end.0.saturating_sub(cx.now.wall.0);
        let wait = if left > TOKEN_WARNING_MS { left - TOKEN_WARNING_MS } else { left };
        // The wall clock may jump: look again at least every minute.
        member.token_look = cx.mono() + wait.clamp(1, 60_000);
        cx.timers.arm(member.token_look, Timer::Token(self.id, uid));
    }

    pub(crate) fn token_due(&mut self, cx: &mut Context, uid: UserId) {
        let Some(member) = self.members.get(&uid) else { return };
        let Some(end) = member.token_end else { return };
        // Armed for a token that was renewed since: the new one has a timer of its own.
        if cx.mono() < member.token_look {
            return;
        }
        let left = end.0.saturating_sub(cx.now.wall.0);
        if left == 0 {
            self.end_member(cx, uid, LeaveReason::TokenExpired, CloseCode::TOKEN_EXPIRED);
            return;
        }
        self.warn_of_token(cx, uid);
        self.arm_token(cx, uid);
    }

    /// Tells a member that its token ends soon, if it does.
    pub(super) fn warn_of_token(&mut self, cx: &mut Context, uid: UserId) {
        let Some(end) = self.members.get(&uid).and_then(|member| member.token_end) else { return };
        let left = end.0.saturating_sub(cx.now.wall.0);
        if (1..=TOKEN_WARNING_MS).contains(&left) {
            let notice = TokenWillExpire { expires_in_ms: left };
            self.notify(cx, uid, &Notice::TokenWillExpire(notice));
        }
    }
}
