//! A used-up share affects only its owner: bans, names and attributes. Decisions of moderators hold.

use lianmai_protocol::ErrorName;
use lianmai_protocol::message::session::MessageSent;
use lianmai_protocol::{CloseCode, UserId};
use lianmai_signal_engine::{AdminCommand, AdminReply, Grant};

use crate::calls::*;
use crate::world::{Client, Entry, Issuer, World, entry, room};

const JID: &str = "0123456789abcdef";

fn in_app(uid: u64, app: &str) -> Entry {
    entry(uid).app(app)
}

/// Bans invented uids in channels of its own until a ban is refused; returns their number.
fn ban_all(w: &mut World, uid: u64) -> usize {
    let mut bans = 0;
    for n in 0.. {
        let a = w.admit(in_app(uid, "creator").channel(&format!("own {uid} {n}")));
        for other in 1..30 {
            match w.ask(a, kick(1_000 + other, 604_800)) {
                Ok(_) => bans += 1,
                Err(error) => {
                    assert_eq!(error.name(), &ErrorName::TooManyBans);
                    w.ok(a, leave());
                    return bans;
                }
            }
            w.advance(50);
        }
        w.ok(a, leave());
    }
    bans
}

/// Proves KIC-5, MET-2.
#[test]
fn only_the_moderator_that_used_up_its_share_is_refused() {
    let mut w = World::with(|config| config.limits.bans = 400);
    let bans = ban_all(&mut w, 1);
    assert!((30..50).contains(&bans), "{bans}: an eighth of the share of its app");
    // A refused command has no effect: neither the kick nor the close.
    let a = w.admit(in_app(1, "creator").channel("own"));
    let b = w.admit(in_app(2, "creator").channel("own"));
    w.advance(100);
    w.skip_received();
    assert_eq!(w.err(a, kick(2, 60)), ErrorName::TooManyBans);
    assert_eq!(w.err(a, close_channel(60)), ErrorName::TooManyBans);
    w.ok(b, send_message("still here"));
    w.advance(20);
    assert_eq!(w.new_events(a), ["message 2 still here"]);
    // Another moderator of the app, another app and an operator are not refused.
    assert!(ban_all(&mut w, 3) > 20);
    let m = w.admit(entry(1).moderator());
    w.join(2);
    w.ok(m, kick(2, 60));
    assert_eq!(w.refusal(entry(2)), ErrorName::Banned);
    let channel = room("creator");
    let by_hand = AdminCommand::Kick { channel, uid: UserId(7), duration_s: 60, reason: None };
    assert_eq!(w.admin(by_hand), Ok(AdminReply::Done));
    assert_eq!(w.refusal(in_app(7, "creator")), ErrorName::Banned);
}

/// Proves KIC-5, RST-5.
#[test]
fn a_share_is_as_full_after_a_restart_and_a_lifted_ban_stays_lifted() {
    let mut w = World::with(|config| config.limits.bans = 400);
    ban_all(&mut w, 1);
    w.crash();
    let a = w.admit(in_app(1, "creator").channel("own"));
    assert_eq!(w.err(a, kick(5, 60)), ErrorName::TooManyBans);
    let list = AdminCommand::ListBansOfApp("creator".parse().expect("valid"));
    let AdminReply::Bans(bans) = w.admin(list.clone()).expect("a list") else { panic!("no list") };
    assert!(bans.len() > 30 && bans.iter().all(|ban| ban.by == Some(UserId(1))));
    let one = &bans[0];
    let banned = one.uid.expect("a ban");
    let lift = AdminCommand::LiftBan { channel: one.channel.clone(), uid: one.uid };
    assert_eq!(w.admin(lift.clone()), Ok(AdminReply::Lifted(1)));
    assert_eq!(w.admin(lift), Ok(AdminReply::Lifted(0)));
    let lift =
        AdminCommand::LiftBansBy { appkey: "creator".parse().expect("valid"), by: UserId(1) };
    assert_eq!(w.admin(lift), Ok(AdminReply::Lifted(bans.len() - 1)));
    w.crash();
    assert_eq!(w.admin(list), Ok(AdminReply::Bans(Vec::new())));
    let name = one.channel.name.as_str();
    w.admit(in_app(banned.0, "creator").channel(name));
}

/// Proves IDS-9, RES-5.
#[test]
fn used_units_stay_used_after_a_reconnect() {
    let mut w = World::new();
    let a = w.admit(entry(1).join_id(JID));
    for _ in 0..40 {
        w.ok(a, ping());
    }
    // The same join again, a lost socket, a replacement.
    let a = w.admit(entry(1).join_id(JID));
    assert_eq!(w.err(a, ping()), ErrorName::RateLimited);
    w.drop_socket(a);
    let (a, _) = w.resume(a);
    assert_eq!(w.err(a, ping()), ErrorName::RateLimited);
    // As audience: the join of a broadcaster is charged, too.
    assert_eq!(w.refusal(entry(1)), ErrorName::RateLimited);
    let other = w.admit(entry(1).audience());
    assert_eq!(w.closed(a), Some(CloseCode::REPLACED));
    assert_eq!(w.err(other, ping()), ErrorName::RateLimited);
    // A leave, which ends the channel, and a new channel of that name. The end of a broadcaster was charged one more.
    w.advance(100);
    w.ok(other, leave());
    let last = w.admit(entry(1).audience());
    assert_eq!(w.err(last, ping()), ErrorName::RateLimited);
    w.advance(100);
    w.ok(last, ping());
    w.ok(last, ping());
    assert_eq!(w.err(last, ping()), ErrorName::RateLimited);
    // In another channel, and for another uid, nothing is used.
    let elsewhere = w.admit(entry(1).channel("other"));
    let second = w.join(2);
    for _ in 0..40 {
        w.ok(elsewhere, ping());
        w.ok(second, ping());
    }
}

/// A command that has to wait is charged for its event when its turn comes.
/// Proves IDS-6.
#[test]
fn a_queued_command_is_charged_for_its_final_event() {
    let mut w = World::new();
    let b = w.join(2);
    let a = w.join(1);
    w.issuer = Issuer::Hold;
    let mut calls = vec![publish("audio"), set_attributes(&[("k", &"x".repeat(3_900))])];
    calls.extend((0..8).map(|n| set_attributes(&[("z", &n.to_string())])));
    w.batch(a, calls);
    w.issuer = Issuer::AtOnce;
    w.issue();
    w.advance(20);
    let heard = w.new_events(b).len();
    assert!(heard >= 9, "{heard}");
    // One, four, and three each: the rest of forty, with the units that were earned since.
    let mut left = 0;
    while w.ask(a, ping()).is_ok() {
        left += 1;
    }
    assert!((10..=13).contains(&left), "{left}");
}

/// The units that a uid has used are not charged to its address again with each of its memberships.
/// Proves IDS-9.
#[test]
fn one_account_does_not_bar_its_address() {
    let mut w = World::new();
    let mut a = w.admit(entry(1).anyone().audience().from(7));
    for _ in 0..40 {
        w.ok(a, ping());
    }
    for _ in 0..40 {
        w.drop_socket(a);
        a = w.admit(entry(1).audience().from(7));
    }
    w.admit(entry(2).from(7));
    // A token that names its uid is charged alone: it bars no other member, and is not barred by others.
    let named = |w: &World, uid: u64| entry(uid).jwt(w, 0, 3_600_000).from(8);
    for uid in 100..140 {
        let e = named(&w, uid).audience();
        let a = w.admit(e);
        for _ in 0..39 {
            w.ok(a, ping());
        }
        w.ok(a, leave());
    }
    w.admit(entry(3).from(8));
    for uid in 200..240 {
        let Ok(a) = w.enter(entry(uid).audience().from(8)) else { break };
        for _ in 0..39 {
            w.ok(a, ping());
        }
        w.ok(a, leave());
    }
    assert_eq!(w.refusal(entry(5).from(8)), ErrorName::RateLimited);
    let e = named(&w, 6);
    w.admit(e);
}

/// Proves IDS-9, JOI-9.
#[test]
fn a_join_with_large_attributes_waits_for_its_rate() {
    let mut w = World::new();
    w.join(9);
    let long = entry(1).attribute("k", &"x".repeat(4_000));
    let mut joins = 0;
    let error = loop {
        match w.enter(long.clone()) {
            Ok(a) => w.drop_socket(a),
            Err(error) => break error,
        }
        joins += 1;
    };
    assert_eq!((error.name(), joins), (&ErrorName::RateLimited, 10), "4 units of 40 each");
    let wait = error.data.retry_after_ms.expect("a time");
    w.advance(wait - 1);
    assert_eq!(w.refusal(long.clone()), ErrorName::RateLimited);
    w.advance(1);
    w.admit(long);
    w.audit();
}

fn crowded(uid: u64) -> Entry {
    let keys = (0..7).map(|n| (format!("k{n}"), "x".repeat(500)));
    keys.fold(entry(uid), |entry, (key, value)| entry.attribute(&key, &value))
        .attribute("t", &"x".repeat(430))
}

/// Members join with as many attributes as are allowed, and then with fewer and fewer.
fn fill(w: &mut World, first: u64, count: u64, role: &str) -> Vec<Client> {
    let mut came = Vec::new();
    for uid in first..first + count {
        let mut bytes = 4_000;
        while bytes > 0 {
            let e = if bytes == 4_000 { crowded(uid) } else { entry(uid).name(&"n".repeat(bytes)) };
            match w.enter(e.role(role)) {
                Ok(client) => {
                    came.push(client);
                    break;
                }
                Err(_) => bytes = if bytes == 4_000 { 128 } else { bytes / 2 },
            }
        }
    }
    came
}

/// Proves ATT-6.
#[test]
fn the_audience_takes_nothing_from_broadcasters_and_from_the_channel() {
    let mut w = World::new();
    let host = w.admit(entry(1).moderator().name("Host"));
    fill(&mut w, 1_000, 69, "audience");
    w.admit(entry(7).audience().name("Mei"));
    w.admit(entry(8).name("Li"));
    w.ok(host, rename("Host is on air"));
    w.ok(host, set_attributes(&[("seat", "1")]));
    w.ok(host, set_channel_attributes(&[("topic", &"t".repeat(4_000))]));
    w.audit();
}

/// Proves ATT-6.
#[test]
fn broadcasters_leave_each_other_room_for_a_name() {
    let mut w = World::new();
    let host = w.admit(entry(1).moderator().name("Host"));
    fill(&mut w, 1_000, 100, "broadcaster");
    w.admit(entry(7).audience().name("Mei"));
    w.admit(entry(8).name("Li"));
    w.ok(host, rename("Host is on air"));
    w.ok(host, set_attributes(&[("seat", "1")]));
    w.ok(host, set_channel_attributes(&[("topic", &"t".repeat(4_000))]));
}

/// Proves ROL-4.
#[test]
fn a_member_demoted_by_a_moderator_needs_a_moderator_for_promotion() {
    let mut w = World::new();
    let m = w.admit(entry(9).moderator());
    let a = w.join(1);
    w.ok(m, set_role_of(1, "audience"));
    assert_eq!(w.err(a, set_role("broadcaster")), ErrorName::Forbidden);
    w.ok(a, set_role("audience"));
    // Nor by a new membership, after a crash, or after a stop.
    w.ok(a, leave());
    let a = w.join(1);
    assert_eq!(w.joined(a).own.role.as_str(), "audience");
    let a = w.admit(entry(1).role("broadcaster"));
    assert_eq!(w.joined(a).own.role.as_str(), "audience", "whatever it asks for");
    assert_eq!(w.err(a, set_role("broadcaster")), ErrorName::Forbidden);
    w.crash();
    let m = w.admit(entry(9).moderator());
    let a = w.join(1);
    assert_eq!(w.err(a, set_role("broadcaster")), ErrorName::Forbidden);
    w.ok(m, set_role_of(1, "broadcaster"));
    w.ok(a, set_role("audience"));
    w.ok(a, set_role("broadcaster"));
    // A moderator can keep a member audience that is audience already, and a moderator does not allow itself.
    let b = w.admit(entry(2).moderator().audience());
    w.ok(m, set_role_of(2, "audience"));
    assert_eq!(w.err(b, set_role("broadcaster")), ErrorName::Forbidden);
    w.ok(m, set_role_of(2, "broadcaster"));
    w.audit();
}

/// Proves ROL-4, KIC-5.
#[test]
fn demotions_count_for_the_moderator() {
    let mut w = World::with(|config| config.limits.bans = 8);
    let m = w.admit(entry(9).moderator());
    let a = w.join(1);
    let b = w.join(2);
    w.ok(m, set_role_of(1, "audience"));
    assert_eq!(w.err(m, set_role_of(2, "audience")), ErrorName::TooManyBans);
    w.ok(b, publish("audio"));
    w.ok(m, set_role_of(1, "broadcaster"));
    w.ok(m, set_role_of(2, "audience"));
    assert_eq!(w.err(b, publish("audio")), ErrorName::NotBroadcaster);
    w.ok(a, publish("audio"));
}

/// Proves ROL-4, KIC-5.
#[test]
fn demotions_of_absent_members_make_room_and_an_operator_lifts_them() {
    let mut w = World::new();
    let m = w.admit(entry(9).moderator());
    for uid in 1_000..1_300 {
        let a = w.join(uid);
        w.ok(m, set_role_of(uid, "audience"));
        w.ok(a, leave());
        w.advance(200);
    }
    let a = w.join(1_299);
    assert_eq!(w.joined(a).own.role.as_str(), "audience");
    let lift = AdminCommand::LiftBansBy { appkey: room("plain").appkey, by: UserId(9) };
    assert_eq!(w.admin(lift), Ok(AdminReply::Lifted(256)));
    w.ok(a, set_role("broadcaster"));
    w.audit();
}

/// Proves KIC-5.
#[test]
fn a_ban_is_lifted_and_charged_for_its_maker_only() {
    let mut w = World::new();
    let (m, n) = (w.admit(entry(8).moderator()), w.admit(entry(9).moderator()));
    w.ok(m, kick(1, 600));
    w.ok(n, kick(1, 601));
    let lift = AdminCommand::LiftBansBy { appkey: room("plain").appkey, by: UserId(9) };
    assert_eq!(w.admin(lift), Ok(AdminReply::Lifted(1)));
    assert_eq!(w.refusal(entry(1)), ErrorName::Banned);
    w.crash();
    assert_eq!(w.refusal(entry(1)), ErrorName::Banned);
    let lift = AdminCommand::LiftBan { channel: room("plain"), uid: Some(UserId(1)) };
    assert_eq!(w.admin(lift), Ok(AdminReply::Lifted(1)));
    w.join(1);
}

/// Proves AUT-6, JOI-8.
#[test]
fn creator_rights_require_a_token_that_names_the_uid() {
    let named = |w: &World, uid: u64, app: &str| in_app(uid, app).jwt(w, 0, 3_600_000);
    let of_anybody =
        |w: &World, uid: u64, app: &str| named(w, uid, app).grant(|grant| grant.uid = None);
    let mut w = World::new();
    // A client with a token for any uid claims to be uid 1.
    let e = of_anybody(&w, 1, "creator");
    let a = w.admit(e.clone());
    let b = w.admit(in_app(2, "creator"));
    assert!(!w.joined(a).own.rights.moderate);
    assert_eq!(w.err(a, kick(2, 60)), ErrorName::Forbidden);
    let e_named = named(&w, 1, "creator");
    let a = w.admit(e_named);
    w.ok(a, kick(2, 0));
    assert_eq!(w.closed(b), Some(CloseCode::KICKED));
    let keeps = w.admit(in_app(3, "creator"));
    w.ok(a, leave());
    let a = w.admit(e);
    assert_eq!(w.err(a, kick(3, 0)), ErrorName::Forbidden);
    assert!(w.closed(keeps).is_none());
    // Nor does a channel end with such a member.
    let e = named(&w, 1, "dissolve");
    let host = w.admit(e);
    let guest = w.admit(in_app(2, "dissolve"));
    let impostor = of_anybody(&w, 1, "dissolve");
    let impostor = w.admit(impostor);
    assert_eq!(w.closed(host), Some(CloseCode::REPLACED));
    w.ok(impostor, leave());
    assert!(w.closed(guest).is_none());
    let e = named(&w, 1, "dissolve");
    let host = w.admit(e);
    w.ok(host, leave());
    assert_eq!(w.closed(guest), Some(CloseCode::CHANNEL_CLOSED));
}

/// Proves ATT-7.
#[test]
fn members_without_message_right_say_nothing_by_names_and_attributes() {
    let silent = |uid: u64| entry(uid).rights(|rights| rights.message = false);
    let mut w = World::new();
    let a = w.admit(silent(1).name("Ann").attribute("seat", "1"));
    let b = w.join(2);
    w.advance(100);
    w.skip_received();
    assert_eq!(w.err(a, send_message("psst")), ErrorName::Forbidden);
    assert_eq!(w.err(a, rename("psst")), ErrorName::Forbidden);
    assert_eq!(w.err(a, set_attributes(&[("seat", "psst")])), ErrorName::Forbidden);
    w.ok(a, set_role("audience"));
    assert_eq!(w.err(a, set_attributes(&[("seat", "psst")])), ErrorName::Forbidden);
    w.ok(a, set_role("broadcaster"));
    w.ok(a, leave());
    // Nor with other texts in a new membership, or as audience.
    let a = w.admit(silent(1).name("psst").attribute("seat", "psst"));
    assert_eq!(w.joined(a).own.name.as_deref(), Some("Ann"));
    let a = w.admit(silent(1).name("psst").audience());
    w.ok(a, set_role("broadcaster"));
    w.ok(a, leave());
    let a = w.admit(silent(1).attribute("seat", "psst").audience());
    w.ok(a, set_role("broadcaster"));
    // Nor if it was audience last.
    w.ok(a, set_role("audience"));
    w.ok(a, leave());
    let a = w.admit(silent(1).name("psst"));
    assert_eq!(w.joined(a).own.name.as_deref(), Some("Ann"));
    w.advance(100);
    let heard = w.new_events(b).join(" ") + &format!("{:?}", w.conns[&b.0].events);
    assert!(!heard.contains("psst"), "{heard}");
    // A member with the right `message` may do all that.
    w.admit(entry(1).name("Anna"));
    w.audit();
}

/// Proves MSG-2.
#[test]
fn a_sender_does_not_learn_who_is_in_the_audience() {
    let mut w = World::new();
    let a = w.join(1);
    let b = w.admit(entry(2).audience());
    let delivered = |w: &mut World, uid: u64| {
        let sent = w.ok(a, send_to(&[uid], "psst"));
        serde_json::from_value::<MessageSent>(sent).expect("sent").delivered
    };
    assert_eq!((delivered(&mut w, 2), delivered(&mut w, 3), delivered(&mut w, 1)), (1, 1, 1));
    assert_eq!(w.notices(b).len(), 1, "the notice is sent all the same");
}

/// Proves ATT-7.
#[test]
fn a_member_without_message_right_keeps_its_last_visible_texts() {
    let silent = |uid: u64| entry(uid).rights(|rights| rights.message = false);
    let name = |w: &World, client: Client| w.joined(client).own.name.clone().expect("a name");
    let mut w = World::new();
    w.tokens.insert("speaks".to_owned(), Ok(Grant::debug()));
    w.join(9);
    let a = w.admit(silent(1).name("Ann"));
    w.ok(a, leave());
    // It gets the right and changes its name, which is what others see last.
    let a = w.admit(silent(1));
    assert_eq!(name(&w, a), "Ann");
    w.ok(a, renew_token("speaks"));
    w.ok(a, rename("Bea"));
    w.ok(a, leave());
    let a = w.admit(silent(1).name("Cleo"));
    assert_eq!(name(&w, a), "Cleo", "not the texts seen long ago");
    w.ok(a, leave());
    // The same if it is replaced while it is visible.
    let a = w.admit(silent(1));
    w.ok(a, renew_token("speaks"));
    w.ok(a, rename("Dora"));
    let a = w.admit(silent(1).name("Eve"));
    assert_eq!(name(&w, a), "Eve");
    w.ok(a, leave());
    // The audience is invisible: its texts do not replace the last visible ones.
    let a = w.admit(entry(1).name("Flo").audience());
    w.ok(a, rename("Gina"));
    w.ok(a, leave());
    let a = w.admit(silent(1).name("psst"));
    assert_eq!(name(&w, a), "Eve");
    w.audit();
}

/// Proves KIC-2, KIC-5, RST-5.
#[test]
fn a_moderator_without_a_name_changes_nothing_of_the_moderator_whose_uid_it_has() {
    let mut w = World::new();
    let named = entry(9).moderator().jwt(&w, 0, 3_600_000);
    let unnamed = named.clone().grant(|grant| grant.uid = None);
    let bans = |w: &mut World| -> Vec<u64> {
        let list = AdminCommand::ListBansOfApp(room("plain").appkey);
        let Ok(AdminReply::Bans(bans)) = w.admin(list) else { panic!() };
        bans.iter().map(|ban| ban.left_ms).collect()
    };
    w.join(1);
    let m = w.admit(named);
    w.ok(m, kick(5, 60));
    w.ok(m, leave());
    let m = w.admit(unnamed);
    w.ok(m, kick(5, 90));
    assert_eq!(bans(&mut w), [60_000, 90_000]);
    w.crash();
    assert_eq!(bans(&mut w), [60_000, 90_000], "each has its row");
    // An operator finds both bans by that uid.
    let lift = AdminCommand::LiftBansBy { appkey: room("plain").appkey, by: UserId(9) };
    assert_eq!(w.admin(lift), Ok(AdminReply::Lifted(2)));
    w.crash();
    assert!(bans(&mut w).is_empty());
    w.join(5);
}
