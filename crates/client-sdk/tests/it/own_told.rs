//! Changes of the app's own state that only an answer reports while no call waits for it: the state that the app
//! derives from events equals the getters after each event.

use lianmai_client_sdk::Event;
use lianmai_client_sdk::protocol::message::event::*;
use lianmai_client_sdk::protocol::message::media::*;
use lianmai_client_sdk::protocol::message::notice;
use lianmai_client_sdk::protocol::message::session::*;
use lianmai_client_sdk::protocol::message::{Call, ChannelEvent};
use lianmai_client_sdk::protocol::*;
use lianmai_client_sdk::session::*;

use super::crash::NEXT_EPOCH;
use super::rejoin::anew;
use super::support::*;

/// The app's own state, derived from events.
#[derive(Debug, PartialEq)]
struct Heard {
    muted: KindSet,
    name: Option<String>,
    attributes: Attributes,
}

impl Heard {
    fn of(own: &Own) -> Heard {
        Heard { muted: own.muted, name: own.name.clone(), attributes: own.attributes.clone() }
    }

    /// Polls all outputs and returns them.
    fn poll(&mut self, rig: &mut Rig) -> Vec<Output> {
        let mut outputs = vec![];
        while let Some(output) = rig.poll() {
            if let Output::Event(event) = &output {
                self.event(event);
                assert_eq!(*self, Heard::of(&rig.picture().own), "after {event:?}");
            }
            outputs.push(output);
        }
        outputs
    }

    fn event(&mut self, event: &Event) {
        match event {
            Event::Muted(MuteChange { uid: ME, media_type, .. }) => {
                self.muted = self.muted.union(KindSet::of(media_type));
            }
            Event::Unmuted(MuteChange { uid: ME, media_type, .. }) => {
                self.muted = self.muted.difference(KindSet::of(media_type));
            }
            Event::ClientUpdate(ClientUpdate { uid: ME, name, attributes, .. }) => {
                self.name.clone_from(name);
                self.attributes = attributes.clone();
            }
            _ => {}
        }
    }
}

fn call(method: &str) -> Command {
    match method {
        "mute" => Command::Mute(Mute::default()),
        "unmute" => Command::Unmute(Mute::default()),
        _ => Command::SetAttributes(SetAttributes {
            attributes: Map::from_iter([("mood".to_owned(), Some("good".to_owned()))]),
            target: None,
            name: Some("Ann".to_owned()),
        }),
    }
}

/// An audience member that muted both kinds, with a name and an attribute.
fn listener() -> (Rig, Heard) {
    let mut rig = Rig::joined(Role::Audience);
    for method in ["mute", "setAttributes"] {
        let (_, request) = rig.send(call(method));
        rig.frame(&done(&request, 10));
        rig.drain();
    }
    let heard = Heard::of(&rig.picture().own);
    (rig, heard)
}

/// Answers every ping with the given head.
fn pong_all(rig: &mut Rig, outputs: &[Output], epoch: Epoch, seq: u64) {
    for ping in requests(outputs).iter().filter(|request| is_ping(request)) {
        rig.frame(&result(ping, &Pong { epoch, seq }));
    }
}

/// Proves CLI-5.
#[test]
fn cli_5_a_mute_that_the_session_puts_back_is_told() {
    let (mut rig, mut heard) = listener();
    rig.lose();
    let (_, request) = rig.reopen();
    rig.frame(&resume_refused(&request, ResumeReason::Gone));
    rig.drain();
    let request = rig.opened();
    let mut hello = anew(Role::Audience, 20, vec![]);
    hello.own.name = join_of(&request).name.clone();
    hello.own.attributes = join_of(&request).attributes.clone();
    rig.frame(&result(&request, &hello));
    let outputs = heard.poll(&mut rig);
    assert_eq!(told(&outputs), ["connectionStateChange", "unmuted", "unmuted"]);
    pong_all(&mut rig, &outputs, EPOCH, 20);
    assert!(heard.poll(&mut rig).is_empty());
    rig.frame(&done(find(&requests(&outputs), "mute"), 20));
    // Before the announcement, like everything that changed during the gap.
    assert_eq!(told(&heard.poll(&mut rig)), ["muted", "muted", "reconnected"]);
    assert_eq!(rig.picture().own.muted, KindSet::AUDIO_VIDEO);
}

/// Proves CLI-5.
#[test]
fn cli_5_attributes_that_the_session_puts_back_are_told() {
    let (mut rig, mut heard) = listener();
    rig.lose();
    let (_, request) = rig.reopen();
    let mut truth = snapshot(Role::Audience, 1, vec![]);
    truth.epoch = NEXT_EPOCH;
    truth.own.muted = KindSet::of(&MediaKind::Audio);
    rig.frame(&resnapshot(&request, ResumeReason::EpochChanged, true, truth));
    let outputs = heard.poll(&mut rig);
    assert_eq!(told(&outputs), ["connectionStateChange", "clientUpdate", "unmuted"]);
    rig.frame(&done(find(&requests(&outputs), "setAttributes"), 1));
    assert_eq!(told(&heard.poll(&mut rig)), ["clientUpdate"]);
    // Of two kinds only the one that changed is reported.
    let mute = find(&requests(&outputs), "mute").clone();
    assert_eq!(
        mute.call,
        Call::Mute(Mute { media_type: MediaSelector::Kind(MediaKind::Video), uid: None })
    );
    rig.frame(&done(&mute, 1));
    assert_eq!(told(&heard.poll(&mut rig)), ["muted"]);
    pong_all(&mut rig, &outputs, NEXT_EPOCH, 1);
    assert_eq!(told(&heard.poll(&mut rig)), ["reconnected"]);
    let own = &rig.picture().own;
    assert_eq!((own.name.as_deref(), own.attributes["mood"].as_str()), (Some("Ann"), "good"));
}

/// Proves SES-7.
#[test]
fn a_call_that_was_given_up_and_took_effect_is_told() {
    for (method, events) in [
        ("mute", vec!["muted", "muted"]),
        ("unmute", vec![]),
        ("setAttributes", vec!["clientUpdate"]),
    ] {
        let mut rig = Rig::joined(Role::Audience);
        let mut heard = Heard::of(&rig.picture().own);
        let (given_up, request) = rig.send(call(method));
        let outputs = rig.advance(10_000);
        assert_eq!(outcome(&outputs, given_up).unwrap_err().name(), ErrorName::OutcomeUnknown);
        rig.frame(&done(&request, 10));
        assert_eq!(told(&heard.poll(&mut rig)), events, "{method}");
    }
}

/// The app holds no URL or an old one: it is told the URL of the late answer.
/// Proves SES-7.
#[test]
fn the_url_of_a_call_that_was_given_up_is_told() {
    let mut rig = Rig::joined(Role::Broadcaster);
    let (_, request) = rig.send(publish());
    rig.advance(10_000);
    let kinds = [MediaKind::Audio, MediaKind::Video];
    let added = kinds.map(|kind| ChannelEvent::StreamAdded(stream(ME, MY_MID, kind, 1)));
    rig.events(11, &added);
    rig.frame(&result(&request, &published(12)));
    let outputs = rig.drain();
    assert_eq!(told(&outputs), ["published", "published", "syncDone"]);
    let events = app_events(&outputs);
    let Some(Event::SyncDone(sync)) = events.last() else { panic!("a URL") };
    assert_eq!((sync.uid, &sync.direction), (ME, &notice::Direction::Push));
    assert_eq!(sync.url, published(12).url);
    // For a repeated call the answer alone reports the URL.
    let (_, request) = rig.send(publish());
    rig.frame(&result(&request, &published(12)));
    assert_eq!(told(&rig.drain()), ["3:Published"]);
}

/// Proves SES-7.
#[test]
fn calls_that_were_given_up_are_told_when_they_show_in_the_own_entry() {
    let mut rig = Rig::joined(Role::Audience);
    let mut heard = Heard::of(&rig.picture().own);
    let role = Command::SetRole(SetRole { role: Role::Broadcaster, uid: None });
    for command in [call("setAttributes"), call("mute"), role] {
        rig.send(command);
    }
    rig.advance(9_000);
    // One of the calls is still pending when the event comes.
    rig.send(Command::Mute(Mute { media_type: MediaSelector::Kind(MediaKind::Audio), uid: None }));
    rig.advance(1_500);
    let entry = ClientJoin {
        uid: ME,
        mid: MY_MID,
        name: Some("Ann".to_owned()),
        attributes: Attributes::from_iter([("mood".into(), "good".into())]),
        muted: KindSet::AUDIO_VIDEO,
    };
    let role = RoleChanged { uid: ME, mid: MY_MID, role: Role::Broadcaster };
    rig.events(11, &[ChannelEvent::ClientJoin(entry), ChannelEvent::RoleChanged(role)]);
    let outputs = rig.drain();
    assert_eq!(told(&outputs), ["clientUpdate", "muted", "roleChanged"], "audio has its answer");
    for event in app_events(&outputs) {
        heard.event(&event);
    }
    let own = &rig.picture().own;
    assert_eq!((&heard.name, &heard.attributes), (&own.name, &own.attributes));
    assert_eq!(own.muted, KindSet::AUDIO_VIDEO);
}

/// Proves SES-7.
#[test]
fn a_call_that_was_given_up_and_changed_nothing_is_not_told() {
    let (mut rig, mut heard) = listener();
    for method in ["mute", "setAttributes"] {
        let (_, request) = rig.send(call(method));
        rig.advance(10_000);
        rig.frame(&done(&request, 10));
        assert!(told(&heard.poll(&mut rig)).is_empty());
    }
}
