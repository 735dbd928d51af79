//! What must survive the process (ADR 0009). For each write of the engine the model keeps the rows that must exist
//! afterwards. When the next process starts, its rows must be those of the last write that was kept, and the model
//! continues from them. After a clean stop everything continues.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::rc::Rc;

use lianmai_protocol::{
    Attributes, Cid, Gen, KindSet, MediaKind, Mid, Rights, Role, SessionId, UserId,
};
use lianmai_signal_engine::record::MemberRecord;
use lianmai_signal_engine::{ChannelKey, Restored};

use super::state::{Ban, Channel, Maker, Member, ModelShard, RATE_BURST, Stream};
use super::verify::{UNSEEN, bind};
use super::{Model, Verdict};

/// How long after a crash tickets replace tokens.
const CRASH_MS: u64 = 60_000;

/// A stored member.
#[derive(Clone, Debug, PartialEq)]
struct Row {
    mid: Mid,
    session: SessionId,
    join_id: Option<String>,
    role: Role,
    rights: Rights,
    name: Option<String>,
    attributes: Attributes,
    muted: KindSet,
    token_end: Option<u64>,
    pubs: [Option<usize>; 4],
    pushes: [Option<Gen>; 3],
}

#[derive(Clone, Debug, PartialEq)]
struct Rows {
    cid: Cid,
    creator: UserId,
    attributes: Attributes,
    demoted: BTreeMap<UserId, UserId>,
    members: BTreeMap<UserId, Row>,
}

/// The stored state of a shard.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Saved {
    channels: BTreeMap<ChannelKey, Rows>,
    bans: BTreeMap<(ChannelKey, UserId, Maker), Ban>,
    holds: BTreeMap<ChannelKey, Ban>,
}

/// The rows that may exist after a write: `rows`, or, if only a part of the writes of an input was kept, anything
/// between `or` and `rows`.
#[derive(Clone, Debug, Default)]
pub(super) struct Expected {
    rows: Rc<Saved>,
    or: Option<Rc<Saved>>,
    /// Holds that expired once: the engine may have forgotten them, even if the clock was set back since.
    lapsed: BTreeSet<ChannelKey>,
    /// The shard as it was, after a clean stop.
    live: Option<ModelShard>,
    ended_at: u64,
}

/// The rows after a write, and the rows before the input if further writes of the same input follow.
type ExpectedWrite = (Rc<Saved>, Option<Rc<Saved>>);

/// All writes, by number.
#[derive(Debug, Default)]
pub(super) struct Saves {
    unnumbered: BTreeMap<usize, VecDeque<ExpectedWrite>>,
    numbered: BTreeMap<u64, (usize, ExpectedWrite)>,
    last: BTreeMap<usize, Rc<Saved>>,
}

impl Saves {
    pub(super) fn push(&mut self, shard: usize, saved: Saved, times: usize) {
        let saved = Rc::new(saved);
        let before = self.last.insert(shard, Rc::clone(&saved)).unwrap_or_default();
        let queue = self.unnumbered.entry(shard).or_default();
        for time in 1..=times {
            let or = (time < times).then(|| Rc::clone(&before));
            queue.push_back((Rc::clone(&saved), or));
        }
    }

    /// The oldest write of a shard without a number gets one.
    pub(super) fn numbered(&mut self, shard: usize, n: u64) {
        if let Some(write) = self.unnumbered.entry(shard).or_default().pop_front() {
            self.numbered.insert(n, (shard, write));
        }
    }
}

impl ModelShard {
    pub(super) fn save(&self) -> Saved {
        let row = |member: &Member| Row {
            mid: member.mid,
            session: member.session,
            join_id: member.join_id.clone(),
            role: member.role.clone(),
            rights: member.rights,
            name: member.name.clone(),
            attributes: member.attributes.clone(),
            muted: member.muted,
            token_end: member.token_end,
            pubs: member.pubs,
            pushes: member.pushes,
        };
        let rows = |channel: &Channel| Rows {
            cid: channel.cid,
            creator: channel.creator,
            attributes: channel.attributes.clone(),
            demoted: channel.demoted.clone(),
            // A kicked member has no row from the moment when the kick is written.
            members: channel
                .members
                .iter()
                .filter(|(_, member)| !member.being_kicked)
                .map(|(uid, member)| (*uid, row(member)))
                .collect(),
        };
        Saved {
            channels: self
                .channels
                .iter()
                .filter(|(_, channel)| !channel.closing)
                .map(|(key, channel)| (key.clone(), rows(channel)))
                .collect(),
            bans: self.bans.clone(),
            holds: self.holds.clone(),
        }
    }
}

impl Model {
    /// The process is gone; writes up to `last` are safe.
    pub(super) fn ended(&mut self, now: u64, last: u64, handed_over: bool) {
        let shards = std::mem::take(&mut self.shards);
        let saves = std::mem::take(&mut self.saved);
        let expected = shards.into_iter().enumerate().map(|(s, shard)| {
            let kept = saves.numbered.range(..=last).rev().find(|(_, (of, ..))| *of == s);
            let (rows, or) = match kept {
                Some((_, (_, (rows, or)))) => (Rc::clone(rows), or.clone()),
                None => Default::default(),
            };
            let lapsed = shard.lapsed.clone();
            let live = handed_over.then_some(shard);
            Expected { rows, or, lapsed, live, ended_at: now }
        });
        self.expected = Some(expected.collect());
        self.sent_notices.clear();
        // A pause ends with the process.
        self.pauses.iter_mut().for_each(|(_, end)| *end = (*end).min(now));
    }

    /// The next process has read the rows.
    pub(super) fn started(
        &mut self,
        now: u64,
        wall: u64,
        relay: u64,
        restored: &[Restored],
    ) -> Verdict {
        let expected =
            self.expected.take().unwrap_or_else(|| vec![Expected::default(); restored.len()]);
        for (expected, restored) in expected.into_iter().zip(restored) {
            let rows = self.read(restored, &expected, wall)?;
            let (bans, holds) = (rows.bans.clone(), rows.holds.clone());
            let mut shard = match expected.live.filter(|_| restored.clean) {
                Some(live) => self.go_on_from(live, restored, now, expected.ended_at)?,
                None => self.begin_from(rows, restored, now),
            };
            (shard.bans, shard.holds) = (bans, holds);
            shard.moved = ModelShard::moved_of(restored, relay);
            let saved = Rc::new(shard.save());
            // If the clock went back, a ban or hold becomes no longer than it was.
            let fit =
                |(until, from): &mut Ban| *until = (*until).min(wall + until.saturating_sub(*from));
            shard.bans.values_mut().for_each(fit);
            shard.holds.values_mut().for_each(fit);
            let s = self.shards.len();
            self.saved.last.insert(s, Rc::clone(&saved));
            self.saved.numbered.insert(s as u64, (s, (saved, None)));
            self.shards.push(shard);
        }
        Ok(())
    }

    /// Converts the rows; each must be as it was written.
    fn read(&mut self, restored: &Restored, expected: &Expected, wall: u64) -> Verdict<Saved> {
        let wrong = |what: String| Err(("durable", what));
        let mut saved = Saved::default();
        let written = [Some(&expected.rows), expected.or.as_ref()];
        for (key, record, members) in &restored.channels {
            let known: Vec<&Rows> =
                written.iter().flatten().filter_map(|saved| saved.channels.get(key)).collect();
            let mut rows = Rows {
                cid: record.cid,
                creator: record.creator.expect("a channel with members has a creator"),
                attributes: record.attributes.clone(),
                demoted: record.demoted.iter().copied().collect(),
                members: BTreeMap::new(),
            };
            let fits = |known: &&Rows| {
                (known.cid, known.creator, &known.attributes, &known.demoted)
                    == (rows.cid, rows.creator, &rows.attributes, &rows.demoted)
            };
            if !known.iter().any(fits) {
                return wrong(format!("{key:?} is left as {rows:?} and was {known:?}"));
            }
            for member in members {
                let known: Vec<Row> = known
                    .iter()
                    .filter_map(|rows| rows.members.get(&member.uid))
                    .cloned()
                    .collect();
                let row = known.iter().find(|row| self.match_row(row, member));
                let Some(row) = row.cloned() else {
                    return wrong(format!(
                        "{} of {key:?} is left as {member:?} and was {known:?}",
                        member.uid
                    ));
                };
                rows.members.insert(member.uid, row);
            }
            saved.channels.insert(key.clone(), rows);
        }
        saved.bans = restored
            .bans
            .iter()
            .map(|(key, uid, ban)| {
                let maker = ban.by.map(|by| (by, ban.unnamed));
                ((key.clone(), *uid, maker), (ban.until.0, ban.watermark.0))
            })
            .collect();
        saved.holds = restored
            .holds
            .iter()
            .map(|(key, hold)| (key.clone(), (hold.until.0, hold.watermark.0)))
            .collect();
        // Expired holds are forgotten at some time.
        let holds = |saved: &Saved| -> Vec<(ChannelKey, Ban)> {
            let holds = saved.holds.iter();
            let held =
                holds.filter(|(key, (until, _))| *until > wall && !expected.lapsed.contains(*key));
            held.map(|(key, ban)| (key.clone(), *ban)).collect()
        };
        let fits = |other: &&Rc<Saved>| {
            let members = |saved: &Saved| -> Vec<(ChannelKey, UserId)> {
                let channels = saved.channels.iter();
                channels
                    .flat_map(|(key, rows)| rows.members.keys().map(move |uid| (key.clone(), *uid)))
                    .collect()
            };
            members(other) == members(&saved)
                && other.bans == saved.bans
                && holds(other) == holds(&saved)
        };
        // A part of an input may have been written.
        if expected.or.is_none() && !written.iter().flatten().any(fits) {
            return wrong(difference(&saved, &expected.rows));
        }
        Ok(saved)
    }

    fn match_row(&mut self, row: &Row, record: &MemberRecord) -> bool {
        let stored = (
            record.mid,
            record.session,
            &record.join_id,
            &record.role,
            record.rights,
            &record.name,
            &record.attributes,
            record.muted,
            record.token_end.map(|end| end.0),
        );
        let is = (
            row.mid,
            row.session,
            &row.join_id,
            &row.role,
            row.rights,
            &row.name,
            &row.attributes,
            row.muted,
            row.token_end,
        );
        let named = |kind: &MediaKind| {
            record.published.iter().find(|(of, _)| of == kind).map(|(_, named)| *named)
        };
        let pubs = MediaKind::ALL.iter().zip(row.pubs).all(|(kind, at)| match (at, named(kind)) {
            (None, None) => true,
            (Some(at), Some(named)) => bind(&mut self.pubs, at, named),
            _ => false,
        });
        let mut pushes: Vec<Gen> = record.pushes.iter().map(|push| push.generation).collect();
        let mut known: Vec<Gen> = row.pushes.iter().flatten().copied().collect();
        pushes.sort();
        known.sort();
        stored == is && pubs && pushes == known
    }

    /// After a crash all members are in grace from now on, and nothing else is known.
    fn begin_from(&self, rows: Saved, restored: &Restored, now: u64) -> ModelShard {
        let mut shard = ModelShard { bans: rows.bans, holds: rows.holds, ..ModelShard::default() };
        shard.crash_grace_end = if restored.clean { 0 } else { now + CRASH_MS };
        for ((key, rows), (_, _, records)) in rows.channels.into_iter().zip(&restored.channels) {
            let policy = self.rules.apps[&key.appkey].clone();
            let mut streams = BTreeMap::new();
            let mut members = BTreeMap::new();
            for ((uid, row), record) in rows.members.into_iter().zip(records) {
                for push in &record.pushes {
                    let renew_after = push.minted.renew_after.0;
                    streams.insert(push.generation, Stream { owner: uid, renew_after });
                }
                shard.awaited_viewers.insert(record.mid);
                members.insert(uid, from_row(row, record, now));
            }
            if members.is_empty() {
                continue;
            }
            let channel = Channel {
                cid: rows.cid,
                epoch: UNSEEN,
                creator: rows.creator,
                attributes: rows.attributes,
                policy,
                members,
                streams,
                log: Vec::new(),
                base: 0,
                replaced: BTreeMap::new(),
                closing: false,
                demoted: rows.demoted,
                unstored: None,
                hidden_texts: BTreeMap::new(),
            };
            shard.channels.insert(key, channel);
        }
        shard
    }

    /// After a clean stop the next process continues; its clock begins where the clock of the other one froze.
    fn go_on_from(
        &self,
        live: ModelShard,
        restored: &Restored,
        now: u64,
        ended: u64,
    ) -> Verdict<ModelShard> {
        let froze = live.handed_over_at.unwrap_or(ended);
        let later = |at: u64| now - froze.saturating_sub(at).min(now);
        let mut shard = ModelShard {
            channels: live.channels,
            bans: live.bans,
            holds: live.holds,
            crash_grace_end: 0,
            awaited_viewers: BTreeSet::new(),
            ..ModelShard::default()
        };
        for (key, record, records) in &restored.channels {
            let Some(channel) = shard.channels.get_mut(key) else { continue };
            let log = record.live.as_ref().map(|live| (live.epoch, live.head));
            let is = (channel.epoch, channel.head());
            let fits = channel.epoch == UNSEEN || log == Some(is);
            if !fits {
                return Err((
                    "durable",
                    format!("the log of {key:?} is handed over as {log:?} of {is:?}"),
                ));
            }
            // Nobody has seen this log since the crash, so its content is not needed.
            if let Some((epoch, head)) = log
                && channel.epoch == UNSEEN
            {
                channel.base = head - channel.log.len() as u64;
                channel.epoch = epoch;
            }
            channel.replaced.clear();
            channel.hidden_texts.clear();
            // Everything is stored by now.
            channel.unstored = None;
            for logged in &mut channel.log {
                logged.at = later(logged.at);
            }
            for (uid, member) in &mut channel.members {
                let record = records.iter().find(|record| record.uid == *uid);
                if let Some(live) = record.and_then(|record| record.live.as_ref()) {
                    let stored = (live.offered, live.attempt, live.message_head);
                    let is = (member.tickets.1, member.attempt, member.messages);
                    if stored != is && !member.tickets.2 {
                        return Err((
                            "durable",
                            format!("{uid} is handed over as {stored:?} of {is:?}"),
                        ));
                    }
                }
                member.conn = None;
                member.lost_at = member.lost_at.map(later);
                member.first_lost = member.first_lost.map(later);
                member.last_media = member.last_media.map(later);
                member.connected_at = later(member.connected_at);
                member.last_in = later(member.last_in);
                member.limited = 0;
                member.being_kicked = false;
                member.unstored = None;
                member.budget = (RATE_BURST, now);
                // A command that was not executed is sent again.
                if let Some(pending) = member.pending.take() {
                    member.last_id = Some(pending.id.0 - 1);
                }
            }
        }
        Ok(shard)
    }
}

fn from_row(row: Row, record: &MemberRecord, now: u64) -> Member {
    Member {
        join_id: row.join_id,
        name: row.name,
        attributes: row.attributes,
        muted: row.muted,
        token_end: row.token_end,
        named: record.named,
        lost_at: Some(now),
        first_lost: Some(now),
        tickets: (record.confirmed, record.confirmed, true),
        forced: record.forced,
        restored: true,
        pubs: row.pubs,
        pushes: row.pushes,
        ..Member::new(row.mid, row.session, row.role, row.rights, now)
    }
}

/// The difference as text for people.
fn difference(left: &Saved, was: &Saved) -> String {
    let members = |saved: &Saved| -> Vec<String> {
        let channels = saved.channels.iter();
        channels
            .flat_map(|(key, rows)| {
                rows.members.keys().map(move |uid| format!("{} {uid}", key.name))
            })
            .collect()
    };
    let (left_members, were) = (members(left), members(was));
    let gone: Vec<_> = were.iter().filter(|member| !left_members.contains(member)).collect();
    let extra: Vec<_> = left_members.iter().filter(|member| !were.contains(member)).collect();
    format!(
        "rows that should be there: {gone:?}, should not: {extra:?}; bans {:?} were {:?}, holds {:?} were {:?}",
        left.bans, was.bans, left.holds, was.holds
    )
}
