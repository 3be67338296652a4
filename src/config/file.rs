//! One `gsk.yaml`, and the place of each thing in it.

use std::fmt;
use std::io::Read;
use std::path::Path;

use serde::de::{self, DeserializeSeed, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_yaml::{Mapping, Value};

use super::layers::Known;
use super::{Keys, Origin, Schema, Setting};
use crate::error::{Error, Kind, Result};
use crate::output::text;

/// The most that a file may measure, in bytes: far beyond any real one.
const CAP: u64 = 1 << 20;

/// A file that was read, and whether somebody chose it.
#[derive(Debug)]
pub(super) struct File {
    /// As messages name it.
    path: String,
    text: String,
    root: Mapping,
    /// Named by `--config`, or in the user's own directory; not merely found where we were started.
    trusted: bool,
}

impl File {
    /// The file of `--config`, which must be there.
    pub fn named(path: &Path) -> Result<File> {
        let missing =
            || Error::usage(format!("{}: there is no such file", path.display())).hint("--config names a gsk.yaml");
        File::read(path, true)?.ok_or_else(missing)
    }

    /// A `gsk.yaml` that lies where we were started, if there is one.
    pub fn found(path: &Path) -> Result<Option<File>> {
        File::read(path, false)
    }

    /// The user's own file, if there is one.
    pub fn users(path: &Path) -> Result<Option<File>> {
        File::read(path, true)
    }

    fn read(path: &Path, trusted: bool) -> Result<Option<File>> {
        let shown = path.display().to_string();
        let fault = |e| match Error::io(format!("{shown}: the file cannot be read"), e) {
            // Whatever else keeps it from being read (it is a directory, say) is a matter of configuration.
            error if error.kind == Kind::Failed => Error { kind: Kind::Usage, ..error },
            error => error,
        };
        let opened = match std::fs::File::open(path) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            opened => opened.map_err(fault)?,
        };
        let mut bytes = Vec::new();
        opened.take(CAP + 1).read_to_end(&mut bytes).map_err(fault)?;
        if bytes.len() as u64 > CAP {
            return Err(Error::usage(format!("{shown}: the file is larger than 1 MiB")));
        }
        let text =
            String::from_utf8(bytes).map_err(|e| Error::usage(format!("{shown}: the file is not UTF-8")).cause(e))?;
        File::parse(shown, text, trusted).map(Some)
    }

    pub fn parse(path: String, text: String, trusted: bool) -> Result<File> {
        let root = match serde_yaml::from_str(&text) {
            Ok(Value::Mapping(root)) => root,
            Ok(Value::Null) => Mapping::new(),
            Ok(_) => return Err(Error::usage(format!("{path}: the file is not a list of keys")).hint(SHAPE)),
            Err(e) => {
                let at = e.location().map_or(String::new(), |l| format!(":{}:{}", l.line(), l.column()));
                return Err(Error::usage(format!("{path}{at}: this is not YAML that gsk can read")).cause(e));
            }
        };
        Ok(File { path, text, root, trusted })
    }

    /// Refuses what is neither a key of the top level nor a command's name.
    pub fn check_top(&self, known: &Known) -> Result<()> {
        let names = || known.top.iter().map(String::as_str).chain(known.sections.keys().copied());
        for key in self.root.keys() {
            let name = self.name(key, &[])?;
            if names().any(|known| known == name) {
                continue;
            }
            let homes = known.sections.iter().filter(|(_, keys)| keys.iter().any(|key| key == name));
            let homes: Vec<String> = homes.map(|(section, _)| format!("'{section}:'")).collect();
            let hint = match homes.is_empty() {
                false => format!("it belongs to a command: indent it below {}", homes.join(" or ")),
                true => suggestion(name, names()),
            };
            return Err(self.fault(&[name], Target::Key, format!("unknown key '{name}'")).hint(hint));
        }
        Ok(())
    }

    /// The keys of `T` that this file sets.
    pub fn settings<T: Keys>(&self, schema: &Schema<T>) -> Result<Vec<Setting>> {
        let (above, section) = match T::SECTION {
            None => (vec![], &self.root),
            Some(name) => match self.root.get(name) {
                None | Some(Value::Null) => return Ok(Vec::new()),
                Some(Value::Mapping(section)) => (vec![name], section),
                Some(_) => {
                    return Err(self
                        .fault(&[name], Target::Value, format!("'{name}' is not a list of keys"))
                        .hint(SHAPE));
                }
            },
        };
        let mut settings = Vec::new();
        for (key, value) in section {
            let name = self.name(key, &above)?;
            if !schema.keys.iter().any(|known| known == name) {
                match T::SECTION {
                    // Another command's section: the whole top level was checked when the file was read.
                    None => continue,
                    Some(section) => {
                        let unknown =
                            self.fault(&[section, name], Target::Key, format!("unknown key '{name}' in '{section}'"));
                        return Err(unknown.hint(suggestion(name, schema.keys.iter().map(String::as_str))));
                    }
                }
            }
            let path: Vec<&str> = above.iter().copied().chain([name]).collect();
            if !self.trusted && T::GUARDED.contains(&name) {
                return Err(self
                    .fault(&path, Target::Key, format!("'{name}' may not be set here"))
                    .cause(
                        "this file was found by itself, and a folder that was merely entered must not choose programs, \
                         addresses, tokens or who may reach a worker",
                    )
                    .hint(format!("if you trust it, name it: --config {}", self.path)));
            }
            if let Some(value) = self.value(schema, name, value, &path)? {
                let line = locate(&self.text, &path, Target::Key).map_or(1, |at| at.0);
                settings.push(Setting {
                    key: name.into(),
                    value,
                    origin: Origin::File { path: self.path.clone(), line },
                });
            }
        }
        Ok(settings)
    }

    /// Reads a value as the flag's text would be read; none for a key without a value.
    fn value<T: Keys>(
        &self,
        schema: &Schema<T>,
        name: &str,
        value: &Value,
        path: &[&str],
    ) -> Result<Option<serde_json::Value>> {
        let wrong = |cause: Error| {
            let error = self.fault(path, Target::Value, format!("wrong value for '{name}'")).cause(&cause);
            Error { hint: cause.hint, ..error }
        };
        let list = matches!(schema.argument(name)?.get_action(), clap::ArgAction::Append);
        let texts = match value {
            Value::Null => return Ok(None),
            Value::Sequence(all) if list && all.is_empty() && !schema.trailing(name) => {
                return Ok(Some(serde_json::json!([])));
            }
            Value::Sequence(all) if list => all.iter().map(scalar).collect::<Option<Vec<_>>>(),
            one if !schema.trailing(name) => scalar(one).map(|text| vec![text]),
            _ => None,
        };
        let texts = texts.ok_or_else(|| {
            wrong(match list {
                true => Error::usage("it takes a list of words").hint(format!("write {name}: [one, two]")),
                false => Error::usage("it takes a single value"),
            })
        })?;
        schema.parse(name, &texts).map(|value| (!value.is_null()).then_some(value)).map_err(wrong)
    }

    /// A key's name.
    fn name<'a>(&self, key: &'a Value, above: &[&str]) -> Result<&'a str> {
        key.as_str().ok_or_else(|| {
            let place = above.first().map_or(String::new(), |section| format!(" in '{section}'"));
            Error::usage(format!("{}: a key{place} is not a word", self.path))
        })
    }

    fn fault(&self, path: &[&str], target: Target, what: String) -> Error {
        let at = locate(&self.text, path, target).map_or(String::new(), |(line, column)| format!(":{line}:{column}"));
        Error::usage(format!("{}{at}: {what}", self.path))
    }
}

const SHAPE: &str = "write\n  serve:\n    fps: 30";

fn suggestion<'a>(name: &str, known: impl Iterator<Item = &'a str> + Clone) -> String {
    match text::nearest(name, known.clone()) {
        Some(near) => format!("did you mean '{near}'?"),
        None => format!("the keys are {}", known.collect::<Vec<_>>().join(", ")),
    }
}

fn scalar(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(flag) => Some(flag.to_string()),
        _ => None,
    }
}

/// What of an entry is looked for.
#[derive(Clone, Copy, PartialEq)]
enum Target {
    Key,
    Value,
}

/// Line and column, both from 1, of the entry at `path`. serde_yaml tells places in its errors only, so the text is
/// read again by a reader that fails at the entry.
fn locate(text: &str, path: &[&str], target: Target) -> Option<(usize, usize)> {
    let error = Walk { path, target }.deserialize(serde_yaml::Deserializer::from_str(text)).err()?;
    error.location().map(|at| (at.line(), at.column()))
}

struct Walk<'a> {
    path: &'a [&'a str],
    target: Target,
}

impl<'de> DeserializeSeed<'de> for Walk<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Walk<'_> {
    type Value = ();

    /// With an empty path any value is refused by the default methods, and so its place is told.
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the entry")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let Some((name, rest)) = self.path.split_first() else {
            return Err(de::Error::custom("the entry"));
        };
        let stop = rest.is_empty() && self.target == Target::Key;
        while let Some(here) = map.next_key_seed(Key { name, stop })? {
            match here {
                true => map.next_value_seed(Walk { path: rest, target: self.target })?,
                false => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(())
    }
}

/// Says whether a key is `name`; with `stop`, fails at it.
struct Key<'a> {
    name: &'a str,
    stop: bool,
}

impl<'de> DeserializeSeed<'de> for Key<'_> {
    type Value = bool;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<bool, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for Key<'_> {
    type Value = bool;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_str<E: de::Error>(self, key: &str) -> Result<bool, E> {
        match key == self.name {
            true if self.stop => Err(E::custom("the entry")),
            same => Ok(same),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_told_by_line_and_column() {
        let text = "# settings\ncolor: never\nserve:\n  fps: 30\n  allow_host: [a,\n    b]\n  size: {w: 1}\n";
        let at = |path: &[&str], target| locate(text, path, target);
        assert_eq!(at(&["color"], Target::Key), Some((2, 1)));
        assert_eq!(at(&["color"], Target::Value), Some((2, 8)));
        assert_eq!(at(&["serve", "fps"], Target::Key), Some((4, 3)));
        assert_eq!(at(&["serve", "fps"], Target::Value), Some((4, 8)));
        assert_eq!(at(&["serve", "allow_host"], Target::Value), Some((5, 15)));
        assert_eq!(at(&["serve", "size"], Target::Value), Some((7, 9)));
        assert_eq!(at(&["serve", "none"], Target::Key), None);
    }

    #[test]
    fn what_is_not_a_list_of_keys_is_refused_with_its_place() {
        let parse = |text: &str| File::parse("f.yaml".into(), text.into(), true);
        assert!(parse("").unwrap().root.is_empty());
        for (text, says) in [
            ("serve: [", "f.yaml:"),
            ("a: 1\na: 2\n", "f.yaml:"),
            ("- a\n", "not a list of keys"),
            ("word", "not a list"),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.what.contains(says), "{text}: {error}");
        }
    }
}
