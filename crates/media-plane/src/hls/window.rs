//! The segments of a stream that players may request, and their playlist (RFC 8216).
//!
//! In: segments. Out: the playlist; segments by their number. Absent: permissions.

use std::collections::VecDeque;
use std::fmt::Write;

use bytes::Bytes;

use super::segment::Segment;

/// Segments in the playlist.
const LISTED: usize = 6;
/// Segments kept in addition, for players that still read them.
const BEHIND: usize = 3;

#[derive(Debug)]
pub(super) struct Window {
    segments: VecDeque<Segment>,
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
        Self { segments: VecDeque::new(), first, breaks: 0, longest: 1 }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.segments.is_empty()
    }

    /// Adds a segment. Drops the oldest one if the window is full.
    pub(super) fn push(&mut self, segment: Segment) {
        self.longest = self.longest.max(segment.span.div_ceil(1000));
        self.segments.push_back(segment);
        if self.segments.len() > LISTED + BEHIND {
            self.drop_oldest();
        }
    }

    /// Drops the oldest segment. Returns whether there was one.
    pub(super) fn drop_oldest(&mut self) -> bool {
        let Some(oldest) = self.segments.pop_front() else { return false };
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
        let skipped = self.segments.len().saturating_sub(LISTED);
        let behind = self.segments.iter().take(skipped).filter(|segment| segment.breaks).count();
        let (number, breaks) = (self.first + skipped as u64, self.breaks + behind as u64);
        let mut list = format!(
            "#EXTM3U\n#EXT-X-VERSION:3\n#EXT-X-TARGETDURATION:{}\n#EXT-X-MEDIA-SEQUENCE:{number}\n\
             #EXT-X-DISCONTINUITY-SEQUENCE:{breaks}\n",
            self.longest
        );
        for (number, segment) in (number..).zip(self.segments.iter().skip(skipped)) {
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
        Segment { bytes: vec![0; 10].into(), span: 2040, breaks }
    }

    #[test]
    fn the_list_has_the_newest_and_numbers_go_on() {
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
}
