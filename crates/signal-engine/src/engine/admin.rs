//! What the admin API asks. A kick and a close take effect in two steps, whoever asks for them: fenced, then
//! written down, then visible (RST-5); the second step is in `answers`.

use lianmai_protocol::message::session::{CloseChannel, Kick};
use lianmai_protocol::{ErrorName, RpcError, UserId};

use super::Engine;
use crate::asks::{By, Written};
use crate::channel::{Channel, check_kick};
use crate::ids::QueryId;
use crate::input::AdminCommand;
use crate::key::ChannelKey;
use crate::output::AdminReply;
use crate::restrictions::Maker;

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
                    self.context.ban(&channel, &params, Maker::Operator)?;
                    self.context.store(Written::Kick { channel: None, mid: None, params, by });
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
            AdminCommand::ListBans(channel) => {
                let cx = &self.context;
                Ok(Some(AdminReply::Bans(cx.restrictions.list(cx.now, channel.as_ref()))))
            }
            AdminCommand::LiftBan { channel, uid } => {
                Ok(self.lift(query, 0, |of, banned, _| *of == channel && banned == uid))
            }
            AdminCommand::LiftBansBy { appkey, by } => {
                let cx = &mut self.context;
                let channels = self.channels.values_mut().filter(|it| it.key().appkey == appkey);
                let allowed: usize = channels.map(|channel| channel.allow_again(cx, by)).sum();
                let is_meant =
                    |of: &ChannelKey, _, made_by| of.appkey == appkey && made_by == Some(by);
                Ok(self.lift(query, allowed, is_meant))
            }
        }
    }

    /// Ends restrictions beside those that ended already, and says so when it is written down.
    fn lift(
        &mut self,
        query: QueryId,
        ended: usize,
        is_meant: impl Fn(&ChannelKey, Option<UserId>, Option<UserId>) -> bool,
    ) -> Option<AdminReply> {
        let cx = &mut self.context;
        let lifted = ended + cx.restrictions.lift(is_meant, &mut cx.ops);
        if lifted == 0 {
            return Some(AdminReply::Lifted(0));
        }
        cx.store(Written::Lift { query, lifted });
        None
    }
}
