//! The specification of a task, and its checks (TSK-3, TSK-4). Comes in: a wire `Task`, or a [`Spec`] of the app's
//! server. Goes out: a checked [`Spec`], or the first error, with its path.

use std::collections::BTreeSet;

use lianmai_protocol::limits::{
    MAX_CANVAS_SIDE, MAX_EXTRA_INFO_BYTES, MAX_TASK_IMAGES, MAX_TASK_URL_BYTES, MAX_TASK_USERS,
    MAX_TASK_VIDEOS,
};
use lianmai_protocol::message::task::{AudioParam, LayoutImage, LayoutUser, Task};
use lianmai_protocol::{ErrorName, RpcError, TaskId, UserId};
use serde::{Deserialize, Serialize};

use super::address::Address;
use super::layout::{Adaption, LayoutSource, Rect, WHOLE, Window, in_pixels};
use super::profile::{Encoding, Profile};

/// Most pixels of a canvas.
const MAX_CANVAS_PIXELS: u64 = 1920 * 1080;
/// Shortest side of a canvas that has a picture: what every encoder takes.
const LEAST_CANVAS_SIDE: u32 = 16;
/// Greatest `z`, which is in front.
const MAX_Z: u32 = 100;
/// Most sets of panes, and most panes of one.
const MAX_PANES: usize = 16;
/// Greatest revision: beyond it integers are not exact in JavaScript.
pub(crate) const MAX_REVISION: u64 = (1 << 53) - 1;

/// Size and colour of the whole picture.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Canvas {
    /// Even pixels, 16..=1920; 0 for sound only.
    pub width: u32,
    /// As the width; both together 1920 x 1080 at most.
    pub height: u32,
    /// 65536 R + 256 G + B.
    pub color: u32,
}

impl Canvas {
    /// Whether there is no picture.
    #[must_use]
    pub fn is_sound_only(self) -> bool {
        self.width == 0 && self.height == 0
    }
}

/// A picture behind the members: in the background, or where one of them is while it is away.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Picture {
    /// `http://` or `https://`. May hold a secret.
    pub url: String,
    /// Its rectangle.
    pub rect: Rect,
    /// How it is fitted in.
    pub adaption: Adaption,
}

impl std::fmt::Debug for Picture {
    /// Without the URL.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Picture").field("rect", &self.rect).finish_non_exhaustive()
    }
}

/// How the sound is encoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sound {
    /// kbit/s, 10..=192.
    pub kbps: u32,
    /// 32000, 44100 or 48000 a second.
    pub sample_rate: u32,
    /// 1 or 2.
    pub channels: u32,
    /// 0 LC-AAC, 1 HE-AAC.
    pub codec_profile: u32,
}

/// The specification of a task.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spec {
    /// Its push address.
    pub address: Address,
    /// Whether it is recorded to a file as well.
    pub record: bool,
    /// The member of the major pane.
    pub host: Option<UserId>,
    /// The whole picture.
    pub canvas: Canvas,
    /// Where the layout comes from.
    pub source: LayoutSource,
    /// Pictures behind the members, the rearmost first.
    pub pictures: Vec<Picture>,
    /// How the picture is encoded.
    pub encoding: Encoding,
    /// How the sound is encoded.
    pub sound: Sound,
    /// The video of the only member that is seen is passed on as it is.
    pub pass_through: bool,
    /// Passed on to the executor.
    pub extra_info: Option<String>,
}

/// A task that is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Draft {
    /// Its id.
    pub id: TaskId,
    /// Greater than that of the present task, if there is one; `None` is the next one.
    pub revision: Option<u64>,
    /// Its specification.
    pub spec: Spec,
}

fn bad(name: ErrorName, field: impl Into<String>, why: &str) -> RpcError {
    RpcError::new(name).message(why).field(field)
}

fn bad_task(field: &str, why: &str) -> RpcError {
    bad(ErrorName::BadTask, field, why)
}

fn bad_layout(field: impl Into<String>, why: &str) -> RpcError {
    bad(ErrorName::BadLayout, field, why)
}

impl Draft {
    /// Reads a task as clients write it.
    ///
    /// # Errors
    /// A value is out of its range; `field` is its path, from the task on.
    pub fn of_wire(task: &Task) -> Result<Draft, RpcError> {
        let address = Address::parse(&task.stream_url)
            .map_err(|why| bad_task("streamUrl", &why.to_string()))?;
        let layout = &task.layout;
        let canvas = Canvas {
            width: even(layout.canvas.width),
            height: even(layout.canvas.height),
            color: layout.canvas.color,
        };
        let mut windows = Vec::with_capacity(layout.users.len());
        for (at, user) in layout.users.iter().enumerate() {
            windows.push(window(user, at)?);
        }
        let mut pictures = Vec::with_capacity(layout.images.len());
        for (at, image) in layout.images.iter().enumerate() {
            pictures.push(picture(image, at)?);
        }
        let config = task.config.clone().unwrap_or_default();
        let spec = Spec {
            address,
            record: task.record,
            host: task.host_uid,
            canvas,
            source: LayoutSource::Rectangles(windows),
            pictures,
            encoding: Profile::for_canvas(canvas.width, canvas.height).encoding,
            sound: sound(config.audio_param),
            pass_through: config.single_video_no_trans,
            extra_info: task.extra_info.clone(),
        };
        let draft = Draft { id: task.task_id.clone(), revision: task.revision, spec };
        draft.check()?;
        Ok(draft)
    }

    /// Whether all of it is in its range.
    ///
    /// # Errors
    /// A value is out of its range; `field` is its path, from the task on, named as on the wire.
    pub fn check(&self) -> Result<(), RpcError> {
        if self.revision.is_some_and(|revision| !(1..=MAX_REVISION).contains(&revision)) {
            return Err(bad_task("revision", "The revision is out of range."));
        }
        self.spec.check()
    }
}

/// Odd numbers of pixels count as the even one below.
fn even(pixels: u32) -> u32 {
    pixels & !1
}

fn adaption(number: u32) -> Option<Adaption> {
    match number {
        0 => Some(Adaption::Fit),
        1 => Some(Adaption::Crop),
        _ => None,
    }
}

fn window(user: &LayoutUser, at: usize) -> Result<Window, RpcError> {
    let rect = Rect {
        x: even(user.x),
        y: even(user.y),
        width: even(user.width),
        height: even(user.height),
    };
    let adaption = adaption(user.adaption).ok_or_else(|| {
        bad_layout(format!("layout.users[{at}].adaption"), "The adaption is neither 0 nor 1.")
    })?;
    let (audio, video) = (user.push_audio, user.push_video);
    Ok(Window { uid: user.uid, rect, adaption, z: user.z_order, audio, video })
}

fn picture(image: &LayoutImage, at: usize) -> Result<Picture, RpcError> {
    let rect = Rect {
        x: even(image.x),
        y: even(image.y),
        width: even(image.width),
        height: even(image.height),
    };
    let adaption = adaption(image.adaption).ok_or_else(|| {
        bad_layout(format!("layout.images[{at}].adaption"), "The adaption is neither 0 nor 1.")
    })?;
    Ok(Picture { url: image.url.clone(), rect, adaption })
}

fn sound(param: Option<AudioParam>) -> Sound {
    let default = Sound { kbps: 64, sample_rate: 48_000, channels: 2, codec_profile: 0 };
    param.map_or(default, |param| Sound {
        kbps: param.bit_rate,
        sample_rate: param.sample_rate,
        channels: param.channels,
        codec_profile: param.codec_profile,
    })
}

impl Spec {
    fn check(&self) -> Result<(), RpcError> {
        if self.extra_info.as_ref().is_some_and(|text| text.len() > MAX_EXTRA_INFO_BYTES) {
            return Err(bad_task("extraInfo", "The text is too long."));
        }
        self.check_sound()?;
        self.check_canvas()?;
        if !(5..=60).contains(&self.encoding.fps) {
            return Err(bad_task("fps", "The frame rate is not 5 to 60 a second."));
        }
        if !(50..=20_000).contains(&self.encoding.video_kbps) {
            return Err(bad_task("videoKbps", "The bit rate is not 50 to 20000 kbit/s."));
        }
        let seen = match &self.source {
            LayoutSource::Rectangles(windows) => self.check_windows(windows)?,
            LayoutSource::Panes { sets, .. } => {
                check_panes(sets.iter().map(|set| set.panes.as_slice()), self.canvas)?;
                None
            }
        };
        self.check_pictures()?;
        if self.pass_through && (seen != Some(1) || !self.pictures.is_empty()) {
            let why = "Only one picture and nothing else can be passed on as it is.";
            return Err(bad_layout("config.singleVideoNoTrans", why));
        }
        Ok(())
    }

    fn check_sound(&self) -> Result<(), RpcError> {
        let Sound { kbps, sample_rate, channels, codec_profile } = self.sound;
        if !(10..=192).contains(&kbps) {
            return Err(bad_task("config.audioParam.bitRate", "It is not 10 to 192 kbit/s."));
        }
        if ![32_000, 44_100, 48_000].contains(&sample_rate) {
            return Err(bad_task("config.audioParam.sampleRate", "It is no rate that is served."));
        }
        if !(1..=2).contains(&channels) {
            return Err(bad_task("config.audioParam.channels", "It is neither 1 nor 2."));
        }
        if codec_profile > 1 {
            return Err(bad_task("config.audioParam.codecProfile", "It is neither 0 nor 1."));
        }
        Ok(())
    }

    fn check_canvas(&self) -> Result<(), RpcError> {
        let canvas = self.canvas;
        if canvas.color > 0x00ff_ffff {
            return Err(bad_layout("layout.canvas.color", "The colour is none."));
        }
        if canvas.is_sound_only() {
            return Ok(());
        }
        let sides = LEAST_CANVAS_SIDE..=MAX_CANVAS_SIDE;
        let is_side = |side: u32| sides.contains(&side) && side.is_multiple_of(2);
        if !is_side(canvas.width) {
            return Err(bad_layout("layout.canvas.width", "The canvas has no such side."));
        }
        if !is_side(canvas.height) {
            return Err(bad_layout("layout.canvas.height", "The canvas has no such side."));
        }
        if u64::from(canvas.width) * u64::from(canvas.height) > MAX_CANVAS_PIXELS {
            return Err(bad_layout("layout.canvas", "The canvas has too many pixels."));
        }
        Ok(())
    }

    fn fits(&self, rect: Rect) -> bool {
        let within = |from: u32, length: u32, whole: u32| {
            from.checked_add(length).is_some_and(|end| end <= whole)
        };
        within(rect.x, rect.width, self.canvas.width)
            && within(rect.y, rect.height, self.canvas.height)
    }

    /// Returns how many members are seen.
    fn check_windows(&self, windows: &[Window]) -> Result<Option<usize>, RpcError> {
        if windows.len() > MAX_TASK_USERS {
            return Err(bad_layout("layout.users", "There are too many users."));
        }
        let seen = windows.iter().filter(|window| window.video).count();
        if seen > MAX_TASK_VIDEOS {
            return Err(bad_layout("layout.users", "Too many users are seen."));
        }
        let mut uids = BTreeSet::new();
        for (at, window) in windows.iter().enumerate() {
            let field = |name: &str| format!("layout.users[{at}]{name}");
            if !uids.insert(window.uid) {
                return Err(bad_layout(field(".uid"), "The uid comes twice."));
            }
            if window.z > MAX_Z {
                return Err(bad_layout(field(".zOrder"), "It is greater than 100."));
            }
            if !self.fits(window.rect) && (window.video || !self.canvas.is_sound_only()) {
                return Err(bad_layout(field(""), "The rectangle exceeds the canvas."));
            }
            if window.video && (window.rect.width == 0 || window.rect.height == 0) {
                return Err(bad_layout(field(""), "The rectangle is empty."));
            }
        }
        Ok(Some(seen))
    }

    fn check_pictures(&self) -> Result<(), RpcError> {
        if self.pictures.len() > MAX_TASK_IMAGES {
            return Err(bad(ErrorName::BadImage, "layout.images", "There are too many pictures."));
        }
        for (at, picture) in self.pictures.iter().enumerate() {
            let field = |name: &str| format!("layout.images[{at}]{name}");
            if !is_web_url(&picture.url) {
                let why = "It is no `http://` or `https://` URL, or too long.";
                return Err(bad(ErrorName::BadImage, field(".url"), why));
            }
            if !self.fits(picture.rect) {
                return Err(bad_layout(field(""), "The rectangle exceeds the canvas."));
            }
            if picture.rect.width == 0 || picture.rect.height == 0 {
                return Err(bad_layout(field(""), "The rectangle is empty."));
            }
        }
        Ok(())
    }
}

fn is_web_url(url: &str) -> bool {
    let scheme = |scheme: &str| {
        url.get(..scheme.len()).is_some_and(|start| start.eq_ignore_ascii_case(scheme))
            && url.len() > scheme.len()
            && !url[scheme.len()..].starts_with(['/', '?', '#', ':'])
    };
    url.len() <= MAX_TASK_URL_BYTES
        && url.bytes().all(|byte| (0x21..0x7f).contains(&byte))
        && (scheme("http://") || scheme("https://"))
}

fn check_panes<'a>(
    sets: impl ExactSizeIterator<Item = &'a [super::layout::Pane]>,
    canvas: Canvas,
) -> Result<(), RpcError> {
    if !(1..=MAX_PANES).contains(&sets.len()) {
        return Err(bad_layout("layout.paneSets", "There are no sets of panes, or too many."));
    }
    let mut sizes = BTreeSet::new();
    for (at, panes) in sets.enumerate() {
        let field = |name: &str| format!("layout.paneSets[{at}]{name}");
        if !(1..=MAX_PANES).contains(&panes.len()) {
            return Err(bad_layout(field(""), "The set has no panes, or too many."));
        }
        if !sizes.insert(panes.len()) {
            return Err(bad_layout(field(""), "Two sets have as many panes."));
        }
        if panes.iter().filter(|pane| pane.major).count() > 1 {
            return Err(bad_layout(field(""), "More than one pane is the major one."));
        }
        for (number, pane) in panes.iter().enumerate() {
            let within = |from: u32, length: u32| {
                length > 0 && from.checked_add(length).is_some_and(|end| end <= WHOLE)
            };
            let is_seen = || {
                let Rect { width, height, .. } = in_pixels(pane, canvas);
                canvas.is_sound_only() || (width > 0 && height > 0)
            };
            if !within(pane.x, pane.width)
                || !within(pane.y, pane.height)
                || pane.z > MAX_Z
                || !is_seen()
            {
                let field = field(&format!(".panes[{number}]"));
                return Err(bad_layout(field, "The pane is empty or exceeds the canvas."));
            }
        }
    }
    Ok(())
}
