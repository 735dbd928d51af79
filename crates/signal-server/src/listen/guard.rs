//! Decides whether a request may be served at all (CON-3 to CON-5). Comes in: its head, and the address of its peer.
//! Goes out: nothing, or an [`ApiError`]. Deliberately absent: tokens, routes, and answering.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use ::http::header::{
    CONTENT_LENGTH, HOST, HeaderMap, HeaderName, ORIGIN, TRANSFER_ENCODING, UPGRADE, VIA,
};
use ::http::request::Parts;
use ::http::uri::Scheme;
use ::http::{Method, StatusCode, Uri};

use crate::api::error::ApiError;
use crate::config::{Cidr, Config, split_authority, without_brackets};

const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");
const FORWARDED: &str = "forwarded";
const X_FORWARDED: &str = "x-forwarded-";
const X_REAL_IP: &str = "x-real-ip";

/// The rules of one listener.
#[derive(Clone, Debug)]
pub(crate) struct Guard {
    /// The listener is for operators: requests of web pages are refused.
    admin: bool,
    /// Names and IP addresses besides loopback, lower-case, without brackets.
    hosts: Vec<String>,
    /// Scheme and port of the listener's own origins.
    own: Vec<(&'static str, u16)>,
    /// Other origins, as browsers write them.
    origins: Vec<String>,
    /// An app is in debug mode.
    debug: bool,
    allow_from: Vec<Cidr>,
}

impl Guard {
    /// The guard of the public listener, bound to `bound`.
    #[must_use]
    pub(crate) fn public(config: &Config, bound: SocketAddr) -> Self {
        let scheme = |https| if https { "https" } else { "http" };
        let own = vec![
            (scheme(config.tls.is_some()), bound.port()),
            (scheme(config.is_https()), config.public_port.unwrap_or(bound.port())),
        ];
        Guard { own, origins: config.origins.clone(), admin: false, ..Guard::admin(config) }
    }

    /// The guard of the admin listener.
    #[must_use]
    pub(crate) fn admin(config: &Config) -> Self {
        Guard {
            admin: true,
            // URLs contain the public host, so requests name it.
            hosts: config.hosts.iter().chain(&config.public_host).cloned().collect(),
            own: Vec::new(),
            origins: Vec::new(),
            debug: config.has_debug_app(),
            allow_from: config.debug_allow_from.clone(),
        }
    }

    /// Decides on a request of `peer`.
    ///
    /// # Errors
    /// [`ApiError`], to be answered with `Connection: close`.
    pub(crate) fn check(&self, peer: IpAddr, parts: &Parts) -> Result<(), ApiError> {
        check_form(parts)?;
        // Other software may use either host, so both are checked.
        let hosts = [Some(one_host(&parts.headers)?), target_host(&parts.uri)?];
        let debug = self.debug && !self.allow_from.iter().any(|range| range.contains(peer));
        for host in hosts.into_iter().flatten() {
            if !self.is_allowed_host(host) {
                let text = "this Host is not served here; the setting is server.hosts";
                return Err(host_not_allowed(text));
            }
        }
        self.check_origin(&parts.headers)?;
        if debug {
            check_local(peer, &parts.headers, hosts.into_iter().flatten())?;
        }
        Ok(())
    }

    fn is_allowed_host(&self, host: &str) -> bool {
        is_loopback_host(host) || {
            let bare = without_brackets(host);
            let host = bare.parse::<IpAddr>().map_or_else(|_| bare.to_owned(), |ip| ip.to_string());
            self.hosts.iter().any(|allowed| allowed.eq_ignore_ascii_case(&host))
        }
    }

    fn check_origin(&self, headers: &HeaderMap) -> Result<(), ApiError> {
        if self.admin {
            let cross_site = headers.get_all(SEC_FETCH_SITE).iter().any(|site| {
                // A page on another port of this host is `same-site`, but it is foreign, too.
                site != "none" && site != "same-origin"
            });
            return if cross_site || headers.contains_key(ORIGIN) {
                Err(origin_not_allowed("the admin listener serves no web pages' requests"))
            } else {
                Ok(())
            };
        }
        let mut origins = headers.get_all(ORIGIN).iter();
        let Some(origin) = origins.next() else { return Ok(()) };
        let allowed = origins.next().is_none()
            && origin.to_str().is_ok_and(|origin| self.is_allowed_origin(origin));
        if allowed {
            Ok(())
        } else {
            Err(origin_not_allowed(
                "pages of this Origin may not connect here; the setting is server.origins",
            ))
        }
    }

    fn is_allowed_origin(&self, origin: &str) -> bool {
        if self.origins.iter().any(|allowed| allowed.eq_ignore_ascii_case(origin)) {
            return true;
        }
        let Some((scheme, host, port)) = split_origin(origin) else { return false };
        let own = self.own.iter().any(|(s, p)| s.eq_ignore_ascii_case(scheme) && *p == port);
        own && self.is_allowed_host(host)
    }
}

fn bad_request(message: &'static str) -> ApiError {
    ApiError::new(StatusCode::BAD_REQUEST, "badRequest", message)
}

fn host_not_allowed(message: &'static str) -> ApiError {
    ApiError::new(StatusCode::MISDIRECTED_REQUEST, "hostNotAllowed", message)
}

fn origin_not_allowed(message: &'static str) -> ApiError {
    ApiError::new(StatusCode::FORBIDDEN, "originNotAllowed", message)
}

fn debug_local_only(message: &'static str) -> ApiError {
    ApiError::new(StatusCode::FORBIDDEN, "debugLocalOnly", message)
}

/// Refuses forms that no client needs and that proxies and servers interpret differently.
fn check_form(parts: &Parts) -> Result<(), ApiError> {
    let headers = &parts.headers;
    // hyper removes a Content-Length next to Transfer-Encoding, so the combination is not visible here.
    if headers.contains_key(TRANSFER_ENCODING) {
        return Err(bad_request("a body needs Content-Length, not Transfer-Encoding"));
    }
    let no_body = matches!(parts.method, Method::GET | Method::HEAD | Method::OPTIONS)
        || headers.contains_key(UPGRADE);
    let has_body = headers.get_all(CONTENT_LENGTH).iter().any(|length| length != "0");
    if no_body && has_body {
        return Err(bad_request("this request must have no body"));
    }
    Ok(())
}

/// The host part of the only `Host`, brackets of IPv6 included.
fn one_host(headers: &HeaderMap) -> Result<&str, ApiError> {
    let mut all = headers.get_all(HOST).iter();
    let (Some(host), None) = (all.next(), all.next()) else {
        return Err(bad_request("exactly one Host is needed"));
    };
    host.to_str()
        .ok()
        .and_then(split_authority)
        .map(|(host, _)| host)
        .ok_or_else(|| bad_request("Host is malformed"))
}

/// The host of a target in absolute form. Requests to proxies use it, and all servers must accept it (RFC 9112 §3.2.2).
fn target_host(target: &Uri) -> Result<Option<&str>, ApiError> {
    let Some(authority) = target.authority() else { return Ok(None) };
    let is_http = target.scheme().is_some_and(|s| *s == Scheme::HTTP || *s == Scheme::HTTPS);
    if !is_http {
        // The target of CONNECT, or another protocol.
        return Err(bad_request("the request target must be a path or an http URL"));
    }
    let host = split_authority(authority.as_str()).map(|(host, _)| host);
    host.map(Some).ok_or_else(|| bad_request("the host of the request target is malformed"))
}

/// Debug mode: accepts only requests that certainly come from this machine.
fn check_local<'a>(
    peer: IpAddr,
    headers: &HeaderMap,
    mut hosts: impl Iterator<Item = &'a str>,
) -> Result<(), ApiError> {
    if !peer.to_canonical().is_loopback() {
        return Err(debug_local_only(
            "an app is in debug mode, so only this machine is served; the setting is \
             debug.allow_from, or mode = \"safe\" for every app",
        ));
    }
    let is_proxied = headers.keys().any(|name| {
        let name = name.as_str();
        name == FORWARDED || name.starts_with(X_FORWARDED) || name == X_REAL_IP || name == VIA
    });
    if is_proxied {
        return Err(debug_local_only(
            "an app is in debug mode, so proxied requests are refused; the setting is \
             debug.allow_from, or mode = \"safe\" for every app",
        ));
    }
    let foreign_origin = || {
        headers.get(ORIGIN).is_some_and(|origin| {
            let origin = origin.to_str().ok().and_then(split_origin);
            !origin.is_some_and(|(_, host, _)| is_loopback_host(host))
        })
    };
    if !hosts.all(is_loopback_host) || foreign_origin() {
        return Err(debug_local_only(
            "an app is in debug mode, so Host and Origin must be loopback; the setting is \
             debug.allow_from, or mode = \"safe\" for every app",
        ));
    }
    Ok(())
}

/// Whether a host (IPv6 with brackets) is `localhost` or a loopback address. Spellings such as `127.1` and IPv6
/// addresses that hold an IPv4 address are not accepted.
fn is_loopback_host(host: &str) -> bool {
    if host.eq_ignore_ascii_case("localhost") {
        return true;
    }
    match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
        Some(inner) => inner.parse::<Ipv6Addr>().is_ok_and(|ip| ip.is_loopback()),
        None => host.parse::<Ipv4Addr>().is_ok_and(|ip| ip.is_loopback()),
    }
}

/// Splits an `Origin` into scheme, host and port; `None` for `null` and all other values that are no HTTP origin.
fn split_origin(origin: &str) -> Option<(&str, &str, u16)> {
    let (scheme, authority) = origin.split_once("://")?;
    let (host, port) = split_authority(authority)?;
    let default = match scheme.to_ascii_lowercase().as_str() {
        "http" => 80,
        "https" => 443,
        _ => return None,
    };
    Some((scheme, host, port.unwrap_or(default)))
}

#[cfg(test)]
#[path = "guard_tests.rs"]
mod tests;
