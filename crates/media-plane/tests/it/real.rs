//! ffmpeg as publisher and player.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;

use lianmai_media_plane::{Direction, MediaKind, RelayConfig, StreamName, pull};

use crate::sockets::{Server, TEST_TIMEOUT, eventually, within};
use crate::support::*;

/// An ffmpeg process that is killed when its test ends.
struct Ffmpeg(Child);

impl Drop for Ffmpeg {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A file with three seconds of H.264 and AAC, made once.
fn source() -> &'static PathBuf {
    static SOURCE: OnceLock<PathBuf> = OnceLock::new();
    SOURCE.get_or_init(|| {
        let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("testsrc-sine.flv");
        if path.exists() {
            return path;
        }
        // Renamed when complete, because two runs may make it at the same time.
        let part = path.with_extension(format!("{}.flv", std::process::id()));
        let made = Command::new("ffmpeg")
            .args("-v error -nostdin -y -f lavfi -i testsrc=size=320x180:rate=25 -f lavfi -i sine -t 3".split(' '))
            .args("-c:v libx264 -preset ultrafast -pix_fmt yuv420p -g 25 -c:a aac -f flv".split(' '))
            .arg(&part)
            .status()
            .expect("ffmpeg is installed");
        assert!(made.success());
        std::fs::rename(part, &path).unwrap();
        path
    })
}

fn push(server: &Server, target: &str) -> Ffmpeg {
    let child = Command::new("ffmpeg")
        .args("-v error -nostdin -re -stream_loop -1 -i".split(' '))
        .arg(source())
        .args("-c copy -f flv".split(' '))
        .arg(format!("rtmp://{}/live/{target}", server.address))
        .stderr(Stdio::piped())
        .spawn()
        .expect("ffmpeg is installed");
    Ffmpeg(child)
}

/// What ffprobe finds in a stream: one line for each elementary stream.
async fn probe(url: String) -> Vec<String> {
    let probe = tokio::task::spawn_blocking(move || {
        Command::new("ffprobe")
            .args("-v error -show_entries stream=codec_name,width -of csv=p=0".split(' '))
            .arg(url)
            .output()
            .expect("ffprobe is installed")
    });
    let output = tokio::time::timeout(TEST_TIMEOUT, probe).await.unwrap().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let mut lines: Vec<_> =
        String::from_utf8(output.stdout).unwrap().lines().map(ToOwned::to_owned).collect();
    lines.sort();
    lines
}

/// Proves URL-2, URL-8.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ffmpeg_pushes_and_ffprobe_plays() {
    // On a busy machine, an encoder may pause. It must not count as silent.
    let config = RelayConfig { takeover_silence: TEST_TIMEOUT, ..RelayConfig::default() };
    let server = Server::start(config, allow()).await;
    // One player comes before the publisher.
    let url = format!("rtmp://{}/live/a?v=probe", server.address);
    let early = tokio::spawn(probe(url.clone()));
    eventually("the player waits", || server.hub.stats().waiters == 1).await;
    let mut ffmpeg = push(&server, "a?sign=1");
    // Exactly these two streams, and no text stream.
    assert_eq!(early.await.unwrap(), ["aac", "h264,320"]);
    assert_eq!(probe(url).await, ["aac", "h264,320"]);

    let mut pull =
        pull::open(&server.hub, &allow(), request(Direction::Play, "a", "")).await.unwrap();
    let first = within(pull.next()).await.unwrap();
    assert!(first.starts_with(b"FLV\x01\x05"));
    let player = server.hub.play(&allow(), request(Direction::Play, "a", "")).await.unwrap();
    let mut batch = Vec::new();
    while batch.len() < 100 {
        within(player.next(&mut batch, 64)).await.unwrap();
    }
    let kinds: Vec<_> = batch[..4]
        .iter()
        .map(|packet| (packet.kind(), packet.is_header(), packet.is_keyframe()))
        .collect();
    assert_eq!(
        kinds,
        [
            (MediaKind::Metadata, true, false),
            (MediaKind::Video, true, false),
            (MediaKind::Audio, true, false),
            (MediaKind::Video, false, true),
        ]
    );

    // A second publisher is refused with a reason, and the first one goes on.
    let second = push(&server, "a");
    let refused = tokio::task::spawn_blocking(move || {
        let mut second = second;
        let mut text = String::new();
        let mut stderr = second.0.stderr.take().unwrap();
        std::io::Read::read_to_string(&mut stderr, &mut text).unwrap();
        text
    });
    let refused = within(refused).await.unwrap();
    assert!(refused.contains("streamBusy: "), "{refused}");
    assert!(ffmpeg.0.try_wait().unwrap().is_none());

    server.hub.cut_stream(&StreamName::new("live", "a"));
    eventually("ffmpeg ends", || ffmpeg.0.try_wait().unwrap().is_some()).await;
    assert!(!ffmpeg.0.wait().unwrap().success());
    while within(pull.next()).await.is_some() {}
    server.stop().await;
}
