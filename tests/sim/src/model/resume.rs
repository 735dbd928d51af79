//! Resumes, as docs/protocol.md section 14 states them: valid tickets, missed events, and the answer.

use lianmai_protocol::CloseCode;
use lianmai_protocol::message::session::{Outcome, Reconnect, ResumeReason, Resumed, Want};
use lianmai_signal_engine::{ConnId, ReconnectRequest, TicketClaims};

use super::notices::action_of;
use super::state::{MemberRef, ModelEvent};
use super::{Expect, InputStep, Model, Verdict};

/// Number of targeted messages that are kept in any case, whatever their length is (RES-8).
const KEPT_MESSAGES: u64 = 20;
/// The smallest size of a log that is kept, in bytes.
const LOG_BYTES: u64 = 16 * 1024;

impl Model {
    pub(super) fn reconnect(
        &mut self,
        s: usize,
        conn: ConnId,
        request: &ReconnectRequest,
        step: &mut InputStep<'_>,
    ) -> Verdict {
        let ReconnectRequest { id, reconnect, claims } = request;
        step.answers.push((conn, Some(*id), Expect::Entered));
        let Some(resumed) = step.resumed(conn) else {
            return Err(("outcome", format!("{conn:?} is not answered")));
        };
        let draining = resumed.reason == Some(ResumeReason::Draining);
        let refused = if self.shards[s].turns_away(draining) {
            Some(ResumeReason::Draining)
        } else {
            let lapsed = self.shards[s].lapsed.contains(&claims.channel);
            match self.judge_ticket(s, claims, reconnect.attempt, step.wall) {
                // The hold expired once, before the clock was set back.
                _ if lapsed && resumed.reason == Some(ResumeReason::ChannelClosed) => {
                    resumed.reason.clone()
                }
                judged => judged,
            }
        };
        if let Some(reason) = refused {
            let action = action_of(&reason);
            let is = (&resumed.outcome, resumed.reason.as_ref(), resumed.action.as_ref());
            if is != (&Outcome::Refused, Some(&reason), Some(&action)) {
                let what =
                    format!("{conn:?} must be refused as {reason}, and is answered {resumed:?}");
                let checker =
                    if resumed.outcome == Outcome::Refused { "outcome" } else { "adversary" };
                return Err((checker, what));
            }
            step.closes.push((conn, CloseCode::JOIN_REFUSED));
            return Ok(());
        }
        self.resume(s, conn, claims, reconnect, &resumed, step)
    }

    /// Why a ticket is refused.
    fn judge_ticket(
        &self,
        s: usize,
        claims: &TicketClaims,
        attempt: u64,
        wall: u64,
    ) -> Option<ResumeReason> {
        let shard = &self.shards[s];
        let issued = claims.issued_at.0;
        if let Some((until, watermark)) = shard.ban(&claims.channel, claims.uid)
            && (until > wall || issued <= watermark)
        {
            return Some(ResumeReason::Kicked);
        }
        if let Some((until, watermark)) = shard.holds.get(&claims.channel)
            && *until > wall
            && issued <= *watermark
            && !shard.lapsed.contains(&claims.channel)
        {
            return Some(ResumeReason::ChannelClosed);
        }
        let channel = shard.channels.get(&claims.channel);
        let member = channel.and_then(|channel| channel.members.get(&claims.uid));
        let Some(member) = member.filter(|member| member.mid == claims.mid) else {
            return Some(shard.endings.get(&claims.mid).cloned().unwrap_or(ResumeReason::Gone));
        };
        let (confirmed, offered, more) = member.tickets;
        if member.being_kicked {
            Some(ResumeReason::Kicked)
        } else if claims.k != confirmed && claims.k != offered && !(more && claims.k > confirmed) {
            Some(ResumeReason::Invalid)
        } else if attempt <= member.attempt {
            Some(ResumeReason::StaleAttempt)
        } else {
            None
        }
    }

    fn resume(
        &mut self,
        s: usize,
        conn: ConnId,
        claims: &TicketClaims,
        reconnect: &Reconnect,
        resumed: &Resumed,
        step: &mut InputStep<'_>,
    ) -> Verdict {
        let (key, uid) = (claims.channel.clone(), claims.uid);
        let who = MemberRef { s, key: &key, uid };
        self.drop_conn(who, CloseCode::TAKEN_OVER, step);
        let tight = self.rules.tight_logs;
        let keeps = self.rules.dead + self.rules.grace;
        let Some(channel) = self.channel(s, &key) else { return Ok(()) };
        let (epoch, head) = (channel.epoch, channel.head());
        let bytes = |event: &ModelEvent| match event {
            ModelEvent::Message { data, .. } => data.len() as u64 + 300,
            ModelEvent::Update { attributes, .. } | ModelEvent::Join { attributes, .. } => {
                attributes.bytes() as u64 + 500
            }
            ModelEvent::Channel(attributes) => attributes.bytes() as u64 + 300,
            _ => 350,
        };
        let reason = if reconnect.epoch != epoch {
            Some(ResumeReason::EpochChanged)
        } else if reconnect.seq > head {
            Some(ResumeReason::Ahead)
        } else if reconnect.want == Some(Want::Snapshot) {
            Some(ResumeReason::Asked)
        } else if resumed.reason == Some(ResumeReason::LogTrimmed) {
            // The engine must have a reason: the log was too long, or the missed events are too old.
            let from = usize::try_from(reconnect.seq.saturating_sub(channel.base)).unwrap_or(0);
            let missed = channel.log.get(from..).unwrap_or_default();
            let size: u64 = missed.iter().map(|logged| bytes(&logged.event)).sum();
            let old = missed.first().is_none_or(|first| first.at + keeps < step.now);
            if size < LOG_BYTES && !tight && !old && reconnect.seq >= channel.base {
                let what = format!(
                    "{conn:?} missed {size} bytes from {} of {head}, and gets no replay",
                    reconnect.seq
                );
                return Err(("outcome", what));
            }
            Some(ResumeReason::LogTrimmed)
        } else {
            None
        };
        let outcome = if reason.is_none() { Outcome::Replayed } else { Outcome::Snapshot };
        let replayed = if reason.is_none() { head - reconnect.seq } else { 0 };
        if (&resumed.outcome, &resumed.reason, resumed.replayed) != (&outcome, &reason, replayed) {
            let what = format!(
                "{conn:?} must be {outcome} {reason:?} {replayed}, and is answered {resumed:?}"
            );
            return Err(("outcome", what));
        }
        let Some(member) = channel.members.get_mut(&uid) else { return Ok(()) };
        member.confirms(claims.k);
        if reconnect.epoch == epoch {
            member.continue_with(epoch);
        }
        // Ticket numbers only grow; a process that may have forgotten some begins far above them.
        let newest = member.tickets.1.max(claims.k);
        let Some(k) = resumed.k.filter(|k| *k > newest) else {
            return Err((
                "outcome",
                format!("{conn:?} is offered {:?} behind {newest}", resumed.k),
            ));
        };
        member.tickets = (claims.k, k, false);
        member.attempt = reconnect.attempt;
        // Messages are numbered within an epoch.
        let received_n = if reconnect.epoch == epoch { reconnect.n } else { 0 };
        let owed = member.messages.saturating_sub(received_n);
        if resumed.messages + resumed.messages_lost != owed {
            let what = format!("{conn:?} is owed {owed} messages, and is answered {resumed:?}");
            return Err(("transients", what));
        }
        // A client with a replayed ticket may report fewer messages than the true client has received.
        if resumed.messages_lost > 0
            && owed <= KEPT_MESSAGES
            && !tight
            && received_n >= member.received
        {
            let what = format!("{conn:?} lost messages of {owed}: {resumed:?}");
            return Err(("transients", what));
        }
        member.received = member.received.max(received_n.min(member.messages));
        let knows =
            member.forced.is_none_or(|(at, seq)| at == reconnect.epoch && seq <= reconnect.seq);
        let restore = member.restored && reconnect.epoch != epoch && knows;
        if resumed.restore != restore {
            let what = format!("{conn:?} gets restore {}: {:?}", resumed.restore, member.forced);
            return Err(("outcome", what));
        }
        self.attach_conn(who, conn, step.now);
        self.repeat_notices(who, conn, step);
        self.expect_moved_urls(who, step)?;
        match &resumed.snapshot {
            Some(snapshot) => self.check_snapshot(who, snapshot, step),
            None => Ok(()),
        }
    }
}
