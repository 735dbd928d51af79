//! Images of a layout: one that is seen while a member is away, files that are not images, and addresses that are not
//! public. Comes in: the answers of a web server. Goes out: what a receiver sees, and what members and the operator are
//! told.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Context, Result, ensure};
use lianmai_test_support::decoding::DecodedPublish;
use lianmai_test_support::media::Ffmpeg;
use lianmai_test_support::samples::{flashing_file, media_file};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use crate::tasks_setup::{BLUE, GREEN, Host, RED, TaskSetup, YELLOW, small};

/// The answer for a path.
#[derive(Clone, Debug)]
enum Answer {
    /// These bytes, then the end.
    Whole(Vec<u8>),
    /// These bytes, then zeros without an end.
    Endless(Vec<u8>),
    /// These bytes, then nothing while the connection lasts.
    Silent(Vec<u8>),
}

fn image(bytes: &[u8]) -> Answer {
    let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", bytes.len());
    Answer::Whole([head.as_bytes(), bytes].concat())
}

fn redirect(to: &str) -> Answer {
    let head = format!("HTTP/1.1 302 Found\r\nlocation: {to}\r\ncontent-length: 0\r\n\r\n");
    Answer::Whole(head.into_bytes())
}

/// A web server on loopback; dropping it ends it.
#[derive(Debug)]
struct Site {
    address: SocketAddr,
    asked: Arc<AtomicUsize>,
    _served: JoinSet<()>,
}

impl Site {
    async fn serve(answers: Vec<(&'static str, Answer)>) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let (asked, answers) = (Arc::new(AtomicUsize::new(0)), Arc::new(answers));
        let mut served = JoinSet::new();
        let counted = asked.clone();
        served.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                counted.fetch_add(1, Ordering::Relaxed);
                let answers = answers.clone();
                // A client that has read enough disconnects.
                connections.spawn(async move { drop(answer(stream, &answers).await) });
            }
        });
        Ok(Site { address, asked, _served: served })
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}?s3cret", self.address)
    }
}

async fn answer(mut stream: TcpStream, answers: &[(&'static str, Answer)]) -> Result<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await?);
    }
    let head = String::from_utf8_lossy(&head);
    let path = head.split([' ', '?']).nth(1).unwrap_or_default();
    let answer = answers.iter().find(|(of, _)| *of == path).context("nothing of that name")?;
    match &answer.1 {
        Answer::Whole(bytes) => stream.write_all(bytes).await?,
        Answer::Endless(bytes) => {
            stream.write_all(bytes).await?;
            loop {
                stream.write_all(&[0; 64 << 10]).await?;
            }
        }
        Answer::Silent(bytes) => {
            stream.write_all(bytes).await?;
            stream.read_u8().await?;
        }
    }
    stream.shutdown().await?;
    Ok(())
}

/// A picture of one colour as a file.
async fn png(color: &str, size: &str) -> Result<Vec<u8>> {
    let arguments = format!("-f lavfi -i color=c={color}:size={size} -frames:v 1");
    let file = media_file(&format!("{color}-{size}.png"), arguments.split(' ')).await?;
    Ok(std::fs::read(file)?)
}

fn placed(url: &str, x: u32, y: u32) -> Value {
    json!({"url": url, "x": x, "y": y, "width": 320, "height": 180})
}

/// Proves TSK-5, TSK-10.
#[tokio::test]
async fn tsk_5_an_image_is_seen_while_a_member_is_away() -> Result<()> {
    let setup = TaskSetup::start().await?;
    let site = Site::serve(vec![("/place.png", image(&png("yellow", "64x36").await?))]).await?;
    let (mut red, mut blue) = setup.hosts().await?;
    let mut wanted = small(&setup);
    let none = placed("http://127.0.0.1:9/none.png?s3cret", 0, 180);
    wanted["layout"]["images"] = json!([placed(&site.url("/place.png"), 320, 0), none]);
    red.member.add_task(&wanted).await?;
    red.member.task_is("pushing").await?;
    // One of the images cannot be loaded, which stops nothing.
    red.member.hear("rtmpTasksStatus", |told| told["code"] == 512).await?;
    setup.receiver.pictures(1).await?;
    let mut decoded = DecodedPublish::start(setup.receiver.follow(), 640, 360)?;
    decoded.until(&[(240, 100, RED), (560, 100, BLUE), (160, 270, GREEN)]).await?;
    blue.member.call("unpublish", json!({"mediaType": ""})).await?;
    decoded.until(&[(240, 100, RED), (560, 100, YELLOW), (160, 270, GREEN)]).await?;
    let file = flashing_file("blue", 1_000, 4_500).await?;
    let _push = Ffmpeg::push_file(&file, &blue.member.publish().await?)?;
    decoded.until(&[(240, 100, RED), (560, 100, BLUE)]).await?;
    ensure!(setup.receiver.seen().publishes.len() == 1, "who comes and goes cuts the push");
    let log = setup.server.process.log().join("\n");
    ensure!(!log.contains("s3cret"), "a secret is in the log: {log}");
    setup.server.finish().await
}

/// Shows an image below the members, and waits for the notice that it cannot be used. Checks what the operator is told.
async fn refused(
    setup: &TaskSetup,
    host: &mut Host,
    revision: u64,
    url: &str,
    why: &str,
) -> Result<()> {
    let mut wanted = small(setup);
    wanted["layout"]["images"] = json!([placed(url, 0, 180)]);
    let known = setup.server.process.log_length();
    host.member.update_task(&wanted).await?;
    let is_it = |told: &Value| told["code"] == 512 && told["revision"] == revision;
    host.member.hear("rtmpTasksStatus", is_it).await.with_context(|| url.to_owned())?;
    let is_line = |line: &str| line.contains("an image failed") && line.contains(why);
    let line = setup.server.process.logged(known, is_line).await;
    line.with_context(|| format!("{url}: not that {why}"))?;
    Ok(())
}

const TOO_LARGE: &str = "too large";
const TOO_LONG: &str = "took too long";
const NO_IMAGE: &str = "neither PNG nor JPEG";
const NO_ANSWER: &str = "the answer is not the image";
const NO_URL: &str = "the URL is no address of an image";
const NO_CONNECTION: &str = "the connection failed";
const INSIDE: &str = "the address is not public";

/// Proves TSK-10.
#[tokio::test]
async fn tsk_10_what_is_no_image_is_told_and_stops_nothing() -> Result<()> {
    let setup = TaskSetup::start().await?;
    let (yellow, wide) = (png("yellow", "64x36").await?, png("yellow", "5000x36").await?);
    let head = |more: &str| format!("HTTP/1.1 200 OK\r\n{more}\r\n").into_bytes();
    let missing = b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n".to_vec();
    let site = Site::serve(vec![
        ("/good", image(&yellow)),
        ("/wide", image(&wide)),
        ("/half", image(&yellow[..yellow.len() / 2])),
        ("/text", image(b"<html>hello</html>")),
        ("/said", Answer::Whole(head("content-length: 1000000000\r\n"))),
        ("/endless", Answer::Endless(head(""))),
        ("/silent", Answer::Silent(head("content-length: 1000\r\n"))),
        ("/round", redirect("/round")),
        ("/file", redirect("file:///etc/passwd")),
        ("/missing", Answer::Whole(missing)),
    ])
    .await?;
    let (mut red, blue) = setup.hosts().await?;
    let mut wanted = small(&setup);
    wanted["layout"]["images"] = json!([placed(&site.url("/good"), 0, 180)]);
    red.member.add_task(&wanted).await?;
    red.member.task_is("pushing").await?;
    setup.receiver.pictures(1).await?;
    let mut decoded = DecodedPublish::start(setup.receiver.follow(), 640, 360)?;
    let members = [(240, 100, RED), (560, 100, BLUE)];
    let with = |color| [members[0], members[1], (160, 270, color)];
    decoded.until(&with(YELLOW)).await?;
    let rows = [
        ("/wide", TOO_LARGE),
        ("/half", NO_IMAGE),
        ("/text", NO_IMAGE),
        ("/said", TOO_LARGE),
        ("/endless", TOO_LARGE),
        ("/silent", TOO_LONG),
        ("/round", NO_ANSWER),
        ("/file", NO_URL),
        ("/missing", NO_ANSWER),
        ("/none", NO_CONNECTION),
    ];
    for (revision, (path, why)) in (2..).zip(rows) {
        refused(&setup, &mut red, revision, &site.url(path), why).await?;
        decoded.until(&with(GREEN)).await?;
    }
    red.member.update_task(&wanted).await?;
    decoded.until(&with(YELLOW)).await?;
    ensure!(setup.receiver.seen().publishes.len() == 1, "an image cut the push");
    let log = setup.server.process.log().join("\n");
    ensure!(!log.contains("s3cret"), "a secret is in the log: {log}");
    drop((red, blue));
    setup.server.finish().await
}

/// Proves TSK-10.
#[tokio::test]
async fn tsk_10_no_image_comes_from_the_inside_where_the_operator_has_it_so() -> Result<()> {
    let setup = TaskSetup::start_with(&[("LIANMAI_TASKS__PRIVATE_IMAGES", "false")]).await?;
    let site = Site::serve(vec![("/good", image(&png("yellow", "64x36").await?))]).await?;
    let (mut red, blue) = setup.hosts().await?;
    red.member.add_task(&small(&setup)).await?;
    red.member.task_is("pushing").await?;
    let port = site.address.port();
    let urls = [
        site.url("/good"),
        format!("http://localhost:{port}/good"),
        format!("http://[::ffff:127.0.0.1]:{port}/good"),
        format!("http://0.0.0.0:{port}/good"),
        "http://169.254.169.254/latest/meta-data".to_owned(),
        "https://10.0.0.1/good".to_owned(),
    ];
    for (revision, url) in (2..).zip(&urls) {
        refused(&setup, &mut red, revision, url, INSIDE).await?;
    }
    ensure!(site.asked.load(Ordering::Relaxed) == 0, "somebody of the inside was asked");
    setup.receiver.pictures(15).await?;
    drop((red, blue));
    setup.server.finish().await
}
