//! Shards: each owns an engine and the sinks of its connections, without locks. Others reach one through
//! its mailbox, which is bounded: whoever fills it waits.

mod worker;

use bytes::Bytes;
use lianmai_protocol::{Gen, RpcError};
use lianmai_signal_engine::output::{ChannelView, MemberView};
use lianmai_signal_engine::{
    Access, AdminCommand, AdminReply, ConnId, Denial, DrainPlan, Input, Stats,
};
use tokio::sync::{mpsc, oneshot};

use crate::route::shard_of;
use crate::socket::halves::Sink;

pub(crate) use worker::{Worker, WorkerParts};

/// Messages that may wait for a shard.
const MAILBOX: usize = 4096;

/// What a shard can be asked.
pub(crate) enum ShardMsg {
    /// A connection leaves the lobby with this: it belongs to the shard from now on.
    Adopt { conn: ConnId, sink: Sink, entry: Input },
    /// Something for the engine.
    Input(Input),
    /// A WebSocket ping or pong came, and this is to be written back.
    Alive { conn: ConnId, reply: Bytes },
    /// The peer has ended the connection; this is to be written as the last thing.
    Over { conn: ConnId, reply: Bytes },
    /// The sink of a connection takes bytes again.
    Writable(ConnId),
    /// May this URL be used?
    Authorize { generation: Gen, access: Access, answer: oneshot::Sender<Result<(), Denial>> },
    /// The admin API asks.
    Admin { command: AdminCommand, answer: oneshot::Sender<Result<AdminReply, RpcError>> },
    /// Counters.
    Stats(oneshot::Sender<Stats>),
    /// Move every member to the next process, and say whether all is handed over.
    Drain { plan: DrainPlan, drained: oneshot::Sender<bool> },
    /// Close every connection, then end.
    Stop,
}

/// The mailboxes of all shards. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Shards {
    senders: std::sync::Arc<[mpsc::Sender<ShardMsg>]>,
}

impl Shards {
    /// Mailboxes for `count` shards, and the receiving ends in order.
    pub(crate) fn new(count: usize) -> (Self, Vec<mpsc::Receiver<ShardMsg>>) {
        let (senders, receivers): (Vec<_>, Vec<_>) =
            (0..count.max(1)).map(|_| mpsc::channel(MAILBOX)).unzip();
        (Shards { senders: senders.into() }, receivers)
    }

    /// The shard of a routing value.
    pub(crate) fn of(&self, route: u32) -> mpsc::Sender<ShardMsg> {
        self.senders[shard_of(route, self.senders.len())].clone()
    }

    /// Asks whether a URL may be used; `None` when the shard has ended.
    pub(crate) async fn authorize(
        &self,
        generation: Gen,
        access: Access,
    ) -> Option<Result<(), Denial>> {
        let (answer, verdict) = oneshot::channel();
        let message = ShardMsg::Authorize { generation, access, answer };
        self.of(generation.route).send(message).await.ok()?;
        verdict.await.ok()
    }

    /// Asks one shard something for the admin API; `None` when it has ended.
    pub(crate) async fn admin(
        &self,
        command: AdminCommand,
    ) -> Option<Result<AdminReply, RpcError>> {
        let route = command.channel().map_or(0, lianmai_signal_engine::ChannelKey::route);
        let (answer, reply) = oneshot::channel();
        self.of(route).send(ShardMsg::Admin { command, answer }).await.ok()?;
        reply.await.ok()
    }

    /// Every channel.
    pub(crate) async fn channels(&self) -> Vec<ChannelView> {
        let mut channels = Vec::new();
        for sender in self.senders.iter() {
            let (answer, reply) = oneshot::channel();
            let message = ShardMsg::Admin { command: AdminCommand::ListChannels, answer };
            if sender.send(message).await.is_ok()
                && let Ok(Ok(AdminReply::Channels(some))) = reply.await
            {
                channels.extend(some);
            }
        }
        channels
    }

    /// One channel with its members.
    pub(crate) async fn channel(
        &self,
        key: lianmai_signal_engine::ChannelKey,
    ) -> Option<(ChannelView, Vec<MemberView>)> {
        match self.admin(AdminCommand::GetChannel(key)).await? {
            Ok(AdminReply::Channel(view, members)) => Some((view, members)),
            _ => None,
        }
    }

    /// Sums the counters of all shards.
    pub(crate) async fn stats(&self) -> Stats {
        let mut sum = Stats::default();
        for sender in self.senders.iter() {
            let (answer, reply) = oneshot::channel();
            if sender.send(ShardMsg::Stats(answer)).await.is_ok()
                && let Ok(stats) = reply.await
            {
                sum.channels += stats.channels;
                sum.members += stats.members;
                sum.connected += stats.connected;
                sum.streams += stats.streams;
                sum.events += stats.events;
                sum.frames += stats.frames;
                sum.commands += stats.commands;
                sum.refusals += stats.refusals;
            }
        }
        sum
    }

    /// Tells every shard to move its members. Completes when all of them are through, with whether everything is
    /// handed over.
    pub(crate) async fn drain(&self, plan: DrainPlan) -> bool {
        let mut answers = Vec::new();
        for sender in self.senders.iter() {
            let (drained, answer) = oneshot::channel();
            let _ = sender.send(ShardMsg::Drain { plan, drained }).await;
            answers.push(answer);
        }
        let mut handed_over = true;
        for answer in answers {
            handed_over &= answer.await.unwrap_or(false);
        }
        handed_over
    }

    /// Tells every shard to end.
    pub(crate) async fn stop(&self) {
        for sender in self.senders.iter() {
            let _ = sender.send(ShardMsg::Stop).await;
        }
    }
}
