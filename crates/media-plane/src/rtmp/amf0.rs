//! AMF0 values with bounded sizes.
//!
//! In: the body of a command or data message. Out: values, or their bytes. Absent: the objects that references refer
//! to; AMF3; allocation according to an announced count.

use super::RtmpError;
use super::limits::{AMF0_MAX_DEPTH, AMF0_MAX_ELEMENTS, AMF0_MAX_STRING};

mod marker {
    pub(super) const NUMBER: u8 = 0x00;
    pub(super) const BOOLEAN: u8 = 0x01;
    pub(super) const STRING: u8 = 0x02;
    pub(super) const OBJECT: u8 = 0x03;
    pub(super) const NULL: u8 = 0x05;
    pub(super) const UNDEFINED: u8 = 0x06;
    pub(super) const REFERENCE: u8 = 0x07;
    pub(super) const ECMA_ARRAY: u8 = 0x08;
    pub(super) const OBJECT_END: u8 = 0x09;
    pub(super) const STRICT_ARRAY: u8 = 0x0A;
    pub(super) const DATE: u8 = 0x0B;
    pub(super) const LONG_STRING: u8 = 0x0C;
    pub(super) const UNSUPPORTED: u8 = 0x0D;
    pub(super) const XML: u8 = 0x0F;
    pub(super) const TYPED_OBJECT: u8 = 0x10;
}

/// One AMF0 value. In strings, bytes that are not UTF-8 are replaced by U+FFFD.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// A number.
    Number(f64),
    /// A boolean.
    Boolean(bool),
    /// A string, long string or XML document.
    String(String),
    /// An object, typed or not, with its fields in order.
    Object(Vec<(String, Value)>),
    /// Null.
    Null,
    /// Undefined or unsupported, or a reference.
    Undefined,
    /// An ECMA (associative) array.
    EcmaArray(Vec<(String, Value)>),
    /// A strict array.
    StrictArray(Vec<Value>),
    /// A date: milliseconds since 1970. The time zone is dropped.
    Date(f64),
}

impl Value {
    /// The text, if this is a string.
    #[must_use]
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Self::String(text) => Some(text),
            _ => None,
        }
    }

    /// The value, if this is a number.
    #[must_use]
    pub fn as_number(&self) -> Option<f64> {
        match self {
            Self::Number(number) => Some(*number),
            _ => None,
        }
    }

    /// The first field with this name, if this is an object or ECMA array.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Value> {
        match self {
            Self::Object(fields) | Self::EcmaArray(fields) => {
                fields.iter().find(|(key, _)| key == name).map(|(_, value)| value)
            }
            _ => None,
        }
    }
}

/// Decodes all values of a message.
///
/// # Errors
/// If the data is truncated, exceeds a bound, or contains an unsupported marker.
pub fn decode_all(mut input: &[u8]) -> Result<Vec<Value>, RtmpError> {
    let mut decoder = Decoder { elements: AMF0_MAX_ELEMENTS };
    let mut values = Vec::new();
    while !input.is_empty() {
        values.push(decoder.value(&mut input, 0)?);
    }
    Ok(values)
}

/// Decodes the first value and removes it from the front of `input`.
///
/// # Errors
/// As [`decode_all`].
pub fn decode_first(input: &mut &[u8]) -> Result<Value, RtmpError> {
    Decoder { elements: AMF0_MAX_ELEMENTS }.value(input, 0)
}

struct Decoder {
    elements: usize,
}

impl Decoder {
    fn value(&mut self, input: &mut &[u8], depth: usize) -> Result<Value, RtmpError> {
        if depth >= AMF0_MAX_DEPTH {
            return Err(RtmpError::Amf0Depth);
        }
        self.elements = self.elements.checked_sub(1).ok_or(RtmpError::Amf0Elements)?;
        let [marker] = take(input)?;
        Ok(match marker {
            marker::NUMBER => Value::Number(f64::from_be_bytes(take(input)?)),
            marker::BOOLEAN => Value::Boolean(take::<1>(input)? != [0]),
            marker::STRING => Value::String(short_string(input)?),
            marker::OBJECT => Value::Object(self.fields(input, depth)?),
            marker::NULL => Value::Null,
            marker::UNDEFINED | marker::UNSUPPORTED => Value::Undefined,
            marker::REFERENCE => {
                take::<2>(input)?;
                Value::Undefined
            }
            marker::ECMA_ARRAY => {
                // The announced count is only a hint.
                take::<4>(input)?;
                Value::EcmaArray(self.fields(input, depth)?)
            }
            marker::STRICT_ARRAY => {
                let count = u32::from_be_bytes(take(input)?);
                let mut values = Vec::new();
                for _ in 0..count {
                    values.push(self.value(input, depth + 1)?);
                }
                Value::StrictArray(values)
            }
            marker::DATE => {
                let value = f64::from_be_bytes(take(input)?);
                take::<2>(input)?;
                Value::Date(value)
            }
            marker::LONG_STRING | marker::XML => {
                let length = u32::from_be_bytes(take(input)?) as usize;
                Value::String(string(input, length)?)
            }
            marker::TYPED_OBJECT => {
                short_string(input)?;
                Value::Object(self.fields(input, depth)?)
            }
            other => return Err(RtmpError::Amf0Marker(other)),
        })
    }

    fn fields(
        &mut self,
        input: &mut &[u8],
        depth: usize,
    ) -> Result<Vec<(String, Value)>, RtmpError> {
        let mut fields = Vec::new();
        loop {
            let key = short_string(input)?;
            if key.is_empty() && input.first() == Some(&marker::OBJECT_END) {
                *input = &input[1..];
                return Ok(fields);
            }
            fields.push((key, self.value(input, depth + 1)?));
        }
    }
}

fn take<const N: usize>(input: &mut &[u8]) -> Result<[u8; N], RtmpError> {
    let (head, tail) = input.split_first_chunk::<N>().ok_or(RtmpError::Amf0Truncated)?;
    *input = tail;
    Ok(*head)
}

fn short_string(input: &mut &[u8]) -> Result<String, RtmpError> {
    let length = usize::from(u16::from_be_bytes(take(input)?));
    string(input, length)
}

fn string(input: &mut &[u8], length: usize) -> Result<String, RtmpError> {
    if length > AMF0_MAX_STRING {
        return Err(RtmpError::Amf0String);
    }
    let (head, tail) = input.split_at_checked(length).ok_or(RtmpError::Amf0Truncated)?;
    *input = tail;
    Ok(String::from_utf8_lossy(head).into_owned())
}

/// Appends the encoding of a value.
pub fn encode(out: &mut Vec<u8>, value: &Value) {
    match value {
        Value::Number(number) => {
            out.push(marker::NUMBER);
            out.extend_from_slice(&number.to_be_bytes());
        }
        Value::Boolean(value) => out.extend_from_slice(&[marker::BOOLEAN, u8::from(*value)]),
        Value::String(text) => match u16::try_from(text.len()) {
            Ok(_) => {
                out.push(marker::STRING);
                encode_key(out, text);
            }
            Err(_) => {
                out.push(marker::LONG_STRING);
                out.extend_from_slice(&u32::try_from(text.len()).unwrap_or(u32::MAX).to_be_bytes());
                out.extend_from_slice(text.as_bytes());
            }
        },
        Value::Object(fields) => {
            out.push(marker::OBJECT);
            encode_fields(out, fields);
        }
        Value::Null => out.push(marker::NULL),
        Value::Undefined => out.push(marker::UNDEFINED),
        Value::EcmaArray(fields) => {
            out.push(marker::ECMA_ARRAY);
            out.extend_from_slice(&u32::try_from(fields.len()).unwrap_or(u32::MAX).to_be_bytes());
            encode_fields(out, fields);
        }
        Value::StrictArray(values) => {
            out.push(marker::STRICT_ARRAY);
            out.extend_from_slice(&u32::try_from(values.len()).unwrap_or(u32::MAX).to_be_bytes());
            values.iter().for_each(|value| encode(out, value));
        }
        Value::Date(value) => {
            out.push(marker::DATE);
            out.extend_from_slice(&value.to_be_bytes());
            out.extend_from_slice(&[0, 0]);
        }
    }
}

fn encode_fields(out: &mut Vec<u8>, fields: &[(String, Value)]) {
    for (key, value) in fields {
        encode_key(out, key);
        encode(out, value);
    }
    out.extend_from_slice(&[0, 0, marker::OBJECT_END]);
}

/// Encodes a key. A key that is longer than its length field can express is truncated.
fn encode_key(out: &mut Vec<u8>, key: &str) {
    let length = u16::try_from(key.len()).unwrap_or(u16::MAX);
    out.extend_from_slice(&length.to_be_bytes());
    out.extend_from_slice(&key.as_bytes()[..usize::from(length)]);
}

#[cfg(test)]
mod tests {
    //! Proves no rule of the protocol: AMF0.

    use super::*;

    #[test]
    fn values_survive_a_round_trip() {
        let value = Value::Object(vec![
            ("app".into(), Value::String("live".into())),
            ("long".into(), Value::String("x".repeat(30_000))),
            (
                "list".into(),
                Value::StrictArray(vec![Value::Number(1.5), Value::Null, Value::Undefined]),
            ),
            (
                "map".into(),
                Value::EcmaArray(vec![
                    ("on".into(), Value::Boolean(true)),
                    ("at".into(), Value::Date(7.0)),
                ]),
            ),
        ]);
        let mut bytes = Vec::new();
        encode(&mut bytes, &value);
        assert_eq!(decode_all(&bytes), Ok(vec![value]));
    }

    #[test]
    fn ten_thousand_nested_objects_are_refused() {
        let bytes = [0x03, 0x00, 0x01, b'a'].repeat(10_000);
        assert_eq!(decode_all(&bytes), Err(RtmpError::Amf0Depth));
        let arrays = [0x0A, 0, 0, 0, 1].repeat(10_000);
        assert_eq!(decode_all(&arrays), Err(RtmpError::Amf0Depth));
    }

    #[test]
    fn announced_counts_are_not_trusted() {
        assert_eq!(decode_all(&[0x0A, 0xFF, 0xFF, 0xFF, 0xFF]), Err(RtmpError::Amf0Truncated));
        assert_eq!(decode_all(&[0x0C, 0xFF, 0xFF, 0xFF, 0xFF]), Err(RtmpError::Amf0String));
        assert_eq!(decode_all(&[0x05; 2000]), Err(RtmpError::Amf0Elements));
        assert_eq!(decode_all(&[0x02, 0, 5, b'a']), Err(RtmpError::Amf0Truncated));
        assert_eq!(decode_all(&[0x11, 0x0A]), Err(RtmpError::Amf0Marker(0x11)));
    }

    #[test]
    fn a_reference_is_an_unknown_value() {
        assert_eq!(decode_all(&[0x07, 0, 0, 0x05]), Ok(vec![Value::Undefined, Value::Null]));
        assert_eq!(decode_all(&[0x07, 0]), Err(RtmpError::Amf0Truncated));
    }
}
