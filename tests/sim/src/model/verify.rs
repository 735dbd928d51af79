//! Compares the outputs of the engine with the expectations of the model, after each input.

use lianmai_protocol::codec::ServerMessage;
use lianmai_protocol::message::session::Joined;
use lianmai_protocol::message::{ChannelEvent, Position};
use lianmai_protocol::{Epoch, Gen, KindSet, MediaKind, Pub, UserId};
use lianmai_signal_engine::{Access, ChannelKey, Output, Question, Stats};
use serde_json::Value;

use super::state::{AfterWrite, LoggedEvent, MemberRef, ModelEvent, ModelShard};
use super::{Expect, InputStep, Model, Verdict};
use crate::check::wire::Answer;

/// The epoch of a channel that no client has seen since the crash.
pub(super) const UNSEEN: Epoch = Epoch([0; 12]);
/// A question of the relay waits at most this long.
const PARK_MS: u64 = 10_000;

impl Model {
    pub(super) fn verify(
        &mut self,
        s: usize,
        outputs: &[Output],
        mut step: InputStep<'_>,
        stats: Stats,
    ) -> Verdict {
        let over: Vec<ChannelKey> = self.shards[s]
            .channels
            .iter()
            .filter(|(_, channel)| channel.members.is_empty())
            .map(|(key, _)| key.clone())
            .collect();
        for key in over {
            self.end_channel(s, &key);
        }
        self.same_answers(s, &mut step)?;
        self.same_closes(&mut step)?;
        Self::same_replies(outputs, &mut step)?;
        self.same_events(s, &step)?;
        self.same_notices(s, outputs, &mut step)?;
        self.same_stats(s, stats)?;
        self.verdicts(s, outputs, &step)?;
        self.same_kinds(s, outputs)?;
        self.writes(s, outputs, &mut step)?;
        self.in_time(s, &step)?;
        self.end_renewals(s, step.now);
        self.shards[s].archive.clear();
        Ok(())
    }

    fn same_closes(&self, step: &mut InputStep<'_>) -> Verdict {
        step.closed.sort_by_key(|(conn, code)| (conn.0, code.0));
        step.closes.sort_by_key(|(conn, code)| (conn.0, code.0));
        if step.closed != step.closes {
            let what = format!("closes {:?}, and should close {:?}", step.closed, step.closes);
            return Err(("model", what));
        }
        step.cut.sort();
        step.cuts.sort();
        if step.cut != step.cuts {
            return Err(("media", format!("cuts {:?}, and should cut {:?}", step.cut, step.cuts)));
        }
        step.cut_viewers.sort();
        step.viewer_cuts.sort();
        // The end of a stream ends all plays of it; a cut of a viewer in addition does no harm.
        let cuts = std::mem::take(&mut step.cuts);
        let single = |cut: &(lianmai_protocol::Gen, lianmai_protocol::Mid)| !cuts.contains(&cut.0);
        step.cut_viewers.retain(single);
        step.viewer_cuts.retain(single);
        if step.cut_viewers != step.viewer_cuts {
            let what =
                format!("cuts {:?}, and should cut {:?}", step.cut_viewers, step.viewer_cuts);
            return Err(("media", what));
        }
        Ok(())
    }

    fn same_answers(&mut self, s: usize, step: &mut InputStep<'_>) -> Verdict {
        let mut expected = std::mem::take(&mut step.answers);
        for answer in &step.caused.answers {
            let at = expected.iter().position(|(conn, ..)| *conn == answer.conn);
            let Some(at) = at else {
                return Err((
                    "model",
                    format!("{:?} is answered {answer:?} for nothing", answer.conn),
                ));
            };
            let (conn, id, expect) = expected.remove(at);
            if id != answer.id {
                return Err((
                    "model",
                    format!("{conn:?} is answered {answer:?}, and not {id:?} {expect:?}"),
                ));
            }
            fits(answer, &expect)?;
            let Some(id) = id else { continue };
            if let Some((key, uid)) = self.member_of(s, conn)
                && let Some(member) = self.member(MemberRef { s, key: &key, uid })
                && let Some(known) = member.answers.iter_mut().rev().find(|known| known.id == id)
                && (known.expect == expect || matches!(expect, Expect::Again(_)))
            {
                known.text.get_or_insert(answer.hash);
            }
        }
        match expected.first() {
            Some((conn, id, expect)) => {
                Err(("model", format!("{conn:?} is not answered: {id:?} {expect:?}")))
            }
            None => Ok(()),
        }
    }

    fn same_events(&mut self, s: usize, step: &InputStep<'_>) -> Verdict {
        let mut positions = std::collections::BTreeSet::new();
        for (conn, Position { epoch, seq }, frame, index) in &step.caused.events {
            if !positions.insert((*epoch, *seq)) {
                continue;
            }
            let ServerMessage::Event(_, event) = &frame[*index].message else { continue };
            let Some(made) = self.event_at(s, *epoch, *seq) else {
                let what = format!("{conn:?} gets {seq} {event:?}, which did not happen");
                return Err(("model", what));
            };
            if !is_same(&made, event, &mut self.pubs) {
                let what = format!("{conn:?} gets {seq} {event:?}, and it was {made:?}");
                return Err(("model", what));
            }
        }
        Ok(())
    }

    fn event_at(&self, s: usize, epoch: Epoch, seq: u64) -> Option<ModelEvent> {
        let shard = &self.shards[s];
        let channel = shard.channels.values().find(|channel| channel.epoch == epoch);
        let (base, log): (u64, &[LoggedEvent]) = match (channel, shard.archive.get(&epoch)) {
            (Some(channel), _) => (channel.base, &channel.log),
            (None, Some((base, log))) => (*base, log),
            (None, None) => return None,
        };
        let at = usize::try_from(seq.checked_sub(base + 1)?).ok()?;
        log.get(at).map(|logged| logged.event.clone())
    }

    fn same_stats(&self, s: usize, stats: Stats) -> Verdict {
        let shard = &self.shards[s];
        let count = |of: fn(&super::state::Channel) -> usize| {
            shard.channels.values().map(of).sum::<usize>()
        };
        let is = (
            shard.channels.len(),
            count(|channel| channel.members.len()),
            shard.connections.len(),
            count(|channel| channel.streams.len()),
            shard.events,
        );
        let has = (stats.channels, stats.members, stats.connected, stats.streams, stats.events);
        if is != has {
            let what = format!(
                "channels, members, connected, streams, events are {has:?} and should be {is:?}"
            );
            return Err(("model", what));
        }
        Ok(())
    }

    fn verdicts(&mut self, s: usize, outputs: &[Output], step: &InputStep<'_>) -> Verdict {
        for output in outputs {
            let Output::Verdict { query, verdict } = output else { continue };
            let Some((generation, access, asked, might)) = self.shards[s].questions.remove(query)
            else {
                return Err(("media", format!("{query:?} is answered twice")));
            };
            let may = self.may_use(s, generation, access) || (might && asked == step.now);
            if may != verdict.is_ok() {
                let what =
                    format!("{access:?} of {generation}, asked at {asked}, is told {verdict:?}");
                return Err(("media", what));
            }
            if let Ok(allowed) = verdict {
                self.kinds_judged(s, generation, access, allowed.kinds);
            }
            let waits =
                asked < self.shards[s].crash_grace_end && self.may_be_back(s, generation, access);
            let early = step.now < asked + PARK_MS && !self.shards[s].is_frozen();
            if verdict.is_err() && waits && early {
                let what =
                    format!("{access:?} of {generation} is refused before its member may be back");
                return Err(("media", what));
            }
        }
        let until = self.shards[s].frozen_since.unwrap_or(step.now);
        let late = |(_, _, asked, _): &&(Gen, Access, u64, bool)| {
            *asked + PARK_MS + 500 + self.paused_in(*asked, step.now) < until
        };
        match self.shards[s].questions.values().find(late) {
            Some(question) => Err(("media", format!("{question:?} is not answered"))),
            None => Ok(()),
        }
    }

    /// Whether a play is of a living stream and of a member that may subscribe again soon.
    fn may_be_back(&self, s: usize, generation: Gen, access: Access) -> bool {
        let Access::Play { viewer } = access else { return false };
        let mut channels = self.shards[s].channels.values();
        let channel = channels.find(|channel| channel.streams.contains_key(&generation));
        self.shards[s].awaited_viewers.contains(&viewer)
            && channel
                .is_some_and(|channel| channel.members.values().any(|member| member.mid == viewer))
    }

    fn writes(&mut self, s: usize, outputs: &[Output], step: &mut InputStep<'_>) -> Verdict {
        if let Some(ask) = step.writes.pop_front() {
            // Everything that was accepted is finished before the hand-over.
            let shard = &self.shards[s];
            let done = shard.is_frozen() && shard.writes.is_empty();
            if !done || !step.writes.is_empty() {
                return Err(("model", format!("{ask:?} is written for nobody")));
            }
            self.shards[s].writes.insert(ask, (step.now, AfterWrite::HandOver));
            self.shards[s].handed_over_at = Some(step.now);
        }
        let is_write = |output: &&Output| {
            let asked = matches!(output, Output::Ask { question: Question::Store(_), .. });
            asked || matches!(output, Output::Store(_))
        };
        let stores = outputs.iter().filter(is_write).count();
        if stores > 0 {
            let saved = self.shards[s].save();
            self.saved.push(s, saved, stores);
        }
        Ok(())
    }

    /// Compares a snapshot with the model.
    pub(super) fn check_snapshot(
        &mut self,
        who: MemberRef<'_>,
        told: &Joined,
        step: &InputStep<'_>,
    ) -> Verdict {
        let MemberRef { s, key, uid } = who;
        let shard: &mut ModelShard = &mut self.shards[s];
        let Some(channel) = shard.channels.get_mut(key) else { return Ok(()) };
        if channel.epoch == UNSEEN {
            channel.epoch = told.epoch;
        }
        let channel = &shard.channels[key];
        let wrong = |what: String| Err(("roster", what));
        let is = (channel.cid, channel.epoch, channel.head(), channel.creator, &channel.attributes);
        let says = (told.cid, told.epoch, told.seq, told.channel.creator, &told.channel.attributes);
        if is != says {
            return wrong(format!("a snapshot says {says:?} of {is:?}"));
        }
        let visible = channel.members.values().filter(|member| member.is_visible()).count();
        if visible != told.members.len() || told.member_count != channel.members.len() as u64 {
            return wrong(format!("a snapshot has {} of {visible} members", told.members.len()));
        }
        for shown in &told.members {
            let member = channel.members.get(&shown.uid).filter(|member| member.mid == shown.mid);
            let Some(member) = member else { return wrong(format!("a snapshot has {shown:?}")) };
            let is = (&member.role, &member.name, &member.attributes, member.muted);
            let says = (&shown.role, &shown.name, &shown.attributes, shown.muted);
            let kinds: KindSet =
                shown.streams.iter().map(|stream| stream.media_type.clone()).collect();
            if is != says || kinds != member.published() {
                return wrong(format!("a snapshot says {shown:?} of {member:?}"));
            }
            for stream in &shown.streams {
                let at = stream.media_type.index().and_then(|at| member.pubs[at]);
                if at.is_none_or(|at| !bind(&mut self.pubs, at, stream.publication)) {
                    return wrong(format!("a snapshot says {shown:?} of {member:?}"));
                }
            }
        }
        let Some(member) = channel.members.get(&uid) else {
            return wrong(format!("{uid} gets a snapshot and is not inside"));
        };
        let own = &told.own;
        let is = (
            member.mid,
            &member.role,
            member.rights,
            &member.name,
            &member.attributes,
            member.muted,
        );
        let says = (own.mid, &own.role, own.rights, &own.name, &own.attributes, own.muted);
        if is != says || member.session != told.session_id {
            return wrong(format!("{uid} is told {says:?} of {is:?}"));
        }
        let published: KindSet = own.published.iter().map(|own| own.media_type.clone()).collect();
        let mut plays: Vec<(UserId, MediaKind)> =
            own.subscriptions.iter().map(|sub| (sub.uid, sub.media_type.clone())).collect();
        plays.sort();
        if published != member.published() || plays != channel.plays(member) {
            return wrong(format!("{uid} is told {own:?} of {member:?}"));
        }
        let expires = member.token_end.map(|end| end.saturating_sub(step.wall));
        if own.token_expires_in_ms != expires {
            return wrong(format!("{uid} is told its token ends in {:?}", own.token_expires_in_ms));
        }
        if let Some(conn) = member.conn {
            self.sent_notices.entry(conn).or_default().count = Some(told.member_count);
        }
        Ok(())
    }
}

fn fits(answer: &Answer, expect: &Expect) -> Verdict {
    let wrong = || {
        Err((
            "model",
            format!("{:?} is answered {:?}, and not {expect:?}", answer.conn, show(answer)),
        ))
    };
    let json = match (&answer.outcome, expect) {
        (_, Expect::Entered) => return Ok(()),
        (_, Expect::Again(text)) => {
            let same = text.is_none_or(|text| text == answer.hash);
            return if same {
                Ok(())
            } else {
                Err(("once", "an answer is another one now".to_owned()))
            };
        }
        (Err(error), Expect::Error(name)) if error.name() == name => return Ok(()),
        (Ok(json), expect) if !matches!(expect, Expect::Error(_)) => json.get(),
        _ => return wrong(),
    };
    let Ok(value) = serde_json::from_str::<Value>(json) else { return wrong() };
    let number = |name: &str| value.get(name).and_then(Value::as_u64);
    let text = |name: &str| value.get(name).and_then(Value::as_str).map(str::to_owned);
    let seq = number("seq");
    let fits = match expect {
        Expect::Done { seq: is } | Expect::Renewed { seq: is } => seq == Some(*is),
        Expect::Published { seq: is, generation } => {
            seq == Some(*is) && text("gen") == Some(generation.to_string()) && text("url").is_some()
        }
        Expect::Subscribed { seq: is, uid } => {
            seq == Some(*is) && text("uid") == Some(uid.to_string()) && text("url").is_some()
        }
        Expect::Sent { seq: is, delivered } => {
            seq == Some(*is) && number("delivered") == Some(*delivered)
        }
        Expect::Nothing => seq.is_none(),
        Expect::Pong => seq.is_some() && text("epoch").is_some(),
        Expect::Error(_) | Expect::Again(_) | Expect::Entered => false,
    };
    if fits { Ok(()) } else { wrong() }
}

fn show(answer: &Answer) -> String {
    match &answer.outcome {
        Ok(json) => json.get().chars().take(200).collect(),
        Err(error) => error.name().to_string(),
    }
}

/// Gives a publication its name. False if it has another one.
pub(super) fn bind(pubs: &mut [Option<Pub>], at: usize, named: Pub) -> bool {
    if pubs[at].is_none() && !pubs.contains(&Some(named)) {
        pubs[at] = Some(named);
    }
    pubs[at] == Some(named)
}

fn is_same(made: &ModelEvent, event: &ChannelEvent, pubs: &mut [Option<Pub>]) -> bool {
    match (made, event) {
        (ModelEvent::Join { uid, mid, name, attributes, muted }, ChannelEvent::ClientJoin(e)) => {
            (uid, mid, name, attributes, muted)
                == (&e.uid, &e.mid, &e.name, &e.attributes, &e.muted)
        }
        (ModelEvent::Leave { uid, mid, reason }, ChannelEvent::ClientLeave(e)) => {
            (uid, mid, reason) == (&e.uid, &e.mid, &e.reason)
        }
        (ModelEvent::Update { uid, mid, name, attributes }, ChannelEvent::ClientUpdate(e)) => {
            (uid, mid, name, attributes) == (&e.uid, &e.mid, &e.name, &e.attributes)
        }
        (ModelEvent::Channel(attributes), ChannelEvent::ChannelUpdate(e)) => {
            *attributes == e.attributes
        }
        (ModelEvent::Role { uid, mid, role }, ChannelEvent::RoleChanged(e)) => {
            (uid, mid, role) == (&e.uid, &e.mid, &e.role)
        }
        (ModelEvent::Added { uid, mid, kind, publication }, ChannelEvent::StreamAdded(e))
        | (ModelEvent::Removed { uid, mid, kind, publication }, ChannelEvent::StreamRemoved(e)) => {
            (uid, mid, kind) == (&e.uid, &e.mid, &e.media_type)
                && bind(pubs, *publication, e.publication)
        }
        (ModelEvent::Muted { uid, mid, kind, on: true }, ChannelEvent::Muted(e))
        | (ModelEvent::Muted { uid, mid, kind, on: false }, ChannelEvent::Unmuted(e)) => {
            (uid, mid, kind) == (&e.uid, &e.mid, &e.media_type)
        }
        (ModelEvent::Message { uid, data }, ChannelEvent::Message(e)) => {
            (uid, data) == (&e.uid, &e.data)
        }
        (ModelEvent::Close { cid, reason, text }, ChannelEvent::LiveRoomClose(e)) => {
            (cid, reason, text) == (&e.cid, &e.reason, &e.text)
        }
        _ => false,
    }
}
