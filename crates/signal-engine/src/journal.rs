//! Events of channels, for followers outside the server. Comes in: notes, as they are made. Goes out: rows to append,
//! numbered by channel name, in the same write as the records that they describe. So records and journal agree after
//! any crash: a stored member has joined in the journal and not left.
//!
//! The numbers of a name are contiguous across incarnations and restarts. The first number of a name is the time in
//! milliseconds: fewer than a thousand events a second happen in one channel in the long run, so a name that was
//! forgotten begins above every number that it had (ADR 0051). If the clock has gone back, it begins above the numbers
//! of all names that were forgotten or restored.
//!
//! **An end is appended with the write that makes it true.** A kick and a close are written before they are visible
//! (RST-5); the leaves that they cause are appended with that write, and the later notes are not appended again.
//!
//! Deliberately absent: the readers, and how long it is kept (the shell).

use std::collections::{BTreeMap, BTreeSet};

use lianmai_protocol::message::task::TaskState;
use lianmai_protocol::{Cid, Mid, WallTime};

use crate::event::{Event, EventRecord, JournalRecord};
use crate::key::ChannelKey;
use crate::output::Note;
use crate::record::MAX_NUMBER;
use crate::rows::RowOp;

/// The counter of a name is kept this long after its last event, in milliseconds.
const KEEP_MS: u64 = 7 * 24 * 3600 * 1000;
/// If there are more names than this, counters are kept for a shorter time.
const MAX_NAMES: usize = 200_000;

/// The counters of all names of a shard, and the ends that are appended already.
#[derive(Debug, Default)]
pub(crate) struct Journal {
    names: BTreeMap<ChannelKey, JournalRecord>,
    /// The greatest number of the names that were forgotten or restored.
    floor: u64,
    /// Memberships and channels whose end was appended before its note.
    gone: BTreeSet<Mid>,
    ended: BTreeSet<Cid>,
}

impl Journal {
    /// The event of a note, unless it was appended already.
    pub(crate) fn take_event<'a>(
        &mut self,
        note: &'a Note,
    ) -> Option<(&'a ChannelKey, Cid, Event)> {
        let (channel, cid, event) = event_of(note)?;
        let appended = match &event {
            Event::ChannelEnded => self.ended.remove(&cid),
            Event::MemberLeft { mid, .. } => self.gone.remove(mid) | self.ended.contains(&cid),
            _ => {
                self.ended.contains(&cid) || event.mid().is_some_and(|mid| self.gone.contains(&mid))
            }
        };
        (!appended).then_some((channel, cid, event))
    }

    /// The end of a membership is appended now, and noted later.
    pub(crate) fn mark_left(&mut self, mid: Mid) {
        self.gone.insert(mid);
    }

    /// The end of a channel is appended now, and noted later.
    pub(crate) fn mark_ended(&mut self, cid: Cid) {
        self.ended.insert(cid);
    }

    /// Appends an event, under the next number of its name.
    pub(crate) fn append(
        &mut self,
        channel: &ChannelKey,
        cid: Cid,
        event: Event,
        at: WallTime,
        ops: &mut Vec<RowOp>,
    ) {
        let last = self.names.get(channel).map(|name| name.last);
        let (seq, first) = match last {
            Some(last) => (last + 1, false),
            None => (at.0.max(self.floor + 1), true),
        };
        let name = JournalRecord { last: seq, at };
        self.names.insert(channel.clone(), name);
        let record = EventRecord { seq, first, at, cid, event };
        ops.push(RowOp::AppendEvent(channel.clone(), Box::new(record)));
        ops.push(RowOp::put_journal(channel, name));
    }

    /// Continues the numbers of an earlier process.
    pub(crate) fn restore(&mut self, names: &[(ChannelKey, JournalRecord)]) {
        // A damaged file may contain any number.
        let sound = names.iter().filter(|(_, name)| name.last <= MAX_NUMBER);
        for (channel, name) in sound {
            self.floor = self.floor.max(name.last);
            self.names.insert(channel.clone(), *name);
        }
    }

    /// Forgets counters of names that have no recent event and no channel now.
    pub(crate) fn sweep(
        &mut self,
        now: WallTime,
        lives: impl Fn(&ChannelKey) -> bool,
        ops: &mut Vec<RowOp>,
    ) {
        let floor = &mut self.floor;
        for keep_ms in [KEEP_MS, KEEP_MS / 168, 0] {
            self.names.retain(|channel, name| {
                // A new counter would begin at `now`, so one that is ahead of it stays.
                let recent = now.0.saturating_sub(name.at.0) <= keep_ms || name.last >= now.0;
                let stays = recent || lives(channel);
                if !stays {
                    *floor = (*floor).max(name.last);
                    ops.push(RowOp::drop_journal(channel));
                }
                stays
            });
            if self.names.len() <= MAX_NAMES {
                return;
            }
        }
    }
}

/// The channel, the incarnation and the event of a note; `None` for notes about connections.
fn event_of(note: &Note) -> Option<(&ChannelKey, Cid, Event)> {
    Some(match note {
        Note::ChannelOpened { channel, cid } => (channel, *cid, Event::ChannelOpened),
        Note::ChannelEnded { channel, cid } => (channel, *cid, Event::ChannelEnded),
        Note::MemberJoined { channel, cid, uid, mid, role, .. } => {
            (channel, *cid, Event::MemberJoined { uid: *uid, mid: *mid, role: role.clone() })
        }
        Note::MemberLeft { channel, cid, uid, mid, reason } => {
            (channel, *cid, Event::MemberLeft { uid: *uid, mid: *mid, reason: reason.clone() })
        }
        Note::RoleChanged { channel, cid, uid, mid, role } => {
            (channel, *cid, Event::RoleChanged { uid: *uid, mid: *mid, role: role.clone() })
        }
        Note::StreamAdded { channel, cid, uid, mid, kind, publication } => {
            let (uid, mid, publication) = (*uid, *mid, *publication);
            let media_type = kind.clone();
            (channel, *cid, Event::StreamAdded { uid, mid, media_type, publication })
        }
        Note::StreamRemoved { channel, cid, uid, mid, kind, publication } => {
            let (uid, mid, publication) = (*uid, *mid, *publication);
            let media_type = kind.clone();
            (channel, *cid, Event::StreamRemoved { uid, mid, media_type, publication })
        }
        Note::TaskAdded { channel, cid, task, owner } => {
            (channel, *cid, Event::TaskAdded { task_id: task.clone(), uid: *owner })
        }
        Note::TaskChanged { channel, cid, info, msg } => {
            let event = Event::TaskChanged {
                task_id: info.task_id.clone(),
                state: info.state.clone().unwrap_or(TaskState::Idle),
                code: info.code,
                revision: info.revision,
                retries: info.retries,
                msg: msg.clone(),
            };
            (channel, *cid, event)
        }
        Note::TaskEnded { channel, cid, task, msg } => {
            (channel, *cid, Event::TaskEnded { task_id: task.clone(), msg: msg.clone() })
        }
        Note::JoinRefused { .. }
        | Note::Resumed { .. }
        | Note::CommandRefused { .. }
        | Note::Closing { .. } => return None,
    })
}

#[cfg(test)]
mod tests {
    //! Proves no rule of the protocol: numbers of events, and that each is appended once.

    use lianmai_protocol::message::event::LeaveReason;
    use lianmai_protocol::{MediaKind, Pub, UserId};

    use super::*;

    fn channel(name: &str) -> ChannelKey {
        ChannelKey { appkey: "demo".parse().unwrap(), name: name.parse().unwrap() }
    }

    fn left(mid: u8) -> Note {
        let reason = LeaveReason::Timeout;
        let (uid, mid) = (UserId(7), Mid([mid; 12]));
        Note::MemberLeft { channel: channel("a"), cid: Cid(1), uid, mid, reason }
    }

    fn append_note(journal: &mut Journal, note: &Note, at: WallTime, ops: &mut Vec<RowOp>) {
        if let Some((channel, cid, event)) = journal.take_event(note) {
            journal.append(channel, cid, event, at, ops);
        }
    }

    fn numbers(ops: &[RowOp]) -> Vec<(u64, bool)> {
        let events = ops.iter().filter_map(|op| match op {
            RowOp::AppendEvent(_, record) => Some((record.seq, record.first)),
            _ => None,
        });
        events.collect()
    }

    #[test]
    fn numbers_continue_and_restart_above_forgotten_ones() {
        let (mut journal, mut ops) = (Journal::default(), Vec::new());
        for at in [5_000, 5_000, 4_000] {
            append_note(&mut journal, &left(1), WallTime(at), &mut ops);
        }
        assert_eq!(numbers(&ops), [(5_000, true), (5_001, false), (5_002, false)]);
        let saved = journal.names[&channel("a")];
        let mut next = Journal::default();
        next.restore(&[(channel("a"), saved)]);
        ops.clear();
        append_note(&mut next, &left(1), WallTime(9_000), &mut ops);
        assert_eq!(numbers(&ops), [(5_003, false)]);
        ops.clear();
        next.sweep(WallTime(9_001 + KEEP_MS), |_| true, &mut ops);
        assert!(ops.is_empty(), "the channel lives");
        next.sweep(WallTime(9_001 + KEEP_MS), |_| false, &mut ops);
        assert_eq!(ops, [RowOp::drop_journal(&channel("a"))]);
        ops.clear();
        append_note(&mut next, &left(1), WallTime(9_002 + KEEP_MS), &mut ops);
        assert_eq!(numbers(&ops), [(9_002 + KEEP_MS, true)]);
    }

    #[test]
    fn a_clock_that_goes_back_repeats_no_number() {
        let (mut journal, mut ops) = (Journal::default(), Vec::new());
        append_note(&mut journal, &left(1), WallTime(5_000), &mut ops);
        journal.sweep(WallTime(5_001 + KEEP_MS), |_| false, &mut ops);
        assert!(journal.names.is_empty());
        ops.clear();
        append_note(&mut journal, &left(1), WallTime(7), &mut ops);
        assert_eq!(numbers(&ops), [(5_001, true)]);
        // A restored name keeps the others above it, too.
        let mut next = Journal::default();
        next.restore(&[(channel("b"), journal.names[&channel("a")])]);
        ops.clear();
        append_note(&mut next, &left(1), WallTime(7), &mut ops);
        assert_eq!(numbers(&ops), [(5_002, true)]);
    }

    #[test]
    fn an_end_is_appended_once() {
        let (mut journal, mut ops) = (Journal::default(), Vec::new());
        append_note(&mut journal, &left(1), WallTime(1), &mut ops);
        journal.mark_left(Mid([1; 12]));
        append_note(&mut journal, &left(1), WallTime(1), &mut ops);
        assert_eq!(numbers(&ops).len(), 1);
        journal.mark_ended(Cid(1));
        append_note(&mut journal, &left(2), WallTime(1), &mut ops);
        let ended = Note::ChannelEnded { channel: channel("a"), cid: Cid(1) };
        append_note(&mut journal, &ended, WallTime(1), &mut ops);
        assert_eq!(numbers(&ops).len(), 1);
        assert!(journal.gone.is_empty() && journal.ended.is_empty());
    }

    #[test]
    fn an_event_reads_as_it_was_written_and_has_a_unique_id() {
        let event = Event::StreamAdded {
            uid: UserId(7),
            mid: Mid([1; 12]),
            media_type: MediaKind::Audio,
            publication: Pub([2; 12]),
        };
        let record = EventRecord { seq: 3, first: false, at: WallTime(4), cid: Cid(5), event };
        let text = serde_json::to_string(&record).unwrap();
        assert_eq!(serde_json::from_str::<EventRecord>(&text).unwrap(), record);
        assert!(
            text.contains(r#""type":"streamAdded""#) && text.contains(r#""mediaType":"audio""#)
        );
        assert_ne!(EventRecord::id(&channel("a"), 3), EventRecord::id(&channel("b"), 3));
    }
}
