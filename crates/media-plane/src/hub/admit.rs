//! How a request becomes a publisher or a player.
//!
//! In: requests and an authorizer. Out: a [`Publisher`] or [`Player`], or [`Denied`]. Absent: a moment in which a cut
//! could be lost. The claim is registered before the authorizer is asked, and the activation checks for an end of the
//! claim under the lock that [`Hub::cut_stream`] takes.

use std::net::Ipv4Addr;

use super::Hub;
use super::claim::Claim;
use super::player::Player;
use super::publisher::Publisher;
use crate::auth::{Authorizer, Denied, DeniedKind, Direction, StreamName, StreamRequest, Verdict};
use crate::kinds::Kinds;
use crate::shares::PlayerSlot;

impl Hub {
    /// Requests to publish.
    ///
    /// # Errors
    /// [`Denied`] if the authorizer refuses, the request is cut meanwhile, or another publisher is live.
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

    /// Requests to play. The player waits if the stream has no publisher.
    ///
    /// # Errors
    /// [`Denied`] if the authorizer refuses, the request is cut meanwhile, or a limit is reached.
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
            let slot = self.inner.shares.player(claim.core.stream.app(), viewer)?;
            let tracks = claim.stream.activate_player(&self.inner, &claim.core, viewer)?;
            claim.slot = Some(slot);
            // Not earlier: a play that is refused for lack of a slot must not end another one.
            claim.replace_older();
            Ok(Player::new(claim, tracks))
        });
        self.note(&log, result)
    }

    /// Asks whether a play would be allowed, without starting it. Returns the kinds that the viewer may have.
    ///
    /// # Errors
    /// [`Denied`] if the authorizer refuses or the request is cut meanwhile.
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
            // An HLS player requests each segment, so this would fill the log at a higher level.
            tracing::debug!(request = ?log, "admitted");
            return result;
        }
        self.note(&log, result)
    }

    /// A slot for an RTMP connection with this request for a play. The connection holds it until it requests something
    /// else.
    pub(crate) fn connection_of_play(&self, request: &StreamRequest) -> Result<PlayerSlot, Denied> {
        let slot = self.inner.shares.connection_of_play();
        slot.or_else(|denied| self.note(request, Err(denied)))
    }

    /// Starts a play of this process itself, for example for a forward. `None` if the stream has no publisher. No
    /// authorizer is asked, and the play takes no slot of another player.
    #[must_use]
    pub fn tap(&self, stream: &StreamName) -> Option<Player> {
        let claim = Claim::register(self, stream.clone(), Ipv4Addr::LOCALHOST.into(), None);
        let tracks = claim.stream.activate_player(&self.inner, &claim.core, None).ok()?;
        // If the publisher leaves after this check, the tap waits for the next one as other players do.
        claim.stream.is_live().then(|| Player::new(claim, tracks))
    }

    /// Registers a claim and asks the authorizer. Returns the claim and the kinds of its verdict.
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
                if self.inner.log_limiter.allow(request.peer.ip()) {
                    tracing::info!(?request, "admitted");
                }
            }
            Err(denied) => {
                self.inner.counters.refused();
                // At a level that is usually off: anyone can cause any number of refusals.
                tracing::debug!(?request, kind = ?denied.kind, code = denied.code, "refused");
            }
        }
        result
    }
}
