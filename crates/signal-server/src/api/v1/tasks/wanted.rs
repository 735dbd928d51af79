//! Push tasks as the app's server writes them: the fields of members, plus profiles, panes and a third adaption. Comes
//! in: JSON. Goes out: drafts, or an error with its field. Deliberately absent: whether a task can be carried out.

use lianmai_protocol::message::task::{
    AudioParam, Canvas, Layout, LayoutImage, LayoutUser, Task, TaskConfig,
};
use lianmai_protocol::{ErrorName, RpcError, TaskId, UserId};
use lianmai_signal_engine::task::layout::WHOLE;
use lianmai_signal_engine::task::{Adaption, Draft, LayoutSource, Pane, PaneSet, Profile};
use serde::Deserialize;

use crate::api::extract::{optional_whole_number, whole_number};

/// Push tasks to add or to update.
#[derive(Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct WantedTasks {
    /// The tasks, 1 to 64.
    #[schema(min_items = 1, max_items = 64)]
    rtmp_tasks: Vec<WantedTask>,
}

/// One push of the composed channel to one address.
#[derive(Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct WantedTask {
    /// The id of the task: 1 to 64 letters, digits or `_`, unique in the channel.
    #[schema(value_type = String, pattern = "^[A-Za-z0-9_]{1,64}$")]
    task_id: TaskId,
    /// The address to push to: `rtmp://` or `rtmps://`, with a host, an app and a stream, at most 2048 bytes. A secret,
    /// which is not given again.
    #[schema(max_length = 2048, pattern = "^[Rr][Tt][Mm][Pp][Ss]?://")]
    stream_url: String,
    /// Whether to write a file as well; false when absent.
    #[serde(default)]
    record: bool,
    /// The uid of the member of the large picture: it gets the major pane of a set of panes. When absent, the first
    /// member that publishes a picture gets it.
    #[serde(default)]
    #[schema(value_type = Option<String>, pattern = "^(0|[1-9][0-9]{0,19})$")]
    host_uid: Option<UserId>,
    /// For an update: the new revision, from 1 to 2^53 - 1 and greater than that of the task; the next one when absent.
    #[serde(default, deserialize_with = "optional_whole_number")]
    #[schema(minimum = 1, maximum = 9007199254740991u64)]
    revision: Option<u64>,
    /// The content of the composed picture.
    layout: WantedLayout,
    /// How the task is encoded; the defaults of its fields when absent.
    #[serde(default)]
    config: Option<WantedConfig>,
    /// Any text, at most 1024 bytes; it is passed on unchanged.
    #[serde(default)]
    #[schema(max_length = 1024)]
    extra_info: Option<String>,
    /// A size with its frame rate and bit rate: `180p` (15 fps, 200 kbit/s), `360p` (15 fps, 600 kbit/s), `480p` (25
    /// fps, 1000 kbit/s), `720p` (25 fps, 1800 kbit/s) or `1080p` (25 fps, 3500 kbit/s). The canvas has this size if
    /// its own is 0. When absent, the smallest profile that has as many pixels as the canvas sets frame rate and bit
    /// rate.
    #[serde(default)]
    profile: Option<String>,
    /// Frames per second, 5 to 60; that of the profile when absent.
    #[serde(default, deserialize_with = "optional_whole_number")]
    #[schema(minimum = 5, maximum = 60)]
    fps: Option<u32>,
    /// Bit rate of the picture in kbit/s, 50 to 20000; that of the profile when absent.
    #[serde(default, deserialize_with = "optional_whole_number")]
    #[schema(minimum = 50, maximum = 20000)]
    video_kbps: Option<u32>,
    /// Instead of `layout.users`: 1 to 16 sets of 1 to 16 panes, no two with the same number of panes. The smallest set
    /// with a pane for each member whose picture is published is used; if there is none, the largest set.
    #[serde(default)]
    #[schema(min_items = 1, max_items = 16)]
    pane_sets: Option<Vec<Vec<WantedPane>>>,
    /// How pictures are fitted into panes: 0 fit (whole picture, with bars), 1 crop (the excess is cut off), 2 stretch
    /// (distorted); 1 when absent.
    #[serde(default, deserialize_with = "optional_whole_number")]
    #[schema(maximum = 2)]
    pane_adaption: Option<u32>,
}

/// The content of the composed picture.
#[derive(Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
struct WantedLayout {
    /// Size and colour of the whole picture.
    canvas: WantedCanvas,
    /// The rectangles of members: at most 21, of which at most 7 have `pushVideo`. A member without one is neither seen
    /// nor heard.
    #[serde(default)]
    #[schema(max_items = 21)]
    users: Vec<WantedUser>,
    /// Images behind the members, the rearmost first; at most 8.
    #[serde(default)]
    #[schema(max_items = 8)]
    images: Vec<WantedImage>,
}

/// Size and colour of the whole picture.
#[derive(Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
struct WantedCanvas {
    /// Width in pixels: 16 to 1920, or 0 together with the height for sound only. An odd number is rounded down to an
    /// even one.
    #[serde(deserialize_with = "whole_number")]
    #[schema(maximum = 1920)]
    width: u32,
    /// Height in pixels, like the width. Width times height is at most 1920 x 1080.
    #[serde(deserialize_with = "whole_number")]
    #[schema(maximum = 1920)]
    height: u32,
    /// Background colour: 65536 R + 256 G + B, each of them 0 to 255; 0 (black) when absent.
    #[serde(default, deserialize_with = "whole_number")]
    #[schema(maximum = 16777215)]
    color: u32,
}

fn crop() -> u32 {
    1
}

/// Rectangle and streams of one member.
#[derive(Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct WantedUser {
    /// The uid of the member; only once in a layout.
    #[schema(value_type = String, pattern = "^(0|[1-9][0-9]{0,19})$")]
    uid: UserId,
    /// Distance of the left edge from that of the canvas in pixels; 0 when absent. Here and below, an odd number is
    /// rounded down to an even one, and the rectangle must not exceed the canvas.
    #[serde(default, deserialize_with = "whole_number")]
    x: u32,
    /// Distance of the top edge from that of the canvas in pixels; 0 when absent.
    #[serde(default, deserialize_with = "whole_number")]
    y: u32,
    /// Width in pixels; 0 when absent. More than 0 if the member is seen.
    #[serde(default, deserialize_with = "whole_number")]
    width: u32,
    /// Height in pixels; 0 when absent. More than 0 if the member is seen.
    #[serde(default, deserialize_with = "whole_number")]
    height: u32,
    /// How the picture is fitted into the rectangle: 0 fit (whole picture, with bars), 1 crop (the excess is cut off),
    /// 2 stretch (distorted); 1 when absent.
    #[serde(default = "crop", deserialize_with = "whole_number")]
    #[schema(maximum = 2)]
    adaption: u32,
    /// Order from back to front, 0 to 100; 0 when absent. Greater numbers are in front, and of equal ones the later
    /// member.
    #[serde(default, deserialize_with = "whole_number")]
    #[schema(maximum = 100)]
    z_order: u32,
    /// Whether the member is heard; false when absent.
    #[serde(default)]
    push_audio: bool,
    /// Whether the member is seen; false when absent.
    #[serde(default)]
    push_video: bool,
}

/// An image in the layout.
#[derive(Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
struct WantedImage {
    /// The address of the image: `http://` or `https://`, at most 2048 bytes.
    #[schema(max_length = 2048)]
    url: String,
    /// Distance of the left edge from that of the canvas in pixels; 0 when absent. Here and below, an odd number is
    /// rounded down to an even one, and the rectangle must not exceed the canvas.
    #[serde(default, deserialize_with = "whole_number")]
    x: u32,
    /// Distance of the top edge from that of the canvas in pixels; 0 when absent.
    #[serde(default, deserialize_with = "whole_number")]
    y: u32,
    /// Width in pixels, more than 0.
    #[serde(default, deserialize_with = "whole_number")]
    width: u32,
    /// Height in pixels, more than 0.
    #[serde(default, deserialize_with = "whole_number")]
    height: u32,
    /// How the image is fitted into the rectangle: 0 fit (whole image, with bars), 1 crop (the excess is cut off), 2
    /// stretch (distorted); 1 when absent.
    #[serde(default = "crop", deserialize_with = "whole_number")]
    #[schema(maximum = 2)]
    adaption: u32,
}

/// The encoding of a task.
#[derive(Default, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct WantedConfig {
    /// Whether to pass the picture of the only member that is seen on without transcoding; false when absent. Only
    /// allowed if one member has `pushVideo` and there is no image.
    #[serde(default)]
    single_video_no_trans: bool,
    /// The audio encoder; the defaults of its fields when absent.
    #[serde(default)]
    audio_param: Option<WantedAudio>,
}

/// The audio encoder of a task.
#[derive(Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct WantedAudio {
    /// Bit rate in kbit/s, 10 to 192; 64 when absent.
    #[serde(default = "WantedAudio::bit_rate", deserialize_with = "whole_number")]
    #[schema(minimum = 10, maximum = 192)]
    bit_rate: u32,
    /// Sample rate in Hz: 32000, 44100 or 48000; 48000 when absent.
    #[serde(default = "WantedAudio::sample_rate", deserialize_with = "whole_number")]
    sample_rate: u32,
    /// Number of audio channels: 1 mono, 2 stereo; 2 when absent.
    #[serde(default = "WantedAudio::channels", deserialize_with = "whole_number")]
    #[schema(minimum = 1, maximum = 2)]
    channels: u32,
    /// Profile of the codec: 0 LC-AAC, 1 HE-AAC; 0 when absent.
    #[serde(default, deserialize_with = "whole_number")]
    #[schema(maximum = 1)]
    codec_profile: u32,
}

impl WantedAudio {
    fn bit_rate() -> u32 {
        64
    }

    fn sample_rate() -> u32 {
        48_000
    }

    fn channels() -> u32 {
        2
    }
}

/// A rectangle, in fractions of the canvas.
#[derive(Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct WantedPane {
    /// Distance of the left edge from that of the canvas, as a fraction of its width: 0 to 1.
    #[schema(minimum = 0, maximum = 1)]
    x: f64,
    /// Distance of the top edge from that of the canvas, as a fraction of its height: 0 to 1.
    #[schema(minimum = 0, maximum = 1)]
    y: f64,
    /// Width as a fraction of that of the canvas: more than 0, and together with `x` at most 1.
    #[schema(minimum = 0, maximum = 1)]
    width: f64,
    /// Height as a fraction of that of the canvas: more than 0, and together with `y` at most 1.
    #[schema(minimum = 0, maximum = 1)]
    height: f64,
    /// Order from back to front, 0 to 100; 0 when absent. Greater numbers are in front.
    #[serde(default, deserialize_with = "whole_number")]
    #[schema(maximum = 100)]
    z_order: u32,
    /// Whether the pane is for the member `hostUid`; at most one pane of a set. False when absent.
    #[serde(default)]
    major: bool,
}

impl WantedTasks {
    /// Converts all tasks.
    ///
    /// # Errors
    /// The first error; its `field` says where it is.
    pub(super) fn drafts(self) -> Result<Vec<Draft>, RpcError> {
        let read = self.rtmp_tasks.into_iter().enumerate();
        read.map(|(at, task)| {
            draft(task).map_err(|error| {
                let field = error.data.field.clone().unwrap_or_default();
                error.field(format!("rtmpTasks[{at}].{field}"))
            })
        })
        .collect()
    }
}

impl WantedTask {
    /// The part that a member could write as well, in the form of the protocol.
    fn wire(&mut self) -> Task {
        let user = |user: WantedUser| LayoutUser {
            uid: user.uid,
            x: user.x,
            y: user.y,
            width: user.width,
            height: user.height,
            adaption: user.adaption,
            z_order: user.z_order,
            push_audio: user.push_audio,
            push_video: user.push_video,
        };
        let image = |image: WantedImage| LayoutImage {
            url: image.url,
            x: image.x,
            y: image.y,
            width: image.width,
            height: image.height,
            adaption: image.adaption,
        };
        let audio = |audio: WantedAudio| AudioParam {
            bit_rate: audio.bit_rate,
            sample_rate: audio.sample_rate,
            channels: audio.channels,
            codec_profile: audio.codec_profile,
        };
        let WantedCanvas { width, height, color } = self.layout.canvas;
        let users = std::mem::take(&mut self.layout.users);
        let images = std::mem::take(&mut self.layout.images);
        Task {
            task_id: self.task_id.clone(),
            stream_url: std::mem::take(&mut self.stream_url),
            record: self.record,
            host_uid: self.host_uid,
            revision: self.revision,
            layout: Layout {
                canvas: Canvas { width, height, color },
                users: users.into_iter().map(user).collect(),
                images: images.into_iter().map(image).collect(),
            },
            config: self.config.take().map(|config| TaskConfig {
                single_video_no_trans: config.single_video_no_trans,
                audio_param: config.audio_param.map(audio),
            }),
            extra_info: self.extra_info.take(),
        }
    }
}

fn draft(mut wanted: WantedTask) -> Result<Draft, RpcError> {
    let mut task = wanted.wire();
    let WantedTask { profile, fps, video_kbps, pane_sets, pane_adaption, .. } = wanted;
    let profile = match profile.as_deref().map(Profile::named) {
        Some(None) => return Err(bad(ErrorName::BadTask, "profile", "There is no such profile.")),
        profile => profile.flatten(),
    };
    if let Some(profile) = profile
        && (task.layout.canvas.width, task.layout.canvas.height) == (0, 0)
    {
        (task.layout.canvas.width, task.layout.canvas.height) =
            (profile.width & !1, profile.height & !1);
    }
    let stretched = stretch(&mut task);
    let mut draft = Draft::of_wire(&task)?;
    let spec = &mut draft.spec;
    if let LayoutSource::Rectangles(windows) = &mut spec.source {
        for (window, _) in windows.iter_mut().zip(&stretched.0).filter(|(_, stretched)| **stretched)
        {
            window.adaption = Adaption::Stretch;
        }
    }
    for (picture, _) in
        spec.pictures.iter_mut().zip(&stretched.1).filter(|(_, stretched)| **stretched)
    {
        picture.adaption = Adaption::Stretch;
    }
    if let Some(profile) = profile {
        spec.encoding = profile.encoding;
    }
    spec.encoding.fps = fps.unwrap_or(spec.encoding.fps);
    spec.encoding.video_kbps = video_kbps.unwrap_or(spec.encoding.video_kbps);
    if let Some(sets) = pane_sets {
        let adaption = match pane_adaption {
            None | Some(1) => Adaption::Crop,
            Some(0) => Adaption::Fit,
            Some(2) => Adaption::Stretch,
            Some(_) => {
                let why = "The adaption is neither 0, 1 nor 2.";
                return Err(bad(ErrorName::BadLayout, "paneAdaption", why));
            }
        };
        if !task.layout.users.is_empty() {
            let why = "There are panes or users, not both.";
            return Err(bad(ErrorName::BadLayout, "paneSets", why));
        }
        let sets = sets.iter().enumerate().map(|(at, panes)| pane_set(at, panes));
        spec.source =
            LayoutSource::Panes { sets: sets.collect::<Result<_, RpcError>>()?, adaption };
    }
    draft.check()?;
    Ok(draft)
}

/// Returns which users and images are stretched, and sets these to crop: members do not have this third value.
fn stretch(task: &mut Task) -> (Vec<bool>, Vec<bool>) {
    let of = |adaption: &mut u32| {
        let is_stretched = *adaption == 2;
        if is_stretched {
            *adaption = 1;
        }
        is_stretched
    };
    let users = task.layout.users.iter_mut().map(|user| of(&mut user.adaption)).collect();
    (users, task.layout.images.iter_mut().map(|image| of(&mut image.adaption)).collect())
}

fn pane_set(at: usize, panes: &[WantedPane]) -> Result<PaneSet, RpcError> {
    let panes = panes.iter().enumerate().map(|(number, pane)| {
        let part = |fraction: f64| {
            let is_one = (0.0..=1.0).contains(&fraction);
            // The value is in range and whole.
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
            is_one.then(|| (fraction * f64::from(WHOLE)).round() as u32)
        };
        let WantedPane { x, y, width, height, z_order, major } = *pane;
        let parts = [x, y, width, height].map(part);
        let [Some(x), Some(y), Some(width), Some(height)] = parts else {
            let field = format!("paneSets[{at}][{number}]");
            return Err(bad(ErrorName::BadLayout, &field, "It is no fraction of the canvas."));
        };
        // Rounding may exceed the canvas by a little, which is no error.
        let (width, height) = (width.min(WHOLE - x), height.min(WHOLE - y));
        Ok(Pane { x, y, width, height, z: z_order, major })
    });
    Ok(PaneSet { panes: panes.collect::<Result<_, RpcError>>()? })
}

fn bad(name: ErrorName, field: &str, why: &str) -> RpcError {
    RpcError::new(name).message(why).field(field)
}

#[cfg(test)]
mod tests {
    //! Proves no rule of the protocol: tasks of the app's server.

    use super::*;

    fn draft_of(text: &str) -> Result<Draft, RpcError> {
        let text = format!(
            r#"{{"rtmpTasks": [{{"taskId": "a", "streamUrl": "rtmp://h/live/key", {text}}}]}}"#
        );
        let tasks: WantedTasks = serde_json::from_str(&text).unwrap();
        tasks.drafts().map(|mut drafts| drafts.remove(0))
    }

    #[test]
    fn profiles_panes_and_stretch_are_accepted() {
        let draft = draft_of(
            r#""layout": {"canvas": {"width": 0, "height": 0}}, "profile": "480p", "fps": 30,
               "paneAdaption": 2, "hostUid": "7",
               "paneSets": [[{"x": 0, "y": 0, "width": 1, "height": 1, "major": true}],
                            [{"x": 0, "y": 0, "width": 0.5, "height": 1}, {"x": 0.3333, "y": 0, "width": 0.6667, "height": 1, "zOrder": 3}]]"#,
        )
        .unwrap();
        let spec = &draft.spec;
        assert_eq!((spec.canvas.width, spec.canvas.height), (854, 480));
        assert_eq!((spec.encoding.fps, spec.encoding.video_kbps), (30, 1_000));
        let LayoutSource::Panes { sets, adaption } = &spec.source else { panic!("{spec:?}") };
        assert_eq!((*adaption, sets.len(), sets[1].panes[1].z), (Adaption::Stretch, 2, 3));
        assert!(sets[0].panes[0].major && sets[1].panes[1].width == 666_700);
        let draft = draft_of(
            r#""layout": {"canvas": {"width": 640, "height": 360},
                "users": [{"uid": "1", "width": 16, "height": 16, "adaption": 2, "pushVideo": true}],
                "images": [{"url": "https://h/a.png", "width": 16, "height": 16, "adaption": 2}]}"#,
        )
        .unwrap();
        let LayoutSource::Rectangles(windows) = &draft.spec.source else { panic!("{draft:?}") };
        assert_eq!(windows[0].adaption, Adaption::Stretch);
        assert_eq!(draft.spec.pictures[0].adaption, Adaption::Stretch);
    }

    #[test]
    fn invalid_fields_are_named() {
        let canvas = r#""layout": {"canvas": {"width": 640, "height": 360}"#;
        let pane = |pane: &str| format!(r#"{canvas}}}, "paneSets": [[{{{pane}}}]]"#);
        for (text, name, field) in [
            (format!(r#"{canvas}}}, "profile": "4k""#), ErrorName::BadTask, "profile"),
            (format!(r#"{canvas}}}, "fps": 4"#), ErrorName::BadTask, "fps"),
            (format!(r#"{canvas}}}, "videoKbps": 20001"#), ErrorName::BadTask, "videoKbps"),
            (format!(r#"{canvas}}}, "paneSets": []"#), ErrorName::BadLayout, "layout.paneSets"),
            (
                format!(r#"{canvas}}}, "paneSets": [], "paneAdaption": 3"#),
                ErrorName::BadLayout,
                "paneAdaption",
            ),
            (
                format!(r#"{canvas}, "users": [{{"uid": "1"}}]}}, "paneSets": []"#),
                ErrorName::BadLayout,
                "paneSets",
            ),
            (
                pane(r#""x": -0.1, "y": 0, "width": 1, "height": 1"#),
                ErrorName::BadLayout,
                "paneSets[0][0]",
            ),
            (
                pane(r#""x": 0, "y": 0, "width": 1e300, "height": 1"#),
                ErrorName::BadLayout,
                "paneSets[0][0]",
            ),
            (
                pane(r#""x": 0, "y": 0, "width": 0, "height": 1"#),
                ErrorName::BadLayout,
                "layout.paneSets[0].panes[0]",
            ),
        ] {
            let error = draft_of(&text).unwrap_err();
            let field = format!("rtmpTasks[0].{field}");
            assert_eq!((error.name(), error.data.field.clone()), (&name, Some(field)), "{text}");
        }
    }
}
