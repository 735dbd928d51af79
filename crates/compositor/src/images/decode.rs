//! Decoding of image files.
//!
//! In: bytes of a PNG or JPEG file. Out: a picture. Deliberately absent: other formats, animation.

use std::io::Cursor;

use image::{DynamicImage, ImageDecoder, ImageFormat, ImageReader, Limits, imageops};

use super::ImageError;
use crate::picture::{Picture, Yuv};

/// Maximum side of an image file, in pixels.
const MAX_SIDE: u32 = 4096;
/// Memory that an image may take from its file to its picture, bytes: a sixth of what the process may take.
const MAX_MEMORY: u64 = 256 << 20;

pub(super) fn decode(
    bytes: &[u8],
    longest_side: u32,
    background: u32,
) -> Result<Picture, ImageError> {
    let format = image::guess_format(bytes).map_err(|_| ImageError::Format)?;
    if !matches!(format, ImageFormat::Png | ImageFormat::Jpeg) {
        return Err(ImageError::Format);
    }
    let mut reader = ImageReader::with_format(Cursor::new(bytes), format);
    let mut limits = Limits::default();
    limits.max_image_width = Some(MAX_SIDE);
    limits.max_image_height = Some(MAX_SIDE);
    limits.max_alloc = Some(MAX_MEMORY);
    reader.limits(limits);
    let failed = |error| match error {
        image::ImageError::Limits(_) => ImageError::Size,
        _ => ImageError::Format,
    };
    let decoder = reader.into_decoder().map_err(failed)?;
    if memory(decoder.dimensions(), decoder.total_bytes(), longest_side) > MAX_MEMORY {
        return Err(ImageError::Size);
    }
    let image = DynamicImage::from_decoder(decoder).map_err(failed)?;
    picture(&image, longest_side, background).ok_or(ImageError::Format)
}

/// Bytes that an image takes, with so many of them when it is decoded.
fn memory((width, height): (u32, u32), decoded: u64, longest_side: u32) -> u64 {
    let (wide, high) = sides(width, height, longest_side);
    let pixels = u64::from(wide) * u64::from(high);
    // In between, `image` has the columns scaled and the rows not, with 16 bytes for each pixel.
    let between = 16 * u64::from(width) * u64::from(high);
    // Scaled, with up to 8 bytes for each pixel; with 4 bytes; and the picture.
    let scaled = (8 + 4 + 2) * pixels;
    decoded.saturating_add(between).saturating_add(scaled)
}

/// Sides of the picture of an image with these sides.
fn sides(width: u32, height: u32, longest_side: u32) -> (u32, u32) {
    let longest = width.max(height).max(1);
    let side = |side: u32| {
        let scaled = if longest > longest_side {
            u64::from(side) * u64::from(longest_side) / u64::from(longest)
        } else {
            side.into()
        };
        // Pictures have even sides.
        u32::try_from(scaled.div_ceil(2) * 2).unwrap_or(2).max(2)
    };
    (side(width), side(height))
}

fn picture(image: &DynamicImage, longest_side: u32, background: u32) -> Option<Picture> {
    let (width, height) = (image.width(), image.height());
    let (wide, high) = sides(width, height, longest_side);
    let image = if (wide, high) == (width, height) {
        image.to_rgba8()
    } else {
        image.resize_exact(wide, high, imageops::FilterType::Triangle).to_rgba8()
    };
    let [_, r, g, b] = background.to_be_bytes();
    let mixed = |part: u8, behind: u8, alpha: u8| {
        let alpha = u16::from(alpha);
        ((u16::from(part) * alpha + u16::from(behind) * (255 - alpha)) / 255) as u8
    };
    let color = |x: u32, y: u32| {
        let [red, green, blue, alpha] = image.get_pixel(x, y).0;
        [mixed(red, r, alpha), mixed(green, g, alpha), mixed(blue, b, alpha)]
    };
    let pixels = wide as usize * high as usize;
    let mut data = Vec::with_capacity(pixels + pixels / 2);
    for y in 0..high {
        for x in 0..wide {
            let [r, g, b] = color(x, y);
            data.push(Yuv::of(r, g, b).y);
        }
    }
    let mut reds = Vec::with_capacity(pixels / 4);
    for y in (0..high).step_by(2) {
        for x in (0..wide).step_by(2) {
            let four = [color(x, y), color(x + 1, y), color(x, y + 1), color(x + 1, y + 1)];
            let mean = |part: usize| {
                (four.iter().map(|color| u16::from(color[part])).sum::<u16>() / 4) as u8
            };
            let mean = Yuv::of(mean(0), mean(1), mean(2));
            data.push(mean.u);
            reds.push(mean.v);
        }
    }
    data.extend_from_slice(&reds);
    Picture::new(wide, high, data)
}

#[cfg(test)]
mod tests {
    //! Proves no rule of the protocol: images of strangers.

    use image::{Rgba, RgbaImage};

    use super::*;

    fn file(width: u32, height: u32, color: [u8; 4], format: ImageFormat) -> Vec<u8> {
        let image = DynamicImage::from(RgbaImage::from_pixel(width, height, Rgba(color)));
        let image = if format == ImageFormat::Jpeg { image.to_rgb8().into() } else { image };
        let mut bytes = Cursor::new(Vec::new());
        image.write_to(&mut bytes, format).unwrap();
        bytes.into_inner()
    }

    /// Where a PNG file begins: as large as can be, with so many bits for each part of a pixel.
    fn begin(bits: u8) -> Vec<u8> {
        let mut file = b"\x89PNG\r\n\x1A\n".to_vec();
        let [a, b, c, d] = MAX_SIDE.to_be_bytes();
        let head = [a, b, c, d, a, b, c, d, bits, 6, 0, 0, 0];
        for (name, data) in [(b"IHDR", &head[..]), (b"IDAT", &[0x78, 0x9C])] {
            let chunk = [&name[..], data].concat();
            let mut sum = u32::MAX;
            for byte in &chunk {
                sum ^= u32::from(*byte);
                for _ in 0..8 {
                    sum = (sum >> 1) ^ (0xEDB8_8320 * (sum & 1));
                }
            }
            file.extend_from_slice(&(data.len() as u32).to_be_bytes());
            file.extend_from_slice(&chunk);
            file.extend_from_slice(&(!sum).to_be_bytes());
        }
        file
    }

    #[test]
    fn png_and_jpeg_are_pictures() {
        let red = Yuv::from_rgb(0xFF_0000);
        let png = file(64, 30, [255, 0, 0, 255], ImageFormat::Png);
        assert_eq!(decode(&png, 1280, 0), Ok(Picture::filled(64, 30, red).unwrap()));
        let jpeg = decode(&file(64, 30, [255, 0, 0, 255], ImageFormat::Jpeg), 1280, 0).unwrap();
        let Yuv { y, u, v } = jpeg.at(10, 10);
        assert!(y.abs_diff(red.y) < 4 && u.abs_diff(red.u) < 4 && v.abs_diff(red.v) < 4);
    }

    #[test]
    fn transparent_images_show_the_background() {
        let clear = file(4, 4, [255, 0, 0, 0], ImageFormat::Png);
        let blue = Yuv::from_rgb(0x00_00FF);
        assert_eq!(decode(&clear, 1280, 0x00_00FF), Ok(Picture::filled(4, 4, blue).unwrap()));
    }

    #[test]
    fn sides_become_even_and_bounded() {
        let sides = |width, height| {
            let png = file(width, height, [1, 2, 3, 255], ImageFormat::Png);
            let picture = decode(&png, 640, 0).unwrap();
            (picture.width(), picture.height())
        };
        assert_eq!(sides(1, 1), (2, 2));
        assert_eq!(sides(33, 7), (34, 8));
        assert_eq!(sides(1280, 2), (640, 2));
        assert_eq!(sides(1280, 720), (640, 360));
    }

    #[test]
    fn the_memory_limit_covers_all_steps() {
        let (side, pixels) = (MAX_SIDE, u64::from(MAX_SIDE) * u64::from(MAX_SIDE));
        assert!(memory((side, side), 4 * pixels, 1920) <= MAX_MEMORY, "any of the usual depth");
        assert!(memory((side, side), 4 * pixels, 1920) > 4 * pixels + 16 * 4096 * 1920);
        assert!(memory((side, side), 8 * pixels, 1920) > MAX_MEMORY);
        // One in which nothing is scaled.
        assert!(memory((1920, 1920), 8 * 1920 * 1920, 1920) <= MAX_MEMORY);
    }

    #[test]
    fn bombs_and_garbage_are_refused() {
        assert_eq!(decode(&begin(8), 1920, 0), Err(ImageError::Format), "the rest is missing");
        assert_eq!(decode(&begin(16), 1920, 0), Err(ImageError::Size));
        let wide = file(MAX_SIDE + 1, 1, [0; 4], ImageFormat::Png);
        assert_eq!(decode(&wide, 640, 0), Err(ImageError::Size));
        let gif = b"GIF89a\x01\0\x01\0\x80\0\0\0\0\0\xFF\xFF\xFF";
        assert_eq!(decode(gif, 640, 0), Err(ImageError::Format));
        assert_eq!(decode(b"", 640, 0), Err(ImageError::Format));
        let png = file(64, 64, [1, 2, 3, 4], ImageFormat::Png);
        for at in 0..png.len() {
            let mut harmed = png.clone();
            harmed[at] ^= 0xFF;
            let _ = decode(&harmed, 640, 0);
            let _ = decode(&png[..at], 640, 0);
        }
    }
}
