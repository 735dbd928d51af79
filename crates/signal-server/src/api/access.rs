//! Authentication and authorization. Comes in: the header `Authorization`, and the path. Goes out: the app, channel,
//! member or other object of a route, as a type that only a caller with the scope of the route gets. Deliberately
//! absent: what is done with it.
//!
//! The checks have this order: is the key valid (401), is the body too large for all routes (413), does the key have the
//! scope (403), is it for this app (403), does the app exist (404), and only then the rest of the request.

use std::marker::PhantomData;
use std::sync::Arc;

use axum::body::{Body, to_bytes};
use axum::extract::{FromRequestParts, MatchedPath, State};
use axum::middleware::Next;
use axum::response::Response;
use http::header::{AUTHORIZATION, WWW_AUTHENTICATE};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Request, StatusCode};
use lianmai_protocol::{Appkey, ErrorName, TaskId, UserId};
use lianmai_shares::{Share, Slots};
use lianmai_signal_engine::ChannelKey;
use percent_encoding::percent_decode_str;

use super::Api;
use super::answer_body::marked;
use super::docs::{Inputs, inputs_of};
use super::error::ApiError;
use super::extract::{MAX_TASKS_BODY, too_large};
use super::keys::{Caller, Scope};
use crate::clock::wall_now;
use crate::socket::idle_connections::TrackedConnection;

/// A scope as a type.
pub(super) trait RequiredScope: Send + Sync + 'static {
    const SCOPE: Scope;
}

/// The scope `read`.
pub(super) struct Read;
/// The scope `moderate`.
pub(super) struct Moderate;
/// The scope `admin`.
pub(super) struct Admin;

impl RequiredScope for Read {
    const SCOPE: Scope = Scope::Read;
}
impl RequiredScope for Moderate {
    const SCOPE: Scope = Scope::Moderate;
}
impl RequiredScope for Admin {
    const SCOPE: Scope = Scope::Admin;
}

/// The app of a route.
pub(super) struct App<S: RequiredScope>(pub(super) Appkey, pub(super) PhantomData<S>);
/// The channel of a route.
pub(super) struct Channel<S: RequiredScope>(pub(super) ChannelKey, pub(super) PhantomData<S>);
/// The channel and the uid of a route.
pub(super) struct Member<S: RequiredScope>(
    pub(super) ChannelKey,
    pub(super) UserId,
    pub(super) PhantomData<S>,
);
/// The channel and the push task of a route.
pub(super) struct Task<S: RequiredScope>(
    pub(super) ChannelKey,
    pub(super) TaskId,
    pub(super) PhantomData<S>,
);
/// The id of an object of an app.
pub(super) struct AppObject<S: RequiredScope>(
    pub(super) Appkey,
    pub(super) String,
    pub(super) PhantomData<S>,
);
/// The app whose keys a route is about.
pub(super) struct KeysOf(pub(super) Appkey);
/// The app and the id of the key that a route is about.
pub(super) struct KeyOf(pub(super) Appkey, pub(super) String);
/// Only the operator of the deployment.
pub(super) struct Root;
/// The id of an object of the deployment, for its operator.
pub(super) struct RootObject(pub(super) String);

/// A caller that may see all apps.
pub(super) struct AllApps;
/// A request without query and body.
pub(super) struct NoInputs;

/// Marks a request whose body is not empty.
#[derive(Clone, Copy, Debug)]
struct HasBody;

/// Maximum number of requests with keys of apps whose connections do not give way: half of the connections.
const MAX_BUSY: usize = 32;
/// The share of one app in them.
const BUSY_OF_APP: Share = Share::of(1, 2);

/// The state of [`identify`]. Clones share it.
#[derive(Clone)]
pub(super) struct Callers {
    api: Arc<Api>,
    busy: Slots<Appkey>,
}

impl Callers {
    pub(super) fn new(api: Arc<Api>) -> Self {
        Callers { api, busy: Slots::new(MAX_BUSY) }
    }
}

/// Identifies the caller, or answers 401. Reads the body of a request whose caller is known.
pub(super) async fn identify(
    State(Callers { api, busy }): State<Callers>,
    request: Request<Body>,
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
        let (mut parts, body) = request.into_parts();
        // The maximum of all routes. Each route checks its own limit again. A connection whose body has not arrived is
        // idle, because its client decides when it arrives.
        let body = to_bytes(body, MAX_TASKS_BODY).await.map_err(|_| too_large())?;
        let tracked = parts.extensions.get::<TrackedConnection>().cloned();
        let _busy = tracked.as_ref().map(TrackedConnection::mark_busy);
        // Beyond the share of its app a request is carried out, but its connection gives way after all idle ones.
        let slot = caller.appkey().map(|appkey| busy.acquire([(appkey.clone(), BUSY_OF_APP)]));
        let _waiting = match (&tracked, &slot) {
            (Some(tracked), Some(Err(_))) => Some(tracked.mark_waiting()),
            _ => None,
        };
        parts.extensions.insert(caller);
        // An empty object asks for nothing.
        if !matches!(body.trim_ascii(), b"" | b"{}") {
            parts.extensions.insert(HasBody);
        }
        let response = next.run(Request::from_parts(parts, Body::from(body))).await;
        // While its client reads the answer, the connection gives way, but only if no other is idle.
        return Ok(match tracked {
            Some(tracked) => response.map(|body| marked(body, tracked.mark_waiting())),
            None => response,
        });
    }
    let text = "The header Authorization must be `Bearer` and a key, or the token in <data-dir>/admin.token.";
    Err(ApiError::new(StatusCode::UNAUTHORIZED, "unauthorized", text)
        .with(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer")))
}

/// Schemes are case-insensitive (RFC 9110 §11.1).
fn bearer(headers: &HeaderMap) -> Option<&str> {
    headers
        .get(AUTHORIZATION)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.split_once(' '))
        .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
        .map(|(_, given)| given.trim_start_matches(' '))
}

fn caller(parts: &Parts) -> Result<&Caller, ApiError> {
    // All routes that need a caller are behind `identify`.
    parts.extensions.get::<Caller>().ok_or_else(|| ErrorName::InternalError.into())
}

/// The parameters of a path.
struct PathParams(Vec<(String, String)>);

impl PathParams {
    /// Bytes that are not UTF-8 become U+FFFD, which no object has in its name or id: each parameter is refused as
    /// other wrong ones.
    fn of(parts: &Parts) -> Self {
        let route = parts.extensions.get::<MatchedPath>().map_or("", MatchedPath::as_str);
        let segments = route.split('/').zip(parts.uri.path().split('/'));
        let params = segments.filter_map(|(name, value)| {
            let name = name.strip_prefix('{')?.strip_suffix('}')?;
            let value = percent_decode_str(value).decode_utf8_lossy();
            Some((name.to_owned(), value.into_owned()))
        });
        PathParams(params.collect())
    }

    fn get(&self, name: &str) -> &str {
        let found = self.0.iter().find(|(own, _)| own == name);
        found.map(|(_, value)| value.as_str()).unwrap_or_default()
    }

    fn channel(&self, appkey: Appkey) -> Result<ChannelKey, ApiError> {
        let name = self.get("channel").parse().map_err(|_| ErrorName::BadChannelName)?;
        Ok(ChannelKey { appkey, name })
    }
}

/// The app of a path, if it exists and the caller has the scope for it.
fn authorize_app(
    parts: &Parts,
    api: &Arc<Api>,
    scope: Scope,
) -> Result<(Appkey, PathParams), ApiError> {
    authorize(parts, scope, |appkey| api.service.has_app(appkey))
}

/// The same for the keys of an app. They outlive its entry in the configuration: if it comes back, they are valid again.
fn authorize_keys(parts: &Parts, api: &Arc<Api>) -> Result<(Appkey, PathParams), ApiError> {
    authorize(parts, Scope::Admin, |appkey| {
        api.service.has_app(appkey) || !api.service.keys().list(Some(appkey)).is_empty()
    })
}

fn authorize(
    parts: &Parts,
    scope: Scope,
    exists: impl FnOnce(&Appkey) -> bool,
) -> Result<(Appkey, PathParams), ApiError> {
    let caller = caller(parts)?;
    if !caller.may(scope) {
        let text = match scope {
            Scope::Read => "The key needs the scope `read`.",
            Scope::Moderate => "The key needs the scope `moderate`.",
            Scope::Admin => "The key needs the scope `admin`.",
        };
        return Err(ApiError::new(StatusCode::FORBIDDEN, "missingScope", text));
    }
    let params = PathParams::of(parts);
    let appkey: Appkey = params.get("appkey").parse().map_err(|_| no_such_app(caller))?;
    if !caller.may_access(&appkey) {
        return Err(of_another_app());
    }
    if !exists(&appkey) {
        return Err(no_such_app(caller));
    }
    check_inputs(parts)?;
    Ok((appkey, params))
}

/// Refuses a query or a body where the route takes none, because it would be ignored.
fn check_inputs(parts: &Parts) -> Result<(), ApiError> {
    let path = parts.extensions.get::<MatchedPath>().map(MatchedPath::as_str);
    let takes = path.map_or(Inputs::default(), |path| inputs_of(&parts.method, path));
    if !takes.query && parts.uri.query().is_some_and(|query| !query.is_empty()) {
        return Err(ApiError::invalid_params("nothing is asked by a query here"));
    }
    if !takes.body && parts.extensions.get::<HasBody>().is_some() {
        return Err(ApiError::invalid_params("nothing is asked by a body here"));
    }
    Ok(())
}

fn of_another_app() -> ApiError {
    ApiError::new(StatusCode::FORBIDDEN, "wrongApp", "The key is for another app.")
}

/// A caller with the key of one app does not learn which others exist.
fn no_such_app(caller: &Caller) -> ApiError {
    match caller {
        Caller::Key(key) if key.appkey.is_some() => of_another_app(),
        _ => ApiError::not_found("noSuchApp", "No such app."),
    }
}

impl<S: RequiredScope> FromRequestParts<Arc<Api>> for App<S> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, api: &Arc<Api>) -> Result<Self, ApiError> {
        let (appkey, _) = authorize_app(parts, api, S::SCOPE)?;
        Ok(App(appkey, PhantomData))
    }
}

impl<S: RequiredScope> FromRequestParts<Arc<Api>> for Channel<S> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, api: &Arc<Api>) -> Result<Self, ApiError> {
        let (appkey, params) = authorize_app(parts, api, S::SCOPE)?;
        Ok(Channel(params.channel(appkey)?, PhantomData))
    }
}

impl<S: RequiredScope> FromRequestParts<Arc<Api>> for Member<S> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, api: &Arc<Api>) -> Result<Self, ApiError> {
        let (appkey, params) = authorize_app(parts, api, S::SCOPE)?;
        let channel = params.channel(appkey)?;
        let uid = params.get("uid").parse::<UserId>();
        let uid = uid.map_err(|error| ApiError::from(error.name).field("uid"))?;
        Ok(Member(channel, uid, PhantomData))
    }
}

impl<S: RequiredScope> FromRequestParts<Arc<Api>> for Task<S> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, api: &Arc<Api>) -> Result<Self, ApiError> {
        let (appkey, params) = authorize_app(parts, api, S::SCOPE)?;
        let channel = params.channel(appkey)?;
        let task = params.get("task").parse::<TaskId>();
        let task = task.map_err(|_| ApiError::from(ErrorName::BadTask).field("task"))?;
        Ok(Task(channel, task, PhantomData))
    }
}

impl<S: RequiredScope> FromRequestParts<Arc<Api>> for AppObject<S> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, api: &Arc<Api>) -> Result<Self, ApiError> {
        let (appkey, params) = authorize_app(parts, api, S::SCOPE)?;
        Ok(AppObject(appkey, params.get("id").to_owned(), PhantomData))
    }
}

impl FromRequestParts<Arc<Api>> for KeysOf {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, api: &Arc<Api>) -> Result<Self, ApiError> {
        let (appkey, _) = authorize_keys(parts, api)?;
        Ok(KeysOf(appkey))
    }
}

impl FromRequestParts<Arc<Api>> for KeyOf {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, api: &Arc<Api>) -> Result<Self, ApiError> {
        let (appkey, params) = authorize_keys(parts, api)?;
        Ok(KeyOf(appkey, params.get("id").to_owned()))
    }
}

impl FromRequestParts<Arc<Api>> for Root {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &Arc<Api>) -> Result<Self, ApiError> {
        match caller(parts)? {
            Caller::Root => check_inputs(parts).map(|()| Root),
            Caller::Key(_) => {
                let text = "Only the token of the deployment may ask for that.";
                Err(ApiError::new(StatusCode::FORBIDDEN, "missingScope", text))
            }
        }
    }
}

impl FromRequestParts<Arc<Api>> for RootObject {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, api: &Arc<Api>) -> Result<Self, ApiError> {
        let Root = Root::from_request_parts(parts, api).await?;
        Ok(RootObject(PathParams::of(parts).get("id").to_owned()))
    }
}

impl FromRequestParts<Arc<Api>> for AllApps {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &Arc<Api>) -> Result<Self, ApiError> {
        match caller(parts)? {
            Caller::Key(key) if key.appkey.is_some() => Err(of_another_app()),
            _ => check_inputs(parts).map(|()| AllApps),
        }
    }
}

impl FromRequestParts<Arc<Api>> for NoInputs {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &Arc<Api>) -> Result<Self, ApiError> {
        check_inputs(parts).map(|()| NoInputs)
    }
}
