//! Pictures in the encoders' format: one brightness value per pixel, one pair of colour values per square of four
//! (4:2:0, BT.601, limited range).
//!
//! In: planes from decoders, colours. Out: pictures, scaled parts of them, and pictures on a canvas. Deliberately
//! absent: placement, see `crate::scene`; file formats.

mod color;
mod scale;

pub use color::Yuv;
pub use scale::Scaler;

use crate::scene::Rect;

/// A picture with even sides. Its planes follow each other without gaps: brightness, then both colour planes.
#[derive(Clone, PartialEq, Eq)]
pub struct Picture {
    width: u32,
    height: u32,
    data: Vec<u8>,
}

/// Number of bytes of a picture; `None` for invalid sides.
#[must_use]
pub fn bytes(width: u32, height: u32) -> Option<usize> {
    let pixels = usize::try_from(width).ok()?.checked_mul(usize::try_from(height).ok()?)?;
    let is_one = pixels > 0 && width.is_multiple_of(2) && height.is_multiple_of(2);
    is_one.then(|| pixels.checked_add(pixels / 2)).flatten()
}

impl Picture {
    /// Creates a picture from its planes; `None` if their size does not match.
    #[must_use]
    pub fn new(width: u32, height: u32, data: Vec<u8>) -> Option<Self> {
        (bytes(width, height)? == data.len()).then_some(Self { width, height, data })
    }

    /// Creates a picture of one colour; `None` for invalid sides.
    #[must_use]
    pub fn filled(width: u32, height: u32, color: Yuv) -> Option<Self> {
        let size = bytes(width, height)?;
        let mut picture = Self { width, height, data: vec![0; size] };
        picture.fill(Rect { x: 0, y: 0, width, height }, color);
        Some(picture)
    }

    /// Width in pixels.
    #[must_use]
    pub fn width(&self) -> u32 {
        self.width
    }

    /// Height in pixels.
    #[must_use]
    pub fn height(&self) -> u32 {
        self.height
    }

    /// All planes.
    #[must_use]
    pub fn data(&self) -> &[u8] {
        &self.data
    }

    /// The colour of a pixel; black outside of the picture.
    #[must_use]
    pub fn at(&self, x: u32, y: u32) -> Yuv {
        if x >= self.width || y >= self.height {
            return Yuv::BLACK;
        }
        let of = |plane: usize| {
            let (width, _) = self.side(plane);
            let (x, y) = if plane == 0 { (x, y) } else { (x / 2, y / 2) };
            self.plane(plane)[y as usize * width + x as usize]
        };
        Yuv { y: of(0), u: of(1), v: of(2) }
    }

    /// Fills a rectangle; the part outside of the picture is ignored.
    pub fn fill(&mut self, rect: Rect, color: Yuv) {
        for (plane, value) in [color.y, color.u, color.v].into_iter().enumerate() {
            let (width, height) = self.side(plane);
            let part = part(plane, rect, width, height);
            let rows = self.plane_mut(plane).chunks_exact_mut(width);
            for row in rows.skip(part.y).take(part.height) {
                row[part.x..part.x + part.width].fill(value);
            }
        }
    }

    /// Copies a whole picture to a place; the part outside of this picture is ignored.
    pub fn paint(&mut self, other: &Picture, x: u32, y: u32) {
        let rect = Rect { x, y, width: other.width, height: other.height };
        for plane in 0..3 {
            let (width, height) = self.side(plane);
            let part = part(plane, rect, width, height);
            let (other_width, _) = other.side(plane);
            let from = other.plane(plane).chunks_exact(other_width);
            let rows = self.plane_mut(plane).chunks_exact_mut(width);
            for (row, from) in rows.skip(part.y).take(part.height).zip(from) {
                row[part.x..part.x + part.width].copy_from_slice(&from[..part.width]);
            }
        }
    }

    /// Width and height of a plane.
    fn side(&self, plane: usize) -> (usize, usize) {
        let (width, height) = (self.width as usize, self.height as usize);
        if plane == 0 { (width, height) } else { (width / 2, height / 2) }
    }

    fn range(&self, plane: usize) -> std::ops::Range<usize> {
        let pixels = self.width as usize * self.height as usize;
        match plane {
            0 => 0..pixels,
            1 => pixels..pixels + pixels / 4,
            _ => pixels + pixels / 4..pixels + pixels / 2,
        }
    }

    fn plane(&self, plane: usize) -> &[u8] {
        &self.data[self.range(plane)]
    }

    fn plane_mut(&mut self, plane: usize) -> &mut [u8] {
        let range = self.range(plane);
        &mut self.data[range]
    }
}

impl std::fmt::Debug for Picture {
    /// Without its contents.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Picture({} x {})", self.width, self.height)
    }
}

/// The part of a rectangle that lies on a plane.
struct Part {
    x: usize,
    y: usize,
    width: usize,
    height: usize,
}

fn part(plane: usize, rect: Rect, width: usize, height: usize) -> Part {
    let scaled = |side: u32| if plane == 0 { side as usize } else { side as usize / 2 };
    let (x, y) = (scaled(rect.x).min(width), scaled(rect.y).min(height));
    Part {
        x,
        y,
        width: scaled(rect.width).min(width - x),
        height: scaled(rect.height).min(height - y),
    }
}

#[cfg(test)]
mod tests {
    //! Proves no rule of the protocol: pictures on pictures.

    use super::*;

    const RED: Yuv = Yuv::from_rgb(0xFF_0000);
    const BLUE: Yuv = Yuv::from_rgb(0x00_00FF);

    #[test]
    fn planes_have_a_size() {
        assert_eq!(bytes(4, 2), Some(12));
        for (width, height) in [(0, 2), (3, 2), (2, 3), (u32::MAX - 1, u32::MAX - 1)] {
            assert_eq!(bytes(width, height), None);
        }
        assert!(Picture::new(4, 2, vec![0; 11]).is_none());
        assert_eq!(
            Picture::new(4, 2, vec![9; 12]).map(|p| p.at(3, 1)),
            Some(Yuv { y: 9, u: 9, v: 9 })
        );
    }

    #[test]
    fn painting_ends_at_the_edges() {
        let mut canvas = Picture::filled(16, 8, RED).unwrap();
        canvas.paint(&Picture::filled(4, 4, BLUE).unwrap(), 6, 2);
        for y in 0..8 {
            for x in 0..16 {
                let inside = (6..10).contains(&x) && (2..6).contains(&y);
                assert_eq!(canvas.at(x, y), if inside { BLUE } else { RED }, "{x} {y}");
            }
        }
    }

    #[test]
    fn parts_outside_are_ignored() {
        let mut canvas = Picture::filled(8, 8, RED).unwrap();
        canvas.paint(&Picture::filled(16, 16, BLUE).unwrap(), 6, 6);
        canvas.paint(&Picture::filled(2, 2, BLUE).unwrap(), 8, 100);
        canvas.fill(Rect { x: 0, y: 6, width: 600, height: 600 }, RED);
        assert_eq!(canvas, Picture::filled(8, 8, RED).unwrap());
    }
}
