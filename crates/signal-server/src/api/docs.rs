//! The document of the API (OpenAPI 3.1), generated from the types and routes that serve it. Comes in: the routes, and
//! `about.md`, which describes what concerns all of them. Goes out: the document, as it is served and as it is in
//! `docs/api/openapi.json`. Deliberately absent: scopes and errors of operations (`operation_docs`).

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};

use http::Method;
use lianmai_protocol::message_schemas::CHANNEL_NAME;
use serde_json::{Value, json};
use utoipa::OpenApi as _;
use utoipa::openapi::path::{Operation, Parameter, ParameterBuilder, ParameterIn};
use utoipa::openapi::schema::{Object, Type};
use utoipa::openapi::security::{Http, HttpAuthScheme, SecurityRequirement, SecurityScheme};
use utoipa::openapi::{Content, OpenApi, PathItem, Ref, RefOr, Required, ResponseBuilder};
use utoipa_axum::router::OpenApiRouter;

use super::Api;
use super::error::Problem;
use super::operation_docs;

/// What concerns all operations.
const ABOUT: &str = include_str!("about.md");
const CREDENTIALS: &str = "An API key (`lmk_...`), or the admin token in the file `admin.token` of the data directory: \
                           `Authorization: Bearer TEXT`. The description of the API explains both.";
const SERVER: &str = "The default address of the admin listener: `server.admin_listen` in the configuration. It speaks \
                      TLS with `server.admin_tls = true`.";

/// The description of the whole API.
#[derive(utoipa::OpenApi)]
#[openapi(
    info(title = "Lianmai", license(name = "Apache-2.0", identifier = "Apache-2.0"),),
    components(schemas(Problem))
)]
struct Base;

/// The routes with their descriptions.
pub(super) fn documented_routes() -> OpenApiRouter<Arc<Api>> {
    OpenApiRouter::with_openapi(Base::openapi()).merge(super::v1::routes())
}

/// Adds the common parts of all operations.
pub(super) fn complete(mut document: OpenApi) -> Value {
    let scheme = SecurityScheme::Http(Http::new(HttpAuthScheme::Bearer));
    let components = document.components.get_or_insert_default();
    components.add_security_scheme("key", scheme);
    document.security = Some(vec![SecurityRequirement::new("key", Vec::<String>::new())]);
    for item in document.paths.paths.values_mut() {
        for (method, operation) in operations(item) {
            for response in operation.responses.responses.values_mut() {
                if let RefOr::T(response) = response
                    && response.description.is_empty()
                {
                    response.description = "It succeeded".to_owned();
                }
            }
            for parameter in operation.parameters.iter_mut().flatten() {
                if let RefOr::T(parameter) = parameter
                    && parameter.parameter_in == ParameterIn::Path
                {
                    describe_path_parameter(parameter);
                }
            }
            if method != Method::GET {
                operation.parameters.get_or_insert_default().push(idempotency_key().into());
            }
            let problem = Content::new(Some(RefOr::Ref(Ref::from_schema_name("Problem"))));
            let response = ResponseBuilder::new()
                .description("Any other error of all operations")
                .content("application/problem+json", problem)
                .build();
            operation.responses.responses.insert("default".to_owned(), response.into());
        }
    }
    let mut document = serde_json::to_value(document).expect("a document has string keys only");
    bound_uids(&mut document);
    document["info"]["description"] = ABOUT.into();
    document["components"]["securitySchemes"]["key"]["description"] = CREDENTIALS.into();
    document["servers"] = json!([{ "url": "http://127.0.0.1:8601", "description": SERVER }]);
    operation_docs::describe(&mut document);
    document
}

/// The operations of a path with their methods.
fn operations(item: &mut PathItem) -> impl Iterator<Item = (Method, &mut Operation)> {
    let PathItem { get, put, post, delete, patch, .. } = item;
    let all = [
        (Method::GET, get),
        (Method::PUT, put),
        (Method::POST, post),
        (Method::DELETE, delete),
        (Method::PATCH, patch),
    ];
    all.into_iter().filter_map(|(method, operation)| Some((method, operation.as_mut()?)))
}

/// What an operation reads of a request beside its path.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Inputs {
    pub(super) query: bool,
    pub(super) body: bool,
}

/// What the operation with this method and path reads; nothing if there is none.
pub(super) fn inputs_of(method: &Method, path: &str) -> Inputs {
    static INPUTS: LazyLock<BTreeMap<(String, String), Inputs>> = LazyLock::new(|| {
        let mut document = documented_routes().split_for_parts().1;
        let mut all = BTreeMap::new();
        for (path, item) in &mut document.paths.paths {
            for (method, operation) in operations(item) {
                let query = operation.parameters.iter().flatten().any(|parameter| {
                    matches!(parameter, RefOr::T(of) if of.parameter_in == ParameterIn::Query)
                });
                let body = operation.request_body.is_some();
                all.insert((method.to_string(), path.clone()), Inputs { query, body });
            }
        }
        all
    });
    let method = if *method == Method::HEAD { &Method::GET } else { method };
    INPUTS.get(&(method.to_string(), path.to_owned())).copied().unwrap_or_default()
}

/// Adds the pattern of a path parameter, and its meaning unless its operation states that.
fn describe_path_parameter(parameter: &mut Parameter) {
    let (pattern, text) = match parameter.name.as_str() {
        "appkey" => (r"^(?!\.{1,2}$)[A-Za-z0-9_.-]{1,64}$", "The app"),
        "channel" => (CHANNEL_NAME, "The name of the channel, percent-encoded"),
        "uid" => (UID, "The user"),
        "id" => ("^[A-Za-z0-9]{1,64}$", "The id"),
        "task" => ("^[A-Za-z0-9_]{1,64}$", "The push task"),
        _ => return,
    };
    let schema = Object::builder().schema_type(Type::String).pattern(Some(pattern));
    parameter.schema = Some(schema.build().into());
    parameter.description.get_or_insert_with(|| text.to_owned());
}

/// Up to 20 digits.
const UID: &str = "^(0|[1-9][0-9]{0,19})$";
/// The same, up to 2^64 - 1. The types have the short pattern, which is readable.
const EXACT_UID: &str = "^(0|[1-9][0-9]{0,18}|1[0-7][0-9]{18}|18[0-3][0-9]{17}|184[0-3][0-9]{16}|1844[0-5][0-9]{15}|\
                         18446[0-6][0-9]{14}|184467[0-3][0-9]{13}|1844674[0-3][0-9]{12}|184467440[0-6][0-9]{10}|\
                         1844674407[0-2][0-9]{9}|18446744073[0-6][0-9]{8}|1844674407370[0-8][0-9]{6}|\
                         18446744073709[0-4][0-9]{5}|184467440737095[0-4][0-9]{4}|18446744073709550[0-9]{3}|\
                         18446744073709551[0-5][0-9]{2}|1844674407370955160[0-9]|1844674407370955161[0-5])$";

/// Replaces the short pattern of uids by the exact one.
pub(super) fn bound_uids(value: &mut Value) {
    match value {
        Value::Object(object) => {
            if let Some(pattern) = object.get_mut("pattern").filter(|it| **it == UID) {
                *pattern = EXACT_UID.into();
            }
            object.values_mut().for_each(bound_uids);
        }
        Value::Array(values) => values.iter_mut().for_each(bound_uids),
        _ => {}
    }
}

fn idempotency_key() -> Parameter {
    let text =
        Object::builder().schema_type(Type::String).min_length(Some(1)).max_length(Some(128));
    ParameterBuilder::new()
        .name("Idempotency-Key")
        .parameter_in(ParameterIn::Header)
        .required(Required::False)
        .description(Some(
            "1 to 128 visible characters. The same request with the same key takes effect once within 24 hours, and its \
             repetition gets the same answer. The description of the API has the details.",
        ))
        .schema(Some(text.build()))
        .build()
}

/// The document as text.
pub(crate) fn text() -> String {
    let document = complete(documented_routes().split_for_parts().1);
    let mut text =
        serde_json::to_string_pretty(&document).expect("a document has string keys only");
    text.push('\n');
    text
}
