//! The members of a channel and their streams, as a client derives them. In: a snapshot, then every later event. Out:
//! the members. Checked: EVT-3, and that no event contradicts the one before. Deliberately absent: the client's own
//! code.

use std::collections::BTreeMap;

use lianmai_protocol::message::ChannelEvent;
use lianmai_protocol::message::event::{MuteChange, StreamChange};
use lianmai_protocol::message::session::Joined;
use lianmai_protocol::message::snapshot::MemberInfo;
use lianmai_protocol::{KindSet, MediaKind, Mid, Pub, UserId};

/// All broadcasters.
#[derive(Clone, Debug, Default)]
pub(super) struct Roster(BTreeMap<Mid, RosterMember>);

#[derive(Clone, Debug)]
struct RosterMember {
    uid: UserId,
    streams: BTreeMap<MediaKind, Pub>,
    muted: KindSet,
}

impl Roster {
    pub(super) fn new(joined: &Joined) -> Self {
        let shown = |member: &MemberInfo| {
            let stream = |stream: &lianmai_protocol::message::snapshot::StreamInfo| {
                (stream.media_type.clone(), stream.publication)
            };
            let streams = member.streams.iter().map(stream).collect();
            (member.mid, RosterMember { uid: member.uid, streams, muted: member.muted })
        };
        Roster(joined.members.iter().map(shown).collect())
    }

    pub(super) fn apply(&mut self, event: &ChannelEvent) {
        match event {
            ChannelEvent::ClientJoin(e) => {
                assert!(self.0.values().all(|shown| shown.uid != e.uid), "one membership of a uid");
                let shown = RosterMember { uid: e.uid, streams: BTreeMap::new(), muted: e.muted };
                assert!(self.0.insert(e.mid, shown).is_none(), "joins and leaves alternate");
            }
            ChannelEvent::ClientLeave(e) => {
                let shown = self.0.remove(&e.mid).expect("a leaving member had joined");
                assert_eq!(shown.uid, e.uid);
                assert!(shown.streams.is_empty(), "streams are removed before");
            }
            ChannelEvent::ClientUpdate(e) => assert!(self.0.contains_key(&e.mid)),
            ChannelEvent::RoleChanged(e) => {
                assert!(self.0.contains_key(&e.mid), "behind the join, or before the leave");
            }
            ChannelEvent::StreamAdded(StreamChange { mid, media_type, publication, .. }) => {
                let shown = self.0.get_mut(mid).expect("a publisher has joined");
                let before = shown.streams.insert(media_type.clone(), *publication);
                assert_eq!(before, None, "one stream of a kind");
            }
            ChannelEvent::StreamRemoved(StreamChange { mid, media_type, publication, .. }) => {
                let shown = self.0.get_mut(mid).expect("a publisher has joined");
                assert_eq!(shown.streams.remove(media_type), Some(*publication));
            }
            ChannelEvent::Muted(MuteChange { mid, media_type, .. }) => {
                if let Some(shown) = self.0.get_mut(mid) {
                    shown.muted = shown.muted.union(KindSet::of(media_type));
                }
            }
            ChannelEvent::Unmuted(MuteChange { mid, media_type, .. }) => {
                if let Some(shown) = self.0.get_mut(mid) {
                    shown.muted = shown.muted.difference(KindSet::of(media_type));
                }
            }
            _ => {}
        }
    }

    /// Each broadcaster with its published and its muted kinds.
    pub(super) fn shown(&self) -> Vec<(Mid, UserId, KindSet, KindSet)> {
        let kinds = |streams: &BTreeMap<MediaKind, Pub>| streams.keys().cloned().collect();
        let each = |(mid, shown): (&Mid, &RosterMember)| {
            (*mid, shown.uid, kinds(&shown.streams), shown.muted)
        };
        self.0.iter().map(each).collect()
    }
}
