//! How the bounds of the relay are shared out.
//!
//! In: who a push or play is of. Out: accounts, on which media takes its bytes; places. Absent: the rule of sharing, which
//! is of `lianmai_shares`; connections, see `serve`.
//!
//! A push holds its sequence headers, its group of pictures, what slow players have yet to get, and the messages that are
//! not whole yet. All of that counts once, however many play it, on the account of the push; and that counts for its
//! member, its app, and the process. The same for segments of HLS.

use std::net::IpAddr;
use std::sync::Arc;

use lianmai_shares::{Account as Bytes, Full, Held, Place, Places, Pool, Share};

use crate::address::group;
use crate::auth::{Account, Denied, DeniedKind, StreamName};
use crate::config::RelayConfig;

/// One app of several gets three quarters.
const APP: Share = Share::of(3, 4);
/// One member of it an eighth of that.
const MEMBER: Share = Share::of(1, 8);
/// One push of it half of that.
const STREAM: Share = Share::of(1, 2);
/// What a viewer gets in any case: all its plays of a stream, those that were ended and still exist included.
const LEAST_PLAYS: usize = 8;
/// One stream gets half of the places to wait for a publisher.
const STREAM_WAITERS: Share = Share::of(1, 2);
/// And one address a quarter.
const ADDRESS_WAITERS: Share = Share::of(1, 4);

/// Who is charged.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Key {
    App(Arc<str>),
    Member(Arc<str>, Arc<str>),
    Stream(StreamName),
    Address(IpAddr),
}

/// Bytes that are charged to somebody.
pub(crate) type Charge = Held<Key>;
/// An account that bytes are taken on.
pub(crate) type BytesAccount = Bytes<Key>;

#[derive(Debug)]
pub(crate) struct Shares {
    media: Pool<Key>,
    segments: Pool<Key>,
    forwards: Pool<Key>,
    players: Places<Key>,
    /// Connections of RTMP that ask for plays: what is left over is for publishers, however many wait for them.
    connections_of_plays: Places<Key>,
    /// Places to wait, which count for three that have nothing to do with each other.
    viewers_waiting: Places<Key>,
    streams_waiting: Places<Key>,
    addresses_waiting: Places<Key>,
    app: Share,
    address: Share,
}

/// A place among the players.
pub(crate) type PlayerPlace = Place<Key>;
/// A place to wait for a publisher.
pub(crate) type WaitingPlace = [Place<Key>; 3];

impl Shares {
    pub(crate) fn new(config: &RelayConfig) -> Self {
        Self {
            media: Pool::new(config.media_total_bytes),
            segments: Pool::new(config.hls_total_bytes),
            forwards: Pool::new(config.forward_total_bytes),
            players: Places::new(config.max_players),
            connections_of_plays: Places::new(config.max_connections - config.max_connections / 8),
            viewers_waiting: Places::new(config.max_waiters),
            streams_waiting: Places::new(config.max_waiters),
            addresses_waiting: Places::new(config.max_waiters),
            app: if config.apps > 1 { APP } else { Share::ALL },
            // Where one address may have all connections, everybody comes from it.
            address: if config.max_connections_per_address < config.max_connections {
                ADDRESS_WAITERS
            } else {
                Share::ALL
            },
        }
    }

    /// A place for a player of an app, whose viewer is known or not.
    pub(crate) fn player(
        &self,
        app: &str,
        viewer: Option<&Account>,
    ) -> Result<PlayerPlace, Denied> {
        self.players
            .enter(self.viewer(app, viewer))
            .map_err(|full| refused(full, "tooManyPlayers", "too many players"))
    }

    /// A place among the RTMP connections that ask for plays.
    pub(crate) fn connection_of_play(&self) -> Result<PlayerPlace, Denied> {
        let nobody = std::iter::empty();
        self.connections_of_plays
            .enter(nobody)
            .map_err(|full| refused(full, "tooManyPlayers", "too many players"))
    }

    /// A place to wait for the publisher of a stream.
    pub(crate) fn waiter(
        &self,
        stream: &StreamName,
        viewer: Option<&Account>,
        address: IpAddr,
    ) -> Result<WaitingPlace, Denied> {
        let address = address.to_canonical();
        // Everybody behind a proxy of this machine is that.
        let address =
            (!address.is_loopback()).then(|| (Key::Address(group(address)), self.address));
        let stream_share = STREAM_WAITERS.at_least(LEAST_PLAYS);
        let enter = || -> Result<WaitingPlace, Full<Key>> {
            Ok([
                self.viewers_waiting.enter(self.viewer(stream.app(), viewer))?,
                self.streams_waiting.enter([(Key::Stream(stream.clone()), stream_share)])?,
                self.addresses_waiting.enter(address)?,
            ])
        };
        enter().map_err(|full| refused(full, "tooManyWaiters", "too many players wait"))
    }

    fn viewer(&self, app: &str, viewer: Option<&Account>) -> impl Iterator<Item = (Key, Share)> {
        let app = viewer.map_or_else(|| app.into(), |viewer| viewer.app.clone());
        let member = viewer.map(|viewer| {
            let key = Key::Member(viewer.app.clone(), viewer.member.clone());
            (key, MEMBER.at_least(LEAST_PLAYS))
        });
        [(Key::App(app), self.app)].into_iter().chain(member)
    }

    /// On which a push of `stream` takes what it holds.
    pub(crate) fn media(&self, owner: &Account, stream: &StreamName) -> BytesAccount {
        self.media.account(self.owner(owner, stream))
    }

    /// On which a viewer has what is its own.
    pub(crate) fn viewed(&self, viewer: &Account) -> BytesAccount {
        let [app, member, _] = self.owner(viewer, &StreamName::new("", ""));
        self.media.account([app, member])
    }

    /// On which the segments of a stream are.
    pub(crate) fn segments(&self, owner: &Account, stream: &StreamName) -> BytesAccount {
        self.segments.account(self.owner(owner, stream))
    }

    /// On which a forward of a stream takes what its upstream has yet to take.
    pub(crate) fn forwarded(&self, owner: &Account, stream: &StreamName) -> BytesAccount {
        self.forwards.account(self.owner(owner, stream))
    }

    /// Players of all protocols.
    pub(crate) fn players(&self) -> usize {
        self.players.taken()
    }

    /// Bytes that all pushes hold.
    pub(crate) fn media_bytes(&self) -> usize {
        self.media.used()
    }

    /// Bytes of all segments.
    pub(crate) fn segment_bytes(&self) -> usize {
        self.segments.used()
    }

    fn owner(&self, owner: &Account, stream: &StreamName) -> [(Key, Share); 3] {
        let (app, member) = (owner.app.clone(), owner.member.clone());
        [
            (Key::App(app.clone()), self.app),
            (Key::Member(app, member), MEMBER),
            (Key::Stream(stream.clone()), STREAM),
        ]
    }
}

/// What a peer is told whose place is not there. Others may have one.
fn refused(full: Full<Key>, code: &'static str, message: &str) -> Denied {
    let whose = match full.key {
        None => "",
        Some(Key::App(_)) => " of this app",
        Some(Key::Member(..)) => " of this viewer",
        Some(Key::Stream(_)) => " of this stream",
        Some(Key::Address(_)) => " of this address",
    };
    Denied::new(DeniedKind::Overload, code, &format!("{message}{whose}"))
}

/// Bytes that are charged to somebody for as long as anybody holds them or a part of them.
#[derive(Debug)]
pub(crate) struct Charged {
    pub(crate) bytes: bytes::Bytes,
    pub(crate) charge: Option<Arc<Charge>>,
}

impl AsRef<[u8]> for Charged {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Charged {
    /// Shared bytes; the charge goes with the last of them.
    pub(crate) fn share(self) -> bytes::Bytes {
        match self.charge {
            Some(_) => bytes::Bytes::from_owner(self),
            None => self.bytes,
        }
    }
}
