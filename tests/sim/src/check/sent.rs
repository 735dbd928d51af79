//! Checks what sessions send. Comes in: the calls of an app, each text to the server and each text from it. Goes out:
//! whether a connection begins with the entering request alone (CLI-3), whether calls are sent in the order in which
//! they were made (ORD-5), anew on each connection, and whether a session sends by itself only what it was asked to
//! restore (RES-10). Deliberately absent: the effect of what was sent.

use std::collections::{BTreeMap, BTreeSet};

use lianmai_client_sdk::session::{CallId, Command};
use lianmai_protocol::codec::{self, Element};
use lianmai_protocol::message::Call;

use crate::client::{Client, OpenCall};
use crate::log::mix;
use crate::world::World;

/// A session that was asked to restore does so within this: its requests wait for others, and its socket may be cut.
const RESTORE_MS: u64 = 120_000;
/// Methods with which a session restores its state.
const RESTORED: &[&str] = &["publish", "subscribe", "mute", "unmute", "setRole", "setAttributes"];

/// Methods that are never repeated under another id, whatever their outcome was (protocol.md section 5).
pub(super) const ONCE: &[&str] = &["sendMessage", "kick", "closeChannel", "report", "deleteTasks"];

/// Progress of the entry on a connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum EntryProgress {
    /// There is no connection, or it is not open yet.
    #[default]
    Closed,
    Open,
    /// The first request went out, under this id.
    Asked(u64),
    Inside,
}

/// What one session has sent.
#[derive(Debug, Default)]
pub(crate) struct Sent {
    /// The call of each request id; `None` for a request that the session made itself.
    ids: BTreeMap<u64, Option<CallId>>,
    /// Calls that were sent, or may have been, on any connection.
    ever: BTreeSet<CallId>,
    /// Sent on the present connection, in order: request id, call, and whether the request is certainly for this call.
    here: Vec<(u64, CallId, bool)>,
    /// When it was asked to restore.
    asked_at: Option<u64>,
    /// When a crash lost its subscriptions, which are restored in any case.
    lost_at: Option<u64>,
    entry: EntryProgress,
    /// `leave` went out on the present connection.
    left: bool,
    /// Calls for which it is uncertain what was sent.
    unsure: BTreeSet<CallId>,
}

impl Sent {
    pub(crate) fn connects(&mut self) {
        self.here.clear();
        self.entry = EntryProgress::Closed;
        self.left = false;
    }

    pub(crate) fn opened(&mut self) {
        self.entry = EntryProgress::Open;
    }

    /// Its host, and perhaps its clock, stood still for `ms`.
    pub(crate) fn froze(&mut self, ms: u64) {
        for at in [&mut self.asked_at, &mut self.lost_at] {
            *at = at.map(|at| at + ms);
        }
    }

    /// Whether this id is that of the entering request.
    pub(super) fn is_entry(&self, id: u64) -> bool {
        self.entry == EntryProgress::Asked(id)
    }

    /// The entering request succeeded.
    pub(super) fn enters(&mut self) {
        self.entry = EntryProgress::Inside;
    }

    pub(super) fn call_of(&self, id: u64) -> Option<CallId> {
        self.ids.get(&id).copied().flatten()
    }

    /// Whether the request for this call may have been one of the session itself.
    pub(super) fn is_unsure(&self, call: CallId) -> bool {
        self.unsure.contains(&call)
    }

    /// Whether a call was ever sent.
    pub(super) fn has(&self, call: CallId) -> bool {
        self.ever.contains(&call)
    }

    fn send(&mut self, id: u64, call: CallId, certain: bool) {
        self.ids.insert(id, Some(call));
        self.ever.insert(call);
        self.here.push((id, call, certain));
    }

    /// Requests that were attributed to later calls may have been those of the session itself.
    fn disown(&mut self, behind: CallId) {
        for (id, ..) in self.here.extract_if(.., |(_, call, _)| *call > behind) {
            self.ids.insert(id, None);
        }
    }

    /// Whether all requests attributed to later calls may be those of the session itself.
    fn is_doubtful(&self, behind: CallId) -> bool {
        self.here.iter().all(|(_, call, certain)| *call < behind || !certain)
    }
}

/// Hash of a command's parameters.
pub(crate) fn content(command: &Command) -> u64 {
    use serde_json::to_string as text;
    let params = match command {
        Command::Publish(params) | Command::Unpublish(params) => text(params),
        Command::Subscribe(params) | Command::Unsubscribe(params) => text(params),
        Command::SetRole(params) => text(params),
        Command::Mute(params) | Command::Unmute(params) => text(params),
        Command::Kick(params) => text(params),
        Command::CloseChannel(params) => text(params),
        Command::SendMessage(params) => text(params),
        Command::SetAttributes(params) => text(params),
        Command::RenewToken(params) => text(params),
        Command::Report(params) => text(params),
        Command::DeleteTasks(params) => text(params),
        _ => Ok(String::new()),
    };
    number(command.method(), &params.expect("it has string keys only"))
}

fn number(method: &str, params: &str) -> u64 {
    mix(mix(0, method.as_bytes()), params.as_bytes())
}

impl Client {
    /// Attributes a join without `continues` to the app's pending join, if there is one.
    fn sends_join(&mut self, id: u64) {
        let join = self.calls.iter().find(|(_, open)| open.method == "join" && !self.app.inside);
        if let Some((call, _)) = join {
            self.sent.ids.insert(id, Some(*call));
            let new = self.sent.ever.insert(*call);
            self.unreported.joins(*call, !new);
        }
    }
}

impl World {
    /// Checks a settled call: a call that succeeds was sent.
    pub(crate) fn check_settled_sent(
        &mut self,
        c: usize,
        call: CallId,
        open: OpenCall,
        failed: bool,
    ) {
        let remote = !["join", "leave"].contains(&open.method);
        if !failed && remote && !self.clients[c].sent.has(call) {
            let what = format!("c{c}: {}, call {}, succeeds and was not sent", open.method, call.0);
            self.fail("order", what);
        }
    }

    /// Checks a text that a session sends.
    pub(crate) fn check_said(&mut self, c: usize, text: &str) {
        let Ok(elements) = codec::decode_client_frame(text.as_bytes()) else {
            return self.fail("delivery", format!("c{c} sends an unreadable frame"));
        };
        self.check_entry(c, &elements);
        for element in elements {
            let Element::Request(request) = element else {
                return self.fail("delivery", format!("c{c} sends what is refused: {element:?}"));
            };
            match request.call {
                Call::Join(join) if join.continues.is_some() => {
                    self.clients[c].sent.asked_at = Some(self.now);
                }
                Call::Join(_) => self.clients[c].sends_join(request.id.0),
                // `leave` overtakes waiting commands (LEA-3).
                Call::Leave(_) => self.clients[c].sent.left = true,
                Call::Reconnect(_) | Call::Ping(_) => {}
                // Commands after `leave` have no effect (LEA-2).
                call if self.clients[c].sent.left => {
                    return self
                        .fail("order", format!("c{c} sends {} behind leave", call.method()));
                }
                call => {
                    let params = call.params_json().expect("it was read from JSON");
                    let sent_content = number(call.method(), params.get());
                    self.check_call_sent(c, request.id.0, &call, sent_content);
                }
            }
        }
    }

    /// Only the entering request goes before its answer (CLI-3, RES-1).
    fn check_entry(&mut self, c: usize, elements: &[Element]) {
        let client = &mut self.clients[c];
        let entry = &mut client.sent.entry;
        let enters = match elements {
            [Element::Request(request)]
                if matches!(request.call, Call::Join(_) | Call::Reconnect(_)) =>
            {
                Some(request.id.0)
            }
            _ => None,
        };
        match (*entry, enters) {
            _ if client.link.is_none() => {}
            (EntryProgress::Open, Some(id)) => return *entry = EntryProgress::Asked(id),
            (EntryProgress::Inside, None) => return,
            _ => {}
        }
        let what = format!("c{c} sends {elements:?} on a connection that is {entry:?}");
        self.fail("host", what);
    }

    fn check_call_sent(&mut self, c: usize, id: u64, call: &Call, sent_content: u64) {
        let now = self.now;
        let client = &mut self.clients[c];
        let sent = &mut client.sent;
        let lasts = |at: Option<u64>| at.is_some_and(|at| at + RESTORE_MS >= now);
        let subscribes = lasts(sent.lost_at);
        let restores = lasts(sent.asked_at) || subscribes;
        let may_say = lasts(sent.asked_at) || (subscribes && matches!(call, Call::Subscribe(_)));
        let last = sent.here.iter().map(|(_, call, _)| *call).max();
        let once = ONCE.contains(&call.method());
        let certain = !RESTORED.contains(&call.method());
        // A repetition with the same id.
        if let Some(known) = sent.ids.get(&id).copied() {
            if let Some(call) = known {
                sent.send(id, call, true);
                if last > Some(call) {
                    self.fail("order", format!("c{c} sends {call:?} again behind {last:?}"));
                }
            }
            return;
        }
        let unsure = restores && !certain;
        let same = |call: &&CallId| {
            client.calls[call].content == sent_content
                && sent.here.iter().all(|(_, sent, _)| sent != *call)
                && !(once && sent.has(**call))
        };
        let next = client.calls.keys().find(|call| same(call) && last < Some(**call)).copied();
        let late = client.calls.keys().find(same).copied();
        match (next, late) {
            (Some(call), _) => {
                sent.send(id, call, certain);
                sent.unsure.extend(unsure.then_some(call));
            }
            // Earlier requests on this connection may have been the session's own, although equal to calls of the app.
            (None, Some(call)) if restores && sent.is_doubtful(call) => {
                sent.disown(call);
                sent.send(id, call, certain);
                sent.unsure.extend(unsure.then_some(call));
            }
            (None, Some(late)) => {
                let what = format!("c{c}: {}, {late:?}, is sent behind {last:?}", call.method());
                self.fail("order", what);
            }
            (None, None) if may_say => drop(sent.ids.insert(id, None)),
            (None, None) => {
                let what = format!("c{c} says {} by itself, which nobody asked for", call.method());
                self.fail("outcome", what);
            }
        }
    }

    /// Records a text of the server.
    pub(crate) fn check_received(&mut self, c: usize, text: &[u8]) {
        let has = |part: &str| text.windows(part.len()).any(|window| window == part.as_bytes());
        if has(r#""restore":true"#) {
            self.clients[c].sent.asked_at = Some(self.now);
        }
        if has(r#""reason":"epochChanged""#) {
            self.clients[c].sent.lost_at = Some(self.now);
        }
        self.note_answers(c, text);
    }
}
