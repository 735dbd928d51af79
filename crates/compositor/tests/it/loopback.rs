//! Proves no rule of the protocol: real encoders push, the compositor composes, and a receiver sees and hears what
//! was composed. No bound on real time decides: a wait ends when what is waited for is there.

use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use lianmai_compositor::child::Tools;
use lianmai_compositor::message::{Failure, Job, Order, Report, Source};
use lianmai_compositor::picture::{Picture, Yuv};
use lianmai_compositor::run::{RunEnvironment, run};
use lianmai_compositor::scene::{Adaption, Canvas, Rect, Scene, Sound, Tile};
use lianmai_media_plane::upstream::UpstreamOptions;
use rustls::crypto::ring;
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::relay::Relay;

/// Time limit for everything that may hang.
const TEST_TIMEOUT: Duration = Duration::from_secs(60);
const RUN: u64 = 7;
const SIDES: (u32, u32) = (320, 180);
const LEFT: Rect = Rect { x: 0, y: 0, width: 160, height: 90 };
const RIGHT: Rect = Rect { x: 160, y: 90, width: 160, height: 90 };

/// Starts an ffmpeg that pushes one colour and one tone.
fn pusher(url: &str, color: &str, tone: u32) -> Child {
    let mut ffmpeg = Command::new("ffmpeg");
    ffmpeg.args(["-v", "quiet", "-nostdin", "-re", "-f", "lavfi", "-i"]);
    ffmpeg.arg(format!("color=c={color}:size=640x360:rate=25"));
    ffmpeg.args(["-f", "lavfi", "-i"]).arg(format!("sine=frequency={tone}:sample_rate=44100"));
    ffmpeg
        .args("-c:v libx264 -preset ultrafast -tune zerolatency -pix_fmt yuv420p -g 25".split(' '));
    ffmpeg.args("-c:a aac -b:a 64k -f flv".split(' ')).arg(url);
    ffmpeg.stdin(Stdio::null()).kill_on_drop(true).spawn().expect("ffmpeg is installed")
}

fn environment() -> RunEnvironment {
    let tls = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(RootCertStore::empty())
        .with_no_client_auth();
    RunEnvironment {
        tools: Tools::default(),
        upstream: UpstreamOptions::new(Arc::new(tls)),
        private_images: true,
    }
}

fn tile(input: &str, rect: Rect) -> Tile {
    Tile { input: input.into(), rect, adaption: Adaption::Crop, z: 0 }
}

fn job(relay: &Relay, tiles: Vec<Tile>, voices: &[&str]) -> Job {
    let source = |id: &str, url: String| Source { id: id.into(), url };
    Job {
        push: relay.push_url("out"),
        // One source is pulled by HTTP-FLV, the other by RTMP.
        sources: vec![source("red", relay.pull_url("red")), source("blue", relay.push_url("blue"))],
        scene: Scene {
            canvas: Canvas { width: SIDES.0, height: SIDES.1, color: 0x00_8000 },
            fps: 15,
            video_kbps: 600,
            sound: Sound { kbps: 96, sample_rate: 48_000, channels: 2, codec_profile: 1 },
            tiles,
            voices: voices.iter().map(|name| (*name).to_owned()).collect(),
            images: Vec::new(),
            pass_through: false,
        },
    }
}

/// The parent process: it sends orders, and grants leases while `grants` is set.
struct Parent {
    orders: mpsc::Sender<Order>,
    reports: mpsc::Receiver<Report>,
    grants: Arc<AtomicBool>,
    task: JoinHandle<()>,
}

impl Parent {
    fn start(job: Job) -> Self {
        let (orders, queue) = mpsc::channel(16);
        let (said, mut saying) = mpsc::channel(256);
        let (told, reports) = mpsc::channel(256);
        let grants = Arc::new(AtomicBool::new(true));
        let task = tokio::spawn(run(RUN, job, environment(), queue, said));
        let (granting, back) = (grants.clone(), orders.clone());
        tokio::spawn(async move {
            while let Some(report) = saying.recv().await {
                if let Report::Accepted { ask, .. } | Report::Renew { ask, .. } = report
                    && granting.load(Relaxed)
                {
                    let _ = back.send(Order::Lease { run: RUN, ask, ms: 2000 }).await;
                }
                if told.send(report).await.is_err() {
                    return;
                }
            }
        });
        Self { orders, reports, grants, task }
    }

    async fn until(&mut self, wanted: impl Fn(&Report) -> bool) -> Report {
        let waiting = async {
            loop {
                let report = self.reports.recv().await.expect("the run goes on");
                if wanted(&report) {
                    return report;
                }
            }
        };
        timeout(TEST_TIMEOUT, waiting).await.expect("it is reported")
    }

    async fn order(&self, order: Order) {
        self.orders.send(order).await.unwrap();
    }

    async fn update(&self, job: Job) {
        self.order(Order::Update { run: RUN, job: Box::new(job) }).await;
    }

    async fn stop(mut self) {
        self.order(Order::Stop { run: RUN }).await;
        self.until(|report| *report == Report::Stopped { run: RUN }).await;
        timeout(TEST_TIMEOUT, self.task).await.unwrap().unwrap();
    }
}

/// A receiver: it delivers decoded pictures at the size of the canvas.
struct Viewer {
    pictures: mpsc::Receiver<Picture>,
    _child: Child,
}

impl Viewer {
    fn start(url: &str) -> Self {
        let mut ffmpeg = Command::new("ffmpeg");
        ffmpeg.args(["-v", "quiet", "-nostdin", "-fflags", "nobuffer", "-i", url]);
        ffmpeg.args("-map 0:v:0 -fps_mode passthrough -vf".split(' '));
        ffmpeg.arg(format!("scale={}:{}", SIDES.0, SIDES.1));
        ffmpeg.args("-f rawvideo -pix_fmt yuv420p -".split(' '));
        ffmpeg.stdin(Stdio::null()).stdout(Stdio::piped()).kill_on_drop(true);
        let mut child = ffmpeg.spawn().unwrap();
        let mut output = child.stdout.take().unwrap();
        let (sender, pictures) = mpsc::channel(4);
        tokio::spawn(async move {
            let mut data = vec![0; (SIDES.0 * SIDES.1 * 3 / 2) as usize];
            while output.read_exact(&mut data).await.is_ok() {
                let picture = Picture::new(SIDES.0, SIDES.1, data.clone()).unwrap();
                if sender.send(picture).await.is_err() {
                    return;
                }
            }
        });
        Self { pictures, _child: child }
    }

    /// Waits for a picture that has these colours at these places.
    async fn until(&mut self, wanted: &[(u32, u32, u32)]) {
        let waiting = async {
            while let Some(picture) = self.pictures.recv().await {
                if wanted.iter().all(|(x, y, rgb)| is_near(picture.at(*x, *y), *rgb)) {
                    return;
                }
            }
            panic!("the stream ended");
        };
        timeout(TEST_TIMEOUT, waiting).await.expect("it is seen");
    }
}

fn is_near(color: Yuv, rgb: u32) -> bool {
    let wanted = Yuv::from_rgb(rgb);
    color.y.abs_diff(wanted.y) < 12
        && color.u.abs_diff(wanted.u) < 16
        && color.v.abs_diff(wanted.v) < 16
}

/// The share of a tone in the energy of a second of sound.
fn loudness(samples: &[i16], tone: f64) -> f64 {
    let step = tone * std::f64::consts::TAU / 48_000.0;
    let (mut re, mut im, mut all) = (0.0, 0.0, 1e-9);
    for (index, sample) in samples.iter().enumerate() {
        let (sample, angle) = (f64::from(*sample), index as f64 * step);
        re += sample * angle.cos();
        im += sample * angle.sin();
        all += sample * sample;
    }
    2.0 * (re * re + im * im) / (all * samples.len() as f64)
}

/// Listens until a second of sound satisfies `wanted`.
async fn hear(url: &str, wanted: impl Fn(&[i16]) -> bool) {
    let mut ffmpeg = Command::new("ffmpeg");
    ffmpeg.args(["-v", "quiet", "-nostdin", "-i", url]);
    ffmpeg.args("-map 0:a:0 -ac 1 -ar 48000 -f s16le -".split(' '));
    ffmpeg.stdin(Stdio::null()).stdout(Stdio::piped()).kill_on_drop(true);
    let mut child = ffmpeg.spawn().unwrap();
    let mut output = child.stdout.take().unwrap();
    let hearing = async {
        let mut second = vec![0; 96_000];
        loop {
            output.read_exact(&mut second).await.expect("the stream goes on");
            let samples = second.as_chunks::<2>().0.iter().copied().map(i16::from_le_bytes);
            if wanted(&samples.collect::<Vec<_>>()) {
                return;
            }
        }
    };
    timeout(TEST_TIMEOUT, hearing).await.expect("it is heard");
}

const RED: u32 = 0xFF_0000;
const BLUE: u32 = 0x00_00FF;
const GREEN: u32 = 0x00_8000;

#[tokio::test(flavor = "multi_thread")]
async fn two_inputs_are_seen_and_heard_where_they_should_be() {
    let mut relay = Relay::start().await;
    let _red = pusher(&relay.push_url("red"), "red", 440);
    let both = vec![tile("red", LEFT), tile("blue", RIGHT)];
    let mut parent = Parent::start(job(&relay, both, &["red", "blue"]));
    let pushing = parent.until(|report| matches!(report, Report::Pushing { .. })).await;
    assert_eq!(pushing, Report::Pushing { run: RUN, audio_profile: "LC".into() });
    let mut viewer = Viewer::start(&relay.pull_url("out"));
    // One input is there, the other comes later.
    viewer.until(&[(80, 45, RED), (240, 135, GREEN), (240, 45, GREEN)]).await;
    let mut blue = pusher(&relay.push_url("blue"), "blue", 1000);
    viewer.until(&[(80, 45, RED), (240, 135, BLUE), (80, 135, GREEN)]).await;
    let is_both = |heard: &[i16]| [440.0, 1000.0].iter().all(|tone| loudness(heard, *tone) > 0.2);
    hear(&relay.pull_url("out"), is_both).await;
    // The inputs change places, and one of them is not heard any more.
    let other = vec![tile("red", RIGHT), tile("blue", LEFT)];
    parent.update(job(&relay, other, &["blue"])).await;
    viewer.until(&[(80, 45, BLUE), (240, 135, RED)]).await;
    // The other one is at least 40 dB lower.
    let is_one = |heard: &[i16]| loudness(heard, 1000.0) > 0.8 && loudness(heard, 440.0) < 1e-4;
    hear(&relay.pull_url("out"), is_one).await;
    // One input disappears without notice; nothing else changes.
    blue.kill().await.unwrap();
    viewer.until(&[(80, 45, GREEN), (240, 135, RED)]).await;
    let _blue = pusher(&relay.push_url("blue"), "blue", 1000);
    viewer.until(&[(80, 45, BLUE), (240, 135, RED)]).await;
    parent.stop().await;
    timeout(TEST_TIMEOUT, relay.ended("out")).await.expect("the run does not push any more");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_single_picture_is_passed_on_with_the_mixed_sound() {
    let relay = Relay::start().await;
    let _red = pusher(&relay.push_url("red"), "red", 440);
    let _blue = pusher(&relay.push_url("blue"), "blue", 1000);
    let mut wanted = job(&relay, vec![tile("red", LEFT)], &["red", "blue"]);
    wanted.scene.pass_through = true;
    let mut parent = Parent::start(wanted);
    parent.until(|report| matches!(report, Report::Pushing { .. })).await;
    // The picture keeps its own aspect ratio, independent of the canvas.
    let mut viewer = Viewer::start(&relay.pull_url("out"));
    viewer.until(&[(4, 4, RED), (80, 45, RED), (240, 135, RED)]).await;
    let is_both = |heard: &[i16]| [440.0, 1000.0].iter().all(|tone| loudness(heard, *tone) > 0.2);
    hear(&relay.pull_url("out"), is_both).await;
    // The canvas is used again, in another publish of the same run.
    drop(viewer);
    parent.update(job(&relay, vec![tile("red", LEFT)], &["red"])).await;
    parent.until(|report| matches!(report, Report::Pushing { .. })).await;
    let mut viewer = Viewer::start(&relay.pull_url("out"));
    viewer.until(&[(80, 45, RED), (240, 135, GREEN)]).await;
    parent.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_whose_lease_is_over_stops_by_itself() {
    let relay = Relay::start().await;
    let mut parent = Parent::start(job(&relay, Vec::new(), &[]));
    parent.until(|report| matches!(report, Report::Pushing { .. })).await;
    parent.grants.store(false, Relaxed);
    let last = parent.until(|report| matches!(report, Report::Failed { .. })).await;
    assert!(matches!(last, Report::Failed { failure: Failure::Silent, .. }), "{last:?}");
    timeout(TEST_TIMEOUT, parent.task).await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receiver_that_is_away_is_tried_again() {
    let relay = Relay::start().await;
    let away = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = away.local_addr().unwrap();
    let mut wanted = job(&relay, Vec::new(), &[]);
    wanted.push = format!("rtmp://{address}/live/out?key=verysecret");
    drop(away);
    let mut parent = Parent::start(wanted);
    let retrying = parent.until(|report| matches!(report, Report::Retrying { .. })).await;
    let Report::Retrying { failure, detail, .. } = retrying else { unreachable!() };
    assert_eq!(failure, Failure::Unreachable);
    assert!(!detail.contains("verysecret"), "{detail}");
    // The address changes; the new one applies from the next attempt on.
    parent.update(job(&relay, Vec::new(), &[])).await;
    parent.until(|report| matches!(report, Report::Pushing { .. })).await;
    parent.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn garbage_of_one_input_affects_no_other() {
    let relay = Relay::start().await;
    let _red = pusher(&relay.push_url("red"), "red", 440);
    let garbage = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = garbage.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = garbage.accept().await.unwrap();
            tokio::spawn(async move { drop(nonsense(&mut stream).await) });
        }
    });
    let both = vec![tile("red", LEFT), tile("blue", RIGHT)];
    let mut wanted = job(&relay, both, &["red", "blue"]);
    wanted.sources[1].url = format!("http://{address}/live/blue.flv");
    let mut parent = Parent::start(wanted);
    parent.until(|report| matches!(report, Report::Pushing { .. })).await;
    let mut viewer = Viewer::start(&relay.pull_url("out"));
    viewer.until(&[(80, 45, RED), (240, 135, GREEN)]).await;
    let is_blue = |report: &Report| {
        matches!(report, Report::Input { input, state, .. }
            if input == "blue" && *state != lianmai_compositor::message::SourceState::Waiting)
    };
    parent.until(is_blue).await;
    viewer.until(&[(80, 45, RED), (240, 135, GREEN)]).await;
    parent.stop().await;
}

/// A stream of FLV tags whose pictures and sounds are invalid.
async fn nonsense(stream: &mut TcpStream) -> std::io::Result<()> {
    use lianmai_media_plane::MediaKind;
    use lianmai_media_plane::flv::{encode_tag, file_header};
    stream.write_all(b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n").await?;
    stream.write_all(&file_header(true, true)).await?;
    let config = b"\x17\0\0\0\0\x01\x64\0\x1F\xFF\xE1\0\x04\x67\x64\0\x1F\x01\0\x02\x68\xEE";
    stream.write_all(&encode_tag(MediaKind::Video, 0, config)).await?;
    stream.write_all(&encode_tag(MediaKind::Audio, 0, b"\xAF\0\x12\x10")).await?;
    for number in 0..u32::MAX {
        let mut body = vec![0x17, 1, 0, 0, 0];
        body.extend((0..2000_u32).map(|at| (at * 31 + number * 17) as u8));
        stream.write_all(&encode_tag(MediaKind::Video, number * 40, &body)).await?;
        body.splice(..5, [0xAF, 1]);
        stream.write_all(&encode_tag(MediaKind::Audio, number * 40, &body[..200])).await?;
        // The pace of a sender, faster than that of its timestamps. Nothing waits for it.
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    Ok(())
}
