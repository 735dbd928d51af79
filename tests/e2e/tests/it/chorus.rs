//! A full server whose members give commands all the time: every method that a member can call, at an even pace, such
//! that only a fault can make the server refuse one. Some things happen once: members leave or are kicked, publications
//! are ended, channels are closed. Comes in: a server. Goes out: what every member must have heard. Deliberately
//! absent: the stop of the server.

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use lianmai_client_sdk::protocol::message::session::{ReportDir, ReportType};
use lianmai_client_sdk::{
    Client, ClientConfig, JoinOptions, MediaKind, MediaSelector, Role, UserId,
};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval};

use crate::cast::{Dice, Guest, House, Settled, some_mute};
use crate::fault_proxy::Way;
use crate::score::Score;
use crate::stage::{PATIENCE, Stage};
use crate::tokens;

pub(crate) const ROOMS: usize = 100;
pub(crate) const SEATS: usize = 10;
/// Channels that are closed during the test, with two members each.
const CLOSED: usize = 10;
/// Commands per second of all members together; at least 200 are wanted.
const PER_SECOND: u32 = 300;
/// In one of this many rooms, one member hears nothing of the stop.
const DEAF_IN: usize = 10;
/// One of this many commands is one of [`Once`].
const ONCE_IN: usize = 6;
/// Each of these methods is called while the server stops.
pub(crate) const METHODS: [&str; 20] = [
    "sendMessage",
    "sendMessage to",
    "setAttributes",
    "setAttributes of the channel",
    "publish",
    "unpublish",
    "unpublish of another",
    "subscribe",
    "unsubscribe",
    "setRole",
    "setRole of another",
    "mute",
    "unmute",
    "mute of another",
    "unmute of another",
    "kick",
    "leave",
    "closeChannel",
    "renewToken",
    "report",
];

/// Seats with a special part. A member whose state another member changes does not change the same state itself, so
/// that the order is known.
const HOST: usize = 0;
const MUTED_BY_HOST: usize = 5;
const CAST_BY_HOST: usize = 6;
const SILENCED_BY_HOST: usize = 7;
const VISITOR: usize = SEATS;

fn uid_of(room: usize, seat: usize) -> UserId {
    UserId((room * (SEATS + 1) + seat + 1) as u64)
}

/// Things that happen once.
#[derive(Clone, Debug)]
enum Once {
    Leave { visitor: usize },
    Kick { room: usize, visitor: usize },
    Silence { room: usize, kind: MediaKind },
    Close { channel: usize },
}

/// All members.
#[derive(Debug)]
pub(crate) struct Chorus {
    /// Members that stay, ten in each room; the first of them moderates.
    pub(crate) guests: Vec<Guest>,
    /// One member in each room: half of them leave, the others are kicked.
    visitors: Vec<Guest>,
    /// Two members in each channel that is closed.
    doomed: Vec<Guest>,
    /// A member of an app with tokens.
    tokened: Client,
    /// The connections of the members that hear nothing of the stop.
    ways: Vec<Way>,
    pub(crate) house: Rc<House>,
    pub(crate) score: RefCell<Score>,
    once: RefCell<Vec<Once>>,
    begun: Cell<u64>,
}

impl Chorus {
    /// All members join. The configuration of the server must define the apps of the tests.
    pub(crate) async fn gather(stage: &Stage) -> Result<Chorus> {
        let server = stage.server.public;
        let guest = |address: SocketAddr, room, seat, role| {
            let mut config = ClientConfig::new(format!("ws://{address}"), "demo");
            // A busy machine must not make a call fail.
            config.command_timeout = PATIENCE;
            Guest::with(config, room, uid_of(room, seat).0, role)
        };
        let mut ways = Vec::new();
        let (mut guests, mut visitors, mut doomed) = (Vec::new(), Vec::new(), Vec::new());
        for room in 0..ROOMS {
            for seat in 0..=VISITOR {
                let mut address = server;
                if room.is_multiple_of(DEAF_IN) && seat < SEATS {
                    let way = Way::to(server).await?;
                    address = way.address;
                    ways.push(way);
                }
                let is_audience = (SEATS - 2..SEATS).contains(&seat);
                let role = if is_audience { Role::Audience } else { Role::Broadcaster };
                let guest = guest(address, room, seat, role);
                guest.join().await?;
                let kinds = match seat {
                    HOST => &[MediaKind::Audio, MediaKind::Video][..],
                    SILENCED_BY_HOST => MediaKind::ALL,
                    _ => &[],
                };
                for kind in kinds {
                    guest.client.publish(MediaSelector::Kind(kind.clone())).await?;
                    guest.witness.seen().wish.published.insert(kind.clone(), true);
                }
                if seat == VISITOR { visitors.push(guest) } else { guests.push(guest) }
            }
        }
        for room in ROOMS..ROOMS + CLOSED {
            for seat in 0..2 {
                let guest = guest(server, room, seat, Role::Broadcaster);
                guest.join().await?;
                doomed.push(guest);
            }
        }
        let tokened = Client::new(ClientConfig::new(format!("ws://{server}"), "safe"))?;
        let entry = JoinOptions::new("room").uid(7u64)?.token(tokens::jwt("room", "7", |_, _| {}));
        tokened.join(entry).await?;
        let (once, begun) = (RefCell::new(Vec::new()), Cell::new(0));
        let (house, score) = (Rc::default(), RefCell::default());
        Ok(Chorus { guests, visitors, doomed, tokened, ways, house, score, once, begun })
    }

    pub(crate) fn all_in_rooms(&self) -> Vec<Guest> {
        [&self.guests[..], &self.visitors].concat()
    }

    /// From now on everything counts.
    pub(crate) fn begin(&self, dice: &mut Dice) {
        *self.score.borrow_mut() = Score::begin(&self.all_in_rooms());
        let visitors = (0..self.visitors.len()).map(|visitor| match visitor % 2 {
            0 => Once::Leave { visitor },
            _ => Once::Kick { room: visitor, visitor },
        });
        let silence = |room| MediaKind::ALL.iter().map(move |kind| (room, kind.clone()));
        let silence = (0..ROOMS).flat_map(silence).map(|(room, kind)| Once::Silence { room, kind });
        let close = (0..CLOSED).map(|channel| Once::Close { channel });
        let mut left: Vec<_> = visitors.chain(silence).chain(close).collect();
        let mut once = self.once.borrow_mut();
        while !left.is_empty() {
            once.push(left.swap_remove(dice.roll(left.len())));
        }
    }

    /// From now on the commands of some members take effect, but no answer reaches them.
    pub(crate) fn deafen(&self) {
        self.ways.iter().for_each(|way| way.stall(false, true));
    }

    /// Cuts the connections of these members, and holds new ones. Returns the number of these members.
    pub(crate) fn lose_the_deaf(&self) -> usize {
        for way in &self.ways {
            way.open(false);
            way.cut(true);
        }
        self.ways.len()
    }

    /// These members come back, and repeat their unanswered requests.
    pub(crate) fn let_in(&self) {
        self.ways.iter().for_each(|way| way.open(true));
    }

    /// Gives commands without waiting for earlier ones, until it is told to stop and everything of [`Once`] has
    /// happened; then waits for all calls.
    pub(crate) async fn sing(self: Rc<Self>, mut dice: Dice, stop: watch::Receiver<bool>) {
        let mut tick = interval(Duration::from_secs(1) / PER_SECOND);
        tick.set_missed_tick_behavior(MissedTickBehavior::Burst);
        let mut calls = JoinSet::new();
        while !*stop.borrow() || !self.once.borrow().is_empty() {
            tick.tick().await;
            self.begun.set(self.begun.get() + 1);
            let once = if dice.roll(ONCE_IN) == 0 { self.once.borrow_mut().pop() } else { None };
            let (at, mut own, all) = (dice.roll(self.guests.len()), dice.another(), self.clone());
            calls.spawn_local(async move {
                match once {
                    Some(once) => all.happens(once).await,
                    None => all.command(at, &mut own).await,
                }
            });
            while calls.try_join_next().is_some() {}
        }
        calls.join_all().await;
    }

    /// Number of commands that were given so far.
    pub(crate) fn begun(&self) -> u64 {
        self.begun.get()
    }

    async fn command(&self, at: usize, dice: &mut Dice) {
        let (guest, seat, house) = (&self.guests[at], at % SEATS, &*self.house);
        let (room, uid) = (guest.room, guest.uid());
        // The effect of a command is noted when the command begins: commands of one member take effect in this order.
        let score = || self.score.borrow_mut();
        let screen = MediaSelector::Kind(MediaKind::ScreenShare);
        let is_on = dice.roll(2) == 0;
        match (dice.roll(10), seat) {
            (0..2, _) => house.say(guest, None).await,
            (2..4, _) => {
                let to = uid_of(room, dice.roll(SEATS));
                let to = if to == uid { uid_of(room, (seat + 1) % SEATS) } else { to };
                house.say(guest, Some(to)).await;
            }
            (4, CAST_BY_HOST) | (5, MUTED_BY_HOST | CAST_BY_HOST) => self.report(guest).await,
            (4, _) => {
                score().update(uid);
                house.attributes(guest).await;
            }
            (5, _) => {
                let media = some_mute(dice);
                score().mute(uid, &media, is_on);
                house.mute(guest, media, is_on).await;
            }
            (6, HOST) => {
                score().topic(room);
                house.set_topic(guest).await;
            }
            (7, HOST) => self.mute_other(guest, at + MUTED_BY_HOST, is_on).await,
            (8, HOST) => self.cast_other(guest, at + CAST_BY_HOST, is_on).await,
            (_, HOST) => self.renew().await,
            (6..8, 1 | 2) if is_on => {
                score().publish(uid, &screen);
                house.publish(guest, screen).await;
            }
            (6..8, 1 | 2) => {
                score().unpublish(uid, &screen);
                house.unpublish(guest, screen).await;
            }
            (6..8, 3 | 4) => {
                let role = if is_on { Role::Broadcaster } else { Role::Audience };
                score().become_role(uid, &role);
                house.set_role(guest, role).await;
            }
            _ if is_on => house.subscribe_to(guest, uid_of(room, HOST), MediaKind::Video).await,
            _ => house.unsubscribe_from(guest, uid_of(room, HOST), MediaKind::Video).await,
        }
    }

    async fn happens(&self, once: Once) {
        let began = Instant::now();
        let (method, settled) = match once {
            Once::Leave { visitor } => {
                let visitor = &self.visitors[visitor];
                self.score.borrow_mut().end(visitor.uid());
                ("leave", Settled::of(visitor.client.leave().await))
            }
            Once::Kick { room, visitor } => {
                let uid = self.visitors[visitor].uid();
                self.score.borrow_mut().end(uid);
                let host = &self.guests[room * SEATS + HOST].client;
                ("kick", Settled::of(host.kick(uid, Duration::from_secs(60), None).await))
            }
            Once::Silence { room, kind } => {
                let (host, other) =
                    (&self.guests[room * SEATS], &self.guests[room * SEATS + SILENCED_BY_HOST]);
                let media = MediaSelector::Kind(kind);
                self.score.borrow_mut().unpublish(other.uid(), &media);
                let settled = Settled::of(host.client.unpublish_of(other.uid(), media).await);
                ("unpublish of another", settled)
            }
            Once::Close { channel } => {
                let host = &self.doomed[channel * 2].client;
                ("closeChannel", Settled::of(host.close_channel(Duration::ZERO, None).await))
            }
        };
        self.house.tally.note(method, began, &settled);
    }

    async fn mute_other(&self, host: &Guest, other: usize, muted: bool) {
        let (other, began) = (&self.guests[other], Instant::now());
        let (uid, media) = (other.uid(), MediaSelector::Kind(MediaKind::Audio));
        self.score.borrow_mut().mute(uid, &media, muted);
        let (method, settled) = match muted {
            true => ("mute of another", Settled::of(host.client.mute_of(uid, media).await)),
            false => ("unmute of another", Settled::of(host.client.unmute_of(uid, media).await)),
        };
        self.house.tally.note(method, began, &settled);
    }

    async fn cast_other(&self, host: &Guest, other: usize, seen: bool) {
        let (other, began) = (&self.guests[other], Instant::now());
        let role = if seen { Role::Broadcaster } else { Role::Audience };
        self.score.borrow_mut().become_role(other.uid(), &role);
        let settled = Settled::of(host.client.set_role_of(other.uid(), role).await);
        self.house.tally.note("setRole of another", began, &settled);
    }

    async fn renew(&self) {
        let (token, began) = (tokens::jwt("room", "7", |_, _| {}), Instant::now());
        let settled = Settled::of(self.tokened.renew_token(token).await);
        self.house.tally.note("renewToken", began, &settled);
    }

    async fn report(&self, guest: &Guest) {
        let began = Instant::now();
        let report = guest.client.report(
            ReportDir::Push,
            ReportType::NetStatus,
            serde_json::Map::default(),
            None,
        );
        let settled = Settled::of(report.await);
        self.house.tally.note("report", began, &settled);
    }

    /// Checks that each visitor ended once, in the right way.
    pub(crate) fn endings(&self) -> Result<Vec<String>> {
        ensure!(self.once.borrow().is_empty(), "something is still to happen");
        let visitors = self.visitors.iter().enumerate().map(|(visitor, guest)| {
            let code = if visitor.is_multiple_of(2) { 1000 } else { 4500 };
            (guest, code)
        });
        let doomed = self.doomed.iter().map(|guest| (guest, 4501));
        let ended = visitors.chain(doomed).filter_map(|(guest, code)| {
            let seen = guest.witness.seen();
            let codes: Vec<_> = seen.ends.iter().map(|(code, ..)| *code).collect();
            let fine = codes == [code] && seen.complaints.is_empty();
            let (uid, ends, complaints) = (guest.uid().0, &seen.ends, &seen.complaints);
            (!fine).then(|| format!("uid {uid} ended {ends:?}, not with {code}; {complaints:?}"))
        });
        Ok(ended.collect())
    }
}
