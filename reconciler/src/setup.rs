//! From settings to adapters: which source, provider, store and secrets a daemon works with.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::ValueEnum;

#[cfg(feature = "azure")]
use crate::azure::{Azure, AzureError, AzureSettings, storage::Storage, tables::Tables};
use crate::leadership::Leadership;
#[cfg(feature = "azure")]
use crate::leadership::MOST_SHARDS;
#[cfg(feature = "azure")]
use crate::provider::{AciProvider, AciSettings};
use crate::provider::{LocalProvider, LocalSettings, Provider};
#[cfg(feature = "azure")]
use crate::secrets::VaultSecrets;
use crate::secrets::{FileSecrets, Secrets};
#[cfg(feature = "azure")]
use crate::source::BlobSource;
use crate::source::{FileSource, GitSettings, GitSource, LocationError, Source};
#[cfg(feature = "azure")]
use crate::store::TablesStore;
use crate::store::{RedbStore, Store, StoreError};

/// Where everything is.
#[derive(Debug, Clone, clap::Args)]
pub struct Settings {
    /// The desired-state document: a file, or one in Git as git+https://host/repository.git?ref=main&path=desired-state.yaml.
    #[arg(
        long,
        env = "EBB_DOCUMENT",
        default_value = "desired-state/desired-state.yaml",
        value_name = "FILE|URL"
    )]
    pub document: String,
    /// How a document in Git is reached and whom it has to be signed by.
    #[command(flatten)]
    pub git: GitSettings,
    /// Where gateways run.
    #[arg(long, env = "EBB_PROVIDER", value_enum, default_value = "local")]
    pub provider: ProviderKind,
    /// Where records and history are kept: a file, or the address of a storage account's tables [default: store.redb in the
    /// state directory].
    #[arg(long, env = "EBB_STORE", value_name = "FILE|URL", hide_env_values = true)]
    pub store: Option<String>,
    /// Where private keys are kept: a directory, or the address of a key vault [default: secrets in the state directory].
    #[arg(long, env = "EBB_SECRETS", value_name = "DIR|URL")]
    pub secrets: Option<String>,
    /// Address of the blob whose lease says which of several daemons leads [default: the state directory is the lock].
    #[cfg(feature = "azure")]
    #[arg(long, env = "EBB_LOCK", value_name = "URL", hide_env_values = true)]
    pub lock: Option<String>,
    /// Into how many parts the sessions are divided, so that several daemons can take care of them at once: 1 to 16, the same for
    /// all daemons of a deployment.
    #[cfg(feature = "azure")]
    #[arg(
        long,
        env = "EBB_SHARDS",
        default_value_t = 1,
        value_parser = clap::value_parser!(u16).range(1..=i64::from(MOST_SHARDS)),
        value_name = "NUMBER",
        requires = "lock"
    )]
    pub shards: u16,
    /// Name or address under which clients reach local gateways.
    #[arg(long, env = "EBB_ADVERTISE", default_value = "127.0.0.1", value_name = "HOST")]
    pub advertise: String,
    /// A gateway program to use for local gateways instead of this one.
    #[arg(long, env = "EBB_GATEWAY", value_name = "PROGRAM")]
    pub gateway: Option<PathBuf>,
    /// Azure.
    #[cfg(feature = "azure")]
    #[command(flatten)]
    pub azure: AzureSettings,
}

/// Where gateways run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ProviderKind {
    /// As processes of this machine.
    Local,
    /// On Azure Container Instances.
    #[cfg(feature = "azure")]
    Aci,
}

/// Why an adapter cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// A file or directory cannot be used.
    #[error("cannot use {path}: {error}")]
    Path {
        /// Which.
        path: String,
        /// Why not.
        error: io::Error,
    },
    /// Another daemon works on the state directory.
    #[error(
        "another daemon (process {holder}) works on {path}; stop it first, or name another directory with --state"
    )]
    Locked {
        /// The state directory.
        path: String,
        /// The other daemon.
        holder: String,
    },
    /// The document is named wrongly.
    #[error("--document: {0}")]
    Location(#[from] LocationError),
    /// The store cannot be opened.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Azure cannot be used.
    #[cfg(feature = "azure")]
    #[error(transparent)]
    Azure(#[from] AzureError),
}

fn at<T>(path: &Path, result: io::Result<T>) -> Result<T, SetupError> {
    result.map_err(|error| SetupError::Path { path: path.display().to_string(), error })
}

impl Settings {
    /// The source of the document.
    ///
    /// # Errors
    /// When it cannot be watched.
    pub fn source(&self, state: &Path) -> Result<Arc<dyn Source>, SetupError> {
        if self.document.starts_with("git+") {
            let location = self.document.parse()?;
            return Ok(Arc::new(at(state, GitSource::open(location, &self.git, state))?));
        }
        #[cfg(feature = "azure")]
        if is_blob(&self.document) {
            let storage = Storage::open(&Azure::open(&self.azure)?, "EBB_DOCUMENT", &self.document)?;
            return Ok(Arc::new(BlobSource::new(storage)));
        }
        let path = Path::new(&self.document);
        Ok(Arc::new(at(path, FileSource::open(path))?))
    }

    /// The provider.
    ///
    /// # Errors
    /// When its directories cannot be made.
    pub fn provider(
        &self,
        state: &Path,
        leadership: &Arc<Leadership>,
    ) -> Result<Arc<dyn Provider>, SetupError> {
        #[cfg(not(feature = "azure"))]
        let _ = leadership;
        match self.provider {
            ProviderKind::Local => {
                // The executable by this name is the running one even after its file was replaced by a newer build.
                let program = match &self.gateway {
                    Some(program) => vec![program.clone().into_os_string()],
                    None => vec!["/proc/self/exe".into(), "gateway".into()],
                };
                let settings =
                    LocalSettings { state: state.to_owned(), advertise: self.advertise.clone(), program };
                Ok(Arc::new(at(state, LocalProvider::open(settings))?))
            }
            #[cfg(feature = "azure")]
            ProviderKind::Aci => {
                let settings = AciSettings::of(&self.azure)?;
                let azure = Azure::open(&self.azure)?;
                Ok(Arc::new(AciProvider::new(&azure, settings, Arc::clone(leadership))))
            }
        }
    }

    /// The store.
    ///
    /// # Errors
    /// When it cannot be opened.
    pub fn store(&self, state: &Path, leadership: &Arc<Leadership>) -> Result<Arc<dyn Store>, SetupError> {
        #[cfg(not(feature = "azure"))]
        let _ = leadership;
        #[cfg(feature = "azure")]
        if let Some(url) = self.store.as_ref().filter(|store| is_address(store)) {
            let tables = Tables::open(&Azure::open(&self.azure)?, "EBB_STORE", url)?;
            return Ok(Arc::new(TablesStore::new(tables, Arc::clone(leadership))));
        }
        let path = self.store.as_ref().map_or_else(|| state.join("store.redb"), PathBuf::from);
        Ok(Arc::new(RedbStore::open(&path)?))
    }

    /// Where the lock is that several daemons share, if there is one.
    ///
    /// # Errors
    /// When its address cannot be used.
    #[cfg(feature = "azure")]
    pub fn lock(&self) -> Result<Option<Storage>, SetupError> {
        let Some(url) = self.lock.as_ref().filter(|url| !url.is_empty()) else { return Ok(None) };
        Ok(Some(Storage::open(&Azure::open(&self.azure)?, "EBB_LOCK", url)?))
    }

    /// The secrets.
    ///
    /// # Errors
    /// When their directory cannot be used.
    pub fn secrets(&self, state: &Path) -> Result<Arc<dyn Secrets>, SetupError> {
        #[cfg(feature = "azure")]
        if let Some(url) = self.secrets.as_ref().filter(|secrets| is_address(secrets)) {
            return Ok(Arc::new(VaultSecrets::open(&Azure::open(&self.azure)?, "EBB_SECRETS", url)?));
        }
        let path = self.secrets.as_ref().map_or_else(|| state.join("secrets"), PathBuf::from);
        Ok(Arc::new(at(&path, FileSecrets::open(&path))?))
    }
}

/// Whether a setting names a service instead of a file.
#[cfg(feature = "azure")]
fn is_address(text: &str) -> bool {
    text.starts_with("https://") || text.starts_with("http://")
}

/// Whether a document is a blob: of a storage account, or of an emulator on this machine.
#[cfg(feature = "azure")]
fn is_blob(text: &str) -> bool {
    let host = text.strip_prefix("https://").and_then(|rest| rest.split('/').next());
    text.starts_with("http://") || host.is_some_and(|host| host.contains(".blob."))
}

/// Makes the state directory if there is none; returns its absolute path.
///
/// # Errors
/// When it cannot be made.
pub fn prepare_state(directory: &Path) -> Result<PathBuf, SetupError> {
    at(directory, fs::DirBuilder::new().recursive(true).mode(0o700).create(directory))?;
    at(directory, directory.canonicalize())
}

/// Takes the state directory for this process. The kernel gives it back however the process ends.
///
/// # Errors
/// [`SetupError::Locked`] when another process has it.
pub fn lock_state(state: &Path) -> Result<File, SetupError> {
    let path = state.join("lock");
    let open = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(&path);
    let mut file = at(&path, open)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut holder = String::new();
            at(&path, file.read_to_string(&mut holder))?;
            let holder = holder.trim().to_owned();
            return Err(SetupError::Locked { path: state.display().to_string(), holder });
        }
        Err(TryLockError::Error(error)) => return at(&path, Err(error)),
    }
    at(&path, file.set_len(0).and_then(|()| writeln!(file, "{}", std::process::id())))?;
    Ok(file)
}
