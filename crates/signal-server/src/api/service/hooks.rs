//! Webhooks of an app, and its events. Comes in: requests about them. Goes out: endpoints, events. Deliberately absent:
//! deliveries (`hooks/`).

use http::StatusCode;
use lianmai_protocol::Appkey;
use lianmai_shares::Share;

use super::Service;
use crate::api::error::ApiError;
use crate::api::keys::random_id;
use crate::api::paging::bad_cursor;
use crate::clock::wall_now;
use crate::config::Secret;
use crate::hooks::body::EventDto;
use crate::hooks::{Egress, Endpoint, KINDS};
use crate::records::{DeadLetter, EventCursor};

/// A page of events.
#[derive(Clone, Debug)]
pub(crate) struct EventPage {
    pub(crate) events: Vec<EventDto>,
    /// The place up to which these are all.
    pub(crate) last: EventCursor,
    /// Whether there are more.
    pub(crate) more: bool,
}

/// Maximum number of pings that are on the way at the same time.
pub(in crate::api) const MAX_PINGS: usize = 16;
/// The share of one app in them.
const PINGS_OF_APP: Share = Share::capped(4, MAX_PINGS);

/// The settings of a new endpoint.
#[derive(Clone, Debug)]
pub(crate) struct NewEndpoint {
    pub(crate) url: String,
    pub(crate) events: Vec<String>,
    pub(crate) enabled: bool,
}

impl Service {
    /// Makes an endpoint, which receives the events from now on, and returns its secret.
    pub(crate) async fn add_endpoint(
        &self,
        appkey: &Appkey,
        new: NewEndpoint,
    ) -> Result<(Endpoint, Secret), ApiError> {
        self.check_events_kept()?;
        let NewEndpoint { url, events, enabled } = new;
        check_url(&url)?;
        let events = check_events(events)?;
        let since = self.database.last_pos().await?;
        let failed = |_| ApiError::from(lianmai_protocol::ErrorName::InternalError);
        let id = random_id().map_err(failed)?;
        let (created_at, appkey) = (wall_now(), appkey.clone());
        let secrets = Vec::new();
        let mut endpoint =
            Endpoint { id, appkey, url, events, enabled, created_at, since, secrets };
        let secret = endpoint.rotate(created_at).map_err(failed)?;
        if self.endpoints.add(endpoint.clone()).await? {
            return Ok((endpoint, secret));
        }
        let text = "The app has as many webhooks as it may have.";
        Err(ApiError::new(StatusCode::CONFLICT, "tooManyWebhooks", text))
    }

    /// The endpoints of an app.
    pub(crate) fn endpoints_of(&self, appkey: &Appkey) -> Vec<Endpoint> {
        self.endpoints.of(appkey)
    }

    /// One endpoint.
    pub(crate) fn endpoint(&self, appkey: &Appkey, id: &str) -> Result<Endpoint, ApiError> {
        self.endpoints.get(appkey, id).ok_or_else(no_such_webhook)
    }

    /// Changes an endpoint; `None` leaves a setting as it is.
    pub(crate) async fn change_endpoint(
        &self,
        appkey: &Appkey,
        id: &str,
        (url, events, enabled): (Option<String>, Option<Vec<String>>, Option<bool>),
    ) -> Result<Endpoint, ApiError> {
        let change = |endpoint: &mut Endpoint| {
            if let Some(url) = url {
                check_url(&url)?;
                endpoint.url = url;
            }
            if let Some(events) = events {
                endpoint.events = check_events(events)?;
            }
            endpoint.enabled = enabled.unwrap_or(endpoint.enabled);
            Ok::<_, ApiError>(())
        };
        let changed = self.endpoints.change(appkey, id, change).await?;
        changed.map(|(endpoint, ())| endpoint).ok_or_else(no_such_webhook)
    }

    /// Removes an endpoint.
    pub(crate) async fn remove_endpoint(&self, appkey: &Appkey, id: &str) -> Result<(), ApiError> {
        if self.endpoints.remove(appkey, id).await? { Ok(()) } else { Err(no_such_webhook()) }
    }

    /// Makes a new secret, which signs from now on. The old one signs for another day.
    pub(crate) async fn rotate_secret(
        &self,
        appkey: &Appkey,
        id: &str,
    ) -> Result<(Endpoint, Secret), ApiError> {
        let rotate = |endpoint: &mut Endpoint| {
            let failed = |_| ApiError::from(lianmai_protocol::ErrorName::InternalError);
            endpoint.rotate(wall_now()).map_err(failed)
        };
        self.endpoints.change(appkey, id, rotate).await?.ok_or_else(no_such_webhook)
    }

    /// Sends a ping. Returns why the endpoint did not accept it, or `None`.
    pub(crate) async fn ping(&self, appkey: &Appkey, id: &str) -> Result<Option<String>, ApiError> {
        let endpoint = self.endpoint(appkey, id)?;
        // The app decides how long its endpoint takes: others must keep room on the listener.
        let _slot = self.pings.acquire([(appkey.clone(), PINGS_OF_APP)]).map_err(|_| {
            let text = "As many pings of the app are on the way as may be.";
            ApiError::new(StatusCode::TOO_MANY_REQUESTS, "tooManyPings", text).may_succeed_later()
        })?;
        Ok(self.deliverer.ping(&endpoint).await.err().map(|refusal| refusal.to_string()))
    }

    /// Dead letters of an endpoint after a position.
    pub(crate) async fn dead_letters(
        &self,
        appkey: &Appkey,
        id: &str,
        after: u64,
        limit: usize,
    ) -> Result<Vec<DeadLetter>, ApiError> {
        self.endpoint(appkey, id)?;
        Ok(self.database.dead_letters(id, after, limit).await?)
    }

    /// At most `limit` events of an app after a place, or from the first one on.
    pub(crate) async fn events(
        &self,
        appkey: &Appkey,
        after: Option<EventCursor>,
        limit: usize,
    ) -> Result<EventPage, ApiError> {
        self.check_events_kept()?;
        let end = self.database.end_of_events().await?;
        if after.as_ref().is_some_and(|after| !after.is_in(&end)) {
            return Err(bad_cursor());
        }
        let after = after.map_or(0, |after| after.pos);
        // Waits for the turns and the writes of earlier requests.
        self.stats().await?;
        self.wait_until_written().await?;
        let mut stored = self.database.events_after(appkey, after, limit + 1).await?;
        let more = stored.len() > limit;
        stored.truncate(limit);
        // A damaged event is left out, and the page goes beyond it.
        let pos = stored.last().map_or(after, |event| event.pos);
        let events = stored.iter().filter_map(|event| EventDto::of(appkey, event)).collect();
        Ok(EventPage { events, last: EventCursor { pos, ..end }, more })
    }

    /// Refuses what needs events if the server stores none: no answer and no delivery would ever have one.
    fn check_events_kept(&self) -> Result<(), ApiError> {
        if self.deliverer.keep_ms > 0 {
            return Ok(());
        }
        let text = "This server stores no events (`webhooks.keep_s` is 0).";
        Err(ApiError::new(StatusCode::CONFLICT, "eventsNotKept", text))
    }
}

fn no_such_webhook() -> ApiError {
    ApiError::not_found("noSuchWebhook", "No such webhook.")
}

fn check_url(url: &str) -> Result<(), ApiError> {
    Egress::check(url).map_err(|error| {
        ApiError::new(StatusCode::UNPROCESSABLE_ENTITY, "badWebhookUrl", error.to_string())
            .field("url")
    })
}

fn check_events(mut events: Vec<String>) -> Result<Vec<String>, ApiError> {
    events.sort();
    events.dedup();
    if let Some(other) = events.iter().find(|kind| !KINDS.contains(&kind.as_str())) {
        let other: String = other.chars().take(32).collect();
        let text = format!("`{other}` is no kind of event");
        return Err(ApiError::new(StatusCode::BAD_REQUEST, "badEventType", text).field("events"));
    }
    Ok(events)
}
