//! Calls that wait while the session restores the app's state: they take precedence, and no older value is visible in
//! between (CLI-5).
//! Proves CLI-5.

use lianmai_client_sdk::protocol::message::Call;
use lianmai_client_sdk::protocol::message::event::*;
use lianmai_client_sdk::protocol::message::media::*;
use lianmai_client_sdk::protocol::message::session::*;
use lianmai_client_sdk::protocol::message::{ChannelEvent, Request};
use lianmai_client_sdk::protocol::*;
use lianmai_client_sdk::session::*;

use super::restore::{crashed, on_air, remembered};
use super::support::*;

fn count(n: u8, name: Option<&str>) -> Command {
    Command::SetAttributes(SetAttributes {
        attributes: Map::from_iter([("n".to_owned(), Some(n.to_string()))]),
        target: None,
        name: name.map(str::to_owned),
    })
}

fn set_role(role: Role) -> Command {
    Command::SetRole(SetRole { role, uid: None })
}

fn kind(media_type: MediaKind) -> Publish {
    Publish { media_type: MediaSelector::Kind(media_type), uid: None }
}

/// The sent requests, without pings.
fn sent(outputs: &[Output]) -> Vec<Request> {
    requests(outputs).into_iter().filter(|request| !is_ping(request)).collect()
}

#[test]
fn cli_5_an_older_value_is_not_said_again_before_a_call_that_waits() {
    for took_effect in [true, false] {
        let mut rig = Rig::joined(Role::Broadcaster);
        let attributes = Attributes(
            [("n".to_owned(), "4".to_owned()), ("seat".to_owned(), "1".to_owned())]
                .into_iter()
                .collect(),
        );
        let update =
            ClientUpdate { uid: ME, mid: MY_MID, name: Some("Ann".to_owned()), attributes };
        rig.events(11, &[ChannelEvent::ClientUpdate(update)]);
        rig.drain();
        let (_, waits) = rig.send(count(5, Some("Bea")));
        let mut truth = snapshot(Role::Broadcaster, 1, vec![]);
        if took_effect {
            truth.own.attributes.0.insert("n".to_owned(), "5".to_owned());
            truth.own.name = Some("Bea".to_owned());
        }
        let me = truth.members.iter_mut().find(|member| member.uid == ME).unwrap();
        (me.name, me.attributes) = (truth.own.name.clone(), truth.own.attributes.clone());
        let outputs = crashed(&mut rig, truth);
        let sent = sent(&outputs);
        // The session restores only what the call does not set.
        let patch = Map::from_iter([("seat".to_owned(), Some("1".to_owned()))]);
        let own = SetAttributes { attributes: patch, target: None, name: None };
        assert_eq!(sent[0].call, Call::SetAttributes(own));
        assert_eq!(sent[1].call, waits.call);
        assert_eq!(sent.len(), 2);
    }
}

#[test]
fn cli_5_who_waits_for_another_role_is_not_put_back_into_the_old_one() {
    let mut rig = on_air();
    let (_, waits) = rig.send(set_role(Role::Audience));
    let mut truth = snapshot(Role::Audience, 1, vec![]);
    truth.members = remembered(&rig).members.into_iter().filter(|m| m.uid == BOB).collect();
    truth.own.subscriptions = remembered(&rig).own.subscriptions;
    let sent = sent(&crashed(&mut rig, truth));
    assert_eq!(sent.iter().map(|r| &r.call).collect::<Vec<_>>(), [&waits.call]);

    // The opposite change of the role.
    let mut rig = Rig::joined(Role::Audience);
    rig.send(set_role(Role::Broadcaster));
    let outputs = crashed(&mut rig, snapshot(Role::Broadcaster, 1, vec![]));
    assert_eq!(methods(&outputs), ["ping", "setRole", "ping"]);

    // A call that sets the present value does not suppress the restore.
    let mut rig = on_air();
    rig.send(set_role(Role::Broadcaster));
    let mut truth = snapshot(Role::Audience, 1, vec![]);
    truth.own.subscriptions = remembered(&rig).own.subscriptions;
    truth.members = remembered(&rig).members.into_iter().filter(|m| m.uid == BOB).collect();
    let outputs = crashed(&mut rig, truth);
    let names = ["ping", "setRole", "publish", "publish", "setRole", "ping"];
    assert_eq!(methods(&outputs), names);
}

#[test]
fn cli_5_media_that_waits_to_be_taken_back_is_not_published_again() {
    let mut rig = on_air();
    let (_, waits) = rig.send(Command::Unpublish(kind(MediaKind::Video)));
    let mut truth = snapshot(Role::Broadcaster, 1, vec![]);
    truth.members.extend(remembered(&rig).members.into_iter().filter(|m| m.uid == BOB));
    truth.own.subscriptions = remembered(&rig).own.subscriptions;
    let sent = sent(&crashed(&mut rig, truth));
    let publish = |media_type| Call::Publish(kind(media_type));
    assert_eq!(
        sent.into_iter().map(|request| request.call).collect::<Vec<_>>(),
        [publish(MediaKind::Audio), publish(MediaKind::ScreenShare), waits.call]
    );
}

#[test]
fn cli_5_a_mute_that_waits_wins() {
    let mut rig = Rig::joined(Role::Audience);
    let (_, request) = rig.send(Command::Mute(Mute::default()));
    rig.frame(&done(&request, 10));
    rig.drain();
    let audio = Mute { media_type: MediaSelector::Kind(MediaKind::Audio), uid: None };
    let (_, waits) = rig.send(Command::Unmute(audio));
    let sent = sent(&crashed(&mut rig, snapshot(Role::Audience, 1, vec![])));
    let video = Mute { media_type: MediaSelector::Kind(MediaKind::Video), uid: None };
    assert_eq!(
        sent.into_iter().map(|request| request.call).collect::<Vec<_>>(),
        [Call::Mute(video), waits.call]
    );
}
