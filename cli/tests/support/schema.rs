//! Checking JSON values against the part of JSON Schema that the schemas of this project use.

use serde_json::Value;

/// Checks `value` against a schema.
///
/// # Errors
/// The place in the value and what is wrong there. A keyword that is not known is an error, too.
pub(crate) fn validate(root: &Value, value: &Value) -> Result<(), String> {
    at(root, root, value, "$")
}

fn at(root: &Value, schema: &Value, value: &Value, place: &str) -> Result<(), String> {
    let keywords = schema.as_object().ok_or_else(|| format!("{place}: the schema is no object"))?;
    let wrong = |what: String| Err(format!("{place}: {what}: {value}"));
    for (keyword, expected) in keywords {
        match keyword.as_str() {
            "$schema" | "$defs" | "title" | "description" => {}
            "$ref" => {
                let pointer =
                    expected.as_str().and_then(|target| target.strip_prefix('#')).expect("a place in the schema");
                at(root, root.pointer(pointer).expect("what is referred to"), value, place)?;
            }
            "type" => {
                let types = expected.as_array().cloned().unwrap_or_else(|| vec![expected.clone()]);
                if !types.iter().any(|name| is_of_type(value, name.as_str().expect("a name"))) {
                    return wrong(format!("expected {expected}"));
                }
            }
            "enum" => {
                if !expected.as_array().expect("a list").contains(value) {
                    return wrong(format!("expected one of {expected}"));
                }
            }
            "pattern" => {
                // The one pattern that is used: a hexadecimal number.
                assert_eq!(expected, "^0x[0-9a-f]+$");
                let digits = value.as_str().and_then(|text| text.strip_prefix("0x"));
                if digits.is_none_or(|digits| u64::from_str_radix(digits, 16).is_err()) {
                    return wrong("expected a hexadecimal number".to_owned());
                }
            }
            "anyOf" => {
                let schemas = expected.as_array().expect("a list");
                if schemas.iter().all(|schema| at(root, schema, value, place).is_err()) {
                    return wrong("no alternative fits".to_owned());
                }
            }
            "items" => {
                for (i, item) in value.as_array().into_iter().flatten().enumerate() {
                    at(root, expected, item, &format!("{place}[{i}]"))?;
                }
            }
            "required" => {
                for key in expected.as_array().expect("a list") {
                    if value.is_object() && value.get(key.as_str().expect("a key")).is_none() {
                        return wrong(format!("{key} is missing"));
                    }
                }
            }
            "properties" | "additionalProperties" => {}
            other => return Err(format!("{place}: the keyword {other} is not known")),
        }
    }
    for (key, item) in value.as_object().into_iter().flatten() {
        let place = format!("{place}.{key}");
        match (keywords.get("properties").and_then(|known| known.get(key)), keywords.get("additionalProperties")) {
            (Some(schema), _) => at(root, schema, item, &place)?,
            (None, Some(Value::Bool(false))) => return Err(format!("{place}: the key is not known")),
            (None, Some(schema)) => at(root, schema, item, &place)?,
            (None, None) => {}
        }
    }
    Ok(())
}

fn is_of_type(value: &Value, name: &str) -> bool {
    match name {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "integer" => value.is_u64(),
        "boolean" => value.is_boolean(),
        "null" => value.is_null(),
        _ => panic!("the type {name} is not known"),
    }
}
