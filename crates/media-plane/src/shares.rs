//! How accounts divide the resources of the relay.
//!
//! In: the owner of a push or play. Out: accounts that are charged for bytes, and slots. Absent: the rule of
//! sharing, see `lianmai_shares`; slots for connections of one address, see `serve`.
//!
//! A push holds its sequence headers, its group of pictures, the messages that slow players have yet to get, and its
//! incomplete messages. Each message counts once, however many players share it. It is charged to the account of the
//! push, and so also to the member, the app and the process. HLS segments and forwards are charged in the same way,
//! to pools of their own.

use std::net::IpAddr;
use std::sync::Arc;

use lianmai_shares::{Full, Pool, PoolAccount, Reservation, Share, Slot, Slots};

use crate::address::group;
use crate::auth::{Account, Denied, DeniedKind, StreamName};
use crate::config::RelayConfig;

/// The share of one app, if there are several apps.
const APP: Share = Share::of(3, 4);
/// The share of one member within its app.
const MEMBER: Share = Share::of(1, 8);
/// The share of one push within its member.
const STREAM: Share = Share::of(1, 2);
/// Slots that a viewer always gets: room for all its plays of one stream, including ended plays that still exist.
const MIN_PLAYS_PER_VIEWER: usize = 8;
/// The share of one stream in the slots to wait for a publisher.
const STREAM_WAITERS: Share = Share::of(1, 2);
/// The share of one address in the slots to wait for a publisher.
const ADDRESS_WAITERS: Share = Share::of(1, 4);

/// A holder of a share.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum ShareHolder {
    App(Arc<str>),
    Member(Arc<str>, Arc<str>),
    Stream(StreamName),
    Address(IpAddr),
}

/// Bytes that are charged to an account until this is dropped.
pub(crate) type Charge = Reservation<ShareHolder>;
/// An account that can be charged for bytes.
pub(crate) type BytesAccount = PoolAccount<ShareHolder>;

#[derive(Debug)]
pub(crate) struct Shares {
    media: Pool<ShareHolder>,
    segments: Pool<ShareHolder>,
    forwards: Pool<ShareHolder>,
    players: Slots<ShareHolder>,
    /// RTMP connections that ask for plays. The other connections are for publishers, however many players wait for
    /// them.
    connections_of_plays: Slots<ShareHolder>,
    /// Slots to wait for a publisher. Each waiting player counts in three independent pools: for its viewer, for its
    /// stream and for its address.
    viewers_waiting: Slots<ShareHolder>,
    streams_waiting: Slots<ShareHolder>,
    addresses_waiting: Slots<ShareHolder>,
    app: Share,
    address: Share,
}

/// A slot for a player.
pub(crate) type PlayerSlot = Slot<ShareHolder>;
/// A slot to wait for a publisher, in all three pools.
pub(crate) type WaitingSlots = [Slot<ShareHolder>; 3];

impl Shares {
    pub(crate) fn new(config: &RelayConfig) -> Self {
        Self {
            media: Pool::new(config.media_total_bytes),
            segments: Pool::new(config.hls_total_bytes),
            forwards: Pool::new(config.forward_total_bytes),
            players: Slots::new(config.max_players),
            connections_of_plays: Slots::new(config.max_connections - config.max_connections / 8),
            viewers_waiting: Slots::new(config.max_waiters),
            streams_waiting: Slots::new(config.max_waiters),
            addresses_waiting: Slots::new(config.max_waiters),
            app: if config.apps > 1 { APP } else { Share::ALL },
            // If one address may have all connections, then all clients come from one address, that of a proxy.
            address: if config.max_connections_per_address < config.max_connections {
                ADDRESS_WAITERS
            } else {
                Share::ALL
            },
        }
    }

    /// A slot for a player of an app. It counts for the viewer, too, if that is known.
    pub(crate) fn player(&self, app: &str, viewer: Option<&Account>) -> Result<PlayerSlot, Denied> {
        self.players
            .acquire(self.viewer(app, viewer))
            .map_err(|full| refused(full, "tooManyPlayers", "too many players"))
    }

    /// A slot among the RTMP connections that ask for plays.
    pub(crate) fn connection_of_play(&self) -> Result<PlayerSlot, Denied> {
        let nobody = std::iter::empty();
        self.connections_of_plays
            .acquire(nobody)
            .map_err(|full| refused(full, "tooManyPlayers", "too many players"))
    }

    /// A slot to wait for the publisher of a stream.
    pub(crate) fn waiter(
        &self,
        stream: &StreamName,
        viewer: Option<&Account>,
        address: IpAddr,
    ) -> Result<WaitingSlots, Denied> {
        let address = address.to_canonical();
        // All clients behind a proxy on this machine come from loopback.
        let address =
            (!address.is_loopback()).then(|| (ShareHolder::Address(group(address)), self.address));
        let stream_share = STREAM_WAITERS.at_least(MIN_PLAYS_PER_VIEWER);
        let enter = || -> Result<WaitingSlots, Full<ShareHolder>> {
            Ok([
                self.viewers_waiting.acquire(self.viewer(stream.app(), viewer))?,
                self.streams_waiting
                    .acquire([(ShareHolder::Stream(stream.clone()), stream_share)])?,
                self.addresses_waiting.acquire(address)?,
            ])
        };
        enter().map_err(|full| refused(full, "tooManyWaiters", "too many players wait"))
    }

    fn viewer(
        &self,
        app: &str,
        viewer: Option<&Account>,
    ) -> impl Iterator<Item = (ShareHolder, Share)> {
        let app = viewer.map_or_else(|| app.into(), |viewer| viewer.app.clone());
        let member = viewer.map(|viewer| {
            let key = ShareHolder::Member(viewer.app.clone(), viewer.member.clone());
            (key, MEMBER.at_least(MIN_PLAYS_PER_VIEWER))
        });
        [(ShareHolder::App(app), self.app)].into_iter().chain(member)
    }

    /// The account that is charged for what a push of `stream` holds.
    pub(crate) fn media(&self, owner: &Account, stream: &StreamName) -> BytesAccount {
        self.media.account(self.owner(owner, stream))
    }

    /// The account that is charged for bytes that only this viewer holds.
    pub(crate) fn viewed(&self, viewer: &Account) -> BytesAccount {
        let [app, member, _] = self.owner(viewer, &StreamName::new("", ""));
        self.media.account([app, member])
    }

    /// The account that is charged for the HLS segments of a stream.
    pub(crate) fn segments(&self, owner: &Account, stream: &StreamName) -> BytesAccount {
        self.segments.account(self.owner(owner, stream))
    }

    /// The account that is charged for what the upstream of a forward of this stream has yet to take.
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

    fn owner(&self, owner: &Account, stream: &StreamName) -> [(ShareHolder, Share); 3] {
        let (app, member) = (owner.app.clone(), owner.member.clone());
        [
            (ShareHolder::App(app.clone()), self.app),
            (ShareHolder::Member(app, member), MEMBER),
            (ShareHolder::Stream(stream.clone()), STREAM),
        ]
    }
}

/// The refusal of a slot. It says whose share is used up.
fn refused(full: Full<ShareHolder>, code: &'static str, message: &str) -> Denied {
    let whose = match full.key {
        None => "",
        Some(ShareHolder::App(_)) => " of this app",
        Some(ShareHolder::Member(..)) => " of this viewer",
        Some(ShareHolder::Stream(_)) => " of this stream",
        Some(ShareHolder::Address(_)) => " of this address",
    };
    Denied::new(DeniedKind::Overload, code, &format!("{message}{whose}"))
}

/// Bytes that stay charged as long as anyone holds them or a part of them.
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
    /// Shared bytes. The charge ends when the last part of them is dropped.
    pub(crate) fn share(self) -> bytes::Bytes {
        match self.charge {
            Some(_) => bytes::Bytes::from_owner(self),
            None => self.bytes,
        }
    }
}
