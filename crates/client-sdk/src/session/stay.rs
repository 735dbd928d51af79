//! What the session stays for: a first join, a membership, or the delivery of a `leave`. Comes in: answers.
//! Goes out: what the next socket is opened for. Deliberately absent: the socket (`state.rs`).

use crate::prelude::*;
use alloc::sync::Arc;
use lianmai_protocol::message::notice::ServerRestarting;
use lianmai_protocol::message::session::{
    Join, Joined as JoinedMessage, Reconnect, ResumeReason, Timers, Want,
};
use lianmai_protocol::{MonoTime, Role};

use super::change::Change;
use super::input::CallId;
use super::outcome::Told;
use super::picture::Picture;
use super::restore::Restore;
use super::urls::Urls;
use crate::error::CallError;

/// What the session stays for. [`Stay::Out`] exactly in the connection's `Idle`.
#[derive(Default)]
pub(super) enum Stay {
    /// Nothing.
    #[default]
    Out,
    /// The app's `join` runs.
    Entry(Box<Entry>),
    /// A membership.
    Member(Box<Membership>),
    /// The app left while it had no connection; the server does not know yet.
    Parting(Box<Parting>),
}

/// A `join` that runs.
pub(super) struct Entry {
    pub(super) call: CallId,
    pub(super) join: Join,
    pub(super) deadline: MonoTime,
    /// A frozen host got its extra time already.
    pub(super) woken: bool,
    /// On so many sockets `join` went out and has no answer: a membership may exist.
    pub(super) unanswered: u32,
    /// How the last attempt failed.
    pub(super) failure: Option<CallError>,
}

/// A membership, with or without a connection.
pub(super) struct Membership {
    /// How it was entered, with the uid that the server gave and the newest good token.
    pub(super) entry: Join,
    /// The channel, as of what was worked off last.
    pub(super) picture: Picture,
    pub(super) deployment_id: String,
    pub(super) timers: Timers,
    ticket: Option<Ticket>,
    attempt: u64,
    /// Up to this event everything that befell the app is in the picture: an answer from before tells nothing
    /// that it does not show.
    pub(super) own_since: u64,
    /// Number of the last targeted message.
    pub(super) messages: u64,
    pub(super) route: Route,
    /// A `join` in place of the membership went out and has no answer.
    pub(super) may_be_back: bool,
    last_gap: Option<MonoTime>,
    want: Option<Want>,
    /// The server restarts.
    restarting: Option<Restarting>,
    /// Without a connection since a while: it is given up here.
    pub(super) gives_up: Option<MonoTime>,
    /// The app does not know yet that the session came back.
    pub(super) back: Option<Back>,
    pub(super) urls: Urls,
    pub(super) restore: Restore,
    /// What answers told that came before those of earlier calls, by id.
    pub(super) learnt: Vec<(u64, Arc<Change>)>,
}

/// What the next socket is opened for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Route {
    /// `reconnect`.
    Resume,
    /// `join` again: the ticket is dead, for that reason.
    Rejoin(ResumeReason),
}

struct Ticket {
    secret: String,
    number: Option<u64>,
}

/// What `serverRestarting` said.
#[derive(Clone, Copy)]
struct Restarting {
    retry_after_ms: u64,
    jitter_ms: u64,
    /// A socket lost later was lost for another reason. Once one was lost: the server should be back by then.
    until: MonoTime,
    /// The socket was lost to it: from here on it lasts until the session is back.
    waited: bool,
}

/// A connection that came back and was not announced yet.
pub(super) struct Back {
    pub(super) told: Told,
    /// Pings of this connection that must be answered first.
    pub(super) pings: Vec<u64>,
    /// Answers are waited for until then.
    pub(super) until: MonoTime,
}

/// A second gap within this asks for a snapshot: what was lost may be lost again.
const GAP_WINDOW_MS: u64 = 60_000;
/// How much later than announced a restarting server may close.
const RESTART_SLACK_MS: u64 = 5_000;
/// How much later than announced a restarting server is expected back.
const LATE_MS: u64 = 10_000;
/// The most by which one restart lengthens a call; a wrong figure must not keep it open for good.
const RESTART_MS: u64 = 60_000;

impl Membership {
    /// The one that an answer of `join` opens, received at `now`.
    pub(super) fn new(join: Join, answer: JoinedMessage, now: MonoTime) -> Membership {
        let (ticket, number) = (answer.ticket.clone(), answer.k);
        let mut membership = Membership {
            entry: Join { uid: Some(answer.uid), ..join },
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

    /// Keeps the newest ticket; without one the way back is to join again.
    pub(super) fn take_ticket(&mut self, secret: Option<String>, number: Option<u64>) {
        self.ticket = secret.map(|secret| Ticket { secret, number });
        self.route = self.first_route();
        self.may_be_back = false;
        self.want = None;
        self.restarting = None;
    }

    /// The way back, as long as nothing was refused.
    pub(super) fn first_route(&self) -> Route {
        match self.ticket {
            Some(_) => Route::Resume,
            None => Route::Rejoin(ResumeReason::Invalid),
        }
    }

    /// Number of the ticket, for `ping`.
    pub(super) fn ticket_number(&self) -> Option<u64> {
        self.ticket.as_ref().and_then(|ticket| ticket.number)
    }

    /// The next attempt to resume; `None` without a ticket.
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

    /// The join that takes the place of the dead membership: as what the app was at last, so that it is
    /// that at once.
    pub(super) fn rejoin(&mut self, newest_token: Option<&str>) -> Join {
        if let Some(token) = newest_token {
            self.entry.token = Some(token.to_owned());
        }
        let own = &self.picture.own;
        Join {
            // Not asked for as a broadcaster: a token that allows less now gives an audience member.
            role: (own.role == Role::Audience).then_some(Role::Audience),
            continues: self.ticket.as_ref().map(|ticket| ticket.secret.clone()),
            name: own.name.clone(),
            attributes: own.attributes.clone(),
            ..self.entry.clone()
        }
    }

    /// Notes a gap. Whether it is the second one in a short time, and a snapshot is asked for.
    pub(super) fn gap(&mut self, now: MonoTime) -> bool {
        let again = self.last_gap.is_some_and(|at| now.since(at) <= GAP_WINDOW_MS);
        self.last_gap = Some(now);
        if again {
            self.want = Some(Want::Snapshot);
        }
        again
    }

    /// Notes that the server restarts.
    pub(super) fn restarts(&mut self, said: &ServerRestarting, now: MonoTime) {
        let ServerRestarting { retry_after_ms, jitter_ms, deadline_ms } = *said;
        let until = now + deadline_ms + RESTART_SLACK_MS;
        let waited = false;
        self.restarting = Some(Restarting { retry_after_ms, jitter_ms, until, waited });
    }

    /// The socket is lost, and its server asked for `at_least` besides. The wait that a restart asks for and
    /// its jitter; it is waited for once.
    pub(super) fn restart_wait(&mut self, at_least: u64, now: MonoTime) -> Option<(u64, u64)> {
        let restarting = self.restarting.as_mut()?;
        if restarting.waited || restarting.until < now {
            return None;
        }
        restarting.waited = true;
        restarting.retry_after_ms = restarting.retry_after_ms.max(at_least);
        restarting.until = now + restarting.time_ms() + LATE_MS;
        Some((restarting.retry_after_ms, restarting.jitter_ms))
    }

    /// Whether the server that restarts should be there any moment.
    pub(super) fn is_server_awaited(&self, now: MonoTime) -> bool {
        self.restarting.is_some_and(|said| said.waited && now <= said.until)
    }

    /// What calls get on top of their own time while the server restarts, until the session is back (RST-1).
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

/// A `leave` on its way to a server that is out of reach.
pub(super) struct Parting {
    pub(super) way: Way,
    /// Attempts that are left.
    pub(super) tries: u32,
    /// Then it is given up: the server's grace ends the membership.
    pub(super) until: MonoTime,
}

/// How a late `leave` gets to its membership.
pub(super) enum Way {
    /// By a resume; `attempt` goes on growing.
    Resume(Reconnect),
    /// By the `join` whose answer was lost: the same `joinId` is the same membership (JOI-2).
    Join(Join),
}
