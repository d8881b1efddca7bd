//! How long it takes from an edit of the document to a session that somebody uses, on the local provider:
//! `cargo bench -p ebb-tests --bench first_handshake`. No root; the daemon is the shipped program, the client the one of
//! `ebb connect`.
#![expect(clippy::print_stdout, reason = "a bench reports to whoever runs it")]
#![expect(clippy::unwrap_used, reason = "a bench ends where its world is not as it says")]

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use ebb::client_config::Connection;
use ebb::tunnel::Tunnel;
use ebb::view::SessionView;
use ebb_core::state::StateName;
use ebb_tunnel::client::ClientConfig;
use serde::de::DeserializeOwned;

const ROUNDS: usize = 40;

/// How often the state of the session is looked at; the figures are no finer than this.
const LOOK_EVERY: Duration = Duration::from_millis(2);

struct Daemon {
    directory: PathBuf,
    api: SocketAddr,
    process: Child,
}

impl Daemon {
    fn start(directory: &Path) -> Self {
        let api = free_port();
        write(directory, None);
        let process = Command::new(env!("CARGO_BIN_EXE_ebb-under-test"))
            .args(["run", "--api", &api.to_string()])
            .current_dir(directory)
            .env_remove("EBB_DOCUMENT")
            .stdin(Stdio::null())
            .stderr(fs::File::create(directory.join("log")).unwrap())
            .spawn()
            .unwrap();
        Self { directory: directory.to_owned(), api, process }
    }

    /// What the API says, if it says anything yet.
    fn get<T: DeserializeOwned>(&self, path: &str) -> Option<T> {
        let key = fs::read_to_string(self.directory.join(".ebb/admin.key")).ok()?;
        let mut stream = TcpStream::connect(self.api).ok()?;
        let (host, key) = (self.api, key.trim());
        let head =
            format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nX-API-Key: {key}\r\nConnection: close\r\n\r\n");
        stream.write_all(head.as_bytes()).ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        let (head, body) = answer.split_once("\r\n\r\n")?;
        head.starts_with("HTTP/1.1 200").then(|| serde_json::from_str(body).ok())?
    }

    async fn until<T>(&self, what: &str, look: impl Fn(&Self) -> Option<T>) -> T {
        let began = now();
        loop {
            if let Some(found) = look(self) {
                return found;
            }
            let log = || fs::read_to_string(self.directory.join("log")).unwrap_or_default();
            assert!(began.elapsed() < Duration::from_secs(30), "not within 30 s: {what}\n{}", log());
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Puts a document in place as editors do: beside the old one, then over it.
fn write(directory: &Path, session: Option<&str>) {
    let sessions = session.map_or("[]".to_owned(), |name| {
        format!("[{{ name: {name}, users: [alice], region: local, port: 41820 }}]")
    });
    let text = format!("version: 1\ndeployment: bench\nusers: [{{ name: alice }}]\nsessions: {sessions}\n");
    fs::create_dir_all(directory.join("desired-state")).unwrap();
    let (beside, file) =
        (directory.join("desired-state/new"), directory.join("desired-state/desired-state.yaml"));
    fs::write(&beside, text).unwrap();
    fs::rename(beside, file).unwrap();
}

fn free_port() -> SocketAddr {
    std::net::TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).unwrap()
}

#[expect(clippy::disallowed_methods, reason = "a bench measures real time")]
fn now() -> Instant {
    Instant::now()
}

/// One edit: the times until the session is active, and until its user has shaken hands.
async fn round(daemon: &Daemon, name: &str) -> (Duration, Duration) {
    let began = now();
    write(&daemon.directory, Some(name));
    let of_session = format!("/api/sessions/{name}");
    daemon
        .until("the session is active", |daemon| {
            let view: SessionView = daemon.get(&of_session)?;
            (view.state_name() == StateName::Active).then_some(())
        })
        .await;
    let usable = began.elapsed();
    let connection: Connection = daemon.get(&format!("{of_session}/users/alice/connection")).unwrap();
    let host = connection.endpoint.host.parse().unwrap();
    let tunnel = Tunnel::open(ClientConfig {
        private_key: connection.private_key.unwrap(),
        gateway_key: connection.gateway_key,
        endpoint: SocketAddr::new(host, connection.endpoint.port),
        addresses: connection.addresses,
        mtu: connection.mtu,
        persistent_keepalive: None,
    })
    .await
    .unwrap();
    tunnel.handshake().await;
    let used = began.elapsed();
    write(&daemon.directory, None);
    daemon
        .until("the session is gone", |daemon| daemon.get::<SessionView>(&of_session).is_none().then_some(()))
        .await;
    (usable, used)
}

fn report(what: &str, mut times: Vec<Duration>) {
    times.sort();
    let at = |percent: usize| times[(times.len() - 1) * percent / 100].as_secs_f64() * 1000.0;
    println!("{what:<36} median {:5.0} ms   p95 {:5.0} ms   max {:5.0} ms", at(50), at(95), at(100));
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let directory = tempfile::tempdir().unwrap();
    let daemon = Daemon::start(directory.path());
    daemon.until("the daemon answers", |daemon| daemon.get::<serde_json::Value>("/api/sessions")).await;
    let mut times = Vec::new();
    for n in 0..ROUNDS {
        times.push(round(&daemon, &format!("s{n}")).await);
    }
    println!("{ROUNDS} edits on the local provider, one after the other");
    report("edit to usable session", times.iter().map(|(usable, _)| *usable).collect());
    report("edit to first handshake of its user", times.iter().map(|(_, used)| *used).collect());
}
