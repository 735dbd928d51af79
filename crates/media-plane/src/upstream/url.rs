//! RTMP URLs of upstreams.
//!
//! In: text. Out: the parts of the URL, with the parts that may be shown separate from those that are keys. Absent:
//! user names and passwords in URLs, which no RTMP client sends.

use std::fmt;
use std::net::Ipv6Addr;

use thiserror::Error;

use crate::rtmp::Target;

/// Longest URL, bytes.
const MAX_URL_BYTES: usize = 2048;

/// Why a text is not the URL of an upstream. It never contains the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum BadUrl {
    /// The scheme is neither `rtmp` nor `rtmps`.
    #[error("it begins neither with `rtmp://` nor with `rtmps://`")]
    Scheme,
    /// The host is missing or malformed, or the port is not a number in 1..=65535.
    #[error("its host or port is malformed; names of users and passwords are not served")]
    Host,
    /// The app or the stream is missing.
    #[error("it has no app or no stream: the form is rtmp://HOST/APP/STREAM")]
    Path,
    /// The text contains a byte that a URL cannot contain, for example a space.
    #[error("it holds a character that a URL cannot have")]
    Character,
    /// The text is longer than 2048 bytes.
    #[error("it is longer than {max} bytes", max = MAX_URL_BYTES)]
    Length,
}

/// The URL that a stream is published to or played from: `rtmp://host[:port]/app/stream[?query]`, or `rtmps`. The
/// stream is the part of the path after the last slash. `Debug` and `Display` omit the stream and the query, which
/// are keys.
#[derive(Clone, PartialEq, Eq)]
pub struct UpstreamUrl {
    tls: bool,
    /// Host name or address, without the brackets of IPv6.
    host: String,
    port: u16,
    target: Target,
}

impl UpstreamUrl {
    /// Parses a URL.
    ///
    /// # Errors
    /// [`BadUrl`] if the text is no such URL.
    pub fn parse(text: &str) -> Result<Self, BadUrl> {
        if text.len() > MAX_URL_BYTES {
            return Err(BadUrl::Length);
        }
        if !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(BadUrl::Character);
        }
        let (scheme, rest) = text.split_once("://").ok_or(BadUrl::Scheme)?;
        let tls = match scheme {
            "rtmp" => false,
            "rtmps" => true,
            _ => return Err(BadUrl::Scheme),
        };
        let (authority, rest) = rest.split_once('/').ok_or(BadUrl::Path)?;
        let (host, port) = split_authority(authority).ok_or(BadUrl::Host)?;
        let (path, query) = rest.split_once('?').map_or((rest, None), |(p, q)| (p, Some(q)));
        let (app, name) = path.rsplit_once('/').ok_or(BadUrl::Path)?;
        if app.trim_matches('/').is_empty() || name.is_empty() {
            return Err(BadUrl::Path);
        }
        let stream = match query {
            Some(query) => format!("{name}?{query}"),
            None => name.to_owned(),
        };
        let target = Target::new(app, &format!("{scheme}://{authority}/{app}"), &stream)
            .map_err(|_| BadUrl::Length)?;
        let port = port.unwrap_or(if tls { 443 } else { 1935 });
        Ok(Self { tls, host: host.to_owned(), port, target })
    }

    /// Whether the scheme is `rtmps`.
    #[must_use]
    pub fn is_tls(&self) -> bool {
        self.tls
    }

    /// Host name or address, without the brackets of IPv6.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// Port. The default is 1935, or 443 for `rtmps`.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The app and the stream.
    #[must_use]
    pub fn target(&self) -> &Target {
        &self.target
    }
}

impl fmt::Display for UpstreamUrl {
    /// Writes the URL without stream and query.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.target.tc_url())
    }
}

impl fmt::Debug for UpstreamUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "UpstreamUrl({self})")
    }
}

/// Splits a host, without brackets, from the port.
fn split_authority(text: &str) -> Option<(&str, Option<u16>)> {
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (host, rest) = rest.split_once(']')?;
            host.parse::<Ipv6Addr>().ok()?;
            (host, if rest.is_empty() { None } else { Some(rest.strip_prefix(':')?) })
        }
        None => {
            let (host, port) = text.split_once(':').map_or((text, None), |(h, p)| (h, Some(p)));
            let is_host = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
            if host.is_empty() || !host.bytes().all(is_host) {
                return None;
            }
            (host, port)
        }
    };
    match port {
        None => Some((host, None)),
        Some(digits) if digits.bytes().all(|byte| byte.is_ascii_digit()) => {
            let port: u16 = digits.parse().ok()?;
            (port > 0).then_some((host, Some(port)))
        }
        Some(_) => None,
    }
}

#[cfg(test)]
mod tests {
    //! Proves no rule of the protocol: URLs of upstreams.

    use super::*;

    #[test]
    fn a_url_is_split_at_its_last_slash() {
        let url = UpstreamUrl::parse("rtmp://a.example/live/room/7?key=s/e?c").unwrap();
        assert_eq!((url.is_tls(), url.host(), url.port()), (false, "a.example", 1935));
        assert_eq!(url.target().app(), "live/room");
        assert_eq!(url.target().tc_url(), "rtmp://a.example/live/room");
        assert_eq!(url.target().stream(), "7?key=s/e?c");
        let url = UpstreamUrl::parse("rtmps://[::1]:4443/app/key").unwrap();
        assert_eq!((url.is_tls(), url.host(), url.port()), (true, "::1", 4443));
        assert_eq!(url.target().tc_url(), "rtmps://[::1]:4443/app");
        assert_eq!(UpstreamUrl::parse("rtmps://h/a/b").unwrap().port(), 443);
    }

    #[test]
    fn an_invalid_url_is_refused_with_a_reason() {
        for (text, error) in [
            ("http://h/a/b", BadUrl::Scheme),
            ("h/a/b", BadUrl::Scheme),
            ("RTMP://h/a/b", BadUrl::Scheme),
            ("rtmp://h", BadUrl::Path),
            ("rtmp://h/a", BadUrl::Path),
            ("rtmp://h/a/", BadUrl::Path),
            ("rtmp://h//b", BadUrl::Path),
            ("rtmp:///a/b", BadUrl::Host),
            ("rtmp://u:p@h/a/b", BadUrl::Host),
            ("rtmp://h:0/a/b", BadUrl::Host),
            ("rtmp://h:70000/a/b", BadUrl::Host),
            ("rtmp://h:+1/a/b", BadUrl::Host),
            ("rtmp://h:/a/b", BadUrl::Host),
            ("rtmp://[::1/a/b", BadUrl::Host),
            ("rtmp://[h]/a/b", BadUrl::Host),
            ("rtmp://[::1]x/a/b", BadUrl::Host),
            ("rtmp://h/a/b c", BadUrl::Character),
            ("rtmp://h/a/\u{fc}", BadUrl::Character),
        ] {
            assert_eq!(UpstreamUrl::parse(text), Err(error), "{text}");
        }
        let long = format!("rtmp://h/a/{}", "b".repeat(MAX_URL_BYTES));
        assert_eq!(UpstreamUrl::parse(&long), Err(BadUrl::Length));
    }

    #[test]
    fn a_url_does_not_show_its_keys() {
        let url = UpstreamUrl::parse("rtmp://h/app/streamkey?token=secret").unwrap();
        let shown = format!("{url} {url:?} {:?}", url.target());
        assert!(!shown.contains("streamkey") && !shown.contains("secret"), "{shown}");
        assert!(shown.contains("rtmp://h/app"), "{shown}");
    }
}
