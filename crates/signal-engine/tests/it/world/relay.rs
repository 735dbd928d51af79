//! A relay that gets all outputs in order: the published and subscribed kinds. Every verdict must agree with what it
//! knows, or a change was not reported.

use std::collections::BTreeMap;

use lianmai_protocol::{Gen, KindSet, Mid};
use lianmai_signal_engine::{Access, Denial};

#[derive(Debug, Default)]
pub(crate) struct Relay {
    published: BTreeMap<Gen, KindSet>,
    subscribed: BTreeMap<(Gen, Mid), KindSet>,
}

impl Relay {
    #[track_caller]
    pub(super) fn judged(
        &mut self,
        generation: Gen,
        access: Access,
        verdict: Result<KindSet, Denial>,
    ) {
        let Ok(kinds) = verdict else { return };
        assert!(!kinds.is_empty(), "a permission has at least one kind");
        let known = match access {
            Access::Publish => self.published.entry(generation).or_insert(kinds),
            Access::Play { viewer } => self.subscribed.entry((generation, viewer)).or_insert(kinds),
        };
        assert_eq!(*known, kinds, "{access:?} of {generation}: a change was not reported");
    }

    pub(super) fn set_published(&mut self, generation: Gen, kinds: KindSet) {
        assert!(!kinds.is_empty(), "a stream with nothing on it is cut");
        assert_ne!(
            self.published.insert(generation, kinds),
            Some(kinds),
            "a report without a change"
        );
    }

    pub(super) fn set_subscribed(&mut self, generation: Gen, viewer: Mid, kinds: KindSet) {
        assert!(!kinds.is_empty(), "a viewer without subscription is cut");
        let before = self.subscribed.insert((generation, viewer), kinds);
        assert_ne!(before, Some(kinds), "a report without a change");
    }

    pub(super) fn cut(&mut self, generation: Gen) {
        self.published.remove(&generation);
        self.subscribed.retain(|(of, _), _| *of != generation);
    }

    pub(super) fn cut_viewer(&mut self, generation: Gen, viewer: Mid) {
        self.subscribed.remove(&(generation, viewer));
    }

    /// The process has ended, and the relay with it.
    pub(super) fn end(&mut self) {
        *self = Relay::default();
    }
}
