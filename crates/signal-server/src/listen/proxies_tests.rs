//! Proves no rule of the protocol: the client behind a proxy.

use http::HeaderValue;

use super::*;

const PEER: &str = "10.0.0.1:4711";

fn proxies() -> Proxies {
    let trusted = ["127.0.0.1", "::1", "10.0.0.0/24", "2001:db8:9::/48"];
    Proxies::new(trusted.map(|range| range.parse().unwrap()).to_vec())
}

fn client(peer: &str, headers: &[(&'static str, &[u8])]) -> String {
    let mut map = HeaderMap::new();
    for (name, value) in headers {
        map.append(*name, HeaderValue::from_bytes(value).unwrap());
    }
    proxies().client(peer.parse().unwrap(), &map).to_string()
}

fn xff(value: &str) -> String {
    client(PEER, &[("x-forwarded-for", value.as_bytes())])
}

fn forwarded(value: &str) -> String {
    client(PEER, &[("forwarded", value.as_bytes())])
}

#[test]
fn the_rightmost_address_that_is_not_a_proxy_is_the_client() {
    for (value, expected) in [
        ("192.0.2.1", "192.0.2.1:0"),
        ("198.51.100.9,192.0.2.1", "192.0.2.1:0"),
        ("198.51.100.9, 192.0.2.1 ,10.0.0.7,\t127.0.0.1", "192.0.2.1:0"),
        ("2001:db8::1, 2001:db8:9::1", "[2001:db8::1]:0"),
        ("[2001:db8::1]", "[2001:db8::1]:0"),
        ("[2001:db8::1]:80", "[2001:db8::1]:0"),
        ("192.0.2.1:80", "192.0.2.1:0"),
        ("::ffff:192.0.2.1, ::ffff:10.0.0.2", "192.0.2.1:0"),
    ] {
        assert_eq!(xff(value), expected, "{value}");
    }
    let lines: [(_, &[u8]); 3] = [
        ("x-forwarded-for", b"198.51.100.9"),
        ("x-forwarded-for", b"192.0.2.1"),
        ("x-forwarded-for", b"10.0.0.2"),
    ];
    assert_eq!(client(PEER, &lines), "192.0.2.1:0", "several headers are one list");
    assert_eq!(client("[::ffff:10.0.0.1]:4711", &lines), "192.0.2.1:0");
}

#[test]
fn forwarded_is_read_if_x_forwarded_for_is_absent() {
    for (value, expected) in [
        ("for=192.0.2.1", "192.0.2.1:0"),
        ("For=\"192.0.2.1:80\";proto=https;by=10.0.0.1", "192.0.2.1:0"),
        ("for=198.51.100.9, proto=https; for=\"[2001:db8::1]:80\"", "[2001:db8::1]:0"),
        ("for=192.0.2.1;host=\"a\", for=10.0.0.2", "192.0.2.1:0"),
        // Elements that hide the client, or that the client may have written in part.
        ("for=198.51.100.9, for=unknown", PEER),
        ("for=198.51.100.9, for=_hidden", PEER),
        ("for=198.51.100.9, proto=https", PEER),
        ("for=192.0.2.1;for=192.0.2.2", PEER),
        ("for=192.0.2.1;host=\"x,for=198.51.100.9;a=b\"", PEER),
        ("for=192.0.2.1;host=\"x\\\",for=198.51.100.9;a=\\\"\"", PEER),
    ] {
        assert_eq!(forwarded(value), expected, "{value}");
    }
    let both: [(_, &[u8]); 2] =
        [("forwarded", b"for=198.51.100.9"), ("x-forwarded-for", b"192.0.2.1")];
    assert_eq!(client(PEER, &both), "192.0.2.1:0");
    let both: [(_, &[u8]); 2] = [("forwarded", b"for=198.51.100.9"), ("x-forwarded-for", b"-")];
    assert_eq!(client(PEER, &both), PEER, "a readable header does not replace an unreadable one");
}

#[test]
fn headers_of_an_untrusted_peer_are_ignored() {
    for peer in ["192.0.2.7:1", "10.0.1.1:1", "[2001:db8::7]:1"] {
        let headers: [(_, &[u8]); 2] =
            [("x-forwarded-for", b"198.51.100.9"), ("forwarded", b"for=198.51.100.9")];
        assert_eq!(client(peer, &headers), peer);
    }
    let nobody = Proxies::default();
    let local = "127.0.0.1:1".parse().unwrap();
    let headers = HeaderMap::from_iter([(X_FORWARDED_FOR, HeaderValue::from_static("192.0.2.1"))]);
    assert_eq!(nobody.client(local, &headers), local);
}

#[test]
fn unreadable_headers_count_for_the_peer() {
    assert_eq!(client(PEER, &[]), PEER);
    for value in ["", ",", "192.0.2.1,", "unknown", "192.0.2.1, x", "192.0.2", "fe80::1%eth0"] {
        assert_eq!(xff(value), PEER, "{value}");
    }
    for value in ["10.0.0.1, 127.0.0.1", "[192.0.2.1]", "[::2", "192.0.2.1:99999", "192.0.2.1 1"] {
        assert_eq!(xff(value), PEER, "{value}");
    }
    let garbage: &[u8] = b"\xff\xfe \"(, 192.0.2.1";
    let in_front = client(PEER, &[("x-forwarded-for", garbage)]);
    assert_eq!(in_front, "192.0.2.1:0", "entries in front, written by the client, are ignored");
    assert_eq!(client(PEER, &[("x-forwarded-for", b"192.0.2.1, \xff")]), PEER);
}

#[test]
fn the_number_of_parsed_hops_is_bounded() {
    let hops = |n: usize| format!("192.0.2.1{}", ", 10.0.0.2".repeat(n));
    assert_eq!(xff(&hops(MAX_HOPS - 1)), "192.0.2.1:0");
    assert_eq!(xff(&hops(MAX_HOPS)), PEER);
    let long = format!("{}, 192.0.2.1", "198.51.100.9,".repeat(100_000));
    assert_eq!(xff(&long), "192.0.2.1:0");
    assert_eq!(xff(&"1".repeat(100_000)), PEER);
}
