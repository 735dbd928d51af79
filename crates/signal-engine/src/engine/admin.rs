//! What the admin API asks. A kick and a close take effect in two steps, whoever asks for them: fenced, then
//! written down, then visible (RST-5); the second step is in `answers`.

use lianmai_protocol::message::session::{CloseChannel, Kick};
use lianmai_protocol::{ErrorName, RpcError};

use super::Engine;
use crate::asks::By;
use crate::channel::{Channel, check_kick};
use crate::ids::QueryId;
use crate::input::AdminCommand;
use crate::key::ChannelKey;
use crate::output::AdminReply;

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
            AdminCommand::GetTasks(key) => {
                let id = find(&key)?;
                Ok(Some(AdminReply::Tasks(self.channels[&id].task_views())))
            }
            AdminCommand::Tasks { channel, change } => {
                self.admin_tasks(query, &channel, change);
                Ok(None)
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
}
