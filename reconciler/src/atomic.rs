//! Replacing a file as a whole, and only if it still is what the writer has seen.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, RenameFlags, renameat_with};
use rustix::io::Errno;

/// Why a file was not replaced.
#[derive(Debug)]
pub(crate) enum Error {
    /// Somebody else has changed it; this is what is there.
    Changed(Option<Vec<u8>>),
    /// The system did not let it happen.
    Io(io::Error),
}

impl From<io::Error> for Error {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// Replaces the file at `path` by one with `text`, if `is_expected` says so of what is there.
///
/// Readers see the old text or the new one. The two files change places in one step, and what comes out is looked at once more:
/// if somebody wrote between the first look and that step, the step is undone and their text stays.
pub(crate) fn replace(path: &Path, text: &[u8], is_expected: impl Fn(&[u8]) -> bool) -> Result<(), Error> {
    // A link stays a link; its target is replaced.
    let path = &path.canonicalize().or_else(|error| missing(&error).then(|| path.to_owned()).ok_or(error))?;
    match fs::read(path) {
        Ok(old) if is_expected(&old) => {}
        Ok(old) => return Err(Error::Changed(Some(old))),
        Err(error) if missing(&error) => return Err(Error::Changed(None)),
        Err(error) => return Err(error.into()),
    }
    let draft = Draft::write(path, text)?;
    match renameat_with(CWD, &draft.path, CWD, path, RenameFlags::EXCHANGE) {
        Ok(()) => {
            let old = fs::read(&draft.path)?;
            if !is_expected(&old) {
                renameat_with(CWD, &draft.path, CWD, path, RenameFlags::EXCHANGE).map_err(io::Error::from)?;
                return Err(Error::Changed(Some(old)));
            }
        }
        // Some network file systems cannot exchange.
        Err(Errno::INVAL | Errno::NOSYS | Errno::NOTSUP) => fs::rename(&draft.path, path)?,
        Err(error) => return Err(io::Error::from(error).into()),
    }
    if let Some(directory) = path.parent() {
        File::open(directory)?.sync_all()?;
    }
    Ok(())
}

fn missing(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound
}

/// A file beside the one that it is to replace; it goes when it is not needed.
struct Draft {
    path: PathBuf,
}

impl Draft {
    fn write(target: &Path, text: &[u8]) -> io::Result<Self> {
        let mut name = OsString::from(".");
        name.push(target.file_name().ok_or_else(|| io::Error::other("the path names no file"))?);
        name.push(format!(".{:016x}", rand::random::<u64>()));
        let draft = Self { path: target.with_file_name(name) };
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&draft.path)?;
        file.set_permissions(fs::Permissions::from_mode(fs::metadata(target)?.permissions().mode()))?;
        file.write_all(text)?;
        file.sync_all()?;
        Ok(draft)
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::os::unix::fs::symlink;

    use super::*;

    fn directory_with(text: &str) -> (tempfile::TempDir, PathBuf) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("document");
        fs::write(&path, text).unwrap();
        (directory, path)
    }

    fn files(directory: &tempfile::TempDir) -> usize {
        fs::read_dir(directory.path()).unwrap().count()
    }

    #[test]
    fn the_expected_file_is_replaced_and_keeps_its_mode() {
        let (directory, path) = directory_with("old");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        replace(&path, b"new", |old| old == b"old").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o640);
        assert_eq!(files(&directory), 1, "nothing is left beside it");
    }

    #[test]
    fn a_changed_file_is_left_as_it_is() {
        let (directory, path) = directory_with("theirs");
        let error = replace(&path, b"new", |old| old == b"old").unwrap_err();
        assert!(matches!(error, Error::Changed(Some(text)) if text == b"theirs"));
        assert_eq!(fs::read(&path).unwrap(), b"theirs");
        assert_eq!(files(&directory), 1);
    }

    #[test]
    fn whoever_writes_in_the_last_moment_loses_nothing() {
        let (directory, path) = directory_with("old");
        let looks = Cell::new(0);
        let error = replace(&path, b"new", |old| {
            looks.set(looks.get() + 1);
            if looks.get() == 1 {
                // Somebody saves right after the first look.
                fs::write(&path, "theirs").unwrap();
            }
            old == b"old"
        })
        .unwrap_err();
        assert!(matches!(error, Error::Changed(Some(text)) if text == b"theirs"));
        assert_eq!(fs::read(&path).unwrap(), b"theirs");
        assert_eq!(files(&directory), 1);
    }

    #[test]
    fn a_link_stays_and_its_target_is_replaced() {
        let (directory, path) = directory_with("old");
        let link = directory.path().join("link");
        symlink("document", &link).unwrap();
        replace(&link, b"new", |_| true).unwrap();
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!(fs::read(&path).unwrap(), b"new");
    }

    #[test]
    fn a_missing_file_is_not_made() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("document");
        assert!(matches!(replace(&path, b"new", |_| true), Err(Error::Changed(None))));
        assert_eq!(files(&directory), 0);
    }
}
