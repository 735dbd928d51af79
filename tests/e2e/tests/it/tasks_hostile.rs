//! Harmful streams of members: another codec in the middle, garbage, pictures of 8K. Each affects only its own member:
//! the other members of the task and the push continue.

use anyhow::{Result, ensure};
use lianmai_compositor::child::MAX_MEMORY;
use lianmai_test_support::decoding::DecodedPublish;
use lianmai_test_support::process::rss_kib;
use lianmai_test_support::samples::{encoded, flashing_file, media_file};

use crate::server::Member;
use crate::tasks_setup::{BLUE, GREEN, Host, RED, TaskSetup, YELLOW, small};
use crate::tasks_splice::{Source, Splice};

/// Places in the upper right quarter of each picture, which does not flash.
const LEFT: (u32, u32) = (240, 100);
const RIGHT: (u32, u32) = (560, 100);

/// A host, a second member that pushes anything, and a task that shows both.
struct Beside {
    setup: TaskSetup,
    red: Host,
    _wild: Member,
    push: Splice,
    decoded: DecodedPublish,
}

impl Beside {
    async fn start() -> Result<Self> {
        let setup = TaskSetup::start().await?;
        let mut red = setup.host(100, ("red", 440, 3_000)).await?;
        let mut wild = setup.server.join("room", 200).await?;
        let push = Splice::to(wild.publish().await?);
        red.member.add_task(&small(&setup)).await?;
        red.member.task_is("pushing").await?;
        setup.receiver.pictures(1).await?;
        let decoded = DecodedPublish::start(setup.receiver.follow(), 640, 360)?;
        Ok(Beside { setup, red, _wild: wild, push, decoded })
    }

    /// Pushes a source, and waits for the colour that is seen of it.
    async fn shows(&mut self, source: &Source, color: u32) -> Result<()> {
        self.push.play(source.clone()).await?;
        let places = [(LEFT.0, LEFT.1, RED), (RIGHT.0, RIGHT.1, color)];
        self.decoded.until(&places).await.map(drop)
    }

    /// Checks that the other picture moves for this many milliseconds of the stream's own time.
    async fn goes_on(&mut self, ms: i64) -> Result<()> {
        let first = self.decoded.frame().await?.time;
        let mut bars = Vec::new();
        loop {
            let frame = self.decoded.frame().await?;
            bars.extend((0..320).find(|x| frame.picture.at(*x, 170).y > 160));
            bars.dedup();
            if frame.time - first > ms {
                break;
            }
        }
        // The bar is at another place in each picture, and there are 15 pictures per second.
        ensure!(i64::try_from(bars.len())? > ms / 200, "it stands still: {bars:?}");
        Ok(())
    }

    async fn finish(self) -> Result<()> {
        ensure!(self.setup.receiver.seen().publishes.len() == 1, "the push was cut");
        drop((self.push, self.red));
        self.setup.server.finish().await
    }
}

/// The source that the member pushes when it is harmless.
async fn good() -> Result<Source> {
    Ok(Source::of(flashing_file("blue", 1_000, 4_500).await?))
}

/// Proves TSK-5.
#[tokio::test]
async fn tsk_5_a_stream_that_is_encoded_in_another_way_is_seen_again_where_it_can_be() -> Result<()>
{
    let good = good().await?;
    // Another size, another sample rate.
    let other = encoded(
        "other-yellow.flv",
        "color=c=yellow:size=320x180:rate=25",
        "sine=frequency=1000:sample_rate=22050",
        "-t 20 -g 25",
    );
    let other = Source::of(other.await?);
    // A codec that the decoders of tasks do not have.
    let foreign = "-f lavfi -i color=c=white:size=640x360:rate=25 -f lavfi -i sine=sample_rate=44100 \
                   -t 20 -c:v flv -g 25 -c:a aac";
    let foreign = Source::of(media_file("foreign.flv", foreign.split_whitespace()).await?);
    let mut beside = Beside::start().await?;
    for (source, color) in
        [(&good, BLUE), (&other, YELLOW), (&good, BLUE), (&foreign, GREEN), (&good, BLUE)]
    {
        beside.shows(source, color).await?;
    }
    beside.finish().await
}

/// Proves TSK-5.
#[tokio::test]
async fn tsk_5_garbage_affects_only_its_member() -> Result<()> {
    let good = good().await?;
    let mut beside = Beside::start().await?;
    beside.shows(&good, BLUE).await?;
    for _ in 0..2 {
        beside.push.play(Source { is_spoilt: true, ..good.clone() }).await?;
        beside.goes_on(4_000).await?;
        beside.shows(&good, BLUE).await?;
    }
    beside.finish().await
}

/// Proves TSK-5.
#[tokio::test]
async fn tsk_5_a_picture_of_8k_is_not_decoded_and_takes_nothing_from_others() -> Result<()> {
    let good = good().await?;
    let huge = encoded(
        "huge-blue.flv",
        "color=c=blue:size=7680x4320:rate=2",
        "sine=frequency=1000:sample_rate=44100",
        "-t 8 -g 2",
    );
    let huge = Source::of(huge.await?);
    let mut beside = Beside::start().await?;
    beside.shows(&huge, GREEN).await?;
    // Longer than the time after which a decoder without output is replaced.
    beside.goes_on(14_000).await?;
    beside.shows(&huge, GREEN).await?;
    let children = beside.setup.all_children(4).await?;
    for pid in children {
        // A process that has ended has no memory.
        let bytes = rss_kib(pid).unwrap_or_default() * 1024;
        ensure!(bytes < MAX_MEMORY / 2, "{bytes} bytes of {pid}");
    }
    beside.shows(&good, BLUE).await?;
    beside.finish().await
}
