//! The loop of one shard. A turn takes messages from the mailbox, lets the engine handle them, executes its outputs in
//! order, and then writes each connection that has new frames: several frames leave in one write. It decides nothing.

use std::collections::HashMap;
use std::sync::Arc;

use lianmai_protocol::{CloseCode, RpcError};
use lianmai_signal_engine::task::Claim;
use lianmai_signal_engine::{
    AdminReply, Allowed, Answer, AskId, ConnId, Denial, Engine, Input, MintRequest, Output,
    QueryId, Question, Restored, TokenRequest,
};
use tokio::sync::{mpsc, oneshot};
use tokio::time::sleep_until;

use super::outgoing::{OutgoingQueue, WeakShards};
use super::{ShardMsg, Shards};
use crate::auth::Authenticator;
use crate::clock::Clock;
use crate::executor::Executor;
use crate::media::{Minting, Providers};
use crate::notes::Notes;
use crate::records::{Ack, Records};
use crate::socket::frame::{self, Framer};
use crate::socket::halves::Wait;
use crate::socket::writer::{Writer, Written};

/// Maximum number of messages in one turn, so that their results leave soon.
const MAX_TURN_MESSAGES: usize = 256;
/// Maximum bytes of frames in one turn. Normally, clients send a hundredth of it in [`MAX_TURN_MESSAGES`] messages.
const MAX_TURN_BYTES: usize = 64 * 1024;

/// The parts of the server that all shards share.
#[derive(Clone)]
pub(crate) struct WorkerParts {
    pub(crate) clock: Clock,
    pub(crate) providers: Providers,
    /// Carries out push tasks. Without an executor, no engine serves push tasks.
    pub(crate) executor: Option<Arc<dyn Executor>>,
    pub(crate) authenticator: Arc<Authenticator>,
    pub(crate) notes: Notes,
    pub(crate) store: Arc<dyn Records>,
    pub(crate) max_lag_bytes: usize,
}

/// A task or shard that waits for an answer of the engine.
enum Asker {
    Authorize(oneshot::Sender<Result<Allowed, Denial>>),
    Admin(oneshot::Sender<Result<AdminReply, RpcError>>),
    Claim { from: mpsc::WeakSender<ShardMsg>, ask: AskId },
}

/// A connection of the shard.
struct Slot {
    writer: Writer,
    /// Whether `Worker::dirty` holds the connection, to be written at the end of the turn.
    dirty: bool,
}

pub(crate) struct Worker {
    engine: Engine,
    parts: WorkerParts,
    mailbox: mpsc::Receiver<ShardMsg>,
    own: mpsc::WeakSender<ShardMsg>,
    shards: WeakShards,
    outgoing: OutgoingQueue,
    slots: HashMap<ConnId, Slot>,
    dirty: Vec<ConnId>,
    framer: Framer,
    askers: HashMap<QueryId, Asker>,
    last_query: u64,
    drained: Option<oneshot::Sender<bool>>,
    stopping: bool,
}

impl Worker {
    pub(crate) fn new(
        engine: Engine,
        parts: WorkerParts,
        mailbox: mpsc::Receiver<ShardMsg>,
        own: &mpsc::Sender<ShardMsg>,
        shards: &Shards,
    ) -> Self {
        Worker {
            engine,
            parts,
            mailbox,
            own: own.downgrade(),
            shards: shards.downgrade(),
            outgoing: OutgoingQueue::new(),
            slots: HashMap::new(),
            dirty: Vec::new(),
            framer: Framer::default(),
            askers: HashMap::new(),
            last_query: 0,
            drained: None,
            stopping: false,
        }
    }

    /// Restores the state of an earlier process. The grace of its members begins now, so the server should accept
    /// connections right after this.
    pub(crate) fn restore(&mut self, restored: Restored) {
        self.handle(Input::Restore(Box::new(restored)));
        self.finish_turn();
    }

    /// Runs until all mailbox senders are dropped or [`ShardMsg::Stop`] was handled.
    pub(crate) async fn run(mut self) {
        self.outgoing.start_delivery();
        while !self.stopping {
            let deadline = self.engine.next_deadline().map(|at| self.parts.clock.instant(at));
            let sleep = async {
                match deadline {
                    Some(at) => sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            let mut bytes = 0;
            tokio::select! {
                message = self.mailbox.recv() => match message {
                    Some(message) => {
                        bytes += message.bytes();
                        self.take(message);
                    }
                    None => return,
                },
                () = sleep => self.handle(Input::Tick),
            }
            for _ in 1..MAX_TURN_MESSAGES {
                if bytes >= MAX_TURN_BYTES {
                    break;
                }
                let Ok(message) = self.mailbox.try_recv() else { break };
                bytes += message.bytes();
                self.take(message);
            }
            self.finish_turn();
            if bytes >= MAX_TURN_BYTES {
                // Lets the tasks run that have messages for the shard.
                tokio::task::yield_now().await;
            }
        }
        // Messages after the stop: a new connection is told that the server stops, and each query fails.
        self.mailbox.close();
        while let Some(message) = self.mailbox.recv().await {
            self.take(message);
        }
    }

    fn handle(&mut self, input: Input) {
        self.engine.handle(self.parts.clock.now(), input);
    }

    fn take(&mut self, message: ShardMsg) {
        match message {
            ShardMsg::Adopt { sink, .. } if self.stopping => {
                let mut writer = Writer::new(sink);
                writer.push(frame::going_away());
                writer.close(CloseCode::GOING_AWAY);
            }
            // All connections are closed. Dropping a query tells its asker that the shard has ended.
            _ if self.stopping => {}
            ShardMsg::Adopt { conn, sink, entry } => {
                self.slots.insert(conn, Slot { writer: Writer::new(sink), dirty: false });
                self.handle(entry);
            }
            ShardMsg::Input(input) => self.handle(input),
            ShardMsg::Over { conn, reply } => {
                // Earlier outputs still leave, for instance a close frame.
                self.execute_outputs();
                if let Some(slot) = self.slots.remove(&conn) {
                    slot.writer.end(reply);
                }
                self.handle(Input::Closed { conn });
            }
            // The connection was closed, so its frames are dropped.
            ShardMsg::Frame { conn, permit, .. } | ShardMsg::Alive { conn, permit, .. }
                if !self.slots.contains_key(&conn) =>
            {
                permit.close();
            }
            ShardMsg::Frame { conn, frame, permit } => {
                // If this frame closes the connection, the engine ignores its later frames.
                self.handle(Input::Frame { conn, frame });
                drop(permit);
            }
            ShardMsg::Alive { conn, reply, permit } => {
                if !reply.is_empty() {
                    self.push(conn, reply);
                }
                self.handle(Input::ControlFrame { conn });
                drop(permit);
            }
            ShardMsg::Writable(conn) => {
                if let Some(slot) = self.slots.get_mut(&conn) {
                    slot.writer.unblock();
                    if !std::mem::replace(&mut slot.dirty, true) {
                        self.dirty.push(conn);
                    }
                }
            }
            ShardMsg::Authorize { generation, access, answer } => {
                let query = self.ask(Asker::Authorize(answer));
                self.handle(Input::Authorize { query, generation, access });
            }
            ShardMsg::Withdraw(query) => {
                self.askers.remove(&query);
                self.handle(Input::CancelAuthorize { query });
            }
            ShardMsg::Publication { generation, answer } => {
                let _ = answer.send(self.engine.publication(generation));
            }
            ShardMsg::Claim { claim, from, ask } => {
                let query = self.ask(Asker::Claim { from, ask });
                self.handle(Input::Claim { query, claim });
            }
            ShardMsg::Admin { command, answer } => {
                let query = self.ask(Asker::Admin(answer));
                self.handle(Input::Admin { query, command });
            }
            ShardMsg::Stats(answer) => {
                let _ = answer.send(self.engine.stats());
            }
            ShardMsg::Drain { plan, drained } => {
                self.drained = Some(drained);
                self.handle(Input::Drain(plan));
            }
            ShardMsg::Stop => {
                self.stopping = true;
                self.handle(Input::Stop);
            }
        }
    }

    fn ask(&mut self, asker: Asker) -> QueryId {
        self.last_query += 1;
        let query = QueryId(self.last_query);
        self.askers.insert(query, asker);
        query
    }

    /// Executes the outputs of the engine and writes each connection that has new frames. The results (a reader that
    /// lags, a socket that is gone) are inputs of the engine again, until no connection is left to write.
    fn finish_turn(&mut self) {
        let Some(own) = self.own.upgrade() else { return };
        self.execute_outputs();
        while !self.dirty.is_empty() {
            for conn in std::mem::take(&mut self.dirty) {
                let Some(slot) = self.slots.get_mut(&conn) else { continue };
                slot.dirty = false;
                match slot.writer.write() {
                    Written::Done => {}
                    Written::Blocked(wait) => wake_when_ready(conn, wait, own.clone()),
                    Written::Gone => {
                        self.slots.remove(&conn);
                        self.handle(Input::Closed { conn });
                        continue;
                    }
                }
                if slot.writer.lags(self.parts.max_lag_bytes) {
                    self.handle(Input::Lagging { conn });
                }
            }
            self.execute_outputs();
        }
        self.framer.forget();
    }

    fn execute_outputs(&mut self) {
        while let Some(output) = self.engine.poll_output() {
            self.execute(output);
        }
    }

    fn execute(&mut self, output: Output) {
        match output {
            Output::Send { conn, frame } => {
                let frame = self.framer.text(frame);
                self.push(conn, frame);
            }
            Output::Ping { conn } => self.push(conn, frame::ping()),
            Output::Close { conn, code } => {
                if let Some(slot) = self.slots.remove(&conn) {
                    slot.writer.close(code);
                }
            }
            Output::Ask { id, question } => self.answer(id, question),
            Output::AuthorizePending { query } => self.watch(query),
            Output::Verdict { query, verdict } => {
                if let Some(Asker::Authorize(answer)) = self.askers.remove(&query) {
                    let _ = answer.send(verdict);
                }
            }
            Output::AdminReply { query, reply } => {
                if let Some(Asker::Admin(answer)) = self.askers.remove(&query) {
                    let _ = answer.send(reply);
                }
            }
            Output::SetPublished { appkey, generation, kinds } => {
                if let Some(provider) = self.parts.providers.of(&appkey) {
                    provider.set_published(generation, kinds);
                }
            }
            Output::SetSubscribed { appkey, generation, viewer, kinds } => {
                if let Some(provider) = self.parts.providers.of(&appkey) {
                    provider.set_subscribed(generation, viewer, kinds);
                }
            }
            Output::CutStream { appkey, generation } => {
                if let Some(provider) = self.parts.providers.of(&appkey) {
                    provider.cut_stream(generation);
                }
            }
            Output::CutViewer { appkey, generation, viewer } => {
                if let Some(provider) = self.parts.providers.of(&appkey) {
                    provider.cut_viewer(generation, viewer);
                }
            }
            Output::Store(ops) => self.parts.store.write(ops, None),
            Output::Drained { handed_over } => {
                if let Some(drained) = self.drained.take() {
                    let _ = drained.send(handed_over);
                }
            }
            Output::Note(note) => self.parts.notes.note(note),
            Output::Order(order) => {
                if let Some(executor) = &self.parts.executor {
                    executor.order(order);
                }
            }
            Output::Release { claim, rest } => {
                let claim_shard = self.claim_shard(&claim);
                self.outgoing.send(claim_shard, ShardMsg::Input(Input::Release { claim, rest }));
            }
            Output::Claimed { query, claimed } => {
                if let Some(Asker::Claim { from, ask }) = self.askers.remove(&query) {
                    let answer = Input::Answer { id: ask, answer: Answer::Claimed(claimed) };
                    self.outgoing.send(from, ShardMsg::Input(answer));
                }
            }
        }
    }

    /// The shard that keeps this claim.
    fn claim_shard(&self, claim: &Claim) -> mpsc::WeakSender<ShardMsg> {
        self.shards.of(claim.key.name().route())
    }

    /// Withdraws the query from the engine if its asker stops waiting for the answer.
    fn watch(&mut self, query: QueryId) {
        let Some(Asker::Authorize(mut asker)) = self.askers.remove(&query) else { return };
        let (answer, verdict) = oneshot::channel();
        self.askers.insert(query, Asker::Authorize(answer));
        let own = self.own.clone();
        tokio::spawn(async move {
            tokio::select! {
                biased;
                verdict = verdict => {
                    // An error: the shard has ended, and dropping `asker` tells that.
                    if let Ok(verdict) = verdict {
                        let _ = asker.send(verdict);
                    }
                }
                () = asker.closed() => if let Some(own) = own.upgrade() {
                    let _ = own.send(ShardMsg::Withdraw(query)).await;
                },
            }
        });
    }

    /// Answers a question of the engine, at once if possible.
    fn answer(&mut self, id: AskId, question: Question) {
        let answer = match question {
            Question::Mint(request) => match self.mint(&request) {
                Minting::Ready(minted) => Answer::Minted(minted),
                Minting::Pending(urls) => {
                    let own = self.own.clone();
                    tokio::spawn(async move {
                        let answer = Answer::Minted(urls.await);
                        if let Some(own) = own.upgrade() {
                            // An error: the shard has ended.
                            let _ = own.send(ShardMsg::Input(Input::Answer { id, answer })).await;
                        }
                    });
                    return;
                }
            },
            Question::Verify(TokenRequest { appkey, uid, channel, token }) => Answer::Verified(
                self.parts.authenticator.verify_renewal(&appkey, &token.0, uid, &channel),
            ),
            Question::Admit(admission) => {
                let Some(executor) = &self.parts.executor else {
                    return self.handle(Input::Answer { id, answer: Answer::Admitted(None) });
                };
                let (admitting, own) = (executor.admit(*admission), self.own.clone());
                tokio::spawn(async move {
                    let answer = Answer::Admitted(Some(admitting.await));
                    if let Some(own) = own.upgrade() {
                        // An error: the shard has ended.
                        let _ = own.send(ShardMsg::Input(Input::Answer { id, answer })).await;
                    }
                });
                return;
            }
            Question::Claim(claim) => {
                let (claim_shard, from) = (self.claim_shard(&claim), self.own.clone());
                return self.outgoing.send(claim_shard, ShardMsg::Claim { claim, from, ask: id });
            }
            Question::Store(ops) => {
                self.parts.store.write(ops, Some(self.stored(id)));
                return;
            }
        };
        self.handle(Input::Answer { id, answer });
    }

    fn mint(&self, request: &MintRequest) -> Minting {
        match self.parts.providers.of(&request.appkey) {
            Some(provider) => provider.mint(request, self.parts.clock.now().wall),
            None => Minting::Ready(None),
        }
    }

    /// The callback that reports the result of a write to the engine.
    fn stored(&self, id: AskId) -> Ack {
        let own = self.own.clone();
        Box::new(move |stored| {
            if let Some(own) = own.upgrade() {
                let input = Input::Answer { id, answer: Answer::Stored(stored) };
                // The thread of the writer may block here, because a shard never waits for it. An error: the shard has
                // ended.
                let _ = own.blocking_send(ShardMsg::Input(input));
            }
        })
    }

    fn push(&mut self, conn: ConnId, frame: bytes::Bytes) {
        if let Some(slot) = self.slots.get_mut(&conn) {
            slot.writer.push(frame);
            if !std::mem::replace(&mut slot.dirty, true) {
                self.dirty.push(conn);
            }
        }
    }
}

/// Tells a shard when the sink of a connection accepts bytes again, or that it has stalled or is gone.
fn wake_when_ready(conn: ConnId, wait: Wait, shard: mpsc::Sender<ShardMsg>) {
    tokio::spawn(async move {
        let message = if wait.ready().await {
            ShardMsg::Writable(conn)
        } else {
            ShardMsg::Input(Input::Lagging { conn })
        };
        let _ = shard.send(message).await;
    });
}

#[cfg(test)]
#[path = "worker_tests.rs"]
mod tests;
