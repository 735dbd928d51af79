//! Clients that vanish in the middle of it and never come back, and when the server gives them up (LIV-3).

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use lianmai_client_sdk::Role;
use tokio::time::{sleep, timeout};

use crate::cast::Guest;
use crate::fault_proxy::Way;
use crate::on_air::Pusher;
use crate::verdict::{Door, row_of};

/// A client that will vanish.
#[derive(Debug)]
pub(crate) struct Ghost {
    guest: Guest,
    way: Way,
    pusher: Option<Pusher>,
}

/// One that has, with its way, which says nothing.
#[derive(Debug)]
pub(crate) struct Vanished {
    uid: u64,
    room: usize,
    pub(crate) at: Instant,
    /// When the last of it left for the server.
    pub(crate) heard: Instant,
    _way: Way,
    pusher: Option<Pusher>,
}

impl Ghost {
    pub(crate) async fn join(
        server: SocketAddr,
        room: usize,
        uid: u64,
        is_on_air: bool,
    ) -> Result<Self> {
        let way = Way::to(server).await?;
        let guest = Guest::new(way.address, room, uid, Role::Broadcaster);
        guest.join().await?;
        let pusher = if is_on_air { Some(Pusher::start(&guest).await?) } else { None };
        Ok(Ghost { guest, way, pusher })
    }

    /// From now on nothing of it reaches the server, and nothing ends. Its media goes on, if it has some.
    pub(crate) fn vanish(self) -> Vanished {
        let Ghost { guest, way, pusher } = self;
        way.stall(true, true);
        way.open(false);
        let (uid, room, heard) = (guest.uid().0, guest.room, way.heard());
        Vanished { uid, room, at: Instant::now(), heard, _way: way, pusher }
    }
}

impl Vanished {
    /// Waits until the server lists it no longer; when that was.
    pub(crate) async fn gone(&self, door: &Door, limit: Duration) -> Result<Instant> {
        let look = async {
            loop {
                // A server that is dead lists nobody, and is no proof.
                if let Ok(roster) = door.roster(self.room).await
                    && roster.is_none_or(|roster| row_of(&roster, self.uid).is_none())
                {
                    return Instant::now();
                }
                sleep(Duration::from_millis(50)).await;
            }
        };
        timeout(limit, look).await.with_context(|| format!("uid {} stays for ever", self.uid))
    }

    /// It was not given up before `least`, and neither was its push.
    pub(crate) fn assert_gone(&self, gone: Instant, least: Instant) -> Result<()> {
        let after = |at: Instant| at.saturating_duration_since(self.at);
        ensure!(
            gone >= least,
            "uid {} was gone {:?} after it vanished, earlier than {:?}",
            self.uid,
            after(gone),
            after(least),
        );
        if let Some(pusher) = &self.pusher {
            let ends = pusher.ends.borrow();
            let first = ends.first().context("its push goes on")?;
            ensure!(*first > least, "its push ended {:?} after it vanished", after(*first));
        }
        Ok(())
    }
}
