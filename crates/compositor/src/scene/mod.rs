//! What is to be seen and heard, as whoever gives the orders has resolved it.
//!
//! In: JSON of a job. Out: a [`Scene`] whose every number is in its range ([`Scene::check`]). Absent: why somebody is
//! seen; pixels; addresses.

mod place;

pub use place::{Placement, place};

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// Longest side of a canvas, pixels.
pub const MAX_SIDE: u32 = 1920;
/// Most pixels of a canvas.
pub const MAX_PIXELS: u64 = 1920 * 1080;
/// Shortest side of a canvas that has a picture.
pub const MIN_SIDE: u32 = 16;
/// Most inputs of a job.
pub const MAX_INPUTS: usize = 32;
/// Most pictures of members on a canvas.
pub const MAX_TILES: usize = 16;
/// Most images on a canvas.
pub const MAX_IMAGES: usize = 8;
/// The greatest place in the order of depth.
pub const MAX_Z: u32 = 100;
/// Longest name of an input, bytes.
pub const MAX_ID: usize = 64;

/// A rectangle of the canvas. All of its numbers are even, as colours are kept for squares of four pixels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rect {
    /// Left edge.
    pub x: u32,
    /// Top edge.
    pub y: u32,
    /// Width.
    pub width: u32,
    /// Height.
    pub height: u32,
}

/// How a picture is fitted into a rectangle of another shape.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Adaption {
    /// All of it is seen, with bars in the colour of the canvas.
    Fit,
    /// The rectangle is full; what does not fit is cut off at both sides.
    #[default]
    Crop,
    /// All of it is seen and the rectangle is full; it is distorted.
    Stretch,
}

/// Size and colour of the whole picture.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Canvas {
    /// Even; 0 with a height of 0 where nothing is seen.
    pub width: u32,
    /// Even.
    pub height: u32,
    /// 65536 R + 256 G + B.
    #[serde(default)]
    pub color: u32,
}

impl Canvas {
    /// Whether there is sound only.
    #[must_use]
    pub fn is_sound_only(self) -> bool {
        self.width == 0 && self.height == 0
    }
}

/// The picture of an input on the canvas.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tile {
    /// Name of the input.
    pub input: String,
    /// Where it is.
    pub rect: Rect,
    /// How it is fitted in.
    #[serde(default)]
    pub adaption: Adaption,
    /// Higher in front; of equals the later in the list.
    #[serde(default)]
    pub z: u32,
}

/// An image on the canvas.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Image {
    /// Where it is fetched from. May hold a secret.
    pub url: String,
    /// Where it is.
    pub rect: Rect,
    /// How it is fitted in.
    #[serde(default)]
    pub adaption: Adaption,
    /// Its depth among the tiles, behind those of the same depth; absent: behind everything that has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub z: Option<u32>,
    /// It is seen only while this input has no picture.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unless: Option<String>,
}

impl std::fmt::Debug for Image {
    /// Without the URL.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Image").field("rect", &self.rect).finish_non_exhaustive()
    }
}

/// How the sound is encoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Sound {
    /// kbit/s, 10..=192.
    pub kbps: u32,
    /// 32000, 44100 or 48000 a second.
    pub sample_rate: u32,
    /// 1 or 2.
    pub channels: u32,
    /// 0 LC-AAC, 1 HE-AAC, which is taken down and encoded as LC.
    #[serde(default)]
    pub codec_profile: u32,
}

/// What is to be seen and heard.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Scene {
    /// The whole picture.
    pub canvas: Canvas,
    /// Pictures a second, 5..=60.
    pub fps: u32,
    /// Bit rate of the picture, kbit/s, 50..=20000.
    pub video_kbps: u32,
    /// How the sound is encoded.
    pub sound: Sound,
    /// Whose pictures are seen.
    #[serde(default)]
    pub tiles: Vec<Tile>,
    /// Names of the inputs that are heard.
    #[serde(default)]
    pub voices: Vec<String>,
    /// Images behind and between the tiles, the rearmost first.
    #[serde(default)]
    pub images: Vec<Image>,
    /// The picture of the only tile, while there is one, is passed on as it is, whatever the canvas.
    #[serde(default)]
    pub pass_through: bool,
}

/// What is wrong with a scene.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum BadScene {
    /// The canvas is too large, too small or odd.
    #[error("the canvas has no such size")]
    Canvas,
    /// A rectangle is odd, empty or exceeds the canvas.
    #[error("a rectangle is odd, empty or exceeds the canvas")]
    Rect,
    /// Something is too deep, too long or too many.
    #[error("there is too much of something")]
    TooMuch,
    /// A number that says how something is encoded is out of range.
    #[error("a number of the encoding is out of range")]
    Encoding,
    /// Only a single tile without images can be passed on.
    #[error("only a single picture can be passed on as it is")]
    PassThrough,
}

impl Scene {
    /// Whether all of it is in its range.
    ///
    /// # Errors
    /// [`BadScene`].
    pub fn check(&self) -> Result<(), BadScene> {
        let Canvas { width, height, color } = self.canvas;
        let is_side = |side: u32| (MIN_SIDE..=MAX_SIDE).contains(&side) && side.is_multiple_of(2);
        let is_picture =
            is_side(width) && is_side(height) && u64::from(width) * u64::from(height) <= MAX_PIXELS;
        if !(is_picture || self.canvas.is_sound_only()) || color > 0x00FF_FFFF {
            return Err(BadScene::Canvas);
        }
        let Sound { kbps, sample_rate, channels, codec_profile } = self.sound;
        let sound = (10..=192).contains(&kbps)
            && [32_000, 44_100, 48_000].contains(&sample_rate)
            && (1..=2).contains(&channels)
            && codec_profile <= 1;
        if !sound || !(5..=60).contains(&self.fps) || !(50..=20_000).contains(&self.video_kbps) {
            return Err(BadScene::Encoding);
        }
        let named = self.tiles.iter().map(|tile| &tile.input);
        let named = named.chain(&self.voices);
        let named = named.chain(self.images.iter().filter_map(|image| image.unless.as_ref()));
        if self.tiles.len() > MAX_TILES
            || self.images.len() > MAX_IMAGES
            || self.voices.len() > MAX_INPUTS
            || self.inputs().len() > MAX_INPUTS
            || named.clone().any(|name| name.is_empty() || name.len() > MAX_ID)
        {
            return Err(BadScene::TooMuch);
        }
        if self.canvas.is_sound_only() {
            let seen = !self.tiles.is_empty() || !self.images.is_empty();
            return if seen && !self.pass_through { Err(BadScene::Canvas) } else { Ok(()) };
        }
        let depths = self.tiles.iter().map(|tile| tile.z);
        if depths.chain(self.images.iter().filter_map(|image| image.z)).any(|z| z > MAX_Z) {
            return Err(BadScene::TooMuch);
        }
        let rects = self.tiles.iter().map(|tile| tile.rect);
        if !rects.chain(self.images.iter().map(|image| image.rect)).all(|rect| self.holds(rect)) {
            return Err(BadScene::Rect);
        }
        if self.pass_through && (self.tiles.len() > 1 || !self.images.is_empty()) {
            return Err(BadScene::PassThrough);
        }
        Ok(())
    }

    /// Names of the inputs that are seen or heard.
    #[must_use]
    pub fn inputs(&self) -> BTreeSet<&str> {
        let seen = self.tiles.iter().map(|tile| tile.input.as_str());
        seen.chain(self.voices.iter().map(String::as_str)).collect()
    }

    /// Whether a picture is composed: not for sound only, nor where one is passed on.
    #[must_use]
    pub fn has_canvas(&self) -> bool {
        !self.canvas.is_sound_only() && !self.pass_through
    }

    /// The input whose picture is passed on as it is.
    #[must_use]
    pub fn passed(&self) -> Option<&str> {
        let tile = self.tiles.first().filter(|_| self.pass_through)?;
        Some(&tile.input)
    }

    fn holds(&self, rect: Rect) -> bool {
        let within = |from: u32, length: u32, whole: u32| {
            length > 0
                && from.is_multiple_of(2)
                && length.is_multiple_of(2)
                && from.checked_add(length).is_some_and(|end| end <= whole)
        };
        within(rect.x, rect.width, self.canvas.width)
            && within(rect.y, rect.height, self.canvas.height)
    }
}

#[cfg(test)]
mod tests {
    //! Proves no rule of the protocol: which scenes are taken.

    use super::*;

    fn scene() -> Scene {
        let rect = Rect { x: 0, y: 0, width: 640, height: 360 };
        Scene {
            canvas: Canvas { width: 1280, height: 720, color: 0 },
            fps: 15,
            video_kbps: 1000,
            sound: Sound { kbps: 64, sample_rate: 48_000, channels: 2, codec_profile: 1 },
            tiles: vec![Tile { input: "a".into(), rect, adaption: Adaption::Fit, z: 0 }],
            voices: vec!["a".into(), "b".into()],
            images: Vec::new(),
            pass_through: false,
        }
    }

    #[test]
    fn a_scene_is_checked_as_a_whole() {
        assert_eq!(scene().check(), Ok(()));
        let wrong = |change: fn(&mut Scene)| {
            let mut scene = scene();
            change(&mut scene);
            scene.check().unwrap_err()
        };
        assert_eq!(wrong(|s| s.canvas.width = 1281), BadScene::Canvas);
        assert_eq!(wrong(|s| s.canvas.height = 1920), BadScene::Canvas);
        assert_eq!(wrong(|s| s.canvas.width = 0), BadScene::Canvas);
        assert_eq!(wrong(|s| s.tiles[0].rect.x = 641), BadScene::Rect);
        assert_eq!(wrong(|s| s.tiles[0].rect.x = 642), BadScene::Rect);
        assert_eq!(wrong(|s| s.tiles[0].rect.height = 0), BadScene::Rect);
        assert_eq!(wrong(|s| s.tiles[0].rect.x = u32::MAX - 1), BadScene::Rect);
        assert_eq!(wrong(|s| s.tiles[0].z = 101), BadScene::TooMuch);
        assert_eq!(wrong(|s| s.voices = vec!["x".repeat(65)]), BadScene::TooMuch);
        assert_eq!(wrong(|s| s.tiles = vec![s.tiles[0].clone(); 17]), BadScene::TooMuch);
        assert_eq!(wrong(|s| s.fps = 61), BadScene::Encoding);
        assert_eq!(wrong(|s| s.sound.sample_rate = 22_050), BadScene::Encoding);
        assert_eq!(
            wrong(|s| {
                s.pass_through = true;
                s.tiles.push(s.tiles[0].clone())
            }),
            BadScene::PassThrough
        );
        let quiet = Scene {
            canvas: Canvas { width: 0, height: 0, color: 0 },
            tiles: Vec::new(),
            ..scene()
        };
        assert_eq!(quiet.check(), Ok(()));
        assert!(!quiet.has_canvas() && scene().has_canvas());
    }
}
