//! Returning to a server that crashed: it has another epoch, and remembers no answers.

use lianmai_client_sdk::CallError;
use lianmai_client_sdk::protocol::message::media::*;
use lianmai_client_sdk::protocol::message::session::*;
use lianmai_client_sdk::protocol::*;
use lianmai_client_sdk::session::*;

use super::support::*;

pub(crate) const NEXT_EPOCH: Epoch = Epoch([2; 12]);

/// Proves IDS-1, IDS-7.
#[test]
fn ids_7_after_a_crash_what_sets_a_state_is_sent_again_and_the_rest_is_unknown() {
    let mut rig = Rig::joined(Role::Broadcaster);
    let methods_of = |commands: Vec<Command>, rig: &mut Rig| -> Vec<CallId> {
        commands.into_iter().map(|command| rig.send(command).0).collect()
    };
    let me = |media_type| Mute { media_type, uid: None };
    let bob = Subscribe { uid: BOB, media_type: MediaKind::Audio };
    let attributes = SetAttributes {
        attributes: [("a".to_owned(), Some("b".to_owned()))].into_iter().collect(),
        target: None,
        name: None,
    };
    let again = methods_of(
        vec![
            Command::SetRole(SetRole { role: Role::Broadcaster, uid: None }),
            publish(),
            Command::Unpublish(Publish::default()),
            Command::Subscribe(bob.clone()),
            Command::Unsubscribe(bob),
            Command::Mute(me(MediaSelector::Both)),
            Command::Unmute(me(MediaSelector::Both)),
            Command::SetAttributes(attributes),
            Command::RenewToken(RenewToken { token: "new".to_owned() }),
        ],
        &mut rig,
    );
    let report = Report {
        dir: ReportDir::Push,
        kind: ReportType::NetStatus,
        data: lianmai_client_sdk::protocol::raw::JsonObject::default(),
        uid: None,
    };
    let unknown = methods_of(
        vec![
            message("once"),
            Command::Kick(Kick { uid: BOB, duration_s: 0, reason: None }),
            Command::CloseChannel(CloseChannel { hold_s: 0, reason: None }),
            Command::Report(report),
        ],
        &mut rig,
    );
    rig.lose();
    let waited = rig.call(message("waited"));
    let (_, request) = rig.reopen();
    let mut truth = snapshot(Role::Broadcaster, 1, vec![]);
    truth.epoch = NEXT_EPOCH;
    rig.frame(&resnapshot(&request, ResumeReason::EpochChanged, false, truth));
    let outputs = rig.drain();
    for call in unknown {
        assert_eq!(outcome(&outputs, call), Err(CallError::OutcomeUnknown));
    }
    let sent = requests(&outputs);
    let names = [
        "ping",
        "setRole",
        "publish",
        "unpublish",
        "subscribe",
        "unsubscribe",
        "mute",
        "unmute",
        "setAttributes",
        "renewToken",
        "ping",
        "sendMessage",
    ];
    assert_eq!(methods(&outputs), names);
    assert!(sent.windows(2).all(|pair| pair[0].id < pair[1].id));
    assert!(sent[1].id > request.id, "the request gets a new id");
    // The answers settle the waiting calls.
    for (request, call) in sent[1..].iter().zip(again) {
        rig.frame(&refusal(request, ErrorName::Forbidden));
        assert_eq!(outcome(&rig.drain(), call).unwrap_err().name(), ErrorName::Forbidden);
    }
    rig.frame(&result(&sent[11], &MessageSent { seq: 1, delivered: 0 }));
    assert!(outcome(&rig.drain(), waited).is_ok());
    for ping in [&sent[0], &sent[10]] {
        rig.frame(&result(ping, &Pong { epoch: NEXT_EPOCH, seq: 1 }));
    }
    let reason = ResumeReason::EpochChanged;
    let missed = Some(Missed { from_seq: 11, to_seq: None });
    let wanted = (ReconnectOutcome::Snapshot { reason }, missed, 0);
    assert_eq!(reconnected(&rig.drain()), Some(wanted));
}

/// Proves IDS-7.
#[test]
fn ids_7_a_command_that_was_given_up_is_forgotten_with_the_epoch() {
    let mut rig = Rig::joined(Role::Broadcaster);
    rig.send(publish());
    rig.advance(10_000);
    rig.lose();
    let (_, request) = rig.reopen();
    let mut truth = snapshot(Role::Broadcaster, 1, vec![]);
    truth.epoch = NEXT_EPOCH;
    rig.frame(&resnapshot(&request, ResumeReason::EpochChanged, true, truth));
    assert_eq!(methods(&rig.drain()), ["ping"]);
}

/// Proves RES-8.
#[test]
fn rst_3_after_a_crash_messages_are_counted_anew() {
    let mut rig = Rig::joined(Role::Audience);
    rig.frame(&whisper(9));
    rig.drain();
    rig.lose();
    let (_, request) = rig.reopen();
    let mut truth = snapshot(Role::Audience, 1, vec![]);
    truth.epoch = NEXT_EPOCH;
    rig.frame(&resnapshot(&request, ResumeReason::EpochChanged, true, truth));
    rig.frame(&whisper(1));
    assert!(told(&rig.drain()).contains(&"message".to_owned()));
}
