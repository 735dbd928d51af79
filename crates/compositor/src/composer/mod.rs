//! Composition: all decisions about the output, without I/O and without a clock.
//!
//! In: scenes, decoded pictures and sound with their times, images, and the current time. Out: at each frame one picture
//! and the sound since the last one. Deliberately absent: the sources and receivers of media; waiting for the next
//! frame.
//!
//! ```text
//!   decoders ── picture(), sound() ──> JitterBuffer ──┐
//!   orders ──── update(scene) ────────────────────> Composer ── compose(now) ──> picture + sound
//!   images ──── image(url) ───────────────────────────┘
//! ```
//!
//! All times are microseconds of one monotonic clock. An input affects only its own tile and its own sound.

mod canvas;
mod clock;
mod jitter_buffer;

use std::collections::BTreeMap;
use std::sync::Arc;

use canvas::{Layer, Painter};
use clock::Clock;
use jitter_buffer::JitterBuffer;
pub use jitter_buffer::TrackKind;

use crate::picture::Picture;
use crate::scene::Scene;
use crate::sound::Mix;

/// Time in microseconds.
pub type Micros = i64;
/// One second.
pub const SECOND: Micros = 1_000_000;

/// The output of one frame.
#[derive(Debug)]
pub struct ComposedFrame {
    /// Number of the frame at the frame rate of the scene; skipped frames count, too. It starts again with each
    /// [`ComposedFrame::epoch`].
    pub number: u64,
    /// Number of rate changes before the frame.
    pub epoch: u64,
    /// Time of the picture on the time line of the output.
    pub at: Micros,
    /// The picture, if one is composed.
    pub picture: Option<Arc<Picture>>,
    /// Position of the first sample, in samples since the epoch began.
    pub sound_at: u64,
    /// The sound since the last frame, as interleaved samples.
    pub sound: Vec<i16>,
}

/// The composition of one run.
#[derive(Debug)]
pub struct Composer {
    scene: Scene,
    clock: Clock,
    buffers: BTreeMap<String, JitterBuffer>,
    images: BTreeMap<String, Arc<Picture>>,
    painter: Painter,
    skipped: u64,
}

impl Composer {
    /// Creates a composer whose first frame is due now. The scene must be valid.
    #[must_use]
    pub fn new(scene: Scene, now: Micros) -> Self {
        let clock = Clock::new(scene.fps, scene.sound.sample_rate, now);
        let mut composer = Self {
            scene,
            clock,
            buffers: BTreeMap::new(),
            images: BTreeMap::new(),
            painter: Painter::default(),
            skipped: 0,
        };
        composer.follow();
        composer
    }

    /// The present scene.
    #[must_use]
    pub fn scene(&self) -> &Scene {
        &self.scene
    }

    /// Changes the scene from the next frame on. The scene must be valid.
    pub fn update(&mut self, scene: Scene) {
        let sound = |scene: &Scene| (scene.sound.sample_rate, scene.sound.channels);
        let has_other_sound = sound(&scene) != sound(&self.scene);
        if has_other_sound || scene.fps != self.scene.fps {
            self.clock.retime(scene.fps, scene.sound.sample_rate);
        }
        if has_other_sound {
            // Samples that were decoded before have another format.
            self.buffers.clear();
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

    /// Adds a picture of an input, with the input's time.
    pub fn picture(&mut self, now: Micros, input: &str, time: Micros, picture: Arc<Picture>) {
        if let Some(buffer) = self.buffers.get_mut(input) {
            buffer.picture(now, time, picture);
        }
    }

    /// Adds sound of an input. The time of its first sample counts samples at the scene's rate.
    pub fn sound(&mut self, now: Micros, input: &str, time: i64, samples: &[i16]) {
        if let Some(buffer) = self.buffers.get_mut(input) {
            buffer.sound(now, time, samples);
        }
    }

    /// Records the arrival of a picture that is passed through.
    pub fn passing(&mut self, now: Micros, input: &str, time: Micros) {
        if let Some(buffer) = self.buffers.get_mut(input) {
            buffer.observe(now, TrackKind::Picture, time);
        }
    }

    /// Converts a time of an input to the time line of the output; `None` until the offset is known.
    #[must_use]
    pub fn output_time(&self, input: &str, time: Micros) -> Option<Micros> {
        let offset = self.buffers.get(input)?.offset()?;
        Some(time.saturating_add(offset).saturating_sub(self.clock.shift()))
    }

    /// An input restarts: its next times are unrelated to those before. Its picture stays for a while.
    pub fn restarted(&mut self, input: &str) {
        if let Some(buffer) = self.buffers.get_mut(input) {
            buffer.restart();
        }
    }

    /// The time at which the next frame is due.
    #[must_use]
    pub fn due(&self) -> Micros {
        self.clock.due()
    }

    /// Number of frames that were skipped because their time had passed.
    #[must_use]
    pub fn skipped(&self) -> u64 {
        self.skipped
    }

    /// Composes the frame that is due, if there is one.
    pub fn compose(&mut self, now: Micros) -> Option<ComposedFrame> {
        let tick = self.clock.tick(now)?;
        self.skipped += tick.skipped;
        let mut mix = Mix::silence(tick.samples * self.scene.sound.channels as usize);
        // Position of the sound, in samples of the clock that times arrivals.
        let from = tick.wall_sample;
        for (name, buffer) in &mut self.buffers {
            if self.scene.voices.contains(name) {
                buffer.mix(now, from, tick.samples, &mut mix);
            } else {
                buffer.skip(from, tick.samples);
            }
        }
        let interval = SECOND / Micros::from(self.scene.fps.max(1));
        for buffer in self.buffers.values_mut() {
            buffer.advance(now, tick.wall, interval);
        }
        let picture = self.scene.has_canvas().then(|| {
            let layers = self.layers();
            self.painter.paint(&self.scene, &layers)
        });
        Some(ComposedFrame {
            number: tick.number,
            epoch: tick.epoch,
            at: tick.at,
            picture: picture.flatten(),
            sound_at: tick.sound_at,
            sound: mix.finish(),
        })
    }

    /// The layers, the rearmost first: images without depth, then everything by depth. At equal depth images come
    /// before tiles.
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
            if let Some(picture) = self.buffers.get(&tile.input).and_then(JitterBuffer::shown) {
                let layer =
                    Layer { picture: picture.clone(), rect: tile.rect, adaption: tile.adaption };
                layers.push((Some(tile.z), layer));
            }
        }
        // The sort is stable: of equals the later is in front.
        layers.sort_by_key(|(depth, _)| *depth);
        layers.into_iter().map(|(_, layer)| layer).collect()
    }

    /// Whether an input has a picture now.
    fn is_seen(&self, input: &str) -> bool {
        self.buffers.get(input).is_some_and(|buffer| buffer.shown().is_some())
    }

    /// Creates and removes buffers and images according to the scene.
    fn follow(&mut self) {
        let inputs = self.scene.inputs();
        self.buffers.retain(|name, _| inputs.contains(name.as_str()));
        let sound = self.scene.sound;
        for name in inputs {
            if !self.buffers.contains_key(name) {
                let buffer = JitterBuffer::new(sound.sample_rate, sound.channels);
                self.buffers.insert(name.to_owned(), buffer);
            }
        }
        let wanted = &self.scene.images;
        self.images.retain(|url, _| wanted.iter().any(|image| image.url == *url));
    }
}
