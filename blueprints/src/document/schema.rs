//! The JSON Schema of a blueprint, for editors, made from the table of fields.
//!
//! It cannot say what takes two values to judge; everything else it refuses as the reader does.

use serde_json::{Map as Object, Value, json};

use super::fields::BLUEPRINT;
use super::shape::{Field, Need, Record, Shape};
use super::source::Source;
use super::{Found, tree, written};

/// The schema as it is committed: JSON with a line break at its end.
pub fn text() -> String {
    format!("{:#}\n", schema())
}

/// The schema.
pub fn schema() -> Value {
    let mut schema = record(&BLUEPRINT);
    if let Value::Object(object) = &mut schema {
        object.insert("$schema".to_owned(), json!("https://json-schema.org/draft/2020-12/schema"));
        object.insert("title".to_owned(), json!("A blueprint of Castrum"));
        object.insert("description".to_owned(), json!("One file declares one cluster."));
    }
    schema
}

fn record(record: &Record) -> Value {
    let properties: Object<String, Value> =
        record.fields.iter().map(|field| (field.key.to_owned(), property(field))).collect();
    let required: Vec<&str> =
        record.fields.iter().filter(|field| field.need == Need::Required).map(|field| field.key).collect();
    let mut schema = json!({ "type": "object", "additionalProperties": false, "properties": properties });
    if !required.is_empty() {
        schema["required"] = json!(required);
    }
    schema
}

fn property(field: &Field) -> Value {
    let mut schema = shape(&field.shape);
    let about = match field.need {
        Need::Optional(otherwise) => format!("{} If left out: {otherwise}.", field.about),
        _ => field.about.to_owned(),
    };
    schema["description"] = json!(about);
    schema["examples"] = json!([data(field.example)]);
    if let Need::Default(value) = field.need {
        schema["default"] = data(value);
    }
    schema
}

fn shape(of: &Shape) -> Value {
    match of {
        Shape::Text(word) => json!({ "type": "string", "pattern": word.pattern() }),
        Shape::Integer(least, most) => json!({ "type": "integer", "minimum": least, "maximum": most }),
        Shape::Choice(words) => json!({ "type": "string", "enum": words }),
        Shape::Record(inner) => record(inner),
        Shape::Map(map) => {
            let keys = json!({ "pattern": map.form.pattern() });
            let mut schema =
                json!({ "type": "object", "propertyNames": keys, "additionalProperties": shape(map.value) });
            if map.least > 0 {
                schema["minProperties"] = json!(map.least);
            }
            schema
        }
        Shape::List(item) => json!({ "type": "array", "items": shape(item) }),
        Shape::Free => json!({}),
    }
}

/// A value of the table as plain data.
fn data(yaml: &str) -> Value {
    let root = tree::build(&Source::new("", yaml), &mut Found::default());
    root.as_ref().and_then(written::value).unwrap_or_default()
}
