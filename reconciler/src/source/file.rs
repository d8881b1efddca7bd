//! The document as a file of this machine.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use ebb_core::plan::Revision;
use notify::event::EventKind;
use notify::{RecommendedWatcher, RecursiveMode, Watcher as _};
use sha2::{Digest as _, Sha256};
use tokio::sync::Notify;

use super::{Base, Fetched, Provenance, Reason, ReplaceError, Source, SourceError};
use crate::atomic;

/// Editors write in several steps; a document is read when the directory has been quiet for this long. It is the only wait
/// between an edit and its effect.
const QUIET: Duration = Duration::from_millis(40);

/// A directory in which something happens all the time is read this often all the same.
const PATIENCE: Duration = Duration::from_millis(400);

/// Network file systems report nothing.
const REREAD_EVERY: Duration = Duration::from_secs(30);

/// No document is longer: 10,000 sessions take 2.2 MB.
const LONGEST: u64 = 8 * 1024 * 1024;

/// A [`Source`] that watches a file.
///
/// It watches the *directory*: a watch on the file itself follows the old file when an editor or a mounted `ConfigMap` puts a
/// new one in its place. Reading the file is an event too, so accesses are ignored, and whether something changed is decided
/// by the content.
pub struct FileSource {
    path: PathBuf,
    stirred: Arc<Notify>,
    watcher: Mutex<Option<RecommendedWatcher>>,
    watched: Mutex<Vec<PathBuf>>,
}

impl FileSource {
    /// Watches the file at `path`, which need not exist yet.
    ///
    /// # Errors
    /// When the system has no watches left.
    pub fn open(path: &Path) -> io::Result<Self> {
        let stirred = Arc::new(Notify::new());
        let notify = Arc::clone(&stirred);
        let watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            if !matches!(event, Ok(event) if matches!(event.kind, EventKind::Access(_))) {
                notify.notify_one();
            }
        })
        .map_err(io::Error::other)?;
        let source = Self {
            path: std::path::absolute(path)?,
            stirred,
            watcher: Mutex::new(Some(watcher)),
            watched: Mutex::default(),
        };
        source.watch();
        Ok(source)
    }

    /// Watches the directories that decide what the path names: its own and, behind symbolic links, the target's.
    fn watch(&self) {
        let target = self.path.canonicalize().ok();
        let wanted: Vec<PathBuf> = [Some(self.path.as_path()), target.as_deref()]
            .into_iter()
            .flatten()
            .filter_map(|path| path.parent().map(Path::to_owned))
            .collect();
        let mut watched = self.watched.lock().unwrap_or_else(PoisonError::into_inner);
        let mut watcher = self.watcher.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(watcher) = watcher.as_mut() else { return };
        for old in watched.iter().filter(|old| !wanted.contains(old)) {
            let _ = watcher.unwatch(old);
        }
        watched.retain(|old| wanted.contains(old));
        for new in wanted {
            if !watched.contains(&new) && watcher.watch(&new, RecursiveMode::NonRecursive).is_ok() {
                watched.push(new);
            }
        }
    }

    fn read(&self) -> io::Result<Vec<u8>> {
        let mut text = Vec::new();
        File::open(&self.path)?.take(LONGEST + 1).read_to_end(&mut text)?;
        Ok(text)
    }
}

#[async_trait]
impl Source for FileSource {
    async fn fetch(&self, _base: Option<&Base>) -> Result<Fetched, SourceError> {
        self.watch();
        let text = self.read().map_err(|error| {
            let reason = match error.kind() {
                io::ErrorKind::NotFound => Reason::Missing,
                io::ErrorKind::IsADirectory => Reason::NotAFile,
                _ => Reason::FetchFailed,
            };
            SourceError { origin: self.origin(), reason, why: error.to_string(), revision: None }
        })?;
        let revision = revision_of(&text);
        Ok(Fetched { text, revision, provenance: Provenance::default() })
    }

    async fn changed(&self) {
        if tokio::time::timeout(REREAD_EVERY, self.stirred.notified()).await.is_err() {
            return;
        }
        let quiet = async { while tokio::time::timeout(QUIET, self.stirred.notified()).await.is_ok() {} };
        let _ = tokio::time::timeout(PATIENCE, quiet).await;
    }

    async fn replace(&self, text: &str, expected: &Revision) -> Result<Revision, ReplaceError> {
        let matches = |old: &[u8]| revision_of(old) == *expected;
        match atomic::replace(&self.path, text.as_bytes(), matches) {
            Ok(()) => Ok(revision_of(text.as_bytes())),
            Err(atomic::Error::Changed(found)) => {
                let current = found.map(|text| revision_of(&text));
                Err(ReplaceError::Changed { origin: self.origin(), current })
            }
            Err(atomic::Error::Io(error)) => {
                Err(ReplaceError::Failed { origin: self.origin(), why: error.to_string() })
            }
        }
    }

    fn origin(&self) -> String {
        self.path.display().to_string()
    }
}

/// The revision of a text that has no other name: the beginning of its SHA-256.
#[must_use]
pub fn revision_of(text: &[u8]) -> Revision {
    Revision(Sha256::digest(text).iter().take(8).map(|byte| format!("{byte:02x}")).collect())
}
