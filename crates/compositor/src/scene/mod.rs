//! The layout and sound of the output, as resolved by the parent process.
//!
//! In: JSON of a job. Out: a [`Scene`] in which every number is in its range ([`Scene::check`]). Deliberately absent:
//! why a member is shown; pixels; addresses.

mod place;

pub use place::{Placement, place};

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// Maximum side of a canvas, in pixels.
pub const MAX_SIDE: u32 = 1920;
/// Maximum number of pixels of a canvas.
pub const MAX_PIXELS: u64 = 1920 * 1080;
/// Minimum side of a canvas that has a picture, in pixels.
pub const MIN_SIDE: u32 = 16;
/// Maximum number of inputs of a job.
pub const MAX_INPUTS: usize = 32;
/// Maximum number of tiles on a canvas.
pub const MAX_TILES: usize = 16;
/// Maximum number of images on a canvas.
pub const MAX_IMAGES: usize = 8;
/// Maximum depth.
pub const MAX_Z: u32 = 100;
/// Maximum length of an input's id, in bytes.
pub const MAX_ID: usize = 64;

/// A rectangle of the canvas, in pixels. All of its numbers are even, because colours are stored for squares of four
/// pixels.
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

/// How a picture is fitted into a rectangle of another aspect ratio.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Adaption {
    /// The whole picture is visible, with bars in the colour of the canvas.
    Fit,
    /// The picture fills the rectangle; the excess is cut off on both sides.
    #[default]
    Crop,
    /// The whole picture fills the rectangle, distorted.
    Stretch,
}

/// Size and colour of the output picture.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Canvas {
    /// Width in pixels, even. Width and height are 0 if there is sound only.
    pub width: u32,
    /// Height in pixels, even.
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
    /// Id of the input.
    pub input: String,
    /// Its place on the canvas.
    pub rect: Rect,
    /// How it is fitted into the rectangle.
    #[serde(default)]
    pub adaption: Adaption,
    /// Depth: higher values are in front. Of two tiles with the same depth, the later in the list is in front.
    #[serde(default)]
    pub z: u32,
}

/// An image on the canvas.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Image {
    /// The URL of the image. It may contain a secret.
    pub url: String,
    /// Its place on the canvas.
    pub rect: Rect,
    /// How it is fitted into the rectangle.
    #[serde(default)]
    pub adaption: Adaption,
    /// Its depth among the tiles; it is behind tiles of the same depth. `None` puts it behind everything that has a
    /// depth.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub z: Option<u32>,
    /// If set, the image is shown only while this input has no picture.
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
    /// Bit rate in kbit/s, 10..=192.
    pub kbps: u32,
    /// Sample rate in Hz: 32000, 44100 or 48000.
    pub sample_rate: u32,
    /// Number of channels: 1 or 2.
    pub channels: u32,
    /// 0 is LC-AAC. 1 is HE-AAC, which is accepted but encoded as LC.
    #[serde(default)]
    pub codec_profile: u32,
}

/// The layout and sound of the output.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Scene {
    /// Size and colour of the output picture.
    pub canvas: Canvas,
    /// Frame rate in pictures per second, 5..=60.
    pub fps: u32,
    /// Video bit rate in kbit/s, 50..=20000.
    pub video_kbps: u32,
    /// How the sound is encoded.
    pub sound: Sound,
    /// The inputs that are shown.
    #[serde(default)]
    pub tiles: Vec<Tile>,
    /// Ids of the inputs that are mixed into the sound.
    #[serde(default)]
    pub voices: Vec<String>,
    /// Images behind and between the tiles; the rearmost is first.
    #[serde(default)]
    pub images: Vec<Image>,
    /// Whether the video of the only tile is passed through unchanged, while there is a tile. The canvas is then
    /// unused.
    #[serde(default)]
    pub pass_through: bool,
}

/// Why a scene is invalid.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum BadScene {
    /// The canvas is too large or too small, has odd sides or an invalid colour, or a sound-only scene shows something.
    #[error("the canvas has no such size")]
    Canvas,
    /// A rectangle is odd, empty or exceeds the canvas.
    #[error("a rectangle is odd, empty or exceeds the canvas")]
    Rect,
    /// A depth, a length or a count exceeds its maximum.
    #[error("there is too much of something")]
    TooMuch,
    /// An encoding parameter is out of range.
    #[error("a number of the encoding is out of range")]
    Encoding,
    /// Pass-through requires a single tile and no images.
    #[error("only a single picture can be passed on as it is")]
    PassThrough,
}

impl Scene {
    /// Checks that everything is in its range.
    ///
    /// # Errors
    /// [`BadScene`] says what is invalid.
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
        if self.pass_through && (self.tiles.len() > 1 || !self.images.is_empty()) {
            return Err(BadScene::PassThrough);
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
        Ok(())
    }

    /// Ids of the inputs that are shown or heard.
    #[must_use]
    pub fn inputs(&self) -> BTreeSet<&str> {
        let seen = self.tiles.iter().map(|tile| tile.input.as_str());
        seen.chain(self.voices.iter().map(String::as_str)).collect()
    }

    /// Whether a picture is composed: neither for sound only nor for pass-through.
    #[must_use]
    pub fn has_canvas(&self) -> bool {
        !self.canvas.is_sound_only() && !self.pass_through
    }

    /// The input whose video is passed through.
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
        let tiles = vec![scene().tiles[0].clone(); 2];
        let passed = Scene { pass_through: true, tiles, ..quiet.clone() };
        assert_eq!(passed.check(), Err(BadScene::PassThrough));
        assert!(!quiet.has_canvas() && scene().has_canvas());
    }
}
