//! The machine's directory of slot files: found, made and opened safely.

use std::fs::File;
use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, RenameFlags, Stat};
use rustix::io::Errno;

use crate::error::{Error, Kind, Result};

/// For all users of the machine, none of whom may remove another's files.
const SHARED: Mode = Mode::from_raw_mode(0o1777);
/// Every user may hold a slot.
const FILE: Mode = Mode::from_raw_mode(0o666);

/// A directory of slot files.
pub struct Dir {
    path: PathBuf,
    fd: OwnedFd,
}

/// The directory that all users of this machine share: below `/run/lock` where any user may write, else below `/tmp`. It
/// follows from the machine alone, so that everybody comes to the same.
pub fn default_path() -> PathBuf {
    let open_to_all =
        rustix::fs::lstat("/run/lock").is_ok_and(|s| s.st_mode & 0o7777 == SHARED.bits() && s.st_uid == 0);
    Path::new(if open_to_all { "/run/lock/gsk" } else { "/tmp/gsk-leases" }).into()
}

impl Dir {
    /// Opens it, and makes it first where it is missing.
    pub fn open(path: &Path) -> Result<Dir> {
        let failed = |error: Errno| {
            let error = Error::io(format!("cannot use the lease directory '{}'", path.display()), error.into());
            match error.kind {
                Kind::Permission => error.hint("name one that you may write to: GSK_LEASE_DIR=/path"),
                _ => error.hint("see what is there: ls -ld, or name another: GSK_LEASE_DIR=/path"),
            }
        };
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let open = || rustix::fs::open(path, flags, Mode::empty());
        let fd = match open() {
            Err(Errno::NOENT) => make(path).and_then(|()| open()),
            other => other,
        };
        let fd = fd.map_err(|errno| match errno {
            // What a link or another kind of file gives here.
            Errno::NOTDIR | Errno::LOOP => unsafe_directory(path, "it is no directory, or a symbolic link"),
            other => failed(other),
        })?;
        let stat = rustix::fs::fstat(&fd).map_err(failed)?;
        judge(&stat, rustix::process::geteuid().as_raw()).map_err(|why| unsafe_directory(path, why))?;
        Ok(Dir { path: path.into(), fd })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The open file of that name, made first where it is missing. It is one of those that everybody may open; it is
    /// never replaced, as who holds the old one's lock would be passed over.
    pub fn file(&self, name: &str) -> Result<File> {
        let failed = |error: io::Error| Error::io(format!("cannot open '{}'", self.path.join(name).display()), error);
        loop {
            match self.existing(name) {
                Ok(Some(file)) => return Ok(file),
                Ok(None) => self.make_file(name).map_err(failed)?,
                Err(error) => return Err(failed(error)),
            }
        }
    }

    /// The same, or `None` where there is none.
    pub fn existing(&self, name: &str) -> io::Result<Option<File>> {
        // Without O_CREAT: with it, the kernel refuses other users' files in a shared directory (fs.protected_regular).
        let flags = OFlags::RDWR | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = match rustix::fs::openat(&self.fd, name, flags, Mode::empty()) {
            Err(Errno::NOENT) => return Ok(None),
            other => File::from(other?),
        };
        let stat = rustix::fs::fstat(&file)?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Err(io::Error::new(ErrorKind::InvalidData, "it is no regular file"));
        }
        Ok(Some(file))
    }

    /// The whole of a file that root or ourselves own, and of at most `most` bytes; `None` where there is no such file.
    pub fn read_trusted(&self, name: &str, most: u64) -> io::Result<Option<Vec<u8>>> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = match rustix::fs::openat(&self.fd, name, flags, Mode::empty()) {
            Err(Errno::NOENT) => return Ok(None),
            other => File::from(other?),
        };
        let stat = rustix::fs::fstat(&file)?;
        let regular = FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile;
        let ours = [0, rustix::process::geteuid().as_raw()].contains(&stat.st_uid) && stat.st_mode & 0o022 == 0;
        if !regular || !ours || stat.st_size as u64 > most {
            return Ok(None);
        }
        let mut bytes = Vec::new();
        file.take(most).read_to_end(&mut bytes)?;
        Ok(Some(bytes))
    }

    /// Puts a whole file in the place of another, readable by all. Not for files that are locked.
    pub fn replace(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        let mode = Mode::from_raw_mode(0o644);
        let (own, mut file) = self.temporary(mode)?;
        let put = file
            .write_all(bytes)
            .and_then(|()| Ok(rustix::fs::fchmod(&file, mode)?))
            .and_then(|()| Ok(rustix::fs::renameat(&self.fd, &own, &self.fd, name)?));
        if put.is_err() {
            rustix::fs::unlinkat(&self.fd, &own, AtFlags::empty())?;
        }
        put
    }

    /// Whether the open file is the one that the name stands for.
    pub fn is_current(&self, file: &File, name: &str) -> io::Result<bool> {
        let open = rustix::fs::fstat(file)?;
        match rustix::fs::statat(&self.fd, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(named) => Ok((open.st_dev, open.st_ino) == (named.st_dev, named.st_ino)),
            Err(Errno::NOENT) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// The numbers of the slot files that are there, ascending.
    pub fn slots(&self) -> Result<Vec<u32>> {
        let failed = |error: Errno| Error::io(format!("cannot read '{}'", self.path.display()), error.into());
        let mut slots = Vec::new();
        for entry in rustix::fs::Dir::read_from(&self.fd).map_err(failed)? {
            let name = entry.map_err(failed)?.file_name().to_string_lossy().into_owned();
            // As we write it: "slot-01" is none.
            if let Some(index) = name.strip_prefix("slot-").and_then(|number| number.parse().ok())
                && name == slot_name(index)
            {
                slots.push(index);
            }
        }
        slots.sort_unstable();
        Ok(slots)
    }

    /// A new file under a name of its own.
    fn temporary(&self, mode: Mode) -> io::Result<(String, File)> {
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        loop {
            let own = own_name();
            match rustix::fs::openat(&self.fd, &own, flags, mode) {
                // Left by one that was killed, and had our pid.
                Err(Errno::EXIST) => {}
                other => return Ok((own, other?.into())),
            }
        }
    }

    /// Makes a file that everybody may open from the moment that it is there: whole under another name, then linked.
    fn make_file(&self, name: &str) -> io::Result<()> {
        let (own, file) = self.temporary(FILE)?;
        let made = rustix::fs::fchmod(&file, FILE)
            .and_then(|()| rustix::fs::linkat(self.fd.as_fd(), &own, self.fd.as_fd(), name, AtFlags::empty()));
        rustix::fs::unlinkat(&self.fd, &own, AtFlags::empty())?;
        match made {
            // Somebody else was quicker.
            Err(Errno::EXIST) => Ok(()),
            other => Ok(other?),
        }
    }
}

pub fn slot_name(index: u32) -> String {
    format!("slot-{index}")
}

/// A name that no other process or thread uses.
fn own_name() -> String {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    format!(".new-{}-{}-{}", crate::proc::own_namespace(), std::process::id(), COUNT.fetch_add(1, Relaxed))
}

/// Makes the directory with its mode, then gives it its name: nobody sees it without its mode.
fn make(path: &Path) -> Result<(), Errno> {
    let own = path.with_file_name(own_name());
    rustix::fs::mkdir(&own, SHARED)?;
    let named = rustix::fs::chmod(&own, SHARED)
        .and_then(|()| rustix::fs::renameat_with(rustix::fs::CWD, &own, rustix::fs::CWD, path, RenameFlags::NOREPLACE));
    match named {
        Ok(()) => Ok(()),
        Err(error) => {
            rustix::fs::rmdir(&own)?;
            if error == Errno::EXIST { Ok(()) } else { Err(error) }
        }
    }
}

/// Whether the slots in a directory can be trusted to stay where they are: nobody but its owner may remove others' files
/// from it, and the owner is root, ourselves, or who first made the one that all share.
fn judge(stat: &Stat, user: u32) -> Result<(), &'static str> {
    let mode = stat.st_mode & 0o7777;
    let sticky = mode & 0o1000 != 0;
    if mode & 0o022 != 0 && !sticky {
        return Err("others may remove files in it (it lacks the sticky bit)");
    }
    if stat.st_uid != 0 && stat.st_uid != user && !(sticky && mode & 0o002 != 0) {
        return Err("it belongs to another user, and is not shared");
    }
    Ok(())
}

fn unsafe_directory(path: &Path, why: &str) -> Error {
    let path = path.display();
    Error::new(Kind::Permission, format!("the lease directory '{path}' is not safe to share"))
        .cause(why)
        .hint(format!("mend it: chmod 1777 '{path}', or name another: GSK_LEASE_DIR=/path"))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

    use super::*;

    fn refused(path: &Path) -> Error {
        Dir::open(path).map(|_| ()).unwrap_err()
    }

    #[test]
    fn it_is_made_for_all_and_opened_again() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("leases");
        let dir = Dir::open(&path).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o7777, 0o1777);
        let made = dir.file("slot-3").unwrap();
        assert_eq!(made.metadata().unwrap().mode() & 0o777, 0o666, "whatever the umask");
        dir.file("slot-0").unwrap();
        std::fs::write(path.join("slot-01"), "").unwrap();
        assert_eq!(Dir::open(&path).unwrap().slots().unwrap(), [0, 3]);
        assert_eq!(std::fs::read_dir(&path).unwrap().count(), 3, "nothing else is left");
        assert!(dir.is_current(&made, "slot-3").unwrap());
        std::fs::rename(path.join("slot-0"), path.join("slot-3")).unwrap();
        assert!(!dir.is_current(&made, "slot-3").unwrap());
        assert!(!dir.is_current(&made, "slot-9").unwrap());
    }

    #[test]
    fn what_is_unsafe_is_refused() {
        let home = tempfile::tempdir().unwrap();
        let at = |name: &str| home.path().join(name);
        std::fs::create_dir(at("open")).unwrap();
        std::fs::set_permissions(at("open"), PermissionsExt::from_mode(0o777)).unwrap();
        symlink(at("open"), at("link")).unwrap();
        std::fs::write(at("file"), "").unwrap();
        for name in ["open", "link", "file"] {
            let error = refused(&at(name));
            assert_eq!(error.kind, Kind::Permission, "{error}");
            assert!(error.what.contains("not safe") && error.hint.is_some(), "{error}");
        }
        assert_eq!(refused(&at("no/such/parent")).kind, Kind::Usage);
        let dir = Dir::open(&at("leases")).unwrap();
        symlink(at("file"), at("leases/slot-0")).unwrap();
        rustix::fs::mkdir(at("leases/slot-1"), SHARED).unwrap();
        for name in ["slot-0", "slot-1"] {
            assert!(dir.file(name).is_err(), "{name}");
        }
    }

    #[test]
    fn whose_it_may_be() {
        let with = |uid, mode| {
            let mut stat = rustix::fs::stat(".").unwrap();
            (stat.st_uid, stat.st_mode) = (uid, mode);
            judge(&stat, 1000).is_ok()
        };
        for (uid, mode, good) in [
            (0, 0o1777, true),
            (1000, 0o700, true),
            (1000, 0o777, false),
            (1001, 0o1777, true),
            (1001, 0o755, false),
            (1000, 0o770, false),
            (0, 0o1770, true),
            (1001, 0o1775, false),
        ] {
            assert_eq!(with(uid, 0o040_000 | mode), good, "{uid} {mode:o}");
        }
    }
}
