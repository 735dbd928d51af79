//! The command lines of ffmpeg.
//!
//! In: numbers. Out: arguments. Deliberately absent: text from users.

/// The output of a decoder.
#[derive(Clone, Copy, Debug)]
pub struct DecoderOptions {
    /// Whether it outputs pictures.
    pub pictures: bool,
    /// Whether it outputs sound.
    pub sound: bool,
    /// Sample rate in Hz.
    pub rate: u32,
    /// Number of channels.
    pub channels: u32,
    /// Maximum side of a picture in pixels; larger ones are scaled down.
    pub longest_side: u32,
    /// Maximum useful frame rate, in pictures per second.
    pub fps: u32,
}

/// The parameters of encoded video.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VideoOptions {
    /// Width in pixels.
    pub width: u32,
    /// Height in pixels.
    pub height: u32,
    /// Frame rate in pictures per second.
    pub fps: u32,
    /// Bit rate in kbit/s.
    pub kbps: u32,
}

/// The output of an encoder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EncoderOptions {
    /// The video, if there is any.
    pub picture: Option<VideoOptions>,
    /// Sample rate in Hz.
    pub rate: u32,
    /// Number of channels.
    pub channels: u32,
    /// Bit rate of the sound in kbit/s.
    pub sound_kbps: u32,
}

/// Maximum number of pixels of a stream: 4K. A larger stream is not decoded.
const MAX_PIXELS: u32 = 4096 * 2304;
/// Maximum size of one memory allocation of ffmpeg, in bytes.
const MAX_BLOCK: u32 = 256 << 20;
/// Interval between keyframes, in seconds.
pub(super) const KEYFRAMES: u32 = 2;

fn list(text: &str) -> impl Iterator<Item = String> {
    text.split_ascii_whitespace().map(str::to_owned)
}

/// The command line of a decoder. Times are kept (`-copyts`). The decoder already scales large pictures down and drops
/// excess pictures, so that they do not pass through the pipe.
pub(super) fn decoder(decoding: &DecoderOptions) -> Vec<String> {
    let DecoderOptions { pictures, sound, rate, channels, longest_side, fps } = *decoding;
    let mut all: Vec<String> = list("-hide_banner -nostats -nostdin -loglevel quiet").collect();
    // `-nostdin` disables keyboard commands; the pipe is read all the same.
    all.extend(list(&format!("-max_alloc {MAX_BLOCK} -copyts -protocol_whitelist pipe")));
    all.extend(list("-probesize 500000 -analyzeduration 500000"));
    all.extend(list(&format!("-threads 1 -max_pixels {MAX_PIXELS} -f flv -i pipe:0")));
    if pictures {
        let interval = 0.6 / f64::from(fps.max(1));
        all.extend(list("-map 0:v:0 -filter_threads 1 -filter:v"));
        all.push(format!(
            "select='isnan(prev_selected_t)+gte(abs(t-prev_selected_t),{interval:.4})',\
             scale=w='min(iw,{longest_side})':h='min(ih,{longest_side})':\
             force_original_aspect_ratio=decrease:force_divisible_by=2:\
             flags=bilinear:out_color_matrix=bt601:out_range=limited,\
             format=yuv420p"
        ));
        all.extend(list("-fps_mode passthrough -enc_time_base:v 1:1000 -c:v rawvideo"));
    }
    if sound {
        all.extend(list(&format!("-map 0:a:0 -ar {rate} -ac {channels} -c:a pcm_s16le")));
    }
    // Frames of one kind wait for those of the other, but at most this long.
    all.extend(list("-max_interleave_delta 200000 -flush_packets 1 -write_index 0 -f nut pipe:1"));
    all
}

/// The command line of an encoder. No picture depends on a later one (`-bf 0`), and each is emitted at once.
pub(super) fn encoder(encoding: &EncoderOptions) -> Vec<String> {
    let EncoderOptions { picture, rate, channels, sound_kbps } = *encoding;
    let mut all: Vec<String> = list("-hide_banner -nostats -nostdin -loglevel quiet").collect();
    all.extend(list("-copyts -protocol_whitelist pipe"));
    all.extend(list("-probesize 32 -analyzeduration 0 -fpsprobesize 0 -f nut -i pipe:0"));
    if let Some(VideoOptions { fps, kbps, .. }) = picture {
        let distance = fps * KEYFRAMES;
        all.extend(list("-map 0:v:0 -c:v libx264 -preset veryfast -tune zerolatency"));
        all.extend(list("-profile:v main -pix_fmt yuv420p -bf 0 -sc_threshold 0 -threads 2"));
        all.extend(list(&format!("-g {distance} -keyint_min {distance}")));
        all.extend(list(&format!("-b:v {kbps}k -maxrate {kbps}k -bufsize {}k", kbps * 2)));
        all.extend(list("-color_range tv -colorspace smpte170m -color_trc smpte170m"));
        all.extend(list(&format!("-color_primaries smpte170m -r {fps} -fps_mode passthrough")));
    }
    all.extend(list(&format!("-map 0:a:0 -c:a aac -b:a {sound_kbps}k -ar {rate} -ac {channels}")));
    all.extend(list("-flush_packets 1 -flvflags no_duration_filesize -f flv pipe:1"));
    all
}

#[cfg(test)]
mod tests {
    //! Proves no rule of the protocol: command lines.

    use super::*;

    #[test]
    fn unwanted_kinds_are_not_decoded_or_encoded() {
        let decoding = DecoderOptions {
            pictures: false,
            sound: true,
            rate: 44_100,
            channels: 1,
            longest_side: 1280,
            fps: 15,
        };
        let line = decoder(&decoding).join(" ");
        assert!(line.contains("-map 0:a:0 -ar 44100 -ac 1") && !line.contains("0:v"), "{line}");
        let line = decoder(&DecoderOptions { pictures: true, sound: false, ..decoding }).join(" ");
        assert!(line.contains("0:v:0") && !line.contains("0:a"), "{line}");
        let encoding = EncoderOptions { picture: None, rate: 48_000, channels: 2, sound_kbps: 64 };
        let line = encoder(&encoding).join(" ");
        assert!(line.contains("-b:a 64k") && !line.contains("x264"), "{line}");
    }
}
