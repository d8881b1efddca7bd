//! Private keys as files that only their owner can read.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use async_trait::async_trait;
use ebb_wire::PrivateKey;
use zeroize::Zeroizing;

use super::{SecretError, SecretName, Secrets};

/// A [`Secrets`] in a directory of mode 0700 with one file of mode 0600 for each key, in WireGuard's text form.
#[derive(Debug, Clone)]
pub struct FileSecrets {
    directory: PathBuf,
}

impl FileSecrets {
    /// Uses `directory`, creating it if there is none.
    ///
    /// # Errors
    /// When it cannot be created or others may enter it.
    pub fn open(directory: &Path) -> io::Result<Self> {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
        let mode = fs::metadata(directory)?.permissions().mode() & 0o777;
        if mode & 0o077 != 0 {
            return Err(io::Error::other(format!(
                "{} has mode {mode:03o} and holds private keys; run `chmod 700 {}`",
                directory.display(),
                directory.display()
            )));
        }
        Ok(Self { directory: directory.to_owned() })
    }

    fn path(&self, name: &SecretName) -> PathBuf {
        self.directory.join(format!("{name}.key"))
    }

    fn error(&self, name: &SecretName, why: impl ToString) -> SecretError {
        SecretError { name: name.clone(), place: self.path(name).display().to_string(), why: why.to_string() }
    }

    fn read(&self, name: &SecretName) -> Result<Option<PrivateKey>, SecretError> {
        match fs::read_to_string(self.path(name)).map(Zeroizing::new) {
            Ok(text) => text.trim().parse().map(Some).map_err(|error| self.error(name, error)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(self.error(name, error)),
        }
    }

    /// Writes the key under another name first and links it, so that a half-written key never has the name, and so that the
    /// first of several writers wins.
    fn write(&self, name: &SecretName, key: &PrivateKey) -> io::Result<()> {
        let draft = self.directory.join(format!(".{name}.{}.new", std::process::id()));
        let result = self.write_draft(&draft, key).and_then(|()| fs::hard_link(&draft, self.path(name)));
        fs::remove_file(&draft)?;
        match result {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            other => other,
        }?;
        File::open(&self.directory)?.sync_all()
    }

    fn write_draft(&self, draft: &Path, key: &PrivateKey) -> io::Result<()> {
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(draft)?;
        file.write_all(key.reveal().as_bytes())?;
        file.write_all(b"\n")?;
        file.sync_all()
    }
}

#[async_trait]
impl Secrets for FileSecrets {
    async fn get(&self, name: &SecretName) -> Result<Option<PrivateKey>, SecretError> {
        self.read(name)
    }

    async fn ensure(&self, name: &SecretName, fresh: PrivateKey) -> Result<PrivateKey, SecretError> {
        if let Some(key) = self.read(name)? {
            return Ok(key);
        }
        self.write(name, &fresh).map_err(|error| self.error(name, error))?;
        self.read(name)?.ok_or_else(|| self.error(name, "the file has vanished"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_name_keeps_its_first_key() {
        let directory = tempfile::tempdir().unwrap();
        let secrets = FileSecrets::open(&directory.path().join("secrets")).unwrap();
        let name = SecretName::User("alice".parse().unwrap());
        assert!(secrets.get(&name).await.unwrap().is_none());
        let first = secrets.ensure(&name, PrivateKey::from_random([1; 32])).await.unwrap();
        let second = secrets.ensure(&name, PrivateKey::from_random([2; 32])).await.unwrap();
        assert_eq!(first.public(), second.public());
    }

    #[tokio::test]
    async fn key_files_are_for_their_owner_alone() {
        let directory = tempfile::tempdir().unwrap();
        let secrets = FileSecrets::open(&directory.path().join("secrets")).unwrap();
        secrets.ensure(&SecretName::Control, PrivateKey::from_random([1; 32])).await.unwrap();
        let path = directory.path().join("secrets/control.key");
        assert_eq!(fs::metadata(path).unwrap().permissions().mode() & 0o777, 0o600);
        let files = fs::read_dir(directory.path().join("secrets")).unwrap().count();
        assert_eq!(files, 1, "no draft is left behind");
    }

    #[test]
    fn a_directory_that_others_can_enter_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let error = FileSecrets::open(directory.path()).unwrap_err().to_string();
        assert!(error.contains("chmod 700"), "{error}");
    }

    #[tokio::test]
    async fn a_damaged_key_is_an_error_that_does_not_quote_it() {
        let directory = tempfile::tempdir().unwrap();
        let secrets = FileSecrets::open(&directory.path().join("secrets")).unwrap();
        fs::write(directory.path().join("secrets/control.key"), "hush-hush").unwrap();
        let error = secrets.get(&SecretName::Control).await.unwrap_err().to_string();
        assert!(error.contains("control.key") && !error.contains("hush"), "{error}");
    }
}
