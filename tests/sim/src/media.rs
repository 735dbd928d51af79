//! Pushers and players. Comes in: the URLs that apps receive. Goes out: questions whether they may be used, at random
//! times and again after a cut, and signs of payload while they run. The model decides whether the answers are right.
//! Deliberately absent: media.

use std::collections::BTreeMap;

use lianmai_protocol::{Gen, Mid};
use lianmai_signal_engine::{Access, Input};

use crate::rng::Rng;
use crate::server::store::shard_of_route;
use crate::world::{Ev, World, log};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Not connected.
    Away,
    /// Waits for the answer.
    Asked,
    Runs,
    Over,
}

/// One pusher or player.
#[derive(Debug)]
struct Actor {
    generation: Gen,
    viewer: Option<Mid>,
    state: State,
    tries: u32,
}

/// All pushers and players, and the URLs that were issued.
#[derive(Debug)]
pub(crate) struct Media {
    urls: BTreeMap<String, (Gen, Option<Mid>)>,
    /// Every stream and viewer that ever had a URL.
    seen: Vec<(Gen, Option<Mid>)>,
    actors: Vec<Actor>,
    rng: Rng,
}

impl Media {
    pub(crate) fn new(rng: Rng) -> Self {
        Media { urls: BTreeMap::new(), seen: Vec::new(), actors: Vec::new(), rng }
    }

    /// A URL was issued.
    pub(crate) fn issued(&mut self, url: &str, generation: Gen, viewer: Option<Mid>) {
        self.urls.insert(url.to_owned(), (generation, viewer));
        self.seen.push((generation, viewer));
    }

    /// The stream and the viewer of a URL.
    pub(crate) fn stream_of(&self, url: &str) -> Option<(Gen, Option<Mid>)> {
        self.urls.get(url).copied()
    }
}

impl World {
    /// An app received a URL, and may start to use it.
    pub(crate) fn media_url(&mut self, c: usize, url: &str) {
        let Some((generation, viewer)) = self.media.stream_of(url) else {
            return self.fail("media", format!("c{c} got a URL that was not issued"));
        };
        if !self.media.rng.chance(self.scenario.knobs.media) || self.healing {
            return;
        }
        self.add_media(generation, viewer, 3);
    }

    fn add_media(&mut self, generation: Gen, viewer: Option<Mid>, tries: u32) {
        self.media.actors.push(Actor { generation, viewer, state: State::Away, tries });
        let delay = self.media.rng.skewed(4_000);
        self.after(delay, Ev::Media(self.media.actors.len() - 1));
    }

    /// Uses a URL that was seen some time ago.
    pub(crate) fn replay_url(&mut self, play: bool) {
        let seen: Vec<_> = self
            .media
            .seen
            .iter()
            .filter(|(_, viewer)| viewer.is_some() == play)
            .copied()
            .collect();
        if !seen.is_empty() {
            let (generation, viewer) = *self.media.rng.pick(&seen);
            self.add_media(generation, viewer, 1);
        }
    }

    pub(crate) fn media_step(&mut self, m: usize) {
        let actor = &self.media.actors[m];
        let (generation, viewer, state) = (actor.generation, actor.viewer, actor.state);
        if self.healing && state != State::Over {
            self.media.actors[m].state = State::Over;
            return;
        }
        let shards = self.scenario.knobs.shards;
        let shard = shard_of_route(generation.route, shards);
        match state {
            State::Over | State::Asked => {}
            State::Away if self.server.is_up() => {
                log!(self, "m{m} asks for {generation} as {viewer:?}");
                self.media.actors[m].state = State::Asked;
                let access = viewer.map_or(Access::Publish, |viewer| Access::Play { viewer });
                self.media_asks(m, shard, generation, access);
            }
            State::Away => {
                let delay = self.media.rng.between(200, 1_500);
                self.after(delay, Ev::Media(m));
            }
            State::Runs => {
                match self.media.rng.below(20) {
                    // It stalls, ends, or ends and comes back.
                    0 => return self.after(20_000, Ev::Media(m)),
                    1 => return self.media.actors[m].state = State::Over,
                    2 => self.media.actors[m].state = State::Away,
                    _ if viewer.is_none() => {
                        let process = self.server.process.as_ref().map_or(0, |process| process.id);
                        let input = Box::new(Input::MediaFlow { generation });
                        self.after(0, Ev::Post(process, shard, input));
                    }
                    _ => {}
                }
                let delay = self.media.rng.between(1_000, 5_000);
                self.after(delay, Ev::Media(m));
            }
        }
    }

    pub(crate) fn media_verdict(&mut self, m: usize, allowed: bool) {
        log!(self, "m{m} is told {allowed}");
        self.cov.count(if allowed { "media:allowed" } else { "media:denied" });
        let actor = &mut self.media.actors[m];
        if actor.state != State::Asked {
            return;
        }
        actor.tries = actor.tries.saturating_sub(1);
        actor.state = match (allowed, actor.tries) {
            (true, _) => State::Runs,
            (false, 0) => State::Over,
            _ => State::Away,
        };
        let delay = self.media.rng.between(100, 2_000);
        self.after(delay, Ev::Media(m));
    }

    /// The server cuts a stream, or one viewer's play of it.
    pub(crate) fn media_cut(&mut self, generation: Gen, viewer: Option<Mid>) {
        self.cov.count("media:cut");
        let mut again = Vec::new();
        for (index, actor) in self.media.actors.iter_mut().enumerate() {
            let meant =
                actor.generation == generation && (viewer.is_none() || actor.viewer == viewer);
            if meant && actor.state == State::Runs {
                // It tries once more, which must be refused.
                actor.state = State::Away;
                actor.tries = 1;
                again.push(index);
            }
        }
        for index in again {
            let delay = self.media.rng.between(100, 5_000);
            self.after(delay, Ev::Media(index));
        }
    }

    /// The relay ended with its process: pushers and players come back soon.
    pub(crate) fn media_server_gone(&mut self) {
        for index in 0..self.media.actors.len() {
            let actor = &mut self.media.actors[index];
            if matches!(actor.state, State::Runs | State::Asked) {
                let ran = actor.state == State::Runs;
                actor.state = State::Away;
                actor.tries = 3;
                if !ran {
                    let delay = self.media.rng.between(100, 1_500);
                    self.after(delay, Ev::Media(index));
                }
            }
        }
    }
}
