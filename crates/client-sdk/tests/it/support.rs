//! A session with a manual clock, and helpers that build the messages of its server.

use lianmai_client_sdk::protocol::codec::{
    Element, decode_client_frame, encode_error, encode_event, encode_notice, encode_result,
    join_batch,
};
use lianmai_client_sdk::protocol::message::event::*;
use lianmai_client_sdk::protocol::message::media::*;
use lianmai_client_sdk::protocol::message::notice::{ServerRestarting, TargetedMessage};
use lianmai_client_sdk::protocol::message::session::{
    Done, Empty, Join, Joined, Outcome, Pong, Reconnect, ResumeReason, Resumed, SendMessage, Timers,
};
use lianmai_client_sdk::protocol::message::snapshot::*;
use lianmai_client_sdk::protocol::message::{Call, ChannelEvent, Notice, Position, Request};
use lianmai_client_sdk::protocol::*;
use lianmai_client_sdk::session::{
    CallId, Command, ConnectionState, Input, Missed, Output, Picture, ReconnectOutcome, Reply,
    Session, SessionConfig, SocketId,
};
use lianmai_client_sdk::{CallError, Event};

pub(crate) const EPOCH: Epoch = Epoch([1; 12]);
pub(crate) const ME: UserId = UserId(7);
pub(crate) const MY_MID: Mid = Mid([7; 12]);
pub(crate) const BOB: UserId = UserId(8);
pub(crate) const BOB_MID: Mid = Mid([8; 12]);
pub(crate) const GEN: Gen = Gen { route: 5, random: [5; 12] };

pub(crate) struct Rig {
    pub(crate) session: Session,
    pub(crate) now: u64,
    next_call: u64,
    /// The host's last socket, which its reports are about.
    pub(crate) socket: SocketId,
}

impl Rig {
    pub(crate) fn new() -> Rig {
        Rig::with(SessionConfig::new("ws://server/v1/signal"))
    }

    pub(crate) fn with(config: SessionConfig) -> Rig {
        Rig {
            session: Session::new(config).unwrap(),
            now: 1_000,
            next_call: 0,
            socket: SocketId(0),
        }
    }

    /// A session in a channel at seq 10, with the given role, and no outputs left to poll.
    pub(crate) fn joined(role: Role) -> Rig {
        Rig::joined_with(SessionConfig::new("ws://server/v1/signal"), snapshot(role, 10, vec![]))
    }

    pub(crate) fn joined_with(config: SessionConfig, snapshot: Joined) -> Rig {
        let mut rig = Rig::with(config);
        rig.call(join());
        rig.drain();
        rig.open();
        let id = requests(&rig.drain())[0].id;
        rig.frame(&encode_result(id, &snapshot));
        rig.drain();
        assert_eq!(rig.session.state(), ConnectionState::Connected);
        rig
    }

    pub(crate) fn input(&mut self, input: Input<'_>) {
        self.session.handle(MonoTime(self.now), input);
    }

    pub(crate) fn call(&mut self, command: Command) -> CallId {
        self.next_call += 1;
        let call = CallId(self.next_call);
        self.input(Input::Command { call, command });
        call
    }

    pub(crate) fn frame(&mut self, text: &str) {
        self.bytes(text.as_bytes());
    }

    pub(crate) fn bytes(&mut self, bytes: &[u8]) {
        let socket = self.socket;
        // A host reports invalid UTF-8 as unreadable.
        self.input(match std::str::from_utf8(bytes) {
            Ok(text) => Input::Frame { socket, text },
            Err(_) => Input::Unreadable { socket },
        });
    }

    /// Reports that the socket is open.
    pub(crate) fn open(&mut self) {
        self.input(Input::SocketOpened { socket: self.socket });
    }

    /// Reports that the socket closed with this code.
    pub(crate) fn closed(&mut self, code: u16, reason: &str) {
        let reason = reason.to_owned();
        self.input(Input::SocketClosed { socket: self.socket, code, reason });
    }

    pub(crate) fn unreadable(&mut self) {
        self.input(Input::Unreadable { socket: self.socket });
    }

    pub(crate) fn events(&mut self, first_seq: u64, events: &[ChannelEvent]) {
        self.frame(&batch(first_seq, events));
    }

    pub(crate) fn drain(&mut self) -> Vec<Output> {
        std::iter::from_fn(|| self.poll()).collect()
    }

    pub(crate) fn poll(&mut self) -> Option<Output> {
        let output = self.session.poll_output();
        if let Some(Output::Connect { socket, .. }) = &output {
            self.socket = *socket;
        }
        output
    }

    /// Makes a call and returns the request that was sent for it.
    pub(crate) fn send(&mut self, command: Command) -> (CallId, Request) {
        let call = self.call(command);
        let sent = requests(&self.drain());
        assert_eq!(sent.len(), 1, "one request goes out");
        (call, sent.into_iter().next().unwrap())
    }

    /// Advances the time, stopping at each deadline as a host does.
    pub(crate) fn advance(&mut self, ms: u64) -> Vec<Output> {
        let end = self.now + ms;
        let mut outputs = self.drain();
        while let Some(at) = self.session.next_deadline().filter(|at| at.0 <= end) {
            assert!(at.0 >= self.now, "a deadline that was served is gone");
            self.now = at.0;
            self.input(Input::Timeout);
            outputs.extend(self.drain());
        }
        self.now = end;
        outputs
    }

    /// Reports the loss of the socket.
    pub(crate) fn lose(&mut self) -> Vec<Output> {
        self.closed(1006, "reset");
        self.drain()
    }

    /// Waits until the session wants a socket and opens it. Returns the outputs and the first request.
    pub(crate) fn reopen(&mut self) -> (Vec<Output>, Request) {
        let mut outputs = self.drain();
        while !wants_socket(&outputs) {
            let at = self.session.next_deadline().expect("the session comes back");
            self.now = self.now.max(at.0);
            self.input(Input::Timeout);
            outputs.extend(self.drain());
        }
        self.open();
        let opened = self.drain();
        let mut sent = requests(&opened);
        assert_eq!(sent.len(), 1, "nothing else until the answer");
        outputs.extend(opened);
        (outputs, sent.remove(0))
    }

    /// Opens the socket and returns the first request on it.
    pub(crate) fn opened(&mut self) -> Request {
        self.drain();
        self.open();
        requests(&self.drain()).remove(0)
    }

    pub(crate) fn picture(&self) -> &Picture {
        self.session.picture().unwrap()
    }
}

/// Whether the outputs end with a wanted socket.
pub(crate) fn wants_socket(outputs: &[Output]) -> bool {
    let last = outputs
        .iter()
        .rev()
        .find(|output| matches!(output, Output::Connect { .. } | Output::CloseSocket { .. }));
    matches!(last, Some(Output::Connect { .. }))
}

/// The addresses at which sockets were wanted.
pub(crate) fn connects(outputs: &[Output]) -> Vec<String> {
    let urls = outputs.iter().filter_map(|output| match output {
        Output::Connect { url, .. } => Some(url.clone()),
        _ => None,
    });
    urls.collect()
}

/// An answer to `reconnect`.
pub(crate) fn resumed(outcome: Outcome, k: u64) -> Resumed {
    Resumed {
        outcome,
        reason: None,
        action: None,
        ticket: Some(format!("t{k}")),
        k: Some(k),
        replayed: 0,
        messages: 0,
        messages_lost: 0,
        restore: false,
        snapshot: None,
    }
}

pub(crate) fn replayed(request: &Request, k: u64) -> String {
    result(request, &resumed(Outcome::Replayed, k))
}

pub(crate) fn resnapshot(
    request: &Request,
    reason: ResumeReason,
    restore: bool,
    mut snapshot: Joined,
) -> String {
    (snapshot.ticket, snapshot.k) = (None, None);
    let snapshot = Some(Box::new(snapshot));
    let answer = resumed(Outcome::Snapshot, 2);
    result(request, &Resumed { reason: Some(reason), restore, snapshot, ..answer })
}

pub(crate) fn resume_refused(request: &Request, reason: ResumeReason) -> String {
    let action = Some(reason.action());
    let answer = resumed(Outcome::Refused, 0);
    result(request, &Resumed { reason: Some(reason), action, ticket: None, k: None, ..answer })
}

/// The parameters of `reconnect`.
pub(crate) fn reconnect_of(request: &Request) -> &Reconnect {
    let Call::Reconnect(reconnect) = &request.call else { panic!("{}", request.call.method()) };
    reconnect
}

pub(crate) fn join_of(request: &Request) -> &Join {
    let Call::Join(join) = &request.call else { panic!("{}", request.call.method()) };
    join
}

pub(crate) fn methods(outputs: &[Output]) -> Vec<&'static str> {
    requests(outputs).iter().map(|request| request.call.method()).collect()
}

/// The answer to a ping, with this head.
pub(crate) fn pong(request: &Request, seq: u64) -> String {
    result(request, &Pong { epoch: EPOCH, seq })
}

pub(crate) fn disconnected(outputs: &[Output]) -> Option<(u16, String, bool)> {
    app_events(outputs).into_iter().find_map(|event| match event {
        Event::Disconnected { code, reason, terminal } => Some((code, reason, terminal)),
        _ => None,
    })
}

pub(crate) fn reconnected(outputs: &[Output]) -> Option<(ReconnectOutcome, Option<Missed>, u64)> {
    let mut found = app_events(outputs).into_iter().filter_map(|event| match event {
        Event::Reconnected { outcome, missed, messages_lost } => {
            Some((outcome, missed, messages_lost))
        }
        _ => None,
    });
    let first = found.next();
    assert!(found.next().is_none(), "told once");
    first
}

/// One message, or several in an array, numbered from `first_seq`.
pub(crate) fn batch(first_seq: u64, events: &[ChannelEvent]) -> String {
    let messages: Vec<String> = events
        .iter()
        .zip(first_seq..=u64::MAX)
        .map(|(event, seq)| encode_event(Position { epoch: EPOCH, seq }, event))
        .collect();
    String::from_utf8(join_batch(&messages)).unwrap()
}

pub(crate) fn array(messages: &[String]) -> String {
    String::from_utf8(join_batch(messages)).unwrap()
}

pub(crate) fn result<T: serde::Serialize>(request: &Request, result: &T) -> String {
    encode_result(request.id, result)
}

pub(crate) fn done(request: &Request, seq: u64) -> String {
    encode_result(request.id, &Done { seq })
}

pub(crate) fn refusal(request: &Request, name: ErrorName) -> String {
    encode_error(Some(request.id), &RpcError::new(name))
}

pub(crate) fn notice(notice: Notice) -> String {
    encode_notice(&notice)
}

/// A targeted message that contains its number.
pub(crate) fn whisper(n: u64) -> String {
    notice(Notice::Message(TargetedMessage { uid: BOB, data: n.to_string(), n }))
}

pub(crate) fn restarting(retry_after_ms: u64, jitter_ms: u64) -> String {
    let deadline_ms = 10_000;
    notice(Notice::ServerRestarting(ServerRestarting { retry_after_ms, jitter_ms, deadline_ms }))
}

pub(crate) fn join() -> Command {
    Command::Join(Join {
        appkey: "demo".parse().unwrap(),
        channel_name: "room".parse().unwrap(),
        uid: Some(ME),
        token: None,
        continues: None,
        role: None,
        join_id: Some("0123456789abcdef0123456789abcdef".to_owned()),
        name: None,
        attributes: Attributes::default(),
    })
}

pub(crate) fn leave() -> Command {
    Command::Leave(Empty {})
}

pub(crate) fn publish() -> Command {
    Command::Publish(Publish::default())
}

pub(crate) fn message(data: &str) -> Command {
    Command::SendMessage(SendMessage { data: data.to_owned(), to: None })
}

pub(crate) fn published(seq: u64) -> Published {
    let urls = Urls::default();
    Published { uid: ME, url: "rtmp://host/live/x".to_owned(), urls, generation: GEN, seq }
}

pub(crate) fn member(uid: UserId, mid: Mid) -> MemberInfo {
    MemberInfo {
        uid,
        mid,
        role: Role::Broadcaster,
        name: None,
        attributes: Attributes::default(),
        muted: KindSet::NONE,
        streams: vec![],
    }
}

/// The event for the first `publish` of the app, which comes before its answer.
pub(crate) fn my_audio(mid: Mid) -> ChannelEvent {
    ChannelEvent::StreamAdded(stream(ME, mid, MediaKind::Audio, 1))
}

/// A snapshot that contains the caller if it is a broadcaster.
pub(crate) fn snapshot(role: Role, seq: u64, others: Vec<MemberInfo>) -> Joined {
    let mut members = others;
    if role == Role::Broadcaster {
        members.push(member(ME, MY_MID));
    }
    Joined {
        cid: Cid(3),
        uid: ME,
        mid: MY_MID,
        session_id: SessionId([9; 12]),
        ticket: Some("t1".to_owned()),
        k: Some(1),
        deployment_id: "here".to_owned(),
        epoch: EPOCH,
        seq,
        channel: ChannelInfo {
            name: "room".parse().unwrap(),
            creator: ME,
            attributes: Attributes::default(),
            tasks: vec![],
        },
        member_count: members.len() as u64,
        members,
        own: SelfInfo {
            uid: ME,
            mid: MY_MID,
            role,
            rights: Rights::MEMBER,
            name: None,
            attributes: Attributes::default(),
            muted: KindSet::NONE,
            published: vec![],
            subscriptions: vec![],
            token_expires_in_ms: None,
        },
        timers: Timers {
            ping_interval_ms: 10_000,
            dead_after_ms: 25_000,
            grace_ms: 30_000,
            media_cap_ms: 300_000,
        },
    }
}

pub(crate) fn stream(
    uid: UserId,
    mid: Mid,
    media_type: MediaKind,
    publication: u8,
) -> StreamChange {
    StreamChange { uid, mid, media_type, publication: Pub([publication; 12]) }
}

pub(crate) fn client_join(uid: UserId, mid: Mid) -> ChannelEvent {
    let (attributes, muted) = (Attributes::default(), KindSet::NONE);
    ChannelEvent::ClientJoin(ClientJoin { uid, mid, name: None, attributes, muted })
}

pub(crate) fn says(uid: UserId, data: &str) -> ChannelEvent {
    ChannelEvent::Message(ChannelMessage { uid, data: data.to_owned() })
}

/// Every request that the outputs send.
pub(crate) fn requests(outputs: &[Output]) -> Vec<Request> {
    let mut requests = vec![];
    for output in outputs {
        if let Output::Send { text, .. } = output {
            for element in decode_client_frame(text.as_bytes()).unwrap() {
                let Element::Request(request) = element else { panic!("refused: {text}") };
                requests.push(request);
            }
        }
    }
    requests
}

/// The first request of that method.
pub(crate) fn find<'a>(sent: &'a [Request], method: &str) -> &'a Request {
    sent.iter().find(|request| request.call.method() == method).unwrap()
}

/// The outputs for the app in order, as short words.
pub(crate) fn told(outputs: &[Output]) -> Vec<String> {
    outputs
        .iter()
        .filter_map(|output| match output {
            Output::Event(event) => Some(event.kind().name().to_owned()),
            Output::Settled { call, outcome } => Some(match outcome {
                Ok(reply) => format!("{}:{reply:?}", call.0),
                Err(error) => format!("{}:{}", call.0, error.name()),
            }),
            _ => None,
        })
        .collect()
}

pub(crate) fn outcome(outputs: &[Output], wanted: CallId) -> Result<Reply, CallError> {
    let mut found = outputs.iter().filter_map(|output| match output {
        Output::Settled { call, outcome } if *call == wanted => Some(outcome.clone()),
        _ => None,
    });
    let outcome = found.next().expect("the call is settled");
    assert!(found.next().is_none(), "a call is settled once");
    outcome
}

pub(crate) fn app_events(outputs: &[Output]) -> Vec<Event> {
    let events = outputs.iter().filter_map(|output| match output {
        Output::Event(event) => Some(event.clone()),
        _ => None,
    });
    events.collect()
}

pub(crate) fn close_code(outputs: &[Output]) -> Option<u16> {
    outputs.iter().find_map(|output| match output {
        Output::CloseSocket { code, .. } => Some(*code),
        _ => None,
    })
}

pub(crate) fn is_ping(request: &Request) -> bool {
    matches!(request.call, Call::Ping(_))
}
