//! Limits where requests of the server may go. Comes in: a URL from the holder of a key. Goes out: a connection to an
//! address that was checked, or why there is none. A name is resolved once, all its addresses must be public or in a
//! range that the operator allows, and the connection uses these addresses. So a name whose addresses change cannot
//! lead to an internal host. Plain HTTP is possible only to allowed ranges. The server's own listeners are never
//! reached. Deliberately absent: redirects; they are not followed.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use http::Uri;
use lianmai_protocol::Appkey;
use lianmai_shares::{Share, Slots};
use tokio::net::{TcpStream, lookup_host};
use tokio::time::timeout;

use crate::config::{Cidr, without_brackets};

/// Maximum length of a URL in bytes.
const MAX_URL: usize = 2_048;
/// Maximum number of look-ups of names at the same time. The system cannot cancel one, so it counts until it ends. Each
/// holds one of the 512 threads that the runtime has for such work.
const MAX_LOOKUPS: usize = 384;
/// The share of one app in them.
const LOOKUPS_OF_APP: Share = Share::of(1, 2);

/// Why there is no connection. The texts name no address, so that a caller does not learn about the internal network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum EgressError {
    /// The URL is not usable.
    #[error(
        "the URL must be https (or http, to a range that the operator allows), with a host, without user and fragment, and at most 2048 bytes long"
    )]
    Url,
    /// The name has no address.
    #[error("there is no address that is allowed")]
    Resolve,
    /// The address is internal, and not allowed. The text is the same, so that a caller does not learn which names exist.
    #[error("there is no address that is allowed")]
    Internal,
    /// Too many look-ups of the app have not ended.
    #[error("too many names are being looked up")]
    Lookups,
    /// No address accepts a connection.
    #[error("the connection failed")]
    Connect,
}

/// The parts of a URL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Target {
    pub(super) tls: bool,
    /// Without brackets.
    pub(super) host: String,
    pub(super) port: u16,
    /// The value of the header `Host`.
    pub(super) authority: String,
    /// Path and query.
    pub(super) path: String,
}

impl Target {
    pub(super) fn read(url: &str) -> Result<Self, EgressError> {
        let bad = || EgressError::Url;
        if url.len() > MAX_URL || url.contains('#') || !url.is_ascii() {
            return Err(bad());
        }
        let uri: Uri = url.parse().map_err(|_| bad())?;
        let tls = match uri.scheme_str() {
            Some("https") => true,
            Some("http") => false,
            _ => return Err(bad()),
        };
        let authority = uri.authority().filter(|it| !it.as_str().contains('@')).ok_or_else(bad)?;
        let host = without_brackets(authority.host()).to_owned();
        if host.is_empty() {
            return Err(bad());
        }
        let port = match authority.as_str().strip_prefix(authority.host()) {
            Some("") => {
                if tls {
                    443
                } else {
                    80
                }
            }
            Some(rest) => {
                let port = rest.strip_prefix(':').and_then(|port| port.parse().ok());
                port.filter(|port| *port != 0).ok_or_else(bad)?
            }
            None => return Err(bad()),
        };
        let path = uri.path_and_query().map_or("/", |path| path.as_str());
        let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
        Ok(Target { tls, host, port, authority: authority.to_string(), path })
    }
}

/// The limits for requests.
#[derive(Clone, Debug)]
pub(crate) struct Egress {
    /// Internal ranges that are allowed.
    allow: Vec<Cidr>,
    /// The server's own listeners.
    own: Vec<SocketAddr>,
    lookups: Slots<Appkey>,
}

impl Default for Egress {
    fn default() -> Self {
        Egress::new(Vec::new(), Vec::new())
    }
}

impl Egress {
    /// Limits with these internal ranges that are allowed, and these listeners of the server itself.
    pub(crate) fn new(allow: Vec<Cidr>, own: Vec<SocketAddr>) -> Self {
        Egress { allow, own, lookups: Slots::new(MAX_LOOKUPS) }
    }

    /// Checks the form of a URL.
    pub(crate) fn check(url: &str) -> Result<(), EgressError> {
        Target::read(url).map(drop)
    }

    /// Resolves a target of an app, checks all its addresses, and connects to the first one that accepts. The addresses
    /// divide the time.
    pub(super) async fn connect(
        &self,
        appkey: &Appkey,
        target: &Target,
        time: Duration,
    ) -> Result<TcpStream, EgressError> {
        let addresses = self.addresses(appkey, target).await?;
        if addresses.is_empty() {
            return Err(EgressError::Resolve);
        }
        if !addresses.iter().all(|address| self.may_reach(*address, target.tls)) {
            return Err(EgressError::Internal);
        }
        first_to_accept(addresses, time, TcpStream::connect::<SocketAddr>).await
    }

    async fn addresses(
        &self,
        appkey: &Appkey,
        target: &Target,
    ) -> Result<Vec<SocketAddr>, EgressError> {
        let (host, port) = (target.host.clone(), target.port);
        if let Ok(ip) = host.parse::<IpAddr>() {
            return Ok(vec![SocketAddr::new(ip, port)]);
        }
        let slot = self.lookups.acquire([(appkey.clone(), LOOKUPS_OF_APP)]);
        let slot = slot.map_err(|_| EgressError::Lookups)?;
        // A system look-up cannot be cancelled, so its slot is held until it ends.
        let looked = tokio::spawn(async move {
            let addresses = lookup_host((host, port)).await.map(Iterator::collect::<Vec<_>>);
            drop(slot);
            addresses
        });
        match looked.await {
            Ok(Ok(addresses)) => Ok(addresses),
            _ => Err(EgressError::Resolve),
        }
    }

    fn may_reach(&self, address: SocketAddr, tls: bool) -> bool {
        let ip = address.ip().to_canonical();
        let own = self.own.iter().any(|own| {
            let here = own.ip().to_canonical();
            own.port() == address.port()
                && (here == ip || ip.is_loopback() || here.is_unspecified())
        });
        let allowed = self.allow.iter().any(|range| range.contains(ip));
        !own && (allowed || (tls && is_public(ip)))
    }
}

/// The connection to the first address that accepts one. Each address has an equal part of the time, so that one that
/// swallows packets does not hide the others.
async fn first_to_accept<T, F>(
    addresses: Vec<SocketAddr>,
    time: Duration,
    connect: impl Fn(SocketAddr) -> F,
) -> Result<T, EgressError>
where
    F: Future<Output = io::Result<T>>,
{
    let part = time / u32::try_from(addresses.len().max(1)).unwrap_or(u32::MAX);
    for address in addresses {
        if let Ok(Ok(stream)) = timeout(part, connect(address)).await {
            return Ok(stream);
        }
    }
    Err(EgressError::Connect)
}

/// Whether an address is public.
fn is_public(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => is_public_v4(ip),
        IpAddr::V6(ip) => is_public_v6(ip),
    }
}

fn is_public_v4(ip: Ipv4Addr) -> bool {
    let [a, b, c, _] = ip.octets();
    !matches!(
        (a, b, c),
        (0 | 10 | 127, ..)
            | (192, 168, _)
            | (169, 254, _)
            | (100, 64..=127, _)
            | (172, 16..=31, _)
            | (198, 18..=19, _)
            | (192, 0, 0 | 2)
            | (192, 88, 99)
            | (198, 51, 100)
            | (203, 0, 113)
            | (224.., ..)
    )
}

fn is_public_v6(ip: Ipv6Addr) -> bool {
    let [a, b, ..] = ip.segments();
    // Global unicast, without tunnels, which lead to IPv4 addresses, and without addresses for examples.
    let special = matches!(
        (a, b),
        (0x2001, 0..=0x1ff) | (0x2001, 0xdb8) | (0x2002, _) | (0x3ff0..=0x3fff, _)
    );
    (0x2000..=0x3fff).contains(&a) && !special
}

#[cfg(test)]
mod tests {
    //! Proves no rule of the protocol: where requests of the server may go.

    use super::*;

    #[test]
    fn only_complete_urls_are_accepted() {
        let target = Target::read("https://a.example/hook?x=1").unwrap();
        assert_eq!((target.port, target.path.as_str(), target.tls), (443, "/hook?x=1", true));
        let target = Target::read("http://[::1]:8080").unwrap();
        assert_eq!((target.host.as_str(), target.port, target.path.as_str()), ("::1", 8080, "/"));
        for url in [
            "",
            "a.example",
            "/hook",
            "ftp://a.example/",
            "https://",
            "https://u:p@a.example/",
            "https://a.example/#x",
            "https://a.example:0/",
            "https://a.example:99999/",
            "file:///etc/passwd",
            "https://ä.example/",
        ] {
            assert_eq!(Target::read(url), Err(EgressError::Url), "{url}");
        }
        assert!(Target::read(&format!("https://a.example/{}", "x".repeat(2_048))).is_err());
    }

    async fn refusal(egress: &Egress, appkey: &Appkey, target: &Target) -> Option<EgressError> {
        egress.connect(appkey, target, Duration::from_secs(10)).await.err()
    }

    #[tokio::test]
    async fn lookups_of_one_app_leave_room_for_others() {
        let egress = Egress::default();
        let [demo, other] = ["demo", "other"].map(|text| text.parse::<Appkey>().unwrap());
        let lookup = || egress.lookups.acquire([(demo.clone(), LOOKUPS_OF_APP)]).ok();
        let unfinished: Vec<_> = std::iter::from_fn(lookup).collect();
        assert!(unfinished.len() < MAX_LOOKUPS);
        let name = Target::read("https://nobody.invalid/").unwrap();
        let address = Target::read("https://127.0.0.1/").unwrap();
        assert_eq!(refusal(&egress, &demo, &name).await, Some(EgressError::Lookups));
        assert_eq!(refusal(&egress, &other, &name).await, Some(EgressError::Resolve));
        assert_eq!(refusal(&egress, &demo, &address).await, Some(EgressError::Internal));
        drop(unfinished);
        assert_eq!(refusal(&egress, &demo, &name).await, Some(EgressError::Resolve));
        assert_eq!(EgressError::Resolve.to_string(), EgressError::Internal.to_string());
    }

    #[tokio::test(start_paused = true)]
    async fn an_address_that_does_not_answer_hides_no_other() {
        let silent: SocketAddr = "[2606:4700::1111]:443".parse().unwrap();
        let good: SocketAddr = "1.1.1.1:443".parse().unwrap();
        let connect = |address: SocketAddr| async move {
            if address == silent {
                std::future::pending::<()>().await;
            }
            Ok(address)
        };
        let time = Duration::from_secs(10);
        let found = timeout(time, first_to_accept(vec![silent, good], time, connect)).await;
        assert_eq!(found, Ok(Ok(good)));
        let none = first_to_accept(vec![silent], time, connect).await;
        assert_eq!(none, Err(EgressError::Connect));
    }

    #[test]
    fn internal_addresses_need_permission() {
        let at = |text: &str| text.parse::<SocketAddr>().unwrap();
        let none = Egress::default();
        for inside in [
            "127.0.0.1:80",
            "10.1.2.3:80",
            "172.16.0.1:80",
            "192.168.1.1:80",
            "169.254.169.254:80",
            "100.64.0.1:80",
            "0.0.0.0:80",
            "224.0.0.1:80",
            "255.255.255.255:80",
            "198.18.0.1:80",
            "[::1]:80",
            "[fe80::1]:80",
            "[fd00::1]:80",
            "[::ffff:127.0.0.1]:80",
            "[::ffff:10.0.0.1]:80",
            "[64:ff9b::a00:1]:80",
            "[2002:7f00:1::]:80",
            "[2001::1]:80",
            "[2001:db8::1]:80",
            "[ff02::1]:80",
        ] {
            assert!(!none.may_reach(at(inside), true), "{inside}");
        }
        for outside in ["1.1.1.1:443", "203.0.114.1:443", "[2606:4700::1111]:443"] {
            assert!(none.may_reach(at(outside), true), "{outside}");
            assert!(!none.may_reach(at(outside), false), "plain {outside}");
        }
        let some = Egress::new(
            vec!["127.0.0.0/8".parse().unwrap()],
            vec![at("127.0.0.1:8601"), at("0.0.0.0:8600")],
        );
        assert!(some.may_reach(at("127.0.0.1:9000"), false));
        assert!(some.may_reach(at("[::ffff:127.0.0.1]:9000"), false));
        for own in ["127.0.0.1:8601", "127.0.0.2:8601", "127.0.0.1:8600", "[::ffff:127.0.0.1]:8601"]
        {
            assert!(!some.may_reach(at(own), true), "{own}");
        }
    }
}
