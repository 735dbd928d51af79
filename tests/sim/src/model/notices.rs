//! Notices of a session, as docs/protocol.md section 8 states them: none is missing, and each is true. Comes in: the
//! notices of a step. Goes out: the first that is missing or wrong. Deliberately absent: targeted messages, which
//! `check/` counts.

use lianmai_protocol::message::Notice;
use lianmai_protocol::message::notice::{Closing, ServerRestarting, TokenWillExpire};
use lianmai_protocol::message::session::ResumeReason;
use lianmai_protocol::{Action, CloseCode, ErrorName};
use lianmai_signal_engine::{ConnId, Output};

use super::state::MemberRef;
use super::{InputStep, Model, Verdict, left};

/// How long before the end of a token its member is warned (AUT-4).
const WARNING_MS: u64 = 30_000;
/// A change of the number of members is reported within this.
const COUNT_MS: u64 = 1_000;

/// The notices that a connection received.
#[derive(Debug, Default)]
pub(super) struct SentNotices {
    pub(super) count: Option<u64>,
    /// Time since when the reported number has been wrong.
    stale: Option<u64>,
    /// It was warned that its token ends soon.
    warned: bool,
}

/// The action for a refused resume (section 14).
pub(super) fn action_of(reason: &ResumeReason) -> Action {
    match reason {
        ResumeReason::Invalid | ResumeReason::Gone => Action::Rejoin,
        ResumeReason::TokenExpired => Action::RenewToken,
        ResumeReason::Draining => Action::Reconnect,
        _ => Action::None,
    }
}

impl InputStep<'_> {
    /// The notice before a close.
    fn closing(&self, conn: ConnId, code: CloseCode) -> Option<(ConnId, Notice)> {
        let row = code.row()?;
        let refused = self.resumed(conn).and_then(|sent| sent.reason);
        let (action, retry_after_ms) = match (self.refusal(conn), refused) {
            _ if code != CloseCode::JOIN_REFUSED => (row.action.clone(), None),
            (_, Some(reason)) => (action_of(&reason), None),
            (Some(error), _) if *error.name() == ErrorName::TokenExpired => {
                (Action::RenewToken, error.data.retry_after_ms)
            }
            (error, _) => (Action::None, error.and_then(|error| error.data.retry_after_ms)),
        };
        let reason = row.name.to_owned();
        let closing = Closing { code, reason, action, url: None, retry_after_ms };
        Some((conn, Notice::Closing(closing)))
    }
}

impl Model {
    /// The notice of a drain.
    pub(super) fn restarting(&self, s: usize, now: u64) -> Option<Notice> {
        let (began, plan) = self.shards[s].drain?;
        Some(Notice::ServerRestarting(ServerRestarting {
            retry_after_ms: plan.retry_after_ms,
            jitter_ms: plan.jitter_ms,
            deadline_ms: (began + plan.deadline_ms).saturating_sub(now),
        }))
    }

    /// A member that comes back gets the notices that it may have missed (RES-6).
    pub(super) fn repeat_notices(
        &self,
        who: MemberRef<'_>,
        conn: ConnId,
        step: &mut InputStep<'_>,
    ) {
        let restarting = self.restarting(who.s, step.now);
        step.notices.extend(restarting.map(|notice| (conn, notice)));
        let left = self.token_left(who, step.wall);
        if let Some(expires_in_ms) = left.filter(|left| (1..=WARNING_MS).contains(left)) {
            let notice = Notice::TokenWillExpire(TokenWillExpire { expires_in_ms });
            step.notices.push((conn, notice));
        }
    }

    fn token_left(&self, who: MemberRef<'_>, wall: u64) -> Option<u64> {
        let MemberRef { s, key, uid } = who;
        let member = self.shards[s].channels.get(key)?.members.get(&uid)?;
        Some(member.token_end?.saturating_sub(wall))
    }

    /// A member has a new token, whose end is in the answer.
    pub(super) fn mark_token_renewed(&mut self, who: MemberRef<'_>, wall: u64) {
        let left = self.token_left(who, wall);
        let conn = self.member(who).and_then(|member| member.conn);
        if let Some(sent) = conn.and_then(|conn| self.sent_notices.get_mut(&conn)) {
            sent.warned = left.is_some_and(|left| left <= WARNING_MS);
        }
    }

    pub(super) fn same_notices(
        &mut self,
        s: usize,
        outputs: &[Output],
        step: &mut InputStep<'_>,
    ) -> Verdict {
        // If a member ends at the moment of a count, the order of the two is open.
        let leaves = left(outputs).next().is_some();
        let mut missing = std::mem::take(&mut step.notices);
        let closes = step.closes.iter().filter(|(_, code)| *code != CloseCode::SLOW_READER);
        missing.extend(closes.filter_map(|(conn, code)| step.closing(*conn, *code)));
        for (conn, notice) in &step.caused.notices {
            let mut plain = notice.clone();
            // The engine chooses when to come back, unless an error says the same (SES-4).
            if let Notice::Closing(closing) = &mut plain
                && (closing.code != CloseCode::JOIN_REFUSED || step.refusal(*conn).is_none())
            {
                closing.retry_after_ms = None;
            }
            let at = missing.iter().position(|expected| *expected == (*conn, plain.clone()));
            let due = at.map(|at| missing.remove(at)).is_some();
            self.check_notice(s, *conn, notice, due, leaves, step)?;
        }
        if let Some((conn, notice)) = missing.first() {
            return Err(("model", format!("{conn:?} does not get {notice:?}")));
        }
        for (conn, _) in &step.closes {
            self.sent_notices.remove(conn);
        }
        self.check_due_notices(s, step)
    }

    /// Checks one notice: it must be expected, or at least true.
    fn check_notice(
        &mut self,
        s: usize,
        conn: ConnId,
        notice: &Notice,
        due: bool,
        leaves: bool,
        step: &InputStep<'_>,
    ) -> Verdict {
        let wrong = |of: &str| Err(("model", format!("{conn:?} gets {notice:?}, expected {of}")));
        let seat = self.member_of(s, conn);
        match notice {
            Notice::MemberCount(sent) => {
                let Some((key, _)) = seat else { return Ok(()) };
                let are = self.shards[s].channels.get(&key).map_or(0, |c| c.members.len()) as u64;
                if sent.count != are && !leaves {
                    return wrong(&format!("{are}"));
                }
                let known = self.sent_notices.entry(conn).or_default();
                (known.count, known.stale) = (Some(sent.count), None);
            }
            Notice::TokenWillExpire(sent) => {
                let Some((key, uid)) = seat else { return Ok(()) };
                let left = self.token_left(MemberRef { s, key: &key, uid }, step.wall);
                if Some(sent.expires_in_ms) != left
                    || !(1..=WARNING_MS).contains(&sent.expires_in_ms)
                {
                    return wrong(&format!("{left:?}"));
                }
                self.sent_notices.entry(conn).or_default().warned = true;
            }
            Notice::Message(_) => {}
            _ if due => {}
            _ => return wrong("nothing"),
        }
        Ok(())
    }

    /// Checks that each connected member knows the number of members and the end of its token.
    fn check_due_notices(&mut self, s: usize, step: &InputStep<'_>) -> Verdict {
        let jumped = self.wall_jumped(step);
        for channel in self.shards[s].channels.values() {
            for member in channel.members.values() {
                let Some(conn) = member.conn else { continue };
                let sent = self.sent_notices.entry(conn).or_default();
                let are = channel.members.len() as u64;
                let is_current = sent.count == Some(are);
                sent.stale =
                    sent.stale.filter(|_| !is_current).or((!is_current).then_some(step.now));
                if sent.count.is_none() || sent.stale.is_some_and(|at| at + COUNT_MS < step.now) {
                    let what =
                        format!("{conn:?} does not get the count {are} of members: {sent:?}");
                    return Err(("model", what));
                }
                let Some(end) = member.token_end else { continue };
                let due = end.saturating_sub(WARNING_MS);
                sent.warned &= due <= step.wall;
                if !sent.warned && (due + 1..end).contains(&step.wall) && !jumped {
                    let what = format!("{conn:?} is not warned that its token ends at {end}");
                    return Err(("model", what));
                }
            }
        }
        Ok(())
    }
}
