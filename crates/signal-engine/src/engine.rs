//! The engine of one shard: routes each input to its channel and each due timer too.
//!
//! The contract of the run loop: call [`Engine::handle`] with one input and the moment, then take every
//! output with [`Engine::poll_output`] and execute it in order, then sleep no longer than
//! [`Engine::next_deadline`] and hand in [`Input::Tick`].

use std::collections::BTreeMap;

use lianmai_protocol::message::session::{CloseChannel, Kick};
use lianmai_protocol::{CloseCode, ErrorName, MonoTime, Now, RequestId, RpcError, UserId};
use rand_chacha::ChaCha12Rng;
use rand_core::SeedableRng;

use crate::admission::Grant;
use crate::channel::Channel;
use crate::config::EngineConfig;
use crate::context::{ChannelRef, Context};
use crate::input::{AdminCommand, ConnId, Input, JoinRequest};
use crate::key::ChannelKey;
use crate::output::{AdminReply, Denial, Note, Output, Stats};
use crate::timers::Timer;

/// Bans and holds are looked through this often, in milliseconds.
const SWEEP_MS: u64 = 60_000;

/// A deadline that is noticed so much too late, in milliseconds, means that the process stood still.
const STALL_MS: u64 = 2_000;

/// See the module.
pub struct Engine {
    context: Context,
    channels: BTreeMap<ChannelRef, Channel>,
    names: BTreeMap<ChannelKey, ChannelRef>,
    last_channel: u64,
    sweeping: bool,
}

impl Engine {
    /// An engine without channels. `seed` must come from the operating system: ids and secrets follow
    /// from it (contract rule B12).
    #[must_use]
    pub fn new(config: EngineConfig, seed: [u8; 32]) -> Self {
        Engine {
            context: Context::new(config, ChaCha12Rng::from_seed(seed)),
            channels: BTreeMap::new(),
            names: BTreeMap::new(),
            last_channel: 0,
            sweeping: false,
        }
    }

    /// Handles one input, and then every deadline that is due.
    pub fn handle(&mut self, now: Now, input: Input) {
        let mono = now.mono.max(self.context.now.mono);
        self.context.now = Now { mono, wall: now.wall };
        self.forgive_stall(mono);
        self.input(input);
        while let Some(timer) = self.context.timers.pop_due(mono) {
            self.timer(timer);
        }
    }

    /// A process that stood still has not listened: nobody is held silent for that time (rule B23).
    fn forgive_stall(&mut self, mono: MonoTime) {
        let Some(due) = self.context.timers.next() else { return };
        if mono <= due + STALL_MS {
            return;
        }
        for channel in self.channels.values_mut() {
            channel.forgive(mono.since(due));
        }
    }

    /// The next thing to do, in order.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.context.outputs.pop_front()
    }

    /// When [`Engine::handle`] must be called again if nothing happens before.
    #[must_use]
    pub fn next_deadline(&self) -> Option<MonoTime> {
        self.context.timers.next()
    }

    /// Counters for metrics.
    #[must_use]
    pub fn stats(&self) -> Stats {
        Stats { channels: self.channels.len(), ..self.context.stats }
    }

    fn input(&mut self, input: Input) {
        match input {
            Input::Join { conn, request } => self.join(conn, *request),
            Input::Frame { conn, frame } => {
                self.with_seat(conn, |channel, cx, uid| channel.frame(cx, uid, conn, &frame));
            }
            Input::BinaryFrame { conn } => self.with_seat(conn, |channel, cx, uid| {
                channel.drop_connection(cx, uid, CloseCode::PROTOCOL_VIOLATION);
            }),
            Input::Alive { conn } => {
                self.with_seat(conn, |channel, cx, uid| channel.alive(cx, uid, conn));
            }
            Input::Closed { conn } => {
                self.with_seat(conn, |channel, cx, uid| channel.connection_lost(cx, uid, conn));
                if self.context.seats.remove(&conn).is_some() {
                    self.context.stats.connected -= 1;
                }
            }
            Input::Lagging { conn } => self.with_seat(conn, |channel, cx, uid| {
                channel.drop_connection(cx, uid, CloseCode::SLOW_READER);
            }),
            Input::Minted { mint, result } => {
                if let Some(seat) = self.context.mints.remove(&mint) {
                    self.with_channel(seat.channel, |channel, cx| {
                        channel.minted(cx, seat.uid, mint, result);
                    });
                }
            }
            Input::TokenVerified { conn, id, grant } => self.with_seat(conn, |channel, cx, uid| {
                channel.token_verified(cx, uid, id, grant);
            }),
            Input::Authorize { query, generation, access } => {
                let channel = self.context.streams.get(&generation);
                let verdict = channel
                    .and_then(|id| self.channels.get(id))
                    .ok_or(Denial::UnknownStream)
                    .and_then(|channel| channel.authorize(generation, access));
                self.context.outputs.push_back(Output::Verdict { query, verdict });
            }
            Input::MediaFlow { generation } => {
                if let Some(&id) = self.context.streams.get(&generation) {
                    self.with_channel(id, |channel, cx| channel.media_flow(cx, generation));
                }
            }
            Input::Admin { query, command } => {
                let reply = self.admin(command);
                self.context.outputs.push_back(Output::AdminReply { query, reply });
            }
            Input::Stop => {
                for conn in self.context.seats.keys().copied().collect::<Vec<_>>() {
                    self.with_seat(conn, |channel, cx, uid| {
                        channel.drop_connection(cx, uid, CloseCode::GOING_AWAY);
                    });
                }
            }
            Input::Tick => {}
        }
    }

    fn timer(&mut self, timer: Timer) {
        match timer {
            Timer::Flush(id) => self.with_channel(id, Channel::flush_due),
            Timer::Count(id) => self.with_channel(id, Channel::count_due),
            Timer::Liveness(id, uid) => {
                self.with_channel(id, |channel, cx| channel.liveness_due(cx, uid));
            }
            Timer::Grace(id, uid) => {
                self.with_channel(id, |channel, cx| channel.grace_due(cx, uid))
            }
            Timer::Token(id, uid) => {
                self.with_channel(id, |channel, cx| channel.token_due(cx, uid))
            }
            Timer::Mint(mint) => {
                if let Some(seat) = self.context.mints.remove(&mint) {
                    self.with_channel(seat.channel, |channel, cx| {
                        channel.minted(cx, seat.uid, mint, None);
                    });
                }
            }
            Timer::Sweep => {
                self.context.restrictions.sweep(self.context.now);
                self.context.arm_in(SWEEP_MS, Timer::Sweep);
            }
        }
    }

    fn with_seat(&mut self, conn: ConnId, run: impl FnOnce(&mut Channel, &mut Context, UserId)) {
        if let Some(&seat) = self.context.seats.get(&conn) {
            self.with_channel(seat.channel, |channel, cx| run(channel, cx, seat.uid));
        }
    }

    fn with_channel(&mut self, id: ChannelRef, run: impl FnOnce(&mut Channel, &mut Context)) {
        let Some(channel) = self.channels.get_mut(&id) else { return };
        run(channel, &mut self.context);
        channel.settle(&mut self.context);
        if channel.is_over() {
            let note = Note::ChannelEnded { channel: channel.key().clone(), cid: channel.cid() };
            self.context.note(note);
            self.names.remove(channel.key());
            self.channels.remove(&id);
        }
    }

    fn join(&mut self, conn: ConnId, request: JoinRequest) {
        let JoinRequest { id, join, grant } = request;
        let key = ChannelKey { appkey: join.appkey.clone(), name: join.channel_name.clone() };
        if let Err(error) = self.try_join(conn, id, &key, join, grant) {
            let cx = &mut self.context;
            cx.note(Note::JoinRefused { channel: key, conn, error: error.name().clone() });
            cx.refuse_join(conn, id, &error);
        }
    }

    fn try_join(
        &mut self,
        conn: ConnId,
        id: RequestId,
        key: &ChannelKey,
        join: lianmai_protocol::message::session::Join,
        grant: Result<Grant, ErrorName>,
    ) -> Result<(), RpcError> {
        let cx = &mut self.context;
        let policy = cx.config.apps.get(&key.appkey).ok_or(ErrorName::BadAppkey)?.clone();
        let grant = grant?;
        let existing = self.names.get(key).copied();
        let uid = match (join.uid.or(grant.uid), existing.and_then(|id| self.channels.get(&id))) {
            (Some(uid), _) => uid,
            (None, Some(channel)) => channel.free_uid(cx),
            (None, None) => cx.new_uid(),
        };
        cx.restrictions.admit(cx.now, key, &join, uid, &grant)?;
        if let Some(channel) = existing {
            let mut result = Ok(());
            self.with_channel(channel, |channel, cx| {
                result = channel.join(cx, conn, id, uid, join, &grant);
            });
            return result;
        }
        if self.channels.len() >= cx.config.limits.channels {
            return Err(ErrorName::TooManyChannels.into());
        }
        self.last_channel += 1;
        let new = ChannelRef(self.last_channel);
        let mut channel = Channel::new(cx, new, key.clone(), policy, uid);
        // A refused join leaves no channel behind.
        channel.join(cx, conn, id, uid, join, &grant)?;
        channel.settle(cx);
        cx.note(Note::ChannelOpened { channel: key.clone(), cid: channel.cid() });
        self.names.insert(key.clone(), new);
        self.channels.insert(new, channel);
        if !self.sweeping {
            self.sweeping = true;
            self.context.arm_in(SWEEP_MS, Timer::Sweep);
        }
        Ok(())
    }

    fn admin(&mut self, command: AdminCommand) -> Result<AdminReply, RpcError> {
        let find = |key: &ChannelKey| {
            self.names
                .get(key)
                .copied()
                .ok_or_else(|| RpcError::new(ErrorName::ChannelClosed).message("No such channel."))
        };
        match command {
            AdminCommand::ListChannels => {
                Ok(AdminReply::Channels(self.channels.values().map(Channel::view).collect()))
            }
            AdminCommand::GetChannel(key) => {
                let id = find(&key)?;
                let channel = &self.channels[&id];
                Ok(AdminReply::Channel(channel.view(), channel.member_views()))
            }
            AdminCommand::Kick { channel, uid, duration_s, reason } => {
                let params = Kick { uid, duration_s, reason };
                let Ok(id) = find(&channel) else {
                    // Nobody is there, but a ban holds for who comes.
                    crate::channel::check_kick(&params)?;
                    if duration_s == 0 {
                        return Err(RpcError::new(ErrorName::NoSuchMember).field("uid"));
                    }
                    self.context.restrictions.ban(&channel, uid, self.context.now, duration_s);
                    return Ok(AdminReply::Done);
                };
                let mut result = Ok(());
                self.with_channel(id, |channel, cx| result = channel.kick_by_admin(cx, &params));
                result.map(|()| AdminReply::Done)
            }
            AdminCommand::Close { channel, hold_s, reason } => {
                let params = CloseChannel { hold_s, reason };
                let id = find(&channel)?;
                let mut result = Ok(());
                self.with_channel(id, |channel, cx| result = channel.close_by_admin(cx, &params));
                result.map(|()| AdminReply::Done)
            }
        }
    }
}
