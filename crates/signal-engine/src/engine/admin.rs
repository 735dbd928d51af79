//! What the admin API asks, and what goes on when a write is done. A kick and a close take effect in two
//! steps, whoever asks for them: fenced, then written down, then visible (contract rule B19).

use lianmai_protocol::message::session::{CloseChannel, Kick};
use lianmai_protocol::{ErrorName, RpcError};

use super::Engine;
use crate::channel::{Channel, check_kick, not_stored};
use crate::context::{By, Then};
use crate::input::{AdminCommand, PersistId, QueryId};
use crate::key::ChannelKey;
use crate::output::{AdminReply, Output};

impl Engine {
    /// What the admin API asks; `None` if the answer comes when it is written down.
    pub(super) fn admin(
        &mut self,
        query: QueryId,
        command: AdminCommand,
    ) -> Result<Option<AdminReply>, RpcError> {
        let find = |key: &ChannelKey| {
            self.names
                .get(key)
                .copied()
                .ok_or_else(|| RpcError::new(ErrorName::ChannelClosed).message("No such channel."))
        };
        let by = By::Admin(query);
        match command {
            AdminCommand::ListChannels => {
                let views = self.channels.values().map(Channel::view).collect();
                Ok(Some(AdminReply::Channels(views)))
            }
            AdminCommand::GetChannel(key) => {
                let id = find(&key)?;
                let channel = &self.channels[&id];
                Ok(Some(AdminReply::Channel(channel.view(), channel.member_views())))
            }
            AdminCommand::Kick { channel, uid, duration_s, reason } => {
                let params = Kick { uid, duration_s, reason };
                let Ok(id) = find(&channel) else {
                    // Nobody is there, but a ban holds for who comes.
                    check_kick(&params)?;
                    if duration_s == 0 {
                        return Err(RpcError::new(ErrorName::NoSuchMember).field("uid"));
                    }
                    self.context.ban(&channel, None, None, params, by);
                    self.sweep_from_now_on();
                    return Ok(None);
                };
                let mut result = Ok(None);
                self.with_channel(id, |channel, cx| {
                    result = channel.fence(cx, params, by).map(|_| None);
                });
                result
            }
            AdminCommand::Close { channel, hold_s, reason } => {
                let params = CloseChannel { hold_s, reason };
                let id = find(&channel)?;
                let mut result = Ok(None);
                self.with_channel(id, |channel, cx| {
                    result = channel.hold(cx, params, by).map(|_| None);
                });
                result
            }
        }
    }

    /// Goes on with what had to be written down first.
    pub(super) fn persisted(&mut self, persist: PersistId, mut stored: bool) {
        let by = match self.context.persists.remove(&persist) {
            None => return,
            Some(Then::HandedOver) => return self.handed_over(stored),
            Some(Then::Answer { seat }) => {
                return self.with_channel(seat.channel, |channel, cx| {
                    channel.written(cx, seat.uid, persist, stored);
                });
            }
            Some(Then::Kick { channel, mid, params, by, kept }) => {
                stored &= kept;
                let caller = by.member().map(|uid| (uid, persist));
                if let Some(channel) = channel {
                    self.with_channel(channel, |channel, cx| {
                        channel.fenced(cx, mid, &params, caller, stored);
                    });
                }
                by
            }
            Some(Then::Close { channel, text, by, kept }) => {
                stored &= kept;
                let caller = by.member().map(|uid| (uid, persist));
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
