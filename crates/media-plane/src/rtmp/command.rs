//! RTMP commands.
//!
//! In: bodies of command messages. Out: parsed commands, and bodies of replies. Absent: the state of a connection;
//! messages, see `message.rs`.

use bytes::Bytes;

use super::RtmpError;
use super::amf0::{self, Value};

/// Arguments of a command. The known commands have at most four.
const MAX_ARGUMENTS: usize = 16;

/// A command.
#[derive(Debug, Clone, PartialEq)]
pub struct Command {
    /// Name of the command.
    pub name: String,
    /// Transaction number; 0 asks for no answer.
    pub transaction: f64,
    /// The command object, often null.
    pub object: Value,
    /// The values after the command object.
    pub arguments: Vec<Value>,
}

impl Command {
    /// Parses the body of a command message. Arguments after an unreadable one, and after the 16th, are omitted. A
    /// missing transaction number is read as 0.
    ///
    /// # Errors
    /// If the body does not begin with a name, or if the transaction number or the command object cannot be read.
    pub fn parse(mut payload: &[u8]) -> Result<Self, RtmpError> {
        let Value::String(name) = amf0::decode_first(&mut payload)? else {
            return Err(RtmpError::Command);
        };
        let mut next = || match payload {
            [] => Ok(None),
            _ => amf0::decode_first(&mut payload).map(Some),
        };
        let transaction = next()?.and_then(|value| value.as_number()).unwrap_or(0.0);
        let object = next()?.unwrap_or(Value::Null);
        let arguments = std::iter::from_fn(|| next().ok().flatten());
        let arguments = arguments.take(MAX_ARGUMENTS).collect();
        Ok(Self { name, transaction, object, arguments })
    }

    /// Encodes the body of a command message.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let mut out = Vec::new();
        amf0::encode(&mut out, &Value::String(self.name.clone()));
        amf0::encode(&mut out, &Value::Number(self.transaction));
        amf0::encode(&mut out, &self.object);
        self.arguments.iter().for_each(|value| amf0::encode(&mut out, value));
        out.into()
    }
}

/// The information object of an `onStatus` command or of an error.
pub(super) fn status(level: &str, code: &str, description: &str) -> Value {
    Value::Object(vec![
        ("level".into(), Value::String(level.into())),
        ("code".into(), Value::String(code.into())),
        ("description".into(), Value::String(description.into())),
    ])
}

/// Splits `name?query`. Without `?` the query is empty.
pub(super) fn split_query(text: &str) -> (&str, &str) {
    text.split_once('?').unwrap_or((text, ""))
}
