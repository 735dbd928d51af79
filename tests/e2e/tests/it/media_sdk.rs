//! The same with the client SDK: what an app does to publish, to hear of it and to play.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use lianmai_client_sdk::{
    Client, ClientConfig, Event, EventStream, JoinOptions, MediaKind, MediaSelector, UserId,
};
use lianmai_test_support::media::Ffmpeg;
use tokio::time::timeout;

use crate::media::assert_playable;
use crate::stage::{PATIENCE, Pull, Stage};

fn client(stage: &Stage) -> Client {
    Client::new(ClientConfig::new(format!("ws://{}", stage.server.public), "demo"))
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
    timeout(PATIENCE, search).await.context("not heard")?
}

#[tokio::test]
async fn two_clients_publish_and_play() -> Result<()> {
    const ANN: UserId = UserId(u64::MAX);
    let stage = Stage::start().await?;
    let (ann, bob) = (client(&stage), client(&stage));
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
    let pull = bob.subscribe(ANN, MediaKind::Video).await?;
    let (rtmp, flv) = (pull.urls.rtmp.context("no rtmp")?, pull.urls.flv.context("no flv")?);
    assert_playable(&Pull { rtmp, flv }).await?;

    ann.leave().await?;
    ffmpeg.exited_within(Duration::from_secs(1)).await?;
    hear(&mut events, |event| matches!(event, Event::ClientLeave(left) if left.uid == ANN)).await?;
    bob.leave().await?;
    stage.finish().await
}
