//! State of a membership that prevents loss and repetition when its socket changes: numbers of its tickets, answers and
//! targeted messages that may not have arrived. Plain state with bounds; its use is in the siblings.

use std::collections::VecDeque;

use bytes::Bytes;
use lianmai_protocol::RequestId;
use lianmai_protocol::limits::MAX_IN_FLIGHT;

/// Most bytes of remembered answers. 32 answers of the longest kind fit.
const ANSWER_BYTES: usize = 64 * 1024;
/// Most targeted messages that wait, and their bytes.
const MESSAGES: usize = 32;
const MESSAGE_BYTES: usize = 64 * 1024;

/// More tickets than one process can have issued since it stored the last number.
const SKIP: u64 = 1 << 32;

/// A command as its session knows it: its id, and a hash of its content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct CommandKey {
    pub(crate) id: RequestId,
    pub(crate) hash: u64,
}

/// Numbers of the tickets of a membership (RES-2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Tickets {
    /// The client is known to hold this one. Older ones are invalid.
    pub(crate) confirmed: u64,
    /// The newest that was made.
    pub(crate) offered: u64,
    /// Restored after a crash: `offered` may be outdated, so a greater number is valid as well.
    pub(crate) floor_only: bool,
}

impl Tickets {
    pub(crate) fn new() -> Self {
        Tickets { confirmed: 1, offered: 1, floor_only: false }
    }

    /// Whether a ticket of that number resumes.
    pub(crate) fn accepts(&self, k: u64) -> bool {
        k == self.confirmed || k == self.offered || (self.floor_only && k > self.confirmed)
    }

    /// A valid ticket was presented: that confirms it, and a new one is offered.
    pub(crate) fn rotate(&mut self, k: u64) -> u64 {
        let newest = self.offered.max(k);
        // Beyond every number that a process that crashed may have issued.
        let skip = if self.floor_only { SKIP } else { 1 };
        *self = Tickets { confirmed: k, offered: newest + skip, floor_only: false };
        self.offered
    }

    /// The client joined again: it holds no ticket, so all earlier ones are invalid.
    pub(crate) fn renew(&mut self) -> u64 {
        let k = self.rotate(self.offered);
        *self = Tickets { confirmed: k, offered: k, floor_only: false };
        k
    }

    /// The client said which ticket it holds. Returns whether that confirms an offer.
    pub(crate) fn confirm(&mut self, k: u64) -> bool {
        let confirms = k == self.offered && self.confirmed != k;
        if confirms {
            *self = Tickets { confirmed: k, offered: k, floor_only: false };
        }
        confirms
    }
}

/// What is known of an id.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum IdStatus {
    /// Greater than every id so far.
    New,
    /// Answered with this.
    Answered(Bytes),
    /// Answered, but as another command.
    Reused,
    /// Not greater, and not remembered.
    TooOld,
}

/// Answers that may not have arrived, in the order in which they were given: the ones that did not arrive are always
/// the last (IDS-7).
#[derive(Debug, Default)]
pub(crate) struct Answers {
    pub(crate) last_id: Option<RequestId>,
    kept: VecDeque<(CommandKey, Bytes)>,
    bytes: usize,
}

impl Answers {
    /// Whether an id is greater than every one so far.
    pub(crate) fn is_new(&self, id: RequestId) -> bool {
        self.last_id.is_none_or(|last| id > last)
    }

    pub(crate) fn status(&self, command: CommandKey) -> IdStatus {
        if self.is_new(command.id) {
            return IdStatus::New;
        }
        match self.kept.iter().find(|(kept, _)| kept.id == command.id) {
            Some((kept, answer)) if *kept == command => IdStatus::Answered(answer.clone()),
            Some(_) => IdStatus::Reused,
            None => IdStatus::TooOld,
        }
    }

    pub(crate) fn keep(&mut self, command: CommandKey, answer: Bytes) {
        self.bytes += answer.len();
        self.kept.push_back((command, answer));
        while self.kept.len() > MAX_IN_FLIGHT || self.bytes > ANSWER_BYTES {
            self.drop_oldest();
        }
    }

    fn drop_oldest(&mut self) {
        if let Some((_, answer)) = self.kept.pop_front() {
            self.bytes -= answer.len();
        }
    }

    /// The client has every answer up to `id`.
    pub(crate) fn ack(&mut self, id: RequestId) {
        if self.kept.iter().any(|(command, _)| command.id <= id) {
            self.kept.retain(|(command, _)| command.id > id);
            self.kept.shrink_to_fit();
            self.bytes = self.kept.iter().map(|(_, answer)| answer.len()).sum();
        }
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (CommandKey, &Bytes)> {
        self.kept.iter().map(|(command, answer)| (*command, answer))
    }
}

/// Targeted messages of a member, numbered from 1, and those that may not have arrived.
#[derive(Debug, Default)]
pub(crate) struct Messages {
    pub(crate) head: u64,
    /// Encoded notices `head - kept.len() + 1 ..= head`.
    kept: VecDeque<Bytes>,
    bytes: usize,
}

impl Messages {
    pub(crate) fn restored(head: u64, kept: impl Iterator<Item = Bytes>) -> Self {
        let kept: VecDeque<Bytes> = kept.collect();
        Messages { head, bytes: kept.iter().map(Bytes::len).sum(), kept }
    }

    /// Takes the next message, which must have been encoded with the number `head + 1`. Keeps at most `most` bytes.
    pub(crate) fn push(&mut self, text: Bytes, most: usize) {
        self.head += 1;
        self.bytes += text.len();
        self.kept.push_back(text);
        while self.kept.len() > MESSAGES || self.bytes > most.min(MESSAGE_BYTES) {
            self.drop_oldest();
        }
    }

    fn drop_oldest(&mut self) {
        if let Some(text) = self.kept.pop_front() {
            self.bytes -= text.len();
        }
    }

    /// Bytes of what is kept.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    fn floor(&self) -> u64 {
        self.head - self.kept.len() as u64
    }

    /// The client has every message up to `n`. Returns the bytes that are freed.
    pub(crate) fn ack(&mut self, n: u64) -> usize {
        let before = self.bytes;
        while self.floor() < n.min(self.head) {
            self.drop_oldest();
        }
        if self.kept.is_empty() {
            self.kept = VecDeque::new();
        }
        before - self.bytes
    }

    /// The number of messages after `n` that are lost, and the others.
    pub(crate) fn after(&self, n: u64) -> (u64, Vec<Bytes>) {
        let lost = self.floor().saturating_sub(n);
        let skip = usize::try_from(n.saturating_sub(self.floor())).unwrap_or(usize::MAX);
        (lost, self.kept.iter().skip(skip).cloned().collect())
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Bytes> {
        self.kept.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn command(id: u64) -> CommandKey {
        CommandKey { id: RequestId(id), hash: id }
    }

    /// Proves RES-2.
    #[test]
    fn res_2_two_tickets_are_good_and_an_unconfirmed_offer_is_replaced() {
        let mut tickets = Tickets::new();
        assert_eq!(tickets.rotate(1), 2, "the answer is lost");
        assert!(tickets.accepts(1) && tickets.accepts(2));
        assert_eq!(tickets.rotate(1), 3, "presented again");
        assert!(tickets.accepts(1) && !tickets.accepts(2) && tickets.accepts(3));
        tickets.confirm(2);
        assert!(tickets.accepts(1), "2 is dead");
        tickets.confirm(3);
        assert!(!tickets.accepts(1) && tickets.accepts(3) && !tickets.accepts(4));
    }

    /// Proves IDS-2, IDS-4, IDS-7.
    #[test]
    fn ids_7_the_last_answers_are_remembered_in_the_order_they_were_given() {
        let mut answers = Answers::default();
        for id in 1..=40 {
            answers.last_id = Some(RequestId(id));
            answers.keep(command(id), Bytes::from(format!("{id}")));
        }
        assert_eq!(answers.status(command(8)), IdStatus::TooOld);
        assert_eq!(answers.status(command(9)), IdStatus::Answered(Bytes::from("9")));
        assert_eq!(answers.status(CommandKey { hash: 0, ..command(9) }), IdStatus::Reused);
        assert_eq!(answers.status(command(41)), IdStatus::New);
        answers.ack(RequestId(39));
        assert_eq!(answers.status(command(39)), IdStatus::TooOld);
        assert_eq!(answers.status(command(40)), IdStatus::Answered(Bytes::from("40")));
    }

    /// Proves PIN-2, RES-8.
    #[test]
    fn res_8_messages_are_kept_until_confirmed() {
        let mut messages = Messages::default();
        for n in 1..=40_u8 {
            messages.push(Bytes::from(vec![n]), usize::MAX);
        }
        let (lost, kept) = messages.after(4);
        assert_eq!((lost, kept.len(), kept[0][0]), (4, 32, 9));
        messages.ack(38);
        assert_eq!(messages.after(38), (0, vec![Bytes::from(vec![39]), Bytes::from(vec![40])]));
        messages.ack(99);
        assert_eq!(messages.after(40), (0, vec![]));
        assert_eq!(messages.head, 40);
        messages.push(Bytes::from(vec![41]), 0);
        assert_eq!((messages.after(40), messages.bytes()), ((1, vec![]), 0));
    }
}
