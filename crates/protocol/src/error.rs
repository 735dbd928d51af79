//! Error answers. Comes in and goes out: `error` of a JSON-RPC response. The table of their names is in
//! `wire/error_name.rs`.

use crate::prelude::*;
use core::fmt;

use serde::{Deserialize, Serialize};

use crate::close::Action;
use crate::wire::{Refusal, Wire};

pub use crate::wire::ErrorName;

/// An error answer: `error` of a JSON-RPC response.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Wire)]
pub struct RpcError {
    /// Number of [`ErrorName::code`].
    pub code: i32,
    /// One sentence for people. Never holds a secret.
    pub message: String,
    /// What programs use.
    pub data: Box<ErrorData>,
}

/// `data` of an error answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Wire)]
#[serde(rename_all = "camelCase")]
pub struct ErrorData {
    /// The key of the error.
    pub name: ErrorName,
    /// Whether the same request may succeed later.
    #[serde(default)]
    pub retryable: bool,
    /// What the client should do, where the server knows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub action: Option<Action>,
    /// Path of the offending parameter.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
    /// Milliseconds after which a retry may succeed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after_ms: Option<u64>,
}

impl RpcError {
    /// The error of that name with its standard sentence.
    #[must_use]
    pub fn new(name: ErrorName) -> Self {
        let sentence = name.meaning();
        RpcError::bare(name).message(sentence)
    }

    /// The same without its sentence, for what a client says to itself: `Display` has it.
    #[must_use]
    pub fn bare(name: ErrorName) -> Self {
        RpcError {
            code: name.code(),
            message: String::new(),
            data: Box::new(ErrorData {
                retryable: name.is_retryable(),
                name,
                action: None,
                field: None,
                retry_after_ms: None,
            }),
        }
    }

    /// Replaces the sentence.
    #[must_use]
    pub fn message(mut self, message: impl Into<String>) -> Self {
        self.message = message.into();
        self
    }

    /// Names the offending parameter.
    #[must_use]
    pub fn field(mut self, field: impl Into<String>) -> Self {
        self.data.field = Some(field.into());
        self
    }

    /// Says when to retry.
    #[must_use]
    pub fn retry_after_ms(mut self, ms: u64) -> Self {
        self.data.retry_after_ms = Some(ms);
        self
    }

    /// The key of the error.
    #[must_use]
    pub fn name(&self) -> &ErrorName {
        &self.data.name
    }
}

impl From<ErrorName> for RpcError {
    fn from(name: ErrorName) -> Self {
        RpcError::new(name)
    }
}

impl fmt::Display for RpcError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let RpcError { code, message, data } = self;
        let sentence = if message.is_empty() { data.name.meaning() } else { message };
        write!(f, "{} ({code}): {sentence}", data.name)
    }
}

impl core::error::Error for RpcError {}

/// Longest path of a field that an error names, in characters.
const MAX_FIELD_CHARS: usize = 64;

impl From<Refusal> for RpcError {
    fn from(refusal: Refusal) -> Self {
        let error = RpcError::bare(refusal.name);
        if refusal.field.is_empty() {
            return error;
        }
        error.field(refusal.field.chars().take(MAX_FIELD_CHARS).collect::<String>())
    }
}
