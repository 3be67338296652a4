//! Where settings are found, and the environment's layer.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use super::file::File;
use super::{Keys, Origin, Schema, Setting, variable};
use crate::error::{Error, Result};
use crate::output::text;

/// What the program as a whole knows, so that a slip is told from another command's setting.
#[derive(Clone, Debug)]
pub struct Known {
    /// The keys of the top level.
    pub(super) top: Vec<String>,
    /// Commands and the keys that each takes.
    pub(super) sections: BTreeMap<&'static str, Vec<String>>,
    /// Environment variables that are read.
    variables: Vec<String>,
}

/// The log's variable, and no settings: [`Known::with`] adds them.
impl Default for Known {
    fn default() -> Known {
        Known { top: Vec::new(), sections: BTreeMap::new(), variables: vec!["GSK_LOG".into()] }
    }
}

impl Known {
    /// Adds the settings of `T`.
    pub fn with<T: Keys>(mut self) -> Result<Known> {
        let schema = Schema::<T>::new()?;
        let read = schema.keys.iter().filter(|key| !schema.trailing(key)).map(String::as_str);
        self.variables.extend(read.chain(T::SECRETS.iter().copied()).map(variable));
        match T::SECTION {
            Some(name) => drop(self.sections.insert(name, schema.keys)),
            None => self.top.extend(schema.keys),
        }
        Ok(self)
    }
}

/// The environment and the files, before any command asks them.
#[derive(Debug)]
pub struct Layers {
    environment: BTreeMap<String, OsString>,
    pub(super) files: Vec<File>,
    known: Known,
}

impl Layers {
    /// Reads this process's environment, `named` or `./gsk.yaml`, and the user's file.
    pub fn load(named: Option<&Path>, known: Known) -> Result<Layers> {
        let environment =
            std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value))).collect();
        Layers::from(environment, Path::new("."), named, known)
    }

    /// The same with an environment and a directory of the caller's.
    pub(crate) fn from(
        environment: BTreeMap<String, OsString>,
        directory: &Path,
        named: Option<&Path>,
        known: Known,
    ) -> Result<Layers> {
        let user = user_file(&environment);
        let local = directory.join("gsk.yaml");
        // Somebody who edits the user's file where it lies does not meet it as a stranger's.
        let same = |a: &Path, b: &Path| a.canonicalize().is_ok_and(|a| b.canonicalize().is_ok_and(|b| a == b));
        let mut files = Vec::new();
        match named {
            Some(path) => files.push(File::named(path)?),
            None if user.as_deref().is_some_and(|user| same(user, &local)) => {}
            None => files.extend(File::found(&local)?),
        }
        if let Some(user) = user {
            files.extend(File::users(&user)?);
        }
        for file in &files {
            file.check_top(&known)?;
        }
        Ok(Layers { environment, files, known })
    }

    /// The text of a variable; an empty one counts as unset.
    ///
    /// # Errors
    /// A value that is not UTF-8.
    pub fn variable(&self, name: &str) -> Result<Option<&str>> {
        match self.environment.get(name).map(|value| value.to_str()) {
            Some(None) => Err(Error::usage(format!("{name}: the value is not UTF-8"))),
            Some(Some("")) | None => Ok(None),
            Some(text) => Ok(text),
        }
    }

    /// Words on `GSK_…` variables that nothing reads but that look like one that is read.
    pub fn slips(&self) -> Vec<String> {
        let read = |name: &str| self.known.variables.iter().any(|known| known == name);
        let unread = self.environment.keys().filter(|name| name.starts_with("GSK_") && !read(name));
        // Without the prefix that all have in common, and that would make any two of them alike.
        let short = |name: &'_ str| name["GSK_".len()..].to_string();
        let known: Vec<String> = self.known.variables.iter().map(|name| short(name)).collect();
        let slip = |name: &String| {
            let word = short(name);
            let near = text::nearest(&word, known.iter().map(String::as_str))?;
            Some(format!("nothing reads {name}; did you mean GSK_{near}?"))
        };
        unread.filter_map(slip).collect()
    }

    /// The keys of `T` that variables set.
    pub(super) fn environment<T: Keys>(&self, schema: &Schema<T>) -> Result<Vec<Setting>> {
        let mut settings = Vec::new();
        for key in schema.keys.iter().filter(|key| !schema.trailing(key)) {
            let name = variable(key);
            let Some(text) = self.variable(&name)? else { continue };
            let value = schema.parse(key, &[text.to_string()]).map_err(|refusal| {
                let error = Error::usage(format!("{name}: wrong value for '{key}'")).cause(&refusal);
                Error { hint: refusal.hint, ..error }
            })?;
            settings.push(Setting { key: key.clone(), value, origin: Origin::Environment(name) });
        }
        Ok(settings)
    }
}

/// `$XDG_CONFIG_HOME/gsk/gsk.yaml`, or `~/.config/gsk/gsk.yaml`. As the XDG specification says, a relative path counts
/// as unset.
fn user_file(environment: &BTreeMap<String, OsString>) -> Option<PathBuf> {
    let directory = |name: &str| environment.get(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let base = directory("XDG_CONFIG_HOME").or_else(|| Some(directory("HOME")?.join(".config")))?;
    Some(base.join("gsk/gsk.yaml"))
}
