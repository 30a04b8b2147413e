//! `castrum explain`: what a field of the blueprint is for.

use castrum_blueprints::document::explain::{Explanation, UnknownField};
use castrum_blueprints::document::{explain as document, schema};
use serde_json::{Value, json};

/// Explains the field at `path`, or all of the blueprint.
pub fn explain(path: Option<&str>) -> Result<Explanation, UnknownField> {
    document::explain(path.unwrap_or_default())
}

/// An explanation for programs; for all of the blueprint with its schema.
pub fn to_json(explanation: &Explanation) -> Value {
    let mut json = json!({ "format_version": 1, "field": explanation });
    if explanation.path.is_empty() {
        json["schema"] = schema::schema();
    }
    json
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_is_explained_to_people_and_programs() {
        let count = explain(Some("groups.masters.count")).expect("a field");
        assert!(count.render().contains("How many nodes there are."));
        assert_eq!(to_json(&count)["field"]["path"], "groups.NAME.count");
        assert!(to_json(&explain(None).expect("all"))["schema"]["properties"]["groups"].is_object());
    }

    #[test]
    fn an_unknown_field_comes_with_a_hint() {
        let error = explain(Some("groups.cuont")).expect_err("no field");
        assert_eq!(error.to_string(), "a blueprint has no field `groups.cuont`");
        assert_eq!(error.hint, "did you mean `count`?");
    }
}
