//! The same with the client SDK: what an app does to publish, to learn of a publication and to play it.

use anyhow::{Context, Result, ensure};
use lianmai_client_sdk::{
    Client, ClientConfig, Event, EventStream, JoinOptions, MediaKind, MediaSelector, UserId,
};
use lianmai_test_support::media::Ffmpeg;
use tokio::time::timeout;

use crate::media::assert_playable;
use crate::server::{Pull, TEST_TIMEOUT, TestServer};

fn client(server: &TestServer) -> Client {
    let config = ClientConfig::new(format!("ws://{}", server.process.public), "demo");
    Client::new(config).expect("the address of a server")
}

async fn hear(events: &mut EventStream, wanted: impl Fn(&Event) -> bool) -> Result<Event> {
    let search = async {
        loop {
            let event = events.next().await.context("the events ended")?;
            if wanted(&event) {
                return anyhow::Ok(event);
            }
        }
    };
    timeout(TEST_TIMEOUT, search).await.context("not heard")?
}

/// Proves LEA-1, URL-2.
#[tokio::test]
async fn two_clients_publish_and_play() -> Result<()> {
    const ANN: UserId = UserId(u64::MAX);
    let server = TestServer::start().await?;
    let (ann, bob) = (client(&server), client(&server));
    let mut events = bob.events();
    bob.join(JoinOptions::new("room").uid(2u64)?).await?;
    ann.join(JoinOptions::new("room").uid(ANN)?.name("Ann")).await?;
    hear(&mut events, |event| matches!(event, Event::ClientJoin(join) if join.uid == ANN)).await?;

    let push = ann.publish(MediaSelector::Both).await?;
    let is_video = |event: &Event| {
        matches!(event, Event::StreamAdded(added)
            if added.uid == ANN && added.media_type == MediaKind::Video)
    };
    hear(&mut events, is_video).await?;
    ensure!(bob.members().iter().any(|member| member.uid == ANN && member.streams.len() == 2));

    let mut ffmpeg = Ffmpeg::push(&push.url)?;
    bob.subscribe(ANN, MediaKind::Audio).await?;
    let pull = bob.subscribe(ANN, MediaKind::Video).await?;
    let (rtmp, flv) = (pull.urls.rtmp.context("no rtmp")?, pull.urls.flv.context("no flv")?);
    assert_playable(&Pull { rtmp, flv }).await?;

    ann.leave().await?;
    ffmpeg.exited_within(TEST_TIMEOUT).await?;
    hear(&mut events, |event| matches!(event, Event::ClientLeave(left) if left.uid == ANN)).await?;
    bob.leave().await?;
    server.finish().await
}

/// An app that lost its connection comes back to its membership, and the push continues.
/// Proves CON-10, JOI-2, URL-9.
#[tokio::test]
async fn an_app_comes_back_with_the_same_join_id() -> Result<()> {
    let server = TestServer::start().await?;
    let entry =
        || Ok::<_, anyhow::Error>(JoinOptions::new("room").uid(1u64)?.join_id("0123456789abcdef"));
    let first = client(&server);
    let joined = first.join(entry()?).await?;
    let push = first.publish(MediaSelector::Both).await?;
    let watcher = client(&server);
    let mut events = watcher.events();
    watcher.join(JoinOptions::new("room").uid(2u64)?).await?;

    // The last handle is dropped: the socket is lost without a leave.
    drop(first);
    let again = client(&server);
    let rejoined = again.join(entry()?).await?;
    ensure!(rejoined.mid == joined.mid, "the same membership");
    ensure!(again.publish(MediaSelector::Both).await?.url == push.url, "and the same push URL");
    again.send_message("back").await?;
    // The next event of the watcher is the new message: no member left or joined.
    let heard = hear(&mut events, |event| {
        matches!(event, Event::Message { .. } | Event::ClientLeave(_) | Event::ClientJoin(_))
    });
    ensure!(matches!(heard.await?, Event::Message { .. }));
    again.leave().await?;
    watcher.leave().await?;
    server.finish().await
}
