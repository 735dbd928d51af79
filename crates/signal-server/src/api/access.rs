//! Who asks, and whether it may. Comes in: the header `Authorization`, and the path. Goes out: the app, channel, member or
//! thing that a route is about, as a type that cannot be had without the scope that the route needs. Deliberately absent:
//! what is done with it.
//!
//! In this order: is it a key (401), does it have the scope (403), is it of this app (403), is there such an app (404), and
//! only then what is wrong with the rest of the request.

use std::marker::PhantomData;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::{FromRequestParts, MatchedPath, RawPathParams, State};
use axum::middleware::Next;
use axum::response::Response;
use http::header::{AUTHORIZATION, WWW_AUTHENTICATE};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Request, StatusCode};
use lianmai_protocol::{Appkey, ErrorName, TaskId, UserId};
use lianmai_signal_engine::ChannelKey;

use super::Api;
use super::docs::takes_query;
use super::error::ApiError;
use super::keys::{Caller, Scope};
use crate::clock::wall_now;
use crate::socket::give_way::Seat;

/// A scope as a type.
pub(super) trait Needs: Send + Sync + 'static {
    const SCOPE: Scope;
}

/// To see.
pub(super) struct Read;
/// To moderate.
pub(super) struct Moderate;
/// To administer.
pub(super) struct Admin;

impl Needs for Read {
    const SCOPE: Scope = Scope::Read;
}
impl Needs for Moderate {
    const SCOPE: Scope = Scope::Moderate;
}
impl Needs for Admin {
    const SCOPE: Scope = Scope::Admin;
}

/// The app that a route is about.
pub(super) struct App<S: Needs>(pub(super) Appkey, pub(super) PhantomData<S>);
/// The channel that a route is about.
pub(super) struct Channel<S: Needs>(pub(super) ChannelKey, pub(super) PhantomData<S>);
/// The uid that a route is about, and its channel.
pub(super) struct Member<S: Needs>(
    pub(super) ChannelKey,
    pub(super) UserId,
    pub(super) PhantomData<S>,
);
/// The push task that a route is about, and its channel.
pub(super) struct Task<S: Needs>(
    pub(super) ChannelKey,
    pub(super) TaskId,
    pub(super) PhantomData<S>,
);
/// The id of a thing that an app has.
pub(super) struct Thing<S: Needs>(pub(super) Appkey, pub(super) String, pub(super) PhantomData<S>);
/// The operator of the deployment.
pub(super) struct Root;

/// Who sees every app.
pub(super) struct Everything;

/// Says who asks, or that it is nobody.
pub(super) async fn identify(
    State(api): State<Arc<Api>>,
    mut request: Request<Body>,
    next: Next,
) -> Result<Response, ApiError> {
    let caller = bearer(request.headers()).and_then(|given| {
        if api.token.equals(given) {
            Some(Caller::Root)
        } else {
            api.service.keys().caller(given, wall_now())
        }
    });
    if let Some(caller) = caller {
        let _busy = request.extensions().get::<Seat>().map(Seat::busy);
        request.extensions_mut().insert(caller);
        return Ok(next.run(request).await);
    }
    let text = "The header Authorization must be `Bearer` and a key, or the token in <data-dir>/admin.token.";
    Err(ApiError::new(StatusCode::UNAUTHORIZED, "unauthorized", text)
        .with(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer")))
}

/// Schemes have no case (RFC 9110 §11.1).
fn bearer(headers: &HeaderMap) -> Option<&str> {
    headers
        .get(AUTHORIZATION)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.split_once(' '))
        .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
        .map(|(_, given)| given.trim_start_matches(' '))
}

fn caller(parts: &Parts) -> Result<&Caller, ApiError> {
    // Every route is behind `identify`.
    parts.extensions.get::<Caller>().ok_or_else(|| ErrorName::InternalError.into())
}

/// What is behind the names of a path.
struct Names(Vec<(String, String)>);

impl Names {
    async fn of(parts: &mut Parts, api: &Arc<Api>) -> Result<Self, ApiError> {
        // What is no text names nothing.
        let found = RawPathParams::from_request_parts(parts, api).await;
        let found = found.map_err(|_| ApiError::from(ErrorName::BadChannelName))?;
        Ok(Names(found.iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect()))
    }

    fn get(&self, name: &str) -> &str {
        let found = self.0.iter().find(|(own, _)| own == name);
        found.map(|(_, value)| value.as_str()).unwrap_or_default()
    }

    fn channel(&self, appkey: Appkey) -> Result<ChannelKey, ApiError> {
        let name = self.get("channel");
        // Clients take these for steps of the path.
        if matches!(name, "." | "..") {
            return Err(ErrorName::BadChannelName.into());
        }
        let name = name.parse().map_err(|_| ErrorName::BadChannelName)?;
        Ok(ChannelKey { appkey, name })
    }
}

/// The app of a path, if the caller may ask that about it.
async fn app(parts: &mut Parts, api: &Arc<Api>, scope: Scope) -> Result<(Appkey, Names), ApiError> {
    let names = Names::of(parts, api).await;
    let caller = caller(parts)?;
    if !caller.may(scope) {
        let text = match scope {
            Scope::Read => "The key needs the scope `read`.",
            Scope::Moderate => "The key needs the scope `moderate`.",
            Scope::Admin => "The key needs the scope `admin`.",
        };
        return Err(ApiError::new(StatusCode::FORBIDDEN, "missingScope", text));
    }
    let names = names?;
    let appkey: Appkey = names.get("appkey").parse().map_err(|_| no_such_app(caller))?;
    if !caller.sees(&appkey) {
        return Err(of_another_app());
    }
    if !api.service.has_app(&appkey) {
        return Err(no_such_app(caller));
    }
    check_query(parts)?;
    Ok((appkey, names))
}

/// A query where none is taken is a wish that would not be heard.
fn check_query(parts: &Parts) -> Result<(), ApiError> {
    let path = parts.extensions.get::<MatchedPath>().map(MatchedPath::as_str);
    let heard = path.is_some_and(|path| takes_query(&parts.method, path));
    match parts.uri.query() {
        Some(query) if !query.is_empty() && !heard => {
            Err(ApiError::invalid_params("nothing is asked by a query here"))
        }
        _ => Ok(()),
    }
}

fn of_another_app() -> ApiError {
    ApiError::new(StatusCode::FORBIDDEN, "wrongApp", "The key is for another app.")
}

/// Whoever has the key of one app does not learn which others there are.
fn no_such_app(caller: &Caller) -> ApiError {
    match caller {
        Caller::Key(key) if key.appkey.is_some() => of_another_app(),
        _ => ApiError::none_such("noSuchApp", "No such app."),
    }
}

impl<S: Needs> FromRequestParts<Arc<Api>> for App<S> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, api: &Arc<Api>) -> Result<Self, ApiError> {
        let (appkey, _) = app(parts, api, S::SCOPE).await?;
        Ok(App(appkey, PhantomData))
    }
}

impl<S: Needs> FromRequestParts<Arc<Api>> for Channel<S> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, api: &Arc<Api>) -> Result<Self, ApiError> {
        let (appkey, names) = app(parts, api, S::SCOPE).await?;
        Ok(Channel(names.channel(appkey)?, PhantomData))
    }
}

impl<S: Needs> FromRequestParts<Arc<Api>> for Member<S> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, api: &Arc<Api>) -> Result<Self, ApiError> {
        let (appkey, names) = app(parts, api, S::SCOPE).await?;
        let channel = names.channel(appkey)?;
        let uid = names.get("uid").parse::<UserId>();
        let uid = uid.map_err(|error| ApiError::from(error.name).field("uid"))?;
        Ok(Member(channel, uid, PhantomData))
    }
}

impl<S: Needs> FromRequestParts<Arc<Api>> for Task<S> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, api: &Arc<Api>) -> Result<Self, ApiError> {
        let (appkey, names) = app(parts, api, S::SCOPE).await?;
        let channel = names.channel(appkey)?;
        let task = names.get("task").parse::<TaskId>();
        let task = task.map_err(|_| ApiError::from(ErrorName::BadTask).field("task"))?;
        Ok(Task(channel, task, PhantomData))
    }
}

impl<S: Needs> FromRequestParts<Arc<Api>> for Thing<S> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, api: &Arc<Api>) -> Result<Self, ApiError> {
        let (appkey, names) = app(parts, api, S::SCOPE).await?;
        Ok(Thing(appkey, names.get("id").to_owned(), PhantomData))
    }
}

impl FromRequestParts<Arc<Api>> for Root {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &Arc<Api>) -> Result<Self, ApiError> {
        match caller(parts)? {
            Caller::Root => check_query(parts).map(|()| Root),
            Caller::Key(_) => {
                let text = "Only the token of the deployment may ask for that.";
                Err(ApiError::new(StatusCode::FORBIDDEN, "missingScope", text))
            }
        }
    }
}

impl FromRequestParts<Arc<Api>> for Everything {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &Arc<Api>) -> Result<Self, ApiError> {
        match caller(parts)? {
            Caller::Key(key) if key.appkey.is_some() => Err(of_another_app()),
            _ => Ok(Everything),
        }
    }
}
