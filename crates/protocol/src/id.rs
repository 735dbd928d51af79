//! Identifiers that can only be built valid. Comes in: text or numbers from a peer. Goes out: a value with one
//! canonical spelling, so that two ids are equal exactly if they mean the same thing.
//!
//! The message of a failed parse begins with the name of its [`crate::ErrorName`]; the codec relies on this prefix.

use crate::prelude::*;
use alloc::borrow::Cow;
use core::fmt;
use core::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::error::ErrorName;
use crate::limits;
use crate::wire::{Read, Reader, Refused, Wire, Write, Writer, text_codec};

/// Why a value is not an id. `Display` starts with the wire name of the error.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{name}: {}", name.meaning())]
pub struct IdError {
    /// The error that the peer receives.
    pub name: ErrorName,
}

impl IdError {
    fn new(name: ErrorName) -> Self {
        IdError { name }
    }
}

/// A user of an app: an integer 0..=2^64-1 (FRM-9). On the wire a decimal string without
/// sign, leading zero or space; from clients also a JSON integer up to 2^53-1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UserId(pub u64);

/// Greatest integer that JavaScript and other double-based peers write exactly.
const MAX_EXACT: u64 = (1 << 53) - 1;

impl FromStr for UserId {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        let canonical = !text.is_empty()
            && text.bytes().all(|b| b.is_ascii_digit())
            && (text.len() == 1 || !text.starts_with('0'));
        if !canonical {
            return Err(IdError::new(ErrorName::BadUid));
        }
        text.parse().map(UserId).map_err(|_| IdError::new(ErrorName::UidOutOfRange))
    }
}

impl fmt::Display for UserId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl From<u64> for UserId {
    fn from(uid: u64) -> Self {
        UserId(uid)
    }
}

impl Serialize for UserId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for UserId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Uid;
        impl de::Visitor<'_> for Uid {
            type Value = UserId;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a uid as a decimal string")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<UserId, E> {
                text.parse().map_err(E::custom)
            }
            fn visit_u64<E: de::Error>(self, number: u64) -> Result<UserId, E> {
                if number <= MAX_EXACT {
                    Ok(UserId(number))
                } else {
                    Err(E::custom(IdError::new(ErrorName::BadUid)))
                }
            }
            fn visit_i64<E: de::Error>(self, _: i64) -> Result<UserId, E> {
                Err(E::custom(IdError::new(ErrorName::BadUid)))
            }
            fn visit_f64<E: de::Error>(self, _: f64) -> Result<UserId, E> {
                Err(E::custom(IdError::new(ErrorName::BadUid)))
            }
            fn visit_bool<E: de::Error>(self, _: bool) -> Result<UserId, E> {
                Err(E::custom(IdError::new(ErrorName::BadUid)))
            }
        }
        deserializer.deserialize_any(Uid)
    }
}

impl Read for UserId {
    fn read(&mut self, reader: &mut Reader<'_>) -> Result<(), Refused> {
        let read = match reader.peek() {
            Some(b'-' | b'0'..=b'9') => match reader.number()?.parse() {
                Ok(number) if number <= MAX_EXACT => Ok(UserId(number)),
                _ => Err(ErrorName::BadUid),
            },
            Some(b't' | b'f') => {
                reader.bool()?;
                Err(ErrorName::BadUid)
            }
            _ => reader.string()?.parse().map_err(|error: IdError| error.name),
        };
        match read {
            Ok(uid) => *self = uid,
            Err(name) => return reader.refuse(String::from(name.as_str())),
        }
        Ok(())
    }
}

impl Write for UserId {
    fn write(&self, writer: &mut Writer) {
        write_quoted(self.0, writer);
    }
}

impl Wire for UserId {
    fn blank() -> Self {
        UserId(0)
    }
}

/// A number as a decimal string.
fn write_quoted(number: u64, writer: &mut Writer) {
    writer.raw("\"");
    writer.number(number);
    writer.raw("\"");
}

#[cfg(feature = "bignum")]
impl TryFrom<&num_bigint::BigUint> for UserId {
    type Error = IdError;

    /// # Errors
    /// `uidOutOfRange` above 2^64-1.
    fn try_from(value: &num_bigint::BigUint) -> Result<Self, IdError> {
        u64::try_from(value).map(UserId).map_err(|_| IdError::new(ErrorName::UidOutOfRange))
    }
}

#[cfg(feature = "bignum")]
impl From<UserId> for num_bigint::BigUint {
    fn from(uid: UserId) -> Self {
        num_bigint::BigUint::from(uid.0)
    }
}

/// Defines a validated text newtype.
macro_rules! text_id {
    ($(#[$meta:meta])* $name:ident, $error:expr, $valid:expr) => {
        $(#[$meta])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Box<str>);

        impl $name {
            /// The text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = IdError;

            fn from_str(text: &str) -> Result<Self, IdError> {
                let valid: fn(&str) -> bool = $valid;
                if valid(text) { Ok(Self(text.into())) } else { Err(IdError::new($error)) }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        text_codec!(
            $name,
            $name(Box::default()),
            |text| text.parse().map_err(|error: IdError| error.name),
            |value, writer| writer.string(&value.0)
        );

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.0)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                Cow::<'de, str>::deserialize(deserializer)?.parse().map_err(de::Error::custom)
            }
        }
    };
}

/// Whether a path of a URL can hold the text as a segment: clients resolve `.` and `..`, also if they are percent-encoded.
fn is_path_segment(text: &str) -> bool {
    !matches!(text, "." | "..")
}

/// Whether a channel name may have the byte (FRM-11): letters, digits, space and 27 marks.
fn is_channel_name_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b" !#$%&()+-:;<=.,>?@[]^_{}~\"|".contains(&byte)
}

text_id! {
    /// Name of a channel: 1-64 bytes of the 90 characters that FRM-11 allows, except `.` and `..`. The same name
    /// in another app is another channel.
    ChannelName, ErrorName::BadChannelName, |text| {
        (1..=limits::MAX_CHANNEL_NAME_BYTES).contains(&text.len())
            && text.bytes().all(is_channel_name_byte)
            && is_path_segment(text)
    }
}

text_id! {
    /// Key of an app: 1-64 bytes of letters, digits, `_`, `-` and `.`, except `.` and `..`.
    Appkey, ErrorName::BadAppkey, |text| {
        (1..=limits::MAX_APPKEY_BYTES).contains(&text.len())
            && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-.".contains(&b))
            && is_path_segment(text)
    }
}

text_id! {
    /// Id of a push task, chosen by the client: 1-64 letters, digits and underscores.
    TaskId, ErrorName::BadTask, |text| {
        (1..=limits::MAX_TASK_ID_BYTES).contains(&text.len())
            && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
    }
}

const BASE32: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";

/// Bytes as lower-case base32 without padding.
fn base32(bytes: &[u8]) -> String {
    let mut text = String::with_capacity((bytes.len() * 8).div_ceil(5));
    let (mut buffer, mut bits) = (0u32, 0u32);
    let mut put = |value: u32| text.push(char::from(BASE32[(value & 31) as usize]));
    for &byte in bytes {
        buffer = (buffer << 8) | u32::from(byte);
        bits += 8;
        while bits >= 5 {
            bits -= 5;
            put(buffer >> bits);
        }
        buffer &= (1 << bits) - 1;
    }
    if bits > 0 {
        put(buffer << (5 - bits));
    }
    text
}

/// Reads the output of [`base32`]; `None` for another length, character or spelling.
fn read_base32<const N: usize>(text: &str) -> Option<[u8; N]> {
    if text.len() != (N * 8).div_ceil(5) {
        return None;
    }
    let mut bytes = [0; N];
    let (mut buffer, mut bits, mut at) = (0u32, 0u32, 0);
    for letter in text.bytes() {
        let value = BASE32.iter().position(|&b| b == letter)?;
        buffer = (buffer << 5) | value as u32;
        bits += 5;
        if bits >= 8 {
            bits -= 8;
            bytes[at] = (buffer >> bits) as u8;
            at += 1;
        }
        buffer &= (1 << bits) - 1;
    }
    (buffer == 0).then_some(bytes)
}

/// Defines a random id that travels as base32 text.
macro_rules! random_id {
    ($(#[$meta:meta])* $name:ident, $bytes:literal) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub [u8; $bytes]);

        text_codec!(
            $name,
            $name([0; $bytes]),
            |text| text.parse().map_err(|error: IdError| error.name),
            |value, writer| writer.string(&base32(&value.0))
        );

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&base32(&self.0))
            }
        }

        impl FromStr for $name {
            type Err = IdError;

            fn from_str(text: &str) -> Result<Self, IdError> {
                read_base32(text).map($name).ok_or(IdError::new(ErrorName::InvalidParams))
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                Cow::<'de, str>::deserialize(deserializer)?.parse().map_err(de::Error::custom)
            }
        }
    };
}

random_id! {
    /// One incarnation of a channel's event log. Only equality has a meaning (FRM-10).
    Epoch, 12
}
random_id! {
    /// One membership: the stay of one uid in one channel, across resumes. Public within the channel.
    Mid, 12
}
random_id! {
    /// One publication: one kind of one membership, from its beginning to its end.
    Pub, 12
}
random_id! {
    /// One session of a client. Only this client knows it, but it is no secret: it authorises nothing.
    SessionId, 12
}

/// The lifetime of one push URL, and the name of its stream on the media server: `[a-z2-7]{26}`. The first four bytes
/// determine the shard that owns the channel; the rest is random.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Gen {
    /// Routing value of the channel.
    pub route: u32,
    /// Random part, never reused.
    pub random: [u8; 12],
}

impl Gen {
    fn base32(&self) -> String {
        let mut bytes = [0; 16];
        bytes[..4].copy_from_slice(&self.route.to_be_bytes());
        bytes[4..].copy_from_slice(&self.random);
        base32(&bytes)
    }
}

text_codec!(
    Gen,
    Gen { route: 0, random: [0; 12] },
    |text| text.parse().map_err(|error: IdError| error.name),
    |value, writer| writer.string(&value.base32())
);

impl fmt::Display for Gen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.base32())
    }
}

impl FromStr for Gen {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        let bytes: [u8; 16] = read_base32(text).ok_or(IdError::new(ErrorName::InvalidParams))?;
        let (mut route, mut random) = ([0; 4], [0; 12]);
        route.copy_from_slice(&bytes[..4]);
        random.copy_from_slice(&bytes[4..]);
        Ok(Gen { route: u32::from_be_bytes(route), random })
    }
}

impl Serialize for Gen {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Gen {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Cow::<'de, str>::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

/// Number of one incarnation of a channel, 1..2^53-1, as a decimal string on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Cid(pub u64);

impl fmt::Display for Cid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for Cid {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        match text.parse::<UserId>() {
            Ok(UserId(number)) if number <= MAX_EXACT => Ok(Cid(number)),
            _ => Err(IdError::new(ErrorName::InvalidParams)),
        }
    }
}

text_codec!(
    Cid,
    Cid(0),
    |text| text.parse().map_err(|error: IdError| error.name),
    |value, writer| write_quoted(value.0, writer)
);

impl Serialize for Cid {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Cid {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Cow::<'de, str>::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

/// Id of a request: an integer from 1 that grows with each command of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct RequestId(pub u64);

impl<'de> Deserialize<'de> for RequestId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let id = u64::deserialize(deserializer)?;
        if (1..=limits::MAX_REQUEST_ID).contains(&id) {
            Ok(RequestId(id))
        } else {
            Err(de::Error::custom(IdError::new(ErrorName::InvalidRequest)))
        }
    }
}

impl Read for RequestId {
    fn read(&mut self, reader: &mut Reader<'_>) -> Result<(), Refused> {
        self.0.read(reader)?;
        if (1..=limits::MAX_REQUEST_ID).contains(&self.0) {
            Ok(())
        } else {
            reader.refuse("invalidRequest")
        }
    }
}

impl Write for RequestId {
    fn write(&self, writer: &mut Writer) {
        self.0.write(writer);
    }
}

impl Wire for RequestId {
    fn blank() -> Self {
        RequestId(1)
    }
}
