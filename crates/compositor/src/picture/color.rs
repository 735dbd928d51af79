//! Colours as brightness and two colour differences.
//!
//! In: red, green and blue. Out: BT.601 in limited range, which encoders use if nothing is said about colours.
//! Deliberately absent: the inverse conversion.

/// One colour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Yuv {
    /// Brightness (Y), 16..=235.
    pub y: u8,
    /// Blue difference (U), 16..=240.
    pub u: u8,
    /// Red difference (V), 16..=240.
    pub v: u8,
}

impl Yuv {
    /// Black.
    pub const BLACK: Yuv = Yuv { y: 16, u: 128, v: 128 };

    /// The colour of `0xRRGGBB`.
    #[must_use]
    pub const fn from_rgb(rgb: u32) -> Yuv {
        let [_, r, g, b] = rgb.to_be_bytes();
        Yuv::of(r, g, b)
    }

    /// Converts a colour from its red, green and blue components.
    #[must_use]
    pub const fn of(r: u8, g: u8, b: u8) -> Yuv {
        let (r, g, b) = (r as i32, g as i32, b as i32);
        // The factors of BT.601 times 2^16; halves are rounded.
        let y = (16_829 * r + 33_039 * g + 6_416 * b + 32_768) >> 16;
        let u = (-9_714 * r - 19_071 * g + 28_784 * b + 32_768) >> 16;
        let v = (28_784 * r - 24_103 * g - 4_681 * b + 32_768) >> 16;
        Yuv { y: byte(y + 16), u: byte(u + 128), v: byte(v + 128) }
    }
}

const fn byte(value: i32) -> u8 {
    if value < 0 {
        0
    } else if value > 255 {
        255
    } else {
        value as u8
    }
}

#[cfg(test)]
mod tests {
    //! Proves no rule of the protocol: colours.

    use super::*;

    #[test]
    fn well_known_colors() {
        for (rgb, y, u, v) in [
            (0x00_0000, 16, 128, 128),
            (0xFF_FFFF, 235, 128, 128),
            (0xFF_0000, 81, 90, 240),
            (0x00_FF00, 145, 54, 34),
            (0x00_00FF, 41, 240, 110),
        ] {
            assert_eq!(Yuv::from_rgb(rgb), Yuv { y, u, v }, "{rgb:06x}");
        }
    }
}
