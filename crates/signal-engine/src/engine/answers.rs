//! Continuations of answers, or of their deadlines. Comes in: an answer. Goes out: the rest of a command, of a request
//! of the admin API, or of a drain. An answer without an open question, a repeated one and one of another kind than its
//! question change nothing.

use lianmai_protocol::{ErrorName, RpcError, UserId};

use super::Engine;
use crate::asks::{AdminOutcome, AfterWrite, Answer, Caller, Continuation};
use crate::channel::not_stored;
use crate::ids::{AskId, ChannelRef};
use crate::output::{AdminReply, Output};

impl Engine {
    pub(super) fn answered(&mut self, id: AskId, answer: Answer) {
        let Some(then) = self.context.asks.take(id) else { return };
        match (then, answer) {
            (Continuation::Url { member, purpose }, Answer::Minted(minted)) => {
                self.with_channel(member.channel, |channel, cx| {
                    channel.minted(cx, member.uid, id, purpose, minted);
                });
            }
            (Continuation::Token { member }, Answer::Verified(grant)) => {
                self.with_channel(member.channel, |channel, cx| {
                    channel.token_verified(cx, member.uid, id, grant);
                });
            }
            (Continuation::Admit { channel, request }, Answer::Admitted(admitted)) => {
                self.with_channel(channel, |channel, cx| channel.admitted(cx, request, admitted));
            }
            (Continuation::Claim { channel, claim, of }, Answer::Claimed(claimed)) => {
                if !self.channels.contains_key(&channel) {
                    // The channel is gone. The claim may have been granted.
                    return self.context.release(claim, true);
                }
                self.with_channel(channel, |channel, cx| channel.claimed(cx, of, claim, claimed));
            }
            (Continuation::AfterWrite(then), Answer::Stored(stored)) => {
                self.written(id, then, stored)
            }
            (then, _) => self.context.asks.put_back(id, then),
        }
    }

    /// The deadline of a question: it counts as failed.
    pub(super) fn question_timed_out(&mut self, id: AskId) {
        if let Some(failed) = self.context.asks.failed(id) {
            self.answered(id, failed);
        }
    }

    /// The admin API's answer to a request whose change is stored.
    fn admin_outcome(&self, id: ChannelRef, outcome: AdminOutcome) -> Result<AdminReply, RpcError> {
        match outcome {
            AdminOutcome::Done => Ok(AdminReply::Done),
            AdminOutcome::Exists => Ok(AdminReply::Exists),
            AdminOutcome::Made => {
                // It may have been closed meanwhile.
                let channel = self.channels.get(&id).ok_or(ErrorName::ChannelClosed)?;
                Ok(AdminReply::Detail(Box::new(channel.detail())))
            }
        }
    }

    /// A write of changes of channels, or of a member, is known to be stored.
    fn stored(
        &mut self,
        channels: impl IntoIterator<Item = ChannelRef>,
        of: Option<UserId>,
        id: AskId,
    ) {
        for channel in channels {
            if let Some(channel) = self.channels.get_mut(&channel) {
                channel.stored(of, id);
            }
        }
    }

    fn written(&mut self, id: AskId, then: AfterWrite, stored: bool) {
        let by = match then {
            AfterWrite::HandOver => {
                self.context.outputs.push_back(Output::Drained { handed_over: stored });
                return;
            }
            AfterWrite::Change { member, of } => {
                return self.with_channel(member.channel, |channel, cx| {
                    channel.written(cx, member.uid, of, id, stored);
                });
            }
            AfterWrite::Lift { query, lifted, channels } => {
                if stored {
                    self.context.restrictions.stored(id);
                    self.stored(channels, None, id);
                }
                let reply = if stored { Ok(AdminReply::Lifted(lifted)) } else { Err(not_stored()) };
                self.context.outputs.push_back(Output::AdminReply { query, reply });
                return;
            }
            AfterWrite::Run { channel, task, life, number } => {
                return self.with_channel(channel, |channel, cx| {
                    channel.run_numbered(cx, &task, life, number, stored);
                });
            }
            AfterWrite::Claim { query, claim } => return self.claim_written(query, &claim, stored),
            AfterWrite::Tasks { by } => by,
            AfterWrite::AdminChange { query, channel, of, outcome } => {
                if stored {
                    self.stored([channel], of, id);
                }
                let reply =
                    if stored { self.admin_outcome(channel, outcome) } else { Err(not_stored()) };
                self.context.outputs.push_back(Output::AdminReply { query, reply });
                return;
            }
            AfterWrite::Kick { channel, mid, params, by } => {
                let caller = by.member().map(|uid| (uid, id));
                if let Some(channel) = channel {
                    self.with_channel(channel, |channel, cx| {
                        channel.finish_kick(cx, mid, &params, caller, stored);
                    });
                }
                by
            }
            AfterWrite::Close { channel, text, by } => {
                let caller = by.member().map(|uid| (uid, id));
                self.with_channel(channel, |channel, cx| {
                    channel.finish_close(cx, text, caller, stored)
                });
                by
            }
        };
        if let Caller::Admin(query) = by {
            let reply = if stored { Ok(AdminReply::Done) } else { Err(not_stored()) };
            self.context.outputs.push_back(Output::AdminReply { query, reply });
        }
    }
}
