//! Converts jobs for the compositor. Comes in: a job of the engine, and URLs of the streams. Goes out: a message to the
//! compositor. Deliberately absent: decisions about the content.

use lianmai_compositor::message;
use lianmai_compositor::scene::{self, MAX_INPUTS};
use lianmai_protocol::Gen;
use lianmai_signal_engine::task::{Adaption, Job, Rect};

use super::address::push_url;

/// The message for a job. Members without a URL are neither seen nor heard.
pub(super) fn job(job: &Job, url: impl Fn(Gen) -> Option<String>) -> message::Job {
    let spec = &job.spec;
    let (mut sources, mut tiles, mut voices) = (Vec::new(), Vec::new(), Vec::new());
    let mut named = |stream: Gen| {
        let id = stream.to_string();
        let is_there = sources.iter().any(|source: &message::Source| source.id == id);
        if !is_there {
            if sources.len() >= MAX_INPUTS {
                return None;
            }
            sources.push(message::Source { id: id.clone(), url: url(stream)? });
        }
        Some(id)
    };
    for tile in &job.shown.tiles {
        let Some(input) = named(tile.generation) else { continue };
        let (rect, adaption) = (rect(tile.rect), adaption(tile.adaption));
        tiles.push(scene::Tile { input, rect, adaption, z: tile.z });
    }
    for voice in &job.shown.voices {
        voices.extend(named(voice.generation));
    }
    let images = spec.pictures.iter().map(|picture| scene::Image {
        url: picture.url.clone(),
        rect: rect(picture.rect),
        adaption: adaption(picture.adaption),
        z: None,
        unless: None,
    });
    message::Job {
        push: push_url(spec.address.secret_url()),
        sources,
        scene: scene::Scene {
            canvas: scene::Canvas {
                width: spec.canvas.width,
                height: spec.canvas.height,
                color: spec.canvas.color,
            },
            fps: spec.encoding.fps,
            video_kbps: spec.encoding.video_kbps,
            sound: scene::Sound {
                kbps: spec.sound.kbps,
                sample_rate: spec.sound.sample_rate,
                channels: spec.sound.channels,
                codec_profile: spec.sound.codec_profile,
            },
            tiles,
            voices,
            images: images.collect(),
            pass_through: spec.pass_through,
        },
    }
}

fn rect(rect: Rect) -> scene::Rect {
    scene::Rect { x: rect.x, y: rect.y, width: rect.width, height: rect.height }
}

fn adaption(adaption: Adaption) -> scene::Adaption {
    match adaption {
        Adaption::Fit => scene::Adaption::Fit,
        Adaption::Crop => scene::Adaption::Crop,
        Adaption::Stretch => scene::Adaption::Stretch,
    }
}

#[cfg(test)]
mod tests {
    //! Proves no rule of the protocol: messages to a compositor.

    use lianmai_protocol::{Mid, UserId};
    use lianmai_signal_engine::task::{Composition, layout};

    use super::super::spec_of;
    use super::*;

    fn stream(number: u8) -> Gen {
        Gen { route: 0, random: [number; 12] }
    }

    #[test]
    fn every_composition_makes_a_valid_job() {
        let spec = spec_of(
            r#"{"canvas": {"width": 640, "height": 360, "color": 255},
                "users": [{"uid": "1", "width": 320, "height": 180, "adaption": 0, "zOrder": 7, "pushVideo": true}],
                "images": [{"url": "https://img.example/a.png", "x": 2, "y": 4, "width": 16, "height": 18}]}"#,
        );
        let publishers: Vec<_> = (0..60)
            .map(|n| layout::Publisher {
                uid: UserId(u64::from(n)),
                audio: Some(stream(n)),
                video: Some(stream(n + 100)),
            })
            .collect();
        let shown = layout::compose(&spec.source, spec.canvas, None, &publishers);
        let viewer: Mid = "j72ceuvw75efr6edt4sq".parse().unwrap();
        let wanted = Job { owner: None, spec, shown, viewer };
        let made = job(&wanted, |stream| Some(format!("rtmp://127.0.0.1/live/{stream}?s=1")));
        assert_eq!(made.check(), Ok(()));
        assert_eq!(made.push, "rtmp://push.example/live/key");
        assert_eq!((made.sources.len(), made.scene.tiles[0].z, made.scene.images.len()), (1, 7, 1));
        // At most as many inputs are named as a compositor accepts.
        let voices = (0..60).map(|n| layout::Voice { uid: UserId(1), generation: stream(n) });
        let shown = Composition { tiles: Vec::new(), voices: voices.collect() };
        let made = job(&Job { shown, ..wanted }, |stream| {
            (stream.random[0] > 2).then(|| "rtmp://127.0.0.1/live/a".to_owned())
        });
        assert_eq!((made.check(), made.sources.len()), (Ok(()), MAX_INPUTS));
        assert_eq!(made.scene.voices.len(), MAX_INPUTS);
    }
}
