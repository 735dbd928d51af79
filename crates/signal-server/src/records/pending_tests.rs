//! Proves no rule of the protocol: operations that wait to be written.

use std::collections::BTreeMap;

use lianmai_protocol::UserId;
use lianmai_signal_engine::Restored;

use super::*;
use crate::records::sqlite::FILE;
use crate::records::tests::{
    Temp, ban, channel, drop_row, key, member, only, params, put_ban, put_channel, put_hold,
    put_member,
};
use crate::records::{load, schema, writer};

/// The expected content of the file.
#[derive(Clone, Debug, Default, PartialEq)]
struct Model {
    channels: BTreeMap<ChannelKey, u8>,
    members: BTreeMap<(ChannelKey, u64), String>,
    bans: BTreeMap<(ChannelKey, u64), u64>,
    holds: BTreeMap<ChannelKey, u64>,
}

impl Model {
    /// Makes a random change and returns its operation.
    fn step(&mut self, random: u64) -> RowOp {
        let room = key(["a", "b", "c"][random as usize % 3]);
        let (uid, value) = (random >> 8 & 3, (random >> 16) as u8);
        let user = UserId(uid);
        match random >> 32 & 15 {
            0 | 1 => {
                self.channels.remove(&room);
                self.members.retain(|(of, _), _| *of != room);
                RowOp::DropChannel(room)
            }
            2 | 3 => {
                self.members.remove(&(room.clone(), uid));
                drop_row(room, Row::Member(user))
            }
            4 => {
                self.bans.remove(&(room.clone(), uid));
                drop_row(room, Row::Ban(user, None))
            }
            5 => {
                self.bans.insert((room.clone(), uid), value.into());
                put_ban(room, user, ban(value.into()))
            }
            6 => {
                self.holds.remove(&room);
                drop_row(room, Row::Hold)
            }
            7 => {
                self.holds.insert(room.clone(), value.into());
                put_hold(room, ban(value.into()))
            }
            8..=11 if self.channels.contains_key(&room) => {
                self.members.insert((room.clone(), uid), value.to_string());
                put_member(room, member(uid, &value.to_string()))
            }
            _ => {
                self.channels.insert(room.clone(), value);
                put_channel(room, channel(value))
            }
        }
    }

    fn of(restored: Restored) -> Self {
        let mut model = Model::default();
        for (key, channel, members) in restored.channels {
            model.channels.insert(key.clone(), u8::try_from(channel.cid.0).unwrap());
            for member in members {
                model.members.insert((key.clone(), member.uid.0), member.name.unwrap());
            }
        }
        model.bans =
            restored.bans.into_iter().map(|(key, uid, ban)| ((key, uid.0), ban.until.0)).collect();
        model.holds = restored.holds.into_iter().map(|(key, ban)| (key, ban.until.0)).collect();
        model
    }
}

/// Whatever happens between two commits, and however often a commit fails: the file holds the state at the last commit.
#[test]
fn every_commit_holds_the_latest_state() {
    let temp = Temp::new("prefix");
    drop(crate::data_dir::DirLock::take(&temp.0).unwrap());
    let mut connection = schema::open(&temp.0.join(FILE)).unwrap();
    let params = params(1);
    let (mut model, mut pending) = (Model::default(), Pending::default());
    let mut random = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = || {
        // xorshift64
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        random
    };
    let mut commits = 0;
    for _ in 0..20_000 {
        pending.apply(model.step(next()));
        match next() % 40 {
            0 => {
                let batch = pending.take();
                writer::commit(&mut connection, &batch).unwrap();
                let restored = only(load::load(&mut connection, params).unwrap());
                assert_eq!(Model::of(restored), model);
                commits += 1;
            }
            // The commit fails, and more operations arrive.
            1..=4 => {
                let batch = pending.take();
                for _ in 0..next() % 8 {
                    pending.apply(model.step(next()));
                }
                pending.put_back(batch);
            }
            _ => {}
        }
    }
    assert!(commits > 100);
}

#[test]
fn pending_removals_are_bounded() {
    let mut pending = Pending::default();
    for uid in 0..MAX_ROWS as u64 + 10 {
        pending.apply(put_ban(key("room"), UserId(uid), ban(1)));
        pending.apply(drop_row(key("room"), Row::Ban(UserId(uid), None)));
    }
    assert_eq!((pending.len(), pending.forgotten()), (MAX_ROWS, 10));
    let batch = pending.take();
    assert!(pending.is_empty() && pending.forgotten() == 10 && batch.len() == MAX_ROWS);
    pending.put_back(batch);
    assert_eq!((pending.len(), pending.forgotten()), (MAX_ROWS, 10));
    pending.apply(RowOp::DropChannel(key("room")));
    pending.apply(put_channel(key("room"), channel(1)));
    assert_eq!(
        (pending.len(), pending.forgotten()),
        (MAX_ROWS + 1, 11),
        "a live channel is written"
    );
}

#[test]
fn existing_rows_do_not_count_as_removals() {
    let mut pending = Pending::default();
    for uid in 0..MAX_ROWS as u64 {
        pending.apply(put_member(key("room"), member(uid, "m")));
    }
    pending.apply(drop_row(key("room"), Row::Member(UserId(0))));
    pending.apply(put_member(key("room"), member(0, "again")));
    pending.apply(drop_row(key("room"), Row::Member(UserId(0))));
    pending.apply(RowOp::DropChannel(key("other")));
    assert_eq!((pending.len(), pending.forgotten()), (MAX_ROWS + 1, 0));
}
