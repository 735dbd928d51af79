//! Checks that hold after any test: pictures fold, counters agree, nothing is left behind.

use lianmai_protocol::{KindSet, MediaKind, Role, WallTime};
use lianmai_signal_engine::Denial;

use super::{World, entry};
use crate::picture::Picture;

impl World {
    /// Sends what waits, then compares every open client's folded picture with the snapshot of a new member, and the
    /// counters with the lists of the admin API.
    #[track_caller]
    pub(crate) fn audit(&mut self) {
        self.advance(20);
        let channels = self.channels();
        let stats = self.engine.stats();
        assert_eq!(stats.channels, channels.len());
        assert_eq!(stats.members, channels.iter().map(|c| c.members).sum::<usize>());
        let mut streams = 0;
        for view in &channels {
            let members = self.members(&view.channel);
            assert_eq!(view.members, members.len());
            let visible = members.iter().filter(|m| m.role == Role::Broadcaster);
            assert_eq!(view.broadcasters, visible.count());
            for member in &members {
                streams +=
                    usize::from(!member.published.intersection(KindSet::AUDIO_VIDEO).is_empty());
                streams += usize::from(member.published.contains(&MediaKind::ScreenShare));
                streams += usize::from(member.published.contains(&MediaKind::SlaveAudio));
            }
        }
        assert_eq!(stats.streams, streams);
        for view in channels {
            let mut newcomer = entry(u64::MAX).channel(view.channel.name.as_str()).audience();
            newcomer.join.appkey = view.channel.appkey.clone();
            let issued_at = Some(WallTime(self.now.wall.0 + 60_000));
            let Ok(newcomer) = self.enter(newcomer.grant(|grant| grant.issued_at = issued_at))
            else {
                continue; // A full or held channel admits no new member.
            };
            let joined = self.joined(newcomer).clone();
            let fresh = Picture::of(&joined);
            let mut seen = 0;
            for state in self.conns.values().filter(|conn| conn.is_seated()) {
                if state.joined.as_ref().is_some_and(|j| j.epoch == joined.epoch) {
                    assert_eq!(state.last_seq, joined.seq, "every event has been delivered");
                    if let Some(picture) = &state.picture {
                        assert_eq!(picture, &fresh, "fold = snapshot (ORD-3)");
                    }
                    seen += 1;
                }
            }
            assert!(seen > 0);
            self.ok(newcomer, crate::calls::leave());
        }
    }

    /// No member is left: the engine holds nothing, and only its sweep is due.
    #[track_caller]
    pub(crate) fn assert_empty(&mut self) {
        let stats = self.engine.stats();
        let held = (stats.channels, stats.members, stats.connected, stats.streams);
        assert_eq!(held, (0, 0, 0, 0), "channels, members, sockets, streams");
        assert!(self.channels().is_empty());
        // Timers that were armed for former members have no effect.
        let frames = stats.frames;
        self.advance(400_000);
        for _ in 0..3 {
            let Some(due) = self.engine.next_deadline() else { break };
            self.advance(due.since(self.now.mono));
            assert_eq!(self.engine.next_deadline(), Some(due + 60_000), "only the sweep is due");
        }
        assert_eq!(self.engine.stats().frames, frames, "no frame is sent without members");
        for generation in self.minted.clone() {
            assert_eq!(self.may_push(generation), Err(Denial::UnknownStream));
        }
    }
}
