//! From request to publisher or player.
//!
//! In: requests and an authorizer. Out: a [`Publisher`] or [`Player`], or [`Denied`]. Absent: an
//! instant at which a cut could be lost: the claim is registered before the authorizer is asked, and
//! activation looks for a cut under the lock that cuts take.

use std::net::Ipv4Addr;

use super::Hub;
use super::claim::Claim;
use super::player::Player;
use super::publisher::Publisher;
use crate::auth::{Authorizer, Denied, DeniedKind, Direction, StreamName, StreamRequest, Verdict};
use crate::kinds::Kinds;
use crate::shares::PlayerPlace;

impl Hub {
    /// Asks for a publish.
    ///
    /// # Errors
    /// [`Denied`] by the authorizer, by a cut meanwhile, or because another publisher is live.
    pub async fn publish<A: Authorizer>(
        &self,
        authorizer: &A,
        request: StreamRequest,
    ) -> Result<Publisher, Denied> {
        let request = StreamRequest { direction: Direction::Publish, ..request };
        let log = request.clone();
        let result = self.admit(authorizer, request).await.and_then(|claim| {
            let (claim, kinds) = claim;
            let (stream, core, owner) = (&claim.stream, &claim.core, claim.account.as_ref());
            let charged = stream.activate_publisher(&self.inner, core, kinds, owner)?;
            Ok(Publisher::new(claim, charged.empty()))
        });
        self.note(&log, result)
    }

    /// Asks for a play. A stream without publisher is waited for.
    ///
    /// # Errors
    /// [`Denied`] by the authorizer, by a cut meanwhile, or because a limit is reached.
    pub async fn play<A: Authorizer>(
        &self,
        authorizer: &A,
        request: StreamRequest,
    ) -> Result<Player, Denied> {
        let request = StreamRequest { direction: Direction::Play, ..request };
        let log = request.clone();
        let result = self.admit(authorizer, request).await.and_then(|(mut claim, _)| {
            if claim.is_viewer_full() {
                let message = "too many plays of one viewer that have not ended yet";
                return Err(Denied::new(DeniedKind::Overload, "tooManyPlays", message));
            }
            let viewer = claim.account.as_ref();
            let place = self.inner.shares.player(claim.core.stream.app(), viewer)?;
            let tracks = claim.stream.activate_player(&self.inner, &claim.core, viewer)?;
            claim.place = Some(place);
            // Only now: a play that does not come about ends no other.
            claim.replace_older();
            Ok(Player::new(claim, tracks))
        });
        self.note(&log, result)
    }

    /// Asks whether a play would be let in, and begins none. Says which kinds its viewer may have.
    ///
    /// # Errors
    /// [`Denied`] by the authorizer or by a cut meanwhile.
    pub async fn probe<A: Authorizer>(
        &self,
        authorizer: &A,
        request: StreamRequest,
    ) -> Result<Kinds, Denied> {
        let request = StreamRequest { direction: Direction::Play, ..request };
        let log = request.clone();
        let result = self.admit(authorizer, request).await;
        let result = result.map(|(claim, _)| claim.core.allowed());
        if result.is_ok() {
            // A player of HLS asks for each segment.
            tracing::debug!(request = ?log, "admitted");
            return result;
        }
        self.note(&log, result)
    }

    /// A place for an RTMP connection that asks for a play, to be held until it asks for something else.
    pub(crate) fn connection_of_play(&self) -> Result<PlayerPlace, Denied> {
        self.inner.shares.connection_of_play()
    }

    /// A play by this process itself of a stream that has a publisher; nothing if it has none. Nobody is asked, and it
    /// takes the place of no other player.
    #[must_use]
    pub fn tap(&self, stream: &StreamName) -> Option<Player> {
        let claim = Claim::register(self, stream.clone(), Ipv4Addr::LOCALHOST.into(), None);
        let tracks = claim.stream.activate_player(&self.inner, &claim.core, None).ok()?;
        // One that leaves only now is waited for as long as by other players.
        claim.stream.is_live().then(|| Player::new(claim, tracks))
    }

    /// The claim, and the kinds of its verdict.
    async fn admit<A: Authorizer>(
        &self,
        authorizer: &A,
        request: StreamRequest,
    ) -> Result<(Claim, Kinds), Denied> {
        let direction = request.direction;
        let hint = match direction {
            Direction::Publish => None,
            Direction::Play => authorizer.viewer(&request),
        };
        let mut claim = Claim::register(self, request.name(), request.peer.ip(), hint);
        let asked =
            tokio::time::timeout(self.inner.config.auth_timeout, authorizer.authorize(request));
        let verdict = tokio::select! {
            biased;
            _ = claim.core.wait_interrupted() => {
                return Err(Denied::new(DeniedKind::Denied, "cut", "the stream was cut meanwhile"));
            }
            verdict = asked => verdict,
        };
        match verdict {
            Ok(Verdict::Allow { viewer, kinds, account }) => {
                claim.charge(account, viewer.as_deref());
                if direction == Direction::Play {
                    claim.core.allow_at_first(kinds);
                    if let Some(viewer) = viewer {
                        claim.confirm_viewer(viewer);
                    }
                }
                Ok((claim, kinds))
            }
            Ok(Verdict::Deny { code, message }) => {
                Err(Denied { kind: DeniedKind::Denied, code, message })
            }
            Ok(Verdict::Later { code, message }) => {
                Err(Denied { kind: DeniedKind::Overload, code, message })
            }
            Err(_) => Err(Denied::new(DeniedKind::Overload, "authTimeout", "no verdict in time")),
        }
    }

    fn note<T>(&self, request: &StreamRequest, result: Result<T, Denied>) -> Result<T, Denied> {
        match &result {
            Ok(_) => {
                if self.inner.lines.allow(request.peer.ip()) {
                    tracing::info!(?request, "admitted");
                }
            }
            Err(denied) => {
                self.inner.counters.refused();
                // Anybody can cause as many of these as they like.
                tracing::debug!(?request, kind = ?denied.kind, code = denied.code, "refused");
            }
        }
        result
    }
}
