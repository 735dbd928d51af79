//! Effects of time: sockets that are given up, memberships that end, URLs that were not issued in time. The engine
//! chooses the moment, and the model checks that it is neither too early nor too late (LIV-3).

use lianmai_protocol::message::event::LeaveReason;
use lianmai_protocol::{CloseCode, ErrorName, UserId};
use lianmai_signal_engine::{AskId, ChannelKey, ConnId, Note, Output};

use super::state::{AfterWrite, Member, MemberRef, ModelShard, PendingOn};
use super::{InputStep, Model, Verdict, left};

/// A URL that was not issued within this fails its command.
const MINT_MS: u64 = 5_000;
/// A write that takes longer than this has failed.
const WRITE_MS: u64 = 5_000;
/// What is due happens within this.
const LATE_MS: u64 = 500;
/// A token is checked again at most after this, because the wall clock may jump.
const TOKEN_LOOK_MS: u64 = 61_000;
/// How often a drain is checked.
const DRAIN_STEP_MS: u64 = 50;
/// A shorter pause does not count.
const STALL_MS: u64 = 2_000;
/// Tolerance beside a pause: for what waits to be read, and for the silence before it.
const MOMENT_MS: u64 = STALL_MS + 1_000;

impl ModelShard {
    /// From here on, work may be left to the next process.
    pub(super) fn is_frozen(&self) -> bool {
        self.frozen_since.is_some()
    }

    /// Whether an entry is refused because it comes too late; `says_so`: the answer of the engine is `draining`.
    pub(super) fn turns_away(&self, says_so: bool) -> bool {
        self.handed_over_at.is_some() || (says_so && self.is_frozen())
    }

    /// Freezes after the notice time of a drain, when the last connection is gone.
    fn freeze(&mut self, now: u64) {
        let told = self.drain.is_some_and(|(began, plan)| began + plan.notice_ms <= now);
        if told && self.connections.is_empty() {
            self.frozen_since.get_or_insert(now);
        }
    }
}

impl Model {
    /// Milliseconds that the server stood still between two moments.
    pub(super) fn paused_in(&self, from: u64, to: u64) -> u64 {
        let overlap = |(begin, end): &(u64, u64)| (*end).min(to).saturating_sub((*begin).max(from));
        self.pauses.iter().map(overlap).sum()
    }

    /// The most by which an end may be later because of pauses, including a moment for what waits to be read.
    fn forgiven_in(&self, from: u64, to: u64) -> u64 {
        let within = self.pauses.iter().filter(|(begin, end)| *end >= from && *begin <= to);
        self.paused_in(from, to) + within.count() as u64 * MOMENT_MS
    }

    /// Writes that the disk does not answer in time have failed.
    fn late_writes(&mut self, s: usize, step: &mut InputStep<'_>) -> Verdict {
        let now = step.now;
        let is_late = |(_, (since, then)): &(&AskId, &(u64, AfterWrite))| {
            since + WRITE_MS <= now && !matches!(then, AfterWrite::HandOver)
        };
        while let Some((&ask, _)) = self.shards[s].writes.iter().find(is_late) {
            self.stored(s, ask, false, step)?;
            self.go_on_superseded(s, step)?;
        }
        Ok(())
    }

    pub(super) fn due(
        &mut self,
        s: usize,
        outputs: &[Output],
        step: &mut InputStep<'_>,
    ) -> Verdict {
        self.late_writes(s, step)?;
        if self.shards[s].handed_over_at.is_none() {
            self.late_urls(s, outputs, step)?;
        }
        for output in outputs {
            match output {
                Output::Note(Note::MemberLeft { channel, uid, reason, .. }) => {
                    self.over(MemberRef { s, key: channel, uid: *uid }, reason, step)?;
                }
                Output::Ping { conn } => self.pinged(s, *conn, step)?,
                Output::Close { conn, code } if *code == CloseCode::IDLE => {
                    self.idle(s, *conn, step)?;
                }
                Output::Close { conn, code } if *code == CloseCode::SERVER_RESTART => {
                    self.drained(s, *conn, step)?;
                }
                _ => {}
            }
        }
        self.shards[s].freeze(step.now);
        Ok(())
    }

    fn late_urls(&mut self, s: usize, outputs: &[Output], step: &mut InputStep<'_>) -> Verdict {
        // If several things are due at once, a member may end before its late URL is answered.
        let leavers: Vec<_> = left(outputs).map(|(key, uid, _)| (key.clone(), uid)).collect();
        loop {
            let mut late: Option<(u64, ChannelKey, UserId)> = None;
            for (key, channel) in &self.shards[s].channels {
                for (uid, member) in &channel.members {
                    let Some(pending) = &member.pending else { continue };
                    let (PendingOn::Push { since, .. } | PendingOn::Pull { since, .. }) =
                        pending.on
                    else {
                        continue;
                    };
                    let leaves = leavers.iter().any(|(of, who)| of == key && who == uid);
                    let url = ErrorName::UrlUnavailable;
                    let answered = |conn: &ConnId| step.is_answered_with(*conn, pending.id, &url);
                    if leaves && !member.conn.as_ref().is_some_and(answered) {
                        continue;
                    }
                    let due = since + MINT_MS <= step.now;
                    if due && late.as_ref().is_none_or(|(first, ..)| since < *first) {
                        late = Some((since, key.clone(), *uid));
                    }
                }
            }
            let Some((_, key, uid)) = late else { return Ok(()) };
            let who = MemberRef { s, key: &key, uid };
            let on = self.member(who).and_then(|m| m.pending.as_ref()).map(|w| w.on.clone());
            let outcome = match on {
                Some(on) => self.mint_comes_to(who, on, None, step),
                None => Err(ErrorName::UrlUnavailable),
            };
            self.go_on(who, outcome, step)?;
            self.go_on_superseded(s, step)?;
        }
    }

    /// When a membership without a socket ends.
    fn end_of(&self, member: &Member) -> Option<u64> {
        let lost = member.lost_at?;
        let by_media = member.last_media.map_or(lost, |at| at + self.rules.idle);
        let cap = member.first_lost.unwrap_or(lost) + self.rules.cap.max(self.rules.grace);
        // The cap may be over while the member has a socket.
        Some((lost + self.rules.grace).max(by_media).min(cap).max(lost))
    }

    fn over(
        &mut self,
        who: MemberRef<'_>,
        reason: &LeaveReason,
        step: &mut InputStep<'_>,
    ) -> Verdict {
        let MemberRef { s, key, uid } = who;
        let wrong = |what: String| Err(("ghosts", what));
        let is_due = matches!(
            reason,
            LeaveReason::Timeout | LeaveReason::ServerRestart | LeaveReason::TokenExpired
        );
        if !is_due {
            return Ok(());
        }
        let Some(member) = self.shards[s].channels.get(key).and_then(|c| c.members.get(&uid))
        else {
            return wrong(format!("{uid} of {key:?} is over as {reason}, and is not there"));
        };
        let code = match reason {
            LeaveReason::TokenExpired => {
                if member.token_end.is_none_or(|end| end > step.wall) {
                    return wrong(format!(
                        "the token of {uid} is good until {:?}",
                        member.token_end
                    ));
                }
                CloseCode::TOKEN_EXPIRED
            }
            _ => {
                let end = self.end_of(member);
                if end.is_none_or(|end| end > step.now) {
                    let what = format!("{uid} of {key:?} may stay until {end:?}: {member:?}");
                    return wrong(what);
                }
                let expected =
                    if member.restored { LeaveReason::ServerRestart } else { LeaveReason::Timeout };
                if *reason != expected {
                    return wrong(format!("{uid} of {key:?} is over as {reason}, not {expected}"));
                }
                CloseCode::IDLE
            }
        };
        let named = self.member(who).is_some_and(|member| member.named);
        self.remove(who, reason.clone(), code, step);
        // A crash never closes a channel.
        if *reason != LeaveReason::ServerRestart {
            self.dissolve(who, named, step);
        }
        Ok(())
    }

    fn idle(&mut self, s: usize, conn: ConnId, step: &mut InputStep<'_>) -> Verdict {
        let Some((key, uid)) = self.member_of(s, conn) else { return Ok(()) };
        let Some(member) = self.shards[s].channels.get(&key).and_then(|c| c.members.get(&uid))
        else {
            return Ok(());
        };
        let silent = step.now - member.last_in;
        let paused = self.paused_in(member.last_in, step.now);
        if silent < self.rules.dead {
            return Err(("ghosts", format!("{conn:?} is given up after {silent} ms")));
        }
        // A pause of the server does not count as silence of a client.
        if paused > STALL_MS && silent - paused < self.rules.ping + 1_000 {
            let what = format!(
                "{conn:?} is given up after {silent} ms, {paused} of which the server stood still"
            );
            return Err(("stability", what));
        }
        self.drop_conn(MemberRef { s, key: &key, uid }, CloseCode::IDLE, step);
        Ok(())
    }

    /// Only a silent member is pinged.
    fn pinged(&mut self, s: usize, conn: ConnId, step: &mut InputStep<'_>) -> Verdict {
        let ping = self.rules.ping;
        let Some((key, uid)) = self.member_of(s, conn) else { return Ok(()) };
        let Some(member) = self.member(MemberRef { s, key: &key, uid }) else { return Ok(()) };
        let silent = step.now - member.last_in;
        if silent < ping {
            return Err(("model", format!("{conn:?} is pinged after {silent} ms")));
        }
        (member.pinged, member.pinged_at) = (true, step.now);
        Ok(())
    }

    fn drained(&mut self, s: usize, conn: ConnId, step: &mut InputStep<'_>) -> Verdict {
        let Some((key, uid)) = self.member_of(s, conn) else { return Ok(()) };
        match self.shards[s].drain {
            Some((began, plan)) if step.now >= began + plan.notice_ms => {}
            other => return Err(("model", format!("{conn:?} is drained in {other:?}"))),
        }
        self.drop_conn(MemberRef { s, key: &key, uid }, CloseCode::SERVER_RESTART, step);
        Ok(())
    }

    /// Checks that nothing is overdue.
    pub(super) fn in_time(&self, s: usize, step: &InputStep<'_>) -> Verdict {
        let shard = &self.shards[s];
        // Between two processes no time passes for a member.
        let until = shard.frozen_since.unwrap_or(step.now);
        for (key, channel) in &shard.channels {
            for (uid, member) in &channel.members {
                let lost = member.first_lost.filter(|_| member.lost_at.is_some());
                let since = lost.unwrap_or(member.last_in).min(member.last_in);
                let late = LATE_MS
                    + self.forgiven_in(since.saturating_sub(self.rules.dead + STALL_MS), step.now);
                if let Some(end) = self.end_of(member)
                    && end + late < until
                {
                    return Err((
                        "ghosts",
                        format!("{uid} of {key:?} should be gone since {end}: {member:?}"),
                    ));
                }
                if member.conn.is_some() && member.last_in + self.rules.dead + late < step.now {
                    let what = format!("{uid} of {key:?} was heard last at {}", member.last_in);
                    return Err(("ghosts", what));
                }
                let asked = member.last_in.max(member.pinged_at);
                if member.conn.is_some()
                    && asked + self.rules.ping * 11 / 10 + late < step.now.min(until)
                {
                    let what = format!("{uid} of {key:?}, silent since {asked}, is not pinged");
                    return Err(("stability", what));
                }
                if member.token_end.is_some_and(|end| end + TOKEN_LOOK_MS + late < step.wall)
                    && member.connected_at + late < step.now
                    && !self.wall_jumped(step)
                    && !shard.is_frozen()
                {
                    return Err((
                        "ghosts",
                        format!("the token of {uid} ended at {:?}", member.token_end),
                    ));
                }
            }
        }
        if let Some((began, plan)) = shard.drain
            && !shard.connections.is_empty()
            && began + plan.freeze_ms + 200 + self.paused_in(began, step.now) < step.now
        {
            return Err((
                "model",
                format!("{} sockets are open behind the freeze", shard.connections.len()),
            ));
        }
        if let Some(at) = shard.frozen_since
            && at + DRAIN_STEP_MS < step.now
            && shard.handed_over_at.is_none()
            && shard.writes.is_empty()
        {
            return Err(("model", format!("nothing is handed over, and all is done since {at}")));
        }
        Ok(())
    }

    /// Whether the wall clock was set within the last minute.
    pub(super) fn wall_jumped(&self, step: &InputStep<'_>) -> bool {
        self.wall_set.is_some_and(|at| step.now < at + TOKEN_LOOK_MS + LATE_MS)
    }
}
