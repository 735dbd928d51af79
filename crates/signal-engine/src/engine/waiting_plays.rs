//! Plays that wait for their viewer after a crash. Comes in: plays to add and to remove. Goes out: whether there is
//! room for one more, and those that still wait. Deliberately absent: which viewers are awaited, and for how long after
//! a crash (`relay`).

use std::collections::BTreeMap;

use lianmai_protocol::{Gen, Mid, MonoTime};

use crate::ids::QueryId;

/// Most plays that wait.
const MAX_PLAYS: usize = 8_192;
/// Most of one stream, so that no stream takes the places of all others.
const MAX_OF_STREAM: usize = 2_048;
/// Most of one viewer of a stream: a client needs one, and a second while it reconnects.
const MAX_OF_VIEWER: usize = 8;

/// A play that waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Play {
    pub(super) generation: Gen,
    pub(super) viewer: Mid,
    /// It is answered then at the latest.
    pub(super) until: MonoTime,
}

/// The plays that wait, and how many of each stream and viewer.
#[derive(Debug, Default)]
pub(super) struct WaitingPlays {
    plays: BTreeMap<QueryId, Play>,
    streams: BTreeMap<Gen, usize>,
    viewers: BTreeMap<(Gen, Mid), usize>,
    /// A check of them is armed.
    pub(super) is_check_armed: bool,
}

impl WaitingPlays {
    pub(super) fn len(&self) -> usize {
        self.plays.len()
    }

    /// Adds a play; false if there is no room for it.
    pub(super) fn add(&mut self, query: QueryId, play: Play) -> bool {
        let Play { generation, viewer, .. } = play;
        let of_stream = self.streams.get(&generation).copied().unwrap_or_default();
        let of_viewer = self.viewers.get(&(generation, viewer)).copied().unwrap_or_default();
        let has_room = self.plays.len() < MAX_PLAYS
            && of_stream < MAX_OF_STREAM
            && of_viewer < MAX_OF_VIEWER
            && !self.plays.contains_key(&query);
        if has_room {
            self.plays.insert(query, play);
            self.streams.insert(generation, of_stream + 1);
            self.viewers.insert((generation, viewer), of_viewer + 1);
        }
        has_room
    }

    /// Removes a play.
    pub(super) fn remove(&mut self, query: QueryId) {
        let Some(Play { generation, viewer, .. }) = self.plays.remove(&query) else { return };
        take_one(&mut self.streams, generation);
        take_one(&mut self.viewers, (generation, viewer));
    }

    /// All of them, in the order of their numbers.
    pub(super) fn plays(&self) -> Vec<(QueryId, Play)> {
        self.plays.iter().map(|(query, play)| (*query, *play)).collect()
    }
}

fn take_one<K: Ord>(counts: &mut BTreeMap<K, usize>, key: K) {
    if let Some(count) = counts.get_mut(&key) {
        *count -= 1;
        if *count == 0 {
            counts.remove(&key);
        }
    }
}

#[cfg(test)]
mod tests {
    //! Proves no rule of the protocol: how many plays may wait.

    use super::*;

    fn play(stream: u8, viewer: u16) -> Play {
        let mut random = [0; 12];
        random[0] = stream;
        let mut mid = [0; 12];
        mid[..2].copy_from_slice(&viewer.to_be_bytes());
        Play { generation: Gen { route: 0, random }, viewer: Mid(mid), until: MonoTime(0) }
    }

    #[test]
    fn a_viewer_and_a_stream_have_a_share() {
        let mut waiting = WaitingPlays::default();
        let mut numbers = (0..).map(QueryId);
        let mut add = |waiting: &mut WaitingPlays, play| waiting.add(numbers.next().unwrap(), play);
        for _ in 0..MAX_OF_VIEWER {
            assert!(add(&mut waiting, play(1, 1)));
        }
        assert!(!add(&mut waiting, play(1, 1)), "the viewer has its share");
        assert!(add(&mut waiting, play(2, 1)), "of another stream");
        let mut taken = MAX_OF_VIEWER;
        while add(&mut waiting, play(1, u16::try_from(taken).unwrap())) {
            taken += 1;
        }
        assert_eq!(taken, MAX_OF_STREAM);
        assert!(add(&mut waiting, play(3, 1)), "another stream has its own share");
        let mut all = taken + 2;
        for stream in 4..8 {
            let viewers = 0..u16::try_from(MAX_OF_STREAM).unwrap();
            all += viewers.filter(|viewer| add(&mut waiting, play(stream, *viewer))).count();
        }
        assert_eq!(all, MAX_PLAYS);
        waiting.remove(QueryId(0));
        waiting.remove(QueryId(0));
        assert!(
            add(&mut waiting, play(9, 1)) && !add(&mut waiting, play(9, 2)),
            "one place is free"
        );
        for (query, _) in waiting.plays() {
            waiting.remove(query);
        }
        assert!(waiting.len() == 0 && waiting.streams.is_empty() && waiting.viewers.is_empty());
    }
}
