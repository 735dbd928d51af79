//! One run of a push task: connects all parts.
//!
//! In: orders. Out: reports, and a publish while there is a lease. Deliberately absent: decisions about the picture,
//! which the [`Composer`] and the parent process make; pipes and lines.
//!
//! ```text
//!   Input (one for each stream) ── pictures, sounds ──> Composer ── frames ──> Encoder ── tags ──> Publisher
//! ```
//!
//! Only an expired lease or an order ends a run: inputs, encoders and receivers are retried after failures.

mod image_requests;
mod passthrough;
mod plan;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use lianmai_media_plane::is_public;
use lianmai_media_plane::upstream::{UpstreamOptions, UpstreamUrl};
use tokio::sync::{mpsc, watch};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until, timeout};

use crate::child::Tools;
use crate::composer::{ComposedFrame, Composer, Micros};
use crate::flv::Tag;
use crate::images::{ImageError, ImageOptions, image};
use crate::input::{Input, InputOptions, InputState, Media, NamedMedia, PullUrl};
use crate::lease::Lease;
use crate::message::{Failure, Job, Order, Report, SourceState, Stats, VERSION};
use crate::output::{Encoder, EncoderEvent, Publisher, PushEvent, Target};
use crate::picture::Picture;
use image_requests::{ImageRequests, ImageVariant};
use passthrough::Passthrough;

/// Interval between requests for a lease: several fit into the two seconds of a lease.
const RENEW_INTERVAL: Duration = Duration::from_millis(400);
/// A run that gets no lease for this time ends.
const FIRST_LEASE: Duration = Duration::from_secs(10);
/// Interval between reports of the counters.
const STATS: Duration = Duration::from_secs(5);
/// Time limit for the end of the publish, and for the last report.
const END_TIMEOUT: Duration = Duration::from_secs(2);
/// Maximum number of pictures and sound chunks that wait.
const MEDIA: usize = 32;
/// Maximum number of tags that wait for the publisher.
const TAGS: usize = 1024;
/// Maximum duration of the sound that waits for an encoder without room, in seconds; more of it is lost.
const MAX_CARRIED_SECONDS: usize = 2;

/// The environment of a run.
#[derive(Clone, Debug)]
pub struct RunEnvironment {
    /// The programs.
    pub tools: Tools,
    /// Options for connections to receivers.
    pub upstream: UpstreamOptions,
    /// Whether images may come from addresses that are not public.
    pub private_images: bool,
}

/// Executes a run. Returns when it has ended, after its last report. The end of `orders` counts as an order to stop.
pub async fn run(
    number: u64,
    job: Job,
    environment: RunEnvironment,
    orders: mpsc::Receiver<Order>,
    reports: mpsc::Sender<Report>,
) {
    let last = match Run::start(number, job, environment, reports.clone()) {
        Ok(mut run) => {
            let ended = run.serve(orders).await;
            run.end(ended).await
        }
        Err(detail) => Report::Failed { run: number, failure: Failure::Internal, detail },
    };
    // A parent that reads nothing for this long is gone.
    let _ = timeout(END_TIMEOUT, reports.send(last)).await;
}

enum RunEnd {
    Stop,
    Lease,
}

/// Both ends of a channel: senders are cloned from the first, this run reads the second.
type Pipe<T> = (mpsc::Sender<T>, mpsc::Receiver<T>);

struct Run {
    number: u64,
    job: Job,
    environment: RunEnvironment,
    tools: Arc<Tools>,
    input_options: Arc<InputOptions>,
    reports: mpsc::Sender<Report>,
    begun: Instant,
    composer: Composer,
    inputs: BTreeMap<String, Input>,
    /// The states of the inputs, as last reported.
    states: BTreeMap<String, SourceState>,
    media: Pipe<NamedMedia>,
    images: JoinSet<(String, ImageVariant, Result<Picture, ImageError>)>,
    image_requests: ImageRequests,
    encoder: Encoder,
    encoder_events: Pipe<EncoderEvent>,
    /// Sound of frames for which the encoder had no room: epoch, position, and samples.
    carried: Option<(u64, u64, Vec<i16>)>,
    passthrough: Passthrough,
    tags: mpsc::Sender<Tag>,
    publisher: JoinHandle<()>,
    push_events: mpsc::Receiver<PushEvent>,
    target: watch::Sender<Target>,
    granted: watch::Sender<Option<Instant>>,
    stopping: watch::Sender<bool>,
    lease: Lease,
    sent: Arc<AtomicU64>,
    stats: Stats,
}

impl Run {
    fn start(
        number: u64,
        job: Job,
        environment: RunEnvironment,
        reports: mpsc::Sender<Report>,
    ) -> Result<Self, String> {
        let target = target(&job)?;
        let tools = Arc::new(environment.tools.clone());
        // The server determines the pull addresses; often they are its own listeners.
        let upstream =
            UpstreamOptions { own: Vec::new(), public_only: false, ..environment.upstream.clone() };
        let input_options = Arc::new(InputOptions { tools: environment.tools.clone(), upstream });
        let (tags, tag_queue) = mpsc::channel(TAGS);
        let encoder_events = mpsc::channel(16);
        let (push, push_events) = mpsc::channel(16);
        let (target, target_seen) = watch::channel(target);
        let (granted, lease_seen) = watch::channel(None);
        let (stopping, stop_seen) = watch::channel(false);
        let sent = Arc::new(AtomicU64::new(0));
        let publisher = Publisher {
            tags: tag_queue,
            target: target_seen,
            lease: lease_seen,
            stop: stop_seen,
            options: environment.upstream.clone(),
            sent: sent.clone(),
        };
        let encoder = encoder(&job, &tools, &tags, &encoder_events.0);
        let mut run = Self {
            number,
            composer: Composer::new(job.scene.clone(), 0),
            job,
            environment,
            tools,
            input_options,
            reports,
            begun: Instant::now(),
            inputs: BTreeMap::new(),
            states: BTreeMap::new(),
            media: mpsc::channel(MEDIA),
            images: JoinSet::new(),
            image_requests: ImageRequests::default(),
            encoder,
            encoder_events,
            carried: None,
            passthrough: Passthrough::default(),
            tags,
            publisher: tokio::spawn(publisher.run(push)),
            push_events,
            target,
            granted,
            stopping,
            lease: Lease::default(),
            sent,
            stats: Stats::default(),
        };
        run.follow()?;
        Ok(run)
    }

    async fn serve(&mut self, mut orders: mpsc::Receiver<Order>) -> RunEnd {
        let ask = self.lease.ask(Instant::now());
        self.report(Report::Accepted { v: VERSION, run: self.number, ask });
        let ticks = |period| {
            let mut ticks = interval(period);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            ticks
        };
        let (mut renew, mut count) = (ticks(RENEW_INTERVAL), ticks(STATS));
        renew.reset();
        count.reset();
        loop {
            let until = self.lease.until().unwrap_or(self.begun + FIRST_LEASE);
            if Instant::now() >= until {
                return RunEnd::Lease;
            }
            let due = self.begun + Duration::from_micros(self.composer.due().unsigned_abs());
            tokio::select! {
                biased;
                () = sleep_until(until) => {}
                order = orders.recv() => match order {
                    None => return RunEnd::Stop,
                    Some(order) => if self.order(order) {
                        return RunEnd::Stop;
                    },
                },
                _ = renew.tick() => {
                    let ask = self.lease.ask(Instant::now());
                    self.report(Report::Renew { run: self.number, ask });
                }
                Some(event) = self.push_events.recv() => self.pushed(event),
                Some(EncoderEvent::Failed) = self.encoder_events.1.recv() => {
                    self.stats.encoders += 1;
                    self.target.send_modify(|target| target.round += 1);
                    self.retrying(Failure::Encoder, "the encoder ended".into());
                }
                () = sleep_until(due) => self.compose_frame(),
                Some(done) = self.images.join_next() => if let Ok((url, variant, result)) = done {
                    self.fetched(&url, variant, result);
                },
                Some((name, media)) = self.media.1.recv() => self.media(&name, media),
                _ = count.tick() => {
                    self.stats.sent = self.sent.load(Relaxed);
                    self.stats.late = self.composer.skipped();
                    self.report(Report::Stats { run: self.number, stats: self.stats });
                }
            }
        }
    }

    /// Ends all parts, and returns the last report.
    async fn end(mut self, ended: RunEnd) -> Report {
        self.inputs.clear();
        let run = self.number;
        match ended {
            RunEnd::Lease => {
                // The parent also regards the lease as expired.
                let _ = self.granted.send(None);
                self.publisher.abort();
                let _ = (&mut self.publisher).await;
                let detail = "the lease is over".into();
                Report::Failed { run, failure: Failure::Silent, detail }
            }
            RunEnd::Stop => {
                let _ = self.stopping.send(true);
                if timeout(END_TIMEOUT, &mut self.publisher).await.is_err() {
                    self.publisher.abort();
                    let _ = (&mut self.publisher).await;
                }
                Report::Stopped { run }
            }
        }
    }

    /// Sends a report, unless the queue is full.
    fn report(&self, report: Report) {
        let _ = self.reports.try_send(report);
    }

    fn retrying(&self, failure: Failure, detail: String) {
        self.report(Report::Retrying { run: self.number, failure, detail });
    }

    fn now(&self) -> Micros {
        Micros::try_from(self.begun.elapsed().as_micros()).unwrap_or(Micros::MAX)
    }

    /// Executes an order. Returns whether the run has to end.
    fn order(&mut self, order: Order) -> bool {
        match order {
            Order::Lease { run, ask, ms } if run == self.number => {
                self.lease.grant(ask, ms);
                let _ = self.granted.send(self.lease.until());
            }
            Order::Update { run, job } if run == self.number => {
                if let Err(detail) = self.update(*job) {
                    self.report(Report::Refused { run, detail });
                }
            }
            Order::Stop { run } => return run == self.number,
            _ => {}
        }
        false
    }

    fn update(&mut self, job: Job) -> Result<(), String> {
        job.check().map_err(|error| error.to_string())?;
        let target = target(&job)?;
        let before = std::mem::replace(&mut self.job, job);
        self.composer.update(self.job.scene.clone());
        let encoding = plan::encoding(&self.job.scene);
        if encoding != self.encoder.encoding()
            || before.scene.fps != self.job.scene.fps
            || before.scene.pass_through != self.job.scene.pass_through
        {
            self.carried = None;
            self.encoder = encoder(&self.job, &self.tools, &self.tags, &self.encoder_events.0);
        }
        self.target.send_modify(|before| {
            *before = Target { round: before.round, ..target };
        });
        self.follow()
    }

    /// Starts and stops inputs and image downloads according to the job.
    fn follow(&mut self) -> Result<(), String> {
        let scene = &self.job.scene;
        let named = scene.inputs();
        self.inputs.retain(|id, _| named.contains(id.as_str()));
        self.states.retain(|id, _| named.contains(id.as_str()));
        for source in self.job.sources.iter().filter(|it| named.contains(it.id.as_str())) {
            let url = PullUrl::parse(&source.url).map_err(|error| error.to_string())?;
            let wanted = plan::wanted(scene, &source.id);
            if self.inputs.get(&source.id).is_some_and(|input| input.matches(&url, wanted)) {
                continue;
            }
            // The previous input ends first.
            self.inputs.remove(&source.id);
            self.states.remove(&source.id);
            let (input_options, out) = (self.input_options.clone(), self.media.0.clone());
            let input = Input::start(&source.id, url, wanted, input_options, out);
            self.inputs.insert(source.id.clone(), input);
        }
        self.passthrough.follow(scene.passed());
        let variant = ImageVariant {
            longest_side: scene.canvas.width.max(scene.canvas.height),
            background: scene.canvas.color,
        };
        let options = ImageOptions {
            tls: self.environment.upstream.tls.clone(),
            may_reach: if self.environment.private_images { |_| true } else { is_public },
            longest_side: variant.longest_side,
            background: variant.background,
        };
        let urls = scene.images.iter().map(|image| image.url.as_str());
        let images = &mut self.images;
        self.image_requests.follow(urls, variant, |url| {
            let (url, options) = (url.to_owned(), options.clone());
            images.spawn(async move {
                let result = image(&url, &options).await;
                (url, variant, result)
            })
        });
        Ok(())
    }

    fn fetched(&mut self, url: &str, variant: ImageVariant, result: Result<Picture, ImageError>) {
        if !self.image_requests.is_current(url, variant) {
            return;
        }
        match result {
            Ok(picture) => self.composer.image(url, Arc::new(picture)),
            Err(error) => {
                let images = &self.job.scene.images;
                if let Some(index) = images.iter().position(|image| image.url == url) {
                    let detail = error.to_string();
                    self.report(Report::ImageFailed { run: self.number, index, detail });
                }
            }
        }
    }

    fn pushed(&mut self, event: PushEvent) {
        match event {
            PushEvent::Pushing => {
                // LC is the only profile that ffmpeg's own AAC encoder can be used for.
                let audio_profile = "LC".into();
                self.report(Report::Pushing { run: self.number, audio_profile });
            }
            PushEvent::Failed(failure, detail) => {
                self.stats.failures += 1;
                self.retrying(failure, detail);
            }
        }
    }

    fn media(&mut self, name: &str, media: Media) {
        let now = self.now();
        match media {
            Media::Restarted => {
                self.composer.restarted(name);
                self.passthrough.restarted(name);
            }
            Media::Picture(time, picture) => self.composer.picture(now, name, time, picture),
            Media::Sound(time, samples) => self.composer.sound(now, name, time, &samples),
            Media::Passing(tag) => {
                self.composer.passing(now, name, Micros::from(tag.time) * 1000);
                self.passthrough.put(name, tag);
            }
            // States of inputs that were removed are not reported.
            Media::State(_) if !self.inputs.contains_key(name) => {}
            Media::State(state) => {
                let state = match state {
                    InputState::Waiting => SourceState::Waiting,
                    InputState::Flowing => SourceState::Flowing,
                    InputState::Unreachable => SourceState::Unreachable,
                    InputState::Undecodable => SourceState::Undecodable,
                };
                if self.states.insert(name.to_owned(), state) != Some(state) {
                    self.report(Report::Input { run: self.number, input: name.into(), state });
                }
            }
        }
    }

    fn compose_frame(&mut self) {
        // Media that has already arrived belongs to this frame.
        for _ in 0..MEDIA {
            let Ok((name, media)) = self.media.1.try_recv() else { break };
            self.media(&name, media);
        }
        let now = self.now();
        let Some(mut frame) = self.composer.compose(now) else { return };
        self.stats.composed += 1;
        let composer = &self.composer;
        self.passthrough.release(
            frame.at,
            |input, time| composer.output_time(input, time),
            &self.tags,
        );
        if let Some((epoch, at, mut sound)) = self.carried.take().filter(|it| it.0 == frame.epoch) {
            debug_assert_eq!(epoch, frame.epoch);
            sound.append(&mut frame.sound);
            (frame.sound_at, frame.sound) = (at, sound);
        }
        if self.encoder.has_room() {
            self.encoder.encode(frame);
        } else {
            self.carry(frame);
        }
    }

    /// Drops the picture of a frame, and stores its sound for the next one.
    fn carry(&mut self, frame: ComposedFrame) {
        self.stats.dropped += 1;
        let sound = self.job.scene.sound;
        let most = MAX_CARRIED_SECONDS * (sound.sample_rate * sound.channels) as usize;
        if frame.sound.len() <= most {
            self.carried = Some((frame.epoch, frame.sound_at, frame.sound));
        }
    }
}

fn target(job: &Job) -> Result<Target, String> {
    let url = UpstreamUrl::parse(&job.push).map_err(|error| error.to_string())?;
    let has_picture = job.scene.has_canvas() || job.scene.passed().is_some();
    Ok(Target { url, has_picture, round: 0 })
}

fn encoder(
    job: &Job,
    tools: &Arc<Tools>,
    tags: &mpsc::Sender<Tag>,
    events: &mpsc::Sender<EncoderEvent>,
) -> Encoder {
    let encoding = plan::encoding(&job.scene);
    // The encoder's metadata does not describe video that is passed through.
    let metadata = !job.scene.pass_through;
    Encoder::start(tools.clone(), encoding, metadata, tags.clone(), events.clone())
}
