//! The JSON Schema of the document.

/// JSON Schema, draft 7, which every editor's YAML support understands. It knows each setting by itself; what settings mean
/// together only [`crate::parse`] can tell.
pub const SCHEMA: &str = include_str!("../schema/desired-state.v1.json");

#[cfg(test)]
pub(crate) use generate::{Field, record};

#[cfg(test)]
mod generate {
    use serde_json::{Map, Value, json};

    use crate::reader::Value as _;

    /// One setting of a record.
    pub(crate) struct Field {
        pub key: &'static str,
        pub about: String,
        pub required: bool,
        pub default: Option<Value>,
        pub schema: Value,
    }

    /// The schema of a map with known keys.
    pub(crate) fn record(about: &str, fields: Vec<Field>) -> Value {
        let required: Vec<_> = fields.iter().filter(|field| field.required).map(|field| field.key).collect();
        let mut properties = Map::new();
        for Field { key, about, default, mut schema, .. } in fields {
            // The description of the place says more than that of the type.
            schema["description"] = about.trim().into();
            if let Some(default) = default {
                schema["default"] = default;
            }
            properties.insert(key.to_owned(), schema);
        }
        let mut schema = json!({
            "type": "object",
            "description": about.trim(),
            "properties": properties,
            "additionalProperties": false,
        });
        if !required.is_empty() {
            schema["required"] = required.into();
        }
        schema
    }

    #[test]
    fn the_schema_file_is_the_one_that_the_parser_implies() {
        let mut schema = crate::written::Document::schema();
        schema["$schema"] = "http://json-schema.org/draft-07/schema#".into();
        schema["title"] = "Ebb desired state, version 1".into();
        let text = serde_json::to_string_pretty(&schema).unwrap();
        expectorate::assert_contents("schema/desired-state.v1.json", &(text + "\n"));
    }
}
