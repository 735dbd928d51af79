//! Checks the kinds that the relay takes for published and subscribed. Comes in: answers to the relay, and the changes
//! that it is told. Goes out: the first wrong kind, or a change that the relay was not told.

use lianmai_protocol::{Gen, KindSet, Mid};
use lianmai_signal_engine::{Access, Output};

use super::media::slot;
use super::{Model, Verdict};

impl Model {
    /// An answer that permits gives the kinds, unless the relay knows them already.
    pub(super) fn kinds_judged(
        &mut self,
        s: usize,
        generation: Gen,
        access: Access,
        kinds: KindSet,
    ) {
        let viewer = match access {
            Access::Publish => None,
            Access::Play { viewer } => Some(viewer),
        };
        self.shards[s].relay.entry((generation, viewer)).or_insert(kinds);
    }

    /// Checks that the relay knows the true kinds.
    pub(super) fn same_kinds(&mut self, s: usize, outputs: &[Output]) -> Verdict {
        let mut relay = std::mem::take(&mut self.shards[s].relay);
        for output in outputs {
            match output {
                Output::SetPublished { generation, kinds, .. } => {
                    relay.insert((*generation, None), *kinds);
                }
                Output::SetSubscribed { generation, viewer, kinds, .. } => {
                    relay.insert((*generation, Some(*viewer)), *kinds);
                }
                _ => {}
            }
        }
        // Streams and plays that ended were cut.
        relay.retain(|(generation, viewer), _| !self.carried(s, *generation, *viewer).is_empty());
        for ((generation, viewer), reported) in &relay {
            let is = self.carried(s, *generation, *viewer);
            if is != *reported {
                let what = format!("{generation} for {viewer:?}: reported {reported:?}, is {is:?}");
                return Err(("media", what));
            }
        }
        self.shards[s].relay = relay;
        Ok(())
    }

    /// The kinds that are published on a stream, or that a viewer subscribes of it.
    fn carried(&self, s: usize, generation: Gen, viewer: Option<Mid>) -> KindSet {
        let mut channels = self.shards[s].channels.values();
        let found = channels.find_map(|channel| Some((channel, channel.streams.get(&generation)?)));
        let Some((channel, stream)) = found else { return KindSet::NONE };
        let Some(viewer) = viewer else {
            let Some(owner) = channel.members.get(&stream.owner) else { return KindSet::NONE };
            let published = owner.published();
            let on_it = published
                .iter()
                .filter(|kind| slot(kind).is_some_and(|at| owner.pushes[at] == Some(generation)));
            return on_it.cloned().collect();
        };
        let viewer = channel.members.values().find(|member| member.mid == viewer);
        let pull = viewer.and_then(|viewer| viewer.pulls.get(&generation));
        pull.map_or(KindSet::NONE, |(kinds, _)| *kinds)
    }
}
