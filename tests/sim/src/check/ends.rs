//! The ends of calls and memberships. Comes in: each text of the server, settlements, `Disconnected`. Goes out: whether
//! each call is settled as the server answered, within its time and not before, and whether each membership ended
//! because the app left, the server said so, or the server could not be reached. Deliberately absent: whether the
//! server was right, which the model decides.

use std::collections::{BTreeMap, BTreeSet};

use lianmai_client_sdk::CallError;
use lianmai_client_sdk::session::{CallId, ConnectionState, Reply};
use lianmai_protocol::codec::{self, ServerMessage};
use lianmai_protocol::message::Notice;
use lianmai_protocol::message::session::{Outcome, ResumeReason, Resumed};
use lianmai_protocol::raw::RawJson;
use lianmai_protocol::{Action, CloseCode, ErrorName, RequestId, RpcError};
use serde_json::Value;

use super::sent::ONCE;
use crate::client::{Client, GIVE_UP_MS, OpenCall};
use crate::world::World;

/// How much later than the time of the call its settlement may come.
const SETTLE_SLACK_MS: u64 = 2_000;
const CALL_MS: u64 = 10_000;

/// Errors with which a session refuses a call itself, before it sends anything.
const LOCAL: &[ErrorName] = &[
    ErrorName::TooManyInFlight,
    ErrorName::FrameTooLarge,
    ErrorName::TooDeep,
    ErrorName::AlreadyJoined,
];

type AnswerResult = Result<RawJson, RpcError>;

/// What one session received and has not reported to its app yet.
#[derive(Debug, Default)]
pub(crate) struct UnreportedEnds {
    /// The last answer to each call that is not settled.
    answers: BTreeMap<CallId, AnswerResult>,
    /// The calls answered by the newest text.
    fresh: Vec<CallId>,
    /// Joins whose answer may not have been read.
    unheard: BTreeSet<CallId>,
    /// Reasons for the end of the membership that the server gave on this connection.
    end_reasons: Vec<String>,
    /// The last `leave` that was settled.
    last_leave: Option<CallId>,
}

impl UnreportedEnds {
    pub(crate) fn connects(&mut self) {
        self.end_reasons.clear();
    }

    /// The join of an app is sent; `again` if it was sent before.
    pub(crate) fn joins(&mut self, call: CallId, again: bool) {
        if self.answers.remove(&call).is_none() && again {
            self.unheard.insert(call);
        }
    }

    /// The socket was closed with a code.
    pub(crate) fn closes(&mut self, code: u16) {
        if let Some(row) = CloseCode(code).row()
            && code != CloseCode::NORMAL.0
            && is_final(&row.action)
        {
            self.end_reasons.push(row.name.to_owned());
        }
    }

    fn refused(&mut self, reason: ResumeReason, action: Option<Action>) {
        // `staleAttempt` is not final: the session tries again with a later attempt.
        if reason != ResumeReason::StaleAttempt && is_final(&action.unwrap_or(reason.action())) {
            self.end_reasons.push(reason.to_string());
        }
    }
}

/// Whether an action means that the membership cannot be continued or joined again.
fn is_final(action: &Action) -> bool {
    !matches!(action, Action::Reconnect | Action::Rejoin | Action::Redirect)
}

/// Whether a reply agrees with an answer.
fn says(answer: &RawJson, reply: &Reply) -> bool {
    let answer: Value = serde_json::from_str(answer.get()).unwrap_or_default();
    match reply {
        Reply::Joined(joined) => answer["mid"] == joined.mid.to_string(),
        Reply::Published(published) => answer["url"] == published.url,
        Reply::Subscribed(subscribed) => answer["url"] == subscribed.url,
        Reply::MessageSent { delivered } => answer["delivered"] == *delivered,
        Reply::TokenRenewed { expires_in_ms } => {
            answer["tokenExpiresInMs"].as_u64() == *expires_in_ms
        }
        _ => true,
    }
}

impl Client {
    /// Returns what is wrong with a settlement that came `took` milliseconds after the call.
    fn judge(
        &self,
        call: CallId,
        open: &OpenCall,
        outcome: &Result<Reply, CallError>,
        took: u64,
    ) -> Result<(), String> {
        let answer = self.unreported.answers.get(&call);
        let (sent, sure) = (self.sent.has(call), !self.sent.is_unsure(call));
        let inside = self.app.inside;
        let left = self.unreported.last_leave >= Some(call);
        let early = took < CALL_MS + open.least_ms;
        let wrong = match (outcome, answer) {
            _ if open.method == "leave" => None,
            (Ok(reply), Some(Ok(answer))) if says(answer, reply) => None,
            (Err(CallError::Refused(error)), Some(Err(answer)))
                if error.name() == answer.name() =>
            {
                None
            }
            // The command took effect, and its effect has ended already.
            (Err(CallError::Refused(error)), Some(Ok(_)))
                if *error.name() == ErrorName::Superseded =>
            {
                None
            }
            (Err(CallError::Refused(error)), None) if LOCAL.contains(error.name()) => None,
            (Ok(_) | Err(CallError::Refused(_)), _) => sure.then_some("is not so answered"),
            (Err(CallError::OutcomeUnknown), _) if !sent => Some("was not sent"),
            (Err(CallError::OutcomeUnknown), Some(_))
                if open.method == "join" && !self.unreported.unheard.contains(&call) =>
            {
                Some("was answered")
            }
            (Err(CallError::OutcomeUnknown), _) => {
                let forgotten = open.forgotten && ONCE.contains(&open.method);
                let over = if open.method == "join" { left } else { !inside };
                (early && !forgotten && !over).then_some("still has time")
            }
            (Err(CallError::Timeout), _) if sent && sure => Some("was sent"),
            (Err(CallError::Timeout), _) => early.then_some("still has time"),
            (Err(CallError::Closed { reason, .. }), _) if open.method == "join" => {
                let over =
                    (left && reason == "left") || self.unreported.end_reasons.contains(reason);
                (early && !over).then_some("still has time")
            }
            (Err(CallError::Closed { .. }), _) if sent && sure => Some("was sent"),
            (Err(CallError::Closed { .. }), _) => {
                let ends = self.session.state() == ConnectionState::Disconnecting;
                (inside && !ends).then_some("is made inside")
            }
            (Err(CallError::NotJoined), _) => {
                let leaves = self.calls.values().any(|open| open.method == "leave");
                (inside && !leaves).then_some("is made inside")
            }
            (Err(_), _) => Some("is settled in a way that is new"),
        };
        wrong.map_or(Ok(()), |wrong| {
            let OpenCall { method, .. } = open;
            Err(format!("{method}, call {}, {wrong}: {outcome:?}, {answer:?}, {took} ms", call.0))
        })
    }
}

impl World {
    /// Records a text of the server.
    pub(crate) fn note_answers(&mut self, c: usize, text: &[u8]) {
        let client = &mut self.clients[c];
        let (sent, unreported, woke) = (&mut client.sent, &mut client.unreported, client.woke);
        for message in codec::decode_server_frame(text).unwrap_or_default() {
            match message {
                ServerMessage::Answer { id: Some(RequestId(id)), outcome } => {
                    if sent.is_entry(id) {
                        match &outcome {
                            Ok(json) => match serde_json::from_str::<Resumed>(json.get()) {
                                Ok(Resumed {
                                    outcome: Outcome::Refused, reason, action, ..
                                }) => {
                                    unreported
                                        .refused(reason.unwrap_or(ResumeReason::Invalid), action);
                                }
                                _ => sent.enters(),
                            },
                            Err(error) if error.data.retryable => {}
                            Err(error) => unreported.end_reasons.push(error.name().to_string()),
                        }
                    }
                    if let Some(call) = sent.call_of(id) {
                        // A session whose host was frozen may not read it.
                        unreported.unheard.extend(woke.then_some(call));
                        unreported.answers.insert(call, outcome);
                        unreported.fresh.push(call);
                    }
                }
                ServerMessage::Notice(Notice::Closing(closing)) if is_final(&closing.action) => {
                    unreported.end_reasons.push(closing.reason);
                }
                _ => {}
            }
        }
    }

    /// Checks that each answered call is settled, unless the connection was given up meanwhile.
    pub(crate) fn check_answered(&mut self, c: usize) {
        let client = &mut self.clients[c];
        let connected = client.session.state() == ConnectionState::Connected;
        for call in std::mem::take(&mut client.unreported.fresh) {
            if let Some(open) = client.calls.get(&call)
                && connected
                && !client.sent.is_unsure(call)
            {
                let what = format!("c{c}: {}, call {}, is answered only", open.method, call.0);
                return self.fail("settle", what);
            }
        }
    }

    pub(crate) fn check_settled(
        &mut self,
        c: usize,
        call: CallId,
        open: &OpenCall,
        outcome: &Result<Reply, CallError>,
    ) {
        let took = self.now - open.at;
        let slack = open.restart_ms + open.frozen_ms;
        let client = &mut self.clients[c];
        if took > CALL_MS + SETTLE_SLACK_MS + slack {
            let what = format!("c{c}: {} settled after {took} ms, slack {slack}", open.method);
            return self.fail("settle", what);
        }
        let judged = client.judge(call, open, outcome, took);
        client.unreported.answers.remove(&call);
        client.unreported.unheard.remove(&call);
        if open.method == "leave" {
            client.unreported.last_leave = Some(call);
        }
        if let Err(what) = judged {
            self.fail("settle", format!("c{c}: {what}"));
        }
    }

    /// Checks that a membership ended for a reason.
    pub(crate) fn check_out(&mut self, c: usize, reason: &str) {
        let client = &self.clients[c];
        let away = client.app.lost_at.map_or(0, |at| self.now - at);
        let over = match reason {
            "left" if client.calls.values().any(|open| open.method == "leave") => true,
            "gaveUp" => away >= GIVE_UP_MS,
            _ => client.unreported.end_reasons.iter().any(|reported| reported == reason),
        };
        if !over {
            let what = format!(
                "c{c} is out by {reason}, away for {away} ms, and heard {:?}",
                client.unreported.end_reasons
            );
            self.fail("outcome", what);
        }
    }
}
