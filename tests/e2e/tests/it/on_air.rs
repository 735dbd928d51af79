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

use crate::cast::Guest;
use crate::stage::PATIENCE;

/// How soon after its membership a push ends.
const SOON: Duration = Duration::from_secs(5);
/// A player without media for this time tries again, because its URL may have changed.
const STALE: Duration = Duration::from_secs(5);

/// How long an encoder that lost its server waits before it tries again.
const AGAIN: Duration = Duration::from_millis(500);
/// Longer than every storm.
const FOR_EVER: Duration = Duration::from_secs(3600);

/// An ffmpeg that pushes what a guest publishes. When it ends, it is started again with its URL, or with a newer one of
/// the client.
#[derive(Debug)]
pub(crate) struct Pusher {
    pub(crate) guest: Guest,
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
    pub(crate) async fn start(guest: &Guest) -> Result<Self> {
        let published = guest.client.publish(MediaSelector::Both).await?;
        let kinds = [MediaKind::Audio, MediaKind::Video].map(|kind| (kind, true));
        guest.witness.seen().wish.published.extend(kinds);
        let (tell, urls) = watch::channel(published.url);
        guest.client.on(EventKind::SyncDone, move |event| {
            if let Event::SyncDone(sync) = event
                && sync.direction == Direction::Push
                && sync.media_type == MediaKind::Audio
            {
                tell.send_replace(sync.url.clone());
            }
        });
        let ends = Rc::<RefCell<Vec<_>>>::default();
        let task = spawn_local(push(urls, Rc::clone(&ends)));
        Ok(Pusher { guest: guest.clone(), ends, task })
    }

    /// Ends of ffmpeg that neither the kill of the server nor the end of a membership explains.
    pub(crate) fn unexplained(&self, killed: Instant, recovered: Instant) -> Vec<String> {
        let seen = self.guest.witness.seen();
        let rejoined = |at: Instant| {
            seen.returns.iter().any(|back| {
                matches!(back.outcome, ReconnectOutcome::Rejoined { .. })
                    && back.blind_from < at
                    && at < back.back + SOON
            })
        };
        let ends = self.ends.borrow();
        let bad = ends.iter().filter(|at| !(killed..recovered).contains(*at) && !rejoined(**at));
        let told = bad.map(|at| {
            let (uid, before) = (self.guest.uid().0, killed.saturating_duration_since(*at));
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
                let _ = timeout(AGAIN, urls.changed()).await;
            }
            changed = urls.changed() => if changed.is_err() { return },
        }
    }
}

/// A guest that plays what another one publishes.
#[derive(Debug)]
pub(crate) struct Viewer {
    guest: Guest,
    url: String,
    playing: Arrivals,
    since: Instant,
    started: Instant,
}

impl Viewer {
    /// Begins to play. Returns when media flows.
    pub(crate) async fn start(guest: &Guest, pusher: &Pusher) -> Result<Self> {
        let mut url = None;
        for kind in [MediaKind::Audio, MediaKind::Video] {
            url = guest.client.subscribe(pusher.guest.uid(), kind).await?.urls.flv;
        }
        let url = url.context("no FLV")?;
        let mut playing = Arrivals::open(&url).await?;
        playing.media(PATIENCE).await?;
        let since = Instant::now();
        Ok(Viewer { guest: guest.clone(), url, playing, since, started: since })
    }

    /// The longest pause so far; an error if the stream has ended.
    pub(crate) fn longest_gap(&self) -> Result<Duration> {
        self.playing.longest_gap_since(self.since)
    }

    /// Plays again as soon as possible, with its URL, or with a newer one of the client.
    pub(crate) async fn again(&mut self, pusher: &Pusher, limit: Duration) -> Result<Duration> {
        let start = Instant::now();
        let whose = pusher.guest.uid();
        let mut failed = Vec::new();
        while start.elapsed() < limit {
            let told = self.guest.witness.seen().pulls.get(&whose).cloned();
            let url = told.unwrap_or_else(|| self.url.clone());
            let attempt = async {
                self.playing = Arrivals::open(&url).await?;
                self.since = Instant::now();
                self.playing.media(STALE).await
            };
            match attempt.await {
                Ok(()) => return Ok(start.elapsed()),
                Err(error) => failed.push(format!("at {:.1?}: {error:#}", start.elapsed())),
            }
            sleep(AGAIN).await;
        }
        bail!("nothing to see: {failed:#?}\n{}", self.story(pusher))
    }

    /// What may explain the state of the stream, as text.
    pub(crate) fn story(&self, pusher: &Pusher) -> String {
        let (whose, since) = (pusher.guest.uid(), self.started);
        let after = |at: Instant| at.saturating_duration_since(since);
        let returns = |guest: &Guest| {
            let returns = guest.witness.seen().returns.clone();
            let told =
                returns.into_iter().map(|back| (after(back.lost), after(back.back), back.outcome));
            told.collect::<Vec<_>>()
        };
        let ends: Vec<_> = pusher.ends.borrow().iter().map(|at| after(*at)).collect();
        format!(
            "after {:.1?}: the viewer came back {:.1?}, the publisher {:.1?}, whose ffmpeg ended at {ends:.1?}; the \
             viewer was told URLs of {:?}, subscribes to {:?}, sees {:?}",
            after(Instant::now()),
            returns(&self.guest),
            returns(&pusher.guest),
            self.guest.witness.seen().pulls.keys(),
            self.guest.client.self_info().map(|own| own.subscriptions),
            self.guest.client.members().iter().find(|member| member.uid == whose),
        )
    }
}
