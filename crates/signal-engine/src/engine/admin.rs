//! Commands of the admin API. A kick and a close have two steps, by whatever caller: the member is shut out and the
//! change is written, then it becomes visible (RST-5); the second step is in `answers`.

use lianmai_protocol::message::session::{CloseChannel, Kick};
use lianmai_protocol::{Appkey, Attributes, ChannelName, ErrorName, RpcError, UserId};

use super::Engine;
use crate::asks::{AdminOutcome, AfterWrite, Caller};
use crate::channel::{Channel, check_kick};
use crate::context::Context;
use crate::ids::{ChannelRef, QueryId};
use crate::input::AdminCommand;
use crate::key::ChannelKey;
use crate::output::AdminReply;
use crate::record::ChannelRules;
use crate::restrictions::Maker;

type AdminResult = Result<Option<AdminReply>, RpcError>;

impl Engine {
    /// Runs a command of the admin API; `None` if the answer comes after a write.
    pub(super) fn admin(&mut self, query: QueryId, command: AdminCommand) -> AdminResult {
        let find = |key: &ChannelKey| self.find(key);
        let by = Caller::Admin(query);
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
            AdminCommand::ChangeTasks { channel, change } => {
                self.admin_tasks(query, &channel, change);
                Ok(None)
            }
            AdminCommand::Kick { channel, uid, duration_s, reason } => {
                let params = Kick { uid, duration_s, reason };
                let Ok(id) = find(&channel) else {
                    // The channel does not exist, but a ban applies to a later one of this name.
                    check_kick(&params)?;
                    if duration_s == 0 {
                        return Err(RpcError::new(ErrorName::NoSuchMember).field("uid"));
                    }
                    self.context.ban(&channel, &params, Maker::Operator)?;
                    self.context.store(AfterWrite::Kick { channel: None, mid: None, params, by });
                    self.sweep_from_now_on();
                    return Ok(None);
                };
                let mut result = Ok(None);
                self.with_channel(id, |channel, cx| {
                    result = channel.begin_kick(cx, params, by).map(|_| None);
                });
                result
            }
            AdminCommand::CloseChannel { channel, hold_s, reason } => {
                let params = CloseChannel { hold_s, reason };
                let id = find(&channel)?;
                let mut result = Ok(None);
                self.with_channel(id, |channel, cx| {
                    result = channel.begin_close(cx, params, by).map(|_| None);
                });
                result
            }
            AdminCommand::PageChannels { appkey, after, limit } => {
                Ok(Some(AdminReply::Channels(self.page(appkey, after, limit))))
            }
            AdminCommand::CreateChannel { channel, creator, rules, attributes } => {
                self.create(query, channel, creator, rules, attributes)
            }
            AdminCommand::GetDetail(key) => {
                let detail = self.channels[&find(&key)?].detail();
                Ok(Some(AdminReply::Detail(Box::new(detail))))
            }
            AdminCommand::PageMembers { channel, after, limit } => {
                let members = self.channels[&find(&channel)?].member_details(after, limit);
                Ok(Some(AdminReply::Members(members)))
            }
            AdminCommand::GetMember { channel, uid } => {
                let member = self.channels[&find(&channel)?].member_detail_of(uid);
                let member = member.ok_or(ErrorName::NoSuchMember)?;
                Ok(Some(AdminReply::Members(vec![member])))
            }
            AdminCommand::SetAttributes { channel, patch } => {
                let patch = |it: &mut Channel, cx: &mut _| it.patch_attributes(cx, &patch);
                self.change(query, &channel, None, patch)
            }
            AdminCommand::SetRules { channel, rules } => {
                self.change(query, &channel, None, |it, cx| {
                    it.set_rules(cx, rules);
                    Ok(())
                })
            }
            AdminCommand::SetRole { channel, uid, role } => {
                self.change(query, &channel, Some(uid), |it, cx| it.assign_role(cx, uid, &role))
            }
            AdminCommand::SetBarredKinds { channel, uid, kinds } => {
                self.change(query, &channel, Some(uid), |it, cx| {
                    it.set_barred_kinds(cx, uid, kinds)
                })
            }
            AdminCommand::Announce { channel, uid, data, to } => {
                let id = find(&channel)?;
                let mut sent = Ok(0);
                self.with_channel(id, |channel, cx| {
                    sent = channel.announce(cx, uid, &data, to.as_deref());
                });
                sent.map(|sent| Some(AdminReply::Sent(sent)))
            }
            AdminCommand::ListBans(ChannelKey { appkey, name }) => {
                let cx = &self.context;
                Ok(Some(AdminReply::Bans(cx.restrictions.list(cx.now, &appkey, Some(&name)))))
            }
            AdminCommand::ListBansOfApp(appkey) => {
                let cx = &self.context;
                Ok(Some(AdminReply::Bans(cx.restrictions.list(cx.now, &appkey, None))))
            }
            AdminCommand::LiftBan { channel, uid } => {
                let selects = |of: &ChannelKey, banned, _| *of == channel && banned == uid;
                Ok(self.lift(query, 0, Vec::new(), selects))
            }
            AdminCommand::LiftBansBy { appkey, by } => {
                let cx = &mut self.context;
                let channels = self.channels.iter_mut();
                let channels = channels.filter(|(_, channel)| channel.key().appkey == appkey);
                let allowed = channels
                    .filter_map(|(id, channel)| Some((*id, channel.lift_demotions(cx, by)?)));
                let (channels, allowed): (Vec<_>, Vec<_>) = allowed.unzip();
                let selects =
                    |of: &ChannelKey, _, made_by| of.appkey == appkey && made_by == Some(by);
                Ok(self.lift(query, allowed.iter().sum(), channels, selects))
            }
        }
    }

    fn find(&self, key: &ChannelKey) -> Result<ChannelRef, RpcError> {
        let id = self.names.get(key).copied();
        id.ok_or_else(|| RpcError::new(ErrorName::ChannelClosed).message("No such channel."))
    }

    /// Changes a channel, or a member of it, and answers when the change is written, even if it changed nothing: no
    /// crash undoes an answered change (RST-5).
    fn change(
        &mut self,
        query: QueryId,
        key: &ChannelKey,
        of: Option<UserId>,
        run: impl FnOnce(&mut Channel, &mut Context) -> Result<(), RpcError>,
    ) -> AdminResult {
        let id = self.find(key)?;
        let mut result = Ok(());
        self.with_channel(id, |channel, cx| {
            result = run(channel, cx);
            if result.is_ok() {
                channel.rewrite(cx, of);
            }
        });
        result?;
        self.reply_when_stored(query, id, of, AdminOutcome::Done);
        Ok(None)
    }

    /// Answers when all rows that a channel has handed out are written.
    fn reply_when_stored(
        &mut self,
        query: QueryId,
        channel: ChannelRef,
        of: Option<UserId>,
        outcome: AdminOutcome,
    ) {
        let ask = self.context.store(AfterWrite::AdminChange { query, channel, of, outcome });
        if let Some(channel) = self.channels.get_mut(&channel) {
            channel.set_unstored(of, ask);
        }
    }

    /// Creates a channel before its first join.
    fn create(
        &mut self,
        query: QueryId,
        key: ChannelKey,
        creator: Option<UserId>,
        rules: ChannelRules,
        attributes: Attributes,
    ) -> AdminResult {
        let cx = &mut self.context;
        let policy = cx.config.apps.get(&key.appkey).ok_or(ErrorName::BadAppkey)?.clone();
        if cx.drain.is_some() {
            return Err(ErrorName::Draining.into());
        }
        if let Some(&id) = self.names.get(&key) {
            self.with_channel(id, |channel, cx| channel.rewrite(cx, None));
            self.reply_when_stored(query, id, None, AdminOutcome::Exists);
            return Ok(None);
        }
        if self.channels.len() >= cx.config.limits.channels {
            return Err(ErrorName::TooManyChannels.into());
        }
        Channel::check_attributes(cx, &attributes)?;
        self.last_channel += 1;
        let id = ChannelRef(self.last_channel);
        let mut channel = Channel::new(cx, id, key.clone(), policy, creator);
        channel.prepare(cx, rules, attributes);
        channel.settle(cx);
        self.names.insert(key, id);
        self.channels.insert(id, channel);
        self.sweep_from_now_on();
        self.reply_when_stored(query, id, None, AdminOutcome::Made);
        Ok(None)
    }

    /// Up to `limit` channels of an app after a name.
    fn page(
        &self,
        appkey: Appkey,
        after: Option<ChannelName>,
        limit: usize,
    ) -> Vec<crate::output::ChannelView> {
        use std::ops::Bound::{Excluded, Unbounded};
        let of = |channel: &&ChannelKey| channel.appkey == appkey;
        let first = match after {
            Some(name) => Excluded(ChannelKey { appkey: appkey.clone(), name }),
            None => ChannelKey::first_of(&appkey),
        };
        let names = self.names.range((first, Unbounded));
        let own = names.skip_while(|(key, _)| key.appkey < appkey);
        let own = own.take_while(|(key, _)| of(key));
        own.filter_map(|(_, id)| self.channels.get(id)).take(limit).map(Channel::view).collect()
    }

    /// Ends restrictions, and answers when that is written. `ended`: how many demotions ended already, in `channels`.
    fn lift(
        &mut self,
        query: QueryId,
        ended: usize,
        channels: Vec<ChannelRef>,
        selects: impl Fn(&ChannelKey, Option<UserId>, Option<UserId>) -> bool,
    ) -> Option<AdminReply> {
        let cx = &mut self.context;
        let rows = cx.restrictions.lift(&selects, &mut cx.ops);
        let lifted = ended + rows;
        if rows == 0 && channels.is_empty() {
            return Some(AdminReply::Lifted(0));
        }
        let ask = cx.store(AfterWrite::Lift { query, lifted, channels: channels.clone() });
        cx.restrictions.set_write(&selects, ask);
        for id in channels {
            if let Some(channel) = self.channels.get_mut(&id) {
                channel.set_unstored(None, ask);
            }
        }
        None
    }
}
