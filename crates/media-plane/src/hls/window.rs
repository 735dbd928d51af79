//! The segments of a stream that players may request, and their playlist (RFC 8216).
//!
//! In: segments. Out: the playlist; segments by their number. Absent: permissions.

use std::collections::VecDeque;
use std::fmt::Write;

use bytes::Bytes;

use super::segment::Segment;

/// Segments in the playlist. There are more while they last less than [`MIN_TARGET_DURATIONS`] target durations.
const LISTED: usize = 6;
/// Most segments in the playlist, however short they are.
const MAX_LISTED: usize = 64;
/// Shortest playlist of which a segment may be removed, in target durations (RFC 8216, section 6.2.2).
const MIN_TARGET_DURATIONS: u64 = 3;
/// Segments kept in addition, for players that still read them.
const EXTRA_SEGMENTS: usize = 3;

#[derive(Debug)]
pub(super) struct Window {
    segments: VecDeque<Segment>,
    /// The segments at the beginning that were removed from the playlist.
    behind: usize,
    /// The number of the first segment that is kept.
    first: u64,
    /// Discontinuities in the segments that were dropped.
    breaks: u64,
    /// The longest duration of a segment so far, rounded up to seconds.
    longest: u32,
}

impl Window {
    /// A window that numbers its segments from `first` on. `first` should be larger than all numbers of earlier
    /// windows of the stream, so that their players continue.
    pub(super) fn new(first: u64) -> Self {
        Self { segments: VecDeque::new(), behind: 0, first, breaks: 0, longest: 1 }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.segments.is_empty()
    }

    /// Adds a segment. Drops the oldest ones if the window is full.
    pub(super) fn push(&mut self, segment: Segment) {
        self.longest = self.longest.max(segment.span.div_ceil(1000));
        self.segments.push_back(segment);
        while self.has_more_than_needed() {
            self.behind += 1;
        }
        while self.behind > EXTRA_SEGMENTS {
            self.drop_oldest();
        }
    }

    /// Whether the playlist is long enough without its first segment.
    fn has_more_than_needed(&self) -> bool {
        let others = self.segments.iter().skip(self.behind + 1);
        let count = others.len();
        let span: u64 = others.map(|segment| u64::from(segment.span)).sum();
        let is_long = span >= MIN_TARGET_DURATIONS * 1000 * u64::from(self.longest);
        count >= MAX_LISTED || count >= LISTED && is_long
    }

    /// Drops the oldest segment. Returns whether there was one.
    pub(super) fn drop_oldest(&mut self) -> bool {
        let Some(oldest) = self.segments.pop_front() else { return false };
        self.behind = self.behind.saturating_sub(1);
        self.first += 1;
        self.breaks += u64::from(oldest.breaks);
        true
    }

    pub(super) fn segment(&self, number: u64) -> Option<Bytes> {
        let at = usize::try_from(number.checked_sub(self.first)?).ok()?;
        self.segments.get(at).map(|segment| segment.bytes.clone())
    }

    /// The playlist. The URLs of the segments are below the name of the stream and carry `query`, the query of the
    /// request for the playlist.
    pub(super) fn playlist(&self, stream: &str, query: &str) -> String {
        let behind = self.segments.iter().take(self.behind);
        let breaks = self.breaks + behind.filter(|segment| segment.breaks).count() as u64;
        let number = self.first + self.behind as u64;
        let mut list = format!(
            "#EXTM3U\n#EXT-X-VERSION:3\n#EXT-X-TARGETDURATION:{}\n#EXT-X-MEDIA-SEQUENCE:{number}\n\
             #EXT-X-DISCONTINUITY-SEQUENCE:{breaks}\n",
            self.longest
        );
        for (number, segment) in (number..).zip(self.segments.iter().skip(self.behind)) {
            if segment.breaks {
                list.push_str("#EXT-X-DISCONTINUITY\n");
            }
            let (seconds, rest) = (segment.span / 1000, segment.span % 1000);
            let _ = writeln!(list, "#EXTINF:{seconds}.{rest:03},\n{stream}/{number}.ts?{query}");
        }
        list
    }
}

#[cfg(test)]
mod tests {
    //! Proves no rule of the protocol: RFC 8216.

    use super::*;

    fn segment(breaks: bool) -> Segment {
        lasting(2040, breaks)
    }

    fn lasting(span: u32, breaks: bool) -> Segment {
        Segment { bytes: vec![0; 10].into(), span, breaks }
    }

    /// The numbers and the total duration, ms, of the segments in the playlist.
    fn listed(window: &Window) -> (std::ops::Range<u64>, u64) {
        let list = window.playlist("a", "");
        let first = list.split_once("MEDIA-SEQUENCE:").unwrap().1.lines().next().unwrap();
        let first: u64 = first.parse().unwrap();
        let spans = list.lines().filter_map(|line| line.strip_prefix("#EXTINF:"));
        let spans = spans.map(|span| span.replace(['.', ','], "").parse::<u64>().unwrap());
        (first..first + spans.clone().count() as u64, spans.sum())
    }

    #[test]
    fn the_playlist_has_the_newest_segments_and_numbers_continue() {
        let mut window = Window::new(100);
        window.push(segment(true));
        window.push(segment(false));
        assert_eq!(
            window.playlist("a", "v=x"),
            "#EXTM3U\n#EXT-X-VERSION:3\n#EXT-X-TARGETDURATION:3\n#EXT-X-MEDIA-SEQUENCE:100\n\
             #EXT-X-DISCONTINUITY-SEQUENCE:0\n#EXT-X-DISCONTINUITY\n#EXTINF:2.040,\na/100.ts?v=x\n\
             #EXTINF:2.040,\na/101.ts?v=x\n"
        );
        for _ in 0..10 {
            window.push(segment(false));
        }
        let list = window.playlist("a", "");
        assert!(list.contains("#EXT-X-MEDIA-SEQUENCE:106\n#EXT-X-DISCONTINUITY-SEQUENCE:1\n"));
        assert_eq!(list.matches(".ts?").count(), LISTED);
        assert!(window.segment(102).is_none() && window.segment(103).is_some());
        assert!(window.segment(111).is_some() && window.segment(112).is_none());
        assert!(window.segment(0).is_none() && window.segment(u64::MAX).is_none());
        while window.drop_oldest() {}
        assert!(window.is_empty() && window.segment(111).is_none());
        window.push(segment(false));
        assert!(window.segment(112).is_some(), "numbers go on");
    }

    #[test]
    fn the_playlist_lasts_three_times_the_longest_segment() {
        let mut window = Window::new(0);
        let mut before = 0..0;
        let mut push = |window: &mut Window, span| {
            window.push(lasting(span, false));
            let (numbers, spans) = listed(window);
            assert!(numbers.start >= before.start, "a number comes back");
            assert!(window.segment(numbers.start).is_some(), "{numbers:?}");
            before = numbers.clone();
            (numbers, spans)
        };
        for _ in 0..12 {
            push(&mut window, 2000);
        }
        assert_eq!(push(&mut window, 15_000), (6..13, 27_000), "no number comes back");
        for number in 13..100 {
            let (numbers, spans) = push(&mut window, 2000);
            assert_eq!(numbers.end, number + 1);
            assert!(spans >= 45_000 || numbers.start == 6, "{numbers:?} last {spans} ms");
            assert!(spans < 60_000, "{numbers:?} are more than needed");
        }
        for _ in 0..200 {
            push(&mut window, 20);
        }
        assert_eq!(listed(&window).0.count(), MAX_LISTED, "however short they are");
        while window.drop_oldest() {}
        window.push(segment(false));
        assert_eq!(listed(&window).0, 300..301);
    }
}
