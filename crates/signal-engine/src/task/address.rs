//! The push address of a task. Comes in: a `streamUrl`. Goes out: the URL as it was given, a form of it without the
//! secret, and the key that two spellings of one place share (TSK-7).
//!
//! Two URLs are one place if host, port and path are the same after these steps: host in lower case and without a final
//! dot, an IP address in its short form, a missing port filled in, escapes of the path decoded, empty parts of it
//! dropped. The query is never compared. If a server distinguishes two such paths, one task waits without need: that is
//! the safe side. Deliberately absent: DNS; two names of one machine are two places.

use core::net::{Ipv4Addr, Ipv6Addr};
use std::fmt;

use lianmai_protocol::limits::MAX_TASK_URL_BYTES;
use serde::{Deserialize, Serialize};

use super::claim::ClaimKey;

/// Most characters of the app's name that are told to others.
const MAX_SHOWN_APP_CHARS: usize = 64;

/// A `streamUrl` that can be pushed to. The URL is a secret.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Address {
    url: String,
    redacted_url: String,
    key: ClaimKey,
}

/// Why a text is no address: one sentence, without the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadAddress(pub &'static str);

impl fmt::Display for BadAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl Address {
    /// Reads a `streamUrl`.
    ///
    /// # Errors
    /// It is too long, is no `rtmp://` or `rtmps://` URL, or names no app and stream.
    pub fn parse(url: &str) -> Result<Address, BadAddress> {
        let bad = |why| Err(BadAddress(why));
        if url.len() > MAX_TASK_URL_BYTES {
            return bad("The URL is too long.");
        }
        let is_plain = |byte: u8| (0x21..0x7f).contains(&byte) && !b"\"#<>\\^`{|}".contains(&byte);
        if !url.bytes().all(is_plain) {
            return bad("The URL holds a character that a URL may not hold.");
        }
        let Some((scheme, rest)) = url.split_once("://") else {
            return bad("The URL has no scheme.");
        };
        let standard_port = match scheme.to_ascii_lowercase().as_str() {
            "rtmp" => 1935,
            "rtmps" => 443,
            _ => return bad("The URL is neither `rtmp://` nor `rtmps://`."),
        };
        let (place, _query) = rest.split_once('?').unwrap_or((rest, ""));
        let Some((authority, path)) = place.split_once('/') else {
            return bad("The URL names no app and stream.");
        };
        let (host, port) = split_port(authority)?;
        let host = normal_host(host)?;
        let port = match port {
            Some(port) => port,
            None => standard_port,
        };
        let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
        if parts.len() < 2 {
            return bad("The URL names no app and stream.");
        }
        let decoded: Option<Vec<Vec<u8>>> = parts.iter().map(|part| decode(part)).collect();
        let Some(decoded) = decoded else {
            return bad("The path of the URL has an escape that is none.");
        };
        if decoded.iter().any(|part| matches!(part.as_slice(), b"." | b"..")) {
            return bad("The path of the URL goes up.");
        }
        let mut place = Vec::with_capacity(url.len());
        place.extend_from_slice(host.as_bytes());
        place.push(0);
        place.extend_from_slice(port.to_string().as_bytes());
        place.push(0);
        place.extend_from_slice(&decoded.join(&b'/'));
        let app: String = parts[0].chars().take(MAX_SHOWN_APP_CHARS).collect();
        let redacted_url = format!("{}://{authority}/{app}/***", scheme.to_ascii_lowercase());
        Ok(Address { url: url.to_owned(), redacted_url, key: ClaimKey::of_place(&place) })
    }

    /// The URL as it was given. A secret: for the executor alone.
    #[must_use]
    pub fn secret_url(&self) -> &str {
        &self.url
    }

    /// The URL for everybody: `scheme://host/app/***`.
    #[must_use]
    pub fn redacted_url(&self) -> &str {
        &self.redacted_url
    }

    /// The key of the place, which all its spellings share.
    #[must_use]
    pub fn key(&self) -> ClaimKey {
        self.key
    }
}

impl fmt::Debug for Address {
    /// Without the secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Address({})", self.redacted_url)
    }
}

impl TryFrom<String> for Address {
    type Error = BadAddress;

    fn try_from(url: String) -> Result<Self, BadAddress> {
        Address::parse(&url)
    }
}

impl From<Address> for String {
    fn from(address: Address) -> String {
        address.url
    }
}

fn split_port(authority: &str) -> Result<(&str, Option<u16>), BadAddress> {
    if authority.contains('@') {
        return Err(BadAddress("The URL names a user."));
    }
    // The colons of an address in brackets do not begin a port.
    let end = authority.rfind(']').map_or(0, |at| at + 1);
    let Some(colon) = authority[end..].find(':') else { return Ok((authority, None)) };
    let (host, port) = (&authority[..end + colon], &authority[end + colon + 1..]);
    // The port is told to others as it was given, so its length is bounded.
    let digits = (1..=5).contains(&port.len()) && port.bytes().all(|byte| byte.is_ascii_digit());
    match port.parse::<u16>() {
        Ok(port) if digits && port != 0 => Ok((host, Some(port))),
        _ => Err(BadAddress("The port of the URL is none.")),
    }
}

fn normal_host(host: &str) -> Result<String, BadAddress> {
    let bad = Err(BadAddress("The host of the URL is none."));
    if let Some(inner) = host.strip_prefix('[') {
        let address = inner.strip_suffix(']').and_then(|inner| inner.parse::<Ipv6Addr>().ok());
        let Some(address) = address else { return bad };
        return Ok(match address.to_ipv4_mapped() {
            Some(short) => short.to_string(),
            None => address.to_string(),
        });
    }
    let host = host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase();
    if host.parse::<Ipv4Addr>().is_ok() {
        return Ok(host);
    }
    let mut labels = host.split('.');
    let is_label = |label: &str| {
        let known = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
        (1..=63).contains(&label.len()) && label.bytes().all(known)
    };
    if host.len() > 253 || !labels.clone().all(is_label) {
        return bad;
    }
    // `127.1` and `0x7f000001` are further spellings of an IPv4 address; only one spelling is allowed.
    let last = labels.next_back().unwrap_or_default();
    if last.bytes().all(|byte| byte.is_ascii_digit()) || last.starts_with("0x") {
        return bad;
    }
    Ok(host)
}

/// A part of a path with its escapes decoded; `None` if one is invalid.
fn decode(part: &str) -> Option<Vec<u8>> {
    let mut bytes = part.bytes();
    let mut decoded = Vec::with_capacity(part.len());
    while let Some(byte) = bytes.next() {
        if byte != b'%' {
            decoded.push(byte);
            continue;
        }
        let digit = |byte: Option<u8>| char::from(byte?).to_digit(16);
        let (high, low) = (digit(bytes.next())?, digit(bytes.next())?);
        decoded.push(u8::try_from(high * 16 + low).ok()?);
    }
    Some(decoded)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(url: &str) -> ClaimKey {
        Address::parse(url).unwrap_or_else(|why| panic!("{url}: {why}")).key()
    }

    /// Proves TSK-7.
    #[test]
    fn tsk_7_spellings_of_one_place_share_a_key() {
        let same = [
            "rtmp://push.example.com/live/key",
            "RTMP://push.example.com/live/key?sign=1",
            "rtmp://PUSH.Example.COM./live/key?sign=2&x=/other",
            "rtmp://push.example.com:1935/live/key",
            "rtmp://push.example.com:01935//live///key/",
            "rtmps://push.example.com:1935/live/%6bey",
            "rtmp://push.example.com/%6C%69ve/key",
        ];
        for url in same {
            assert_eq!(key(url), key(same[0]), "{url}");
        }
        let short = "rtmp://10.0.0.1/live/key";
        assert_eq!(key("rtmp://[::ffff:10.0.0.1]/live/key"), key(short));
        assert_eq!(key("rtmp://[::1]/a/b"), key("rtmp://[0:0:0:0:0:0:0:1]:1935/a/b"));
        let others = [
            "rtmp://push.example.com/live/KEY",
            "rtmp://push.example.com/live2/key",
            "rtmp://push.example.com:1936/live/key",
            "rtmps://push.example.com/live/key",
            "rtmp://push2.example.com/live/key",
            "rtmp://push.example.com/live/key/more",
            short,
        ];
        for (at, url) in others.iter().enumerate() {
            assert_ne!(key(url), key(same[0]), "{url}");
            assert!(others[..at].iter().all(|other| key(other) != key(url)), "{url}");
        }
    }

    /// Proves TSK-3.
    #[test]
    fn tsk_3_an_invalid_push_url_is_refused() {
        let long = format!("rtmp://h/live/{}", "x".repeat(MAX_TASK_URL_BYTES));
        for url in [
            "",
            "push.example.com/live/key",
            "http://h/live/key",
            "rtmp:/h/live/key",
            "rtmp://",
            "rtmp:///live/key",
            "rtmp://h",
            "rtmp://h/",
            "rtmp://h/live",
            "rtmp://h/live/",
            "rtmp://h?x=/live/key",
            "rtmp://h/live?x=/key",
            "rtmp://u:p@h/live/key",
            "rtmp://h:/live/key",
            "rtmp://h:0/live/key",
            "rtmp://h:65536/live/key",
            "rtmp://h:001935/live/key",
            "rtmp://h:+1/live/key",
            "rtmp://h:1:2/live/key",
            "rtmp://[::1/live/key",
            "rtmp://[::1]x/live/key",
            "rtmp://[fe80::1%25eth0]/live/key",
            "rtmp://127.1/live/key",
            "rtmp://2130706433/live/key",
            "rtmp://0x7f000001/live/key",
            "rtmp://a..b/live/key",
            "rtmp://h/live/k ey",
            "rtmp://h/live/k\u{e9}y",
            "rtmp://h/live/key#part",
            "rtmp://h/live/%4",
            "rtmp://h/live/%zz",
            "rtmp://h/live/../key",
            "rtmp://h/live/%2e%2e",
            "rtmp://h/live/k\ney",
            &long,
        ] {
            assert!(Address::parse(url).is_err(), "{url}");
        }
    }

    /// Proves TSK-10.
    #[test]
    fn tsk_10_the_redacted_url_has_no_secret() {
        let address =
            Address::parse("rtmp://Push.example.com:1936/live/S3CRET?sign=S3CRET").unwrap();
        assert_eq!(address.redacted_url(), "rtmp://Push.example.com:1936/live/***");
        assert!(!format!("{address:?}").contains("S3CRET"));
        assert!(address.secret_url().ends_with("?sign=S3CRET"));
        let text = serde_json::to_string(&address).unwrap();
        assert_eq!(serde_json::from_str::<Address>(&text).unwrap(), address);
        assert!(serde_json::from_str::<Address>("\"rtmp://h\"").is_err());
        let long = format!("rtmp://h/{}/key", "a".repeat(1_000));
        assert_eq!(Address::parse(&long).unwrap().redacted_url().len(), "rtmp://h//***".len() + 64);
    }
}
