//! What can be asked of the channels from outside: the only caller of the shards in `api/`. Comes in: a question. Goes
//! out: its answer, or an [`ApiError`]. Deliberately absent: HTTP, and answers that may be wrong; a server that stops
//! says so instead of what it has left.

use lianmai_protocol::{Appkey, UserId};
use lianmai_signal_engine::TaskChange;
use lianmai_signal_engine::output::{BanView, ChannelView, MemberView, TaskView};
use lianmai_signal_engine::{AdminCommand, AdminReply, ChannelKey, Stats};

use super::error::ApiError;
use crate::shard::Shards;

/// The channels of this server.
#[derive(Clone)]
pub(crate) struct Service {
    shards: Shards,
}

impl Service {
    pub(crate) fn new(shards: Shards) -> Self {
        Service { shards }
    }

    /// Every channel.
    pub(crate) async fn channels(&self) -> Result<Vec<ChannelView>, ApiError> {
        let mut channels = Vec::new();
        for reply in self.shards.ask_all(&AdminCommand::ListChannels).await? {
            match reply {
                AdminReply::Channels(some) => channels.extend(some),
                _ => return Err(other_answer()),
            }
        }
        Ok(channels)
    }

    /// One channel with its members.
    pub(crate) async fn channel(
        &self,
        channel: ChannelKey,
    ) -> Result<(ChannelView, Vec<MemberView>), ApiError> {
        match self.shards.ask(AdminCommand::GetChannel(channel)).await? {
            AdminReply::Channel(view, members) => Ok((view, members)),
            _ => Err(other_answer()),
        }
    }

    /// The push tasks of a channel.
    pub(crate) async fn tasks(&self, channel: ChannelKey) -> Result<Vec<TaskView>, ApiError> {
        match self.shards.ask(AdminCommand::GetTasks(channel)).await? {
            AdminReply::Tasks(tasks) => Ok(tasks),
            _ => Err(other_answer()),
        }
    }

    /// As `addTasks`, `updateTasks` and `deleteTasks`.
    pub(crate) async fn change_tasks(
        &self,
        channel: ChannelKey,
        change: TaskChange,
    ) -> Result<(), ApiError> {
        self.command(AdminCommand::Tasks { channel, change }).await
    }

    /// Ends the membership of a uid, and bans it for so long.
    pub(crate) async fn kick(
        &self,
        channel: ChannelKey,
        uid: UserId,
        duration_s: u32,
        reason: Option<String>,
    ) -> Result<(), ApiError> {
        self.command(AdminCommand::Kick { channel, uid, duration_s, reason }).await
    }

    /// Ends a channel, and holds its name for so long.
    pub(crate) async fn close(
        &self,
        channel: ChannelKey,
        hold_s: u32,
        reason: Option<String>,
    ) -> Result<(), ApiError> {
        self.command(AdminCommand::Close { channel, hold_s, reason }).await
    }

    /// The bans of a channel's name, or all.
    pub(crate) async fn bans(&self, channel: Option<ChannelKey>) -> Result<Vec<BanView>, ApiError> {
        let of_all = channel.is_none();
        let command = AdminCommand::ListBans(channel);
        let replies = if of_all {
            self.shards.ask_all(&command).await?
        } else {
            vec![self.shards.ask(command).await?]
        };
        let mut bans = Vec::new();
        for reply in replies {
            match reply {
                AdminReply::Bans(some) => bans.extend(some),
                _ => return Err(other_answer()),
            }
        }
        Ok(bans)
    }

    /// Ends the ban of a uid; says how many there were.
    pub(crate) async fn lift_ban(
        &self,
        channel: ChannelKey,
        uid: Option<UserId>,
    ) -> Result<usize, ApiError> {
        match self.shards.ask(AdminCommand::LiftBan { channel, uid }).await? {
            AdminReply::Lifted(count) => Ok(count),
            _ => Err(other_answer()),
        }
    }

    /// Ends the bans that a moderator has made in an app; says how many there were.
    pub(crate) async fn lift_bans_by(&self, appkey: Appkey, by: UserId) -> Result<usize, ApiError> {
        let mut lifted = 0;
        for reply in self.shards.ask_all(&AdminCommand::LiftBansBy { appkey, by }).await? {
            match reply {
                AdminReply::Lifted(count) => lifted += count,
                _ => return Err(other_answer()),
            }
        }
        Ok(lifted)
    }

    /// The numbers of all shards.
    pub(crate) async fn stats(&self) -> Result<Stats, ApiError> {
        self.shards.stats().await.ok_or_else(ApiError::draining)
    }

    async fn command(&self, command: AdminCommand) -> Result<(), ApiError> {
        match self.shards.ask(command).await? {
            AdminReply::Done => Ok(()),
            _ => Err(other_answer()),
        }
    }
}

/// An engine answers what it is asked.
fn other_answer() -> ApiError {
    tracing::error!("an engine answered something else than it was asked");
    lianmai_protocol::ErrorName::InternalError.into()
}
