//! The state of a shard in the model: plain values. Times are those of the world.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use lianmai_client_sdk::session::Picture;
use lianmai_protocol::Map;
use lianmai_protocol::attributes::json_bytes;
use lianmai_protocol::limits::Limits;
use lianmai_protocol::message::Call;
use lianmai_protocol::message::event::{LeaveReason, RoomCloseReason};
use lianmai_protocol::message::session::{Kick, ResumeReason};
use lianmai_protocol::{
    Appkey, Attributes, Cid, Epoch, ErrorName, Gen, KindSet, MediaKind, Mid, Pub, RequestId,
    Rights, Role, SessionId, UserId,
};
use lianmai_signal_engine::{
    Access, AppPolicy, AskId, ChannelKey, ConnId, DrainPlan, QueryId, TicketKey,
};

use super::moderation::Caller;
use super::moved::{MovedUrls, Renewal};
use super::{Expect, Model};
use crate::check::own::{self, UrlSlot};
use crate::scenario::Scenario;
use crate::tokens;

/// Parameters that are the same in every process.
#[derive(Debug)]
pub(super) struct Rules {
    pub(super) ping: u64,
    pub(super) dead: u64,
    pub(super) grace: u64,
    pub(super) idle: u64,
    pub(super) cap: u64,
    pub(super) limits: Limits,
    pub(super) apps: BTreeMap<Appkey, AppPolicy>,
    pub(super) key: TicketKey,
    /// Logs may be trimmed because of their total size.
    pub(super) tight_logs: bool,
}

/// Burst of requests, in thousandths.
pub(super) const RATE_BURST: i64 = 40_000;

impl Rules {
    pub(super) fn new(scenario: &Scenario, key: TicketKey) -> Self {
        let knobs = &scenario.knobs;
        let [ping, dead, grace, idle, cap] = knobs.timers;
        let [members, broadcasters, channels, subscriptions] = knobs.limits;
        Rules {
            ping,
            dead,
            grace,
            idle,
            cap,
            limits: Limits {
                members,
                broadcasters,
                channels,
                subscriptions,
                channel_attribute_bytes: knobs.shares[1],
                ..Limits::default()
            },
            apps: tokens::policies(),
            key,
            tight_logs: knobs.log_bytes < 1 << 20,
        }
    }
}

/// An event as the model made it. A `usize` is the index of a publication.
#[derive(Clone, Debug)]
pub(super) enum ModelEvent {
    Join { uid: UserId, mid: Mid, name: Option<String>, attributes: Attributes, muted: KindSet },
    Leave { uid: UserId, mid: Mid, reason: LeaveReason },
    Update { uid: UserId, mid: Mid, name: Option<String>, attributes: Attributes },
    Channel(Attributes),
    Role { uid: UserId, mid: Mid, role: Role },
    Added { uid: UserId, mid: Mid, kind: MediaKind, publication: usize },
    Removed { uid: UserId, mid: Mid, kind: MediaKind, publication: usize },
    Muted { uid: UserId, mid: Mid, kind: MediaKind, on: bool },
    Message { uid: UserId, data: String },
    Close { cid: Cid, reason: RoomCloseReason, text: Option<String> },
}

#[derive(Clone, Debug)]
pub(super) struct LoggedEvent {
    pub(super) at: u64,
    pub(super) event: ModelEvent,
}

/// An answer that was given to a request.
#[derive(Clone, Debug)]
pub(super) struct Answered {
    pub(super) id: RequestId,
    pub(super) hash: u64,
    pub(super) expect: Expect,
    /// Hash of its text, once the text was seen.
    pub(super) text: Option<u64>,
}

/// The reason why a command waits.
#[derive(Clone, Debug)]
pub(super) enum PendingOn {
    Push {
        ask: AskId,
        generation: Gen,
        kinds: KindSet,
        renewed: bool,
        since: u64,
    },
    Pull {
        ask: AskId,
        generation: Gen,
        of: UserId,
        kind: MediaKind,
        publication: usize,
        since: u64,
    },
    Token {
        ask: AskId,
    },
    Write {
        ask: AskId,
    },
    /// Superseded: it is answered after everything that came at once.
    Superseded,
}

#[derive(Clone, Debug)]
pub(super) struct PendingCommand {
    pub(super) id: RequestId,
    pub(super) hash: u64,
    pub(super) on: PendingOn,
    /// Commands behind the waiting one, each with its bytes and the units that it was charged.
    pub(super) queue: VecDeque<(RequestId, u64, (usize, i64), Call)>,
}

#[derive(Clone, Debug)]
pub(super) struct Member {
    pub(super) mid: Mid,
    pub(super) session: SessionId,
    pub(super) join_id: Option<String>,
    pub(super) role: Role,
    pub(super) rights: Rights,
    /// Its token names its uid.
    pub(super) named: bool,
    pub(super) name: Option<String>,
    pub(super) attributes: Attributes,
    pub(super) muted: KindSet,
    pub(super) token_end: Option<u64>,
    pub(super) conn: Option<ConnId>,
    pub(super) connected_at: u64,
    pub(super) last_in: u64,
    /// When the server pinged it last, and whether the pong is still to come.
    pub(super) pinged_at: u64,
    pub(super) pinged: bool,
    pub(super) lost_at: Option<u64>,
    pub(super) first_lost: Option<u64>,
    pub(super) last_media: Option<u64>,
    /// The confirmed ticket, the offered ticket, and whether greater ones may be valid.
    pub(super) tickets: (u64, u64, bool),
    pub(super) attempt: u64,
    pub(super) last_id: Option<u64>,
    pub(super) acked: u64,
    pub(super) answers: Vec<Answered>,
    pub(super) pending: Option<PendingCommand>,
    pub(super) messages: u64,
    /// Number of targeted messages that its client reported as received.
    pub(super) received: u64,
    /// Position of a change by another member that the client may not have seen.
    pub(super) forced: Option<(Epoch, u64)>,
    /// The last write of a change by another member, until it is stored.
    pub(super) unstored: Option<AskId>,
    pub(super) being_kicked: bool,
    pub(super) restored: bool,
    pub(super) pubs: [Option<usize>; 4],
    pub(super) pushes: [Option<Gen>; 3],
    /// The kinds that it may play of each stream, and when a new URL is issued.
    pub(super) pulls: BTreeMap<Gen, (KindSet, u64)>,
    pub(super) limited: u32,
    /// Requests that it may send, in thousandths, and the time of this value.
    pub(super) budget: (i64, u64),
}

/// What remains of a rate of 20 per second with a burst of 40.
pub(super) fn left((left, at): (i64, u64), now: u64) -> i64 {
    left.saturating_add_unsigned((now - at) * 20).min(RATE_BURST)
}

impl Member {
    /// A new membership without a socket.
    pub(super) fn new(mid: Mid, session: SessionId, role: Role, rights: Rights, now: u64) -> Self {
        Member {
            mid,
            session,
            join_id: None,
            role,
            rights,
            named: true,
            name: None,
            attributes: Attributes::default(),
            muted: KindSet::NONE,
            token_end: None,
            conn: None,
            connected_at: now,
            last_in: now,
            pinged_at: now,
            pinged: false,
            lost_at: None,
            first_lost: None,
            last_media: None,
            tickets: (1, 1, false),
            attempt: 0,
            last_id: None,
            acked: 0,
            answers: Vec::new(),
            pending: None,
            messages: 0,
            received: 0,
            forced: None,
            unstored: None,
            being_kicked: false,
            restored: false,
            pubs: [None; 4],
            pushes: [None; 3],
            pulls: BTreeMap::new(),
            limited: 0,
            budget: (RATE_BURST, now),
        }
    }

    /// Its client holds ticket `k`. Returns whether this confirms the offered ticket.
    pub(super) fn confirms(&mut self, k: u64) -> bool {
        let (confirmed, offered, _) = self.tickets;
        let confirms = k == offered && confirmed != offered;
        if confirms {
            self.tickets.0 = k;
            self.restored = false;
        }
        confirms
    }

    /// What remains of its rate.
    pub(super) fn left(&self, now: u64) -> i64 {
        left(self.budget, now)
    }

    pub(super) fn spend(&mut self, now: u64, units: i64) {
        self.limited = self.limited.saturating_sub(1);
        self.budget = (self.left(now) - units * 1_000, now);
    }

    /// A repeated request counts against the rate, but is answered in any case.
    pub(super) fn count_again(&mut self, now: u64) {
        if self.left(now) < 1_000 {
            self.limited += 1;
        } else {
            self.spend(now, 1);
        }
    }

    /// Its client continues with a picture of `epoch`, so it knows the changes of earlier epochs.
    pub(super) fn continue_with(&mut self, epoch: Epoch) {
        if self.forced.is_some_and(|(at, _)| at != epoch) {
            self.forced = None;
        }
    }

    pub(super) fn is_visible(&self) -> bool {
        self.role == Role::Broadcaster
    }

    pub(super) fn published(&self) -> KindSet {
        let kinds = MediaKind::ALL.iter().zip(&self.pubs);
        kinds
            .filter(|(_, publication)| publication.is_some())
            .map(|(kind, _)| kind.clone())
            .collect()
    }

    pub(super) fn lose(&mut self, now: u64) {
        if self.conn.take().is_none() {
            return;
        }
        self.lost_at = Some(now);
        if self.first_lost.is_none() || now - self.connected_at >= 10_000 {
            self.first_lost = Some(now);
        }
    }

    pub(super) fn waits_for(&self, id: RequestId) -> bool {
        self.pending.as_ref().is_some_and(|pending| {
            pending.id == id || pending.queue.iter().any(|(queued, ..)| *queued == id)
        })
    }

    /// Whether more than 32 answers were given since; then the engine may have forgotten this one.
    pub(super) fn is_beyond_window(&self, id: RequestId) -> bool {
        let at = self.answers.iter().position(|answer| answer.id == id);
        at.is_none_or(|at| self.answers.len() - at > 32)
    }
}

#[derive(Clone, Debug)]
pub(super) struct Stream {
    pub(super) owner: UserId,
    pub(super) renew_after: u64,
}

#[derive(Clone, Debug)]
pub(super) struct Channel {
    pub(super) cid: Cid,
    pub(super) epoch: Epoch,
    pub(super) creator: UserId,
    pub(super) attributes: Attributes,
    pub(super) policy: AppPolicy,
    pub(super) members: BTreeMap<UserId, Member>,
    pub(super) streams: BTreeMap<Gen, Stream>,
    /// Events from `base + 1` on.
    pub(super) log: Vec<LoggedEvent>,
    pub(super) base: u64,
    pub(super) replaced: BTreeMap<UserId, (u32, u64)>,
    /// Its close is being written.
    pub(super) closing: bool,
    /// Members that a moderator made audience, and the moderator.
    pub(super) demoted: BTreeMap<UserId, UserId>,
    /// The last write of `demoted`, until it is stored.
    pub(super) unstored: Option<AskId>,
    /// The last visible name and attributes of members without the right `message`.
    pub(super) hidden_texts: BTreeMap<UserId, (Option<String>, Attributes)>,
}

/// Bytes of a name and attributes as JSON (ATT-5).
pub(super) fn text_bytes(name: Option<&str>, attributes: &Attributes) -> usize {
    name.map_or(0, json_bytes) + attributes.bytes()
}

impl Channel {
    /// Whether there is room for the name and attributes of a uid, as a broadcaster or in the audience (ATT-6).
    pub(super) fn has_room(
        &self,
        uid: UserId,
        visible: bool,
        bytes: usize,
        most: usize,
    ) -> Result<(), ErrorName> {
        let of = |member: &Member| text_bytes(member.name.as_deref(), &member.attributes);
        let there = self.members.iter().filter(|(_, member)| member.is_visible() == visible);
        let others: usize =
            there.filter(|(other, _)| **other != uid).map(|(_, member)| of(member)).sum();
        let own = self.members.get(&uid).filter(|member| member.is_visible() == visible);
        let left = most.saturating_sub(others);
        let fits = bytes <= own.map_or(0, of) || bytes <= (left / 16).max(left.min(131));
        if fits { Ok(()) } else { Err(ErrorName::AttributesTooLarge) }
    }

    /// A member becomes invisible; without the right `message` it will be shown the same next time.
    pub(super) fn keep_hidden_texts(&mut self, uid: UserId) {
        let Some(member) = self.members.get(&uid) else { return };
        if member.rights.message {
            self.hidden_texts.remove(&uid);
        } else {
            self.hidden_texts.insert(uid, (member.name.clone(), member.attributes.clone()));
        }
    }

    /// Whether a member may become broadcaster without a moderator.
    pub(super) fn may_broadcast(&self, uid: UserId, rights: Rights) -> bool {
        rights.broadcast && !self.demoted.contains_key(&uid)
    }

    pub(super) fn head(&self) -> u64 {
        self.base + self.log.len() as u64
    }

    pub(super) fn broadcasters(&self) -> usize {
        self.members.values().filter(|member| member.is_visible()).count()
    }

    /// Compares a picture with this channel as seen by that user.
    pub(super) fn compare(
        &self,
        uid: UserId,
        picture: &Picture,
        busy: bool,
        pubs: &[Option<Pub>],
    ) -> Result<(), String> {
        let named = |publication: Option<usize>| publication.and_then(|at| pubs[at]);
        let visible: Vec<_> =
            self.members.iter().filter(|(_, member)| member.is_visible()).collect();
        if visible.len() != picture.members.len() {
            let are: Vec<_> = visible.iter().map(|(uid, _)| uid).collect();
            let shown: Vec<_> = picture.members.keys().collect();
            return Err(format!("members are {are:?}, and it shows {shown:?}"));
        }
        for (uid, member) in visible {
            let shown = picture.members.get(uid).ok_or(format!("{uid} is not shown"))?;
            let streams: Map<MediaKind, Pub> = MediaKind::ALL
                .iter()
                .zip(member.pubs)
                .filter_map(|(kind, publication)| Some((kind.clone(), named(publication)?)))
                .collect();
            let is = (member.mid, &member.name, &member.attributes, member.muted, &streams);
            let shows = (shown.mid, &shown.name, &shown.attributes, shown.muted, &shown.streams);
            if is != shows {
                return Err(format!("{uid} is {is:?}, and it shows {shows:?}"));
            }
        }
        if picture.attributes != self.attributes || picture.cid != self.cid {
            return Err("the channel is shown as it is not".to_owned());
        }
        let Some(own) = self.members.get(&uid) else { return Err("it is not inside".to_owned()) };
        let shown = &picture.own;
        let is = (own.mid, &own.role, own.published());
        let shows = (shown.mid, &shown.role, shown.published.keys().cloned().collect::<KindSet>());
        if is != shows {
            return Err(format!("it is {is:?}, and it shows {shows:?}"));
        }
        if busy {
            return Ok(());
        }
        let is = (own.rights, &own.name, &own.attributes, own.muted);
        let shows = (shown.rights, &shown.name, &shown.attributes, shown.muted);
        if is != shows {
            return Err(format!("it is {is:?}, and it shows {shows:?}"));
        }
        Ok(())
    }

    /// Compares the subscriptions in an app's picture with the model.
    pub(super) fn compare_plays(&self, uid: UserId, picture: &Picture) -> Result<(), String> {
        let Some(own) = self.members.get(&uid) else { return Ok(()) };
        let plays = self.plays(own);
        let shown: Vec<_> = picture.own.subscriptions.keys().cloned().collect();
        if plays == shown {
            Ok(())
        } else {
            Err(format!("it plays {plays:?}, and shows {shown:?}"))
        }
    }

    /// The subscriptions of a member.
    pub(super) fn plays(&self, member: &Member) -> Vec<(UserId, MediaKind)> {
        let mut plays: Vec<_> =
            self.pulled(member).map(|(owner, kind, _)| (owner, kind.clone())).collect();
        plays.sort();
        plays
    }

    /// Like [`Channel::plays`], with the stream.
    fn pulled<'a>(
        &'a self,
        member: &'a Member,
    ) -> impl Iterator<Item = (UserId, &'static MediaKind, Gen)> + 'a {
        member.pulls.iter().flat_map(|(generation, (kinds, _))| {
            let owner = self.streams.get(generation).map(|stream| (stream.owner, *generation));
            let kinds = kinds.iter().filter_map(move |kind| Some((owner?, kind)));
            kinds.map(|((owner, generation), kind)| (owner, kind, generation))
        })
    }
}

/// A ban or a hold: its end, and the earliest issue time of valid tokens.
pub(super) type Ban = (u64, u64);

/// The maker of a ban, and whether its token named no uid; `None` for an operator.
pub(super) type Maker = Option<(UserId, bool)>;

/// What follows a write.
#[derive(Clone, Debug)]
pub(super) enum AfterWrite {
    Answer { key: ChannelKey, uid: UserId, of: UserId },
    Kick { key: ChannelKey, mid: Option<Mid>, kick: Kick, by: Caller },
    Close { key: ChannelKey, epoch: Option<Epoch>, text: Option<String>, by: Caller },
    HandOver,
}

impl ModelShard {
    /// All bans of a uid combined.
    pub(super) fn ban(&self, key: &ChannelKey, uid: UserId) -> Option<Ban> {
        let of = |by| (key.clone(), uid, by);
        let all = self.bans.range(of(None)..=of(Some((UserId(u64::MAX), true))));
        all.map(|(_, ban)| *ban).reduce(|one, other| (one.0.max(other.0), one.1.max(other.1)))
    }
}

#[derive(Clone, Debug, Default)]
pub(super) struct ModelShard {
    pub(super) channels: BTreeMap<ChannelKey, Channel>,
    pub(super) connections: BTreeMap<ConnId, (ChannelKey, UserId)>,
    /// Bans by channel, uid and maker.
    pub(super) bans: BTreeMap<(ChannelKey, UserId, Maker), Ban>,
    pub(super) holds: BTreeMap<ChannelKey, Ban>,
    /// Holds that expired once: the engine may forget them at any time, whatever the wall clock says.
    pub(super) lapsed: BTreeSet<ChannelKey>,
    pub(super) endings: BTreeMap<Mid, ResumeReason>,
    /// Writes under way, with their start.
    pub(super) writes: BTreeMap<AskId, (u64, AfterWrite)>,
    /// URLs with an old address, and the requests for new ones.
    pub(super) moved: MovedUrls,
    pub(super) renewals: BTreeMap<AskId, Renewal>,
    pub(super) drain: Option<(u64, DrainPlan)>,
    /// Entries may be refused since this time; from the engine's next check of its drain on they must be.
    pub(super) frozen_since: Option<u64>,
    pub(super) handed_over_at: Option<u64>,
    pub(super) crash_grace_end: u64,
    /// Memberships that survived the crash.
    pub(super) awaited_viewers: BTreeSet<Mid>,
    pub(super) events: u64,
    /// What remains of the rates of members that left (IDS-9).
    pub(super) debts: BTreeMap<(ChannelKey, UserId), (i64, u64)>,
    /// Logs of channels that ended in this step.
    pub(super) archive: BTreeMap<Epoch, (u64, Vec<LoggedEvent>)>,
    /// The kinds that the relay takes for published, or for subscribed by a viewer.
    pub(super) relay: BTreeMap<(Gen, Option<Mid>), KindSet>,
    /// Questions of the relay, each with its time and whether it was permitted then.
    pub(super) questions: BTreeMap<QueryId, (Gen, Access, u64, bool)>,
}

/// A uid in a channel of a shard.
#[derive(Clone, Copy, Debug)]
pub(super) struct MemberRef<'a> {
    pub(super) s: usize,
    pub(super) key: &'a ChannelKey,
    pub(super) uid: UserId,
}

impl MemberRef<'_> {
    /// Another uid of that channel.
    pub(super) fn of(self, uid: UserId) -> Self {
        MemberRef { uid, ..self }
    }
}

impl Model {
    /// The streams that a member pushes and plays.
    pub(crate) fn urls(&self, key: &ChannelKey, uid: UserId) -> Vec<(UrlSlot, own::StreamAccess)> {
        let channel = self.shards.iter().find_map(|shard| shard.channels.get(key));
        let place = channel.and_then(|channel| Some((channel, channel.members.get(&uid)?)));
        let Some((channel, member)) = place else { return Vec::new() };
        let push = |kind: &MediaKind| {
            // Audio and video share the first slot.
            let slot = kind.index()?.saturating_sub(1);
            Some(((true, uid, kind.clone()), (member.pushes[slot]?, None)))
        };
        let pushed = member.published();
        let pulled = channel.pulled(member).map(|(of, kind, generation)| {
            ((false, of, kind.clone()), (generation, Some(member.mid)))
        });
        pushed.iter().filter_map(push).chain(pulled).collect()
    }

    /// Members of a channel, audience included.
    pub(crate) fn members(&self, key: &ChannelKey) -> u64 {
        let channel = self.shards.iter().find_map(|shard| shard.channels.get(key));
        channel.map_or(0, |channel| channel.members.len() as u64)
    }

    pub(super) fn member_of(&self, s: usize, conn: ConnId) -> Option<(ChannelKey, UserId)> {
        self.shards[s].connections.get(&conn).cloned()
    }

    pub(super) fn channel(&mut self, s: usize, key: &ChannelKey) -> Option<&mut Channel> {
        self.shards[s].channels.get_mut(key)
    }

    pub(super) fn member(&mut self, who: MemberRef<'_>) -> Option<&mut Member> {
        let MemberRef { s, key, uid } = who;
        self.channel(s, key)?.members.get_mut(&uid)
    }

    pub(super) fn emit(&mut self, s: usize, key: &ChannelKey, event: ModelEvent, now: u64) {
        self.shards[s].events += 1;
        if let Some(channel) = self.channel(s, key) {
            channel.log.push(LoggedEvent { at: now, event });
        }
    }

    /// Removes a channel; its log is still needed for messages under way.
    pub(super) fn end_channel(&mut self, s: usize, key: &ChannelKey) -> Option<Channel> {
        let shard = &mut self.shards[s];
        let channel = shard.channels.remove(key)?;
        shard.archive.insert(channel.epoch, (channel.base, channel.log.clone()));
        Some(channel)
    }

    pub(super) fn done(&self, s: usize, key: &ChannelKey) -> Expect {
        let seq = self.shards[s].channels.get(key).map_or(0, Channel::head);
        Expect::Done { seq }
    }
}
