//! Long lists. Comes in: where to continue, and how many items. Goes out: a page and where the next one begins, or the
//! whole list as a stream of lines, with at most one page in memory. Deliberately absent: the content of lists.
//!
//! A cursor is opaque: it holds the name of its list and the last item of its page, so that a cursor of another list is
//! refused.

use std::future::Future;
use std::str::FromStr;

use axum::body::{Body, Bytes};
use axum::response::Response;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use futures_util::stream;
use http::header::{ACCEPT, CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue};
use serde::{Deserialize, Serialize};

use super::error::ApiError;

/// Maximum number of items of a page.
pub(super) const MAX_LIMIT: usize = 1_000;
/// Default number of items of a page.
const LIMIT: usize = 100;
/// Maximum length of a cursor in bytes.
const MAX_CURSOR: usize = 256;
/// Media type of a stream of lines.
pub(super) const LINES: &str = "application/x-ndjson";

/// The requested part of a list.
#[derive(Clone, Debug, Default, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct PageQuery {
    /// Maximum number of items, 1 to 1000; 100 when absent.
    #[param(minimum = 1, maximum = 1000, default = 100)]
    pub(super) limit: Option<u64>,
    /// The `nextCursor` of an earlier answer, to continue after it.
    pub(super) after: Option<String>,
}

impl PageQuery {
    pub(super) fn limit(&self) -> Result<usize, ApiError> {
        let Some(limit) = self.limit else { return Ok(LIMIT) };
        let limit = usize::try_from(limit).ok().filter(|limit| (1..=MAX_LIMIT).contains(limit));
        limit.ok_or_else(|| ApiError::invalid_params("limit is not in 1..=1000").field("limit"))
    }

    /// The last item of the page before, as the list of that name wrote it.
    pub(super) fn after<T: FromStr>(&self, list: &str) -> Result<Option<T>, ApiError> {
        let Some(text) = &self.after else { return Ok(None) };
        if text.len() > MAX_CURSOR {
            return Err(bad_cursor());
        }
        let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| bad_cursor())?;
        let text = String::from_utf8(bytes).map_err(|_| bad_cursor())?;
        let last = text.strip_prefix(list).and_then(|rest| rest.strip_prefix(':'));
        last.and_then(|last| last.parse().ok()).map(Some).ok_or_else(bad_cursor)
    }
}

/// The list has no place for this cursor.
pub(super) fn bad_cursor() -> ApiError {
    ApiError::not_found("badCursor", "The list has no such place.").field("after")
}

/// The position of an event in a cursor: a number that the file can hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Position(pub(super) u64);

impl FromStr for Position {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let pos: u64 = text.parse().map_err(|_| ())?;
        i64::try_from(pos).map_or(Err(()), |_| Ok(Position(pos)))
    }
}

/// The cursor of the page after an item.
pub(super) fn cursor(list: &str, last: &impl std::fmt::Display) -> String {
    URL_SAFE_NO_PAD.encode(format!("{list}:{last}"))
}

/// Whether the client asks for a list as lines.
pub(super) fn wants_lines(headers: &HeaderMap) -> bool {
    let accept = headers.get(ACCEPT).and_then(|value| value.to_str().ok());
    accept.is_some_and(|accept| {
        accept
            .split(',')
            .any(|kind| kind.split(';').next().is_some_and(|kind| kind.trim() == LINES))
    })
}

/// A whole list, one item per line. `more` gives the items after an item, in order, and none at the end. A failure in
/// the middle ends the connection, so that no client takes a part for the whole.
pub(super) fn lines<T, C, F>(
    first: Option<C>,
    key: impl Fn(&T) -> C + Send + 'static,
    more: impl Fn(Option<C>) -> F + Send + 'static,
) -> Response
where
    T: Serialize,
    C: Clone + Send + 'static,
    F: Future<Output = Result<Vec<T>, ApiError>> + Send,
{
    let state = (first, more, key);
    let pages = stream::try_unfold(state, |(after, more, key)| async move {
        let page = more(after).await.map_err(|error| {
            std::io::Error::other(format!("the list ends early: {}", error.name()))
        })?;
        let Some(last) = page.last() else { return Ok(None) };
        let after = Some(key(last));
        let mut text = Vec::new();
        for thing in &page {
            serde_json::to_writer(&mut text, thing).expect("answers have string keys only");
            text.push(b'\n');
        }
        Ok::<_, std::io::Error>(Some((Bytes::from(text), (after, more, key))))
    });
    let mut response = Response::new(Body::from_stream(pages));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(LINES));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

#[cfg(test)]
mod tests {
    //! Proves no rule of the protocol: cursors.

    use super::*;

    #[test]
    fn a_cursor_is_valid_for_its_list_only() {
        let page = |after: &str| PageQuery { limit: None, after: Some(after.to_owned()) };
        let text = cursor("members", &7);
        assert_eq!(page(&text).after::<u64>("members").unwrap(), Some(7));
        for (text, list) in
            [(text.as_str(), "channels"), ("", "members"), ("7", "members"), ("%", "members")]
        {
            let error = page(text).after::<u64>(list).unwrap_err();
            assert_eq!(error.name(), "badCursor", "{text}");
        }
        let other = cursor("members", &"x".repeat(10));
        assert!(page(&other).after::<u64>("members").is_err());
        assert!(page(&"a".repeat(1_000)).after::<u64>("members").is_err());
        assert_eq!(PageQuery::default().after::<u64>("members").unwrap(), None);
        let last = page(&cursor("events", &i64::MAX)).after::<Position>("events").unwrap();
        assert_eq!(last, Some(Position(i64::MAX as u64)));
        for number in [1 << 63, u64::MAX] {
            let error = page(&cursor("events", &number)).after::<Position>("events").unwrap_err();
            assert_eq!(error.name(), "badCursor", "{number}");
        }
    }

    #[test]
    fn page_sizes_are_bounded() {
        let limit = |limit| PageQuery { limit, after: None }.limit();
        assert_eq!((limit(None).unwrap(), limit(Some(1)).unwrap()), (100, 1));
        assert!(
            limit(Some(0)).is_err()
                && limit(Some(1_001)).is_err()
                && limit(Some(u64::MAX)).is_err()
        );
    }
}
