//! The page at `/`: files that were built into the server, unchanged. Comes in: the name of a file, and the encodings
//! and versions of the browser. Goes out: the file. Deliberately absent: the admin listener, and all data of clients:
//! the page learns about others by signaling.

use std::sync::Arc;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Path, Request, State};
use axum::response::IntoResponse;
use axum::routing::get;
use http::header::{
    ACCEPT_ENCODING, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG,
    IF_NONE_MATCH, REFERRER_POLICY, VARY, X_CONTENT_TYPE_OPTIONS,
};
use http::{HeaderMap, HeaderValue, Response, StatusCode};
use serde::Serialize;

use crate::api::error::ApiError;
use crate::config::{AppMode, Config};

/// Allows the page: scripts and styles of this server, WebAssembly, WebSockets to any media server, and nothing else.
/// No frame may show it.
const POLICY: &str = "default-src 'none'; script-src 'self' 'wasm-unsafe-eval'; style-src 'self'; \
    connect-src 'self' ws: wss:; img-src 'self' data:; media-src blob:; base-uri 'none'; \
    form-action 'none'; frame-ancestors 'none'";

/// For files whose name holds a hash of the content.
const IMMUTABLE: &str = "public, max-age=31536000, immutable";
/// For files whose name never changes: the browser asks each time, and the answer is short if nothing changed.
const REVALIDATE: &str = "no-cache";

const NOT_BUILT: &str = "This server was built without its page. `cargo xtask page` builds the page; \
    build the server again after that.\n";

/// One file in three encodings.
#[derive(Debug)]
struct File {
    name: &'static str,
    kind: &'static str,
    /// Weak, because it is the same for all encodings.
    etag: &'static str,
    plain: &'static [u8],
    gzip: &'static [u8],
    brotli: &'static [u8],
}

static FILES: &[File] = include!(concat!(env!("OUT_DIR"), "/page.rs"));

/// What the server tells about itself to anyone who may open its page.
#[derive(Serialize)]
struct Facts<'a> {
    version: &'static str,
    /// Apps that need no token. Others are not listed.
    #[serde(rename = "debugApps")]
    debug_apps: Vec<&'a str>,
    /// Whether push tasks are served.
    tasks: bool,
    /// Address ranges that may use the debug apps besides this machine.
    #[serde(rename = "allowFrom")]
    allow_from: Vec<String>,
}

struct PageAssets {
    files: &'static [File],
    facts: Bytes,
}

/// The routes of the page, or only a hint when the page is off.
pub(super) fn router(config: &Config) -> Router {
    if !config.page {
        return Router::new().route("/", get(async || page_disabled()));
    }
    let debug = config.apps.iter().filter(|app| app.mode == AppMode::Debug);
    let facts = Facts {
        version: env!("CARGO_PKG_VERSION"),
        debug_apps: debug.map(|app| app.appkey.as_str()).collect(),
        tasks: config.tasks.serve == Some(true),
        allow_from: config.debug_allow_from.iter().map(ToString::to_string).collect(),
    };
    let facts = serde_json::to_vec(&facts).expect("facts have string keys only");
    serve(PageAssets { files: FILES, facts: facts.into() })
}

fn page_disabled() -> ApiError {
    ApiError::new(
        StatusCode::NOT_FOUND,
        "notFound",
        "The page is off here; the setting is server.page.",
    )
}

fn serve(page: PageAssets) -> Router {
    Router::new()
        .route("/", get(index))
        .route("/page/facts.json", get(facts))
        .route("/page/{file}", get(file))
        .with_state(Arc::new(page))
}

async fn index(State(page): State<Arc<PageAssets>>, request: Request) -> Response<Body> {
    match find(page.files, "index.html") {
        Some(file) => answer(file, request.headers(), REVALIDATE),
        None => {
            let mut response = (StatusCode::NOT_FOUND, NOT_BUILT).into_response();
            protect(response.headers_mut());
            response
        }
    }
}

async fn file(
    State(page): State<Arc<PageAssets>>,
    Path(name): Path<String>,
    request: Request,
) -> Result<Response<Body>, ApiError> {
    // The index has only the path `/`.
    let file = find(page.files, &name).filter(|file| file.name != "index.html");
    let file = file.ok_or_else(ApiError::no_such_path)?;
    let is_hashed = file.name.contains('-');
    Ok(answer(file, request.headers(), if is_hashed { IMMUTABLE } else { REVALIDATE }))
}

async fn facts(State(page): State<Arc<PageAssets>>) -> Response<Body> {
    let mut response = Response::new(Body::from(page.facts.clone()));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    protect(headers);
    response
}

fn find(files: &'static [File], name: &str) -> Option<&'static File> {
    files.iter().find(|file| file.name == name)
}

fn answer(file: &'static File, requested: &HeaderMap, caching: &'static str) -> Response<Body> {
    let mut response = Response::new(Body::empty());
    let headers = response.headers_mut();
    headers.insert(ETAG, HeaderValue::from_static(file.etag));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static(caching));
    headers.insert(VARY, HeaderValue::from_name(ACCEPT_ENCODING));
    protect(headers);
    if has_version(requested, file.etag) {
        *response.status_mut() = StatusCode::NOT_MODIFIED;
        return response;
    }
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(file.kind));
    let (encoding, bytes) = if accepts(requested, "br") {
        (Some("br"), file.brotli)
    } else if accepts(requested, "gzip") {
        (Some("gzip"), file.gzip)
    } else {
        (None, file.plain)
    };
    if let Some(encoding) = encoding {
        headers.insert(CONTENT_ENCODING, HeaderValue::from_static(encoding));
    }
    *response.body_mut() = Body::from(bytes);
    response
}

fn protect(headers: &mut HeaderMap) {
    headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
}

/// Whether the browser already has this version (RFC 9110 §13.1.2; the comparison is weak).
fn has_version(requested: &HeaderMap, etag: &str) -> bool {
    let opaque = etag.trim_start_matches("W/");
    list(requested, IF_NONE_MATCH).any(|tag| tag == "*" || tag.trim_start_matches("W/") == opaque)
}

/// Whether the browser names an encoding with a weight above zero (RFC 9110 §12.5.3). The wildcard `*` names none, so
/// it gets the plain file.
fn accepts(requested: &HeaderMap, encoding: &str) -> bool {
    list(requested, ACCEPT_ENCODING).any(|element| {
        let (name, weight) = element.split_once(';').unwrap_or((element, ""));
        let is_refused = weight
            .trim()
            .strip_prefix("q=")
            .is_some_and(|q| q.parse().is_ok_and(|q: f32| q <= 0.0));
        name.trim().eq_ignore_ascii_case(encoding) && !is_refused
    })
}

/// The elements of a comma-separated header.
fn list(headers: &HeaderMap, name: http::HeaderName) -> impl Iterator<Item = &str> {
    let values = headers.get_all(name).into_iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).map(str::trim)
}

#[cfg(test)]
mod tests {
    //! Proves no rule of the protocol: the page.

    use axum::body::to_bytes;
    use tower::ServiceExt;

    use super::*;

    static BUILT: &[File] = &[
        File {
            name: "index.html",
            kind: "text/html; charset=utf-8",
            etag: "W/\"a1\"",
            plain: b"plain",
            gzip: b"gzipped",
            brotli: b"brotli",
        },
        File {
            name: "page-0123.js",
            kind: "text/javascript; charset=utf-8",
            etag: "W/\"b2\"",
            plain: b"1",
            gzip: b"2",
            brotli: b"3",
        },
    ];

    async fn ask(router: Router, path: &str, headers: &[(&str, &str)]) -> (Response<Body>, Bytes) {
        let mut request = Request::builder().uri(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let response = router.oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
        let (parts, body) = response.into_parts();
        let bytes = to_bytes(body, 1 << 20).await.unwrap();
        (Response::from_parts(parts, Body::empty()), bytes)
    }

    fn built() -> Router {
        serve(PageAssets { files: BUILT, facts: Bytes::from_static(b"{}") })
    }

    fn config(text: &str) -> Config {
        let path = std::env::temp_dir().join(format!("lianmai-page-{}.toml", std::process::id()));
        std::fs::write(&path, text).unwrap();
        let config = Config::load(Some(&path), std::iter::empty(), &[]).unwrap();
        std::fs::remove_file(&path).unwrap();
        config
    }

    #[tokio::test]
    async fn a_browser_gets_the_smallest_encoding_that_it_accepts() {
        for (accepted, encoding, body) in [
            ("", None, "plain"),
            ("*", None, "plain"),
            ("identity", None, "plain"),
            ("gzip, deflate", Some("gzip"), "gzipped"),
            ("gzip, deflate, br, zstd", Some("br"), "brotli"),
            ("GZIP;q=0.5, br;q=0", Some("gzip"), "gzipped"),
            ("br; q=0.0, gzip;q=0", None, "plain"),
            ("brotli, xgzip", None, "plain"),
            ("gzip;q=\u{7f}", Some("gzip"), "gzipped"),
        ] {
            let Ok(value) = HeaderValue::from_str(accepted) else { continue };
            let value = value.to_str().unwrap_or_default().to_owned();
            let (response, bytes) = ask(built(), "/", &[("accept-encoding", &value)]).await;
            let got = response.headers().get(CONTENT_ENCODING).map(|value| value.to_str().unwrap());
            assert_eq!((got, &bytes[..]), (encoding, body.as_bytes()), "{accepted}");
            assert_eq!(response.headers()[VARY], "accept-encoding");
        }
    }

    #[tokio::test]
    async fn a_matching_etag_is_answered_304() {
        for (given, status) in [
            ("W/\"a1\"", StatusCode::NOT_MODIFIED),
            ("\"a1\"", StatusCode::NOT_MODIFIED),
            ("\"x\", W/\"a1\"", StatusCode::NOT_MODIFIED),
            ("*", StatusCode::NOT_MODIFIED),
            ("\"b2\"", StatusCode::OK),
            ("a1", StatusCode::OK),
        ] {
            let (response, bytes) = ask(built(), "/", &[("if-none-match", given)]).await;
            assert_eq!(response.status(), status, "{given}");
            assert_eq!(bytes.is_empty(), status == StatusCode::NOT_MODIFIED, "{given}");
            assert_eq!(response.headers()[ETAG], "W/\"a1\"");
        }
        let kept = async |path| ask(built(), path, &[]).await.0.headers()[CACHE_CONTROL].clone();
        assert_eq!(kept("/").await, "no-cache");
        assert!(kept("/page/page-0123.js").await.to_str().unwrap().ends_with("immutable"));
        assert_eq!(kept("/page/facts.json").await, "no-store");
    }

    #[tokio::test]
    async fn every_answer_has_the_content_security_policy() {
        let unbuilt = serve(PageAssets { files: &[], facts: Bytes::new() });
        for (router, path) in [
            (built(), "/"),
            (built(), "/page/page-0123.js"),
            (built(), "/page/facts.json"),
            (unbuilt, "/"),
        ] {
            let (response, _) = ask(router, path, &[]).await;
            let header = |name: &str| response.headers()[name].to_str().unwrap();
            let policy = header("content-security-policy");
            for part in [
                "default-src 'none'",
                "script-src 'self' 'wasm-unsafe-eval'",
                "style-src 'self'",
                "connect-src 'self' ws: wss:",
                "img-src 'self' data:",
                "media-src blob:",
                "base-uri 'none'",
                "frame-ancestors 'none'",
            ] {
                assert!(policy.split("; ").any(|found| found == part), "{path}: {policy}");
            }
            assert_eq!(header("x-content-type-options"), "nosniff");
            assert_eq!(header("referrer-policy"), "no-referrer");
        }
    }

    #[tokio::test]
    async fn other_paths_serve_no_file() {
        for path in ["/page/", "/page/index.html", "/page/..", "/page/%2e%2e%2fsecret", "/page/a/b"]
        {
            assert_eq!(ask(built(), path, &[]).await.0.status(), StatusCode::NOT_FOUND, "{path}");
        }
    }

    #[tokio::test]
    async fn a_server_without_a_page_shows_how_to_build_it() {
        let unbuilt = serve(PageAssets { files: &[], facts: Bytes::new() });
        let (response, bytes) = ask(unbuilt, "/", &[]).await;
        assert_eq!(response.status(), StatusCode::NOT_FOUND);
        assert!(String::from_utf8_lossy(&bytes).contains("cargo xtask page"), "{bytes:?}");
    }

    #[tokio::test]
    async fn safe_mode_serves_no_page_unless_configured() {
        let safe = "[[apps]]\nappkey = \"live\"\n[[apps.jwt]]\nkid = \"a\"\n\
                    secret = \"0123456789abcdef0123456789abcdef\"\n";
        for (text, status, debug_apps) in [
            (String::new(), StatusCode::OK, "[\"demo\"]"),
            ("[server]\npage = false\n".into(), StatusCode::NOT_FOUND, ""),
            (safe.to_owned(), StatusCode::NOT_FOUND, ""),
            (format!("[server]\npage = true\n{safe}"), StatusCode::OK, "[]"),
        ] {
            let config = config(&text);
            let (response, bytes) = ask(router(&config), "/page/facts.json", &[]).await;
            assert_eq!(response.status(), status, "{text}");
            let facts = String::from_utf8_lossy(&bytes);
            assert!(facts.contains(debug_apps), "{facts}");
            if status == StatusCode::NOT_FOUND {
                let (_, bytes) = ask(router(&config), "/", &[]).await;
                assert!(String::from_utf8_lossy(&bytes).contains("server.page"), "{bytes:?}");
            }
        }
        let open = config(
            "[server]\nlisten = \"192.0.2.1:8600\"\nhosts = [\"192.0.2.1\"]\n\
             [debug]\nallow_from = [\"192.0.2.0/24\"]\n",
        );
        let (_, bytes) = ask(router(&open), "/page/facts.json", &[]).await;
        assert!(String::from_utf8_lossy(&bytes).contains("[\"192.0.2.0/24\"]"), "{bytes:?}");
    }
}
