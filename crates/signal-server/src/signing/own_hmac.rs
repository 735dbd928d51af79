//! Signs URLs for media servers that ask this server about each publish and play: the embedded relay. Comes in: key,
//! stream, viewer, time. Goes out: `?t=<exp>.<mac>` for a push, `?v=<mid>&t=<exp>.<mac>` for a pull. Deliberately
//! absent: signatures of other providers, of which there are none yet (ADR 0020).
//!
//! `exp` is Unix time in seconds. `mac` is base64url of the first 16 bytes of HMAC-SHA256 over the fields `"v1"`,
//! direction, stream, viewer and `exp`, each after its length. So no byte can move between fields, and a pull URL is
//! not valid for a push.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit, Mac};
use lianmai_protocol::message::media::Urls;
use lianmai_protocol::{Gen, Mid, WallTime};
use lianmai_signal_engine::{Access, MediaAddress, MintRequest, Minted};
use sha2::{Digest, Sha256};

use super::{Direction, UrlBases};

/// The query parameter with the viewer.
const VIEWER: &str = "v=";
/// Validity of a URL of [`UrlSigner::long_play`], in seconds: longer than any process runs.
const LONG_S: u64 = 10 * 365 * 24 * 3600;
/// Bytes of the HMAC in a URL.
const MAC_BYTES: usize = 16;

/// Why a URL is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SignError {
    /// A part is missing, doubled or misspelled.
    #[error("the stream or its parameters are malformed")]
    BadUrl,
    /// This server did not issue it, or issued it for something else.
    #[error("the signature is wrong")]
    BadSignature,
    /// Its validity has ended.
    #[error("the URL has expired")]
    Expired,
}

impl SignError {
    /// The error code for the media client.
    #[must_use]
    pub fn code(self) -> &'static str {
        match self {
            SignError::BadUrl => "badUrl",
            SignError::BadSignature => "badSignature",
            SignError::Expired => "expired",
        }
    }
}

/// Issues and verifies URLs.
#[derive(Clone)]
pub struct UrlSigner {
    keyed: Hmac<Sha256>,
    bases: UrlBases,
    ttl_s: u64,
}

impl fmt::Debug for UrlSigner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UrlSigner")
            .field("bases", &self.bases)
            .field("ttl_s", &self.ttl_s)
            .finish_non_exhaustive()
    }
}

impl UrlSigner {
    /// A signer whose URLs are valid for `ttl_s` seconds.
    #[must_use]
    pub fn new(key: &[u8; 32], bases: UrlBases, ttl_s: u64) -> Self {
        UrlSigner { keyed: Hmac::new(&key_block(key)), bases, ttl_s }
    }

    /// Hashes of the URL bases, which show whether they have changed.
    #[must_use]
    pub fn address(&self) -> MediaAddress {
        let number = |text: &str| {
            let digest = Sha256::digest(text);
            digest.first_chunk().map_or(0, |first| u64::from_be_bytes(*first))
        };
        let UrlBases { push, pull_rtmp, pull_flv, rtmps, prefer_rtmps } = &self.bases;
        // Without RTMPS, the hashes are those of processes that did not support it.
        let rtmps = rtmps.as_ref().map(|base| format!(" {base} {prefer_rtmps}"));
        let rtmps = rtmps.unwrap_or_default();
        MediaAddress {
            push: number(&format!("{push}{rtmps}")),
            pull: number(&format!("{pull_rtmp} {pull_flv}{rtmps}")),
        }
    }

    /// Issues the requested URLs.
    #[must_use]
    pub fn mint(&self, request: &MintRequest, now: WallTime) -> Minted {
        let expires_s = now.unix_seconds().saturating_add(self.ttl_s);
        let stream = request.generation.to_string();
        let viewer = request.viewer.map(|mid| mid.to_string());
        let bases = &self.bases;
        let query = self.query(&stream, viewer.as_deref(), expires_s);
        let rtmps = bases.rtmps.as_ref().map(|base| format!("{base}/{stream}?{query}"));
        let urls = match viewer {
            None => Urls {
                rtmp: Some(format!("{}/{stream}?{query}", bases.push)),
                rtmps,
                ..Urls::default()
            },
            Some(_) => {
                let by_http = |end: &str| format!("{}/{stream}.{end}?{query}", bases.pull_flv);
                let flv = by_http("flv");
                Urls {
                    rtmp: Some(format!("{}/{stream}?{query}", bases.pull_rtmp)),
                    rtmps,
                    // The same address by WebSocket: `http` becomes `ws`, and `https` becomes `wss`.
                    ws_flv: flv.strip_prefix("http").map(|rest| format!("ws{rest}")),
                    flv: Some(flv),
                    hls: Some(by_http("m3u8")),
                    ..Urls::default()
                }
            }
        };
        let renew_after_ms = expires_s.saturating_mul(1000).saturating_sub(self.ttl_s * 1000 / 3);
        let url = if bases.prefer_rtmps { &urls.rtmps } else { &urls.rtmp };
        Minted { url: url.clone().unwrap_or_default(), urls, renew_after: WallTime(renew_after_ms) }
    }

    /// The query of a pull URL that is valid as long as its viewer may play: for a process of this server, which gets
    /// no new URL.
    #[must_use]
    pub fn long_play(&self, generation: Gen, viewer: Mid, now: WallTime) -> String {
        let expires_s = now.unix_seconds().saturating_add(LONG_S);
        self.query(&generation.to_string(), Some(&viewer.to_string()), expires_s)
    }

    /// The query for a play if there is a viewer, otherwise for a push.
    fn query(&self, stream: &str, viewer: Option<&str>, expires_s: u64) -> String {
        let exp = expires_s.to_string();
        let direction = if viewer.is_none() { Direction::Publish } else { Direction::Play };
        let full = self.mac(direction, stream, viewer, &exp).finalize().into_bytes();
        let mac = URL_SAFE_NO_PAD.encode(&full[..MAC_BYTES]);
        match viewer {
            None => format!("t={exp}.{mac}"),
            Some(viewer) => format!("{VIEWER}{viewer}&t={exp}.{mac}"),
        }
    }

    /// Verifies a URL: `stream` without `.flv` and the like, `query` raw and without `?`. Parameters other than `t` and
    /// `v` are ignored.
    ///
    /// # Errors
    /// [`SignError`].
    pub fn verify(
        &self,
        direction: Direction,
        stream: &str,
        query: &str,
        now: WallTime,
    ) -> Result<(Gen, Access), SignError> {
        let token = only(query, "t=")?.ok_or(SignError::BadUrl)?;
        let viewer = only(query, VIEWER)?;
        let generation: Gen = stream.parse().map_err(|_| SignError::BadUrl)?;
        let access = match (direction, viewer) {
            (Direction::Publish, None) => Access::Publish,
            (Direction::Play, Some(viewer)) => {
                let viewer: Mid = viewer.parse().map_err(|_| SignError::BadUrl)?;
                Access::Play { viewer }
            }
            _ => return Err(SignError::BadUrl),
        };
        let (exp, mac) = token.split_once('.').ok_or(SignError::BadUrl)?;
        let mac = URL_SAFE_NO_PAD.decode(mac).map_err(|_| SignError::BadUrl)?;
        if mac.len() != MAC_BYTES {
            return Err(SignError::BadUrl);
        }
        self.mac(direction, stream, viewer, exp)
            .verify_truncated_left(&mac)
            .map_err(|_| SignError::BadSignature)?;
        let expires_s: u64 = exp.parse().map_err(|_| SignError::BadUrl)?;
        if now.unix_seconds() >= expires_s {
            return Err(SignError::Expired);
        }
        Ok((generation, access))
    }

    /// The viewer in a query. The signature is not checked; in a valid URL this is the viewer that it was issued for.
    #[must_use]
    pub fn viewer(query: &str) -> Option<Mid> {
        only(query, VIEWER).ok()??.parse().ok()
    }

    fn mac(
        &self,
        direction: Direction,
        stream: &str,
        viewer: Option<&str>,
        exp: &str,
    ) -> Hmac<Sha256> {
        let direction = match direction {
            Direction::Publish => "publish",
            Direction::Play => "play",
        };
        let mut mac = self.keyed.clone();
        for field in ["v1", direction, stream, viewer.unwrap_or_default(), exp] {
            mac.update(&(field.len() as u64).to_be_bytes());
            mac.update(field.as_bytes());
        }
        mac
    }
}

/// The key as a block of HMAC-SHA256, padded with zeros.
fn key_block(key: &[u8; 32]) -> hmac::digest::Key<Hmac<Sha256>> {
    let mut block = hmac::digest::Key::<Hmac<Sha256>>::default();
    block[..key.len()].copy_from_slice(key);
    block
}

/// The value of the parameter that begins with `name`, if there is one. An error if there are several.
fn only<'a>(query: &'a str, name: &str) -> Result<Option<&'a str>, SignError> {
    let mut values = query.split('&').filter_map(|pair| pair.strip_prefix(name));
    let first = values.next();
    if values.next().is_some() { Err(SignError::BadUrl) } else { Ok(first) }
}
