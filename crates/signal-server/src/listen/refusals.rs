//! Answers that tell a peer to come back later (CON-6).

use std::time::Duration;

use http::header::{CONNECTION, RETRY_AFTER};
use http::{HeaderValue, StatusCode};

use crate::api::error::ApiError;

/// The answer of [`unavailable`] as bytes, for a connection whose request is not read. The client retries with
/// backoff.
pub(crate) const UNAVAILABLE: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 5\r\n\
    Content-Type: application/problem+json\r\nCache-Control: no-store\r\nX-Content-Type-Options: nosniff\r\n\
    Content-Length: 149\r\nConnection: close\r\n\r\n\
    {\"type\":\"urn:lianmai:problem:notNow\",\"title\":\"Not now\",\"status\":503,\
    \"detail\":\"No connection is taken in now; Retry-After says when.\",\"name\":\"notNow\"}";

/// There is no room now, or not for this address.
pub(crate) fn unavailable(after: Duration) -> ApiError {
    let text = "No connection is taken in now; Retry-After says when.";
    with_retry_after(ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "notNow", text), after)
}

/// Adds to an error how long the client should stay away: whole seconds, at least one.
pub(crate) fn with_retry_after(error: ApiError, after: Duration) -> ApiError {
    let seconds = u64::try_from(after.as_millis().div_ceil(1000)).unwrap_or(u64::MAX);
    error
        .with(RETRY_AFTER, HeaderValue::from(seconds.max(1)))
        // An idle connection would delay the end of the server.
        .with(CONNECTION, HeaderValue::from_static("close"))
}

#[cfg(test)]
mod tests {
    //! Proves CON-6.

    use axum::body::to_bytes;
    use axum::response::IntoResponse;

    use super::*;

    #[tokio::test]
    async fn unread_requests_get_the_same_answer() {
        let written = str::from_utf8(UNAVAILABLE).unwrap();
        let (head, body) = written.split_once("\r\n\r\n").unwrap();
        let response = unavailable(Duration::from_secs(5)).into_response();
        assert!(head.starts_with("HTTP/1.1 503 "), "{head}");
        for (name, value) in response.headers() {
            let name = name.as_str();
            let line = head.lines().find(|line| line.to_ascii_lowercase().starts_with(name));
            assert_eq!(line.unwrap()[name.len() + 2..], *value.to_str().unwrap());
        }
        assert!(head.contains(&format!("\r\nContent-Length: {}\r\n", body.len())), "{head}");
        assert_eq!(to_bytes(response.into_body(), 1000).await.unwrap(), body);
    }
}
