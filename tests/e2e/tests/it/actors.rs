//! The participants of the fault tests: native clients, each with an observer, and their random calls. Comes in: a
//! seed. Goes out: calls, and how each was settled. Deliberately absent: faults.

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
use crate::observer::Observer;

/// Numbers that look random and depend on the seed alone (splitmix64).
#[derive(Clone, Debug)]
pub(crate) struct SeededRng(u64);

impl SeededRng {
    pub(crate) fn new(seed: u64) -> SeededRng {
        SeededRng(seed)
    }

    /// An independent generator.
    pub(crate) fn fork(&mut self) -> SeededRng {
        SeededRng(self.next())
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// One of `0..sides`, of which there is at least one.
    pub(crate) fn below(&mut self, sides: usize) -> usize {
        (self.next() % sides.max(1) as u64) as usize
    }

    pub(crate) fn pick<'a, T>(&mut self, of: &'a [T]) -> Option<&'a T> {
        of.get(self.below(of.len()))
    }

    pub(crate) fn ms(&mut self, from: u64, to: u64) -> Duration {
        Duration::from_millis(from + self.next() % (to - from).max(1))
    }
}

/// The outcome of a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Outcome<T> {
    Done(T),
    /// It may have taken effect.
    Unknown,
    /// It had no effect; the name of the reason.
    Refused(String),
}

/// Common properties of the errors of all calls.
pub(crate) trait CallError: Debug {
    fn name(&self) -> Option<String>;
    fn is_unknown(&self) -> bool;
}

macro_rules! call_errors {
    ($($error:ident)+) => { $(
        impl CallError for $error {
            fn name(&self) -> Option<String> {
                self.rpc().map(|error| error.name().as_str().to_owned())
            }
            fn is_unknown(&self) -> bool {
                matches!(self, $error::OutcomeUnknown)
            }
        }
    )+ };
}

call_errors! { CommandError LeaveError MessageError PublishError RenewTokenError SubscribeError }

impl<T> Outcome<T> {
    pub(crate) fn of<E: CallError>(result: Result<T, E>) -> Outcome<T> {
        match result {
            Ok(value) => Outcome::Done(value),
            Err(error) if error.is_unknown() => Outcome::Unknown,
            Err(error) => {
                let own = || format!("{error:?}").split([' ', '(']).next().map(str::to_owned);
                Outcome::Refused(error.name().or_else(own).unwrap_or_default())
            }
        }
    }
}

/// A client in a room.
#[derive(Clone, Debug)]
pub(crate) struct Actor {
    pub(crate) client: Client,
    pub(crate) observer: Arc<Observer>,
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

impl Actor {
    /// A client that is in no room yet. `address` leads to the server.
    pub(crate) fn new(address: SocketAddr, room: usize, uid: u64, role: Role) -> Actor {
        let mut config = ClientConfig::new(format!("ws://{address}"), "demo");
        // A connection that is not accepted is given up soon.
        config.connect_timeout = Duration::from_secs(2);
        Actor::with(config, room, uid, role)
    }

    /// Like [`Actor::new`], with a configuration.
    pub(crate) fn with(config: ClientConfig, room: usize, uid: u64, role: Role) -> Actor {
        let client = Client::new(config).expect("the address of a server");
        let compares = uid.is_multiple_of(3);
        let observer = Observer::of(&client, UserId(uid), role.clone(), compares);
        Actor { client, observer, room, role, comes_and_goes: false, is_on_air: false }
    }

    pub(crate) fn uid(&self) -> UserId {
        self.observer.uid
    }

    pub(crate) async fn join(&self) -> Result<()> {
        self.observer.seen().wanted = crate::observer::WantedState::new(self.role.clone());
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

    pub(crate) fn record<T>(&self, method: &'static str, began: Instant, settled: &Outcome<T>) {
        let outcome = match settled {
            Outcome::Done(_) => "done".to_owned(),
            Outcome::Unknown => "outcomeUnknown".to_owned(),
            Outcome::Refused(name) => name.clone(),
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

/// State that all actors share.
#[derive(Debug, Default)]
pub(crate) struct Workload {
    pub(crate) ledger: Ledger,
    pub(crate) tally: Tally,
    /// Number of changes of a channel's topic.
    topics: AtomicU64,
    /// The uids that may get targeted messages, by room.
    pub(crate) addressees: BTreeMap<usize, Vec<UserId>>,
}

fn random_media(rng: &mut SeededRng) -> MediaSelector {
    match rng.below(4) {
        0 => MediaSelector::Both,
        1 => MediaSelector::Kind(MediaKind::Audio),
        2 => MediaSelector::Kind(MediaKind::Video),
        _ => MediaSelector::Kind(MediaKind::ScreenShare),
    }
}

/// Kinds that a member may mute.
pub(crate) fn random_mutable_media(rng: &mut SeededRng) -> MediaSelector {
    match random_media(rng) {
        MediaSelector::Kind(MediaKind::ScreenShare) => MediaSelector::Both,
        media => media,
    }
}

impl Workload {
    /// Makes one random call, and notes the state that the actor wants.
    pub(crate) async fn act(&self, actor: &Actor, rng: &mut SeededRng) {
        match rng.below(100) {
            0..18 => self.say(actor, None).await,
            18..24 => {
                // Calls at the same time keep their order.
                tokio::join!(self.say(actor, None), self.say(actor, None), self.say(actor, None));
            }
            24..48 => {
                let all = self.addressees.get(&actor.room).map_or(&[][..], Vec::as_slice);
                let to = rng.pick(all).copied().filter(|uid| *uid != actor.uid());
                if to.is_some() {
                    self.say(actor, to).await;
                }
            }
            48..58 => self.publish(actor, random_media(rng)).await,
            58..65 => self.unpublish(actor, random_media(rng)).await,
            65..76 => self.subscribe(actor, rng).await,
            76..79 => self.unsubscribe(actor, rng).await,
            79..84 => self.change_role(actor, rng).await,
            84..91 => self.mute(actor, random_mutable_media(rng), rng.below(2) == 0).await,
            91..98 => self.attributes(actor).await,
            98 if actor.comes_and_goes => self.leave_and_join(actor).await,
            _ => self.channel_attributes(actor).await,
        }
    }

    pub(crate) async fn say(&self, actor: &Actor, to: Option<UserId>) {
        let began = Instant::now();
        let settled = self.ledger.say(&actor.client, (actor.room, actor.uid()), to).await;
        let method = if to.is_some() { "sendMessage to" } else { "sendMessage" };
        self.tally.record(method, began, &settled);
    }

    pub(crate) async fn publish(&self, actor: &Actor, media: MediaSelector) {
        let media = media_of(actor, media);
        let began = Instant::now();
        let settled = Outcome::of(actor.client.publish(media.clone()).await);
        self.tally.record("publish", began, &settled);
        note_published(actor, &media, &settled, true);
    }

    pub(crate) async fn unpublish(&self, actor: &Actor, media: MediaSelector) {
        let media = media_of(actor, media);
        let began = Instant::now();
        let settled = Outcome::of(actor.client.unpublish(media.clone()).await);
        self.tally.record("unpublish", began, &settled);
        note_published(actor, &media, &settled, false);
    }

    async fn subscribe(&self, actor: &Actor, rng: &mut SeededRng) {
        let members = actor.client.members();
        let streams = members
            .iter()
            .filter(|member| member.uid != actor.uid())
            .flat_map(|member| member.streams.keys().map(|kind| (member.uid, kind.clone())));
        let streams: Vec<_> = streams.collect();
        let Some((uid, kind)) = rng.pick(&streams).cloned() else { return };
        self.subscribe_to(actor, uid, kind).await;
    }

    pub(crate) async fn subscribe_to(&self, actor: &Actor, uid: UserId, kind: MediaKind) {
        let began = Instant::now();
        let settled = Outcome::of(actor.client.subscribe(uid, kind).await);
        self.tally.record("subscribe", began, &settled);
    }

    async fn unsubscribe(&self, actor: &Actor, rng: &mut SeededRng) {
        let Some(own) = actor.client.self_info() else { return };
        let streams: Vec<_> = own.subscriptions.keys().cloned().collect();
        let Some((uid, kind)) = rng.pick(&streams).cloned() else { return };
        if !actor.is_on_air {
            self.unsubscribe_from(actor, uid, kind).await;
        }
    }

    pub(crate) async fn unsubscribe_from(&self, actor: &Actor, uid: UserId, kind: MediaKind) {
        let began = Instant::now();
        let settled = Outcome::of(actor.client.unsubscribe(uid, kind).await);
        self.tally.record("unsubscribe", began, &settled);
    }

    async fn change_role(&self, actor: &Actor, rng: &mut SeededRng) {
        if actor.is_on_air {
            return;
        }
        // An audience member always becomes broadcaster again.
        let to_audience = actor.role_now() == Some(Role::Broadcaster) && rng.below(2) == 0;
        let role = if to_audience { Role::Audience } else { Role::Broadcaster };
        self.set_role(actor, role).await;
    }

    pub(crate) async fn set_role(&self, actor: &Actor, role: Role) {
        let began = Instant::now();
        let settled = Outcome::of(actor.client.set_role(role.clone()).await);
        self.tally.record("setRole", began, &settled);
        let mut seen = actor.observer.seen();
        match settled {
            Outcome::Done(()) => seen.wanted.become_role(role),
            Outcome::Unknown => {
                seen.wanted.role = None;
                seen.wanted.published.clear();
            }
            Outcome::Refused(_) => {}
        }
    }

    pub(crate) async fn mute(&self, actor: &Actor, media: MediaSelector, muted: bool) {
        let began = Instant::now();
        let settled = match muted {
            true => Outcome::of(actor.client.mute(media.clone()).await),
            false => Outcome::of(actor.client.unmute(media.clone()).await),
        };
        self.tally.record(if muted { "mute" } else { "unmute" }, began, &settled);
        let mut seen = actor.observer.seen();
        for kind in media.kinds().iter() {
            match settled {
                Outcome::Done(()) => drop(seen.wanted.muted.insert(kind.clone(), muted)),
                Outcome::Unknown => drop(seen.wanted.muted.remove(kind)),
                Outcome::Refused(_) => {}
            }
        }
    }

    /// Increments the counter of the actor.
    pub(crate) async fn attributes(&self, actor: &Actor) {
        let next = {
            let mut seen = actor.observer.seen();
            seen.counted += 1;
            seen.counted
        };
        let attributes = BTreeMap::from([(COUNTER.to_owned(), Some(next.to_string()))]);
        let began = Instant::now();
        let settled = Outcome::of(actor.client.set_attributes(attributes, None).await);
        self.tally.record("setAttributes", began, &settled);
        let mut seen = actor.observer.seen();
        match settled {
            Outcome::Done(()) => seen.wanted.counter = Some(next),
            Outcome::Unknown => seen.wanted.counter = None,
            Outcome::Refused(_) => {}
        }
    }

    async fn channel_attributes(&self, actor: &Actor) {
        if actor.client.picture().is_none_or(|picture| picture.creator != actor.uid()) {
            return;
        }
        self.set_topic(actor).await;
    }

    /// Increments the topic of the channel.
    pub(crate) async fn set_topic(&self, actor: &Actor) {
        let now = Instant::now();
        let value = self.topics.fetch_add(1, Ordering::Relaxed).to_string();
        let attributes = BTreeMap::from([(TOPIC.to_owned(), Some(value))]);
        let settled = Outcome::of(actor.client.set_channel_attributes(attributes).await);
        self.tally.record("setAttributes of the channel", now, &settled);
    }

    async fn leave_and_join(&self, actor: &Actor) {
        if actor.client.state() != ConnectionState::Connected {
            return;
        }
        let began = Instant::now();
        let settled = Outcome::of(actor.client.leave().await);
        self.tally.record("leave", began, &settled);
        let began = Instant::now();
        let settled = match actor.join().await {
            Ok(()) => Outcome::Done(()),
            Err(error) => Outcome::Refused(format!("{error:#}")),
        };
        self.tally.record("join", began, &settled);
    }
}

/// An actor on air keeps camera and microphone, and varies only its screen.
fn media_of(actor: &Actor, media: MediaSelector) -> MediaSelector {
    if actor.is_on_air { MediaSelector::Kind(MediaKind::ScreenShare) } else { media }
}

fn note_published<T>(actor: &Actor, media: &MediaSelector, settled: &Outcome<T>, published: bool) {
    let mut seen = actor.observer.seen();
    for kind in media.kinds().iter() {
        match settled {
            Outcome::Done(_) => drop(seen.wanted.published.insert(kind.clone(), published)),
            Outcome::Unknown => drop(seen.wanted.published.remove(kind)),
            Outcome::Refused(_) => {}
        }
    }
}
