//! Clients that disappear at any time and never come back, and when the server gives them up (LIV-3).

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use lianmai_client_sdk::Role;
use tokio::time::{sleep, timeout};

use crate::actors::Actor;
use crate::fault_proxy::FaultProxy;
use crate::final_state::{AdminApi, row_of};
use crate::on_air::Pusher;

/// A client that will disappear.
#[derive(Debug)]
pub(crate) struct Ghost {
    actor: Actor,
    proxy: FaultProxy,
    pusher: Option<Pusher>,
}

/// A client that has disappeared; its connection is silent.
#[derive(Debug)]
pub(crate) struct Vanished {
    uid: u64,
    room: usize,
    pub(crate) at: Instant,
    /// When its last bytes went to the server.
    pub(crate) heard: Instant,
    _proxy: FaultProxy,
    pusher: Option<Pusher>,
}

impl Ghost {
    pub(crate) async fn join(
        server: SocketAddr,
        room: usize,
        uid: u64,
        is_on_air: bool,
    ) -> Result<Self> {
        let proxy = FaultProxy::to(server).await?;
        let actor = Actor::new(proxy.address, room, uid, Role::Broadcaster);
        actor.join().await?;
        let pusher = if is_on_air { Some(Pusher::start(&actor).await?) } else { None };
        Ok(Ghost { actor, proxy, pusher })
    }

    /// From now on no byte of it reaches the server, and no connection ends. Its media continues, if it has any.
    pub(crate) fn vanish(self) -> Vanished {
        let Ghost { actor, proxy, pusher } = self;
        proxy.stall(true, true);
        proxy.set_accepting(false);
        let (uid, room, heard) = (actor.uid().0, actor.room, proxy.last_sent());
        Vanished { uid, room, at: Instant::now(), heard, _proxy: proxy, pusher }
    }
}

impl Vanished {
    /// Waits until the server does not list it any more. Returns when this was.
    pub(crate) async fn wait_until_gone(&self, api: &AdminApi, limit: Duration) -> Result<Instant> {
        let look = async {
            loop {
                // A stopped server lists no members; this proves nothing.
                if let Ok(roster) = api.roster(self.room).await
                    && roster.is_none_or(|roster| row_of(&roster, self.uid).is_none())
                {
                    return Instant::now();
                }
                sleep(Duration::from_millis(50)).await;
            }
        };
        timeout(limit, look).await.with_context(|| format!("uid {} stays for ever", self.uid))
    }

    /// Checks that neither it nor its push was given up before `least`.
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
