//! The phase of the session: a first join, a membership, or the delivery of a `leave`. In: answers. Out: what the next
//! socket is opened for. Deliberately absent: the socket (`state.rs`).

use crate::prelude::*;
use alloc::sync::Arc;
use lianmai_protocol::message::notice::ServerRestarting;
use lianmai_protocol::message::session::{
    Join, Joined as JoinedMessage, Reconnect, ResumeReason, Timers, Want,
};
use lianmai_protocol::{MonoTime, Role};

use super::change::Change;
use super::input::CallId;
use super::outcome::Announcement;
use super::picture::Picture;
use super::restore::Restore;
use super::urls::Urls;
use crate::error::CallError;

/// The phase of the session. It is [`Phase::Out`] exactly while the connection is `Idle`.
#[derive(Default)]
pub(super) enum Phase {
    /// The session is in no channel.
    #[default]
    Out,
    /// The app's `join` is pending.
    Joining(Box<PendingJoin>),
    /// The app is a member.
    Member(Box<Membership>),
    /// The app left without a connection; the server is still to be told.
    Leaving(Box<LateLeave>),
}

/// A pending `join`.
pub(super) struct PendingJoin {
    pub(super) call: CallId,
    pub(super) join: Join,
    pub(super) deadline: MonoTime,
    /// Whether the deadline was extended after the host was frozen.
    pub(super) woken: bool,
    /// Number of sockets on which `join` was sent and not answered. If it is not 0, a membership may exist.
    pub(super) unanswered: u32,
    /// The error of the last attempt.
    pub(super) failure: Option<CallError>,
}

/// A membership, with or without a connection.
pub(super) struct Membership {
    /// The `join` that created the membership, with the uid that the server assigned and the newest accepted token.
    pub(super) join: Join,
    /// The channel as of the message that was processed last.
    pub(super) picture: Picture,
    pub(super) deployment_id: String,
    pub(super) timers: Timers,
    ticket: Option<Ticket>,
    attempt: u64,
    /// The picture contains all changes of the app's own state up to this event. An answer with a lower `seq` adds
    /// nothing to it.
    pub(super) own_since: u64,
    /// Number of the last targeted message.
    pub(super) messages: u64,
    pub(super) route: Route,
    /// A `join` that replaces the membership was sent and not answered.
    pub(super) may_be_back: bool,
    last_gap: Option<MonoTime>,
    want: Option<Want>,
    /// Set once the server announced a restart.
    restarting: Option<Restarting>,
    /// While there is no connection: the time at which the membership is given up.
    pub(super) gives_up: Option<MonoTime>,
    /// Set while the session is back and the app was not yet told so (`reconnected`).
    pub(super) back: Option<Return>,
    pub(super) urls: Urls,
    pub(super) restore: Restore,
    /// Changes from answers that arrived before the answers to earlier calls, by request id.
    pub(super) learnt: Vec<(u64, Arc<Change>)>,
}

/// The first request on the next socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Route {
    /// `reconnect`.
    Resume,
    /// `join`, because the ticket cannot be used, for this reason.
    Rejoin(ResumeReason),
}

struct Ticket {
    secret: String,
    number: Option<u64>,
}

/// The contents of `serverRestarting`.
#[derive(Clone, Copy)]
struct Restarting {
    retry_after_ms: u64,
    jitter_ms: u64,
    /// Until the socket is lost: a loss after this time has another cause. After that: the server should be back by
    /// this time.
    until: MonoTime,
    /// The socket was lost because of the restart. From then on the restart lasts until the session is back.
    waited: bool,
}

/// A connection that is back and was not announced to the app.
pub(super) struct Return {
    pub(super) told: Announcement,
    /// Ids of the pings that must be answered first.
    pub(super) pings: Vec<u64>,
    /// Time until which the announcement waits for answers.
    pub(super) until: MonoTime,
}

/// After a second gap within this time the session asks for a snapshot: a replay might lose the same event again.
const GAP_WINDOW_MS: u64 = 60_000;
/// A restarting server may close this much later than announced.
const RESTART_SLACK_MS: u64 = 5_000;
/// A restarting server may be back this much later than announced.
const RESTART_LATE_MS: u64 = 10_000;
/// One restart extends a call by at most this, so that a wrong value from the server does not keep the call open.
const RESTART_MS: u64 = 60_000;

impl Membership {
    /// Creates the membership from an answer to `join` that was received at `now`.
    pub(super) fn new(join: Join, answer: JoinedMessage, now: MonoTime) -> Membership {
        let (ticket, number) = (answer.ticket.clone(), answer.k);
        let mut membership = Membership {
            join: Join { uid: Some(answer.uid), ..join },
            deployment_id: answer.deployment_id.clone(),
            timers: answer.timers,
            picture: Picture::from_snapshot(answer, now),
            ticket: None,
            attempt: 0,
            own_since: 0,
            messages: 0,
            route: Route::Resume,
            may_be_back: false,
            last_gap: None,
            want: None,
            restarting: None,
            gives_up: None,
            back: None,
            urls: Urls::default(),
            restore: Restore::default(),
            learnt: Vec::new(),
        };
        membership.take_ticket(ticket, number);
        membership
    }

    /// Stores the newest ticket. Without a ticket the session has to join again.
    pub(super) fn take_ticket(&mut self, secret: Option<String>, number: Option<u64>) {
        self.ticket = secret.map(|secret| Ticket { secret, number });
        self.route = self.first_route();
        self.may_be_back = false;
        self.want = None;
        self.restarting = None;
    }

    /// The route to reconnect if the server refused nothing so far.
    pub(super) fn first_route(&self) -> Route {
        match self.ticket {
            Some(_) => Route::Resume,
            None => Route::Rejoin(ResumeReason::Invalid),
        }
    }

    /// Number of the ticket, to be acknowledged by `ping`.
    pub(super) fn ticket_number(&self) -> Option<u64> {
        self.ticket.as_ref().and_then(|ticket| ticket.number)
    }

    /// The request for the next attempt to resume; `None` without a ticket.
    pub(super) fn reconnect(&mut self) -> Option<Reconnect> {
        let ticket = self.ticket.as_ref()?.secret.clone();
        self.attempt += 1;
        Some(Reconnect {
            ticket,
            attempt: self.attempt,
            epoch: self.picture.epoch,
            seq: self.picture.seq,
            n: self.messages,
            want: self.want.clone(),
        })
    }

    /// The `join` that replaces the dead membership. It carries the app's last role, name and attributes, so that the
    /// new membership starts with them.
    pub(super) fn rejoin(&mut self, newest_token: Option<&str>) -> Join {
        if let Some(token) = newest_token {
            self.join.token = Some(token.to_owned());
        }
        let own = &self.picture.own;
        Join {
            // `broadcaster` is not requested: if the token no longer allows it, the server would refuse, whereas
            // without a role it admits the app as audience.
            role: (own.role == Role::Audience).then_some(Role::Audience),
            continues: self.ticket.as_ref().map(|ticket| ticket.secret.clone()),
            name: own.name.clone(),
            attributes: own.attributes.clone(),
            ..self.join.clone()
        }
    }

    /// Records a gap. Returns whether it is the second in a short time; the next resume then asks for a snapshot.
    pub(super) fn gap(&mut self, now: MonoTime) -> bool {
        let again = self.last_gap.is_some_and(|at| now.since(at) <= GAP_WINDOW_MS);
        self.last_gap = Some(now);
        if again {
            self.want = Some(Want::Snapshot);
        }
        again
    }

    /// Records the announcement of a restart.
    pub(super) fn restarts(&mut self, said: &ServerRestarting, now: MonoTime) {
        let ServerRestarting { retry_after_ms, jitter_ms, deadline_ms } = *said;
        let until = now + deadline_ms + RESTART_SLACK_MS;
        let waited = false;
        self.restarting = Some(Restarting { retry_after_ms, jitter_ms, until, waited });
    }

    /// Called when the socket is lost; `at_least` is the wait that the server requested in its `closing`. Returns the
    /// wait and the jitter of the restart, in milliseconds, once per restart.
    pub(super) fn restart_wait(&mut self, at_least: u64, now: MonoTime) -> Option<(u64, u64)> {
        let restarting = self.restarting.as_mut()?;
        if restarting.waited || restarting.until < now {
            return None;
        }
        restarting.waited = true;
        restarting.retry_after_ms = restarting.retry_after_ms.max(at_least);
        restarting.until = now + restarting.time_ms() + RESTART_LATE_MS;
        Some((restarting.retry_after_ms, restarting.jitter_ms))
    }

    /// Whether the restarting server is expected back soon.
    pub(super) fn is_server_awaited(&self, now: MonoTime) -> bool {
        self.restarting.is_some_and(|said| said.waited && now <= said.until)
    }

    /// The extra time of calls while the server restarts, until the session is back (RST-1), in milliseconds.
    pub(super) fn restart_time(&self, now: MonoTime) -> u64 {
        let lasts = |said: &&Restarting| said.waited || now <= said.until;
        self.restarting.as_ref().filter(lasts).map_or(0, Restarting::time_ms)
    }
}

impl Restarting {
    fn time_ms(&self) -> u64 {
        self.retry_after_ms.saturating_add(self.jitter_ms).min(RESTART_MS)
    }
}

/// A `leave` that is to be delivered to a server that is out of reach.
pub(super) struct LateLeave {
    pub(super) route: LeaveRoute,
    /// Remaining attempts.
    pub(super) tries: u32,
    /// Delivery is given up at this time; the membership then ends with the server's grace period.
    pub(super) until: MonoTime,
}

/// The way in which a late `leave` reaches its membership.
pub(super) enum LeaveRoute {
    /// By a resume; `attempt` grows with each attempt.
    Resume(Reconnect),
    /// By repeating the `join` whose answer was lost: the same `joinId` finds the same membership (JOI-2).
    Join(Join),
}
