//! Settings with provenance: flag, then `GSK_*`, then `./gsk.yaml` (or `--config`), then the user's file, then the
//! default. Each layer is a list of settings with their origin; texts, wherever they stand, are judged by the parser
//! of the flag of that name.

mod file;
mod layers;

use std::collections::BTreeMap;
use std::error::Error as _;
use std::fmt;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

pub use layers::{Known, Layers};

use crate::error::{Error, Result};
use crate::output::{Show, Table};

/// One command's settings: a struct whose fields are all `Option`, which gives clap its flags and files their keys.
pub trait Keys: clap::Args + Default + Serialize + DeserializeOwned {
    /// The key that these settings stand under in a file: the command's name, or none for the top level.
    const SECTION: Option<&'static str>;
    /// Keys that a `./gsk.yaml` found by itself may not set: programs, library paths, addresses, tokens, and who may
    /// reach or steer us.
    const GUARDED: &'static [&'static str] = &[];
    /// Settings that exist as `GSK_…` only, and are never shown.
    const SECRETS: &'static [&'static str] = &[];
    /// Keys of which only one can hold: one given in a higher layer sets those of the layers below aside.
    const ALTERNATIVES: &'static [&'static str] = &[];

    /// The lowest layer.
    fn defaults() -> Self;
}

/// A value that is never shown. It has no `==`, which would not take constant time.
#[derive(Clone)]
pub struct Secret(String);

impl Secret {
    /// The value itself.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl From<String> for Secret {
    fn from(value: String) -> Secret {
        Secret(value)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(hidden)")
    }
}

/// Where a value came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// A flag, such as `--fps`.
    Flag(String),
    /// An environment variable.
    Environment(String),
    /// A file and the line in it.
    File {
        path: String,
        line: usize,
    },
    Default,
}

impl Origin {
    /// The kind of layer, as documents name it.
    fn layer(&self) -> &'static str {
        match self {
            Origin::Flag(_) => "flag",
            Origin::Environment(_) => "environment",
            Origin::File { .. } => "file",
            Origin::Default => "default",
        }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::Flag(name) | Origin::Environment(name) => f.write_str(name),
            Origin::File { path, line } => write!(f, "{path}:{line}"),
            Origin::Default => f.write_str("default"),
        }
    }
}

/// One key's value as it was settled.
#[derive(Clone, Debug)]
pub struct Setting {
    pub key: String,
    pub value: Value,
    pub origin: Origin,
}

/// A command's settings, each from the highest layer that has it.
#[derive(Clone, Debug)]
pub struct Resolved<T> {
    pub values: T,
    settings: Vec<Setting>,
    secrets: BTreeMap<&'static str, Secret>,
}

impl<T: Keys> Resolved<T> {
    /// Where the value of `key` came from.
    pub fn origin(&self, key: &str) -> &Origin {
        self.settings.iter().find(|s| s.key == key).map_or(&Origin::Default, |s| &s.origin)
    }

    /// The value of a key of [`Keys::SECRETS`].
    pub fn secret(&self, key: &str) -> Option<&Secret> {
        self.secrets.get(key)
    }

    /// What `--print-config` shows.
    pub fn settings(&self) -> &[Setting] {
        &self.settings
    }
}

/// Settles every key of `T` and says where its value came from. A wrong value is an error in whatever layer it stands,
/// even where a higher one outranks it.
pub fn resolve<T: Keys>(flags: &T, layers: &Layers) -> Result<Resolved<T>> {
    let schema = Schema::<T>::new()?;
    let mut ranked = vec![schema.typed(flags, |key| Origin::Flag(schema.flag(key)))?, layers.environment(&schema)?];
    ranked.extend(layers.files.iter().map(|file| file.settings(&schema)).collect::<Result<Vec<_>>>()?);
    ranked.push(schema.typed(&T::defaults(), |_| Origin::Default)?);

    let mut settled: BTreeMap<String, Setting> = BTreeMap::new();
    for layer in ranked {
        let rivals = |key: &str| T::ALTERNATIVES.contains(&key);
        let above = settled.keys().any(|key| rivals(key));
        let mut here = layer.iter().filter(|s| rivals(&s.key));
        if let (Some(one), Some(other)) = (here.next(), here.next()) {
            return Err(Error::usage(format!("'{}' and '{}' exclude each other", one.key, other.key))
                .cause(format!("{} and {} set both", one.origin, other.origin)));
        }
        for setting in layer {
            if !(above && rivals(&setting.key)) {
                settled.entry(setting.key.clone()).or_insert(setting);
            }
        }
    }

    let unset = |key: &String| Setting { key: key.clone(), value: Value::Null, origin: Origin::Default };
    let mut settings: Vec<Setting> =
        schema.keys.iter().map(|k| settled.remove(k).unwrap_or_else(|| unset(k))).collect();
    let map: Map<String, Value> = settings.iter().map(|s| (s.key.clone(), s.value.clone())).collect();
    let values = serde_json::from_value(map.into()).map_err(|e| Error::bug("settings do not read back").cause(e))?;

    let mut secrets = BTreeMap::new();
    for key in T::SECRETS {
        let variable = variable(key);
        let secret = layers.variable(&variable)?.map(|text| Secret(text.to_string()));
        let shown = if secret.is_some() { Value::from("set (hidden)") } else { Value::Null };
        let origin = if secret.is_some() { Origin::Environment(variable) } else { Origin::Default };
        settings.push(Setting { key: key.to_string(), value: shown, origin });
        secrets.extend(secret.map(|secret| (*key, secret)));
    }
    Ok(Resolved { values, settings, secrets })
}

/// The environment variable of a key.
fn variable(key: &str) -> String {
    format!("GSK_{}", key.to_uppercase())
}

/// What a struct of settings looks like from outside.
struct Schema<T> {
    /// In the order of the fields.
    keys: Vec<String>,
    command: clap::Command,
    settings: std::marker::PhantomData<T>,
}

impl<T: Keys> Schema<T> {
    fn new() -> Result<Schema<T>> {
        let command = T::augment_args(clap::Command::new("gsk").no_binary_name(true).color(clap::ColorChoice::Never));
        let keys = object(&T::default())?.into_iter().map(|(key, _)| key).collect();
        Ok(Schema { keys, command, settings: std::marker::PhantomData })
    }

    fn argument(&self, key: &str) -> Result<&clap::Arg> {
        let found = self.command.get_arguments().find(|arg| arg.get_id() == key);
        found.ok_or_else(|| Error::bug(format!("'{key}' has no flag")))
    }

    /// How a person writes the key on the command line.
    fn flag(&self, key: &str) -> String {
        let long = self.argument(key).ok().and_then(|arg| arg.get_long());
        long.map_or_else(|| "--".into(), |long| format!("--{long}"))
    }

    /// Whether the key is given behind `--`: a list of words, which one environment variable cannot hold.
    fn trailing(&self, key: &str) -> bool {
        self.argument(key).is_ok_and(|arg| arg.is_positional())
    }

    /// The keys that are set in `values`.
    fn typed(&self, values: &T, origin: impl Fn(&str) -> Origin) -> Result<Vec<Setting>> {
        let set = object(values)?.into_iter().filter(|(_, value)| !value.is_null());
        Ok(set.map(|(key, value)| Setting { origin: origin(&key), key, value }).collect())
    }

    /// Reads a key's texts as its flag would: the value, or the cause (and hint) of its refusal.
    fn parse(&self, key: &str, texts: &[String]) -> Result<Value> {
        let words: Vec<String> = match self.argument(key)?.get_long() {
            Some(long) => texts.iter().map(|text| format!("--{long}={text}")).collect(),
            None => std::iter::once("--".to_string()).chain(texts.iter().cloned()).collect(),
        };
        let matches = self.command.clone().try_get_matches_from(words).map_err(|e| refusal(&e))?;
        let values = T::from_arg_matches(&matches).map_err(|e| refusal(&e))?;
        Ok(object(&values)?.remove(key).unwrap_or_default())
    }
}

fn object(values: &impl Serialize) -> Result<Map<String, Value>> {
    match serde_json::to_value(values) {
        Ok(Value::Object(map)) => Ok(map),
        Ok(other) => Err(Error::bug("settings are not a list of keys").cause(other)),
        Err(error) => Err(Error::usage("a setting cannot be used").cause(error)),
    }
}

/// Why clap refuses a value: what stands in `what` fits after "cause:".
pub(crate) fn refusal(error: &clap::Error) -> Error {
    if let Some(source) = error.source() {
        return source.downcast_ref::<Error>().cloned().unwrap_or_else(|| Error::usage(source.to_string()));
    }
    let text = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => Some(text.clone()),
        Some(ContextValue::Strings(all)) => Some(all.join(", ")),
        _ => None,
    };
    let refused = text(ContextKind::InvalidValue).unwrap_or_default();
    match (error.kind(), text(ContextKind::ValidValue)) {
        (ErrorKind::InvalidValue, Some(valid)) => {
            let near = text(ContextKind::SuggestedValue).map(|near| format!("did you mean '{near}'?"));
            let refused = Error::usage(format!("'{refused}' is not one of: {valid}"));
            near.into_iter().fold(refused, Error::hint)
        }
        _ => Error::usage(error.kind().as_str().unwrap_or("it cannot be read")),
    }
}

/// What `--print-config` prints: every value of a command and where it came from.
#[derive(Serialize)]
pub struct Report {
    command: Option<&'static str>,
    values: Vec<Row>,
}

#[derive(Serialize)]
struct Row {
    key: String,
    value: Value,
    /// `flag`, `environment`, `file` or `default`.
    layer: &'static str,
    /// The flag, the variable, or the file and its line; null for a default.
    place: Option<String>,
}

impl Report {
    pub fn new(command: Option<&'static str>) -> Report {
        Report { command, values: Vec::new() }
    }

    /// Adds settings, in the order in which they are to be shown.
    pub fn extend(&mut self, settings: &[Setting]) {
        self.values.extend(settings.iter().map(|s| Row {
            key: s.key.clone(),
            value: s.value.clone(),
            layer: s.origin.layer(),
            place: (s.origin != Origin::Default).then(|| s.origin.to_string()),
        }));
    }
}

impl Show for Report {
    const SCHEMA: &'static str = "gsk.config";
    const VERSION: u32 = 1;

    fn table(&self) -> Table {
        let mut table = Table::new(["key", "value", "from"]);
        for row in &self.values {
            table.row([row.key.clone(), plain(&row.value), row.place.clone().unwrap_or_else(|| row.layer.into())]);
        }
        table
    }
}

/// A value as a flag would take it; `-` for one that is not set.
fn plain(value: &Value) -> String {
    match value {
        Value::Null => "-".into(),
        Value::Array(all) if all.is_empty() => "-".into(),
        Value::String(text) => text.clone(),
        Value::Array(all) => all.iter().map(plain).collect::<Vec<_>>().join(" "),
        Value::Number(n) if n.is_f64() => n.as_f64().unwrap_or_default().to_string(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests;
