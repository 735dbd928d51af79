//! Placement of a picture in a rectangle of another aspect ratio.
//!
//! In: sizes. Out: which part of the picture fills which part of the rectangle, in even pixels. Deliberately absent:
//! pixel values.

use super::{Adaption, Rect};

/// A part of a picture, and its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Placement {
    /// The part of the picture.
    pub from: Rect,
    /// The place on the canvas, inside the given rectangle.
    pub to: Rect,
}

/// Fits a picture into a rectangle. Width and height of the picture must be even and not 0.
#[must_use]
pub fn place(width: u32, height: u32, rect: Rect, adaption: Adaption) -> Placement {
    let whole = Rect { x: 0, y: 0, width, height };
    match adaption {
        Adaption::Stretch => Placement { from: whole, to: rect },
        Adaption::Crop => Placement { from: inside(whole, rect.width, rect.height), to: rect },
        Adaption::Fit => Placement { from: whole, to: inside(rect, width, height) },
    }
}

/// The largest rectangle with the aspect ratio of `width` and `height`, centred in `outer`.
fn inside(outer: Rect, width: u32, height: u32) -> Rect {
    let (w, h) = (u64::from(outer.width), u64::from(outer.height));
    let (sw, sh) = (u64::from(width), u64::from(height));
    // If the shape is wider than the rectangle, it takes its full width and less than its height.
    let (w, h) = if sw * h >= sh * w {
        (outer.width, even(w * sh, sw, outer.height))
    } else {
        (even(h * sw, sh, outer.width), outer.height)
    };
    let middle = |space: u32| (space / 2) & !1;
    Rect {
        x: outer.x + middle(outer.width - w),
        y: outer.y + middle(outer.height - h),
        width: w,
        height: h,
    }
}

/// The even number closest to a fraction, limited to 2..=`bound`.
fn even(numerator: u64, denominator: u64, bound: u32) -> u32 {
    let half = (numerator + denominator) / (2 * denominator.max(1));
    u32::try_from(half * 2).unwrap_or(u32::MAX).clamp(2, bound.max(2))
}

#[cfg(test)]
mod tests {
    //! Proves no rule of the protocol: pictures in rectangles.

    use super::*;

    const RECT: Rect = Rect { x: 100, y: 50, width: 640, height: 360 };

    fn rect(x: u32, y: u32, width: u32, height: u32) -> Rect {
        Rect { x, y, width, height }
    }

    #[test]
    fn a_picture_of_the_same_shape_is_whole_and_fills() {
        for adaption in [Adaption::Fit, Adaption::Crop, Adaption::Stretch] {
            let placement = place(1280, 720, RECT, adaption);
            assert_eq!(placement, Placement { from: rect(0, 0, 1280, 720), to: RECT });
        }
    }

    #[test]
    fn an_upright_picture_in_a_wide_rectangle() {
        let fit = place(360, 640, RECT, Adaption::Fit);
        assert_eq!(fit.from, rect(0, 0, 360, 640));
        assert_eq!(fit.to, rect(100 + 218, 50, 202, 360));
        let crop = place(360, 640, RECT, Adaption::Crop);
        assert_eq!(crop.from, rect(0, 218, 360, 202));
        assert_eq!(crop.to, RECT);
        let stretch = place(360, 640, RECT, Adaption::Stretch);
        assert_eq!((stretch.from, stretch.to), (rect(0, 0, 360, 640), RECT));
    }

    #[test]
    fn a_wide_picture_in_an_upright_rectangle() {
        let upright = rect(0, 0, 360, 640);
        assert_eq!(place(640, 360, upright, Adaption::Fit).to, rect(0, 218, 360, 202));
        assert_eq!(place(640, 360, upright, Adaption::Crop).from, rect(218, 0, 202, 360));
    }

    #[test]
    fn extreme_shapes_stay_inside_and_even() {
        for (w, h) in [(2, 4096), (4096, 2), (2, 2), (1918, 1080)] {
            for target in [rect(0, 0, 2, 2), rect(2, 4, 1920, 2), rect(0, 0, 2, 1080), RECT] {
                for adaption in [Adaption::Fit, Adaption::Crop, Adaption::Stretch] {
                    let Placement { from, to } = place(w, h, target, adaption);
                    let is_in = |inner: Rect, outer: Rect| {
                        inner.x >= outer.x
                            && inner.y >= outer.y
                            && inner.x + inner.width <= outer.x + outer.width
                            && inner.y + inner.height <= outer.y + outer.height
                    };
                    assert!(is_in(from, rect(0, 0, w, h)), "{from:?}");
                    assert!(is_in(to, target), "{to:?}");
                    for side in [from.x, from.y, from.width, from.height, to.width, to.height] {
                        assert_eq!(side % 2, 0);
                    }
                }
            }
        }
    }
}
