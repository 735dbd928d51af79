//! What is composed, and when: everything that decides, without I/O and without a clock.
//!
//! In: scenes, decoded pictures and sounds with their times, images, and the moment. Out: at each beat one picture and
//! the sound since the last one. Absent: where pictures and sounds come from and go to; waiting for the next beat.
//!
//! ```text
//!   decoders ── picture(), sound() ──> Lane ──┐
//!   orders ──── update(scene) ─────────────> Stage ── beat(now) ──> picture + sound
//!   images ──── image(url) ────────────────────┘
//! ```
//!
//! All times are microseconds of one clock that never goes back. What an input does or does not do moves nothing but its
//! own tile and its own voice.

mod canvas;
mod clock;
mod lane;

use std::collections::BTreeMap;
use std::sync::Arc;

use canvas::{Layer, Painter};
use clock::Clock;
pub use lane::Kind;
use lane::Lane;

use crate::picture::Picture;
use crate::scene::Scene;
use crate::sound::Mix;

/// Microseconds.
pub type Micros = i64;
/// A second.
pub const SECOND: Micros = 1_000_000;

/// What one beat gives.
#[derive(Debug)]
pub struct Beat {
    /// Counts beats at the rate of the scene; those that came too late are left out. Begins anew with
    /// [`Beat::epoch`].
    pub number: u64,
    /// Another one for each change of rates.
    pub epoch: u64,
    /// Time of the picture on the time line of the output.
    pub at: Micros,
    /// The picture, where one is composed.
    pub picture: Option<Arc<Picture>>,
    /// Time of the first sample, in samples since the epoch began.
    pub sound_at: u64,
    /// The sound since the last beat, interleaved.
    pub sound: Vec<i16>,
}

/// Composes.
#[derive(Debug)]
pub struct Stage {
    scene: Scene,
    clock: Clock,
    lanes: BTreeMap<String, Lane>,
    images: BTreeMap<String, Arc<Picture>>,
    painter: Painter,
    skipped: u64,
}

impl Stage {
    /// A stage whose first beat is due now. The scene has been checked.
    #[must_use]
    pub fn new(scene: Scene, now: Micros) -> Self {
        let clock = Clock::new(scene.fps, scene.sound.sample_rate, now);
        let mut stage = Self {
            scene,
            clock,
            lanes: BTreeMap::new(),
            images: BTreeMap::new(),
            painter: Painter::default(),
            skipped: 0,
        };
        stage.follow();
        stage
    }

    /// What is shown.
    #[must_use]
    pub fn scene(&self) -> &Scene {
        &self.scene
    }

    /// Shows another scene from the next beat on. It has been checked.
    pub fn update(&mut self, scene: Scene) {
        let sound = |scene: &Scene| (scene.sound.sample_rate, scene.sound.channels);
        let has_other_sound = sound(&scene) != sound(&self.scene);
        if has_other_sound || scene.fps != self.scene.fps {
            self.clock.retime(scene.fps, scene.sound.sample_rate);
        }
        if has_other_sound {
            // What was decoded has another rate.
            self.lanes.clear();
        }
        self.scene = scene;
        self.follow();
    }

    /// An image of the scene is there. Others are not kept.
    pub fn image(&mut self, url: &str, image: Arc<Picture>) {
        if self.scene.images.iter().any(|wanted| wanted.url == url) {
            self.images.insert(url.to_owned(), image);
        }
    }

    /// A picture of an input came, of this time of the input.
    pub fn picture(&mut self, now: Micros, input: &str, time: Micros, picture: Arc<Picture>) {
        if let Some(lane) = self.lanes.get_mut(input) {
            lane.picture(now, time, picture);
        }
    }

    /// A sound of an input came; the time of its first sample counts samples of the scene's rate.
    pub fn sound(&mut self, now: Micros, input: &str, time: i64, samples: &[i16]) {
        if let Some(lane) = self.lanes.get_mut(input) {
            lane.sound(now, time, samples);
        }
    }

    /// A picture of an input came that is passed on as it is.
    pub fn passing(&mut self, now: Micros, input: &str, time: Micros) {
        if let Some(lane) = self.lanes.get_mut(input) {
            lane.observe(now, Kind::Picture, time);
        }
    }

    /// Where a time of an input is on the time line of the output, once that is known.
    #[must_use]
    pub fn output_time(&self, input: &str, time: Micros) -> Option<Micros> {
        let offset = self.lanes.get(input)?.offset()?;
        Some(time.saturating_add(offset).saturating_sub(self.clock.shift()))
    }

    /// An input begins anew: its times have nothing to do with those before. What it shows stays for a while.
    pub fn restarted(&mut self, input: &str) {
        if let Some(lane) = self.lanes.get_mut(input) {
            lane.restart();
        }
    }

    /// When the next beat is due.
    #[must_use]
    pub fn due(&self) -> Micros {
        self.clock.due()
    }

    /// Beats that were left out because their time had passed.
    #[must_use]
    pub fn skipped(&self) -> u64 {
        self.skipped
    }

    /// Composes what is due, if anything is.
    pub fn beat(&mut self, now: Micros) -> Option<Beat> {
        let tick = self.clock.tick(now)?;
        self.skipped += tick.skipped;
        let mut mix = Mix::silence(tick.samples * self.scene.sound.channels as usize);
        // Where the sound begins, in samples of the clock that arrivals are told by.
        let from = tick.wall_sample;
        for (name, lane) in &mut self.lanes {
            if self.scene.voices.contains(name) {
                lane.mix(now, from, tick.samples, &mut mix);
            } else {
                lane.pass(from, tick.samples);
            }
        }
        let interval = SECOND / Micros::from(self.scene.fps.max(1));
        for lane in self.lanes.values_mut() {
            lane.advance(now, tick.wall, interval);
        }
        let picture = self.scene.has_canvas().then(|| {
            let layers = self.layers();
            self.painter.paint(&self.scene, &layers)
        });
        Some(Beat {
            number: tick.number,
            epoch: tick.epoch,
            at: tick.at,
            picture: picture.flatten(),
            sound_at: tick.sound_at,
            sound: mix.finish(),
        })
    }

    /// What is seen, the rearmost first: images without depth, then by depth, of which images come first.
    fn layers(&self) -> Vec<Layer> {
        let mut layers: Vec<(Option<u32>, Layer)> = Vec::new();
        for image in &self.scene.images {
            let is_hidden = image.unless.as_ref().is_some_and(|input| self.is_seen(input));
            if let Some(picture) = self.images.get(&image.url).filter(|_| !is_hidden) {
                let layer =
                    Layer { picture: picture.clone(), rect: image.rect, adaption: image.adaption };
                layers.push((image.z, layer));
            }
        }
        for tile in &self.scene.tiles {
            if let Some(picture) = self.lanes.get(&tile.input).and_then(Lane::shown) {
                let layer =
                    Layer { picture: picture.clone(), rect: tile.rect, adaption: tile.adaption };
                layers.push((Some(tile.z), layer));
            }
        }
        // Stable: of equals the later is in front.
        layers.sort_by_key(|(depth, _)| *depth);
        layers.into_iter().map(|(_, layer)| layer).collect()
    }

    /// Whether an input has a picture at the moment.
    fn is_seen(&self, input: &str) -> bool {
        self.lanes.get(input).is_some_and(|lane| lane.shown().is_some())
    }

    /// Lanes and images are those of the scene.
    fn follow(&mut self) {
        let inputs = self.scene.inputs();
        self.lanes.retain(|name, _| inputs.contains(name.as_str()));
        let sound = self.scene.sound;
        for name in inputs {
            if !self.lanes.contains_key(name) {
                let lane = Lane::new(sound.sample_rate, sound.channels);
                self.lanes.insert(name.to_owned(), lane);
            }
        }
        let wanted = &self.scene.images;
        self.images.retain(|url, _| wanted.iter().any(|image| image.url == *url));
    }
}
