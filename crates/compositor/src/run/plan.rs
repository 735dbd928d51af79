//! The parameters of decoders and encoders for a scene.
//!
//! In: a scene. Out: numbers. Deliberately absent: everything else.
//!
//! The parameters change as rarely as possible, because a change restarts a process: the place and the size of a tile
//! affect none of them.

use crate::child::{EncoderOptions, VideoOptions};
use crate::input::Wanted;
use crate::scene::Scene;

/// Sides and frame rates of decoded pictures are limited to one of these steps.
const SIDES: [u32; 2] = [1280, 1920];
const RATES: [u32; 2] = [30, 60];

pub(super) fn wanted(scene: &Scene, input: &str) -> Wanted {
    let side = scene.canvas.width.max(scene.canvas.height);
    Wanted {
        pictures: scene.has_canvas() && scene.tiles.iter().any(|tile| tile.input == input),
        passing: scene.passed() == Some(input),
        rate: scene.sound.sample_rate,
        channels: scene.sound.channels,
        longest_side: if side > SIDES[0] { SIDES[1] } else { SIDES[0] },
        fps: if scene.fps > RATES[0] { RATES[1] } else { RATES[0] },
    }
}

pub(super) fn encoding(scene: &Scene) -> EncoderOptions {
    let picture = scene.has_canvas().then_some(VideoOptions {
        width: scene.canvas.width,
        height: scene.canvas.height,
        fps: scene.fps,
        kbps: scene.video_kbps,
    });
    EncoderOptions {
        picture,
        rate: scene.sound.sample_rate,
        channels: scene.sound.channels,
        sound_kbps: scene.sound.kbps,
    }
}
