//! The participants of the fault tests: native clients, each with a witness, and their random calls. Comes in: dice.
//! Goes out: calls, and how each was settled. Deliberately absent: faults.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use lianmai_client_sdk::{
    Client, ClientConfig, CommandError, ConnectionState, JoinOptions, LeaveError, MediaKind,
    MediaSelector, MessageError, PublishError, RenewTokenError, Role, SubscribeError, UserId,
};

use crate::fold::{COUNTER, TOPIC};
use crate::ledger::Ledger;
use crate::witness::Witness;

/// Numbers that look random and depend on the seed alone (splitmix64).
#[derive(Clone, Debug)]
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) fn new(seed: u64) -> Dice {
        Dice(seed)
    }

    /// Independent dice.
    pub(crate) fn another(&mut self) -> Dice {
        Dice(self.next())
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// One of `0..sides`, of which there is at least one.
    pub(crate) fn roll(&mut self, sides: usize) -> usize {
        (self.next() % sides.max(1) as u64) as usize
    }

    pub(crate) fn pick<'a, T>(&mut self, of: &'a [T]) -> Option<&'a T> {
        of.get(self.roll(of.len()))
    }

    pub(crate) fn ms(&mut self, from: u64, to: u64) -> Duration {
        Duration::from_millis(from + self.next() % (to - from).max(1))
    }
}

/// The outcome of a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Settled<T> {
    Done(T),
    /// It may have taken effect.
    Unknown,
    /// It had no effect; the name of the reason.
    Refused(String),
}

/// Common properties of the errors of all calls.
pub(crate) trait Failure: Debug {
    fn name(&self) -> Option<String>;
    fn is_unknown(&self) -> bool;
}

macro_rules! failures {
    ($($error:ident)+) => { $(
        impl Failure for $error {
            fn name(&self) -> Option<String> {
                self.rpc().map(|error| error.name().as_str().to_owned())
            }
            fn is_unknown(&self) -> bool {
                matches!(self, $error::OutcomeUnknown)
            }
        }
    )+ };
}

failures! { CommandError LeaveError MessageError PublishError RenewTokenError SubscribeError }

impl<T> Settled<T> {
    pub(crate) fn of<E: Failure>(result: Result<T, E>) -> Settled<T> {
        match result {
            Ok(value) => Settled::Done(value),
            Err(error) if error.is_unknown() => Settled::Unknown,
            Err(error) => {
                let own = || format!("{error:?}").split([' ', '(']).next().map(str::to_owned);
                Settled::Refused(error.name().or_else(own).unwrap_or_default())
            }
        }
    }
}

/// A client in a room.
#[derive(Clone, Debug)]
pub(crate) struct Guest {
    pub(crate) client: Client,
    pub(crate) witness: Arc<Witness>,
    pub(crate) room: usize,
    pub(crate) role: Role,
    /// It leaves and joins from time to time: no member sends it targeted messages.
    pub(crate) comes_and_goes: bool,
    /// Its media is pushed, or its play is watched: it keeps its role, its camera, its microphone and its
    /// subscriptions.
    pub(crate) is_on_air: bool,
}

/// The name of a room.
pub(crate) fn room_name(room: usize) -> String {
    format!("room{room}")
}

impl Guest {
    /// A client that is in no room yet. `address` leads to the server.
    pub(crate) fn new(address: SocketAddr, room: usize, uid: u64, role: Role) -> Guest {
        let mut config = ClientConfig::new(format!("ws://{address}"), "demo");
        // A connection that is not accepted is given up soon.
        config.connect_timeout = Duration::from_secs(2);
        Guest::with(config, room, uid, role)
    }

    /// Like [`Guest::new`], with a configuration.
    pub(crate) fn with(config: ClientConfig, room: usize, uid: u64, role: Role) -> Guest {
        let client = Client::new(config).expect("the address of a server");
        let compares = uid.is_multiple_of(3);
        let witness = Witness::of(&client, UserId(uid), role.clone(), compares);
        Guest { client, witness, room, role, comes_and_goes: false, is_on_air: false }
    }

    pub(crate) fn uid(&self) -> UserId {
        self.witness.uid
    }

    pub(crate) async fn join(&self) -> Result<()> {
        self.witness.seen().wish = crate::witness::Wish::new(self.role.clone());
        let options = JoinOptions::new(room_name(self.room)).uid(self.uid())?;
        let joined = self.client.join(options.role(self.role.clone())).await;
        joined.with_context(|| format!("uid {} does not join", self.uid().0))?;
        Ok(())
    }

    /// The role as the client knows it.
    fn role_now(&self) -> Option<Role> {
        self.client.self_info().map(|own| own.role)
    }
}

/// The outcomes of all calls.
#[derive(Debug, Default)]
pub(crate) struct Tally(Mutex<Counts>);

#[derive(Debug, Default)]
struct Counts {
    by_outcome: BTreeMap<(&'static str, String), u64>,
    /// The start of each call.
    began: Vec<(&'static str, Instant)>,
    longest: Duration,
}

impl Tally {
    fn lock(&self) -> MutexGuard<'_, Counts> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn note<T>(&self, method: &'static str, began: Instant, settled: &Settled<T>) {
        let outcome = match settled {
            Settled::Done(_) => "done".to_owned(),
            Settled::Unknown => "outcomeUnknown".to_owned(),
            Settled::Refused(name) => name.clone(),
        };
        let mut all = self.lock();
        *all.by_outcome.entry((method, outcome)).or_default() += 1;
        all.began.push((method, began));
        all.longest = all.longest.max(began.elapsed());
    }

    /// Number of settled calls.
    pub(crate) fn count(&self) -> u64 {
        self.lock().by_outcome.values().sum()
    }

    /// Number of calls that succeeded.
    pub(crate) fn done(&self) -> u64 {
        let all = self.lock();
        let done = all.by_outcome.iter().filter(|((_, outcome), _)| outcome == "done");
        done.map(|(_, count)| count).sum()
    }

    /// Methods that were called between two moments, with their numbers.
    pub(crate) fn methods(&self, from: Instant, until: Instant) -> BTreeMap<&'static str, u64> {
        let mut methods = BTreeMap::new();
        for (method, _) in self.lock().began.iter().filter(|(_, at)| (from..until).contains(at)) {
            *methods.entry(*method).or_default() += 1;
        }
        methods
    }

    /// The longest duration of a call.
    pub(crate) fn longest(&self) -> Duration {
        self.lock().longest
    }

    /// Calls with an outcome that `is_fine` does not accept.
    pub(crate) fn bad(&self, is_fine: impl Fn(&str, &str) -> bool) -> Vec<String> {
        let all = self.lock();
        let bad = all.by_outcome.iter().filter(|((method, outcome), _)| !is_fine(method, outcome));
        bad.map(|((method, outcome), count)| format!("{method}: {outcome} ({count})")).collect()
    }

    /// All numbers in one line.
    pub(crate) fn summary(&self) -> String {
        let all = self.lock();
        let each = all.by_outcome.iter().map(|((method, outcome), count)| {
            let outcome = if outcome == "done" { String::new() } else { format!(" {outcome}") };
            format!("{method}{outcome} {count}")
        });
        each.collect::<Vec<_>>().join(", ")
    }
}

/// State that all guests share.
#[derive(Debug, Default)]
pub(crate) struct House {
    pub(crate) ledger: Ledger,
    pub(crate) tally: Tally,
    /// Number of changes of a channel's topic.
    topics: AtomicU64,
    /// The uids that may get targeted messages, by room.
    pub(crate) addressees: BTreeMap<usize, Vec<UserId>>,
}

fn some_kind(dice: &mut Dice) -> MediaSelector {
    match dice.roll(4) {
        0 => MediaSelector::Both,
        1 => MediaSelector::Kind(MediaKind::Audio),
        2 => MediaSelector::Kind(MediaKind::Video),
        _ => MediaSelector::Kind(MediaKind::ScreenShare),
    }
}

/// Kinds that a member may mute.
pub(crate) fn some_mute(dice: &mut Dice) -> MediaSelector {
    match some_kind(dice) {
        MediaSelector::Kind(MediaKind::ScreenShare) => MediaSelector::Both,
        media => media,
    }
}

impl House {
    /// Makes one random call, and notes the state that the guest wants.
    pub(crate) async fn act(&self, guest: &Guest, dice: &mut Dice) {
        match dice.roll(100) {
            0..18 => self.say(guest, None).await,
            18..24 => {
                // Calls at the same time keep their order.
                tokio::join!(self.say(guest, None), self.say(guest, None), self.say(guest, None));
            }
            24..48 => {
                let all = self.addressees.get(&guest.room).map_or(&[][..], Vec::as_slice);
                let to = dice.pick(all).copied().filter(|uid| *uid != guest.uid());
                if to.is_some() {
                    self.say(guest, to).await;
                }
            }
            48..58 => self.publish(guest, some_kind(dice)).await,
            58..65 => self.unpublish(guest, some_kind(dice)).await,
            65..76 => self.subscribe(guest, dice).await,
            76..79 => self.unsubscribe(guest, dice).await,
            79..84 => self.change_role(guest, dice).await,
            84..91 => self.mute(guest, some_mute(dice), dice.roll(2) == 0).await,
            91..98 => self.attributes(guest).await,
            98 if guest.comes_and_goes => self.leave_and_join(guest).await,
            _ => self.channel_attributes(guest).await,
        }
    }

    pub(crate) async fn say(&self, guest: &Guest, to: Option<UserId>) {
        let began = Instant::now();
        let settled = self.ledger.say(&guest.client, (guest.room, guest.uid()), to).await;
        let method = if to.is_some() { "sendMessage to" } else { "sendMessage" };
        self.tally.note(method, began, &settled);
    }

    pub(crate) async fn publish(&self, guest: &Guest, media: MediaSelector) {
        let media = on_air(guest, media);
        let began = Instant::now();
        let settled = Settled::of(guest.client.publish(media.clone()).await);
        self.tally.note("publish", began, &settled);
        note_published(guest, &media, &settled, true);
    }

    pub(crate) async fn unpublish(&self, guest: &Guest, media: MediaSelector) {
        let media = on_air(guest, media);
        let began = Instant::now();
        let settled = Settled::of(guest.client.unpublish(media.clone()).await);
        self.tally.note("unpublish", began, &settled);
        note_published(guest, &media, &settled, false);
    }

    async fn subscribe(&self, guest: &Guest, dice: &mut Dice) {
        let members = guest.client.members();
        let streams = members
            .iter()
            .filter(|member| member.uid != guest.uid())
            .flat_map(|member| member.streams.keys().map(|kind| (member.uid, kind.clone())));
        let streams: Vec<_> = streams.collect();
        let Some((uid, kind)) = dice.pick(&streams).cloned() else { return };
        self.subscribe_to(guest, uid, kind).await;
    }

    pub(crate) async fn subscribe_to(&self, guest: &Guest, uid: UserId, kind: MediaKind) {
        let began = Instant::now();
        let settled = Settled::of(guest.client.subscribe(uid, kind).await);
        self.tally.note("subscribe", began, &settled);
    }

    async fn unsubscribe(&self, guest: &Guest, dice: &mut Dice) {
        let Some(own) = guest.client.self_info() else { return };
        let streams: Vec<_> = own.subscriptions.keys().cloned().collect();
        let Some((uid, kind)) = dice.pick(&streams).cloned() else { return };
        if !guest.is_on_air {
            self.unsubscribe_from(guest, uid, kind).await;
        }
    }

    pub(crate) async fn unsubscribe_from(&self, guest: &Guest, uid: UserId, kind: MediaKind) {
        let began = Instant::now();
        let settled = Settled::of(guest.client.unsubscribe(uid, kind).await);
        self.tally.note("unsubscribe", began, &settled);
    }

    async fn change_role(&self, guest: &Guest, dice: &mut Dice) {
        if guest.is_on_air {
            return;
        }
        // An audience member always becomes broadcaster again.
        let to_audience = guest.role_now() == Some(Role::Broadcaster) && dice.roll(2) == 0;
        let role = if to_audience { Role::Audience } else { Role::Broadcaster };
        self.set_role(guest, role).await;
    }

    pub(crate) async fn set_role(&self, guest: &Guest, role: Role) {
        let began = Instant::now();
        let settled = Settled::of(guest.client.set_role(role.clone()).await);
        self.tally.note("setRole", began, &settled);
        let mut seen = guest.witness.seen();
        match settled {
            Settled::Done(()) => seen.wish.become_role(role),
            Settled::Unknown => {
                seen.wish.role = None;
                seen.wish.published.clear();
            }
            Settled::Refused(_) => {}
        }
    }

    pub(crate) async fn mute(&self, guest: &Guest, media: MediaSelector, muted: bool) {
        let began = Instant::now();
        let settled = match muted {
            true => Settled::of(guest.client.mute(media.clone()).await),
            false => Settled::of(guest.client.unmute(media.clone()).await),
        };
        self.tally.note(if muted { "mute" } else { "unmute" }, began, &settled);
        let mut seen = guest.witness.seen();
        for kind in media.kinds().iter() {
            match settled {
                Settled::Done(()) => drop(seen.wish.muted.insert(kind.clone(), muted)),
                Settled::Unknown => drop(seen.wish.muted.remove(kind)),
                Settled::Refused(_) => {}
            }
        }
    }

    /// Increments the counter of the guest.
    pub(crate) async fn attributes(&self, guest: &Guest) {
        let next = {
            let mut seen = guest.witness.seen();
            seen.counted += 1;
            seen.counted
        };
        let attributes = BTreeMap::from([(COUNTER.to_owned(), Some(next.to_string()))]);
        let began = Instant::now();
        let settled = Settled::of(guest.client.set_attributes(attributes, None).await);
        self.tally.note("setAttributes", began, &settled);
        let mut seen = guest.witness.seen();
        match settled {
            Settled::Done(()) => seen.wish.counter = Some(next),
            Settled::Unknown => seen.wish.counter = None,
            Settled::Refused(_) => {}
        }
    }

    async fn channel_attributes(&self, guest: &Guest) {
        if guest.client.picture().is_none_or(|picture| picture.creator != guest.uid()) {
            return;
        }
        self.set_topic(guest).await;
    }

    /// Increments the topic of the channel.
    pub(crate) async fn set_topic(&self, guest: &Guest) {
        let now = Instant::now();
        let value = self.topics.fetch_add(1, Ordering::Relaxed).to_string();
        let attributes = BTreeMap::from([(TOPIC.to_owned(), Some(value))]);
        let settled = Settled::of(guest.client.set_channel_attributes(attributes).await);
        self.tally.note("setAttributes of the channel", now, &settled);
    }

    async fn leave_and_join(&self, guest: &Guest) {
        if guest.client.state() != ConnectionState::Connected {
            return;
        }
        let began = Instant::now();
        let settled = Settled::of(guest.client.leave().await);
        self.tally.note("leave", began, &settled);
        let began = Instant::now();
        let settled = match guest.join().await {
            Ok(()) => Settled::Done(()),
            Err(error) => Settled::Refused(format!("{error:#}")),
        };
        self.tally.note("join", began, &settled);
    }
}

/// A guest on air keeps camera and microphone, and varies only its screen.
fn on_air(guest: &Guest, media: MediaSelector) -> MediaSelector {
    if guest.is_on_air { MediaSelector::Kind(MediaKind::ScreenShare) } else { media }
}

fn note_published<T>(guest: &Guest, media: &MediaSelector, settled: &Settled<T>, published: bool) {
    let mut seen = guest.witness.seen();
    for kind in media.kinds().iter() {
        match settled {
            Settled::Done(_) => drop(seen.wish.published.insert(kind.clone(), published)),
            Settled::Unknown => drop(seen.wish.published.remove(kind)),
            Settled::Refused(_) => {}
        }
    }
}
