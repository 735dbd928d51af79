//! The secret that resumes a membership, sealed with a key of the deployment: the server stores nothing of it but a
//! number (RES-2, RES-4, RES-9). Comes in: a key and claims, or a text. Goes out: a text, or claims that are genuine.
//!
//! Deliberately absent: whether the membership lives, and whether the ticket is its newest one (the channel).
//!
//! ```text
//!   base64url( version, mid, uid, k, rights, issued, token end, appkey length, appkey, channel, HMAC-SHA256 )
//! ```

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit, Mac};
use lianmai_protocol::limits::MAX_TOKEN_BYTES;
use lianmai_protocol::{Appkey, KindSet, MediaKind, Mid, Rights, UserId, WallTime};
use sha2::Sha256;

use crate::key::ChannelKey;

const VERSION: u8 = 1;
const MAC_BYTES: usize = 32;
/// Bytes of all fields of a fixed length, without the code at the end.
const FIXED_BYTES: usize = 1 + 12 + 8 + 8 + 2 + 8 + 8 + 1;

/// Milliseconds for which a ticket may replace a token, and for which the end of a membership is remembered. A live
/// membership is resumed by its newest tickets, however old they are.
pub const TICKET_MS: u64 = 24 * 3600 * 1000;

/// The key that tickets are sealed with; kept by the deployment, so that tickets outlive a process.
#[derive(Clone, PartialEq, Eq)]
pub struct TicketKey([u8; 32]);

impl TicketKey {
    /// A key of 32 random bytes.
    #[must_use]
    pub fn new(key: [u8; 32]) -> Self {
        TicketKey(key)
    }
}

impl fmt::Debug for TicketKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TicketKey(..)")
    }
}

/// The content of a genuine ticket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TicketClaims {
    /// The channel.
    pub channel: ChannelKey,
    /// The user.
    pub uid: UserId,
    /// The membership.
    pub mid: Mid,
    /// Number of the ticket within the membership.
    pub k: u64,
    /// Rights of the membership when the ticket was made.
    pub rights: Rights,
    /// When it was made.
    pub issued_at: WallTime,
    /// When the token of that time ends the membership, leeway included.
    pub token_end: Option<WallTime>,
}

impl TicketClaims {
    /// The ticket of these claims.
    #[must_use]
    pub fn seal(&self, key: &TicketKey) -> String {
        let (appkey, name) = (self.channel.appkey.as_str(), self.channel.name.as_str());
        let mut bytes = Vec::with_capacity(FIXED_BYTES + appkey.len() + name.len() + MAC_BYTES);
        bytes.push(VERSION);
        bytes.extend(self.mid.0);
        bytes.extend(self.uid.0.to_be_bytes());
        bytes.extend(self.k.to_be_bytes());
        bytes.extend(pack(self.rights).to_be_bytes());
        bytes.extend(self.issued_at.0.to_be_bytes());
        bytes.extend(self.token_end.map_or(u64::MAX, |end| end.0).to_be_bytes());
        bytes.push(u8::try_from(appkey.len()).expect("an appkey has at most 64 bytes"));
        bytes.extend(appkey.as_bytes());
        bytes.extend(name.as_bytes());
        let mac = code(key, &bytes).finalize().into_bytes();
        bytes.extend(mac);
        URL_SAFE_NO_PAD.encode(bytes)
    }

    /// From then on it replaces no token.
    pub(crate) fn replaces_token_until(&self) -> WallTime {
        let whole = WallTime(self.issued_at.0.saturating_add(TICKET_MS));
        self.token_end.map_or(whole, |end| end.min(whole))
    }

    /// Reads a ticket; `None` if it was not sealed with the key.
    #[must_use]
    pub fn open(key: &TicketKey, text: &str) -> Option<TicketClaims> {
        if text.len() > MAX_TOKEN_BYTES {
            return None;
        }
        let bytes = URL_SAFE_NO_PAD.decode(text).ok()?;
        let (said, mac) = bytes.split_last_chunk::<MAC_BYTES>()?;
        code(key, said).verify_slice(mac).ok()?;
        let mut rest = said;
        let [VERSION] = take::<1>(&mut rest)? else { return None };
        let mid = Mid(take(&mut rest)?);
        let uid = UserId(u64::from_be_bytes(take(&mut rest)?));
        let k = u64::from_be_bytes(take(&mut rest)?);
        let rights = unpack(u16::from_be_bytes(take(&mut rest)?));
        let issued_at = WallTime(u64::from_be_bytes(take(&mut rest)?));
        let token_end = Some(u64::from_be_bytes(take(&mut rest)?));
        let token_end = token_end.filter(|end| *end < u64::MAX).map(WallTime);
        let [appkey_bytes] = take::<1>(&mut rest)?;
        let (appkey, name) = rest.split_at_checked(appkey_bytes.into())?;
        let appkey: Appkey = std::str::from_utf8(appkey).ok()?.parse().ok()?;
        let name = std::str::from_utf8(name).ok()?.parse().ok()?;
        let channel = ChannelKey { appkey, name };
        Some(TicketClaims { channel, uid, mid, k, rights, issued_at, token_end })
    }
}

fn code(key: &TicketKey, bytes: &[u8]) -> Hmac<Sha256> {
    let mut code =
        Hmac::<Sha256>::new_from_slice(&key.0).expect("a code takes a key of any length");
    code.update(bytes);
    code
}

fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (taken, left) = rest.split_first_chunk::<N>()?;
    *rest = left;
    Some(*taken)
}

/// Rights as bits: four kinds to publish, four to subscribe to, then the single ones.
fn pack(rights: Rights) -> u16 {
    let kinds = |set: KindSet| {
        let has = |(at, kind)| u16::from(set.contains(kind)) << at;
        MediaKind::ALL.iter().enumerate().map(has).sum::<u16>()
    };
    let flags = [rights.broadcast, rights.tasks, rights.message, rights.moderate];
    let flags: u16 = flags.iter().enumerate().map(|(at, flag)| u16::from(*flag) << at).sum();
    kinds(rights.publish) | kinds(rights.subscribe) << 4 | flags << 8
}

fn unpack(bits: u16) -> Rights {
    let kinds = |bits: u16| {
        let has = |(at, _): &(usize, &MediaKind)| bits >> at & 1 == 1;
        MediaKind::ALL.iter().enumerate().filter(has).map(|(_, kind)| kind.clone()).collect()
    };
    let flag = |at: u16| bits >> at & 1 == 1;
    Rights {
        publish: kinds(bits),
        subscribe: kinds(bits >> 4),
        broadcast: flag(8),
        tasks: flag(9),
        message: flag(10),
        moderate: flag(11),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claims() -> TicketClaims {
        TicketClaims {
            channel: ChannelKey {
                appkey: "demo".parse().unwrap(),
                name: "room 1".parse().unwrap(),
            },
            uid: UserId(u64::MAX),
            mid: Mid([7; 12]),
            k: 3,
            rights: Rights { moderate: true, tasks: false, ..Rights::MEMBER },
            issued_at: WallTime(1),
            token_end: Some(WallTime(2)),
        }
    }

    /// Proves RES-4.
    #[test]
    fn res_2_only_the_key_opens_what_it_sealed() {
        let key = TicketKey::new([1; 32]);
        let ticket = claims().seal(&key);
        assert_eq!(TicketClaims::open(&key, &ticket), Some(claims()));
        assert_eq!(TicketClaims::open(&TicketKey::new([2; 32]), &ticket), None);
        for at in 0..ticket.len() {
            let mut forged = ticket.clone().into_bytes();
            forged[at] = if forged[at] == b'A' { b'B' } else { b'A' };
            let forged = String::from_utf8(forged).unwrap();
            assert_eq!(TicketClaims::open(&key, &forged), None, "character {at}");
            assert_eq!(TicketClaims::open(&key, &ticket[..at]), None, "{at} characters");
        }
        assert_eq!(TicketClaims::open(&key, &"A".repeat(1 << 20)), None);
    }

    /// Proves RES-9.
    #[test]
    fn every_right_survives() {
        for bits in 0..1 << 12 {
            assert_eq!(pack(unpack(bits)), bits);
        }
    }
}
