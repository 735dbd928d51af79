//! JSON that is passed on as text. Comes in and goes out: text that another program wrote. Deliberately absent: reading
//! its content.

use crate::prelude::*;
use core::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use serde_json::value::RawValue;

use crate::error::ErrorName;
use crate::wire::{self, Read, Reader, Refused, Wire, Write, Writer};

/// A JSON value as it was written. `Debug` shows only its length, because it may contain secrets.
#[derive(Clone, PartialEq, Eq)]
pub struct RawJson(Box<str>);

impl RawJson {
    /// The text.
    #[must_use]
    pub fn get(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for RawJson {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RawJson({} bytes)", self.0.len())
    }
}

impl Read for RawJson {
    fn read(&mut self, reader: &mut Reader<'_>) -> Result<(), Refused> {
        self.0 = reader.raw()?.into();
        Ok(())
    }
}

impl Write for RawJson {
    fn write(&self, writer: &mut Writer) {
        writer.raw(&self.0);
    }
}

impl Wire for RawJson {
    fn blank() -> Self {
        RawJson("null".into())
    }
}

impl Serialize for RawJson {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let raw =
            RawValue::from_string(self.0.clone().into()).map_err(serde::ser::Error::custom)?;
        raw.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for RawJson {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Box::<RawValue>::deserialize(deserializer).map(|raw| RawJson(raw.get().into()))
    }
}

/// A JSON object as it was written, whose members the server does not interpret.
#[derive(Clone, PartialEq, Eq)]
pub struct JsonObject(RawJson);

impl JsonObject {
    /// The text.
    #[must_use]
    pub fn get(&self) -> &str {
        self.0.get()
    }
}

impl Default for JsonObject {
    /// `{}`
    fn default() -> Self {
        JsonObject(RawJson("{}".into()))
    }
}

impl fmt::Debug for JsonObject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl core::str::FromStr for JsonObject {
    type Err = ErrorName;

    /// # Errors
    /// `invalidParams` if the text is not a JSON object.
    fn from_str(text: &str) -> Result<Self, ErrorName> {
        wire::from_text(text).map_err(|refusal| ErrorName::from(&*refusal.name))
    }
}

impl From<serde_json::Map<alloc::string::String, serde_json::Value>> for JsonObject {
    fn from(map: serde_json::Map<alloc::string::String, serde_json::Value>) -> Self {
        let text = serde_json::to_string(&map).expect("an object has string keys");
        JsonObject(RawJson(text.into()))
    }
}

impl Read for JsonObject {
    fn read(&mut self, reader: &mut Reader<'_>) -> Result<(), Refused> {
        if reader.peek() != Some(b'{') {
            return reader.wrong();
        }
        self.0.read(reader)
    }
}

impl Write for JsonObject {
    fn write(&self, writer: &mut Writer) {
        self.0.write(writer);
    }
}

impl Wire for JsonObject {
    fn blank() -> Self {
        JsonObject::default()
    }
}

impl Serialize for JsonObject {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for JsonObject {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let raw = RawJson::deserialize(deserializer)?;
        if raw.get().starts_with('{') {
            Ok(JsonObject(raw))
        } else {
            Err(de::Error::custom("an object is expected"))
        }
    }
}
