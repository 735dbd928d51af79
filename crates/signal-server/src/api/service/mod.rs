//! Requests about channels from outside: the only caller of the shards in `api/`. Comes in: a request. Goes out: its
//! answer, or an [`ApiError`]. Other dialects of the API use it, too. Deliberately absent: HTTP, and answers that may
//! be wrong; a server that stops says so instead of giving a part.

mod apps;
mod history;
mod hooks;

use std::collections::BTreeMap;

use lianmai_protocol::{Appkey, Attributes, ChannelName, ErrorName, KindSet, Map, Role, UserId};
use lianmai_shares::Slots;
use lianmai_signal_engine::output::{BanView, ChannelDetail, ChannelView, MemberDetail, TaskView};
use lianmai_signal_engine::record::ChannelRules;
use lianmai_signal_engine::{AdminCommand, AdminReply, ChannelKey, Stats, TaskChange};

use super::error::ApiError;
use super::keys::ApiKeys;
use crate::auth::RevocationList;
use crate::config::AppMode;
use crate::hooks::{Deliverer, Endpoints};
use crate::records::{Database, Records};
use crate::shard::Shards;

pub(crate) use apps::MintToken;
pub(in crate::api) use hooks::MAX_PINGS;
pub(crate) use hooks::{EventPage, NewEndpoint};

/// The channels, keys and webhooks of this deployment.
#[derive(Clone)]
pub(crate) struct Service {
    pub(crate) shards: Shards,
    pub(crate) database: Database,
    /// The records that the engines write to.
    pub(crate) store: std::sync::Arc<dyn Records>,
    /// Whether a history of calls is kept.
    pub(crate) keeps_history: bool,
    pub(crate) keys: ApiKeys,
    pub(crate) endpoints: Endpoints,
    pub(crate) deliverer: Deliverer,
    /// Pings of webhooks that are on the way.
    pub(crate) pings: Slots<Appkey>,
    pub(crate) revocations: RevocationList,
    /// The apps, and the keys of their tokens.
    pub(crate) apps: std::sync::Arc<BTreeMap<Appkey, AppMode>>,
}

impl Service {
    /// Keys of the API.
    pub(crate) fn keys(&self) -> &ApiKeys {
        &self.keys
    }

    /// Rows of the deployment.
    pub(crate) fn database(&self) -> &Database {
        &self.database
    }

    /// Whether the app exists.
    pub(crate) fn has_app(&self, appkey: &Appkey) -> bool {
        self.apps.contains_key(appkey)
    }

    /// At most `limit` channels of an app after a name, by name.
    pub(crate) async fn channels(
        &self,
        appkey: &Appkey,
        after: Option<ChannelName>,
        limit: usize,
    ) -> Result<Vec<ChannelView>, ApiError> {
        let command = AdminCommand::PageChannels { appkey: appkey.clone(), after, limit };
        let mut channels = Vec::new();
        for reply in self.shards.ask_all(&command).await? {
            match reply {
                AdminReply::Channels(some) => channels.extend(some),
                _ => return Err(unexpected_reply()),
            }
        }
        channels.sort_by(|a, b| a.channel.name.cmp(&b.channel.name));
        channels.truncate(limit);
        Ok(channels)
    }

    /// Makes a channel ahead of its first join.
    pub(crate) async fn create(
        &self,
        channel: ChannelKey,
        creator: Option<UserId>,
        rules: ChannelRules,
        attributes: Attributes,
    ) -> Result<ChannelDetail, ApiError> {
        match self.ask(AdminCommand::CreateChannel { channel, creator, rules, attributes }).await? {
            AdminReply::Detail(detail) => Ok(*detail),
            AdminReply::Exists => {
                let text = "A channel of that name is there already.";
                Err(ApiError::new(http::StatusCode::CONFLICT, "channelExists", text))
            }
            _ => Err(unexpected_reply()),
        }
    }

    /// One channel.
    pub(crate) async fn channel(&self, channel: ChannelKey) -> Result<ChannelDetail, ApiError> {
        match self.ask(AdminCommand::GetDetail(channel)).await? {
            AdminReply::Detail(detail) => Ok(*detail),
            _ => Err(unexpected_reply()),
        }
    }

    /// At most `limit` members of a channel after a uid, by uid.
    pub(crate) async fn members(
        &self,
        channel: ChannelKey,
        after: Option<UserId>,
        limit: usize,
    ) -> Result<Vec<MemberDetail>, ApiError> {
        match self.ask(AdminCommand::PageMembers { channel, after, limit }).await? {
            AdminReply::Members(members) => Ok(members),
            _ => Err(unexpected_reply()),
        }
    }

    /// One member.
    pub(crate) async fn member(
        &self,
        channel: ChannelKey,
        uid: UserId,
    ) -> Result<MemberDetail, ApiError> {
        match self.ask(AdminCommand::GetMember { channel, uid }).await? {
            AdminReply::Members(members) => members.into_iter().next().ok_or_else(unexpected_reply),
            _ => Err(unexpected_reply()),
        }
    }

    /// Sets and removes attributes of a channel.
    pub(crate) async fn set_attributes(
        &self,
        channel: ChannelKey,
        patch: Map<String, Option<String>>,
    ) -> Result<(), ApiError> {
        self.command(AdminCommand::SetAttributes { channel, patch }).await
    }

    /// Replaces the rules of a channel.
    pub(crate) async fn set_rules(
        &self,
        channel: ChannelKey,
        rules: ChannelRules,
    ) -> Result<(), ApiError> {
        self.command(AdminCommand::SetRules { channel, rules }).await
    }

    /// Gives a member another role.
    pub(crate) async fn set_role(
        &self,
        channel: ChannelKey,
        uid: UserId,
        role: Role,
    ) -> Result<(), ApiError> {
        self.command(AdminCommand::SetRole { channel, uid, role }).await
    }

    /// Sets the kinds that a uid may not publish in a channel.
    pub(crate) async fn bar(
        &self,
        channel: ChannelKey,
        uid: UserId,
        kinds: KindSet,
    ) -> Result<(), ApiError> {
        match self.command(AdminCommand::SetBarredKinds { channel, uid, kinds }).await {
            // This bound is not a share of bans, and it does not help to wait.
            Err(error) if error.name() == ErrorName::TooManyBans.as_str() => {
                let text = "The channel has as many uids with barred kinds as it may have.";
                Err(ApiError::new(http::StatusCode::CONFLICT, "tooManyBarred", text))
            }
            done => done,
        }
    }

    /// Sends a message in the name of a uid. Returns the number of receivers.
    pub(crate) async fn announce(
        &self,
        channel: ChannelKey,
        uid: UserId,
        data: String,
        to: Option<Vec<UserId>>,
    ) -> Result<u64, ApiError> {
        match self.ask(AdminCommand::Announce { channel, uid, data, to }).await? {
            AdminReply::Sent(sent) => Ok(sent),
            _ => Err(unexpected_reply()),
        }
    }

    /// The push tasks of a channel.
    pub(crate) async fn tasks(&self, channel: ChannelKey) -> Result<Vec<TaskView>, ApiError> {
        match self.ask(AdminCommand::GetTasks(channel)).await? {
            AdminReply::Tasks(tasks) => Ok(tasks),
            _ => Err(unexpected_reply()),
        }
    }

    /// Adds, updates or deletes push tasks.
    pub(crate) async fn change_tasks(
        &self,
        channel: ChannelKey,
        change: TaskChange,
    ) -> Result<(), ApiError> {
        self.command(AdminCommand::ChangeTasks { channel, change }).await
    }

    /// Ends the membership of a uid, and bans it for `duration_s` seconds.
    pub(crate) async fn kick(
        &self,
        channel: ChannelKey,
        uid: UserId,
        duration_s: u32,
        reason: Option<String>,
    ) -> Result<(), ApiError> {
        self.command(AdminCommand::Kick { channel, uid, duration_s, reason }).await
    }

    /// Ends a channel, and holds its name for `hold_s` seconds.
    pub(crate) async fn close(
        &self,
        channel: ChannelKey,
        hold_s: u32,
        reason: Option<String>,
    ) -> Result<(), ApiError> {
        self.command(AdminCommand::CloseChannel { channel, hold_s, reason }).await
    }

    /// The bans of a channel name.
    pub(crate) async fn bans(&self, channel: ChannelKey) -> Result<Vec<BanView>, ApiError> {
        match self.ask(AdminCommand::ListBans(channel)).await? {
            AdminReply::Bans(bans) => Ok(sorted(bans)),
            _ => Err(unexpected_reply()),
        }
    }

    /// The bans of all channels of an app.
    pub(crate) async fn bans_of_app(&self, appkey: &Appkey) -> Result<Vec<BanView>, ApiError> {
        let mut bans = Vec::new();
        for reply in self.shards.ask_all(&AdminCommand::ListBansOfApp(appkey.clone())).await? {
            match reply {
                AdminReply::Bans(some) => bans.extend(some),
                _ => return Err(unexpected_reply()),
            }
        }
        Ok(sorted(bans))
    }

    /// Lifts the bans of a uid, or without one the hold of the name. Returns how many there were.
    pub(crate) async fn lift_ban(
        &self,
        channel: ChannelKey,
        uid: Option<UserId>,
    ) -> Result<usize, ApiError> {
        match self.ask(AdminCommand::LiftBan { channel, uid }).await? {
            AdminReply::Lifted(count) => Ok(count),
            _ => Err(unexpected_reply()),
        }
    }

    /// Lifts the bans that a moderator has made in an app. Returns how many there were.
    pub(crate) async fn lift_bans_by(&self, appkey: Appkey, by: UserId) -> Result<usize, ApiError> {
        let mut lifted = 0;
        for reply in self.shards.ask_all(&AdminCommand::LiftBansBy { appkey, by }).await? {
            match reply {
                AdminReply::Lifted(count) => lifted += count,
                _ => return Err(unexpected_reply()),
            }
        }
        Ok(lifted)
    }

    /// The counters of all shards.
    pub(crate) async fn stats(&self) -> Result<Stats, ApiError> {
        self.shards.stats().await.ok_or_else(ApiError::draining)
    }

    async fn ask(&self, command: AdminCommand) -> Result<AdminReply, ApiError> {
        Ok(self.shards.ask(command).await?)
    }

    async fn command(&self, command: AdminCommand) -> Result<(), ApiError> {
        match self.ask(command).await? {
            AdminReply::Done => Ok(()),
            _ => Err(unexpected_reply()),
        }
    }
}

fn sorted(mut bans: Vec<BanView>) -> Vec<BanView> {
    bans.sort_by(|a, b| (&a.channel, a.uid, a.by).cmp(&(&b.channel, b.uid, b.by)));
    bans
}

/// The error for an answer of the wrong kind, which is a bug.
fn unexpected_reply() -> ApiError {
    tracing::error!("an engine answered something else than it was asked");
    lianmai_protocol::ErrorName::InternalError.into()
}
