//! Push tasks as the app's server writes them: the fields of members, plus profiles, panes and a third adaption. Comes
//! in: JSON. Goes out: drafts, or an error with its field. Deliberately absent: whether a task can be carried out.

use lianmai_protocol::message::task::{
    AudioParam, Canvas, Layout, LayoutImage, LayoutUser, Task, TaskConfig,
};
use lianmai_protocol::{ErrorName, RpcError, TaskId, UserId};
use lianmai_signal_engine::task::layout::WHOLE;
use lianmai_signal_engine::task::{Adaption, Draft, Pane, PaneSet, Profile, Source};
use serde::Deserialize;

use crate::api::extract::{optional_whole_number, whole_number};

/// Push tasks to add or to update.
#[derive(Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct WantedTasks {
    #[schema(min_items = 1, max_items = 64)]
    rtmp_tasks: Vec<WantedTask>,
}

/// One push of the composed channel to one address.
#[derive(Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct WantedTask {
    /// Unique in the channel.
    #[schema(value_type = String, pattern = "^[A-Za-z0-9_]{1,64}$")]
    task_id: TaskId,
    /// Where to push, `rtmp://` or `rtmps://`. A secret, which is not given again.
    #[schema(max_length = 2048, pattern = "^[Rr][Tt][Mm][Pp][Ss]?://")]
    stream_url: String,
    /// Whether to write a file as well.
    #[serde(default)]
    record: bool,
    /// The member of the large picture.
    #[serde(default)]
    #[schema(value_type = Option<String>, pattern = "^(0|[1-9][0-9]{0,19})$")]
    host_uid: Option<UserId>,
    /// For an update: greater than that of the task; the next one when absent.
    #[serde(default, deserialize_with = "optional_whole_number")]
    #[schema(minimum = 1, maximum = 9007199254740991u64)]
    revision: Option<u64>,
    layout: WantedLayout,
    #[serde(default)]
    config: Option<WantedConfig>,
    /// Passed on unchanged.
    #[serde(default)]
    #[schema(max_length = 1024)]
    extra_info: Option<String>,
    /// A size with its frame rate and bit rate: `180p`, `360p`, `480p`, `720p` or `1080p`. The canvas has this size if
    /// its own is 0.
    #[serde(default)]
    profile: Option<String>,
    /// Frames per second.
    #[serde(default, deserialize_with = "optional_whole_number")]
    #[schema(minimum = 5, maximum = 60)]
    fps: Option<u32>,
    #[serde(default, deserialize_with = "optional_whole_number")]
    #[schema(minimum = 50, maximum = 20000)]
    video_kbps: Option<u32>,
    /// Instead of `layout.users`: sets of panes. The set with as many panes as there are members to show is used.
    #[serde(default)]
    #[schema(min_items = 1, max_items = 16)]
    pane_sets: Option<Vec<Vec<WantedPane>>>,
    /// How members are fitted into panes: 0 fit, 1 crop, 2 stretch.
    #[serde(default, deserialize_with = "optional_whole_number")]
    #[schema(maximum = 2)]
    pane_adaption: Option<u32>,
}

/// The content of the composed picture.
#[derive(Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
struct WantedLayout {
    canvas: WantedCanvas,
    /// The place of each member.
    #[serde(default)]
    #[schema(max_items = 21)]
    users: Vec<WantedUser>,
    /// Images behind or instead of members.
    #[serde(default)]
    #[schema(max_items = 8)]
    images: Vec<WantedImage>,
}

/// Size and colour of the whole picture.
#[derive(Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
struct WantedCanvas {
    /// Pixels, 16 to 1920, or 0 for sound only; an odd number is rounded down to an even one.
    #[serde(deserialize_with = "whole_number")]
    #[schema(maximum = 1920)]
    width: u32,
    /// Like the width; both together 1920 x 1080 at most.
    #[serde(deserialize_with = "whole_number")]
    #[schema(maximum = 1920)]
    height: u32,
    /// 65536 R + 256 G + B.
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
    /// The member; only once in a layout.
    #[schema(value_type = String, pattern = "^(0|[1-9][0-9]{0,19})$")]
    uid: UserId,
    #[serde(default, deserialize_with = "whole_number")]
    x: u32,
    #[serde(default, deserialize_with = "whole_number")]
    y: u32,
    #[serde(default, deserialize_with = "whole_number")]
    width: u32,
    #[serde(default, deserialize_with = "whole_number")]
    height: u32,
    /// 0 fit, 1 crop, 2 stretch.
    #[serde(default = "crop", deserialize_with = "whole_number")]
    #[schema(maximum = 2)]
    adaption: u32,
    /// Greater numbers are in front.
    #[serde(default, deserialize_with = "whole_number")]
    #[schema(maximum = 100)]
    z_order: u32,
    /// Whether the member is heard.
    #[serde(default)]
    push_audio: bool,
    /// Whether the member is seen.
    #[serde(default)]
    push_video: bool,
}

/// An image in the layout.
#[derive(Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
struct WantedImage {
    /// `http://` or `https://`.
    #[schema(max_length = 2048)]
    url: String,
    #[serde(default, deserialize_with = "whole_number")]
    x: u32,
    #[serde(default, deserialize_with = "whole_number")]
    y: u32,
    #[serde(default, deserialize_with = "whole_number")]
    width: u32,
    #[serde(default, deserialize_with = "whole_number")]
    height: u32,
    /// 0 fit, 1 crop, 2 stretch.
    #[serde(default = "crop", deserialize_with = "whole_number")]
    #[schema(maximum = 2)]
    adaption: u32,
}

/// The encoding of a task.
#[derive(Default, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct WantedConfig {
    /// Pass a single video through without transcoding.
    #[serde(default)]
    single_video_no_trans: bool,
    #[serde(default)]
    audio_param: Option<WantedAudio>,
}

/// The audio encoder of a task.
#[derive(Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct WantedAudio {
    /// kbit/s.
    #[serde(default = "WantedAudio::bit_rate", deserialize_with = "whole_number")]
    #[schema(minimum = 10, maximum = 192)]
    bit_rate: u32,
    /// 32000, 44100 or 48000.
    #[serde(default = "WantedAudio::sample_rate", deserialize_with = "whole_number")]
    sample_rate: u32,
    #[serde(default = "WantedAudio::channels", deserialize_with = "whole_number")]
    #[schema(minimum = 1, maximum = 2)]
    channels: u32,
    /// 0 LC-AAC, 1 HE-AAC.
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
    #[schema(minimum = 0, maximum = 1)]
    x: f64,
    #[schema(minimum = 0, maximum = 1)]
    y: f64,
    #[schema(minimum = 0, maximum = 1)]
    width: f64,
    #[schema(minimum = 0, maximum = 1)]
    height: f64,
    /// Greater numbers are in front.
    #[serde(default, deserialize_with = "whole_number")]
    #[schema(maximum = 100)]
    z_order: u32,
    /// Whether it is for the host.
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
    if let Source::Rectangles(windows) = &mut spec.source {
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
        spec.source = Source::Panes { sets: sets.collect::<Result<_, RpcError>>()?, adaption };
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
    fn profiles_panes_and_a_third_adaption_are_for_the_apps_server() {
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
        let Source::Panes { sets, adaption } = &spec.source else { panic!("{spec:?}") };
        assert_eq!((*adaption, sets.len(), sets[1].panes[1].z), (Adaption::Stretch, 2, 3));
        assert!(sets[0].panes[0].major && sets[1].panes[1].width == 666_700);
        let draft = draft_of(
            r#""layout": {"canvas": {"width": 640, "height": 360},
                "users": [{"uid": "1", "width": 16, "height": 16, "adaption": 2, "pushVideo": true}],
                "images": [{"url": "https://h/a.png", "width": 16, "height": 16, "adaption": 2}]}"#,
        )
        .unwrap();
        let Source::Rectangles(windows) = &draft.spec.source else { panic!("{draft:?}") };
        assert_eq!(windows[0].adaption, Adaption::Stretch);
        assert_eq!(draft.spec.pictures[0].adaption, Adaption::Stretch);
    }

    #[test]
    fn what_is_wrong_is_named() {
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
