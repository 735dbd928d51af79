//! Shards: each owns an engine and the sinks of its connections, without locks. Others reach one through
//! its mailbox, which is bounded: whoever fills it waits, and of each connection only so much is in it (`turns.rs`).

mod letters;
mod turns;
mod worker;

use bytes::Bytes;
use lianmai_protocol::{ErrorName, Gen, RpcError};
use lianmai_signal_engine::task::Claim;
use lianmai_signal_engine::{
    Access, AdminCommand, AdminReply, Allowed, AskId, ConnId, Denial, DrainPlan, Input,
    Publication, QueryId, Stats,
};
use tokio::sync::{mpsc, oneshot};

use crate::route::shard_of;
use crate::socket::halves::Sink;

pub(crate) use turns::{Turn, Turns};
pub(crate) use worker::{Worker, WorkerParts};

/// Messages that may wait for a shard.
const MAILBOX: usize = 4096;

/// What a shard can be asked.
pub(crate) enum ShardMsg {
    /// A connection leaves the lobby with this: it belongs to the shard from now on.
    Adopt { conn: ConnId, sink: Sink, entry: Input },
    /// Something for the engine.
    Input(Input),
    /// A text frame came.
    Frame { conn: ConnId, frame: Bytes, turn: Turn },
    /// A WebSocket ping or pong came, and this is to be written back.
    Alive { conn: ConnId, reply: Bytes, turn: Turn },
    /// The peer has ended the connection; this is to be written as the last thing.
    Over { conn: ConnId, reply: Bytes },
    /// The sink of a connection takes bytes again.
    Writable(ConnId),
    /// May this URL be used?
    Authorize { generation: Gen, access: Access, answer: oneshot::Sender<Result<Allowed, Denial>> },
    /// Nobody waits for the answer to that any more.
    Withdraw(QueryId),
    /// Whose is this stream?
    Publication { generation: Gen, answer: oneshot::Sender<Option<Publication>> },
    /// A channel of that shard asked for a place that this one keeps.
    Claim { claim: Claim, from: mpsc::WeakSender<ShardMsg>, ask: AskId },
    /// The admin API asks.
    Admin { command: AdminCommand, answer: oneshot::Sender<Result<AdminReply, RpcError>> },
    /// Counters.
    Stats(oneshot::Sender<Stats>),
    /// Move every member to the next process, and say whether all is handed over.
    Drain { plan: DrainPlan, drained: oneshot::Sender<bool> },
    /// Close every connection, then end.
    Stop,
}

impl ShardMsg {
    /// Of the frame in it.
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
    /// Mailboxes for `count` shards, and the receiving ends in order.
    pub(crate) fn new(count: usize) -> (Self, Vec<mpsc::Receiver<ShardMsg>>) {
        let (senders, receivers): (Vec<_>, Vec<_>) =
            (0..count.max(1)).map(|_| mpsc::channel(MAILBOX)).unzip();
        (Shards { senders: senders.into() }, receivers)
    }

    /// The same for a shard, which none of them waits for.
    fn neighbours(&self) -> letters::Neighbours {
        letters::Neighbours::new(&self.senders)
    }

    /// The shard of a routing value.
    pub(crate) fn of(&self, route: u32) -> mpsc::Sender<ShardMsg> {
        self.senders[shard_of(route, self.senders.len())].clone()
    }

    /// Asks whether a URL may be used, and for which kinds; `None` when the shard has ended. Dropping it takes the question back.
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

    /// Asks whose a stream is; `None` when it does not live, or the shard has ended.
    pub(crate) async fn publication(&self, generation: Gen) -> Option<Publication> {
        let (answer, publication) = oneshot::channel();
        let message = ShardMsg::Publication { generation, answer };
        self.of(generation.route).send(message).await.ok()?;
        publication.await.ok()?
    }

    /// Asks the shard of a channel.
    ///
    /// # Errors
    /// The engine's; `draining` when the shard has ended.
    pub(crate) async fn ask(&self, command: AdminCommand) -> Result<AdminReply, RpcError> {
        let route = command.channel().map_or(0, lianmai_signal_engine::ChannelKey::route);
        ask(&self.of(route), command).await
    }

    /// Asks every shard.
    ///
    /// # Errors
    /// The first one of [`Shards::ask`]: a part of the answers is none.
    pub(crate) async fn ask_all(
        &self,
        command: &AdminCommand,
    ) -> Result<Vec<AdminReply>, RpcError> {
        let mut replies = Vec::with_capacity(self.senders.len());
        for sender in self.senders.iter() {
            replies.push(ask(sender, command.clone()).await?);
        }
        Ok(replies)
    }

    /// Sums the counters of all shards; `None` when one of them has ended.
    pub(crate) async fn stats(&self) -> Option<Stats> {
        let mut sum = Stats::default();
        for sender in self.senders.iter() {
            let (answer, stats) = oneshot::channel();
            sender.send(ShardMsg::Stats(answer)).await.ok()?;
            sum = add(sum, stats.await.ok()?);
        }
        Some(sum)
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

async fn ask(
    shard: &mpsc::Sender<ShardMsg>,
    command: AdminCommand,
) -> Result<AdminReply, RpcError> {
    let ended = || RpcError::from(ErrorName::Draining);
    let (answer, reply) = oneshot::channel();
    shard.send(ShardMsg::Admin { command, answer }).await.map_err(|_| ended())?;
    reply.await.map_err(|_| ended())?
}

/// Every number is named, so that a new one is not forgotten.
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
