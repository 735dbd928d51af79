//! Media that flashes and beeps, and the measurement of the offset between picture and sound. In: a colour, a tone, and
//! the media of a receiver. Out: files, made once by ffmpeg; how much later each flash comes than its beep, by the
//! stream's own clock. Deliberately absent: pushing and receiving.

use std::ffi::OsStr;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context, Result, ensure};
use tokio::process::Command;

use crate::decoding::{Media, RATE, loudness};

/// The video encoding of the tests, as of a simple camera.
const SIMPLE: &str = "-c:v libx264 -preset ultrafast -tune zerolatency -profile:v baseline \
    -pix_fmt yuv420p -sc_threshold 0 -color_range tv -colorspace smpte170m";
/// The maximum offset between a flash and its beep, in milliseconds; flashes come once per second.
const NEAR_MS: i64 = 500;
/// Minimum number of flashes for a median.
const FEWEST: usize = 4;

/// A media file, made once by an ffmpeg with these arguments.
///
/// # Errors
/// ffmpeg is missing or fails.
pub async fn media_file(
    name: &str,
    arguments: impl IntoIterator<Item = impl AsRef<OsStr>>,
) -> Result<PathBuf> {
    let directory = crate::process::target_dir().join("test-media");
    let path = directory.join(name);
    if path.exists() {
        return Ok(path);
    }
    std::fs::create_dir_all(&directory)?;
    // The file is complete or absent, even if two tests or processes make it at the same time.
    static MAKING: AtomicU32 = AtomicU32::new(0);
    let number = MAKING.fetch_add(1, Ordering::Relaxed);
    let part = directory.join(format!("{}-{number}.{name}", std::process::id()));
    let made = Command::new("ffmpeg")
        .args(["-v", "error", "-nostdin", "-y"])
        .args(arguments)
        .arg(&part)
        .stdin(Stdio::null())
        .status()
        .await
        .context("ffmpeg")?;
    ensure!(made.success(), "ffmpeg cannot make {name}: {made}");
    std::fs::rename(&part, &path)?;
    Ok(path)
}

/// A minute of 640x360 at 25 frames per second in one colour. Along the lower edge a white bar of 16 pixels moves 8
/// pixels to the right per frame. In the first 200 ms of each second the upper left quarter is white, and a beep
/// sounds.
///
/// # Errors
/// As for [`media_file`].
pub async fn flashing_file(color: &str, tone: u32, beep: u32) -> Result<PathBuf> {
    let picture = format!(
        "color=c={color}:size=640x360:rate=25[back];color=c=white:size=16x40:rate=25[bar];\
         [back][bar]overlay=x='mod(n*8,640)':y=320,\
         drawbox=x=0:y=0:w=320:h=180:c=white:t=fill:enable='lt(mod(t,1),0.2)'[v];\
         aevalsrc='0.1*sin(2*PI*{tone}*t)+0.4*lt(mod(t,1),0.2)*sin(2*PI*{beep}*t)':s=44100[a]"
    );
    let arguments = ["-filter_complex", &picture].into_iter();
    let arguments = arguments.chain("-map [v] -map [a] -t 60 -g 25".split(' '));
    let arguments = arguments.chain(SIMPLE.split_whitespace());
    let name = format!("flash-{color}-{tone}-{beep}.flv");
    media_file(&name, arguments.chain("-c:a aac -b:a 96k".split(' '))).await
}

/// A file with the given picture and sound sources of ffmpeg, in the tests' encoding, modified by `arguments`.
///
/// # Errors
/// As for [`media_file`].
pub async fn encoded(name: &str, picture: &str, sound: &str, arguments: &str) -> Result<PathBuf> {
    let inputs = ["-f", "lavfi", "-i", picture, "-f", "lavfi", "-i", sound].into_iter();
    let all = inputs.chain(SIMPLE.split_whitespace()).chain("-c:a aac".split(' '));
    media_file(name, all.chain(arguments.split_whitespace())).await
}

/// The flashes and beeps of one member, by the stream's own clock.
#[derive(Debug)]
pub struct Beacon {
    at: (u32, u32),
    beep: f64,
    flash: Option<bool>,
    sound: Option<bool>,
    flashes: Vec<i64>,
    beeps: Vec<i64>,
}

impl Beacon {
    /// Creates a beacon whose flash is visible at this place of the canvas and whose beep has this frequency.
    #[must_use]
    pub fn new(at: (u32, u32), beep: f64) -> Self {
        let (flashes, beeps) = (Vec::new(), Vec::new());
        Beacon { at, beep, flash: None, sound: None, flashes, beeps }
    }

    /// Processes the next item.
    pub fn observe(&mut self, media: &Media) {
        match media {
            Media::Frame(frame) => {
                let is_white = frame.picture.at(self.at.0, self.at.1).y > 200;
                if is_white && self.flash.replace(is_white) == Some(false) {
                    self.flashes.push(frame.time);
                }
                self.flash = Some(is_white);
            }
            Media::Sound(sound) => {
                // Windows of 8 ms, which contain whole periods of a beep.
                for (at, window) in (0..).zip(sound.samples.chunks_exact(RATE / 125)) {
                    let is_loud = loudness(window, self.beep) > 2_000.0;
                    if is_loud && self.sound.replace(is_loud) == Some(false) {
                        self.beeps.push(sound.time + 8 * at);
                    }
                    self.sound = Some(is_loud);
                }
            }
        }
    }

    /// The time of each flash, and how much later it was than its beep, in milliseconds.
    #[must_use]
    pub fn offsets(&self) -> Vec<(i64, i64)> {
        let nearest = self.flashes.iter().filter_map(|flash| {
            let offsets = self.beeps.iter().map(|beep| flash - beep);
            let offset = offsets.min_by_key(|offset| offset.abs())?;
            (offset.abs() < NEAR_MS).then_some((*flash, offset))
        });
        nearest.collect()
    }

    /// The median of how much later a flash comes than its beep, in milliseconds.
    ///
    /// # Errors
    /// There are too few flashes.
    pub fn offset(&self) -> Result<i64> {
        median(self.offsets().into_iter().map(|(_, offset)| offset))
            .with_context(|| format!("flashes {:?}, beeps {:?}", self.flashes, self.beeps))
    }
}

/// The median; `None` if there are too few values.
pub fn median(offsets: impl IntoIterator<Item = i64>) -> Option<i64> {
    let mut offsets: Vec<i64> = offsets.into_iter().collect();
    offsets.sort_unstable();
    (offsets.len() >= FEWEST).then(|| offsets[offsets.len() / 2])
}

#[cfg(test)]
mod tests {
    //! Proves no rule of the protocol: the measure of the tests.

    use lianmai_compositor::picture::{Picture, Yuv};

    use super::*;
    use crate::decoding::{Frame, Sound};

    #[test]
    fn a_flash_is_measured_against_its_own_beep() {
        let mut beacon = Beacon::new((4, 4), 1_000.0);
        for step in 0..600_i64 {
            let time = step * 10;
            let color = if time % 1_000 < 200 { 0xFF_FFFF } else { 0 };
            let picture = Picture::filled(16, 16, Yuv::from_rgb(color)).unwrap();
            beacon.observe(&Media::Frame(Frame { time, picture }));
        }
        for step in 0..750_i64 {
            let time = step * 8;
            // The beep starts 80 ms before the flash.
            let is_loud = (time + 80) % 1_000 < 200;
            let wave = |at: usize| (at as f64 * std::f64::consts::TAU / 16.0).sin() * 9_000.0;
            let samples = (0..RATE / 125).map(|at| if is_loud { wave(at) as i16 } else { 0 });
            beacon.observe(&Media::Sound(Sound { time, samples: samples.collect() }));
        }
        assert_eq!(beacon.offsets().len(), 5);
        assert_eq!(beacon.offset().unwrap(), 80);
        assert!(Beacon::new((0, 0), 1_000.0).offset().is_err());
    }
}
