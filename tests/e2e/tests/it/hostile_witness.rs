//! The bystanders of the hostile-input table: two members of one channel who exchange numbered messages
//! and media all the time, in a thread of their own, and see whether anything is missing, doubled, out of
//! order or late. Comes in: addresses. Goes out: [`Witness::check`].

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail, ensure};
use lianmai_test_support::media::Ffmpeg;
use lianmai_test_support::process::{ServerProcess, Starved};
use lianmai_test_support::raw_ws::RawWs;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{MissedTickBehavior, interval, timeout};

use crate::hostile_meter::Meter;
use crate::stage::PATIENCE;

/// The channel of the pair; hostile members join it too.
pub(crate) const CHANNEL: &str = "witness";
/// Speaks and pushes; the creator.
pub(crate) const SPEAKER: &str = "1";
/// Listens and pulls.
pub(crate) const LISTENER: &str = "2";

/// Between two messages, unless more are asked for.
const PERIOD: Duration = Duration::from_millis(100);
/// A message arrives within this time.
const LATEST: Duration = Duration::from_secs(1);
/// Media arrives at least this often.
const WIDEST: Duration = Duration::from_millis(300);
/// Reads of media before gaps count: a player begins with a burst.
const WARM: u64 = 20;

/// What the pair saw so far.
#[derive(Debug, Default)]
struct Facts {
    sent: Vec<Instant>,
    heard: [usize; 2],
    slowest: Duration,
    widest: Duration,
    /// What is not judged yet: how long it took is known when the meter has run again.
    messages: Vec<Pause>,
    gaps: Vec<Pause>,
    reads: u64,
    broken: Option<String>,
}

/// A time that something took.
#[derive(Clone, Copy, Debug)]
struct Pause {
    from: Instant,
    to: Instant,
    /// What the machine is known to have kept those from running who could have ended it.
    starved: Duration,
}

impl Pause {
    /// Without the time that the machine stood still.
    fn time(self) -> Duration {
        let ran = Meter::get().ran(self.from, self.to);
        ran.min((self.to - self.from).saturating_sub(self.starved))
    }
}

impl Facts {
    fn judge(&mut self) -> Result<()> {
        for message in self.messages.drain(..) {
            self.slowest = self.slowest.max(message.time());
        }
        for gap in self.gaps.drain(..) {
            self.widest = self.widest.max(gap.time());
        }
        ensure!(self.slowest < LATEST, "a message took {:?}", self.slowest);
        ensure!(self.widest < WIDEST, "media had a gap of {:?}", self.widest);
        Ok(())
    }
}

#[derive(Debug)]
struct Shared {
    facts: Mutex<Facts>,
    changed: watch::Sender<()>,
}

impl Shared {
    fn facts(&self) -> MutexGuard<'_, Facts> {
        self.facts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tell(&self, change: impl FnOnce(&mut Facts)) {
        change(&mut self.facts());
        self.changed.send_replace(());
    }
}

/// The URLs of the pair, for whoever wants to misuse them.
#[derive(Clone, Debug)]
pub(crate) struct Urls {
    pub(crate) push: String,
    pub(crate) pull_rtmp: String,
    pub(crate) pull_flv: String,
}

/// A running pair.
#[derive(Debug)]
pub(crate) struct Witness {
    shared: Arc<Shared>,
    say: mpsc::UnboundedSender<()>,
    pub(crate) urls: Urls,
    start: Instant,
}

impl Witness {
    /// Joins, publishes and plays.
    pub(crate) async fn start(server: &ServerProcess) -> Result<Self> {
        let (public, pid) = (server.public, server.pid()?);
        // From here on it is known when the machine stands still.
        Meter::get();
        let start = Instant::now();
        let shared = Arc::new(Shared { facts: Mutex::default(), changed: watch::Sender::new(()) });
        let (say, said) = mpsc::unbounded_channel();
        let (ready, started) = oneshot::channel();
        let theirs = shared.clone();
        // A runtime of its own: what is measured here must not wait for the tasks of the test.
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            let ended = match runtime {
                Ok(runtime) => runtime.block_on(run((public, pid), theirs.clone(), said, ready)),
                Err(error) => Err(error.into()),
            };
            if let Err(error) = ended {
                theirs.tell(|facts| facts.broken = Some(format!("{error:#}")));
            }
        });
        let urls = match timeout(PATIENCE, started).await {
            Ok(Ok(urls)) => urls,
            _ => bail!("the pair does not start: {:?}", shared.facts().broken),
        };
        let witness = Witness { shared, say, urls, start };
        witness.until("media flows", |facts| facts.reads > WARM).await?;
        Ok(witness)
    }

    /// Says one thing more and waits until both have heard it and media went on; then judges all that was
    /// seen since the start.
    pub(crate) async fn check(&self) -> Result<()> {
        let (wanted, reads) = {
            let facts = self.shared.facts();
            (facts.sent.len() + 1, facts.reads)
        };
        self.say.send(()).context("the speaker is gone")?;
        self.until("the next message and media", |facts| {
            facts.heard.iter().all(|heard| *heard >= wanted) && facts.reads > reads
        })
        .await?;
        self.shared.facts().judge()
    }

    /// What the pair saw, for the report.
    pub(crate) fn summary(&self) -> String {
        let facts = self.shared.facts();
        let Facts { sent, slowest, widest, reads, .. } = &*facts;
        let stall = Meter::get().longest_since(self.start);
        format!(
            "{} messages, slowest {slowest:?}; {reads} media reads, widest gap {widest:?}; \
             longest stall of the machine {stall:?}",
            sent.len()
        )
    }

    async fn until(&self, what: &str, holds: impl Fn(&Facts) -> bool) -> Result<()> {
        let mut changed = self.shared.changed.subscribe();
        let wait = async {
            loop {
                {
                    let facts = self.shared.facts();
                    if let Some(broken) = &facts.broken {
                        return Err(anyhow!("the pair was disturbed: {broken}"));
                    }
                    if holds(&facts) {
                        return Ok(());
                    }
                }
                changed.changed().await?;
            }
        };
        match timeout(PATIENCE, wait).await {
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
    let (mut speaker, mut hears) = join(public, SPEAKER, "broadcaster", 0).await?;
    let (mut listener, mut listens) = join(public, LISTENER, "audience", 1).await?;
    let push = call(&mut speaker, &mut hears, "publish", json!({}), &shared).await?;
    let play = json!({"uid": SPEAKER, "mediaType": "video"});
    let pull = call(&mut listener, &mut listens, "subscribe", play, &shared).await?;
    let text = |value: &Value| Ok::<_, anyhow::Error>(value.as_str().context("no URL")?.to_owned());
    let urls = Urls {
        push: text(&push["urls"]["rtmp"])?,
        pull_rtmp: text(&pull["urls"]["rtmp"])?,
        pull_flv: text(&pull["urls"]["flv"])?,
    };
    let ffmpeg = Ffmpeg::push(&urls.push)?;
    let pids = [Some(pid), ffmpeg.pid()].map(Option::unwrap_or_default);
    let flv = urls.pull_flv.clone();
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
            let number = shared.facts().sent.len();
            shared.facts().sent.push(Instant::now());
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
        ended = watch_flv(&flv, pids, &shared) => ended.context("player"),
    }
}

async fn join(public: SocketAddr, uid: &str, role: &str, index: usize) -> Result<(RawWs, Ears)> {
    let mut socket = RawWs::connect(public).await?;
    let params = json!({"appkey": "demo", "channelName": CHANNEL, "uid": uid, "role": role});
    let joined = socket.call("join", params).await?;
    let seq = joined["seq"].as_u64().context("no seq")?;
    Ok((socket, Ears { index, epoch: joined["epoch"].clone(), seq, next: 0 }))
}

/// As [`RawWs::call`], but what comes before the answer is heard.
async fn call(
    socket: &mut RawWs,
    ears: &mut Ears,
    method: &str,
    params: Value,
    shared: &Shared,
) -> Result<Value> {
    let id = socket.request(method, params).await?;
    loop {
        let messages = socket.messages().await?;
        ears.hear(&messages, shared)?;
        if let Some(answer) = messages.iter().find(|message| message["id"] == id) {
            ensure!(answer.get("result").is_some(), "{method}: {answer}");
            return Ok(answer["result"].clone());
        }
    }
}

/// What one member has heard.
struct Ears {
    index: usize,
    epoch: Value,
    seq: u64,
    next: usize,
}

impl Ears {
    fn hear(&mut self, messages: &[Value], shared: &Shared) -> Result<()> {
        let now = Instant::now();
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
            shared.tell(|facts| {
                facts.heard[self.index] = number + 1;
                facts.messages.push(Pause {
                    from: facts.sent[number],
                    to: now,
                    starved: Duration::ZERO,
                });
            });
        }
        Ok(())
    }
}

/// Plays and measures the time between two arrivals, less what the processes had to wait for a processor.
async fn watch_flv(url: &str, pids: [u32; 2], shared: &Shared) -> Result<()> {
    let rest = url.strip_prefix("http://").context("no http URL")?;
    let (host, path) = rest.split_once('/').context("no path")?;
    let mut stream = TcpStream::connect(host).await?;
    let request = format!("GET /{path} HTTP/1.1\r\nHost: {host}\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut buffer = vec![0; 64 * 1024];
    let mut last: Option<(Instant, [Starved; 2])> = None;
    loop {
        let read = stream.read(&mut buffer).await?;
        ensure!(read > 0, "the stream ended");
        let now = Instant::now();
        let waited = pids.map(Starved::of);
        let gap = last.map(|(from, before)| {
            // One behind the other: what the encoder could not send, then what the server could not pass on.
            let starved = waited.iter().zip(&before).map(|(now, before)| now.since(before)).sum();
            Pause { from, to: now, starved }
        });
        last = Some((now, waited));
        shared.tell(|facts| {
            facts.reads += 1;
            if facts.reads > WARM {
                facts.gaps.extend(gap);
            }
        });
    }
}
