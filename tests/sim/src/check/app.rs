//! Follows the events of an app as an app would: a membership begins, a member joins, publishes, leaves. Comes in: the
//! events, picture changes and settlements of one session, in order. Goes out: whether they are consistent, and whether
//! the getters show the same.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;

use lianmai_client_sdk::CallError;
use lianmai_client_sdk::session::{
    Change, ConnectionState, Event, Member, Own, Picture, ReconnectOutcome, Reply, StateReason,
};
use lianmai_protocol::Map;
use lianmai_protocol::message::ChannelEvent;
use lianmai_protocol::{Attributes, KindSet, Mid, Role, UserId};

use super::own::{HeldUrls, OwnState};
use crate::client::OpenCall;
use crate::world::World;

/// The state that an app knows from its events alone.
#[derive(Debug, Default)]
pub(crate) struct App {
    pub(crate) inside: bool,
    own: Option<(UserId, Mid)>,
    members: BTreeMap<UserId, Member>,
    /// Numbers of the targeted messages that this membership received.
    pub(crate) targeted: BTreeSet<u64>,
    pub(crate) lost: u64,
    /// The membership was never continued without the memory of the server (a new epoch or a new `mid`).
    pub(crate) whole: bool,
    /// The first event number of a jump of the picture that was not reported as `missed` yet.
    jumped: Option<u64>,
    /// A message to all that must be the next event.
    owed: Option<String>,
    /// Milliseconds that calls may take longer since the server announced its restart.
    pub(crate) restart_ms: u64,
    pub(crate) returns: u64,
    pub(super) urls: HeldUrls,
    /// Its own state by its own knowledge; `None` while a call that changes it is not settled.
    pub(super) mine: Option<OwnState>,
    /// Attributes of the channel, and number of members.
    channel: (Attributes, u64),
    /// When the number of members was reported last, and for how many checks in a row it has been wrong.
    pub(super) counted: (u64, u32),
    /// Time since when it is connected, and whether it is still returning.
    pub(crate) since: Option<u64>,
    pub(crate) back: bool,
    /// Time since when it is inside without a connection.
    pub(crate) lost_at: Option<u64>,
}

impl App {
    pub(crate) fn restart(&mut self) {
        *self = App::default();
    }

    pub(crate) fn mid(&self) -> Option<Mid> {
        self.own.map(|(_, mid)| mid)
    }

    pub(super) fn uid(&self) -> Option<UserId> {
        self.own.map(|(uid, _)| uid)
    }

    pub(crate) fn connected_for(&self, now: u64) -> u64 {
        self.since.map_or(0, |since| now - since)
    }

    /// Whether the session has finished restoring its state.
    pub(crate) fn is_settled(&self) -> bool {
        !self.back
    }

    fn enter(&mut self, picture: &Picture) {
        self.inside = true;
        self.own = Some((picture.own.uid, picture.own.mid));
        self.members = picture.others().map(|member| (member.uid, member.clone())).collect();
        self.targeted.clear();
        self.lost = 0;
        self.whole = true;
        self.jumped = None;
        self.urls = HeldUrls::default();
        self.channel = (picture.attributes.clone(), picture.member_count);
    }

    /// Applies an event. Returns what is wrong with it.
    fn follow(&mut self, event: &Event) -> Result<(), String> {
        let own = self.uid();
        if let (Some(mine), Some(own)) = (&mut self.mine, own) {
            mine.follow(event, own);
        }
        let says = |what: &str| Err(what.to_owned());
        match event {
            Event::ClientJoin(e) => {
                if self.members.contains_key(&e.uid) {
                    return says("a member joins that is there");
                }
                let member = Member {
                    uid: e.uid,
                    mid: e.mid,
                    role: Role::Broadcaster,
                    name: e.name.clone(),
                    attributes: e.attributes.clone(),
                    muted: e.muted,
                    streams: Map::new(),
                };
                self.members.insert(e.uid, member);
            }
            Event::ClientLeave(e) => match self.members.remove(&e.uid) {
                Some(member) if member.mid != e.mid => return says("another membership leaves"),
                Some(member) if !member.streams.is_empty() => {
                    return says("a member leaves before its streams are removed");
                }
                Some(_) => {}
                None => return says("a member leaves that is not there"),
            },
            Event::StreamAdded(e) => match self.members.get_mut(&e.uid) {
                Some(member) if member.mid == e.mid => {
                    if member.streams.insert(e.media_type.clone(), e.publication).is_some() {
                        return says("a stream is added that is there");
                    }
                }
                _ => return says("a stream is added to a member that is not there"),
            },
            Event::StreamRemoved(e) => match self.members.get_mut(&e.uid) {
                Some(member) if member.streams.get(&e.media_type) == Some(&e.publication) => {
                    member.streams.remove(&e.media_type);
                    self.urls.ended(e.uid, &e.media_type);
                }
                _ => return says("a stream is removed that is not there"),
            },
            Event::RoleChanged(e) if own != Some(e.uid) => match self.members.get_mut(&e.uid) {
                Some(member) if member.mid == e.mid => member.role = e.role.clone(),
                _ => return says("the role of a member changes that is not there"),
            },
            Event::ClientUpdate(e) if own != Some(e.uid) => match self.members.get_mut(&e.uid) {
                Some(member) if member.mid == e.mid => {
                    member.name.clone_from(&e.name);
                    member.attributes = e.attributes.clone();
                }
                _ => return says("a member changes that is not there"),
            },
            Event::Muted(e) | Event::Unmuted(e) if own != Some(e.uid) => {
                let kind = KindSet::of(&e.media_type);
                let on = matches!(event, Event::Muted(_));
                match self.members.get_mut(&e.uid) {
                    Some(member) if member.mid == e.mid && on => {
                        member.muted = member.muted.union(kind)
                    }
                    Some(member) if member.mid == e.mid => {
                        member.muted = member.muted.difference(kind);
                    }
                    _ => return says("a member is muted that is not there"),
                }
            }
            Event::ChannelUpdate(e) => self.channel.0 = e.attributes.clone(),
            Event::MemberCount { count } => self.channel.1 = *count,
            Event::Disconnected { .. } => {
                self.inside = false;
                self.members.clear();
                self.own = None;
                self.back = false;
                self.lost_at = None;
            }
            _ => {}
        }
        Ok(())
    }
}

/// Whether an event belongs to a channel.
fn is_of_channel(event: &Event) -> bool {
    matches!(
        event,
        Event::ClientJoin(_)
            | Event::ClientLeave(_)
            | Event::ClientUpdate(_)
            | Event::ChannelUpdate(_)
            | Event::RoleChanged(_)
            | Event::StreamAdded(_)
            | Event::StreamRemoved(_)
            | Event::Muted(_)
            | Event::Unmuted(_)
            | Event::Message { .. }
            | Event::LiveRoomClose(_)
            | Event::Reconnected { .. }
            | Event::SyncDone(_)
            | Event::Disconnected { .. }
            | Event::MemberCount { .. }
    )
}

impl World {
    /// Checks a change of the picture.
    pub(crate) fn check_change(&mut self, c: usize, change: &Change) {
        let client = &mut self.clients[c];
        let before = client.copy.as_ref().map(|picture| (picture.epoch, picture.seq));
        change.apply(&mut client.copy);
        if let Some(number) = client.app.owed.take() {
            return self.fail(
                "transients",
                format!("c{c}: message {number} is in the picture and was not told"),
            );
        }
        match change {
            Change::Entered(picture) => {
                client.app.enter(picture);
                client.app.counted = (self.now, 0);
                client.read_own_state();
            }
            Change::Event { seq, event } => {
                self.checks.delivered += 1;
                if before.is_none_or(|(_, at)| at + 1 != *seq) {
                    return self.fail("delivery", format!("c{c}: event {seq} behind {before:?}"));
                }
                if let ChannelEvent::Message(message) = event
                    && UserId(self.clients[c].spec.uid) != message.uid
                {
                    self.clients[c].app.owed = Some(message.data.clone());
                }
            }
            Change::Reentered(mid) => {
                client.app.own = client.app.own.map(|(uid, _)| (uid, *mid));
                client.app.whole = false;
            }
            Change::CaughtUp(to) => {
                if let Some((epoch, seq)) = before {
                    if epoch != to.epoch {
                        client.app.whole = false;
                        client.forgets();
                    }
                    if epoch != to.epoch || to.seq > seq {
                        client.app.jumped.get_or_insert(seq + 1);
                    }
                }
            }
            _ => {}
        }
    }

    /// Checks an event of the app.
    pub(crate) fn check_app_event(&mut self, c: usize, event: &Event) {
        if let Event::Disconnected { reason, .. } = event {
            self.check_out(c, reason);
        }
        let client = &mut self.clients[c];
        if is_of_channel(event) && !client.app.inside {
            return self.fail("app", format!("c{c}: {event:?} outside of a channel"));
        }
        if let Some(owed) = &client.app.owed {
            let told =
                matches!(event, Event::Message { data, targeted: false, .. } if data == owed);
            if !told {
                let what = format!("c{c}: message {owed} was not told");
                return self.fail("transients", what);
            }
            client.app.owed = None;
        } else if let Event::Message { data, targeted: false, .. } = event {
            let what = format!("c{c}: message {data} is told without its event");
            return self.fail("transients", what);
        }
        if let Err(why) = client.app.follow(event) {
            return self.fail("pairing", format!("c{c}: {why}: {event:?}"));
        }
        match event {
            Event::Message { data, targeted: true, .. } => self.check_targeted(c, data),
            Event::SyncDone(sync) => {
                let before = client.app.urls.sync(sync);
                if before.as_ref() == Some(&sync.url) {
                    self.fail("app", format!("c{c}: a URL that it has is told: {event:?}"));
                }
            }
            Event::Reconnected { outcome, missed, messages_lost } => {
                client.app.returns += 1;
                if !std::mem::take(&mut client.app.back) {
                    return self.fail("app", format!("c{c} was not away: {event:?}"));
                }
                client.app.lost += messages_lost;
                if matches!(outcome, ReconnectOutcome::Rejoined { .. }) {
                    client.app.whole = false;
                }
                let name = match outcome {
                    ReconnectOutcome::Replayed { .. } => "app:replayed",
                    ReconnectOutcome::Snapshot { .. } => "app:snapshot",
                    _ => "outcome:rejoined",
                };
                let jumped = client.app.jumped.take();
                self.cov.count(name);
                if let Some(from) = jumped
                    && missed.is_none_or(|missed| missed.from_seq > from)
                {
                    let what =
                        format!("c{c}: events from {from} were skipped, and {missed:?} told");
                    return self.fail("transients", what);
                }
            }
            Event::ConnectionStateChange { state, reason } => {
                if *reason == StateReason::Woken && !client.woke {
                    return self.fail("host", format!("c{c} says that it slept, and did not"));
                }
                let connected = *state == ConnectionState::Connected;
                client.app.since = connected.then_some(self.now);
                if connected {
                    client.app.restart_ms = 0;
                    client.app.lost_at = None;
                }
                if *state == ConnectionState::Reconnecting {
                    client.app.back = true;
                    client.app.lost_at.get_or_insert(self.now);
                }
                if *reason == StateReason::Rejoined {
                    client.forgets();
                }
            }
            Event::MemberCount { .. } => client.app.counted = (self.now, 0),
            Event::ServerRestarting(notice) => {
                let ms = notice.retry_after_ms + notice.jitter_ms;
                client.app.restart_ms = ms;
                for open in client.calls.values_mut() {
                    open.restart_ms = open.restart_ms.max(ms);
                    open.least_ms = open.least_ms.max(ms);
                }
            }
            _ => {}
        }
        self.compare_app(c, event);
    }

    /// Compares the folded state of the app with its getters.
    fn compare_app(&mut self, c: usize, after: &dyn Debug) {
        let client = &self.clients[c];
        // Nothing can be compared between the end of the picture and its announcement.
        let (Some(picture), App { inside: true, members, mine, channel, .. }) =
            (&client.copy, &client.app)
        else {
            return;
        };
        let shown: BTreeMap<UserId, Member> =
            picture.others().map(|member| (member.uid, member.clone())).collect();
        let shows = (picture.attributes.clone(), picture.member_count);
        let own = OwnState::of(&picture.own);
        let what = if shown != *members {
            format!("{members:?}, and its getters show {shown:?}")
        } else if shows != *channel {
            format!("{channel:?}, and its getters show {shows:?}")
        } else if mine.as_ref().is_some_and(|mine| *mine != own) {
            format!("{mine:?}, and its getters show {own:?}")
        } else {
            return;
        };
        self.fail("app", format!("c{c}: after {after:?} the app knows {what}"));
    }

    fn check_targeted(&mut self, c: usize, data: &str) {
        let Some(number) = payload(data) else { return };
        let uid = UserId(self.clients[c].spec.uid);
        match self.checks.recipients.get(&number) {
            Some(Some(to)) if to.contains(&uid) => {}
            found => {
                let what = format!("c{c} got message {number}, which is for {found:?}");
                return self.fail("transients", what);
            }
        }
        if !self.clients[c].app.targeted.insert(number) {
            self.fail("transients", format!("c{c} got message {number} twice"));
        }
    }

    /// Checks the state after all outputs are polled.
    pub(crate) fn check_app_rests(&mut self, c: usize) {
        if let Some(number) = self.clients[c].app.owed.take() {
            self.fail("transients", format!("c{c}: message {number} was not told"));
        }
        let client = &mut self.clients[c];
        if client.copy.as_ref() != client.session.picture() {
            self.fail("app", format!("c{c}: folded steps are not the picture at rest"));
        }
        self.compare_app(c, &"its last output");
    }

    /// Applies what an app learns from a settlement.
    pub(crate) fn check_reply(
        &mut self,
        c: usize,
        open: &OpenCall,
        outcome: &Result<Reply, CallError>,
    ) {
        let client = &mut self.clients[c];
        client.app.replied(open, outcome);
        client.read_own_state();
        if let (Ok(Reply::Joined(joined)), Some(picture)) = (outcome, &client.copy)
            && joined.mid != picture.own.mid
        {
            let what = format!("c{c}: join answers another membership than the picture");
            return self.fail("app", what);
        }
        if let (Ok(reply), Some(picture)) = (outcome, &client.copy)
            && !is_shown(reply, open, &picture.own)
        {
            self.fail("app", format!("c{c}: {} succeeds with an ended publication", open.method));
        }
    }
}

/// Whether the requested stream is in the picture when its answer arrives.
fn is_shown(reply: &Reply, open: &OpenCall, own: &Own) -> bool {
    let mut kinds = open.kinds.iter();
    match (reply, open.of) {
        (Reply::Published(_), _) => kinds.any(|kind| own.published.contains_key(kind)),
        (Reply::Subscribed(_), Some(of)) => {
            kinds.any(|kind| own.subscriptions.contains_key(&(of, kind.clone())))
        }
        _ => true,
    }
}

/// The number of a message, which its text contains.
pub(crate) fn payload(data: &str) -> Option<u64> {
    data.strip_prefix("m:")?.split(':').next()?.parse().ok()
}
