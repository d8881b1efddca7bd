//! Running the git program so that nothing but its arguments decides what it does.

use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::process::Command;

/// A server that sends nothing useful for this long is as good as down.
const PATIENCE: Duration = Duration::from_secs(120);

/// Errors of git are a few lines; a server can make it print more.
const LONGEST_ERROR: u64 = 4096;

/// What of the daemon's environment reaches git: where programs are, and how the Internet is reached.
const INHERITED: [&str; 8] = [
    "PATH",
    "HTTPS_PROXY",
    "https_proxy",
    "NO_PROXY",
    "no_proxy",
    "ALL_PROXY",
    "SSL_CERT_FILE",
    "SSH_AUTH_SOCK",
];

/// Programs that run in a directory of their own.
#[derive(Debug, Clone)]
pub(super) struct Programs {
    /// Where they run, and what they take for their home.
    pub(super) directory: PathBuf,
}

/// What a program printed and how it ended.
pub(super) struct Ended {
    pub(super) status: ExitStatus,
    pub(super) stdout: Vec<u8>,
    pub(super) stderr: String,
}

/// Settings that git gets through its environment, where other users of the machine cannot read them.
pub(super) type Config = Vec<(String, OsString)>;

/// Variables beside the configuration.
pub(super) type Variables = Vec<(&'static str, OsString)>;

impl Programs {
    /// Runs `git` and reads up to `longest` bytes of what it prints.
    pub(super) async fn git(
        &self,
        arguments: &[&str],
        config: &Config,
        variables: &Variables,
        longest: u64,
    ) -> io::Result<Ended> {
        let mut command = self.command("git");
        command
            .env("GIT_TERMINAL_PROMPT", "0")
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .env("GIT_LITERAL_PATHSPECS", "1")
            .env("GIT_NO_REPLACE_OBJECTS", "1")
            .env("GIT_DIR", &self.directory)
            .env("GIT_CONFIG_COUNT", config.len().to_string())
            .args(arguments);
        for (index, (key, value)) in config.iter().enumerate() {
            command
                .env(format!("GIT_CONFIG_KEY_{index}"), key)
                .env(format!("GIT_CONFIG_VALUE_{index}"), value);
        }
        command.envs(variables.iter().map(|(name, value)| (name, value)));
        run(command, longest).await
    }

    /// Runs another program.
    pub(super) async fn run(&self, program: &str, arguments: &[&Path]) -> io::Result<Ended> {
        let mut command = self.command(program);
        command.args(arguments);
        run(command, 1 << 20).await
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.env_clear().current_dir(&self.directory).env("HOME", &self.directory).env("LC_ALL", "C");
        command.envs(INHERITED.into_iter().filter_map(|name| Some((name, std::env::var_os(name)?))));
        command
    }
}

async fn run(mut command: Command, longest: u64) -> io::Result<Ended> {
    let program = command.as_std().get_program().to_string_lossy().into_owned();
    // A group of its own: git has children that talk to the network, and they have to end with it.
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
    let mut child = command.spawn().map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => io::Error::new(
            error.kind(),
            format!("the program {program} is not installed, and is needed for this"),
        ),
        _ => error,
    })?;
    let _group = child.id().and_then(|id| i32::try_from(id).ok()).map(|id| Group(Pid::from_raw(id)));
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let all = async { tokio::join!(read(stdout, longest), read(stderr, LONGEST_ERROR), child.wait()) };
    let Ok((stdout, stderr, status)) = tokio::time::timeout(PATIENCE, all).await else {
        let seconds = PATIENCE.as_secs();
        return Err(io::Error::new(
            io::ErrorKind::TimedOut,
            format!("{program} took longer than {seconds} s"),
        ));
    };
    let stderr = String::from_utf8_lossy(&stderr?).trim().to_owned();
    Ok(Ended { status: status?, stdout: stdout?, stderr })
}

/// Reads up to `longest` bytes. What comes after that ends the program by a broken pipe, which is an error.
async fn read(pipe: Option<impl AsyncRead + Unpin>, longest: u64) -> io::Result<Vec<u8>> {
    let mut text = Vec::new();
    if let Some(pipe) = pipe {
        pipe.take(longest).read_to_end(&mut text).await?;
    }
    Ok(text)
}

/// The processes of one program; they end when nobody waits for it.
struct Group(Pid);

impl Drop for Group {
    fn drop(&mut self) {
        // They have usually ended by themselves.
        let _ = killpg(self.0, Signal::SIGKILL);
    }
}
