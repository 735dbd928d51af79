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

use crate::actors::{Actor, Outcome, SeededRng, Workload, random_mutable_media};
use crate::expectations::ExpectedEvents;
use crate::fault_proxy::FaultProxy;
use crate::server::{TEST_TIMEOUT, TestServer};
use crate::tokens;

pub(crate) const ROOMS: usize = 100;
pub(crate) const SEATS: usize = 10;
/// Channels that are closed during the test, with two members each.
const CLOSED: usize = 10;
/// Commands per second of all members together; at least 200 are wanted.
const PER_SECOND: u32 = 300;
/// In one of this many rooms, one member hears nothing of the stop.
const STALLED_IN: usize = 10;
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
const ROLE_SET_BY_HOST: usize = 6;
const UNPUBLISHED_BY_HOST: usize = 7;
const VISITOR: usize = SEATS;

fn uid_of(room: usize, seat: usize) -> UserId {
    UserId((room * (SEATS + 1) + seat + 1) as u64)
}

/// Things that happen once.
#[derive(Clone, Debug)]
enum Once {
    Leave { visitor: usize },
    Kick { room: usize, visitor: usize },
    Unpublish { room: usize, kind: MediaKind },
    Close { channel: usize },
}

/// All members.
#[derive(Debug)]
pub(crate) struct Load {
    /// Members that stay, ten in each room; the first of them moderates.
    pub(crate) actors: Vec<Actor>,
    /// One member in each room: half of them leave, the others are kicked.
    visitors: Vec<Actor>,
    /// Two members in each channel that is closed.
    doomed: Vec<Actor>,
    /// A member of an app with tokens.
    tokened: Client,
    /// The connections of the members that hear nothing of the stop.
    proxies: Vec<FaultProxy>,
    pub(crate) workload: Rc<Workload>,
    pub(crate) expected: RefCell<ExpectedEvents>,
    once: RefCell<Vec<Once>>,
    begun: Cell<u64>,
}

impl Load {
    /// All members join. The configuration of the server must define the apps of the tests.
    pub(crate) async fn join_all_members(server: &TestServer) -> Result<Load> {
        let address = server.process.public;
        let actor = |address: SocketAddr, room, seat, role| {
            let mut config = ClientConfig::new(format!("ws://{address}"), "demo");
            // A busy machine must not make a call fail.
            config.command_timeout = TEST_TIMEOUT;
            Actor::with(config, room, uid_of(room, seat).0, role)
        };
        let mut proxies = Vec::new();
        let (mut actors, mut visitors, mut doomed) = (Vec::new(), Vec::new(), Vec::new());
        for room in 0..ROOMS {
            for seat in 0..=VISITOR {
                let mut client_address = address;
                if room.is_multiple_of(STALLED_IN) && seat < SEATS {
                    let proxy = FaultProxy::to(address).await?;
                    client_address = proxy.address;
                    proxies.push(proxy);
                }
                let is_audience = (SEATS - 2..SEATS).contains(&seat);
                let role = if is_audience { Role::Audience } else { Role::Broadcaster };
                let actor = actor(client_address, room, seat, role);
                actor.join().await?;
                let kinds = match seat {
                    HOST => &[MediaKind::Audio, MediaKind::Video][..],
                    UNPUBLISHED_BY_HOST => MediaKind::ALL,
                    _ => &[],
                };
                for kind in kinds {
                    actor.client.publish(MediaSelector::Kind(kind.clone())).await?;
                    actor.observer.seen().wanted.published.insert(kind.clone(), true);
                }
                if seat == VISITOR { visitors.push(actor) } else { actors.push(actor) }
            }
        }
        for room in ROOMS..ROOMS + CLOSED {
            for seat in 0..2 {
                let actor = actor(address, room, seat, Role::Broadcaster);
                actor.join().await?;
                doomed.push(actor);
            }
        }
        let tokened = Client::new(ClientConfig::new(format!("ws://{address}"), "safe"))?;
        let entry = JoinOptions::new("room").uid(7u64)?.token(tokens::jwt("room", "7", |_, _| {}));
        tokened.join(entry).await?;
        let (once, begun) = (RefCell::new(Vec::new()), Cell::new(0));
        let (workload, expected) = (Rc::default(), RefCell::default());
        Ok(Load { actors, visitors, doomed, tokened, proxies, workload, expected, once, begun })
    }

    pub(crate) fn all_in_rooms(&self) -> Vec<Actor> {
        [&self.actors[..], &self.visitors].concat()
    }

    /// From now on everything counts.
    pub(crate) fn begin(&self, rng: &mut SeededRng) {
        *self.expected.borrow_mut() = ExpectedEvents::begin(&self.all_in_rooms());
        let visitors = (0..self.visitors.len()).map(|visitor| match visitor % 2 {
            0 => Once::Leave { visitor },
            _ => Once::Kick { room: visitor, visitor },
        });
        let unpublish = |room| MediaKind::ALL.iter().map(move |kind| (room, kind.clone()));
        let unpublish =
            (0..ROOMS).flat_map(unpublish).map(|(room, kind)| Once::Unpublish { room, kind });
        let close = (0..CLOSED).map(|channel| Once::Close { channel });
        let mut left: Vec<_> = visitors.chain(unpublish).chain(close).collect();
        let mut once = self.once.borrow_mut();
        while !left.is_empty() {
            once.push(left.swap_remove(rng.below(left.len())));
        }
    }

    /// From now on the commands of some members take effect, but no answer reaches them.
    pub(crate) fn stall_answers(&self) {
        self.proxies.iter().for_each(|proxy| proxy.stall(false, true));
    }

    /// Cuts the connections of these members, and holds new ones. Returns the number of these members.
    pub(crate) fn cut_stalled(&self) -> usize {
        for proxy in &self.proxies {
            proxy.set_accepting(false);
            proxy.cut(true);
        }
        self.proxies.len()
    }

    /// These members come back, and repeat their unanswered requests.
    pub(crate) fn accept_again(&self) {
        self.proxies.iter().for_each(|proxy| proxy.set_accepting(true));
    }

    /// Gives commands without waiting for earlier ones, until it is told to stop and everything of [`Once`] has
    /// happened; then waits for all calls.
    pub(crate) async fn run(self: Rc<Self>, mut rng: SeededRng, stop: watch::Receiver<bool>) {
        let mut tick = interval(Duration::from_secs(1) / PER_SECOND);
        tick.set_missed_tick_behavior(MissedTickBehavior::Burst);
        let mut calls = JoinSet::new();
        while !*stop.borrow() || !self.once.borrow().is_empty() {
            tick.tick().await;
            self.begun.set(self.begun.get() + 1);
            let once = if rng.below(ONCE_IN) == 0 { self.once.borrow_mut().pop() } else { None };
            let (at, mut own, all) = (rng.below(self.actors.len()), rng.fork(), self.clone());
            calls.spawn_local(async move {
                match once {
                    Some(once) => all.perform_once(once).await,
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

    async fn command(&self, at: usize, rng: &mut SeededRng) {
        let (actor, seat, workload) = (&self.actors[at], at % SEATS, &*self.workload);
        let (room, uid) = (actor.room, actor.uid());
        // The effect of a command is noted when the command begins: commands of one member take effect in this order.
        let expected = || self.expected.borrow_mut();
        let screen = MediaSelector::Kind(MediaKind::ScreenShare);
        let is_on = rng.below(2) == 0;
        match (rng.below(10), seat) {
            (0..2, _) => workload.say(actor, None).await,
            (2..4, _) => {
                let to = uid_of(room, rng.below(SEATS));
                let to = if to == uid { uid_of(room, (seat + 1) % SEATS) } else { to };
                workload.say(actor, Some(to)).await;
            }
            (4, ROLE_SET_BY_HOST) | (5, MUTED_BY_HOST | ROLE_SET_BY_HOST) => {
                self.report(actor).await
            }
            (4, _) => {
                expected().update(uid);
                workload.attributes(actor).await;
            }
            (5, _) => {
                let media = random_mutable_media(rng);
                expected().mute(uid, &media, is_on);
                workload.mute(actor, media, is_on).await;
            }
            (6, HOST) => {
                expected().topic(room);
                workload.set_topic(actor).await;
            }
            (7, HOST) => self.mute_other(actor, at + MUTED_BY_HOST, is_on).await,
            (8, HOST) => self.set_role_of_other(actor, at + ROLE_SET_BY_HOST, is_on).await,
            (_, HOST) => self.renew().await,
            (6..8, 1 | 2) if is_on => {
                expected().publish(uid, &screen);
                workload.publish(actor, screen).await;
            }
            (6..8, 1 | 2) => {
                expected().unpublish(uid, &screen);
                workload.unpublish(actor, screen).await;
            }
            (6..8, 3 | 4) => {
                let role = if is_on { Role::Broadcaster } else { Role::Audience };
                expected().become_role(uid, &role);
                workload.set_role(actor, role).await;
            }
            _ if is_on => workload.subscribe_to(actor, uid_of(room, HOST), MediaKind::Video).await,
            _ => workload.unsubscribe_from(actor, uid_of(room, HOST), MediaKind::Video).await,
        }
    }

    async fn perform_once(&self, once: Once) {
        let began = Instant::now();
        let (method, settled) = match once {
            Once::Leave { visitor } => {
                let visitor = &self.visitors[visitor];
                self.expected.borrow_mut().end(visitor.uid());
                ("leave", Outcome::of(visitor.client.leave().await))
            }
            Once::Kick { room, visitor } => {
                let uid = self.visitors[visitor].uid();
                self.expected.borrow_mut().end(uid);
                let host = &self.actors[room * SEATS + HOST].client;
                ("kick", Outcome::of(host.kick(uid, Duration::from_secs(60), None).await))
            }
            Once::Unpublish { room, kind } => {
                let (host, other) =
                    (&self.actors[room * SEATS], &self.actors[room * SEATS + UNPUBLISHED_BY_HOST]);
                let media = MediaSelector::Kind(kind);
                self.expected.borrow_mut().unpublish(other.uid(), &media);
                let settled = Outcome::of(host.client.unpublish_of(other.uid(), media).await);
                ("unpublish of another", settled)
            }
            Once::Close { channel } => {
                let host = &self.doomed[channel * 2].client;
                ("closeChannel", Outcome::of(host.close_channel(Duration::ZERO, None).await))
            }
        };
        self.workload.tally.record(method, began, &settled);
    }

    async fn mute_other(&self, host: &Actor, other: usize, muted: bool) {
        let (other, began) = (&self.actors[other], Instant::now());
        let (uid, media) = (other.uid(), MediaSelector::Kind(MediaKind::Audio));
        self.expected.borrow_mut().mute(uid, &media, muted);
        let (method, settled) = match muted {
            true => ("mute of another", Outcome::of(host.client.mute_of(uid, media).await)),
            false => ("unmute of another", Outcome::of(host.client.unmute_of(uid, media).await)),
        };
        self.workload.tally.record(method, began, &settled);
    }

    async fn set_role_of_other(&self, host: &Actor, other: usize, seen: bool) {
        let (other, began) = (&self.actors[other], Instant::now());
        let role = if seen { Role::Broadcaster } else { Role::Audience };
        self.expected.borrow_mut().become_role(other.uid(), &role);
        let settled = Outcome::of(host.client.set_role_of(other.uid(), role).await);
        self.workload.tally.record("setRole of another", began, &settled);
    }

    async fn renew(&self) {
        let (token, began) = (tokens::jwt("room", "7", |_, _| {}), Instant::now());
        let settled = Outcome::of(self.tokened.renew_token(token).await);
        self.workload.tally.record("renewToken", began, &settled);
    }

    async fn report(&self, actor: &Actor) {
        let began = Instant::now();
        let report = actor.client.report(
            ReportDir::Push,
            ReportType::NetStatus,
            serde_json::Map::default(),
            None,
        );
        let settled = Outcome::of(report.await);
        self.workload.tally.record("report", began, &settled);
    }

    /// Checks that each visitor ended once, in the right way.
    pub(crate) fn wrong_ends(&self) -> Result<Vec<String>> {
        ensure!(self.once.borrow().is_empty(), "something is still to happen");
        let visitors = self.visitors.iter().enumerate().map(|(visitor, actor)| {
            let code = if visitor.is_multiple_of(2) { 1000 } else { 4500 };
            (actor, code)
        });
        let doomed = self.doomed.iter().map(|actor| (actor, 4501));
        let ended = visitors.chain(doomed).filter_map(|(actor, code)| {
            let seen = actor.observer.seen();
            let codes: Vec<_> = seen.ends.iter().map(|(code, ..)| *code).collect();
            let fine = codes == [code] && seen.complaints.is_empty();
            let (uid, ends, complaints) = (actor.uid().0, &seen.ends, &seen.complaints);
            (!fine).then(|| format!("uid {uid} ended {ends:?}, not with {code}; {complaints:?}"))
        });
        Ok(ended.collect())
    }
}
