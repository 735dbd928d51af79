//! A membership comes back on a new socket. Comes in: a genuine ticket and the client's position in the log. Goes out:
//! an answer with one of the outcomes of RES-1.., and behind it everything that was missed.
//!
//! ```text
//!   ticket -> ban? -> membership? -> its newest tickets? -> later attempt? -> the old socket goes
//!                                                                        -> answer, events, messages
//! ```
//!
//! Nothing is changed before the last check has passed (RES-4).

use lianmai_protocol::message::Notice;
use lianmai_protocol::message::notice::MemberCount;
use lianmai_protocol::message::session::{Join, Outcome, Reconnect, ResumeReason, Want};
use lianmai_protocol::{CloseCode, Mid, UserId};

use super::Channel;
use super::snapshot::ResumedParts;
use crate::context::Context;
use crate::ids::Arrival;
use crate::output::Note;
use crate::ticket::TicketClaims;
use crate::timers::Timer;

impl Channel {
    /// Whether a ticket resumes, without changing anything; `None` when its membership is not here.
    pub(crate) fn judge_resume(
        &self,
        claims: &TicketClaims,
        attempt: u64,
    ) -> Option<Result<(), ResumeReason>> {
        let member = self.members.get(&claims.uid).filter(|member| member.mid == claims.mid)?;
        Some(if member.being_kicked {
            Err(ResumeReason::Kicked)
        } else if !member.tickets.accepts(claims.k) {
            Err(ResumeReason::Invalid)
        } else if attempt <= member.attempt {
            Err(ResumeReason::StaleAttempt)
        } else {
            Ok(())
        })
    }

    /// Resumes a membership whose ticket was judged good.
    pub(crate) fn resume(
        &mut self,
        cx: &mut Context,
        arrival: Arrival,
        claims: &TicketClaims,
        reconnect: &Reconnect,
    ) {
        let (uid, Arrival { conn, id, .. }) = (claims.uid, arrival);
        self.drop_connection(cx, uid, CloseCode::TAKEN_OVER);
        let (epoch, head, floor) = (self.log.epoch(), self.log.head(), self.log.floor());
        let reason = if reconnect.epoch != epoch {
            Some(ResumeReason::EpochChanged)
        } else if reconnect.seq > head {
            Some(ResumeReason::Ahead)
        } else if reconnect.want == Some(Want::Snapshot) {
            Some(ResumeReason::Asked)
        } else if reconnect.seq < floor {
            Some(ResumeReason::LogTrimmed)
        } else {
            None
        };
        let Some(member) = self.members.get_mut(&uid) else { return };
        if member.tickets.confirm(claims.k) {
            member.restored = false;
        }
        if reconnect.epoch == epoch {
            member.clear_forced_before(epoch);
        }
        let k = member.tickets.rotate(claims.k);
        member.attempt = reconnect.attempt;
        // If the client may not have seen a change by somebody else, it does not restore its own state.
        let knows = member
            .forced
            .is_none_or(|(epoch, seq)| epoch == reconnect.epoch && seq <= reconnect.seq);
        let restore = member.restored && reconnect.epoch != epoch && knows;
        // Targeted messages are numbered within an epoch: another process starts again.
        let n = if reconnect.epoch == epoch { reconnect.n } else { 0 };
        cx.stats.message_bytes -= member.messages.ack(n);
        let (messages_lost, messages) = member.messages.after(n);
        let ticket = self.seal(cx, uid, k);
        let replayed = if reason.is_none() { head - reconnect.seq } else { 0 };
        let outcome = if reason.is_none() { Outcome::Replayed } else { Outcome::Snapshot };
        let answer = self.resumed(
            cx,
            uid,
            id,
            ResumedParts {
                outcome: outcome.clone(),
                reason: reason.clone(),
                ticket: &ticket,
                k,
                replayed,
                messages: messages.len() as u64,
                messages_lost,
                restore,
                snapshot: None,
            },
        );
        self.attach_connection(cx, arrival, uid);
        cx.send_text(conn, answer);
        if reason.is_none() {
            for frame in self.log.frames_after(reconnect.seq) {
                cx.send(conn, frame);
            }
        }
        for message in messages {
            cx.send(conn, message);
        }
        // Notices of the present state are sent again (RES-6).
        if reason.is_none() {
            let count = self.members.len() as u64;
            self.notify(cx, uid, &Notice::MemberCount(MemberCount { count }));
        }
        self.warn_of_token(cx, uid);
        if let Some(restarting) = cx.restart_notice() {
            cx.send_text(conn, restarting);
        }
        self.notify_moved_urls(cx, uid);
        self.notify_levels(cx, uid);
        self.touch(uid);
        self.connection_changed(cx, uid, true);
        let channel = self.key.clone();
        let mid = Some(self.members[&uid].mid);
        cx.note(Note::Resumed { channel, uid, mid, conn, outcome, reason });
    }

    /// Seals a ticket of a member.
    pub(super) fn seal(&self, cx: &Context, uid: UserId, k: u64) -> String {
        let member = &self.members[&uid];
        TicketClaims {
            channel: self.key.clone(),
            uid,
            mid: member.mid,
            k,
            rights: member.rights,
            issued_at: cx.now.wall,
            token_end: member.token_end,
        }
        .seal(&cx.config.ticket_key)
    }

    /// Gives a membership its connection, which gets events from the head on.
    pub(super) fn attach_connection(&mut self, cx: &mut Context, arrival: Arrival, uid: UserId) {
        let Arrival { conn, addr, .. } = arrival;
        let (member_ref, now, head) = (self.member_ref(uid), cx.mono(), self.log.head());
        let Some(member) = self.members.get_mut(&uid) else { return };
        member.conn = Some(conn);
        if let Some(old) = &mut member.addr
            && *old != addr
        {
            cx.debts.uncount_member(*old);
            cx.debts.count_member(addr);
            *old = addr;
        }
        member.connected_at = now;
        member.last_inbound = now;
        member.pinged = false;
        member.lost_at = None;
        member.cursor = head;
        // It is told a member count that others may not know yet, so the next count goes to all.
        if self.announced_count != self.members.len() {
            self.announced_count = usize::MAX;
        }
        cx.connections.insert(conn, member_ref);
        cx.stats.connected += 1;
        cx.arm_in(cx.config.timers.ping_after_ms(), Timer::Liveness(self.id, uid));
    }

    /// Whether a uid has this membership now.
    pub(crate) fn has_membership(&self, uid: UserId, mid: Mid) -> bool {
        self.members.get(&uid).is_some_and(|member| member.mid == mid)
    }

    /// Whether the membership of a uid was made by the same `join` call; `None` if it has none.
    pub(crate) fn is_joined_by(&self, uid: UserId, join: &Join) -> Option<bool> {
        let member = self.members.get(&uid)?;
        let same = member.join_id.is_some() && member.join_id.as_deref() == join.join_id.as_deref();
        Some(same && !member.being_kicked)
    }
}
