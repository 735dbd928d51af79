//! The addresses of connections and of notes. Comes in: connections, notes. Goes out: addresses, to limit the log lines
//! of each. Deliberately absent: addresses in the log.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use lianmai_protocol::Mid;
use lianmai_signal_engine::{ConnId, Note};

/// Maximum number of members whose address is remembered. A reader that misses notes may miss that members have left,
/// so more may be remembered than exist. At this number all are forgotten.
const MAX_MEMBERS: usize = 1_000_000;

/// The addresses of the connections that have joined or try to. Clones share them.
#[derive(Clone, Debug, Default)]
pub(crate) struct PeerAddresses(Arc<Mutex<HashMap<ConnId, IpAddr>>>);

/// The address of a connection is known until this is dropped.
#[derive(Debug)]
pub(crate) struct PeerAddressGuard {
    peers: PeerAddresses,
    conn: ConnId,
}

impl PeerAddresses {
    pub(crate) fn insert(&self, conn: ConnId, address: IpAddr) -> PeerAddressGuard {
        self.lock().insert(conn, address);
        PeerAddressGuard { peers: self.clone(), conn }
    }

    fn of(&self, conn: ConnId) -> Option<IpAddr> {
        self.lock().get(&conn).copied()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<ConnId, IpAddr>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl PeerAddressGuard {
    pub(crate) fn conn(&self) -> ConnId {
        self.conn
    }
}

impl Drop for PeerAddressGuard {
    fn drop(&mut self) {
        self.peers.lock().remove(&self.conn);
    }
}

/// Finds the addresses that notes come from.
#[derive(Debug)]
pub(crate) struct NoteAddresses {
    peers: PeerAddresses,
    /// The addresses of the members' last joins or resumes.
    members: BTreeMap<Mid, IpAddr>,
}

impl NoteAddresses {
    pub(crate) fn new(peers: PeerAddresses) -> Self {
        NoteAddresses { peers, members: BTreeMap::new() }
    }

    /// The address that caused a note, if it is known. Must be called for each note, in order.
    pub(crate) fn of(&mut self, note: &Note) -> Option<IpAddr> {
        match note {
            Note::MemberJoined { mid, conn, .. } | Note::Resumed { mid: Some(mid), conn, .. } => {
                let address = self.peers.of(*conn)?;
                if self.members.len() >= MAX_MEMBERS {
                    self.members.clear();
                }
                self.members.insert(*mid, address);
                Some(address)
            }
            Note::MemberLeft { mid, .. } => self.members.remove(mid),
            Note::RoleChanged { mid, .. }
            | Note::StreamAdded { mid, .. }
            | Note::StreamRemoved { mid, .. } => self.members.get(mid).copied(),
            Note::JoinRefused { conn, .. }
            | Note::Resumed { conn, .. }
            | Note::CommandRefused { conn, .. }
            | Note::Closing { conn, .. } => self.peers.of(*conn),
            Note::ChannelOpened { .. }
            | Note::ChannelEnded { .. }
            | Note::TaskAdded { .. }
            | Note::TaskChanged { .. }
            | Note::TaskEnded { .. } => None,
        }
    }
}

#[cfg(test)]
mod tests {
    //! Proves no rule of the protocol: the address that a log line counts for.

    use lianmai_protocol::message::event::LeaveReason;
    use lianmai_protocol::{Cid, CloseCode, Role, UserId};
    use lianmai_signal_engine::ChannelKey;

    use super::*;

    #[test]
    fn notes_map_to_the_address_of_their_connection_or_member() {
        let peers = PeerAddresses::default();
        let [one, other]: [IpAddr; 2] = ["192.0.2.1", "192.0.2.2"].map(|it| it.parse().unwrap());
        let entries = [peers.insert(ConnId(1), one), peers.insert(ConnId(2), other)];
        let mut note_addresses = NoteAddresses::new(peers.clone());
        let channel = ChannelKey { appkey: "demo".parse().unwrap(), name: "room".parse().unwrap() };
        let cid = Cid(5);
        let (uid, mid, role) = (UserId::from(7), Mid([0; 12]), Role::Broadcaster);
        let joined = |conn| {
            let (channel, role) = (channel.clone(), role.clone());
            Note::MemberJoined { channel, cid, uid, mid, role, conn: ConnId(conn) }
        };
        let changed =
            Note::RoleChanged { channel: channel.clone(), cid, uid, mid, role: role.clone() };
        let reason = LeaveReason::Left;
        let left = Note::MemberLeft { channel: channel.clone(), cid, uid, mid, reason };
        let closing = Note::Closing { conn: ConnId(2), code: CloseCode::GOING_AWAY };
        assert_eq!(note_addresses.of(&changed), None, "the member is not known yet");
        assert_eq!(
            (note_addresses.of(&joined(1)), note_addresses.of(&changed)),
            (Some(one), Some(one))
        );
        assert_eq!(
            (note_addresses.of(&joined(2)), note_addresses.of(&changed)),
            (Some(other), Some(other))
        );
        assert_eq!(note_addresses.of(&closing), Some(other));
        drop(entries);
        assert_eq!((note_addresses.of(&closing), note_addresses.of(&joined(1))), (None, None));
        assert_eq!((note_addresses.of(&left), note_addresses.of(&left)), (Some(other), None));
        assert!(peers.lock().is_empty() && note_addresses.members.is_empty(), "nothing is left");
    }
}
