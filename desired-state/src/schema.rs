//! The JSON Schema of the document.

/// JSON Schema, draft 7, which every editor's YAML support understands. It knows each setting by itself; what settings mean
/// together only [`crate::parse`] can tell.
pub const SCHEMA: &str = include_str!("../schema/desired-state.v1.json");

#[cfg(test)]
pub(crate) use generate::{Field, record};

#[cfg(test)]
mod generate {
    use serde_json::{Map, Value, json};

    use crate::reader::{Record, Value as _};
    use crate::written;

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
        let mut schema = written::Document::schema();
        schema["$schema"] = "http://json-schema.org/draft-07/schema#".into();
        schema["title"] = "Ebb desired state, version 1".into();
        let text = serde_json::to_string_pretty(&schema).unwrap();
        expectorate::assert_contents("schema/desired-state.v1.json", &(text + "\n"));
    }

    /// The settings of one record, in the order in which they are declared.
    fn table<R: Record + crate::reader::Value>(path: &str) -> String {
        let about = R::schema()["description"].as_str().unwrap().to_owned();
        let mut text = format!("### {path}\n\n{about}\n\n| setting | default | meaning |\n|---|---|---|\n");
        for Field { key, about, required, default, .. } in R::fields() {
            let default = match default {
                _ if required => "required".to_owned(),
                None => String::new(),
                Some(Value::String(text)) => format!("`{text}`"),
                Some(value) => format!("`{}`", value.to_string().replace(',', ", ")),
            };
            text.push_str(&format!("| `{key}` | {default} | {} |\n", about.trim()));
        }
        text + "\n"
    }

    #[test]
    fn the_tables_of_the_readme_are_those_that_the_parser_implies() {
        let tables = [
            table::<written::Document>("The document"),
            table::<written::Limits>("`limits`"),
            table::<written::Suspension>("`suspended`"),
            table::<written::Defaults>("`defaults`"),
            table::<written::User>("`users[]`"),
            table::<written::Session>("`sessions[]`"),
            table::<written::Schedule>("`schedule`"),
            table::<written::Dns>("`dns`"),
            table::<written::Addresses>("`addresses`"),
            table::<written::Size>("`size`"),
            table::<written::Network>("`network`"),
        ];
        let [begin, end] =
            ["begin", "end"].map(|part| format!("<!-- generated from the parser: {part} -->\n"));
        let readme = std::fs::read_to_string("README.md").unwrap();
        let (before, rest) = readme.split_once(&begin).unwrap();
        let (_, after) = rest.split_once(&end).unwrap();
        let expected = format!("{before}{begin}\n{}{end}{after}", tables.concat());
        expectorate::assert_contents("README.md", &expected);
    }
}
