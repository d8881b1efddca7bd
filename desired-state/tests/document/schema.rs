//! The schema that editors use, tried by a validator that others wrote.

use std::fs;

use ebb_desired_state::SCHEMA;
use serde_json::Value;

use crate::examples::{COMPLETE, files};
use crate::reject::corpus;

pub(crate) struct Schema {
    schemas: boon::Schemas,
    index: boon::SchemaIndex,
}

impl Schema {
    pub(crate) fn new() -> Self {
        let mut schemas = boon::Schemas::new();
        let mut compiler = boon::Compiler::new();
        compiler.add_resource("schema.json", serde_json::from_str(SCHEMA).unwrap()).unwrap();
        let index = compiler.compile("schema.json", &mut schemas).unwrap();
        Self { schemas, index }
    }

    /// What an editor would underline.
    pub(crate) fn objection(&self, yaml: &str) -> Option<String> {
        let options = serde_saphyr::options! { strict_booleans: true, underscored_numbers_as_strings: true };
        let value: Value = serde_saphyr::from_str_with_options(yaml, options).unwrap();
        self.schemas.validate(&value, self.index).err().map(|error| error.to_string())
    }
}

#[test]
fn the_schema_accepts_every_example() {
    let schema = Schema::new();
    for path in files() {
        assert_eq!(schema.objection(&fs::read_to_string(&path).unwrap()), None, "{path:?}");
    }
    assert_eq!(schema.objection(COMPLETE), None);
}

/// What one setting shows by itself, an editor shows while it is typed.
#[test]
fn the_schema_objects_to_mistakes_within_one_setting() {
    let schema = Schema::new();
    let names = [
        "deployment-name",
        "keepalive",
        "limits",
        "missing-lists",
        "newer-version",
        "not-a-map",
        "ports",
        "session-names",
        "suspended",
        "unknown-fields",
        "user-names",
        "wrong-types",
    ];
    for name in names {
        let path =
            corpus().into_iter().find(|path| path.file_stem().is_some_and(|stem| stem == name)).unwrap();
        assert!(schema.objection(&fs::read_to_string(&path).unwrap()).is_some(), "{name}");
    }
}

#[test]
fn every_setting_has_a_description() {
    fn check(path: &str, schema: &Value) -> usize {
        let Some(properties) = schema.get("properties").and_then(Value::as_object) else {
            let inner = schema
                .get("items")
                .into_iter()
                .chain(schema.get("anyOf").and_then(Value::as_array).into_iter().flatten());
            return inner.map(|schema| check(path, schema)).sum();
        };
        properties
            .iter()
            .map(|(name, setting)| {
                let path = format!("{path}.{name}");
                let about = setting["description"].as_str().unwrap_or_default();
                assert!(about.len() > 10 && about.ends_with('.'), "{path}: {about:?}");
                assert!(!about.contains("[`"), "{path}: editors do not follow links of rustdoc");
                1 + check(&path, setting)
            })
            .sum()
    }
    assert!(check("", &serde_json::from_str(SCHEMA).unwrap()) > 50);
}
