//! The daemon and its document.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::{Command, ExitStatus};
use std::time::Duration;

use ebb::view::{SessionView, StatusView};
use ebb_core::note::Note;
use ebb_core::state::StateName;
use nix::sys::signal::Signal;
use nix::unistd::Pid;

use super::command::Output;
use super::process::{Process, lives};
use super::wait::eventually;
use super::world::{HOST, World, replica_api};

/// Where the daemon's HTTP side is.
pub const API: &str = "127.0.0.1:9180";

/// Everything that a healthy daemon does takes less.
pub const SOON: Duration = Duration::from_secs(20);

/// A running `ebb run`. Dropping it kills it; its gateways live as long as the world.
pub struct Daemon<'w> {
    world: &'w World,
    process: Process,
    /// Which of several.
    number: Option<u8>,
}

impl<'w> Daemon<'w> {
    /// Writes the document and starts the daemon on it.
    pub fn with_document(world: &'w World, document: &str) -> Self {
        write_document(world, document);
        Self::start(world, &[])
    }

    /// Starts the daemon and waits until it answers.
    pub fn start(world: &'w World, options: &[&str]) -> Self {
        let mut command = world.ebb_command(&["run", "--advertise", HOST]);
        command.args(options);
        Self::run(world, command)
    }

    /// The same with a command line of the caller's.
    pub fn run(world: &'w World, command: Command) -> Self {
        let mut daemon = Self::run_known(world, command, |_| ());
        daemon.await_answer();
        daemon
    }

    /// Starts one of several daemons, which share a lock; see [`World::replica_command`].
    pub fn replica(world: &'w World, number: u8, options: &[&str]) -> Self {
        let mut command = world.replica_command(number, &["run"]);
        command.args(options);
        let process = Process::spawn(&world.host, &world.logs(), &format!("daemon-{number}"), command);
        let mut daemon = Self { world, process, number: Some(number) };
        daemon.await_answer();
        daemon
    }

    /// Runs `ebb` against this daemon.
    pub fn ebb(&self, arguments: &[&str]) -> Output {
        let command = match self.number {
            Some(number) => self.world.replica_command(number, arguments),
            None => self.world.ebb_command(arguments),
        };
        self.world.run(&self.world.host, command)
    }

    fn api(&self) -> String {
        self.number.map_or_else(|| API.to_owned(), replica_api)
    }

    /// The same for a daemon that may die at any moment, and whose process id must be known before it does anything.
    pub fn run_known(world: &'w World, command: Command, know: impl FnOnce(Pid)) -> Self {
        let process = Process::spawn(&world.host, &world.logs(), "daemon", command);
        know(process.pid());
        Self { world, process, number: None }
    }

    fn await_answer(&mut self) {
        let api = self.api();
        let Self { world, process, .. } = self;
        eventually("the daemon answers", SOON, || {
            if let Some(status) = process.ended() {
                panic!("the daemon ended with {status}:\n{}", process.log());
            }
            match http_get(world, &api, "/livez") {
                Ok((200, _)) => Ok(()),
                other => Err(format!("{other:?}")),
            }
        });
    }

    /// The state of a session, if the daemon lives and knows it.
    #[must_use]
    pub fn try_state(&self, session: &str) -> Option<StateName> {
        let view = self.try_status()?.sessions.into_iter().find(|view| view.session.as_str() == session);
        view.map(|view| view.state_name())
    }

    /// How many sessions the daemon knows, if it lives.
    #[must_use]
    pub fn try_sessions(&self) -> Option<usize> {
        Some(self.try_status()?.sessions.len())
    }

    fn try_status(&self) -> Option<StatusView> {
        let output = self.ebb(&["status", "-o", "json"]);
        if output.status.success() { serde_json::from_str(&output.stdout).ok() } else { None }
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> Pid {
        self.process.pid()
    }

    /// What it has printed.
    #[must_use]
    pub fn log(&self) -> String {
        self.process.log()
    }

    /// Its exit status, if it has ended.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.process.ended()
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        self.process.signal(signal);
    }

    /// Waits until it has ended.
    pub fn await_end(&mut self, within: Duration) -> ExitStatus {
        self.process.await_end(within)
    }

    /// `kill -9`.
    pub fn kill(&mut self) {
        self.process.kill();
    }

    /// What `ebb status` says.
    #[must_use]
    pub fn status(&self) -> StatusView {
        self.ebb(&["status", "-o", "json"]).success().json()
    }

    /// What is known of one session, if anything is.
    #[must_use]
    pub fn session(&self, name: &str) -> Option<SessionView> {
        self.status().sessions.into_iter().find(|view| view.session.as_str() == name)
    }

    /// Waits until a session is in a state.
    pub fn await_state(&self, session: &str, state: StateName, within: Duration) -> SessionView {
        self.await_session(session, &format!("is {state}"), within, |view| view.state_name() == state)
    }

    /// Waits until a session is as it should be.
    pub fn await_session(
        &self,
        session: &str,
        what: &str,
        within: Duration,
        is: impl Fn(&SessionView) -> bool,
    ) -> SessionView {
        eventually(&format!("{session} {what}"), within, || match self.session(session) {
            Some(view) if is(&view) => Ok(view),
            Some(view) => Err(format!("{}; {:?}", view.because.join("; "), view.conditions)),
            None => Err("there is no such session".to_owned()),
        })
    }

    /// The history of a session, newest first.
    #[must_use]
    pub fn events(&self, session: &str) -> Vec<Note> {
        self.ebb(&["events", "--session", session, "--limit", "1000", "-o", "json"]).success().json()
    }

    /// Waits until the daemon has judged the newest version of the document.
    pub fn await_revision(&self, before: &StatusView) -> StatusView {
        eventually("the document is judged", SOON, || {
            let status = self.status();
            let judged = status.revision != before.revision || status.problems != before.problems;
            if judged { Ok(status) } else { Err(format!("{:?}", status.revision)) }
        })
    }

    /// Writes the document as most editors do, and waits until the daemon has judged it.
    pub fn edit(&self, document: &str) -> StatusView {
        let before = self.status();
        write_document(self.world, document);
        self.await_revision(&before)
    }

    /// Process id of a session's gateway.
    #[must_use]
    pub fn gateway(&self, session: &str) -> Pid {
        if let Some(azure) = &self.world.azure {
            let pid = azure.pid(&format!("ebb-home-{session}"));
            return pid.unwrap_or_else(|| panic!("no container of {session} runs: {:?}", azure.groups()));
        }
        let path = gateway_home(self.world, session).join("pid");
        let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let pid = Pid::from_raw(text.trim().parse().expect("a process id"));
        assert!(lives(pid), "the gateway of {session} does not run:\n{}", self.gateway_log(session));
        pid
    }

    /// Process id of a session's gateway, if one runs.
    #[must_use]
    pub fn try_gateway(&self, session: &str) -> Option<Pid> {
        if let Some(azure) = &self.world.azure {
            return azure.pid(&format!("ebb-home-{session}"));
        }
        let text = fs::read_to_string(gateway_home(self.world, session).join("pid")).ok()?;
        text.trim().parse().ok().map(Pid::from_raw)
    }

    /// Whether the provider has anything left of a session's gateway.
    #[must_use]
    pub fn has_gateway(&self, session: &str) -> bool {
        match &self.world.azure {
            Some(azure) => azure.groups().iter().any(|group| group["name"] == format!("ebb-home-{session}")),
            None => gateway_home(self.world, session).exists(),
        }
    }

    /// What the gateways of a session have printed.
    #[must_use]
    pub fn gateway_log(&self, session: &str) -> String {
        if let Some(azure) = &self.world.azure {
            return azure.log(&format!("ebb-home-{session}"));
        }
        let path = self.world.path("state/logs").join(format!("{session}.log"));
        fs::read_to_string(path).unwrap_or_default()
    }

    /// Gets a path of the daemon's HTTP side; the status and the body.
    #[must_use]
    pub fn get(&self, path: &str) -> (u16, String) {
        http_get(self.world, &self.api(), path).unwrap_or_else(|error| panic!("{path}: {error}"))
    }

    #[expect(clippy::print_stderr, reason = "the output of a failed test")]
    fn show(&mut self) {
        if self.process.ended().is_some() {
            return;
        }
        eprintln!("{}", self.ebb(&["status"]));
        let status = self.ebb(&["status", "-o", "json"]);
        let status: Option<StatusView> = serde_json::from_str(&status.stdout).ok();
        for session in status.into_iter().flat_map(|status| status.sessions) {
            let name = session.session.as_str();
            eprintln!("{}", self.ebb(&["explain", name]));
            eprintln!("---- gateway of {name}\n{}", self.gateway_log(name));
        }
        eprintln!("{}", self.ebb(&["events"]));
    }
}

impl Drop for Daemon<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.show();
        }
    }
}

/// Where the local provider keeps a gateway's files.
#[must_use]
pub fn gateway_home(world: &World, session: &str) -> PathBuf {
    world.path("state/local").join(format!("ebb-home-{session}"))
}

/// The exit status of a session's gateway that has ended, and what it said.
///
/// # Panics
/// When it has not ended.
#[must_use]
pub fn last_words(world: &World, session: &str) -> (i64, String) {
    let Some(azure) = &world.azure else {
        let path = gateway_home(world, session).join("ended");
        let words = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let status = words.split(' ').next().and_then(|status| status.parse().ok());
        return (status.unwrap_or_else(|| panic!("{words:?} begins with no status")), words);
    };
    let name = format!("ebb-home-{session}");
    let groups = azure.groups();
    let group = groups.iter().find(|group| group["name"] == name.as_str());
    let group = group.unwrap_or_else(|| panic!("there is no group {name}"));
    let state = &group["properties"]["containers"][0]["properties"]["instanceView"]["currentState"];
    let status = state["exitCode"].as_i64().unwrap_or_else(|| panic!("{name} has not ended: {state}"));
    (status, azure.log(&name))
}

/// What a session's gateway was told when it was started: its private key is in it.
///
/// # Panics
/// When there is none.
#[must_use]
pub fn boot(world: &World, session: &str) -> String {
    if let Some(azure) = &world.azure {
        let boot = azure.secret(&format!("ebb-home-{session}"), "EBB_BOOT");
        return boot.unwrap_or_else(|| panic!("{session} has no group"));
    }
    let path = gateway_home(world, session).join("boot.json");
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Writes the document under another name and renames it, so that nobody sees half of it.
pub fn write_document(world: &World, document: &str) {
    let document = document.replace("region: local", &format!("region: {}", world.region()));
    let directory = world.path("desired");
    fs::create_dir_all(&directory).expect("the world's directory is ours");
    let draft = directory.join(".desired-state.yaml.new");
    fs::write(&draft, document).expect("the world's directory is ours");
    fs::rename(draft, directory.join("desired-state.yaml")).expect("the world's directory is ours");
}

/// Gets a path of a daemon's HTTP side; the status and the body.
///
/// # Errors
/// When nobody listens there.
pub fn http_get(world: &World, api: &str, path: &str) -> std::io::Result<(u16, String)> {
    let request = format!("GET {path} HTTP/1.1\r\nHost: {api}\r\nConnection: close\r\n\r\n");
    let api = api.to_owned();
    let response = world.host.run(move || {
        let address: SocketAddr = api.parse().map_err(std::io::Error::other)?;
        let mut stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(SOON))?;
        stream.write_all(request.as_bytes())?;
        let mut response = String::new();
        stream.read_to_string(&mut response).map(|_| response)
    })?;
    let (head, body) = response.split_once("\r\n\r\n").unwrap_or((&response, ""));
    let status = head.split_whitespace().nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
    Ok((status, body.to_owned()))
}
