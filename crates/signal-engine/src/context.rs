//! What every channel of an engine shares: the moment, the queue of outputs, timers, who sits where, and
//! the bans. A channel gets it with each call, so that it needs no reference to its engine.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use lianmai_protocol::{
    Action, Cid, CloseCode, Epoch, ErrorName, Gen, Mid, MonoTime, Now, Pub, RequestId, RpcError,
    SessionId, UserId, codec,
};
use rand_chacha::ChaCha12Rng;
use rand_core::Rng;

use crate::admission::Restrictions;
use crate::config::EngineConfig;
use crate::input::{ConnId, MintId};
use crate::lobby::closing_notice;
use crate::output::{MintRequest, Note, Output, Stats};
use crate::timers::{Timer, Timers};

/// A channel's place in its engine; never reused, so a late timer or answer finds nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ChannelRef(pub(crate) u64);

/// Where a connection sits.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Seat {
    pub(crate) channel: ChannelRef,
    pub(crate) uid: UserId,
}

/// See the module.
pub(crate) struct Context {
    pub(crate) config: EngineConfig,
    pub(crate) now: Now,
    pub(crate) outputs: VecDeque<Output>,
    pub(crate) timers: Timers,
    pub(crate) seats: BTreeMap<ConnId, Seat>,
    pub(crate) streams: BTreeMap<Gen, ChannelRef>,
    pub(crate) mints: BTreeMap<MintId, Seat>,
    pub(crate) restrictions: Restrictions,
    pub(crate) stats: Stats,
    rng: ChaCha12Rng,
    last_mint: u64,
}

impl Context {
    pub(crate) fn new(config: EngineConfig, rng: ChaCha12Rng) -> Self {
        Context {
            config,
            now: Now::default(),
            outputs: VecDeque::new(),
            timers: Timers::default(),
            seats: BTreeMap::new(),
            streams: BTreeMap::new(),
            mints: BTreeMap::new(),
            restrictions: Restrictions::default(),
            stats: Stats::default(),
            rng,
            last_mint: 0,
        }
    }

    pub(crate) fn mono(&self) -> MonoTime {
        self.now.mono
    }

    pub(crate) fn arm_in(&mut self, ms: u64, timer: Timer) {
        self.timers.arm(self.now.mono + ms, timer);
    }

    pub(crate) fn send(&mut self, conn: ConnId, frame: Bytes) {
        self.stats.frames += 1;
        self.outputs.push_back(Output::Send { conn, frame });
    }

    pub(crate) fn send_text(&mut self, conn: ConnId, text: String) {
        self.send(conn, Bytes::from(text));
    }

    pub(crate) fn note(&mut self, note: Note) {
        self.outputs.push_back(Output::Note(note));
    }

    /// Announces and closes a connection, and forgets it. A slow reader gets no announcement, since it
    /// would not arrive (contract rule A11).
    pub(crate) fn close(&mut self, conn: ConnId, code: CloseCode) {
        if self.seats.remove(&conn).is_some() {
            self.stats.connected -= 1;
        }
        if code != CloseCode::SLOW_READER {
            self.send_text(conn, closing_notice(code, None, None));
        }
        self.note(Note::Closing { conn, code });
        self.outputs.push_back(Output::Close { conn, code });
    }

    /// Answers a join with an error, announces what to do about it, and closes.
    pub(crate) fn refuse_join(&mut self, conn: ConnId, id: RequestId, error: &RpcError) {
        self.stats.refusals += 1;
        let code = CloseCode::JOIN_REFUSED;
        // Whether and when to come back is told by the error (SES-4).
        let action = match error.name() {
            ErrorName::TokenExpired => Action::RenewToken,
            _ => Action::None,
        };
        self.send_text(conn, codec::encode_error(Some(id), error));
        self.send_text(conn, closing_notice(code, Some(action), error.data.retry_after_ms));
        self.note(Note::Closing { conn, code });
        self.outputs.push_back(Output::Close { conn, code });
    }

    pub(crate) fn mint(&mut self, seat: Seat, request: MintRequest) -> MintId {
        self.last_mint += 1;
        let mint = MintId(self.last_mint);
        self.mints.insert(mint, seat);
        self.arm_in(self.config.mint_timeout_ms, Timer::Mint(mint));
        self.outputs.push_back(Output::MintUrls { mint, request });
        mint
    }

    fn random<const N: usize>(&mut self) -> [u8; N] {
        let mut bytes = [0; N];
        self.rng.fill_bytes(&mut bytes);
        bytes
    }

    pub(crate) fn new_epoch(&mut self) -> Epoch {
        Epoch(self.random())
    }

    pub(crate) fn new_mid(&mut self) -> Mid {
        Mid(self.random())
    }

    pub(crate) fn new_pub(&mut self) -> Pub {
        Pub(self.random())
    }

    pub(crate) fn new_session_id(&mut self) -> SessionId {
        SessionId(self.random())
    }

    pub(crate) fn new_generation(&mut self, route: u32) -> Gen {
        Gen { route, random: self.random() }
    }

    /// A number 1..2^53.
    pub(crate) fn new_cid(&mut self) -> Cid {
        Cid((self.rng.next_u64() >> 11).max(1))
    }

    /// A uid 2^32..2^53 (decisions D5); the caller checks that it is free.
    pub(crate) fn new_uid(&mut self) -> UserId {
        const LOW: u64 = 1 << 32;
        UserId(LOW + (self.rng.next_u64() >> 11) % ((1 << 53) - LOW))
    }
}
