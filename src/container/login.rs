//! Passwords: made, kept for their owner alone, forgotten.

use std::fs;
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::managed::{Stream, container};
use crate::config::Secret;
use crate::error::{Error, Result};

/// Letters and digits only: the vendor's TURN server takes no others. 20 of 62 are 119 bits.
const LETTERS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
const LENGTH: usize = 20;

/// `$XDG_STATE_HOME/gsk`, or `~/.local/state/gsk`.
fn folder() -> Result<PathBuf> {
    let absolute = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let base = absolute("XDG_STATE_HOME").or_else(|| Some(absolute("HOME")?.join(".local/state")));
    base.map(|base| base.join("gsk")).ok_or_else(|| {
        Error::usage("there is no folder to keep the password in")
            .cause("neither XDG_STATE_HOME nor HOME is an absolute path")
            .hint("export HOME=/home/you; or --password-file FILE")
    })
}

/// Where the password of a container that gsk made is kept.
pub(super) fn place(stream: Stream, name: &str) -> Result<PathBuf> {
    Ok(folder()?.join(format!("{}.password", container(stream, name))))
}

/// A new password.
pub(super) fn random() -> Result<Secret> {
    let mut password = String::new();
    while password.len() < LENGTH {
        let mut bytes = [0; 64];
        getrandom::fill(&mut bytes).map_err(|error| Error::failed("no random numbers").cause(error))?;
        // Those beyond the last whole 62 would make some letters likelier than others.
        let fair = bytes.iter().filter(|&&byte| usize::from(byte) < 256 / LETTERS.len() * LETTERS.len());
        password.extend(fair.map(|&byte| LETTERS[usize::from(byte) % LETTERS.len()] as char));
    }
    password.truncate(LENGTH);
    Ok(Secret::from(password))
}

/// Writes a password into a new file for its owner alone.
pub(super) fn keep(path: &Path, password: &Secret) -> Result<()> {
    let fault = |error| Error::io(format!("{}: the password cannot be kept", path.display()), error);
    if let Some(folder) = path.parent() {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(fault)?;
    }
    forget(path);
    let mut file = fs::File::options().write(true).create_new(true).mode(0o600).open(path).map_err(fault)?;
    file.write_all(format!("{}\n", password.reveal()).as_bytes()).map_err(fault)
}

pub(super) fn forget(path: &Path) {
    // Where there is none, all is well.
    let _ = fs::remove_file(path);
}

/// The password in a user's own file: 8 to 128 of A-Z, a-z, 0-9 and `-._~`.
pub(super) fn given(path: &Path) -> Result<Secret> {
    let fault = |error| Error::io(format!("{}: the password cannot be read", path.display()), error);
    let text = fs::read_to_string(path).map_err(fault)?;
    let text = text.trim();
    let fits = |c: char| c.is_ascii_alphanumeric() || "-._~".contains(c);
    if !(8..=128).contains(&text.len()) || !text.chars().all(fits) {
        return Err(Error::usage(format!("{}: the password is not usable", path.display()))
            .cause("it must have 8 to 128 characters of A-Z, a-z, 0-9 and -._~")
            .hint("openssl rand -hex 16 > FILE; chmod 600 FILE"));
    }
    Ok(Secret::from(text.to_string()))
}

/// The password of a running stream, where its file is ours to read.
pub(super) fn known(path: &Path) -> Option<Secret> {
    Some(Secret::from(fs::read_to_string(path).ok()?.trim().to_string()))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_password_is_random_and_kept_for_its_owner_alone() {
        let (one, other) = (random().unwrap(), random().unwrap());
        assert_ne!(one.reveal(), other.reveal());
        assert!(one.reveal().len() == LENGTH && one.reveal().bytes().all(|byte| byte.is_ascii_alphanumeric()));
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a/b.password");
        keep(&path, &one).unwrap();
        keep(&path, &other).unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&path), mode(path.parent().unwrap())), (0o600, 0o700));
        assert_eq!(known(&path).unwrap().reveal(), other.reveal());
        assert_eq!(given(&path).unwrap().reveal(), other.reveal());
        for text in ["short", "with space", "ümlaut-ümlaut", ""] {
            fs::write(&path, text).unwrap();
            assert!(given(&path).unwrap_err().hint.is_some(), "{text}");
        }
    }
}
