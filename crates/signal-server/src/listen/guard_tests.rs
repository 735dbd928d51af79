use ::http::Request;

use super::*;

const BAD: Option<(u16, &str)> = Some((400, "badRequest"));
const HOST_REFUSED: Option<(u16, &str)> = Some((421, "hostNotAllowed"));
const ORIGIN_REFUSED: Option<(u16, &str)> = Some((403, "originNotAllowed"));
const DEBUG_REFUSED: Option<(u16, &str)> = Some((403, "debugLocalOnly"));
const PASSES: Option<(u16, &str)> = None;

const SAFE: &str =
    "[{ appkey = \"a\", jwt = [{ kid = \"k\", secret = \"0123456789abcdef0123456789abcdef\" }] }]";
const LOOPBACK: &str = "127.0.0.1";
const LAN: &str = "192.0.2.7";

type Headers = &'static [(&'static str, &'static str)];

fn config(flags: &[(&str, &str)]) -> Config {
    let flags: Vec<_> = flags.iter().map(|(path, value)| (*path, (*value).to_owned())).collect();
    Config::load(None, std::iter::empty(), &flags).unwrap_or_else(|problems| panic!("{problems}"))
}

/// Debug mode, nothing configured, bound to port 8600.
fn debug() -> Guard {
    Guard::public(&config(&[]), ([127, 0, 0, 1], 8600).into())
}

/// Safe mode behind a name, with one foreign origin.
fn safe() -> Guard {
    let config = config(&[
        ("apps", SAFE),
        ("server.hosts", "[\"live.example\", \"2001:db8::1\"]"),
        ("server.origins", "[\"https://app.example\"]"),
    ]);
    Guard::public(&config, ([192, 0, 2, 1], 8600).into())
}

fn request(method: &str, target: &str, headers: &[(&str, &str)]) -> Parts {
    let request = Request::builder().method(method).uri(target);
    let request =
        headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
    request.body(()).unwrap().into_parts().0
}

/// Status and name.
fn seen(refusal: &ApiError) -> (u16, &str) {
    (refusal.status().as_u16(), refusal.name())
}

#[track_caller]
fn expect(guard: &Guard, peer: &str, headers: &[(&str, &str)], expected: Option<(u16, &str)>) {
    let parts = request("GET", "/v1/signal", headers);
    let refusal = guard.check(peer.parse().unwrap(), &parts).err();
    let got = refusal.as_ref().map(seen);
    assert_eq!(got, expected, "{headers:?} of {peer}");
}

/// Proves CON-3.
#[test]
fn hosts_are_loopback_or_listed() {
    for (host, expected) in [
        ("127.0.0.1", PASSES),
        ("127.0.0.1:8600", PASSES),
        ("127.8.9.10:1", PASSES),
        ("[::1]", PASSES),
        ("[::1]:8600", PASSES),
        ("localhost", PASSES),
        ("LocalHost:80", PASSES),
        // DNS rebinding, and spellings that some parsers accept as loopback.
        ("evil.example:8600", HOST_REFUSED),
        ("127.0.0.1.evil.example", HOST_REFUSED),
        ("localhost.evil.example", HOST_REFUSED),
        ("evil-localhost", HOST_REFUSED),
        ("localhost.", HOST_REFUSED),
        ("0.0.0.0:8600", HOST_REFUSED),
        ("128.0.0.1", HOST_REFUSED),
        ("127.1", HOST_REFUSED),
        ("0x7f.0.0.1", HOST_REFUSED),
        ("2130706433", HOST_REFUSED),
        ("[::]", HOST_REFUSED),
        ("[::ffff:127.0.0.1]", HOST_REFUSED),
        ("192.168.0.1", HOST_REFUSED),
        ("live.example", HOST_REFUSED),
        ("", BAD),
        (":8600", BAD),
        ("::1", BAD),
        ("[::1", BAD),
        ("[::1]8600", BAD),
        ("[evil.example]", BAD),
        ("localhost:", BAD),
        ("localhost:x", BAD),
        ("localhost:65536", BAD),
        ("localhost:+80", BAD),
        ("localhost:80:80", BAD),
        ("user@localhost", BAD),
        ("localhost/", BAD),
        ("localhost evil.example", BAD),
    ] {
        expect(&debug(), LOOPBACK, &[("host", host)], expected);
    }
    for (host, expected) in [
        ("live.example", PASSES),
        ("LIVE.example:443", PASSES),
        ("[2001:db8::1]:8600", PASSES),
        ("[2001:DB8:0:0::1]", PASSES),
        ("127.0.0.1", PASSES),
        ("other.example", HOST_REFUSED),
        ("sub.live.example", HOST_REFUSED),
        ("192.0.2.1", HOST_REFUSED),
    ] {
        expect(&safe(), LAN, &[("host", host)], expected);
    }
}

/// Proves CON-3.
#[test]
fn the_public_host_is_allowed() {
    let config = config(&[("apps", SAFE), ("server.public_host", "live.example")]);
    let guard = Guard::public(&config, ([127, 0, 0, 1], 8600).into());
    expect(&guard, LAN, &[("host", "live.example")], PASSES);
}

/// Proves CON-3.
#[test]
fn exactly_one_host_header_is_required() {
    expect(&debug(), LOOPBACK, &[], BAD);
    expect(&debug(), LOOPBACK, &[("host", "localhost"), ("host", "localhost")], BAD);
}

/// Proves CON-4.
#[test]
fn origins_are_own_or_listed() {
    let own = [("host", "localhost:8600")];
    for (origin, expected) in [
        ("http://localhost:8600", PASSES),
        ("http://127.0.0.1:8600", PASSES),
        ("http://[::1]:8600", PASSES),
        ("http://evil.example:8600", ORIGIN_REFUSED),
        ("http://evil.example", ORIGIN_REFUSED),
        // Another service on this machine.
        ("http://localhost:3000", ORIGIN_REFUSED),
        ("http://localhost", ORIGIN_REFUSED),
        ("https://localhost:8600", ORIGIN_REFUSED),
        ("null", ORIGIN_REFUSED),
        ("", ORIGIN_REFUSED),
        ("file://", ORIGIN_REFUSED),
        ("http://localhost:8600/", ORIGIN_REFUSED),
        ("http://localhost:8600, http://evil.example", ORIGIN_REFUSED),
    ] {
        expect(&debug(), LOOPBACK, &[own[0], ("origin", origin)], expected);
    }
    for (origin, expected) in [
        ("https://app.example", PASSES),
        ("HTTPS://App.example", PASSES),
        ("http://live.example:8600", PASSES),
        ("http://app.example", ORIGIN_REFUSED),
        ("https://app.example:8443", ORIGIN_REFUSED),
        ("https://app.example.evil.example", ORIGIN_REFUSED),
        ("http://live.example", ORIGIN_REFUSED),
        ("null", ORIGIN_REFUSED),
    ] {
        expect(&safe(), LAN, &[("host", "live.example"), ("origin", origin)], expected);
    }
    let twice = [own[0], ("origin", "http://localhost:8600"), ("origin", "http://localhost:8600")];
    expect(&debug(), LOOPBACK, &twice, ORIGIN_REFUSED);
}

/// Host and Origin name the same foreign host, so comparing them would prove nothing.
/// Proves CON-3.
#[test]
fn dns_rebinding_is_refused_for_every_origin() {
    let headers = [("host", "evil.example:8600"), ("origin", "http://evil.example:8600")];
    expect(&debug(), LOOPBACK, &headers, HOST_REFUSED);
    expect(&Guard::admin(&config(&[])), LOOPBACK, &headers, HOST_REFUSED);
}

/// Proves CON-4.
#[test]
fn own_origin_follows_tls_and_proxy() {
    let behind = config(&[
        ("apps", SAFE),
        ("server.public_host", "live.example"),
        ("server.public_port", "443"),
        ("server.public_https", "true"),
    ]);
    let guard = Guard::public(&behind, ([127, 0, 0, 1], 8600).into());
    for (origin, expected) in [
        ("https://live.example", PASSES),
        ("http://localhost:8600", PASSES),
        ("http://live.example", ORIGIN_REFUSED),
        ("https://live.example:8600", ORIGIN_REFUSED),
    ] {
        expect(&guard, LAN, &[("host", "live.example"), ("origin", origin)], expected);
    }
    let mut tls = config(&[("apps", SAFE)]);
    tls.tls = Some(crate::config::TlsConfig { cert: "a".into(), key: "b".into() });
    let guard = Guard::public(&tls, ([127, 0, 0, 1], 8600).into());
    let host = ("host", "localhost:8600");
    expect(&guard, LAN, &[host, ("origin", "https://localhost:8600")], PASSES);
    expect(&guard, LAN, &[host, ("origin", "http://localhost:8600")], ORIGIN_REFUSED);
}

/// Proves no rule of the protocol: the admin listener serves no web page.
#[test]
fn the_admin_listener_serves_no_web_page() {
    let guards = [Guard::admin(&config(&[])), Guard::admin(&config(&[("apps", SAFE)]))];
    let host = ("host", "127.0.0.1:8601");
    for guard in &guards {
        expect(guard, LOOPBACK, &[host], PASSES);
        expect(guard, LOOPBACK, &[host, ("sec-fetch-site", "none")], PASSES);
        for (name, value) in [
            ("origin", "http://127.0.0.1:8601"),
            ("origin", "http://localhost:8600"),
            ("origin", "null"),
            ("sec-fetch-site", "cross-site"),
            ("sec-fetch-site", "same-site"),
        ] {
            expect(guard, LOOPBACK, &[host, (name, value)], ORIGIN_REFUSED);
        }
        expect(guard, LOOPBACK, &[("host", "evil.example:8601")], HOST_REFUSED);
    }
}

/// Proves CON-5.
#[test]
fn debug_mode_stays_on_this_machine() {
    let host = ("host", "127.0.0.1:8600");
    for header in [
        "forwarded",
        "x-forwarded-for",
        "x-forwarded-proto",
        "x-forwarded-host",
        "x-real-ip",
        "via",
    ] {
        expect(&debug(), LOOPBACK, &[host, (header, "127.0.0.1")], DEBUG_REFUSED);
        expect(&safe(), LAN, &[host, (header, "127.0.0.1")], PASSES);
    }
    expect(&debug(), LAN, &[host], DEBUG_REFUSED);
    expect(&debug(), "::1", &[host], PASSES);
    expect(&debug(), "::ffff:127.0.0.1", &[host], PASSES);
    expect(&debug(), "::ffff:192.0.2.7", &[host], DEBUG_REFUSED);

    // The host is listed but not loopback: debug mode refuses it.
    let listed = Guard::public(
        &config(&[
            ("server.hosts", "[\"live.example\"]"),
            ("server.origins", "[\"https://app.example\"]"),
        ]),
        ([127, 0, 0, 1], 8600).into(),
    );
    expect(&listed, LOOPBACK, &[("host", "live.example")], DEBUG_REFUSED);
    expect(&listed, LOOPBACK, &[host, ("origin", "https://app.example")], DEBUG_REFUSED);
    expect(&listed, LOOPBACK, &[host, ("origin", "http://localhost:8600")], PASSES);

    let parts = request("GET", "/", &[("host", "127.0.0.1"), ("via", "1.1 proxy")]);
    let refusal = debug().check(LOOPBACK.parse().unwrap(), &parts).unwrap_err();
    assert!(refusal.message().contains("debug.allow_from"), "{refusal:?}");
}

/// Proves CON-3, CON-4.
#[test]
fn allow_from_opens_debug_mode_and_nothing_else() {
    let config = config(&[
        ("server.listen", "192.0.2.1:8600"),
        ("debug.allow_from", "[\"192.0.2.0/24\"]"),
        ("server.hosts", "[\"192.0.2.1\"]"),
    ]);
    let guard = Guard::public(&config, ([192, 0, 2, 1], 8600).into());
    let host = ("host", "192.0.2.1:8600");
    expect(&guard, LAN, &[host], PASSES);
    expect(&guard, LAN, &[host, ("x-forwarded-for", "10.0.0.1")], PASSES);
    expect(&guard, LAN, &[host, ("origin", "http://192.0.2.1:8600")], PASSES);
    expect(&guard, LAN, &[host, ("origin", "http://evil.example:8600")], ORIGIN_REFUSED);
    expect(&guard, LAN, &[("host", "evil.example:8600")], HOST_REFUSED);
    expect(&guard, "192.0.3.7", &[host], DEBUG_REFUSED);
}

/// Proves no rule of the protocol: malformed HTTP is refused.
#[test]
fn malformed_requests_are_refused() {
    let host = ("host", "localhost");
    let cases: [(&str, &str, Headers, bool); 12] = [
        ("GET", "/", &[("content-length", "0")], true),
        ("GET", "/", &[("content-length", "1")], false),
        ("GET", "/", &[("content-length", "0"), ("content-length", "5")], false),
        ("GET", "/", &[("transfer-encoding", "chunked")], false),
        ("HEAD", "/", &[("transfer-encoding", "identity")], false),
        ("POST", "/", &[("content-length", "5")], true),
        ("POST", "/", &[("transfer-encoding", "chunked")], false),
        ("POST", "/", &[("transfer-encoding", "chunked"), ("content-length", "5")], false),
        ("POST", "/", &[("upgrade", "websocket"), ("content-length", "5")], false),
        ("GET", "/", &[("upgrade", "websocket")], true),
        ("CONNECT", "localhost:80", &[], false),
        ("GET", "/v1/signal?x=http://evil.example/", &[], true),
    ];
    for (method, target, headers, passes) in cases {
        let headers: Vec<_> = [host].into_iter().chain(headers.iter().copied()).collect();
        let verdict = debug().check(LOOPBACK.parse().unwrap(), &request(method, target, &headers));
        let got = verdict.as_ref().err().map(seen);
        assert_eq!(got, if passes { PASSES } else { BAD }, "{method} {target} {headers:?}");
    }
}

/// Proves CON-3.
#[test]
fn a_target_in_absolute_form_names_a_host_as_well() {
    let listed = config(&[("server.hosts", "[\"live.example\"]")]);
    let listed = Guard::public(&listed, ([127, 0, 0, 1], 8600).into());
    for (guard, target, host, expected) in [
        (&debug(), "http://localhost:8600/v1/signal", "localhost:8600", PASSES),
        (&debug(), "HTTP://127.0.0.1/v1/signal?a=b", "localhost:8600", PASSES),
        (&debug(), "http://[::1]:8600/v1/signal", "localhost", PASSES),
        (&debug(), "https://localhost/v1/signal", "localhost", PASSES),
        (&debug(), "http://localhost", "localhost", PASSES),
        (&debug(), "http://evil.example/v1/signal", "localhost", HOST_REFUSED),
        (&debug(), "http://localhost/v1/signal", "evil.example", HOST_REFUSED),
        (&debug(), "http://user@localhost/v1/signal", "localhost", BAD),
        (&debug(), "http://localhost:/v1/signal", "localhost", BAD),
        (&debug(), "ftp://localhost/v1/signal", "localhost", BAD),
        (&debug(), "http://localhost/v1/signal", "", BAD),
        // Debug mode refuses both.
        (&listed, "http://live.example/v1/signal", "localhost", DEBUG_REFUSED),
        (&listed, "http://localhost/v1/signal", "live.example", DEBUG_REFUSED),
        (&safe(), "http://live.example/v1/signal", "live.example", PASSES),
        (&safe(), "http://other.example/v1/signal", "live.example", HOST_REFUSED),
    ] {
        let parts = request("GET", target, &[("host", host)]);
        let refusal = guard.check(LOOPBACK.parse().unwrap(), &parts).err();
        let got = refusal.as_ref().map(seen);
        assert_eq!(got, expected, "{target} with Host {host}");
    }
    let none = request("GET", "http://localhost/v1/signal", &[]);
    assert_eq!(debug().check(LOOPBACK.parse().unwrap(), &none).unwrap_err().name(), "badRequest");
}
