//! What a JSON document is made of, key by key: none is missing, none is more, each of its type.
#![allow(dead_code, reason = "not every test has all kinds of values")]

use serde_json::Value;

/// What a value may be.
pub enum Form {
    Bool,
    Number,
    Text,
    /// One of these.
    Word(&'static [&'static str]),
    /// Null, or that.
    Maybe(&'static Form),
    List(&'static Form),
    /// An object with exactly these keys.
    Object(&'static [(&'static str, Form)]),
    /// An object with some of these keys.
    Some(&'static [&'static str]),
}

use Form::*;

/// What each document's `errors` are.
pub const ERRORS: Form =
    List(&Object(&[("kind", Text), ("what", Text), ("cause", Maybe(&Text)), ("hint", Maybe(&Text))]));

/// That a value has this form; `place`: where it is, for the message.
pub fn fits(value: &Value, form: &Form, place: &str) {
    match (form, value) {
        (Bool, Value::Bool(_)) | (Number, Value::Number(_)) | (Text, Value::String(_)) | (Maybe(_), Value::Null) => {}
        (Word(words), Value::String(text)) if words.contains(&text.as_str()) => {}
        (Maybe(form), value) => fits(value, form, place),
        (List(form), Value::Array(all)) => {
            all.iter().enumerate().for_each(|(n, value)| fits(value, form, &format!("{place}[{n}]")));
        }
        (Object(keys), Value::Object(map)) => {
            for (key, form) in *keys {
                let value = map.get(*key).unwrap_or_else(|| panic!("{place} has no {key}"));
                fits(value, form, &format!("{place}.{key}"));
            }
            let more: Vec<&String> = map.keys().filter(|key| keys.iter().all(|(known, _)| known != key)).collect();
            assert!(more.is_empty(), "{place} has {more:?}, which its schema has not");
        }
        (Some(keys), Value::Object(map)) => {
            map.iter().for_each(|(key, value)| {
                assert!(keys.contains(&key.as_str()) && value.is_string(), "{place}.{key}: {value}");
            });
        }
        _ => panic!("{place} is {value}"),
    }
}
