//! Proves no rule of the protocol: what the signature of a URL covers.

use std::collections::BTreeSet;

use lianmai_protocol::{Gen, Mid, WallTime};
use lianmai_signal_engine::{Access, MintRequest};

use super::Direction::{Play, Publish};
use super::*;
use crate::config::Config;

const NOW: WallTime = WallTime(1_700_000_000_500);
const TTL_S: u64 = 3600;
const GEN: Gen = Gen { route: 7, random: [0xa5; 12] };
const VIEWER: Mid = Mid([0x3c; 12]);

fn bases() -> UrlBases {
    UrlBases {
        push: "rtmp://127.0.0.1:1935/live".into(),
        pull_rtmp: "rtmp://127.0.0.1:1935/live".into(),
        pull_flv: "http://127.0.0.1:8600/live".into(),
        rtmps: None,
        prefer_rtmps: false,
    }
}

fn signer() -> UrlSigner {
    UrlSigner::new(&[9; 32], bases(), TTL_S)
}

fn request(viewer: Option<Mid>) -> MintRequest {
    MintRequest { appkey: "demo".parse().unwrap(), generation: GEN, viewer }
}

/// Stream and query of a URL.
fn parts(url: &str) -> (&str, &str) {
    let (path, query) = url.split_once('?').unwrap();
    let stream = path.rsplit('/').next().unwrap();
    (stream.strip_suffix(".flv").unwrap_or(stream), query)
}

/// Proves URL-1.
#[test]
fn minted_urls_verify() {
    let signer = signer();
    let push = signer.mint(&request(None), NOW);
    assert_eq!(push.urls.rtmp.as_ref(), Some(&push.url));
    assert_eq!(push.urls.flv, None);
    assert!(push.url.starts_with(&format!("rtmp://127.0.0.1:1935/live/{GEN}?t=1700003600.")));
    let (stream, query) = parts(&push.url);
    assert_eq!(signer.verify(Publish, stream, query, NOW), Ok((GEN, Access::Publish)));

    let pull = signer.mint(&request(Some(VIEWER)), NOW);
    assert_eq!(pull.urls.rtmp.as_ref(), Some(&pull.url));
    let flv = pull.urls.flv.unwrap();
    assert_eq!(pull.urls.ws_flv, Some(flv.replacen("http", "ws", 1)));
    assert!(flv.starts_with(&format!("http://127.0.0.1:8600/live/{GEN}.flv?v={VIEWER}&t=")));
    for url in [&pull.url, &flv] {
        let (stream, query) = parts(url);
        let granted = Ok((GEN, Access::Play { viewer: VIEWER }));
        assert_eq!(signer.verify(Play, stream, query, NOW), granted);
        assert!(stream.len() + 1 + query.len() < 200, "{url}");
    }
}

/// Scheme and host are not signed, so the RTMP and the RTMPS URL are valid on both listeners.
/// Proves URL-1.
#[test]
fn rtmps_is_offered_beside_rtmp_and_preferred_if_configured() {
    let plain = signer();
    for prefer_rtmps in [false, true] {
        let rtmps = Some("rtmps://127.0.0.1:1936/live".into());
        let signer = UrlSigner::new(&[9; 32], UrlBases { rtmps, prefer_rtmps, ..bases() }, TTL_S);
        for viewer in [None, Some(VIEWER)] {
            let minted = signer.mint(&request(viewer), NOW);
            let (rtmp, rtmps) = (minted.urls.rtmp.unwrap(), minted.urls.rtmps.unwrap());
            assert_eq!(rtmps, rtmp.replace("rtmp://127.0.0.1:1935", "rtmps://127.0.0.1:1936"));
            assert_eq!(minted.url, if prefer_rtmps { rtmps } else { rtmp });
            assert_eq!(plain.mint(&request(viewer), NOW).urls.rtmps, None);
        }
        let (old, new) = (plain.address(), signer.address());
        assert!(
            old.push != new.push && old.pull != new.pull,
            "holders of a URL are notified (URL-10)"
        );
    }
}

/// The signature must not change: URLs outlive the process that issued them.
/// Proves RST-4.
#[test]
fn the_signature_stays_the_same() {
    let url = signer().mint(&request(None), NOW).url;
    assert_eq!(parts(&url).1, "t=1700003600.mEu4hV5X_iIvM5KQHrLDGQ");
}

/// Proves URL-7.
#[test]
fn a_url_expires_and_is_renewed_in_the_last_third_of_its_validity() {
    let signer = signer();
    let minted = signer.mint(&request(None), NOW);
    let (stream, query) = parts(&minted.url);
    let end = 1_700_003_600_000;
    assert!(signer.verify(Publish, stream, query, WallTime(end - 1)).is_ok());
    assert_eq!(signer.verify(Publish, stream, query, WallTime(end)), Err(SignError::Expired));
    assert_eq!(minted.renew_after, WallTime(end - TTL_S * 1000 / 3));
}

#[test]
fn a_url_serves_one_direction_only() {
    let signer = signer();
    let push = signer.mint(&request(None), NOW).url;
    let pull = signer.mint(&request(Some(VIEWER)), NOW).url;
    let (stream, push) = parts(&push);
    let (_, pull) = parts(&pull);
    assert_eq!(signer.verify(Play, stream, push, NOW), Err(SignError::BadUrl));
    assert_eq!(signer.verify(Publish, stream, pull, NOW), Err(SignError::BadUrl));
    // The token of the pull without the viewer, and the token of the push with one.
    let token = pull.split_once('&').unwrap().1;
    assert_eq!(signer.verify(Publish, stream, token, NOW), Err(SignError::BadSignature));
    let dressed = format!("v={VIEWER}&{push}");
    assert_eq!(signer.verify(Play, stream, &dressed, NOW), Err(SignError::BadSignature));
}

#[test]
fn a_url_of_another_stream_viewer_time_or_key_is_refused() {
    let signer = signer();
    let url = signer.mint(&request(Some(VIEWER)), NOW).url;
    let (stream, query) = parts(&url);
    let refused = |stream: &str, query: &str| {
        assert_eq!(
            signer.verify(Play, stream, query, NOW),
            Err(SignError::BadSignature),
            "{stream}?{query}"
        );
    };
    refused(&Gen { route: 8, ..GEN }.to_string(), query);
    refused(stream, &query.replace(&VIEWER.to_string(), &Mid([0; 12]).to_string()));
    refused(stream, &query.replace("t=1700003600", "t=1800003600"));
    refused(stream, &query.replace("t=1700003600", "t=01700003600"));
    let bases = UrlBases { push: "a".into(), ..bases() };
    let other = UrlSigner::new(&[8; 32], bases, TTL_S);
    assert_eq!(other.verify(Play, stream, query, NOW), Err(SignError::BadSignature));
}

#[test]
fn malformed_urls_are_refused() {
    let signer = signer();
    let url = signer.mint(&request(Some(VIEWER)), NOW).url;
    let (stream, query) = parts(&url);
    let (viewer, token) = query.split_once('&').unwrap();
    for bad in [
        String::new(),
        viewer.to_owned(),
        token.to_owned(),
        format!("{query}&{token}"),
        format!("{query}&t="),
        format!("{query}&{viewer}"),
        format!("{query}="),
        format!("{viewer}&{}", token.replace('.', "")),
        format!("{viewer}&{}", &token[..token.len() - 4]),
        format!("{viewer}&{}", &token[..token.find('.').unwrap() + 1]),
        format!("v=%61&{token}"),
    ] {
        assert_eq!(signer.verify(Play, stream, &bad, NOW), Err(SignError::BadUrl), "{bad}");
    }
    assert_eq!(signer.verify(Play, "", query, NOW), Err(SignError::BadUrl));
    // Parameters that others append are ignored.
    assert!(signer.verify(Play, stream, &format!("a=1&{query}&utm=t=1"), NOW).is_ok());
}

/// Each byte of stream and query is replaced by each other ASCII byte, and removed.
#[test]
fn every_changed_byte_is_refused() {
    let signer = signer();
    let cases: [(Direction, Option<Mid>); 2] = [(Publish, None), (Play, Some(VIEWER))];
    let mut seen = BTreeSet::new();
    for (direction, viewer) in cases {
        let url = signer.mint(&request(viewer), NOW).url;
        let (stream, query) = parts(&url);
        let mut refuse = |stream: &str, query: &str| {
            let verdict = signer.verify(direction, stream, query, NOW);
            let error = verdict.expect_err(&format!("{stream}?{query}"));
            seen.insert(error.code());
        };
        for at in 0..stream.len() + query.len() {
            let mut changed = |edit: &dyn Fn(&mut Vec<u8>, usize)| {
                let (mut s, mut q) = (stream.as_bytes().to_vec(), query.as_bytes().to_vec());
                match at.checked_sub(s.len()) {
                    None => edit(&mut s, at),
                    Some(at) => edit(&mut q, at),
                }
                refuse(std::str::from_utf8(&s).unwrap(), std::str::from_utf8(&q).unwrap());
            };
            changed(&|bytes, at| {
                bytes.remove(at);
            });
            for flip in 1..128_u8 {
                changed(&|bytes, at| bytes[at] ^= flip);
            }
        }
    }
    assert_eq!(seen, BTreeSet::from(["badUrl", "badSignature"]));
}

#[test]
fn bases_follow_listeners_and_settings() {
    let config = |flags: &[(&str, String)]| {
        Config::load(None, std::iter::empty(), flags).unwrap_or_else(|e| panic!("{e}"))
    };
    let bases = |config: &Config, public: &str, rtmp: &str| {
        UrlBases::new(config, public.parse().unwrap(), rtmp.parse().unwrap(), None)
    };
    let plain = bases(&config(&[]), "127.0.0.1:40001", "[::1]:40002");
    assert_eq!(plain.push, "rtmp://[::1]:40002/live");
    assert_eq!(plain.pull_rtmp, plain.push);
    assert_eq!(plain.pull_flv, "http://127.0.0.1:40001/live");

    let behind = config(&[
        ("server.public_host", "Live.Example.com".into()),
        ("server.public_port", "443".into()),
        ("server.public_rtmp_port", "1936".into()),
        ("server.public_https", "true".into()),
    ]);
    let behind = bases(&behind, "127.0.0.1:1", "127.0.0.1:2");
    assert_eq!(behind.push, "rtmp://live.example.com:1936/live");
    assert_eq!(behind.pull_flv, "https://live.example.com:443/live");

    let rtmps = config(&[("server.public_rtmps_port", "443".into())]);
    let bound = Some("127.0.0.1:3".parse().unwrap());
    let addresses = ["127.0.0.1:1", "127.0.0.1:2"].map(|address| address.parse().unwrap());
    let rtmps = UrlBases::new(&rtmps, addresses[0], addresses[1], bound);
    assert_eq!(rtmps.rtmps.as_deref(), Some("rtmps://127.0.0.1:443/live"));

    let v6 = config(&[("server.public_host", "2001:db8::1".into())]);
    assert_eq!(bases(&v6, "127.0.0.1:1", "127.0.0.1:2").push, "rtmp://[2001:db8::1]:2/live");
}

/// Proves URL-4.
#[test]
fn debug_shows_no_key() {
    let text = format!("{:?}", signer());
    assert!(text.contains("3600") && !text.contains("[9") && !text.contains("keyed"), "{text}");
}

/// The relay cuts by this viewer before the signature is checked, so it must be the viewer of the valid URL.
#[test]
fn the_viewer_of_a_url_is_read_without_its_signature() {
    let mid = "j72ceuvw75efr6edt4sq";
    assert_eq!(UrlSigner::viewer(&format!("a=1&v={mid}&t=1.x")), Some(mid.parse().unwrap()));
    for query in ["", "t=1.x", "v=", "v=nobody", &format!("v={mid}&v={mid}"), &format!("vv={mid}")]
    {
        assert_eq!(UrlSigner::viewer(query), None, "{query}");
    }
}
