//! Programs that run while a test does.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::namespace::Namespace;
use super::wait::eventually;

/// A running program; dropping it kills it.
pub struct Process {
    child: Child,
    name: String,
    log: PathBuf,
}

impl Process {
    /// Starts a program inside a namespace. What it prints goes to a file named after it in `logs`.
    pub fn spawn(namespace: &Namespace, logs: &Path, name: &str, mut command: Command) -> Self {
        let log = (1..)
            .map(|number| logs.join(format!("{name}.{number}.log")))
            .find(|path| !path.exists())
            .expect("numbers do not end");
        let file = File::create_new(&log).expect("a log file can be made");
        let other = file.try_clone().expect("a file can be shared");
        command.stdin(Stdio::null()).stdout(file).stderr(other);
        let child = namespace.run(move || command.spawn());
        let child = child.unwrap_or_else(|error| panic!("cannot start {name}: {error}"));
        Self { child, name: name.to_owned(), log }
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> Pid {
        Pid::from_raw(i32::try_from(self.child.id()).expect("process ids are positive"))
    }

    /// Everything that it has printed.
    #[must_use]
    pub fn log(&self) -> String {
        fs::read(&self.log).map(|text| String::from_utf8_lossy(&text).into_owned()).unwrap_or_default()
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        kill(self.pid(), signal).unwrap_or_else(|error| panic!("{signal} for {}: {error}", self.name));
    }

    /// Its exit status, if it has ended.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("a child can be waited for")
    }

    /// Waits until it has ended.
    pub fn await_end(&mut self, within: Duration) -> ExitStatus {
        let what = format!("{} ends", self.name);
        eventually(&what, within, || self.ended().ok_or_else(|| "it runs".to_owned()))
    }

    /// Waits until it has printed `text`.
    pub fn await_log(&mut self, text: &str, within: Duration) {
        let what = format!("{} says {text:?}", self.name);
        eventually(&what, within, || {
            let log = self.log();
            if log.contains(text) {
                return Ok(());
            }
            let end = self.ended().map(|status| format!(" and ended with {status}"));
            Err(format!("it said\n{log}{}", end.unwrap_or_default()))
        });
    }

    /// Kills it at once.
    pub fn kill(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Shows what it printed to whoever reads of a failed test.
    #[expect(clippy::print_stderr, reason = "the output of a failed test")]
    pub fn show(&self) {
        eprintln!("---- {} ({})\n{}", self.name, self.log.display(), self.log());
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            self.show();
        }
    }
}

/// Whether a process that is nobody's child here lives. One that has ended and waits to be buried does not.
#[must_use]
pub fn lives(pid: Pid) -> bool {
    if kill(pid, None) == Err(Errno::ESRCH) {
        return false;
    }
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let state = stat.rsplit_once(") ").and_then(|(_, rest)| rest.chars().next());
    !matches!(state, None | Some('Z' | 'X'))
}
