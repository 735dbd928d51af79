//! A reader of the journal. Comes in: records that are appended to the journal, and after each write that survives the
//! safe rows. Goes out: what is wrong with them. It knows only what the journal said, and checks that numbers are
//! contiguous, that everything begins and ends once and within its owner, and that rows and journal always agree,
//! whatever was lost.

use std::collections::BTreeMap;

use lianmai_protocol::message::task::TaskState;
use lianmai_protocol::{Cid, Mid, Pub, Role, TaskId};
use lianmai_signal_engine::{ChannelKey, Event, EventRecord, Record, Row, RowKey};

/// A member according to the journal.
#[derive(Debug, PartialEq, Eq)]
struct JournalMember {
    role: Role,
    streams: Vec<Pub>,
}

#[derive(Debug, Default)]
struct JournalChannel {
    last: Option<u64>,
    open: Option<Cid>,
    members: BTreeMap<Mid, JournalMember>,
    tasks: BTreeMap<TaskId, TaskState>,
}

/// The state of all channels according to the journal.
#[derive(Debug, Default)]
pub(crate) struct Follower {
    channels: BTreeMap<ChannelKey, JournalChannel>,
}

type Wrong = Result<(), String>;

impl Follower {
    pub(crate) fn append(&mut self, key: &ChannelKey, record: &EventRecord) -> Wrong {
        let of = self.channels.entry(key.clone()).or_default();
        of.append(record).map_err(|what| format!("{key:?} {record:?}: {what}"))
    }

    /// Checks that the members in the rows are exactly those that joined and have not left, with their roles and
    /// publications, and that the tasks in the rows are exactly those that were added and have not ended, with their
    /// states.
    pub(crate) fn agrees(&self, key: &ChannelKey, rows: &BTreeMap<RowKey, Record>) -> Wrong {
        let none = JournalChannel::default();
        let told = self.channels.get(key).unwrap_or(&none);
        let first = RowKey { channel: key.clone(), row: Row::Channel };
        let own = rows.range(first..).take_while(|(row, _)| row.channel == *key);
        let mut open = None;
        let (mut members, mut tasks) = (BTreeMap::new(), BTreeMap::new());
        for (_, record) in own {
            match record {
                Record::Channel(channel) => open = Some(channel.cid),
                Record::Member(member) => {
                    let mut streams: Vec<_> = member.published.iter().map(|(_, p)| *p).collect();
                    streams.sort();
                    members
                        .insert(member.mid, JournalMember { role: member.role.clone(), streams });
                }
                Record::Task(task) => drop(tasks.insert(task.task.clone(), task.state.clone())),
                _ => {}
            }
        }
        if (open, &members, &tasks) == (told.open, &told.members, &told.tasks) {
            return Ok(());
        }
        Err(format!(
            "{key:?}: the rows say {open:?} {members:?} {tasks:?}, and the journal {told:?}"
        ))
    }
}

impl JournalChannel {
    fn append(&mut self, record: &EventRecord) -> Wrong {
        let next = self.last.map(|last| last + 1);
        // The journal of a name that was forgotten begins anew, with greater numbers.
        let follows = match next {
            Some(next) => record.seq == next && !record.first || record.first && record.seq > next,
            None => record.first,
        };
        if !follows {
            return Err(format!("the last one was {:?}", self.last));
        }
        self.last = Some(record.seq);
        if record.event != Event::ChannelOpened && self.open != Some(record.cid) {
            return Err(format!("{:?} is open", self.open));
        }
        let missing = || "it is about nothing that is there".to_owned();
        match &record.event {
            Event::ChannelOpened => match self.open.replace(record.cid) {
                None => Ok(()),
                Some(open) => Err(format!("{open:?} is open")),
            },
            Event::Lost { .. } => Err("nothing is lost in the engine".to_owned()),
            Event::ChannelEnded => {
                self.open = None;
                if self.members.is_empty() && self.tasks.is_empty() {
                    Ok(())
                } else {
                    Err("with members or tasks in it".to_owned())
                }
            }
            Event::MemberJoined { mid, role, .. } => {
                let member = JournalMember { role: role.clone(), streams: Vec::new() };
                match self.members.insert(*mid, member) {
                    None => Ok(()),
                    Some(_) => Err("it has joined already".to_owned()),
                }
            }
            Event::MemberLeft { mid, .. } => {
                let member = self.members.remove(mid).ok_or_else(missing)?;
                if member.streams.is_empty() { Ok(()) } else { Err("it publishes".to_owned()) }
            }
            Event::RoleChanged { mid, role, .. } => {
                let member = self.members.get_mut(mid).ok_or_else(missing)?;
                match std::mem::replace(&mut member.role, role.clone()) != *role {
                    true => Ok(()),
                    false => Err("it has that role".to_owned()),
                }
            }
            Event::StreamAdded { mid, publication, .. } => {
                let streams = &mut self.members.get_mut(mid).ok_or_else(missing)?.streams;
                match streams.binary_search(publication) {
                    Ok(_) => Err("it is there".to_owned()),
                    Err(at) => {
                        streams.insert(at, *publication);
                        Ok(())
                    }
                }
            }
            Event::TaskAdded { task_id, .. } => {
                match self.tasks.insert(task_id.clone(), TaskState::Idle) {
                    None => Ok(()),
                    Some(_) => Err("it is there".to_owned()),
                }
            }
            Event::TaskChanged { task_id, state, .. } => {
                *self.tasks.get_mut(task_id).ok_or_else(missing)? = state.clone();
                Ok(())
            }
            Event::TaskEnded { task_id, .. } => {
                self.tasks.remove(task_id).ok_or_else(missing)?;
                Ok(())
            }
            Event::StreamRemoved { mid, publication, .. } => {
                let streams = &mut self.members.get_mut(mid).ok_or_else(missing)?.streams;
                let at = streams.binary_search(publication).map_err(|_| missing())?;
                streams.remove(at);
                Ok(())
            }
        }
    }
}
