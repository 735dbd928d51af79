//! Command lines of ffmpeg.
//!
//! In: numbers. Out: arguments. Absent: text of anybody else.

/// What a decoder makes of a stream.
#[derive(Clone, Copy, Debug)]
pub struct Decoding {
    /// Pictures come out.
    pub pictures: bool,
    /// Sound comes out.
    pub sound: bool,
    /// Samples a second.
    pub rate: u32,
    /// Channels.
    pub channels: u32,
    /// Longest side of a picture.
    pub longest_side: u32,
    /// Pictures a second that are of use.
    pub fps: u32,
}

/// Pictures that are encoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Picturing {
    /// Pixels.
    pub width: u32,
    /// Pixels.
    pub height: u32,
    /// Pictures a second.
    pub fps: u32,
    /// kbit/s.
    pub kbps: u32,
}

/// What an encoder makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Encoding {
    /// Pictures, if there are any.
    pub picture: Option<Picturing>,
    /// Samples a second.
    pub rate: u32,
    /// Channels.
    pub channels: u32,
    /// kbit/s.
    pub sound_kbps: u32,
}

/// Most pixels of a stream: 4K. What has more is not decoded.
const MAX_PIXELS: u32 = 4096 * 2304;
/// Largest block of memory that ffmpeg asks for at once, bytes.
const MAX_BLOCK: u32 = 256 << 20;
/// Seconds between keyframes.
pub(super) const KEYFRAMES: u32 = 2;

fn list(text: &str) -> impl Iterator<Item = String> {
    text.split_ascii_whitespace().map(str::to_owned)
}

/// Times are kept (`-copyts`); what is too large is made smaller, and too many pictures fewer, before they come here.
pub(super) fn decoder(decoding: &Decoding) -> Vec<String> {
    let Decoding { pictures, sound, rate, channels, longest_side, fps } = *decoding;
    let mut all: Vec<String> = list("-hide_banner -nostats -nostdin -loglevel quiet").collect();
    // `-nostdin` is about keys that are pressed; the pipe is read all the same.
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
    // Frames of one kind wait for those of the other, but not for long.
    all.extend(list("-max_interleave_delta 200000 -flush_packets 1 -write_index 0 -f nut pipe:1"));
    all
}

/// No picture depends on a later one, and each leaves at once.
pub(super) fn encoder(encoding: &Encoding) -> Vec<String> {
    let Encoding { picture, rate, channels, sound_kbps } = *encoding;
    let mut all: Vec<String> = list("-hide_banner -nostats -nostdin -loglevel quiet").collect();
    all.extend(list("-copyts -protocol_whitelist pipe"));
    all.extend(list("-probesize 32 -analyzeduration 0 -fpsprobesize 0 -f nut -i pipe:0"));
    if let Some(Picturing { fps, kbps, .. }) = picture {
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
    fn what_is_not_wanted_is_not_made() {
        let decoding = Decoding {
            pictures: false,
            sound: true,
            rate: 44_100,
            channels: 1,
            longest_side: 1280,
            fps: 15,
        };
        let line = decoder(&decoding).join(" ");
        assert!(line.contains("-map 0:a:0 -ar 44100 -ac 1") && !line.contains("0:v"), "{line}");
        let line = decoder(&Decoding { pictures: true, sound: false, ..decoding }).join(" ");
        assert!(line.contains("0:v:0") && !line.contains("0:a"), "{line}");
        let encoding = Encoding { picture: None, rate: 48_000, channels: 2, sound_kbps: 64 };
        let line = encoder(&encoding).join(" ");
        assert!(line.contains("-b:a 64k") && !line.contains("x264"), "{line}");
    }
}
