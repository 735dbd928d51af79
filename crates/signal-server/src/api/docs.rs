//! The document of the API (OpenAPI 3.1), made of the types and routes that serve it. Comes in: the routes. Goes out: the
//! document, as it is served and as `docs/api/openapi.json` has it. Deliberately absent: anything written by hand that could
//! differ from what is served.

use std::sync::Arc;

use utoipa::OpenApi as _;
use utoipa::openapi::path::Operation;
use utoipa::openapi::security::{Http, HttpAuthScheme, SecurityRequirement, SecurityScheme};
use utoipa::openapi::{Content, OpenApi, PathItem, Ref, RefOr, ResponseBuilder};
use utoipa_axum::router::OpenApiRouter;

use super::Api;
use super::error::Problem;

/// What is said of the whole.
#[derive(utoipa::OpenApi)]
#[openapi(
    info(
        title = "Lianmai",
        description = "Channels, members, tokens, keys, webhooks and events of a Lianmai server. Every error is a \
                       problem of RFC 9457 whose `name` says what it is. A read that follows an answer shows what was \
                       answered. Requests that change something take `Idempotency-Key`.",
        license(name = "Apache-2.0", identifier = "Apache-2.0"),
    ),
    components(schemas(Problem)),
)]
struct Base;

/// The routes with what is said about them.
pub(super) fn described() -> OpenApiRouter<Arc<Api>> {
    OpenApiRouter::with_openapi(Base::openapi()).merge(super::v1::routes())
}

/// What all operations have in common.
pub(super) fn complete(mut document: OpenApi) -> OpenApi {
    let scheme = SecurityScheme::Http(Http::new(HttpAuthScheme::Bearer));
    let components = document.components.get_or_insert_default();
    components.add_security_scheme("key", scheme);
    document.security = Some(vec![SecurityRequirement::new("key", Vec::<String>::new())]);
    for item in document.paths.paths.values_mut() {
        for operation in operations(item) {
            let problem = Content::new(Some(RefOr::Ref(Ref::from_schema_name("Problem"))));
            let response = ResponseBuilder::new()
                .description("A problem")
                .content("application/problem+json", problem)
                .build();
            operation.responses.responses.insert("default".to_owned(), response.into());
        }
    }
    document
}

fn operations(item: &mut PathItem) -> impl Iterator<Item = &mut Operation> {
    let PathItem { get, put, post, delete, patch, .. } = item;
    [get, put, post, delete, patch].into_iter().filter_map(|operation| operation.as_mut())
}

/// The document as text.
pub(crate) fn text() -> String {
    let document = complete(described().split_for_parts().1);
    let mut text = serde_json::to_string_pretty(&document).expect("a document has string keys only");
    text.push('\n');
    text
}
