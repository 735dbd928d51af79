//! Describes types as JSON Schema (draft 2020-12, with keywords that draft 7 has as well). Comes in: types;
//! `#[derive(Wire)]` describes a struct by the attributes of its codecs. Goes out: JSON. Deliberately absent:
//! descriptions of this crate's own types, which are in `message_schemas`.

use crate::prelude::*;
use alloc::collections::BTreeMap;
use alloc::format;

use serde_json::json;
pub use serde_json::{Map as Object, Value};

use crate::limits;
use crate::map::Map;

/// Schemas by name, each defined once.
#[derive(Debug)]
pub struct Definitions {
    /// Prefix of each reference.
    base: &'static str,
    /// For each name, the Rust type that has it and its schema.
    of: BTreeMap<String, (&'static str, Value)>,
}

impl Definitions {
    /// No definitions. References begin with `base`, for example `#/$defs/`.
    #[must_use]
    pub fn new(base: &'static str) -> Self {
        Definitions { base, of: BTreeMap::new() }
    }

    /// Defines a type unless it is defined already, and returns a reference to it.
    ///
    /// # Panics
    /// If two types have the same name. A test makes the documents too, so this is found there.
    pub fn define(
        &mut self,
        name: &str,
        of: &'static str,
        text: &str,
        schema: impl FnOnce(&mut Self) -> Value,
    ) -> Value {
        match self.of.get(name) {
            Some((known, _)) => assert_eq!(*known, of, "two types are called {name}"),
            None => {
                // A type that contains itself finds this entry.
                self.of.insert(name.to_owned(), (of, Value::Null));
                let mut schema = schema(self);
                if let Value::Object(schema) = &mut schema
                    && !text.is_empty()
                {
                    schema.insert("description".to_owned(), text.into());
                }
                self.of.insert(name.to_owned(), (of, schema));
            }
        }
        self.reference(name)
    }

    /// A reference to a type, which may be defined later.
    #[must_use]
    pub fn reference(&self, name: &str) -> Value {
        json!({ "$ref": format!("{}{name}", self.base) })
    }

    /// All definitions.
    #[must_use]
    pub fn into_object(self) -> Object<String, Value> {
        self.of.into_iter().map(|(name, (_, schema))| (name, schema)).collect()
    }
}

/// A type that can describe its values.
pub trait Describe {
    /// Its schema, or a reference to the schema, which it then defines.
    fn describe(definitions: &mut Definitions) -> Value;

    /// The schema of a field that is left out if there is no value.
    fn describe_present(definitions: &mut Definitions) -> Value {
        Self::describe(definitions)
    }
}

/// The fields of an object.
#[derive(Debug, Default)]
pub struct Fields {
    properties: Object<String, Value>,
    required: Vec<Value>,
}

impl Fields {
    /// Adds a field.
    pub fn add(&mut self, name: &str, text: &str, required: bool, mut schema: Value) {
        if schema.get("$ref").is_some() && !text.is_empty() {
            // Some tools ignore keywords beside a reference.
            schema = json!({ "allOf": [schema] });
        }
        if let Value::Object(schema) = &mut schema
            && !text.is_empty()
        {
            schema.insert("description".to_owned(), text.into());
        }
        self.properties.insert(name.to_owned(), schema);
        if required {
            self.required.push(name.into());
        }
    }

    /// The schema of the object. It allows other fields, which readers ignore (FWD-2).
    #[must_use]
    pub fn object(self) -> Value {
        let Fields { properties, required } = self;
        match required.is_empty() {
            true => json!({ "type": "object", "properties": properties }),
            false => json!({ "type": "object", "properties": properties, "required": required }),
        }
    }
}

macro_rules! plain {
    ($( $name:ty => $schema:expr; )+) => {
        $( impl Describe for $name {
            fn describe(_: &mut Definitions) -> Value {
                $schema
            }
        } )+
    };
}

plain! {
    bool => json!({ "type": "boolean" });
    u8 => json!({ "type": "integer", "minimum": 0, "maximum": u8::MAX });
    u16 => json!({ "type": "integer", "minimum": 0, "maximum": u16::MAX });
    u32 => json!({ "type": "integer", "minimum": 0, "maximum": u32::MAX });
    u64 => json!({ "type": "integer", "minimum": 0, "maximum": limits::MAX_REQUEST_ID });
    i32 => json!({ "type": "integer", "minimum": i32::MIN, "maximum": i32::MAX });
    String => json!({ "type": "string" });
}

impl<T: Describe> Describe for Option<T> {
    fn describe(definitions: &mut Definitions) -> Value {
        json!({ "anyOf": [T::describe(definitions), { "type": "null" }] })
    }

    fn describe_present(definitions: &mut Definitions) -> Value {
        T::describe(definitions)
    }
}

impl<T: Describe> Describe for Box<T> {
    fn describe(definitions: &mut Definitions) -> Value {
        T::describe(definitions)
    }
}

impl<T: Describe> Describe for Vec<T> {
    fn describe(definitions: &mut Definitions) -> Value {
        json!({ "type": "array", "items": T::describe(definitions) })
    }
}

impl<V: Describe> Describe for Map<String, V> {
    fn describe(definitions: &mut Definitions) -> Value {
        json!({ "type": "object", "additionalProperties": V::describe(definitions) })
    }
}

/// A text that is one of `names`, or a name of a newer version (FWD-3).
#[must_use]
pub fn open(names: &[&str]) -> Value {
    json!({ "type": "string", "x-extensible-enum": names })
}

/// A method, event or notice.
#[derive(Clone, Debug)]
pub struct MessageSchema {
    /// Its name.
    pub method: &'static str,
    /// Its purpose.
    pub text: &'static str,
    /// The schema of its parameters.
    pub params: Value,
    /// The schema of the result; only a method has one.
    pub result: Option<Value>,
}
