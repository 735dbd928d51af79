//! Continuations of answers, or of their deadlines. Comes in: an answer. Goes out: the rest of a command, of a request
//! of the admin API, or of a drain. An answer without an open question, a repeated one and one of another kind than its
//! question change nothing.

use lianmai_protocol::{ErrorName, RpcError};

use super::Engine;
use crate::asks::{Answer, By, Then, Written};
use crate::channel::not_stored;
use crate::ids::{AskId, ChannelRef};
use crate::output::{AdminReply, Output};

impl Engine {
    pub(super) fn answered(&mut self, id: AskId, answer: Answer) {
        let Some(then) = self.context.asks.take(id) else { return };
        match (then, answer) {
            (Then::Url { seat, wanted }, Answer::Minted(minted)) => {
                self.with_channel(seat.channel, |channel, cx| {
                    channel.minted(cx, seat.uid, id, wanted, minted);
                });
            }
            (Then::Token { seat }, Answer::Verified(grant)) => {
                self.with_channel(seat.channel, |channel, cx| {
                    channel.token_verified(cx, seat.uid, id, grant);
                });
            }
            (Then::Admit { channel, request }, Answer::Admitted(admitted)) => {
                self.with_channel(channel, |channel, cx| channel.admitted(cx, request, admitted));
            }
            (Then::Claim { channel, claim, of }, Answer::Claimed(claimed)) => {
                if !self.channels.contains_key(&channel) {
                    // The channel is gone. The claim may have been granted.
                    return self.context.release(claim, true);
                }
                self.with_channel(channel, |channel, cx| channel.claimed(cx, of, claim, claimed));
            }
            (Then::Written(then), Answer::Stored(stored)) => self.written(id, then, stored),
            (then, _) => self.context.asks.put_back(id, then),
        }
    }

    /// The deadline of a question: it counts as failed.
    pub(super) fn unanswered(&mut self, id: AskId) {
        if let Some(failed) = self.context.asks.failed(id) {
            self.answered(id, failed);
        }
    }

    /// The admin API's answer to a change, or to the creation of a channel.
    fn told(&self, made: Option<ChannelRef>) -> Result<AdminReply, RpcError> {
        let Some(id) = made else { return Ok(AdminReply::Done) };
        // It may have been closed meanwhile.
        let channel = self.channels.get(&id).ok_or(ErrorName::ChannelClosed)?;
        Ok(AdminReply::Detail(Box::new(channel.detail())))
    }

    fn written(&mut self, id: AskId, then: Written, stored: bool) {
        let by = match then {
            Written::HandOver => {
                self.context.outputs.push_back(Output::Drained { handed_over: stored });
                return;
            }
            Written::Change { seat, of } => {
                return self.with_channel(seat.channel, |channel, cx| {
                    channel.written(cx, seat.uid, of, id, stored);
                });
            }
            Written::Lift { query, lifted } => {
                let reply = if stored { Ok(AdminReply::Lifted(lifted)) } else { Err(not_stored()) };
                self.context.outputs.push_back(Output::AdminReply { query, reply });
                return;
            }
            Written::Run { channel, task, life, number } => {
                return self.with_channel(channel, |channel, cx| {
                    channel.run_numbered(cx, &task, life, number, stored);
                });
            }
            Written::Claim { query, claim } => return self.claim_written(query, &claim, stored),
            Written::Tasks { by } => by,
            Written::Told { query, made } => {
                let reply = if stored { self.told(made) } else { Err(not_stored()) };
                self.context.outputs.push_back(Output::AdminReply { query, reply });
                return;
            }
            Written::Kick { channel, mid, params, by } => {
                let caller = by.member().map(|uid| (uid, id));
                if let Some(channel) = channel {
                    self.with_channel(channel, |channel, cx| {
                        channel.fenced(cx, mid, &params, caller, stored);
                    });
                }
                by
            }
            Written::Close { channel, text, by } => {
                let caller = by.member().map(|uid| (uid, id));
                self.with_channel(channel, |channel, cx| channel.held(cx, text, caller, stored));
                by
            }
        };
        if let By::Admin(query) = by {
            let reply = if stored { Ok(AdminReply::Done) } else { Err(not_stored()) };
            self.context.outputs.push_back(Output::AdminReply { query, reply });
        }
    }
}
