//! What waits for the disk: the newest operation of each row. Comes in: operations in order. Goes out: the same
//! effect in as few statements as possible. Deliberately absent: the disk.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use lianmai_protocol::UserId;
use lianmai_signal_engine::record::{BanRecord, ChannelRecord, MemberRecord};
use lianmai_signal_engine::{ChannelKey, StoreOp};

/// Rows that may wait to be removed. The rows that wait to be there are bounded by what the engines hold.
pub(super) const MAX_ROWS: usize = 250_000;

/// What a row becomes; `None` removes it.
type Row<T> = Option<T>;

/// The rows of one channel's name.
#[derive(Debug, Default)]
pub(super) struct Rows {
    /// Before all else the channel goes, with its members.
    pub(super) dropped: bool,
    pub(super) channel: Option<Box<ChannelRecord>>,
    pub(super) members: BTreeMap<UserId, Row<Box<MemberRecord>>>,
    pub(super) bans: BTreeMap<UserId, Row<BanRecord>>,
    pub(super) hold: Option<Row<BanRecord>>,
    /// Members and bans that are to be removed.
    removed: usize,
}

fn removed<T>(rows: &BTreeMap<UserId, Row<T>>) -> usize {
    rows.values().filter(|row| row.is_none()).count()
}

/// Sets the row of a uid, or forgets it.
fn set<T>(
    rows: &mut BTreeMap<UserId, Row<T>>,
    removed: &mut usize,
    uid: UserId,
    row: Option<Row<T>>,
) {
    *removed += usize::from(matches!(row, Some(None)));
    let old = match row {
        Some(row) => rows.insert(uid, row),
        None => rows.remove(&uid),
    };
    *removed -= usize::from(matches!(old, Some(None)));
}

impl Rows {
    fn len(&self) -> usize {
        let single = [self.dropped, self.channel.is_some(), self.hold.is_some()];
        self.members.len() + self.bans.len() + single.iter().filter(|there| **there).count()
    }

    /// Those that are to be removed.
    fn removals(&self) -> usize {
        self.removed + usize::from(self.dropped) + usize::from(matches!(self.hold, Some(None)))
    }

    fn clear(&mut self) {
        self.removed -= removed(&self.members);
        self.members.clear();
        self.channel = None;
    }
}

/// Everything that waits.
#[derive(Debug, Default)]
pub(super) struct Pending {
    rows: BTreeMap<ChannelKey, Rows>,
    len: usize,
    /// Of these, the ones to be removed.
    removals: usize,
    /// Removals that were given up: the file holds rows that should be gone.
    forgotten: u64,
}

impl Pending {
    pub(super) fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Rows that wait.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Removals that were given up.
    pub(super) fn forgotten(&self) -> u64 {
        self.forgotten
    }

    /// All of it. What was given up stays known.
    pub(super) fn take(&mut self) -> Pending {
        let rest = Pending { forgotten: self.forgotten, ..Pending::default() };
        Pending { forgotten: 0, ..std::mem::replace(self, rest) }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&ChannelKey, &Rows)> {
        self.rows.iter()
    }

    /// Takes an operation in, behind those before.
    pub(super) fn apply(&mut self, op: StoreOp) {
        let full = self.removals >= MAX_ROWS;
        let removes = matches!(
            op,
            StoreOp::DropChannel(_)
                | StoreOp::DropMember(..)
                | StoreOp::DropBan(..)
                | StoreOp::DropHold(_)
        );
        match op {
            StoreOp::PutChannel(key, record) => self.at(key, |rows| rows.channel = Some(record)),
            StoreOp::DropChannel(key) => self.at(key, |rows| {
                rows.clear();
                rows.dropped |= !full;
            }),
            StoreOp::PutMember(key, record) => self.at(key, |rows| {
                set(&mut rows.members, &mut rows.removed, record.uid, Some(Some(record)));
            }),
            // Where the channel goes first, no member is left that could be removed.
            StoreOp::DropMember(key, uid) => self.at(key, |rows| {
                set(
                    &mut rows.members,
                    &mut rows.removed,
                    uid,
                    (!rows.dropped && !full).then_some(None),
                );
            }),
            StoreOp::PutBan(key, uid, record) => self.at(key, |rows| {
                set(&mut rows.bans, &mut rows.removed, uid, Some(Some(record)));
            }),
            StoreOp::DropBan(key, uid) => self.at(key, |rows| {
                set(&mut rows.bans, &mut rows.removed, uid, (!full).then_some(None));
            }),
            StoreOp::PutHold(key, record) => self.at(key, |rows| rows.hold = Some(Some(record))),
            StoreOp::DropHold(key) => {
                self.at(key, |rows| rows.hold = if full { None } else { Some(None) });
            }
        }
        self.forgotten += u64::from(removes && full);
    }

    /// Puts what could not be written under what came since.
    pub(super) fn put_back(&mut self, older: Pending) {
        let newer = std::mem::replace(self, older);
        self.forgotten += newer.forgotten;
        for (key, newer) in newer.rows {
            self.at(key, |rows| {
                if newer.dropped {
                    rows.clear();
                    rows.dropped = true;
                }
                if newer.channel.is_some() {
                    rows.channel = newer.channel;
                }
                rows.members.extend(newer.members);
                rows.bans.extend(newer.bans);
                rows.removed = removed(&rows.members) + removed(&rows.bans);
                rows.hold = newer.hold.or(rows.hold.take());
            });
        }
    }

    /// Changes the rows of a name.
    fn at(&mut self, key: ChannelKey, change: impl FnOnce(&mut Rows)) {
        let mut entry = match self.rows.entry(key) {
            Entry::Vacant(entry) => entry.insert_entry(Rows::default()),
            Entry::Occupied(entry) => entry,
        };
        let rows = entry.get_mut();
        let (len, removals) = (rows.len(), rows.removals());
        change(rows);
        self.len = self.len - len + rows.len();
        self.removals = self.removals - removals + rows.removals();
        if rows.len() == 0 {
            entry.remove();
        }
    }
}

#[cfg(test)]
#[path = "pending_tests.rs"]
mod tests;
