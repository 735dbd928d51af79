//! The bystanders of the hostile-input table: two members of one channel that exchange numbered messages and media all
//! the time, in a thread of their own, and detect whether anything is missing, duplicated, out of order or late.
//! Lateness does not count the time in which they or the server waited for a processor. Comes in: addresses. Goes out:
//! [`Bystanders::check`].

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail, ensure};
use lianmai_test_support::arrivals::Arrivals;
use lianmai_test_support::media::Ffmpeg;
use lianmai_test_support::process::{CpuWait, ServerProcess};
use lianmai_test_support::raw_ws::RawWs;
use serde_json::{Value, json};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{MissedTickBehavior, interval, timeout};

use crate::server::TEST_TIMEOUT;
use crate::stall_detector::StallDetector;

/// The bystanders' channel; hostile members join it too.
pub(crate) const CHANNEL: &str = "witness";
/// Speaks and pushes; the creator.
pub(crate) const SPEAKER: &str = "1";
/// Listens and pulls.
pub(crate) const LISTENER: &str = "2";

/// Time between two messages, unless more are requested.
const PERIOD: Duration = Duration::from_millis(100);
/// A message takes less than this, unless another client delays the server. Some milliseconds are usual.
const LATEST: Duration = Duration::from_secs(5);
/// Longer than the distance of two pictures: a player misses less of the stream.
const WIDEST: Duration = Duration::from_millis(200);
/// The first media of a player is older, and may have gaps.
const WARM: Duration = Duration::from_secs(1);

/// What the bystanders have seen so far.
#[derive(Debug, Default)]
struct Observations {
    sent: Vec<Moment>,
    heard: [usize; 2],
    slowest: Duration,
    /// Messages that are not judged yet: their duration is known when the stall detector has run again.
    messages: Vec<Span>,
    broken: Option<String>,
}

/// A moment, and how long the server and this thread had waited for a processor until then.
#[derive(Clone, Debug)]
struct Moment {
    at: Instant,
    server: CpuWait,
    own: CpuWait,
}

impl Moment {
    fn now(server: u32) -> Moment {
        Moment { at: Instant::now(), server: CpuWait::of(server), own: CpuWait::of_this_thread() }
    }

    fn until_now(&self, server: u32) -> Span {
        let now = Moment::now(server);
        // The waits are added: first the server could not pass a message on, then this thread could not read it.
        let starved = now.server.since(&self.server) + now.own.since(&self.own);
        Span { from: self.at, to: now.at, starved }
    }
}

/// The duration of something.
#[derive(Clone, Copy, Debug)]
struct Span {
    from: Instant,
    to: Instant,
    /// How long the processes that could have ended it waited for a processor.
    starved: Duration,
}

impl Span {
    /// The duration without the time in which the machine stood still.
    fn time(self) -> Duration {
        let ran = StallDetector::get().ran(self.from, self.to);
        ran.min((self.to - self.from).saturating_sub(self.starved))
    }
}

impl Observations {
    fn judge(&mut self) -> Result<()> {
        for message in self.messages.drain(..) {
            self.slowest = self.slowest.max(message.time());
        }
        ensure!(self.slowest < LATEST, "a message took {:?}", self.slowest);
        Ok(())
    }
}

#[derive(Debug)]
struct Shared {
    observed: Mutex<Observations>,
    changed: watch::Sender<()>,
}

impl Shared {
    fn observed(&self) -> MutexGuard<'_, Observations> {
        self.observed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tell(&self, change: impl FnOnce(&mut Observations)) {
        change(&mut self.observed());
        self.changed.send_replace(());
    }
}

/// The URLs of the bystanders, for rows that misuse them.
#[derive(Clone, Debug)]
pub(crate) struct Urls {
    pub(crate) push: String,
    pub(crate) pull_rtmp: String,
    pub(crate) pull_flv: String,
}

/// The running bystanders.
#[derive(Debug)]
pub(crate) struct Bystanders {
    shared: Arc<Shared>,
    say: mpsc::UnboundedSender<()>,
    pub(crate) urls: Urls,
    start: Instant,
    player: tokio::sync::Mutex<Arrivals>,
    /// From here on the player has no gaps.
    warm: Instant,
    _push: Ffmpeg,
}

impl Bystanders {
    /// Joins, publishes and plays.
    pub(crate) async fn start(server: &ServerProcess) -> Result<Self> {
        let (public, pid) = (server.public, server.pid()?);
        // Starts the detection of stalls.
        StallDetector::get();
        let start = Instant::now();
        let shared =
            Arc::new(Shared { observed: Mutex::default(), changed: watch::Sender::new(()) });
        let (say, said) = mpsc::unbounded_channel();
        let (ready, started) = oneshot::channel();
        let theirs = shared.clone();
        // A separate runtime, so that its tasks do not wait for the tasks of the test.
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            let ended = match runtime {
                Ok(runtime) => runtime.block_on(run((public, pid), theirs.clone(), said, ready)),
                Err(error) => Err(error.into()),
            };
            if let Err(error) = ended {
                theirs.tell(|observed| observed.broken = Some(format!("{error:#}")));
            }
        });
        let urls = match timeout(TEST_TIMEOUT, started).await {
            Ok(Ok(urls)) => urls,
            _ => bail!("the pair does not start: {:?}", shared.observed().broken),
        };
        let push = Ffmpeg::push(&urls.push)?;
        let mut player = Arrivals::open(&urls.pull_flv).await?;
        player.goes_on(WARM).await.with_context(|| push.said())?;
        let (player, warm) = (tokio::sync::Mutex::new(player), Instant::now());
        Ok(Bystanders { shared, say, urls, start, player, warm, _push: push })
    }

    /// Sends one more message and waits until both have received it and media has continued; then judges everything
    /// since the start.
    pub(crate) async fn check(&self) -> Result<()> {
        let wanted = self.shared.observed().sent.len() + 1;
        self.say.send(()).context("the speaker is gone")?;
        self.until("the next message", |observed| {
            observed.heard.iter().all(|heard| *heard >= wanted)
        })
        .await?;
        let mut player = self.player.lock().await;
        player.media(TEST_TIMEOUT).await?;
        let gap = player.longest_gap_since(self.warm)?;
        ensure!(gap < WIDEST, "{gap:?} of media are missing");
        self.shared.observed().judge()
    }

    /// Figures of the bystanders, for the report.
    pub(crate) fn summary(&self) -> String {
        let observed = self.shared.observed();
        let Observations { sent, slowest, .. } = &*observed;
        let stall = StallDetector::get().longest_since(self.start);
        format!(
            "{} messages, slowest {slowest:?}; longest stall of the machine {stall:?}",
            sent.len()
        )
    }

    async fn until(&self, what: &str, holds: impl Fn(&Observations) -> bool) -> Result<()> {
        let mut changed = self.shared.changed.subscribe();
        let wait = async {
            loop {
                {
                    let observed = self.shared.observed();
                    if let Some(broken) = &observed.broken {
                        return Err(anyhow!("the pair was disturbed: {broken}"));
                    }
                    if holds(&observed) {
                        return Ok(());
                    }
                }
                changed.changed().await?;
            }
        };
        match timeout(TEST_TIMEOUT, wait).await {
            Ok(result) => result,
            Err(_) => bail!("not in time: {what}; {:?}", self.summary()),
        }
    }
}

async fn run(
    (public, pid): (SocketAddr, u32),
    shared: Arc<Shared>,
    mut said: mpsc::UnboundedReceiver<()>,
    ready: oneshot::Sender<Urls>,
) -> Result<()> {
    let (mut speaker, mut hears) = join((public, pid), SPEAKER, "broadcaster", 0).await?;
    let (mut listener, mut listens) = join((public, pid), LISTENER, "audience", 1).await?;
    let push = call(&mut speaker, &mut hears, "publish", json!({}), &shared).await?;
    let play = |kind| json!({"uid": SPEAKER, "mediaType": kind});
    call(&mut listener, &mut listens, "subscribe", play("audio"), &shared).await?;
    let pull = call(&mut listener, &mut listens, "subscribe", play("video"), &shared).await?;
    let text = |value: &Value| Ok::<_, anyhow::Error>(value.as_str().context("no URL")?.to_owned());
    let urls = Urls {
        push: text(&push["urls"]["rtmp"])?,
        pull_rtmp: text(&pull["urls"]["rtmp"])?,
        pull_flv: text(&pull["urls"]["flv"])?,
    };
    let _ = ready.send(urls);
    let speak = async {
        let mut tick = interval(PERIOD);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = tick.tick() => {}
                asked = said.recv() => if asked.is_none() {
                    return anyhow::Ok(());
                },
                messages = speaker.messages() => {
                    hears.hear(&messages?, &shared)?;
                    continue;
                }
            }
            let number = shared.observed().sent.len();
            let now = Moment::now(pid);
            shared.observed().sent.push(now);
            speaker.request("sendMessage", json!({"data": number.to_string()})).await?;
        }
    };
    let listen = async {
        let mut ping = interval(Duration::from_secs(5));
        loop {
            tokio::select! {
                _ = ping.tick() => {
                    listener.request("ping", json!({})).await?;
                }
                messages = listener.messages() => listens.hear(&messages?, &shared)?,
            }
        }
    };
    tokio::select! {
        ended = speak => ended.context("speaker"),
        ended = listen => { let ended: Result<()> = ended; ended.context("listener") }
    }
}

async fn join(
    (public, server): (SocketAddr, u32),
    uid: &str,
    role: &str,
    index: usize,
) -> Result<(RawWs, Inbox)> {
    let mut socket = RawWs::connect(public).await?;
    let params = json!({"appkey": "demo", "channelName": CHANNEL, "uid": uid, "role": role});
    let joined = socket.call("join", params).await?;
    let seq = joined["seq"].as_u64().context("no seq")?;
    Ok((socket, Inbox { server, index, epoch: joined["epoch"].clone(), seq, next: 0 }))
}

/// Like [`RawWs::call`], but earlier messages are processed.
async fn call(
    socket: &mut RawWs,
    inbox: &mut Inbox,
    method: &str,
    params: Value,
    shared: &Shared,
) -> Result<Value> {
    let id = socket.request(method, params).await?;
    loop {
        let messages = socket.messages().await?;
        inbox.hear(&messages, shared)?;
        if let Some(answer) = messages.iter().find(|message| message["id"] == id) {
            ensure!(answer.get("result").is_some(), "{method}: {answer}");
            return Ok(answer["result"].clone());
        }
    }
}

/// What one member has received.
struct Inbox {
    server: u32,
    index: usize,
    epoch: Value,
    seq: u64,
    next: usize,
}

impl Inbox {
    fn hear(&mut self, messages: &[Value], shared: &Shared) -> Result<()> {
        for message in messages {
            ensure!(message.get("error").is_none(), "refused: {message}");
            ensure!(message["method"] != "closing", "closed: {message}");
            let params = &message["params"];
            let Some(seq) = params["seq"].as_u64() else { continue };
            ensure!(params["epoch"] == self.epoch, "another epoch: {message}");
            ensure!(seq == self.seq + 1, "event {seq} after {}", self.seq);
            self.seq = seq;
            if message["method"] != "message" || params["uid"] != SPEAKER {
                continue;
            }
            let number = self.next;
            let text = number.to_string();
            ensure!(params["data"] == text, "message {} instead of {text}", params["data"]);
            self.next += 1;
            shared.tell(|observed| {
                observed.heard[self.index] = number + 1;
                let pause = observed.sent[number].until_now(self.server);
                observed.messages.push(pause);
            });
        }
        Ok(())
    }
}
