//! The queue between a session and its app.

use lianmai_client_sdk::protocol::MediaKind;
use lianmai_client_sdk::protocol::message::ChannelEvent;
use lianmai_client_sdk::protocol::message::session::MessageSent;
use lianmai_client_sdk::session::{Delivered, Delivery, Input, Output, Reader};
use lianmai_client_sdk::{Event, Role};

use super::support::*;

/// The number of events of `news`: two members join, and one of them publishes.
const NEWS: usize = 3;

fn news(rig: &mut Rig) {
    let (carl, mid) = (lianmai_client_sdk::UserId(9), lianmai_client_sdk::protocol::Mid([9; 12]));
    let events = [
        client_join(BOB, BOB_MID),
        ChannelEvent::StreamAdded(stream(BOB, BOB_MID, MediaKind::Audio, 1)),
        client_join(carl, mid),
    ];
    rig.events(11, &events);
}

fn push(rig: &mut Rig, delivery: &mut Delivery) -> Vec<Output> {
    rig.drain().into_iter().filter_map(|output| delivery.push(output)).collect()
}

fn heard(delivery: &mut Delivery) -> Vec<(String, usize)> {
    let mut heard = vec![];
    while let Some(delivered) = delivery.next() {
        let members = delivery.picture().map_or(0, |picture| picture.members.len());
        match delivered {
            Delivered::Picture(_) => {}
            Delivered::Event(event) => heard.push((event.kind().name().to_owned(), members)),
            Delivered::Settled { outcome, .. } => heard.push((format!("{outcome:?}"), members)),
        }
    }
    heard
}

fn read(delivery: &mut Delivery, reader: &mut Reader) -> Option<(&'static str, usize)> {
    let event = delivery.read(reader)?;
    Some((event.kind().name(), reader.picture().map_or(0, |picture| picture.members.len())))
}

/// A session that is alone in a channel, and its app, which has received everything so far.
fn joined(capacity: usize) -> (Rig, Delivery) {
    let (mut rig, mut delivery) = (Rig::new(), Delivery::new(capacity));
    rig.call(join());
    push(&mut rig, &mut delivery);
    rig.open();
    push(&mut rig, &mut delivery);
    rig.frame(&lianmai_client_sdk::protocol::codec::encode_result(
        lianmai_client_sdk::protocol::RequestId(1),
        &snapshot(Role::Broadcaster, 10, vec![]),
    ));
    push(&mut rig, &mut delivery);
    assert_eq!(heard(&mut delivery).last().unwrap(), &("Ok(Joined)".to_owned(), 1));
    assert_eq!(delivery.state(), rig.session.state());
    (rig, delivery)
}

/// Proves no rule of the protocol: the picture is as of what is delivered, however far ahead the session is.
#[test]
fn the_picture_is_as_of_what_is_delivered() {
    let (mut rig, mut delivery) = joined(100);
    let (_, request) = rig.send(message("x"));
    news(&mut rig);
    rig.frame(&result(&request, &MessageSent { delivered: 0, seq: 13 }));
    assert!(push(&mut rig, &mut delivery).is_empty(), "all of that is for the app");
    assert_eq!(rig.picture().members.len(), 3);
    assert_eq!(delivery.picture().unwrap().members.len(), 1);
    let told = heard(&mut delivery);
    let names: Vec<(&str, usize)> = told.iter().map(|(name, n)| (&**name, *n)).collect();
    let wanted = [("clientJoin", 2), ("streamAdded", 2), ("clientJoin", 3), ("Ok(MessageSent)", 3)];
    assert_eq!(names, wanted, "a settlement comes behind the events before it");
    assert_eq!(delivery.picture(), rig.session.picture());
}

/// Proves no rule of the protocol: each reader goes at its own pace, none ahead of the handlers.
#[test]
fn readers_follow_at_their_own_pace() {
    let (mut rig, mut delivery) = joined(100);
    let mut slow = delivery.attach();
    news(&mut rig);
    push(&mut rig, &mut delivery);
    assert!(read(&mut delivery, &mut slow).is_none(), "handlers come first");
    assert_eq!(heard(&mut delivery).len(), NEWS);
    let mut late = delivery.attach();
    assert!(read(&mut delivery, &mut late).is_none());
    assert_eq!(late.picture().unwrap().members.len(), 3);
    assert_eq!(delivery.backlog(&slow), 2 * NEWS, "with the changes of the picture");
    assert_eq!(read(&mut delivery, &mut slow), Some(("clientJoin", 2)));
    assert_eq!(read(&mut delivery, &mut slow), Some(("streamAdded", 2)));
    assert_eq!(read(&mut delivery, &mut slow), Some(("clientJoin", 3)));
    assert!(read(&mut delivery, &mut slow).is_none());
    assert_eq!((slow.picture(), delivery.backlog(&slow)), (rig.session.picture(), 0));
}

/// Proves no rule of the protocol: reading pauses while a reader is too far behind, and this is reported once.
#[test]
fn reading_pauses_for_whoever_is_slowest() {
    let (mut rig, mut delivery) = joined(4);
    let mut slow = delivery.attach();
    assert!(delivery.reading().is_none());
    news(&mut rig);
    push(&mut rig, &mut delivery);
    assert!(matches!(delivery.reading(), Some(Input::ReadingPaused)));
    assert!(delivery.reading().is_none());
    heard(&mut delivery);
    assert!(delivery.reading().is_none() && delivery.is_full(), "the reader has not taken it");
    delivery.read(&mut slow);
    delivery.read(&mut slow);
    assert!(matches!(delivery.reading(), Some(Input::ReadingResumed)));

    // A reader that is gone delays nothing.
    news_again(&mut rig);
    push(&mut rig, &mut delivery);
    heard(&mut delivery);
    assert!(matches!(delivery.reading(), Some(Input::ReadingPaused)));
    delivery.detach(&slow);
    assert!(matches!(delivery.reading(), Some(Input::ReadingResumed)));
    assert!(delivery.read(&mut slow).is_none());
}

fn news_again(rig: &mut Rig) {
    rig.events(14, &[says(BOB, "a"), says(BOB, "b")]);
}

/// Proves no rule of the protocol: a reader that received no event does not block the queue forever.
#[test]
fn changes_without_events_are_applied_by_reading() {
    let (mut rig, mut delivery) = joined(2);
    let mut reader = delivery.attach();
    let (_, request) = rig.send(publish());
    rig.events(11, &[my_audio(MY_MID)]);
    rig.frame(&result(&request, &published(11)));
    push(&mut rig, &mut delivery);
    assert!(!heard(&mut delivery).iter().any(|(name, _)| name == "published"));
    assert!(delivery.is_full());
    assert_eq!(delivery.read(&mut reader).as_ref().map(Event::kind), None);
    assert!(!delivery.is_full());
    assert_eq!(reader.picture(), rig.session.picture());
}
