//! Real media during a storm: an ffmpeg that pushes as live-pusher does, and a player. Comes in: clients that publish
//! and subscribe. Goes out: when an ffmpeg ended, when media flowed, how long it paused.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use lianmai_client_sdk::protocol::message::notice::Direction;
use lianmai_client_sdk::{Event, EventKind, MediaKind, MediaSelector, ReconnectOutcome};
use lianmai_test_support::arrivals::Arrivals;
use lianmai_test_support::media::Ffmpeg;
use tokio::sync::watch;
use tokio::task::{JoinHandle, spawn_local};
use tokio::time::{sleep, timeout};

use crate::actors::Actor;
use crate::server::TEST_TIMEOUT;

/// How soon after its membership a push ends.
const END_DELAY: Duration = Duration::from_secs(5);
/// A player without media for this time tries again, because its URL may have changed.
const STALL_LIMIT: Duration = Duration::from_secs(5);

/// How long an encoder that lost its server waits before it tries again.
const RETRY_DELAY: Duration = Duration::from_millis(500);
/// Longer than every storm.
const FOR_EVER: Duration = Duration::from_secs(3600);

/// An ffmpeg that pushes what an actor publishes. When it ends, it is started again with its URL, or with a newer one
/// of the client.
#[derive(Debug)]
pub(crate) struct Pusher {
    pub(crate) actor: Actor,
    /// When an ffmpeg ended unexpectedly.
    pub(crate) ends: Rc<RefCell<Vec<Instant>>>,
    task: JoinHandle<()>,
}

impl Drop for Pusher {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Pusher {
    pub(crate) async fn start(actor: &Actor) -> Result<Self> {
        let published = actor.client.publish(MediaSelector::Both).await?;
        let kinds = [MediaKind::Audio, MediaKind::Video].map(|kind| (kind, true));
        actor.observer.seen().wanted.published.extend(kinds);
        let (tell, urls) = watch::channel(published.url);
        actor.client.on(EventKind::SyncDone, move |event| {
            if let Event::SyncDone(sync) = event
                && sync.direction == Direction::Push
                && sync.media_type == MediaKind::Audio
            {
                tell.send_replace(sync.url.clone());
            }
        });
        let ends = Rc::<RefCell<Vec<_>>>::default();
        let task = spawn_local(push(urls, Rc::clone(&ends)));
        Ok(Pusher { actor: actor.clone(), ends, task })
    }

    /// Ends of ffmpeg that neither the kill of the server nor the end of a membership explains.
    pub(crate) fn unexplained(&self, killed: Instant, recovered: Instant) -> Vec<String> {
        let seen = self.actor.observer.seen();
        let rejoined = |at: Instant| {
            seen.returns.iter().any(|back| {
                matches!(back.outcome, ReconnectOutcome::Rejoined { .. })
                    && back.blind_from < at
                    && at < back.back + END_DELAY
            })
        };
        let ends = self.ends.borrow();
        let bad = ends.iter().filter(|at| !(killed..recovered).contains(*at) && !rejoined(**at));
        let told = bad.map(|at| {
            let (uid, before) = (self.actor.uid().0, killed.saturating_duration_since(*at));
            let after = at.saturating_duration_since(killed);
            format!("the push of uid {uid} ended {before:?} before or {after:?} after the kill")
        });
        told.collect()
    }
}

async fn push(mut urls: watch::Receiver<String>, ends: Rc<RefCell<Vec<Instant>>>) {
    loop {
        let url = urls.borrow_and_update().clone();
        let Ok(mut ffmpeg) = Ffmpeg::push(&url) else { return };
        tokio::select! {
            _ = ffmpeg.exited_within(FOR_EVER) => {
                ends.borrow_mut().push(Instant::now());
                // Waits as live-pusher does; a new URL is used at once.
                let _ = timeout(RETRY_DELAY, urls.changed()).await;
            }
            changed = urls.changed() => if changed.is_err() { return },
        }
    }
}

/// An actor that plays what another one publishes.
#[derive(Debug)]
pub(crate) struct Viewer {
    actor: Actor,
    url: String,
    playing: Arrivals,
    since: Instant,
    started: Instant,
}

impl Viewer {
    /// Begins to play. Returns when media flows.
    pub(crate) async fn start(actor: &Actor, pusher: &Pusher) -> Result<Self> {
        let mut url = None;
        for kind in [MediaKind::Audio, MediaKind::Video] {
            url = actor.client.subscribe(pusher.actor.uid(), kind).await?.urls.flv;
        }
        let url = url.context("no FLV")?;
        let mut playing = Arrivals::open(&url).await?;
        playing.media(TEST_TIMEOUT).await?;
        let since = Instant::now();
        Ok(Viewer { actor: actor.clone(), url, playing, since, started: since })
    }

    /// The longest pause so far; an error if the stream has ended.
    pub(crate) fn longest_gap(&self) -> Result<Duration> {
        self.playing.longest_gap_since(self.since)
    }

    /// Plays again as soon as possible, with its URL, or with a newer one of the client.
    pub(crate) async fn play_again(
        &mut self,
        pusher: &Pusher,
        limit: Duration,
    ) -> Result<Duration> {
        let start = Instant::now();
        let whose = pusher.actor.uid();
        let mut failed = Vec::new();
        while start.elapsed() < limit {
            let told = self.actor.observer.seen().pulls.get(&whose).cloned();
            let url = told.unwrap_or_else(|| self.url.clone());
            let attempt = async {
                self.playing = Arrivals::open(&url).await?;
                self.since = Instant::now();
                self.playing.media(STALL_LIMIT).await
            };
            match attempt.await {
                Ok(()) => return Ok(start.elapsed()),
                Err(error) => failed.push(format!("at {:.1?}: {error:#}", start.elapsed())),
            }
            sleep(RETRY_DELAY).await;
        }
        bail!("nothing to see: {failed:#?}\n{}", self.explanation(pusher))
    }

    /// What may explain the state of the stream, as text.
    pub(crate) fn explanation(&self, pusher: &Pusher) -> String {
        let (whose, since) = (pusher.actor.uid(), self.started);
        let after = |at: Instant| at.saturating_duration_since(since);
        let returns = |actor: &Actor| {
            let returns = actor.observer.seen().returns.clone();
            let told =
                returns.into_iter().map(|back| (after(back.lost), after(back.back), back.outcome));
            told.collect::<Vec<_>>()
        };
        let ends: Vec<_> = pusher.ends.borrow().iter().map(|at| after(*at)).collect();
        format!(
            "after {:.1?}: the viewer came back {:.1?}, the publisher {:.1?}, whose ffmpeg ended at {ends:.1?}; the \
             viewer was told URLs of {:?}, subscribes to {:?}, sees {:?}",
            after(Instant::now()),
            returns(&self.actor),
            returns(&pusher.actor),
            self.actor.observer.seen().pulls.keys(),
            self.actor.client.self_info().map(|own| own.subscriptions),
            self.actor.client.members().iter().find(|member| member.uid == whose),
        )
    }
}
