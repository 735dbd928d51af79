//! A simplified server that follows the protocol: one app under test, one other member, one connection. It shares no
//! code with the engine.

use std::collections::{BTreeMap, VecDeque};

use lianmai_client_sdk::protocol::codec::{Element, decode_client_frame, encode_event};
use lianmai_client_sdk::protocol::message::event::*;
use lianmai_client_sdk::protocol::message::media::*;
use lianmai_client_sdk::protocol::message::notice::TargetedMessage;
use lianmai_client_sdk::protocol::message::session::*;
use lianmai_client_sdk::protocol::message::snapshot::*;
use lianmai_client_sdk::protocol::message::{Call, ChannelEvent, Notice, Position, Request};
use lianmai_client_sdk::protocol::*;

use super::support::*;

/// The app's membership as the server keeps it.
#[derive(Clone)]
struct Me {
    mid: u8,
    join_id: Option<String>,
    streams: BTreeMap<MediaKind, u8>,
    generation: u8,
    subscribed: bool,
    confirmed: u64,
    offered: u64,
    attempt: u64,
    last_id: u64,
    answers: BTreeMap<u64, String>,
    whispers: Vec<(u64, String)>,
    whispered: u64,
}

pub(crate) struct HonestServer {
    epoch: u8,
    seq: u64,
    floor: u64,
    log: Vec<(u64, ChannelEvent)>,
    fresh: u8,
    me: Option<Me>,
    /// Bob's membership and publication, if he is in the channel.
    bob: Option<(u8, Option<u8>)>,
    /// Whether the present connection is in the channel.
    seated: bool,
    /// How often each message of the app was delivered.
    pub(crate) said: BTreeMap<String, u32>,
    /// Frames that are in transit to the app.
    pub(crate) down: VecDeque<String>,
}

impl HonestServer {
    pub(crate) fn new() -> HonestServer {
        HonestServer {
            epoch: 1,
            seq: 0,
            floor: 0,
            log: vec![],
            fresh: 100,
            me: None,
            bob: None,
            seated: false,
            said: BTreeMap::new(),
            down: VecDeque::new(),
        }
    }

    fn fresh(&mut self) -> u8 {
        self.fresh = self.fresh.wrapping_add(1).max(1);
        self.fresh
    }

    fn emit(&mut self, event: ChannelEvent) {
        self.seq += 1;
        if self.seated {
            let position = Position { epoch: Epoch([self.epoch; 12]), seq: self.seq };
            self.down.push_back(encode_event(position, &event));
        }
        self.log.push((self.seq, event));
    }

    pub(crate) fn world(&mut self, what: u8) {
        let fresh = self.fresh();
        match (what % 5, self.bob) {
            (0, None) => {
                self.bob = Some((fresh, None));
                self.emit(client_join(BOB, Mid([fresh; 12])));
            }
            (0, Some((mid, publication))) => {
                if let Some(publication) = publication {
                    self.bob_stops(mid, publication);
                }
                self.bob = None;
                let (mid, reason) = (Mid([mid; 12]), LeaveReason::Left);
                self.emit(ChannelEvent::ClientLeave(ClientLeave { uid: BOB, mid, reason }));
            }
            (1, Some((mid, None))) => {
                self.bob = Some((mid, Some(fresh)));
                let change = stream(BOB, Mid([mid; 12]), MediaKind::Video, fresh);
                self.emit(ChannelEvent::StreamAdded(change));
            }
            (1, Some((mid, Some(publication)))) => self.bob_stops(mid, publication),
            (2 | 3, _) => {
                let data = format!("world {} {}", self.epoch, self.seq);
                self.emit(says(BOB, &data));
            }
            (4, _) => {
                let epoch = self.epoch;
                let Some(me) = &mut self.me else { return };
                me.whispered += 1;
                let (n, data) =
                    (me.whispered, format!("whisper {epoch} {} {}", me.mid, me.whispered));
                me.whispers.push((n, data.clone()));
                if self.seated {
                    let message = TargetedMessage { uid: BOB, data, n };
                    self.down.push_back(notice(Notice::Message(message)));
                }
            }
            _ => {}
        }
    }

    fn bob_stops(&mut self, mid: u8, publication: u8) {
        self.bob = Some((mid, None));
        if let Some(me) = &mut self.me {
            me.subscribed = false;
        }
        let change = stream(BOB, Mid([mid; 12]), MediaKind::Video, publication);
        self.emit(ChannelEvent::StreamRemoved(change));
    }

    /// The server process crashes: logs and answers are lost, and with `older` the stored member is slightly out of
    /// date.
    pub(crate) fn crash(&mut self, older: bool) {
        self.epoch += 1;
        (self.seq, self.floor) = (0, 0);
        self.log.clear();
        if let Some(me) = &mut self.me {
            me.answers.clear();
            me.last_id = 0;
            me.whispers.clear();
            me.whispered = 0;
            if older {
                me.streams.clear();
                me.subscribed = false;
            }
        }
        self.lost();
    }

    pub(crate) fn lost(&mut self) {
        self.seated = false;
        self.down.clear();
    }

    /// The grace period of the member ends.
    pub(crate) fn grace_ends(&mut self) {
        let Some(me) = self.me.take() else { return };
        self.end(&me, LeaveReason::Timeout);
    }

    fn end(&mut self, me: &Me, reason: LeaveReason) {
        let mid = Mid([me.mid; 12]);
        for (kind, publication) in me.streams.clone() {
            self.emit(ChannelEvent::StreamRemoved(stream(ME, mid, kind, publication)));
        }
        self.emit(ChannelEvent::ClientLeave(ClientLeave { uid: ME, mid, reason }));
    }

    pub(crate) fn trim(&mut self) {
        self.floor = self.seq;
        self.log.clear();
    }

    pub(crate) fn hear(&mut self, frame: &str) {
        for element in decode_client_frame(frame.as_bytes()).unwrap() {
            let Element::Request(request) = element else { panic!("{frame}") };
            let answer = match &request.call {
                Call::Join(join) => self.join(&request, join),
                Call::Reconnect(resume) => self.reconnect(&request, resume),
                _ if !self.seated => continue,
                Call::Ping(ping) => self.ping(&request, ping),
                _ => self.command(&request),
            };
            if let Some(answer) = answer {
                self.down.push_back(answer);
            }
        }
    }

    fn join(&mut self, request: &Request, join: &Join) -> Option<String> {
        if let Some(old) = self.me.take_if(|me| me.join_id != join.join_id) {
            self.end(&old, LeaveReason::Replaced);
        }
        if self.me.is_none() {
            let mid = self.fresh();
            self.me = Some(Me {
                mid,
                join_id: join.join_id.clone(),
                streams: BTreeMap::new(),
                generation: 0,
                subscribed: false,
                confirmed: 0,
                offered: 0,
                attempt: 0,
                last_id: request.id.0,
                answers: BTreeMap::new(),
                whispers: vec![],
                whispered: 0,
            });
            // The client's own `clientJoin` is in the log but not sent to it: the snapshot already contains the member.
            self.seq += 1;
            self.log.push((self.seq, client_join(ME, Mid([mid; 12]))));
        }
        let me = self.me.as_mut()?;
        me.offered += 1;
        me.confirmed = me.offered;
        let k = me.offered;
        self.seated = true;
        let mut answer = self.snapshot();
        (answer.ticket, answer.k) = (Some(k.to_string()), Some(k));
        Some(result(request, &answer))
    }

    fn reconnect(&mut self, request: &Request, resume: &Reconnect) -> Option<String> {
        let Some(me) = &mut self.me else {
            return Some(resume_refused(request, ResumeReason::Gone));
        };
        let k: u64 = resume.ticket.parse().unwrap();
        if k != me.confirmed && k != me.offered {
            return Some(resume_refused(request, ResumeReason::Invalid));
        }
        if resume.attempt <= me.attempt {
            return Some(resume_refused(request, ResumeReason::StaleAttempt));
        }
        me.attempt = resume.attempt;
        me.confirmed = k;
        me.offered = me.offered.max(k) + 1;
        let k = me.offered;
        let same = resume.epoch == Epoch([self.epoch; 12]);
        if same {
            me.whispers.retain(|(n, _)| *n > resume.n);
        }
        let whispers = me.whispers.clone();
        self.seated = true;
        let position = |seq| Position { epoch: Epoch([self.epoch; 12]), seq };
        if same && resume.seq >= self.floor && resume.want.is_none() {
            let missed: Vec<_> = self.log.iter().filter(|(seq, _)| *seq > resume.seq).collect();
            let answer = Resumed {
                replayed: missed.len() as u64,
                messages: whispers.len() as u64,
                ..resumed(Outcome::Replayed, k)
            };
            self.down
                .push_back(result(request, &Resumed { ticket: Some(k.to_string()), ..answer }));
            for (seq, event) in missed {
                self.down.push_back(encode_event(position(*seq), event));
            }
        } else {
            let reason = if same { ResumeReason::LogTrimmed } else { ResumeReason::EpochChanged };
            let answer = Resumed {
                reason: Some(reason),
                restore: !same,
                ticket: Some(k.to_string()),
                snapshot: Some(Box::new(self.snapshot())),
                ..resumed(Outcome::Snapshot, k)
            };
            self.down.push_back(result(request, &answer));
        }
        for (n, data) in whispers {
            self.down.push_back(notice(Notice::Message(TargetedMessage { uid: BOB, data, n })));
        }
        None
    }

    fn ping(&mut self, request: &Request, ping: &Ping) -> Option<String> {
        let me = self.me.as_mut()?;
        if ping.k == Some(me.offered) {
            me.confirmed = me.offered;
        }
        me.whispers.retain(|(n, _)| Some(*n) > ping.n);
        Some(result(request, &Pong { epoch: Epoch([self.epoch; 12]), seq: self.seq }))
    }

    fn command(&mut self, request: &Request) -> Option<String> {
        let me = self.me.as_ref()?;
        if let Some(answer) = me.answers.get(&request.id.0) {
            return Some(answer.clone());
        }
        assert!(request.id.0 > me.last_id, "{} is not new", request.id.0);
        let answer = self.run(request);
        if let Some(me) = &mut self.me {
            me.last_id = request.id.0;
            me.answers.insert(request.id.0, answer.clone());
        }
        Some(answer)
    }

    fn run(&mut self, request: &Request) -> String {
        let mid = Mid([self.me.as_ref().map_or(0, |me| me.mid); 12]);
        match &request.call {
            Call::Publish(asked) => {
                if self.me.as_ref().is_some_and(|me| me.streams.is_empty()) {
                    let generation = self.fresh();
                    self.me.as_mut().unwrap().generation = generation;
                }
                for kind in asked.media_type.kinds().iter() {
                    let publication = self.fresh();
                    let me = self.me.as_mut().unwrap();
                    if !me.streams.contains_key(kind) {
                        me.streams.insert(kind.clone(), publication);
                        let change = stream(ME, mid, kind.clone(), publication);
                        self.emit(ChannelEvent::StreamAdded(change));
                    }
                }
                let generation = self.me.as_ref().unwrap().generation;
                let url = format!("push {generation}");
                let generation = Gen { route: 0, random: [generation; 12] };
                result(
                    request,
                    &Published { uid: ME, url, urls: Urls::default(), generation, seq: self.seq },
                )
            }
            Call::Unpublish(asked) => {
                for kind in asked.media_type.kinds().iter() {
                    if let Some(publication) = self.me.as_mut().unwrap().streams.remove(kind) {
                        let change = stream(ME, mid, kind.clone(), publication);
                        self.emit(ChannelEvent::StreamRemoved(change));
                    }
                }
                done(request, self.seq)
            }
            Call::Subscribe(_) => match self.bob {
                Some((_, Some(publication))) => {
                    self.me.as_mut().unwrap().subscribed = true;
                    let url = format!("pull {publication}");
                    result(
                        request,
                        &Subscribed { uid: BOB, url, urls: Urls::default(), seq: self.seq },
                    )
                }
                _ => refusal(request, ErrorName::NotPublished),
            },
            Call::SendMessage(message) => {
                *self.said.entry(message.data.clone()).or_default() += 1;
                self.emit(says(ME, &message.data));
                result(request, &MessageSent { seq: self.seq, delivered: 0 })
            }
            Call::Leave(_) => {
                let me = self.me.take().unwrap();
                self.end(&me, LeaveReason::Left);
                let answer = done(request, self.seq);
                self.down.push_back(answer);
                self.seated = false;
                String::from("[]")
            }
            other => panic!("{}", other.method()),
        }
    }

    pub(crate) fn snapshot(&self) -> Joined {
        let me = self.me.as_ref().unwrap();
        let mid = Mid([me.mid; 12]);
        let mut mine = member(ME, mid);
        for (kind, publication) in &me.streams {
            let publication = Pub([*publication; 12]);
            mine.streams.push(StreamInfo { media_type: kind.clone(), publication });
        }
        let mut members = vec![];
        if let Some((bob, publication)) = self.bob {
            let publication = publication.map(|p| Pub([p; 12]));
            let streams = publication
                .map(|publication| StreamInfo { media_type: MediaKind::Video, publication });
            members.push(MemberInfo {
                streams: streams.into_iter().collect(),
                ..member(BOB, Mid([bob; 12]))
            });
        }
        let mut hello = snapshot(Role::Audience, self.seq, members);
        hello.own.published = me
            .streams
            .iter()
            .map(|(kind, publication)| OwnStream {
                media_type: kind.clone(),
                publication: Pub([*publication; 12]),
                generation: Gen { route: 0, random: [me.generation; 12] },
            })
            .collect();
        if let (true, Some((_, Some(publication)))) = (me.subscribed, self.bob) {
            let publication = Pub([publication; 12]);
            let subscription = Subscription { uid: BOB, media_type: MediaKind::Video, publication };
            hello.own.subscriptions = vec![subscription];
        }
        hello.own.role = Role::Broadcaster;
        (hello.mid, hello.own.mid) = (mid, mid);
        hello.session_id = SessionId([me.mid; 12]);
        hello.members.push(mine);
        hello.member_count = hello.members.len() as u64;
        hello.epoch = Epoch([self.epoch; 12]);
        (hello.ticket, hello.k) = (None, None);
        hello
    }
}
