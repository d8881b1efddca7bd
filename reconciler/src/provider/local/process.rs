//! One gateway process and its directory.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::process::Command;
use tokio::sync::Notify;

/// A gateway ends at once on SIGTERM; one that has not after this long is stuck.
const TERM_PATIENCE: Duration = Duration::from_secs(2);

/// How often to look whether it has ended.
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// Whether a gateway lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Life {
    /// It does.
    Running,
    /// It does not.
    Ended {
        /// Its exit status, if it ended by itself.
        status: Option<i32>,
    },
}

/// The directory of one gateway.
#[derive(Debug, Clone)]
pub(super) struct Home {
    path: PathBuf,
}

impl Home {
    pub(super) fn new(path: PathBuf) -> Self {
        Self { path }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn boot(&self) -> PathBuf {
        self.path.join("boot.json")
    }

    pub(super) fn life(&self) -> io::Result<Life> {
        if self.is_locked()? {
            return Ok(Life::Running);
        }
        let ended = fs::read_to_string(self.path.join("ended")).ok();
        Ok(Life::Ended { status: ended.and_then(|text| text.split_whitespace().next()?.parse().ok()) })
    }

    /// Starts `program` with the lock as its standard input.
    pub(super) fn start(&self, program: &[OsString], log: &Path, changed: Arc<Notify>) -> io::Result<()> {
        let lock = OpenOptions::new().create(true).append(true).mode(0o600).open(self.path.join("lock"))?;
        lock.try_lock().map_err(|error| io::Error::other(format!("its lock is held: {error}")))?;
        let log = OpenOptions::new().create(true).append(true).mode(0o600).open(log)?;
        let (program, leading) =
            program.split_first().ok_or_else(|| io::Error::other("no gateway program is configured"))?;
        let mut command = Command::new(program);
        command
            .args(leading)
            .arg("run")
            .arg("--boot")
            .arg(self.boot())
            .arg("--termination-log")
            .arg(self.path.join("ended"))
            // Nothing of the daemon's environment is a gateway's business, least of all credentials.
            .env_clear()
            .current_dir("/")
            // Its own process group: Ctrl-C in the daemon's terminal is not meant for it.
            .process_group(0)
            .stdin(Stdio::from(lock))
            .stdout(Stdio::from(log.try_clone()?))
            .stderr(Stdio::from(log));
        if let Some(filter) = std::env::var_os("EBB_LOG") {
            command.env("EBB_LOG", filter);
        }
        let mut child = command.spawn()?;
        let pid = child.id().ok_or_else(|| io::Error::other("the gateway ended at once"))?;
        write_private(&self.path.join("pid"), pid.to_string().as_bytes())?;
        tokio::spawn(async move {
            // The status is in the file that the gateway wrote; waiting only buries the child.
            let _ = child.wait().await;
            changed.notify_one();
        });
        Ok(())
    }

    /// Ends the process, politely first.
    pub(super) async fn end(&self) -> io::Result<()> {
        for signal in [Signal::SIGTERM, Signal::SIGKILL] {
            let Some(pid) = self.pid()? else { return Ok(()) };
            match kill(pid, signal) {
                Ok(()) | Err(nix::errno::Errno::ESRCH) => {}
                Err(errno) => return Err(errno.into()),
            }
            // A stopped process takes no SIGTERM until it goes on.
            let _ = kill(pid, Signal::SIGCONT);
            if tokio::time::timeout(TERM_PATIENCE, self.ended()).await.is_ok() {
                return Ok(());
            }
        }
        Err(io::Error::other("it does not end even when killed"))
    }

    async fn ended(&self) {
        while self.is_locked().unwrap_or(false) {
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    pub(super) fn remove(&self) -> io::Result<()> {
        match fs::remove_dir_all(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            other => other,
        }
    }

    fn is_locked(&self) -> io::Result<bool> {
        let lock = match File::open(self.path.join("lock")) {
            Ok(lock) => lock,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            Err(error) => return Err(error),
        };
        match lock.try_lock_shared() {
            Ok(()) => Ok(false),
            Err(TryLockError::WouldBlock) => Ok(true),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }

    /// The process that holds the lock; `None` when nobody does.
    fn pid(&self) -> io::Result<Option<Pid>> {
        if !self.is_locked()? {
            return Ok(None);
        }
        let lock = fs::metadata(self.path.join("lock"))?;
        let holds = |pid: i32| {
            fs::metadata(format!("/proc/{pid}/fd/0"))
                .is_ok_and(|input| (input.dev(), input.ino()) == (lock.dev(), lock.ino()))
        };
        let noted = fs::read_to_string(self.path.join("pid")).ok().and_then(|text| text.trim().parse().ok());
        if let Some(pid) = noted.filter(|pid| holds(*pid)) {
            return Ok(Some(Pid::from_raw(pid)));
        }
        // The daemon died between starting the gateway and noting its id.
        let found = fs::read_dir("/proc")?
            .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
            .find(|pid| holds(*pid));
        found.map(|pid| Some(Pid::from_raw(pid))).ok_or_else(|| {
            io::Error::other("its lock is held by a process that cannot be found; end that process by hand")
        })
    }
}

/// Writes a file of mode 0600 so that it is there whole or not at all.
pub(super) fn write_private(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let draft = path.with_extension("new");
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&draft)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&draft, path)
}
