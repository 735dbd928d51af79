//! The publish at the receiver. It starts again after each failure as long as there is a lease.
//!
//! In: tags, the address, the lease. Out: media at the receiver, and [`PushEvent`]s. Deliberately absent: encoding; the
//! granting of leases; RTMP, which `lianmai_media_plane::upstream` implements.
//!
//! Nothing is written without a lease. The lease is checked before every step and not only by a timer, because a
//! process that was suspended continues in the middle of a step.

use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::task::{Context, Poll};
use std::time::Duration;

use lianmai_media_plane::upstream::{Upstream, UpstreamError, UpstreamOptions, UpstreamUrl};
use lianmai_media_plane::{MediaKind, Packet};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, Sleep, sleep, sleep_until};

use super::GopCache;
use crate::flv::Tag;
use crate::message::Failure;

/// Pauses between attempts: the first one, which doubles, and the longest.
const PAUSES: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(4));
/// After a publish of so long, from when the receiver accepted it, the pauses begin anew.
const STEADY: Duration = Duration::from_secs(10);

/// The target of the publish.
#[derive(Clone, Debug)]
pub struct Target {
    /// The address. A changed address applies from the next connection on.
    pub url: UpstreamUrl,
    /// Whether there is a picture. If so, a publish counts as pushing once a keyframe was sent, otherwise once sound
    /// was sent.
    pub has_picture: bool,
    /// When this number changes, [`PushEvent::Pushing`] is reported again with the next keyframe or sound.
    pub round: u64,
}

/// An event of the publish.
#[derive(Debug)]
pub enum PushEvent {
    /// The receiver accepted the publish, and its socket accepted a keyframe, or sound if there is no picture.
    Pushing,
    /// The attempt failed; another one follows. Contains the reason and details for a log.
    Failed(Failure, String),
}

/// The publisher of a run.
#[derive(Debug)]
pub struct Publisher {
    /// The tags to publish.
    pub tags: mpsc::Receiver<Tag>,
    /// The target.
    pub target: watch::Receiver<Target>,
    /// The end of the lease; `None` without one.
    pub lease: watch::Receiver<Option<Instant>>,
    /// Becomes true when the publish has to end properly.
    pub stop: watch::Receiver<bool>,
    /// Options for connections to receivers.
    pub options: UpstreamOptions,
    /// Number of bytes that the sockets of all connections accepted.
    pub sent: Arc<AtomicU64>,
}

/// Why an attempt ended.
enum AttemptEnd {
    /// The lease expired.
    Lease,
    /// The publisher was told to stop.
    Stop,
    /// The video encoding changed, which many receivers do not accept within one publish.
    VideoChanged,
    Failed(UpstreamError),
}

/// The pauses between attempts.
#[derive(Debug)]
struct Backoff(Duration);

impl Default for Backoff {
    fn default() -> Self {
        Self(PAUSES.0)
    }
}

impl Backoff {
    /// The pause after an attempt that published for so long, if it published. A source chooses when its pictures change
    /// their shape: such an end counts as a failure unless the publish was steady.
    fn after(&mut self, ended: &AttemptEnd, published: Option<Duration>) -> Option<Duration> {
        let is_steady = published.is_some_and(|time| time >= STEADY);
        if is_steady {
            self.0 = PAUSES.0;
        }
        match ended {
            AttemptEnd::Lease | AttemptEnd::Stop => return None,
            AttemptEnd::VideoChanged if is_steady => return None,
            AttemptEnd::VideoChanged | AttemptEnd::Failed(_) => {}
        }
        let pause = self.0;
        self.0 = (pause * 2).min(PAUSES.1);
        Some(pause)
    }
}

impl Publisher {
    /// Publishes until it is told to stop or its owner is gone. Without a lease it waits for one.
    pub async fn run(mut self, events: mpsc::Sender<PushEvent>) {
        let mut cache = GopCache::default();
        let mut backoff = Backoff::default();
        loop {
            let mut accepted = None;
            let ended = self.attempt(&mut cache, &events, &mut accepted).await;
            let pause = backoff.after(&ended, accepted.map(|at: Instant| at.elapsed()));
            match ended {
                AttemptEnd::Stop => return,
                AttemptEnd::Lease | AttemptEnd::VideoChanged => {}
                AttemptEnd::Failed(error) => {
                    let told = PushEvent::Failed(failure(&error), error.to_string());
                    if events.send(told).await.is_err() {
                        return;
                    }
                }
            }
            if let Some(pause) = pause
                && self.keep(&mut cache, pin!(sleep(pause))).await.is_none()
            {
                return;
            }
        }
    }

    /// Says also when the receiver accepted, if it did.
    async fn attempt(
        &mut self,
        cache: &mut GopCache,
        events: &mpsc::Sender<PushEvent>,
        accepted: &mut Option<Instant>,
    ) -> AttemptEnd {
        let lease = self.lease.clone();
        let mut granted = self.lease.clone();
        let granted = async move {
            let now = Instant::now();
            let is_good = |until: &Option<Instant>| until.is_some_and(|until| until > now);
            if granted.wait_for(is_good).await.is_err() {
                std::future::pending().await
            }
        };
        if self.keep(cache, pin!(granted)).await.is_none() {
            return AttemptEnd::Stop;
        }
        let url = self.target.borrow_and_update().url.clone();
        let options = self.options.clone();
        let connecting = Leased::new(lease, async move { Upstream::publish(&url, &options).await });
        let upstream = match self.keep(cache, pin!(connecting)).await {
            None => return AttemptEnd::Stop,
            Some(None) => return AttemptEnd::Lease,
            Some(Some(Err(error))) => return AttemptEnd::Failed(error),
            Some(Some(Ok(upstream))) => upstream,
        };
        *accepted = Some(Instant::now());
        self.publish(cache, upstream, events).await
    }

    /// Waits for `until`, and stores arriving tags in the cache meanwhile. Returns `None` if the publisher has to end.
    async fn keep<F: Future>(
        &mut self,
        cache: &mut GopCache,
        mut until: Pin<&mut F>,
    ) -> Option<F::Output> {
        loop {
            tokio::select! {
                biased;
                _ = self.stop.wait_for(|stop| *stop) => return None,
                output = &mut until => return Some(output),
                tag = self.tags.recv() => cache.put(&tag?),
            }
        }
    }

    async fn publish(
        &mut self,
        cache: &mut GopCache,
        mut upstream: Upstream,
        events: &mpsc::Sender<PushEvent>,
    ) -> AttemptEnd {
        let before = self.sent.load(Relaxed);
        let mut progress = Progress::default();
        for tag in cache.tags() {
            if let Some(packet) = packet(&tag) {
                if let Err(error) = upstream.send_first(&packet) {
                    return AttemptEnd::Failed(error);
                }
                progress.queued(&tag, &upstream, self.has_picture());
            }
        }
        // A stream with pictures starts with a keyframe.
        let mut begun = cache.starts_with_keyframe() || !self.has_picture();
        let mut round = self.target.borrow().round;
        loop {
            let lease = self.lease.clone();
            let step = Leased::new(lease, async {
                tokio::select! {
                    biased;
                    _ = self.stop.wait_for(|stop| *stop) => PublishEvent::Stop,
                    error = upstream.serve() => PublishEvent::Failed(error),
                    tag = self.tags.recv() => tag.map_or(PublishEvent::Stop, PublishEvent::Tag),
                    () = progress.recheck() => PublishEvent::Recheck,
                }
            });
            let step = step.await;
            self.sent.store(before + upstream.written_bytes(), Relaxed);
            match step {
                None => return AttemptEnd::Lease,
                Some(PublishEvent::Stop) => {
                    // The last messages need the lease, too.
                    let _ = Leased::new(self.lease.clone(), upstream.finish()).await;
                    return AttemptEnd::Stop;
                }
                Some(PublishEvent::Failed(error)) => return AttemptEnd::Failed(error),
                Some(PublishEvent::Recheck) => {}
                Some(PublishEvent::Tag(tag)) => {
                    let is_other = cache.changes_video(&tag);
                    cache.put(&tag);
                    if is_other {
                        let _ = Leased::new(self.lease.clone(), upstream.finish()).await;
                        return AttemptEnd::VideoChanged;
                    }
                    let now = self.target.borrow().round;
                    if std::mem::replace(&mut round, now) != now {
                        progress = Progress::Nothing;
                    }
                    let waits = tag.kind == MediaKind::Video && !tag.is_config();
                    begun |= tag.is_key();
                    if let Some(packet) = packet(&tag).filter(|_| begun || !waits) {
                        if let Err(error) = upstream.send(&packet) {
                            return AttemptEnd::Failed(error);
                        }
                        progress.queued(&tag, &upstream, self.has_picture());
                    }
                }
            }
            if progress.take_accepted(&upstream) && events.send(PushEvent::Pushing).await.is_err() {
                return AttemptEnd::Stop;
            }
        }
    }

    fn has_picture(&self) -> bool {
        self.target.borrow().has_picture
    }
}

enum PublishEvent {
    Stop,
    Recheck,
    Tag(Tag),
    Failed(UpstreamError),
}

/// Whether the receiver has the keyframe or sound that counts.
#[derive(Debug, Default)]
enum Progress {
    #[default]
    Nothing,
    /// It ends at this byte of the connection.
    Queued(u64),
    Told,
}

impl Progress {
    fn queued(&mut self, tag: &Tag, upstream: &Upstream, has_picture: bool) {
        let counts = match tag.kind {
            MediaKind::Video => has_picture && tag.is_key(),
            MediaKind::Audio => !has_picture && !tag.is_config(),
            MediaKind::Metadata => false,
        };
        if counts && matches!(self, Self::Nothing) {
            *self = Self::Queued(upstream.written_bytes() + upstream.waiting_bytes());
        }
    }

    /// Whether the socket accepted it since the last call.
    fn take_accepted(&mut self, upstream: &Upstream) -> bool {
        let is_there = matches!(self, Self::Queued(end) if upstream.written_bytes() >= *end);
        if is_there {
            *self = Self::Told;
        }
        is_there
    }

    /// Completes when the progress should be checked again.
    async fn recheck(&self) {
        match self {
            Self::Queued(_) => sleep(Duration::from_millis(20)).await,
            Self::Nothing | Self::Told => std::future::pending().await,
        }
    }
}

fn packet(tag: &Tag) -> Option<Packet> {
    Packet::of_message(tag.kind, tag.time, &tag.body)
}

fn failure(error: &UpstreamError) -> Failure {
    match error {
        UpstreamError::Resolve(_)
        | UpstreamError::Connect(_)
        | UpstreamError::Tls(_)
        | UpstreamError::OwnListener
        | UpstreamError::NotPublic
        | UpstreamError::Timeout => Failure::Unreachable,
        UpstreamError::Refused(_) => Failure::Rejected,
        _ => Failure::Broken,
    }
}

/// A future that runs only while there is a lease. Its output is `None` when the lease has expired.
struct Leased<F> {
    future: Pin<Box<F>>,
    lease: watch::Receiver<Option<Instant>>,
    timer: Pin<Box<Sleep>>,
}

impl<F: Future> Leased<F> {
    fn new(lease: watch::Receiver<Option<Instant>>, future: F) -> Self {
        let until = lease.borrow().unwrap_or_else(Instant::now);
        Self { future: Box::pin(future), lease, timer: Box::pin(sleep_until(until)) }
    }
}

impl<F: Future> Future for Leased<F> {
    type Output = Option<F::Output>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let until = *self.lease.borrow();
        let Some(until) = until.filter(|until| *until > Instant::now()) else {
            return Poll::Ready(None);
        };
        if self.timer.deadline() != until {
            self.timer.as_mut().reset(until);
        }
        if self.timer.as_mut().poll(cx).is_ready() {
            // The lease was extended or has expired: the next poll will tell.
            cx.waker().wake_by_ref();
        }
        self.future.as_mut().poll(cx).map(Some)
    }
}

#[cfg(test)]
mod tests {
    //! Proves no rule of the protocol: how often a receiver is tried. TSK-9.

    use rustls::crypto::ring;
    use rustls::{ClientConfig, RootCertStore};
    use tokio::net::TcpListener;

    use super::*;

    #[test]
    fn a_video_change_soon_after_the_last_one_is_delayed() {
        let mut backoff = Backoff::default();
        let mut after = |ended: &AttemptEnd, seconds: Option<u64>| {
            backoff.after(ended, seconds.map(Duration::from_secs)).map(|pause| pause.as_secs())
        };
        let failed = AttemptEnd::Failed(UpstreamError::Stalled);
        let soon = [(); 4].map(|()| after(&AttemptEnd::VideoChanged, Some(1)));
        assert_eq!(soon, [Some(1), Some(2), Some(4), Some(4)]);
        assert_eq!(after(&AttemptEnd::Lease, Some(1)), None);
        assert_eq!(after(&failed, None), Some(4));
        assert_eq!(after(&AttemptEnd::VideoChanged, Some(10)), None, "it was steady");
        assert_eq!(after(&failed, Some(9)), Some(1));
        assert_eq!(after(&failed, None), Some(2));
        assert_eq!(after(&failed, Some(10)), Some(1));
    }

    #[tokio::test(start_paused = true)]
    async fn a_receiver_that_never_answers_is_tried_less_often() {
        // The kernel accepts; nobody answers.
        let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("rtmp://{}/app/key", silent.local_addr().unwrap());
        let tls = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(RootCertStore::empty())
            .with_no_client_auth();
        let options = UpstreamOptions::new(Arc::new(tls));
        let limit = options.connect_timeout;
        let (_tags, tags) = mpsc::channel(1);
        let url = UpstreamUrl::parse(&url).unwrap();
        let (_target, target) = watch::channel(Target { url, has_picture: true, round: 0 });
        let (_lease, lease) = watch::channel(Some(Instant::now() + Duration::from_secs(3600)));
        let (_stop, stop) = watch::channel(false);
        let sent = Arc::default();
        let publisher = Publisher { tags, target, lease, stop, options, sent };
        let (told, mut events) = mpsc::channel(1);
        let task = tokio::spawn(publisher.run(told));
        events.recv().await.unwrap();
        for pause in [1, 2, 4, 4] {
            let before = Instant::now();
            events.recv().await.unwrap();
            let took = before.elapsed().as_secs();
            assert_eq!(took, limit.as_secs() + pause);
        }
        task.abort();
    }
}
