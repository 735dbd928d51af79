//! Scaling of a part of a picture.
//!
//! In: a picture, a part of it, sides. Out: a picture with these sides. Deliberately absent: placement.

use fast_image_resize::images::{TypedCroppedImage, TypedImage, TypedImageRef};
use fast_image_resize::pixels::U8;
use fast_image_resize::{FilterType, ResizeAlg, ResizeOptions, Resizer};

use super::{Picture, bytes};
use crate::scene::Rect;

/// Scales pictures, and reuses the memory that this needs.
#[derive(Debug, Default)]
pub struct Scaler {
    resizer: Resizer,
}

impl Scaler {
    /// Scales a part of a picture; `None` if the part or the sides are invalid.
    pub fn scale(
        &mut self,
        picture: &Picture,
        from: Rect,
        width: u32,
        height: u32,
    ) -> Option<Picture> {
        let within = |at: u32, length: u32, whole: u32| {
            length > 0 && at.checked_add(length).is_some_and(|end| end <= whole)
        };
        if !within(from.x, from.width, picture.width)
            || !within(from.y, from.height, picture.height)
        {
            return None;
        }
        let mut scaled = Picture { width, height, data: vec![0; bytes(width, height)?] };
        if (from.width, from.height) == (width, height) {
            copy(picture, from, &mut scaled);
            return Some(scaled);
        }
        for plane in 0..3 {
            self.plane(plane, picture, from, &mut scaled)?;
        }
        Some(scaled)
    }

    fn plane(
        &mut self,
        plane: usize,
        picture: &Picture,
        from: Rect,
        scaled: &mut Picture,
    ) -> Option<()> {
        let halved = |side: u32| if plane == 0 { side } else { side / 2 };
        let source: TypedImageRef<'_, U8> = TypedImageRef::from_buffer(
            halved(picture.width),
            halved(picture.height),
            picture.plane(plane),
        )
        .ok()?;
        // Treated as a separate image, so that pixels around it have no effect.
        let [x, y, width, height] = [from.x, from.y, from.width, from.height].map(halved);
        let source = TypedCroppedImage::new(source, x, y, width, height).ok()?;
        let (width, height) = (halved(scaled.width), halved(scaled.height));
        let mut target: TypedImage<'_, U8> =
            TypedImage::from_buffer(width, height, scaled.plane_mut(plane)).ok()?;
        let options = ResizeOptions::new().resize_alg(ResizeAlg::Convolution(FilterType::Bilinear));
        // For one pixel type only: otherwise the library would be compiled for all of them.
        self.resizer.resize_typed(&source, &mut target, &options).ok()
    }
}

fn copy(picture: &Picture, from: Rect, target: &mut Picture) {
    for plane in 0..3 {
        let (width, _) = picture.side(plane);
        let (target_width, _) = target.side(plane);
        let halved = |side: u32| if plane == 0 { side as usize } else { side as usize / 2 };
        let (x, y) = (halved(from.x), halved(from.y));
        let rows = picture.plane(plane).chunks_exact(width).skip(y);
        for (row, from) in target.plane_mut(plane).chunks_exact_mut(target_width).zip(rows) {
            row.copy_from_slice(&from[x..x + target_width]);
        }
    }
}

#[cfg(test)]
mod tests {
    //! Proves no rule of the protocol: scaling.

    use super::*;
    use crate::picture::Yuv;

    const RED: Yuv = Yuv::from_rgb(0xFF_0000);
    const BLUE: Yuv = Yuv::from_rgb(0x00_00FF);

    fn rect(x: u32, y: u32, width: u32, height: u32) -> Rect {
        Rect { x, y, width, height }
    }

    /// Red on the left, blue on the right.
    fn halves() -> Picture {
        let mut picture = Picture::filled(64, 32, RED).unwrap();
        picture.fill(rect(32, 0, 32, 32), BLUE);
        picture
    }

    #[test]
    fn a_flat_color_stays_unchanged() {
        let mut scaler = Scaler::default();
        let flat = Picture::filled(64, 32, BLUE).unwrap();
        for (width, height) in [(2, 2), (6, 100), (640, 360), (64, 32)] {
            let scaled = scaler.scale(&flat, rect(0, 0, 64, 32), width, height).unwrap();
            assert_eq!(scaled, Picture::filled(width, height, BLUE).unwrap());
        }
    }

    #[test]
    fn a_part_holds_nothing_of_what_is_around_it() {
        let mut scaler = Scaler::default();
        for (part, color) in [(rect(0, 0, 32, 32), RED), (rect(32, 0, 32, 32), BLUE)] {
            for (width, height) in [(128, 90), (16, 16), (32, 32)] {
                let scaled = scaler.scale(&halves(), part, width, height).unwrap();
                assert_eq!(scaled, Picture::filled(width, height, color).unwrap());
            }
        }
    }

    #[test]
    fn the_middle_stays_in_the_middle() {
        let scaled = Scaler::default().scale(&halves(), rect(0, 0, 64, 32), 320, 200).unwrap();
        for (x, color) in [(0, RED), (150, RED), (169, BLUE), (319, BLUE)] {
            assert_eq!(scaled.at(x, 100), color, "{x}");
        }
    }

    #[test]
    fn there_is_no_part_outside() {
        let mut scaler = Scaler::default();
        for part in [rect(2, 0, 64, 32), rect(0, 0, 0, 2), rect(u32::MAX - 1, 0, 4, 4)] {
            assert!(scaler.scale(&halves(), part, 8, 8).is_none());
        }
        assert!(scaler.scale(&halves(), rect(0, 0, 64, 32), 0, 8).is_none());
        assert!(scaler.scale(&halves(), rect(0, 0, 64, 32), 7, 8).is_none());
    }
}
