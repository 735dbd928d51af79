//! Named sizes with their frame rate and bit rate. Comes in: a name, or a canvas. Goes out: how the picture is
//! encoded.

use serde::{Deserialize, Serialize};

/// How the picture is encoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Encoding {
    /// Frames a second, 5..=60.
    pub fps: u32,
    /// kbit/s, 50..=20000.
    pub video_kbps: u32,
}

/// A size and how it is encoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Profile {
    /// Its name.
    pub name: &'static str,
    /// Pixels.
    pub width: u32,
    /// Pixels.
    pub height: u32,
    /// Frame rate and bit rate.
    pub encoding: Encoding,
}

const fn profile(
    name: &'static str,
    width: u32,
    height: u32,
    fps: u32,
    video_kbps: u32,
) -> Profile {
    Profile { name, width, height, encoding: Encoding { fps, video_kbps } }
}

impl Profile {
    /// Every profile, the smallest first.
    pub const ALL: [Profile; 5] = [
        profile("180p", 320, 180, 15, 200),
        profile("360p", 640, 360, 15, 600),
        profile("480p", 854, 480, 25, 1_000),
        profile("720p", 1280, 720, 25, 1_800),
        profile("1080p", 1920, 1080, 25, 3_500),
    ];

    /// The profile of that name.
    #[must_use]
    pub fn named(name: &str) -> Option<Profile> {
        Profile::ALL.into_iter().find(|profile| profile.name == name)
    }

    /// The smallest profile with at least as many pixels, or the largest: the default encoding of a canvas.
    #[must_use]
    pub fn for_canvas(width: u32, height: u32) -> Profile {
        let pixels = |width: u32, height: u32| u64::from(width) * u64::from(height);
        let wanted = pixels(width, height);
        let mut fitting = Profile::ALL.into_iter();
        let largest = Profile::ALL[Profile::ALL.len() - 1];
        fitting.find(|p| pixels(p.width, p.height) >= wanted).unwrap_or(largest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Proves TSK-4.
    #[test]
    fn tsk_4_a_canvas_is_encoded_as_the_next_larger_profile() {
        let name = |width, height| Profile::for_canvas(width, height).name;
        assert_eq!(name(0, 0), "180p");
        assert_eq!((name(640, 360), name(360, 640), name(642, 360)), ("360p", "360p", "480p"));
        assert_eq!(
            (name(1280, 720), name(1920, 1080), name(1920, 1920)),
            ("720p", "1080p", "1080p")
        );
        for known in Profile::ALL {
            assert_eq!(Profile::named(known.name), Some(known));
            assert_eq!(Profile::for_canvas(known.width, known.height), known);
        }
        assert_eq!(Profile::named("4k"), None);
    }
}
