//! Reads requests. Comes in: query, body. Goes out: their values, or an [`ApiError`], also where the framework refuses.
//! Unknown or duplicate names and bodies that are too large are refused, so a misspelt name is not ignored.
//! Deliberately absent: what is done with the values.

use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;

use axum::body::{Body, to_bytes};
use axum::extract::{FromRequest, FromRequestParts, Query as AnyQuery};
use http::header::CONTENT_TYPE;
use http::request::Parts;
use http::{Request, StatusCode};
use serde::de::{self, DeserializeOwned, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};

use super::error::ApiError;
use super::objects::Objects;

/// Maximum size of a request body in bytes.
pub(super) const MAX_BODY: usize = 16 * 1024;
/// The same for a body with push tasks: as long as a frame of a member.
pub(super) const MAX_TASKS_BODY: usize = 64 * 1024;

/// A query.
pub(super) struct Query<T>(pub(super) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Query<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let query = AnyQuery::from_request_parts(parts, state).await;
        let AnyQuery(query) =
            query.map_err(|rejection| ApiError::invalid_params(rejection.body_text()))?;
        Ok(Query(query))
    }
}

/// A JSON body. It must be `application/json`: a page of another origin cannot send that without a preflight.
pub(super) struct Json<T, const MAX: usize = MAX_BODY>(pub(super) T);

impl<T: DeserializeOwned, S: Send + Sync, const MAX: usize> FromRequest<S> for Json<T, MAX> {
    type Rejection = ApiError;

    async fn from_request(request: Request<Body>, _: &S) -> Result<Self, ApiError> {
        let kind = request.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
        let kind = kind.and_then(|kind| kind.split(';').next()).unwrap_or_default();
        if !kind.trim().eq_ignore_ascii_case("application/json") {
            let text = "The body must be application/json.";
            let error = ApiError::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "notJson", text);
            return Err(error.may_succeed_later());
        }
        let body = to_bytes(request.into_body(), MAX).await.map_err(|_| too_large())?;
        let mut reader = serde_json::Deserializer::from_slice(&body);
        let value = serde_path_to_error::deserialize(Objects(&mut reader)).map_err(|error| {
            let field = error.path().to_string();
            let error = ApiError::invalid_params(error.into_inner().to_string());
            if field == "." { error } else { error.field(field) }
        })?;
        reader.end().map_err(|error| ApiError::invalid_params(error.to_string()))?;
        Ok(Json(value))
    }
}

/// A whole number. `60.0` is one, too, because JSON does not distinguish the two.
pub(super) fn whole_number<'de, D: Deserializer<'de>, N: TryFrom<u64>>(
    reader: D,
) -> Result<N, D::Error> {
    let number = serde_json::Number::deserialize(reader)?;
    let whole = number.as_u64().or_else(|| {
        // Exact up to this limit.
        let exact = |number: &f64| number.fract() == 0.0 && (0.0..=9e15).contains(number);
        number.as_f64().filter(exact).map(|number| number as u64)
    });
    whole.and_then(|whole| N::try_from(whole).ok()).ok_or_else(|| de::Error::custom("out of range"))
}

/// Like [`whole_number`], for an optional field.
pub(super) fn optional_whole_number<'de, D: Deserializer<'de>, N: TryFrom<u64>>(
    reader: D,
) -> Result<Option<N>, D::Error> {
    struct Whole<N>(N);
    impl<'de, N: TryFrom<u64>> Deserialize<'de> for Whole<N> {
        fn deserialize<D: Deserializer<'de>>(reader: D) -> Result<Self, D::Error> {
            whole_number(reader).map(Whole)
        }
    }
    Ok(Option::deserialize(reader)?.map(|Whole(number)| number))
}

/// A map. A repeated key is refused, because it is not known which value is meant.
pub(super) fn unique_keys<'de, D: Deserializer<'de>, V: Deserialize<'de>>(
    reader: D,
) -> Result<BTreeMap<String, V>, D::Error> {
    struct UniqueKeys<V>(PhantomData<V>);
    impl<'de, V: Deserialize<'de>> Visitor<'de> for UniqueKeys<V> {
        type Value = BTreeMap<String, V>;

        fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
            formatter.write_str("an object")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
            let mut all = BTreeMap::new();
            while let Some((key, value)) = map.next_entry::<String, V>()? {
                if all.insert(key, value).is_some() {
                    return Err(de::Error::custom("a key is repeated"));
                }
            }
            Ok(all)
        }
    }
    reader.deserialize_map(UniqueKeys(PhantomData))
}

/// The body is larger than allowed.
pub(super) fn too_large() -> ApiError {
    ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, "bodyTooLarge", "The body is too large.")
}
