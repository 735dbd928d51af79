//! The quality of one push or play: figures of about a minute, and a level. Comes in: measurements of the relay,
//! reports of clients. Goes out: figures, levels. Plain state with bounds; its use is in `quality`.

use lianmai_protocol::{Gen, Mid, MonoTime, Now, UserId, WallTime};

use crate::history::{ClientFigures, Code, FigureRange, ServerFigures};
use crate::media_stats::{PlayStats, PushStats};

/// Length of a window of figures in milliseconds, unless the flow ends before.
const WINDOW_MS: u64 = 60_000;
/// A reported level counts for this long, in milliseconds.
const CLIENT_MS: u64 = 10_000;
/// A play that began this long ago should be in a measurement, in milliseconds.
const LATE_MS: u64 = 5_000;
/// Most different codes in a window.
const MAX_CODES: usize = 8;
/// Bad, and down, as levels.
const BAD: u8 = 5;
pub(super) const DOWN: u8 = 6;
/// Gaps of a push in milliseconds, and the level of a push with a gap that long.
const GAPS_MS: [(u64, u8); 3] = [(2_000, BAD), (1_000, 4), (500, 3)];
/// Lags of a play in milliseconds, and the level of a play with a lag that long.
const LAGS_MS: [(u64, u8); 4] = [(4_000, BAD), (2_000, 4), (1_000, 3), (500, 2)];

/// A stream, and its viewer; `None` is its push.
pub(super) type FlowKey = (Gen, Option<Mid>);

/// Figures that a client reported of its component.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Figures {
    /// kbit/s.
    pub(super) kbps: Option<u64>,
    /// Frames per second.
    pub(super) fps: Option<u64>,
    /// Round trip in milliseconds.
    pub(super) rtt_ms: Option<u64>,
    /// 0 to 6.
    pub(super) level: Option<u8>,
    /// Of a state or an error.
    pub(super) code: Option<i64>,
}

/// A window: its begin, and the figures of both sides.
pub(super) type WindowFigures = (WallTime, Option<ServerFigures>, Option<ClientFigures>);

#[derive(Debug, Default)]
struct Tally {
    least: u64,
    most: u64,
    sum: u64,
    count: u64,
}

impl Tally {
    fn add(&mut self, value: u64) {
        self.least = if self.count == 0 { value } else { self.least.min(value) };
        self.most = self.most.max(value);
        self.sum = self.sum.saturating_add(value);
        self.count += 1;
    }

    fn range(&self) -> Option<FigureRange> {
        let mean = self.sum.checked_div(self.count)?;
        Some(FigureRange { least: self.least, mean, most: self.most })
    }
}

#[derive(Debug, Default)]
struct ServerTallies {
    kbps: Tally,
    fps: Tally,
    lag_ms: Tally,
    /// Figures without a tally.
    rest: ServerFigures,
}

#[derive(Debug, Default)]
struct ClientTallies {
    kbps: Tally,
    fps: Tally,
    rtt_ms: Tally,
    rest: ClientFigures,
}

/// One push or play.
#[derive(Debug)]
pub(super) struct Flow {
    /// The member that pushes or plays.
    pub(super) uid: UserId,
    pub(super) mid: Mid,
    /// The slot of the stream with its owner.
    pub(super) slot: usize,
    /// It was permitted or measured, and is not known to be over.
    pub(super) is_active: bool,
    began_at: MonoTime,
    measurements: u32,
    since: Now,
    server: Option<Box<ServerTallies>>,
    client: Option<Box<ClientTallies>>,
    server_level: u8,
    client_level: (u8, MonoTime),
}

impl Flow {
    pub(super) fn new(uid: UserId, mid: Mid, slot: usize, now: Now) -> Self {
        Flow {
            uid,
            mid,
            slot,
            is_active: false,
            began_at: now.mono,
            measurements: 0,
            since: now,
            server: None,
            client: None,
            server_level: 0,
            client_level: (0, now.mono),
        }
    }

    /// It begins, or begins again.
    pub(super) fn begin(&mut self, now: MonoTime) {
        self.is_active = true;
        self.began_at = now;
        self.measurements = 0;
        self.server_level = 0;
    }

    /// It is over, and may begin again.
    pub(super) fn end(&mut self) {
        self.is_active = false;
        self.server_level = DOWN;
    }

    /// Whether it should be in a measurement by now.
    pub(super) fn is_expected(&self, now: MonoTime) -> bool {
        self.is_active && (self.measurements > 0 || now.since(self.began_at) >= LATE_MS)
    }

    /// Counts a measurement. `None` for the first one: it covers a part of its time only, so it says nothing about
    /// quality.
    fn count_measurement(&mut self, now: Now) -> Option<&mut ServerTallies> {
        if !self.is_active {
            self.begin(now.mono);
        }
        self.measurements = self.measurements.saturating_add(1);
        if self.measurements == 1 {
            return None;
        }
        open_window(&mut self.since, self.server.is_none() && self.client.is_none(), now);
        let server: &mut ServerTallies = self.server.get_or_insert_default();
        Some(server)
    }

    /// A measurement of the push. `is_quiet`: it need send nothing.
    pub(super) fn pushed(&mut self, now: Now, stats: &PushStats, is_quiet: bool) {
        let Some(server) = self.count_measurement(now).filter(|_| stats.ms > 0) else { return };
        server.kbps.add(stats.bytes.saturating_mul(8) / stats.ms);
        if stats.frames > 0 {
            server.fps.add(stats.frames.saturating_mul(1_000) / stats.ms);
        }
        let rest = &mut server.rest;
        rest.keyframe_ms = rest.keyframe_ms.max(stats.keyframe_ms);
        rest.gaps = Some(rest.gaps.unwrap_or(0).saturating_add(stats.gaps));
        rest.longest_gap_ms = rest.longest_gap_ms.max(Some(stats.longest_gap_ms));
        rest.audio = stats.audio.clone().or(rest.audio.take());
        rest.video = stats.video.clone().or(rest.video.take());
        self.server_level = match stats.bytes {
            _ if is_quiet => 0,
            0 => DOWN,
            _ => level(&GAPS_MS, stats.longest_gap_ms),
        };
    }

    /// A measurement of the play. If no data waits, there was nothing to play.
    pub(super) fn played(&mut self, now: Now, stats: &PlayStats) {
        let Some(server) = self.count_measurement(now).filter(|_| stats.ms > 0) else { return };
        server.kbps.add(stats.bytes.saturating_mul(8) / stats.ms);
        server.lag_ms.add(stats.lag_ms);
        self.server_level = match (stats.bytes, stats.lag_ms) {
            (0, 0) => 0,
            (0, _) => DOWN,
            (_, lag_ms) => level(&LAGS_MS, lag_ms),
        };
    }

    /// A report of its client.
    pub(super) fn reported(&mut self, now: Now, figures: &Figures) {
        open_window(&mut self.since, self.server.is_none() && self.client.is_none(), now);
        let client = self.client.get_or_insert_default();
        client.rest.reports += 1;
        let tallies = [
            (figures.kbps, &mut client.kbps),
            (figures.fps, &mut client.fps),
            (figures.rtt_ms, &mut client.rtt_ms),
        ];
        for (figure, tally) in tallies {
            if let Some(figure) = figure {
                tally.add(figure);
            }
        }
        if let Some(level) = figures.level {
            client.rest.worst_level = client.rest.worst_level.max(Some(level));
            self.client_level = (level, now.mono);
        }
        let Some(code) = figures.code else { return };
        let codes = &mut client.rest.codes;
        if let Some(known) = codes.iter_mut().find(|known| known.code == code) {
            known.count += 1;
        } else if codes.len() < MAX_CODES {
            codes.push(Code { code, count: 1 });
        }
    }

    /// The worse level of the two sides: 0 unknown, 1 excellent to 5 bad, 6 down.
    pub(super) fn level(&self, now: MonoTime) -> u8 {
        let (client, at) = self.client_level;
        if now.since(at) < CLIENT_MS { self.server_level.max(client) } else { self.server_level }
    }

    /// Whether its window is over.
    pub(super) fn is_due(&self, now: MonoTime) -> bool {
        now.since(self.since.mono) >= WINDOW_MS
    }

    /// Takes its figures; `None` where there are none.
    pub(super) fn take(&mut self) -> Option<WindowFigures> {
        let (server, client) = (self.server.take(), self.client.take());
        if server.is_none() && client.is_none() {
            return None;
        }
        let server = server.map(|server| {
            let (kbps, fps) = (server.kbps.range(), server.fps.range());
            ServerFigures { kbps, fps, lag_ms: server.lag_ms.range(), ..server.rest }
        });
        let client = client.map(|client| {
            let (kbps, fps) = (client.kbps.range(), client.fps.range());
            ClientFigures { kbps, fps, rtt_ms: client.rtt_ms.range(), ..client.rest }
        });
        Some((self.since.wall, server, client))
    }
}

/// A window begins with the first figure in it.
fn open_window(since: &mut Now, is_empty: bool, now: Now) {
    if is_empty {
        *since = now;
    }
}

fn level(levels: &[(u64, u8)], ms: u64) -> u8 {
    levels.iter().find(|(from, _)| ms >= *from).map_or(1, |(_, level)| *level)
}

#[cfg(test)]
mod tests {
    //! Proves no rule of the protocol: figures and levels.

    use super::*;

    fn at(ms: u64) -> Now {
        Now { mono: MonoTime(ms), wall: WallTime(ms + 1_000_000) }
    }

    fn flow() -> Flow {
        Flow::new(UserId(1), Mid([1; 12]), 0, at(0))
    }

    fn pushed(bytes: u64, longest_gap_ms: u64) -> PushStats {
        PushStats { ms: 2_000, bytes, frames: 30, longest_gap_ms, ..PushStats::default() }
    }

    #[test]
    fn the_level_of_a_push_follows_its_longest_gap_after_the_first_measurement() {
        let mut flow = flow();
        flow.pushed(at(2_000), &pushed(0, 9_000), false);
        assert_eq!((flow.level(MonoTime(2_000)), flow.take()), (0, None));
        for (bytes, gap, level) in
            [(1, 40, 1), (1, 500, 3), (1, 1_000, 4), (1, 2_000, 5), (0, 0, 6)]
        {
            flow.pushed(at(4_000), &pushed(bytes, gap), false);
            assert_eq!(flow.level(MonoTime(4_000)), level);
        }
        flow.pushed(at(6_000), &pushed(0, 9_000), true);
        assert_eq!(flow.level(MonoTime(6_000)), 0, "a muted push may send nothing");
        flow.end();
        assert_eq!(flow.level(MonoTime(6_000)), DOWN);
        flow.begin(MonoTime(7_000));
        assert_eq!(flow.level(MonoTime(7_000)), 0);
    }

    #[test]
    fn the_level_of_a_play_follows_its_lag() {
        let mut flow = flow();
        let stats = |bytes, lag_ms| PlayStats { ms: 2_000, bytes, lag_ms };
        flow.played(at(2_000), &stats(1, 0));
        for (lag, level) in [(0, 1), (500, 2), (1_000, 3), (2_000, 4), (4_000, 5)] {
            flow.played(at(4_000), &stats(1, lag));
            assert_eq!(flow.level(MonoTime(4_000)), level);
        }
        flow.played(at(6_000), &stats(0, 90));
        assert_eq!(flow.level(MonoTime(6_000)), DOWN);
        flow.played(at(6_000), &stats(0, 0));
        assert_eq!(flow.level(MonoTime(6_000)), 0, "there is nothing to play");
    }

    #[test]
    fn a_reported_level_counts_for_a_while() {
        let mut flow = flow();
        let figures = Figures { level: Some(4), ..Figures::default() };
        flow.reported(at(1_000), &figures);
        assert_eq!((flow.level(MonoTime(10_999)), flow.level(MonoTime(11_000))), (4, 0));
    }

    #[test]
    fn figures_of_a_window_are_its_mean_and_ends() {
        let mut flow = flow();
        flow.pushed(at(2_000), &pushed(9, 0), false);
        for (bytes, gap) in [(250_000, 40), (500_000, 700)] {
            flow.pushed(at(4_000), &pushed(bytes, gap), false);
        }
        for code in [1_i64, 2, 1, 3, 4, 5, 6, 7, 8, 9] {
            let rtt_ms = Some(code.unsigned_abs());
            flow.reported(at(5_000), &Figures { code: Some(code), rtt_ms, ..Figures::default() });
        }
        assert!(!flow.is_due(MonoTime(63_999)) && flow.is_due(MonoTime(64_000)));
        let (from, server, client) = flow.take().unwrap();
        let (server, client) = (server.unwrap(), client.unwrap());
        assert_eq!(from, at(4_000).wall);
        assert_eq!(server.kbps, Some(FigureRange { least: 1_000, mean: 1_500, most: 2_000 }));
        assert_eq!((server.fps.map(|fps| fps.mean), server.longest_gap_ms), (Some(15), Some(700)));
        assert_eq!((client.reports, client.codes.len()), (10, MAX_CODES));
        assert_eq!(client.codes[0], Code { code: 1, count: 2 });
        assert_eq!(client.rtt_ms.map(|rtt| rtt.most), Some(9));
        assert_eq!(flow.take(), None);
    }
}
