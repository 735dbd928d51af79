//! Finds the client of a request behind a reverse proxy. Comes in: the address of a socket, and the head of a request
//! on it. Goes out: the address for limits and logs. Deliberately absent: the PROXY protocol, and whether a
//! request is proxied at all, see `guard.rs`.
//!
//! A client can write anything into these headers, but a proxy appends to them. So they are read from the right, and
//! only as far as trusted proxies wrote them.

use std::net::{IpAddr, SocketAddr};

use http::header::{FORWARDED, HeaderMap, HeaderName};

use crate::config::Cidr;

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
/// Maximum number of proxies between a client and the server. Beyond it, the address of the socket counts.
const MAX_HOPS: usize = 16;

/// The trusted proxies.
#[derive(Clone, Debug, Default)]
pub(crate) struct Proxies(Vec<Cidr>);

impl Proxies {
    pub(crate) fn new(trusted: Vec<Cidr>) -> Self {
        Proxies(trusted)
    }

    /// Whether this is the address of a trusted proxy.
    pub(crate) fn is_trusted(&self, address: IpAddr) -> bool {
        self.0.iter().any(|range| range.contains(address))
    }

    /// The client of a request from `peer`. Its port is 0 if a proxy reported it: a reported port is ignored.
    pub(crate) fn client(&self, peer: SocketAddr, headers: &HeaderMap) -> SocketAddr {
        if !self.is_trusted(peer.ip()) {
            return peer;
        }
        // Most proxies append to X-Forwarded-For, and pass Forwarded on as the client wrote it.
        let client = if headers.contains_key(X_FORWARDED_FOR) {
            self.last_foreign(headers, &X_FORWARDED_FOR, address)
        } else {
            self.last_foreign(headers, &FORWARDED, forwarded_for)
        };
        client.map_or(peer, |client| SocketAddr::new(client, 0))
    }

    /// The right-most address that is not of a trusted proxy; `None` if there is none, or if an entry to its right is
    /// unreadable.
    fn last_foreign(
        &self,
        headers: &HeaderMap,
        name: &HeaderName,
        read: fn(&str) -> Option<IpAddr>,
    ) -> Option<IpAddr> {
        let values = headers.get_all(name).iter().rev();
        // Bytes, because the entries of the client need not be text.
        let entries = values.flat_map(|value| value.as_bytes().rsplit(|&byte| byte == b','));
        for entry in entries.take(MAX_HOPS) {
            let address = read(str::from_utf8(entry).ok()?.trim())?;
            if !self.is_trusted(address) {
                return Some(address);
            }
        }
        None
    }
}

/// Reads `192.0.2.1`, `2001:db8::1` or `[2001:db8::1]`; the first and the last may have a port.
fn address(text: &str) -> Option<IpAddr> {
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']'));
    let address = match bare {
        Some(bare) => IpAddr::V6(bare.parse().ok()?),
        None => text.parse().or_else(|_| text.parse().map(|with: SocketAddr| with.ip())).ok()?,
    };
    Some(address.to_canonical())
}

/// The address of `for=` in an element of `Forwarded` (RFC 7239 §4); `None` if the element hides it.
fn forwarded_for(element: &str) -> Option<IpAddr> {
    // A comma in a quoted string would split one element into two, and the client may have written the second one.
    if element.contains('\\') || !element.matches('"').count().is_multiple_of(2) {
        return None;
    }
    let mut named = element
        .split(';')
        .filter_map(|pair| pair.trim().split_once('='))
        .filter(|(name, _)| name.eq_ignore_ascii_case("for"));
    let (Some((_, node)), None) = (named.next(), named.next()) else { return None };
    let quoted = node.strip_prefix('"').and_then(|node| node.strip_suffix('"'));
    address(quoted.unwrap_or(node))
}

#[cfg(test)]
#[path = "proxies_tests.rs"]
mod tests;

#[cfg(test)]
#[path = "proxies_socket_tests.rs"]
mod socket_tests;
