//! Receives every event of one client in the order of delivery, like an app, folds them, and compares them with what
//! the client shows at that moment. Comes in: events, and the outcomes of the app's own calls. Goes out: complaints,
//! received messages, losses of the connection and how they ended.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use lianmai_client_sdk::protocol::message::notice::Direction;
use lianmai_client_sdk::{
    Client, ConnectionState, Event, EventKind, MediaKind, ReconnectOutcome, ResumeReason, Role,
    StateReason, UserId,
};

use crate::expectations::EventCounts;
use crate::fold::{Complaint, Fold, counter, whose};

/// Most complaints of one observer that are kept.
const COMPLAINTS: usize = 8;

/// A loss of the connection after which the client came back.
#[derive(Clone, Debug)]
pub(crate) struct Reconnection {
    /// When the last event of the channel before the loss was received.
    pub(crate) blind_from: Instant,
    pub(crate) lost: Instant,
    pub(crate) back: Instant,
    pub(crate) outcome: ReconnectOutcome,
    /// Whether messages to all may have been missed.
    pub(crate) missed: bool,
    pub(crate) messages_lost: u64,
}

impl Reconnection {
    /// Whether the server that it came back to may have lost its newest state.
    pub(crate) fn is_after_crash(&self) -> bool {
        use ReconnectOutcome::{Rejoined, Snapshot};
        match &self.outcome {
            Snapshot { reason } => *reason == ResumeReason::EpochChanged,
            Rejoined { .. } => true,
            _ => false,
        }
    }
}

/// The state that the app wants, as far as its calls determine it.
#[derive(Clone, Debug, Default)]
pub(crate) struct WantedState {
    pub(crate) role: Option<Role>,
    pub(crate) published: BTreeMap<MediaKind, bool>,
    pub(crate) muted: BTreeMap<MediaKind, bool>,
    pub(crate) counter: Option<u64>,
}

impl WantedState {
    /// The state of a member that has just joined.
    pub(crate) fn new(role: Role) -> WantedState {
        let of = |kinds: &[MediaKind]| kinds.iter().map(|kind| (kind.clone(), false)).collect();
        let (published, muted) = (of(MediaKind::ALL), of(&[MediaKind::Audio, MediaKind::Video]));
        WantedState { role: Some(role), published, muted, counter: Some(0) }
    }

    pub(crate) fn become_role(&mut self, role: Role) {
        if role == Role::Audience {
            self.published = MediaKind::ALL.iter().map(|kind| (kind.clone(), false)).collect();
        }
        self.role = Some(role);
    }
}

/// What one app received.
#[derive(Debug)]
pub(crate) struct Seen {
    /// The folded state of the channel; `None` while in no channel.
    pub(crate) fold: Option<Fold>,
    pub(crate) wanted: WantedState,
    /// The last value of the counter in the app's attributes.
    pub(crate) counted: u64,
    /// Ids of messages to all and to the app alone.
    pub(crate) messages: BTreeSet<u64>,
    newest: BTreeMap<(UserId, bool), u64>,
    pub(crate) returns: Vec<Reconnection>,
    lost: Option<Instant>,
    blind_from: Instant,
    last_event: Instant,
    /// Possible complaints: the outcome of the return decides.
    doubtful: Vec<String>,
    pub(crate) complaints: Vec<String>,
    /// Ends of memberships: code, reason, terminal.
    pub(crate) ends: Vec<(u16, String, bool)>,
    /// The newest pull URLs (FLV) of cameras that the client reported by itself, by uid.
    pub(crate) pulls: BTreeMap<UserId, String>,
    pub(crate) events: u64,
    /// Events about others and about the channel.
    pub(crate) heard: EventCounts,
}

/// Observes one client.
#[derive(Debug)]
pub(crate) struct Observer {
    pub(crate) uid: UserId,
    seen: Mutex<Seen>,
}

impl Observer {
    /// Observes from now on. If it `compares`, it compares its fold with the getters after each event.
    pub(crate) fn of(client: &Client, uid: UserId, role: Role, compares: bool) -> Arc<Observer> {
        let now = Instant::now();
        let seen = Seen {
            fold: None,
            wanted: WantedState::new(role),
            counted: 0,
            messages: BTreeSet::new(),
            newest: BTreeMap::new(),
            returns: Vec::new(),
            lost: None,
            blind_from: now,
            last_event: now,
            doubtful: Vec::new(),
            complaints: Vec::new(),
            ends: Vec::new(),
            pulls: BTreeMap::new(),
            events: 0,
            heard: EventCounts::default(),
        };
        let observer = Arc::new(Observer { uid, seen: Mutex::new(seen) });
        let (hears, client_of) = (Arc::clone(&observer), client.downgrade());
        client.on(EventKind::All, move |event| {
            let Some(client) = client_of.upgrade() else { return };
            let mut seen = hears.seen();
            seen.on_event(event, &client);
            if compares {
                seen.compare(event, &client);
            }
        });
        observer
    }

    pub(crate) fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the connection exists and the app was told everything about its last loss.
    pub(crate) fn is_back(&self) -> bool {
        let seen = self.seen();
        seen.lost.is_none() && seen.fold.is_some()
    }
}

impl Seen {
    pub(crate) fn complain(&mut self, text: String) {
        if self.complaints.len() < COMPLAINTS {
            self.complaints.push(text);
        }
    }

    fn on_event(&mut self, event: &Event, client: &Client) {
        self.events += 1;
        match (event, whose(event)) {
            (_, Some((uid, _))) => self.heard.add(Some(uid), event.kind().name()),
            (Event::ChannelUpdate(_), _) => self.heard.add(None, event.kind().name()),
            _ => {}
        }
        match event {
            Event::ConnectionStateChange { state, reason } => {
                self.on_state_change(*state, *reason, client)
            }
            Event::Reconnected { outcome, missed, messages_lost } => {
                self.on_reconnected(outcome, missed.is_some(), *messages_lost);
            }
            Event::Disconnected { code, reason, terminal } => {
                self.ends.push((*code, reason.clone(), *terminal));
            }
            Event::Message { uid, data, targeted } => self.on_message(*uid, data, *targeted),
            Event::SyncDone(sync) => match (&sync.direction, &sync.urls.flv) {
                (Direction::Push, _) => {}
                (_, Some(flv)) if sync.media_type == MediaKind::Video => {
                    self.pulls.insert(sync.uid, flv.clone());
                }
                _ => {}
            },
            Event::Published { media_type } => {
                self.wanted.published.insert(media_type.clone(), true);
            }
            Event::Unpublished { media_type } => {
                self.wanted.published.insert(media_type.clone(), false);
            }
            _ => self.on_own_change(event, client),
        }
        let complaint = match &mut self.fold {
            Some(fold) => fold.apply_checked(event),
            None => None,
        };
        match complaint {
            Some(Complaint::Never(text)) => self.complain(text),
            Some(Complaint::Older(text)) if self.lost.is_some() => self.doubtful.push(text),
            Some(Complaint::Older(text)) => self.complain(text),
            None => {}
        }
        let is_of_channel = !matches!(
            event,
            Event::ConnectionStateChange { .. }
                | Event::Open { .. }
                | Event::Reconnected { .. }
                | Event::Closing(_)
                | Event::SendCommandOverTime { .. }
                | Event::ServerRestarting(_)
                | Event::MemberCount { .. }
                | Event::SyncDone(_)
                | Event::Message { targeted: true, .. }
        );
        if is_of_channel && self.lost.is_none() {
            self.last_event = Instant::now();
        }
    }

    fn on_state_change(&mut self, state: ConnectionState, reason: StateReason, client: &Client) {
        match (state, reason) {
            (ConnectionState::Connected, StateReason::Joined) => {
                if self.fold.is_some() {
                    self.complain("joined twice".to_owned());
                }
                self.fold = client.picture().as_ref().map(Fold::of);
                self.last_event = Instant::now();
            }
            (ConnectionState::Reconnecting, _) if self.lost.is_none() => {
                self.lost = Some(Instant::now());
                self.blind_from = self.last_event;
            }
            (ConnectionState::Disconnected, _) => {
                self.fold = None;
                self.lost = None;
                self.doubtful.clear();
            }
            _ => {}
        }
    }

    fn on_reconnected(&mut self, outcome: &ReconnectOutcome, missed: bool, messages_lost: u64) {
        let Some(lost) = self.lost.take() else {
            return self.complain("it came back and was not away".to_owned());
        };
        let (blind_from, back, outcome) = (self.blind_from, Instant::now(), outcome.clone());
        let is_replay = matches!(outcome, ReconnectOutcome::Replayed { .. });
        if is_replay && (missed || messages_lost > 0) {
            self.complain(format!("replayed, and {messages_lost} lost, missed: {missed}"));
        }
        let end = Reconnection { blind_from, lost, back, outcome, missed, messages_lost };
        let doubtful = std::mem::take(&mut self.doubtful);
        if !end.is_after_crash() {
            doubtful.into_iter().for_each(|text| self.complain(text));
        }
        self.last_event = back;
        self.returns.push(end);
    }

    /// Checks that each message comes at most once, and that those of one sender are in order.
    fn on_message(&mut self, from: UserId, data: &str, targeted: bool) {
        let Ok(id) = data.parse::<u64>() else {
            return self.complain(format!("the message {data}"));
        };
        if !self.messages.insert(id) {
            self.complain(format!("message {id} of uid {} twice", from.0));
        }
        let newest = self.newest.entry((from, targeted)).or_default();
        let before = std::mem::replace(newest, id.max(*newest));
        if id < before {
            self.complain(format!("message {id} of uid {} behind {before}", from.0));
        }
    }

    /// Applies an event about the app itself that is not the effect of its own call.
    fn on_own_change(&mut self, event: &Event, client: &Client) {
        let Some(own) = client.self_info() else { return };
        match event {
            Event::RoleChanged(e) if e.uid == own.uid => self.wanted.become_role(e.role.clone()),
            Event::Muted(e) if e.uid == own.uid => {
                self.wanted.muted.insert(e.media_type.clone(), true);
            }
            Event::Unmuted(e) if e.uid == own.uid => {
                self.wanted.muted.insert(e.media_type.clone(), false);
            }
            Event::ClientUpdate(e) if e.uid == own.uid => {
                self.wanted.counter = Some(counter(&e.attributes.0));
            }
            _ => {}
        }
    }

    fn compare(&mut self, event: &Event, client: &Client) {
        let different = match (&self.fold, client.picture()) {
            (Some(fold), Some(picture)) => fold.differs(&picture),
            (None, None) => None,
            (heard, shown) => {
                Some(format!("heard: {}, shown: {}", heard.is_some(), shown.is_some()))
            }
        };
        if let Some(what) = different {
            self.complain(format!("after {}: {what}", event.kind().name()));
        }
    }
}
