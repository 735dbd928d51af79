//! Shards: each owns an engine and the sinks of its connections, without locks. Other tasks reach a shard through its
//! bounded mailbox: a sender waits while it is full, and the bytes of one connection in it are limited
//! (`mailbox_quota.rs`).

mod mailbox_quota;
mod outgoing;
mod worker;

use bytes::Bytes;
use futures_util::future::join_all;
use lianmai_protocol::{ErrorName, Gen, RpcError};
use lianmai_signal_engine::task::Claim;
use lianmai_signal_engine::{
    Access, AdminCommand, AdminReply, Allowed, AskId, ConnId, Denial, DrainPlan, Input,
    Publication, QueryId, Stats,
};
use tokio::sync::{mpsc, oneshot};

use crate::route::shard_of;
use crate::socket::halves::Sink;

pub(crate) use mailbox_quota::{MailboxPermit, MailboxQuota};
pub(crate) use worker::{Worker, WorkerParts};

/// Maximum number of messages in the mailbox of a shard.
const MAILBOX_CAPACITY: usize = 4096;

/// A message to a shard.
pub(crate) enum ShardMsg {
    /// A connection leaves the lobby and belongs to the shard from now on. The engine gets `entry`.
    Adopt { conn: ConnId, sink: Sink, entry: Input },
    /// An input for the engine.
    Input(Input),
    /// A text frame arrived.
    Frame { conn: ConnId, frame: Bytes, permit: MailboxPermit },
    /// A WebSocket ping or pong arrived. The reply is written back, unless it is empty.
    Alive { conn: ConnId, reply: Bytes, permit: MailboxPermit },
    /// The peer has ended the connection. The reply is the last frame that is written.
    Over { conn: ConnId, reply: Bytes },
    /// The sink of a connection accepts bytes again.
    Writable(ConnId),
    /// Asks whether a URL may be used.
    Authorize { generation: Gen, access: Access, answer: oneshot::Sender<Result<Allowed, Denial>> },
    /// The asker of this query no longer waits for the answer.
    Withdraw(QueryId),
    /// Asks for the publication of a stream.
    Publication { generation: Gen, answer: oneshot::Sender<Option<Publication>> },
    /// A channel of the shard `from` asks for a claim that this shard keeps.
    Claim { claim: Claim, from: mpsc::WeakSender<ShardMsg>, ask: AskId },
    /// A command of the admin API.
    Admin { command: AdminCommand, answer: oneshot::Sender<Result<AdminReply, RpcError>> },
    /// Asks for the counters.
    Stats(oneshot::Sender<Stats>),
    /// Move all members to the next process, and report whether everything is handed over.
    Drain { plan: DrainPlan, drained: oneshot::Sender<bool> },
    /// Close all connections, then end.
    Stop,
}

impl ShardMsg {
    /// The length of the frame, if it holds one.
    fn bytes(&self) -> usize {
        match self {
            ShardMsg::Frame { frame, .. } => frame.len(),
            _ => 0,
        }
    }
}

/// The mailboxes of all shards. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Shards {
    senders: std::sync::Arc<[mpsc::Sender<ShardMsg>]>,
}

impl Shards {
    /// Mailboxes for `count` shards, and their receiving ends in the order of the shards.
    pub(crate) fn new(count: usize) -> (Self, Vec<mpsc::Receiver<ShardMsg>>) {
        let (senders, receivers): (Vec<_>, Vec<_>) =
            (0..count.max(1)).map(|_| mpsc::channel(MAILBOX_CAPACITY)).unzip();
        (Shards { senders: senders.into() }, receivers)
    }

    /// The mailboxes for use by a shard.
    fn downgrade(&self) -> outgoing::WeakShards {
        outgoing::WeakShards::new(&self.senders)
    }

    /// The shard of a routing value.
    pub(crate) fn of(&self, route: u32) -> mpsc::Sender<ShardMsg> {
        self.senders[shard_of(route, self.senders.len())].clone()
    }

    /// Asks whether a URL may be used, and for which kinds; `None` when the shard has ended. Dropping the future
    /// withdraws the query.
    pub(crate) async fn authorize(
        &self,
        generation: Gen,
        access: Access,
    ) -> Option<Result<Allowed, Denial>> {
        let (answer, verdict) = oneshot::channel();
        let message = ShardMsg::Authorize { generation, access, answer };
        self.of(generation.route).send(message).await.ok()?;
        verdict.await.ok()
    }

    /// Asks for the publication of a stream; `None` when it has ended, or the shard has ended.
    pub(crate) async fn publication(&self, generation: Gen) -> Option<Publication> {
        let (answer, publication) = oneshot::channel();
        let message = ShardMsg::Publication { generation, answer };
        self.of(generation.route).send(message).await.ok()?;
        publication.await.ok()?
    }

    /// Sends a command to the shard of its channel.
    ///
    /// # Errors
    /// The engine's; `draining` when the shard has ended.
    pub(crate) async fn ask(&self, command: AdminCommand) -> Result<AdminReply, RpcError> {
        let route = command.channel().map_or(0, lianmai_signal_engine::ChannelKey::route);
        ask(&self.of(route), command).await
    }

    /// Sends a command to all shards at the same time, and waits until all have answered.
    ///
    /// # Errors
    /// The first error of [`Shards::ask`] in the order of the shards: partial answers are not given.
    pub(crate) async fn ask_all(
        &self,
        command: &AdminCommand,
    ) -> Result<Vec<AdminReply>, RpcError> {
        let asked = self.senders.iter().map(|sender| ask(sender, command.clone()));
        join_all(asked).await.into_iter().collect()
    }

    /// The sum of the counters of all shards; `None` when a shard has ended.
    pub(crate) async fn stats(&self) -> Option<Stats> {
        let mut sum = Stats::default();
        for sender in self.senders.iter() {
            let (answer, stats) = oneshot::channel();
            sender.send(ShardMsg::Stats(answer)).await.ok()?;
            sum = add(sum, stats.await.ok()?);
        }
        Some(sum)
    }

    /// Tells all shards to move their members. Completes when all of them are done, and returns whether everything is
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

    /// Tells all shards to end.
    pub(crate) async fn stop(&self) {
        for sender in self.senders.iter() {
            let _ = sender.send(ShardMsg::Stop).await;
        }
    }
}

async fn ask(
    shard: &mpsc::Sender<ShardMsg>,
    command: AdminCommand,
) -> Result<AdminReply, RpcError> {
    let ended = || RpcError::from(ErrorName::Draining);
    let (answer, reply) = oneshot::channel();
    shard.send(ShardMsg::Admin { command, answer }).await.map_err(|_| ended())?;
    reply.await.map_err(|_| ended())?
}

/// The pattern names each field, so that the compiler reports a new one.
fn add(sum: Stats, stats: Stats) -> Stats {
    let Stats {
        channels,
        members,
        connected,
        streams,
        waiting_plays,
        log_bytes,
        message_bytes,
        events,
        frames,
        commands,
        refusals,
    } = stats;
    Stats {
        channels: sum.channels + channels,
        members: sum.members + members,
        connected: sum.connected + connected,
        streams: sum.streams + streams,
        waiting_plays: sum.waiting_plays + waiting_plays,
        log_bytes: sum.log_bytes + log_bytes,
        message_bytes: sum.message_bytes + message_bytes,
        events: sum.events + events,
        frames: sum.frames + frames,
        commands: sum.commands + commands,
        refusals: sum.refusals + refusals,
    }
}

#[cfg(test)]
#[path = "shards_tests.rs"]
mod tests;
