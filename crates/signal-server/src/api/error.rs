//! Answers of every HTTP surface that are not media.

use axum::body::Body;
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderValue, Response, StatusCode};
use serde::Serialize;

/// An error answer: `{name, message}`; programs compare the name.
pub(crate) fn error_response(status: StatusCode, name: &str, message: &str) -> Response<Body> {
    #[derive(Serialize)]
    struct Error<'a> {
        name: &'a str,
        message: &'a str,
    }
    json_response(status, &Error { name, message })
}

/// A JSON answer that nobody keeps.
pub(crate) fn json_response<T: Serialize>(status: StatusCode, value: &T) -> Response<Body> {
    let body = serde_json::to_vec(value).expect("answers have string keys only");
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// What a router answers for a path that it does not know.
pub(crate) async fn not_found() -> Response<Body> {
    error_response(StatusCode::NOT_FOUND, "notFound", "No such path.")
}
