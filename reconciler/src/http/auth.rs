//! Who is asking.

use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{StatusCode, header};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use super::{App, Problem};

/// The key of whoever runs the daemon: a file that only they can read.
pub struct AdminKey {
    hash: [u8; 32],
}

impl AdminKey {
    /// Reads the key at `path`; makes one if there is none.
    ///
    /// # Errors
    /// When the file can neither be read nor made.
    pub fn open(path: &Path) -> io::Result<Self> {
        let text = match fs::read_to_string(path).map(Zeroizing::new) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => make(path)?,
            other => other?,
        };
        Ok(Self { hash: Sha256::digest(text.trim()).into() })
    }

    /// Whether `key` is it. Comparing hashes leaks nothing about the key, however long the comparison takes.
    #[must_use]
    pub fn matches(&self, key: &str) -> bool {
        self.hash == <[u8; 32]>::from(Sha256::digest(key))
    }
}

fn make(path: &Path) -> io::Result<Zeroizing<String>> {
    let key = Zeroizing::new(BASE64.encode(rand::random::<[u8; 32]>()));
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(key.as_bytes())?;
    file.write_all(b"\n")?;
    file.sync_all()?;
    Ok(key)
}

/// Proof that the request came with the admin key.
pub struct Admin;

impl FromRequestParts<App> for Admin {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Problem> {
        let refused = || {
            Problem::new(
                StatusCode::UNAUTHORIZED,
                "UNAUTHENTICATED",
                "the X-API-Key header is missing or wrong; the key is in the file admin.key of the daemon's state directory",
            )
        };
        key(parts).filter(|key| app.admin.matches(key)).map(|_| Self).ok_or_else(refused)
    }
}

/// The API key of a request, from `X-API-Key` or as a bearer token.
fn key(parts: &Parts) -> Option<&str> {
    let header = |name: &str| parts.headers.get(name).and_then(|value| value.to_str().ok());
    let bearer = header(header::AUTHORIZATION.as_str()).and_then(|value| value.strip_prefix("Bearer "));
    header("x-api-key").or(bearer)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn the_admin_key_is_made_once_and_for_its_owner_alone() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("admin.key");
        let first = AdminKey::open(&path).unwrap();
        let text = fs::read_to_string(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(first.matches(text.trim()));
        assert!(AdminKey::open(&path).unwrap().matches(text.trim()));
        assert!(!first.matches("") && !first.matches(&text));
    }
}
