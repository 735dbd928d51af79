//! Subscriptions to a member that is not back yet.
//! Proves CLI-5.

use lianmai_client_sdk::Event;
use lianmai_client_sdk::protocol::message::ChannelEvent;
use lianmai_client_sdk::protocol::message::media::*;
use lianmai_client_sdk::protocol::message::notice::Direction;
use lianmai_client_sdk::protocol::message::session::{Joined, *};
use lianmai_client_sdk::protocol::message::snapshot::SelfInfo;
use lianmai_client_sdk::protocol::*;
use lianmai_client_sdk::session::*;

use super::crash::NEXT_EPOCH;
use super::restore::*;
use super::support::*;

/// A session whose server crashed, and Bob has not come back since.
fn without_bob() -> Rig {
    let mut rig = on_air();
    let mut truth = remembered(&rig);
    truth.own.subscriptions.clear();
    truth.members.retain(|member| member.uid != BOB);
    let outputs = crashed(&mut rig, truth);
    assert_eq!(methods(&outputs), ["ping"]);
    assert!(told(&outputs).contains(&"clientLeave".to_owned()));
    rig.frame(&head(&requests(&outputs)[0], 1));
    assert_eq!(told(&rig.drain()), ["reconnected"], "it does not wait for Bob");
    rig
}

fn bob_is_back() -> String {
    let stream = ChannelEvent::StreamAdded(stream(BOB, BOB_MID, VIDEO, 51));
    at(2, &[client_join(BOB, BOB_MID), stream])
}

#[test]
fn a_subscription_to_somebody_who_is_not_back_yet_waits_for_a_minute() {
    let mut rig = without_bob();
    rig.frame(&bob_is_back());
    let outputs = rig.drain();
    assert_eq!(told(&outputs), ["clientJoin", "streamAdded"]);
    let sent = requests(&outputs);
    assert_eq!(methods(&outputs), ["subscribe"]);
    rig.frame(&result(&sent[0], &pull("rtmp://bob3", 3)));
    let outputs = rig.drain();
    assert_eq!(syncs(&outputs), [(Direction::Pull, VIDEO, "rtmp://bob3".to_owned())]);
    assert_eq!(reconnected(&outputs), None);

    let mut rig = without_bob();
    for _ in 0..7 {
        for ping in requests(&rig.advance(10_000)) {
            rig.frame(&head(&ping, 1));
        }
        rig.drain();
    }
    rig.frame(&bob_is_back());
    assert!(methods(&rig.drain()).is_empty(), "too late");
}

/// Proves CLI-5.
#[test]
fn a_stream_that_comes_with_a_snapshot_is_wanted_as_well() {
    let mut rig = without_bob();
    rig.lose();
    let (_, request) = rig.reopen();
    let mut truth = snapshot(Role::Broadcaster, 4, vec![bob(51)]);
    truth.own = SelfInfo { published: remembered(&rig).own.published, ..truth.own };
    truth.epoch = NEXT_EPOCH;
    rig.frame(&resnapshot(&request, ResumeReason::LogTrimmed, false, truth));
    let outputs = rig.drain();
    assert!(told(&outputs).contains(&"streamAdded".to_owned()));
    assert_eq!(methods(&outputs), ["ping", "subscribe"]);
}

/// A subscription that becomes due now does not count as overdue since the last command.
/// Proves CLI-6.
#[test]
fn a_call_behind_a_stream_that_came_does_not_cost_the_connection() {
    let mut rig = without_bob();
    for _ in 0..2 {
        for ping in requests(&rig.advance(10_000)) {
            rig.frame(&head(&ping, 1));
        }
        rig.drain();
    }
    rig.frame(&bob_is_back());
    // The app makes a call while it handles the event.
    while let Some(output) = rig.poll() {
        if matches!(output, Output::Event(Event::StreamAdded(_))) {
            rig.call(message("hello"));
            break;
        }
    }
    let outputs = rig.drain();
    assert_eq!(close_code(&outputs), None);
    assert_eq!(methods(&outputs), ["sendMessage", "subscribe"]);
}

#[test]
fn own_decisions_of_the_app_are_not_undone() {
    let mut rig = without_bob();
    let stream = Subscribe { uid: BOB, media_type: VIDEO };
    let (_, request) = rig.send(Command::Unsubscribe(stream));
    rig.frame(&done(&request, 1));
    rig.drain();
    rig.frame(&bob_is_back());
    assert!(methods(&rig.drain()).is_empty());

    // A call made without a connection: it is in the queue and takes precedence.
    let mut rig = on_air();
    rig.lose();
    rig.call(Command::Unsubscribe(Subscribe { uid: BOB, media_type: VIDEO }));
    let (_, request) = rig.reopen();
    let truth = Joined { epoch: NEXT_EPOCH, ..snapshot(Role::Broadcaster, 1, vec![bob(50)]) };
    rig.frame(&resnapshot(&request, ResumeReason::EpochChanged, true, truth));
    assert_eq!(methods(&rig.drain()), ["ping", "publish", "publish", "ping", "unsubscribe"]);
}

#[test]
fn a_stream_that_is_not_there_after_all_is_waited_for() {
    let mut rig = on_air();
    let mut truth = remembered(&rig);
    truth.own.subscriptions.clear();
    let outputs = crashed(&mut rig, truth);
    let sent = requests(&outputs);
    rig.frame(&refusal(find(&sent, "subscribe"), ErrorName::NotPublished));
    rig.drain();
    let stream = ChannelEvent::StreamAdded(stream(BOB, BOB_MID, VIDEO, 51));
    rig.frame(&at(2, &[stream]));
    assert_eq!(methods(&rig.drain()), ["subscribe"]);
}
