//! Azurite, Microsoft's emulator of storage accounts, and signatures that it takes.

use std::fs::{self, File};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use sha2::{Digest as _, Sha256};
use tempfile::TempDir;

use crate::e2e::eventually;
use crate::e2e::namespace::Namespace;
use crate::npm;

/// The account that every Azurite has, and its key, which Microsoft publishes ("Use the Azurite emulator").
const ACCOUNT: &str = "devstoreaccount1";
const KEY: &str = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==";

/// Its usual ports, for blobs, queues and tables.
const PORTS: [u16; 3] = [10000, 10001, 10002];

/// A running emulator.
pub struct Azurite {
    process: Child,
    blobs: u16,
    tables: u16,
    log: PathBuf,
    _directory: TempDir,
}

impl Azurite {
    /// Starts one on free ports of this machine.
    ///
    /// # Errors
    /// Why that is not possible.
    pub fn start() -> Result<Self, String> {
        let listeners: Result<Vec<_>, _> = PORTS.iter().map(|_| TcpListener::bind("127.0.0.1:0")).collect();
        let ports = listeners.and_then(|listeners| {
            listeners.iter().map(|listener| Ok(listener.local_addr()?.port())).collect::<Result<Vec<_>, _>>()
        });
        let ports = ports.map_err(|error| error.to_string())?;
        let up = |port: u16| TcpStream::connect(("127.0.0.1", port)).is_ok();
        Self::run([ports[0], ports[1], ports[2]], None, |mut command| command.spawn(), up)
    }

    /// Starts one in a namespace. What it says about each request goes to a file in `logs`.
    ///
    /// # Errors
    /// Why that is not possible.
    pub fn start_in(namespace: &Namespace, logs: &Path) -> Result<Self, String> {
        let up = |port: u16| namespace.run(move || TcpStream::connect(("127.0.0.1", port)).is_ok());
        Self::run(PORTS, Some(logs), |mut command| namespace.run(move || command.spawn()), up)
    }

    fn run(
        [blobs, queues, tables]: [u16; 3],
        logs: Option<&Path>,
        spawn: impl FnOnce(Command) -> std::io::Result<Child>,
        up: impl Fn(u16) -> bool,
    ) -> Result<Self, String> {
        let modules = npm::install("azurite", &["azurite@3.35.0"])?;
        let directory = tempfile::tempdir().map_err(|error| error.to_string())?;
        let log = logs.unwrap_or(directory.path()).join("azurite.log");
        let file = File::create(&log).map_err(|error| error.to_string())?;
        let mut command = Command::new("node");
        command.arg(modules.join("node_modules/azurite/dist/src/azurite.js"));
        command.args(["--disableTelemetry", "--skipApiVersionCheck", "--inMemoryPersistence"]);
        for (service, port) in [("blob", blobs), ("queue", queues), ("table", tables)] {
            command.args([
                format!("--{service}Host"),
                "127.0.0.1".into(),
                format!("--{service}Port"),
                port.to_string(),
            ]);
        }
        command.current_dir(directory.path()).stdin(Stdio::null()).stdout(file);
        let process = spawn(command).map_err(|error| error.to_string())?;
        let azurite = Self { process, blobs, tables, log, _directory: directory };
        eventually("Azurite listens", Duration::from_secs(60), || {
            if up(blobs) && up(tables) { Ok(()) } else { Err("not yet".to_owned()) }
        });
        Ok(azurite)
    }

    /// The address of something in Blob storage, signed.
    #[must_use]
    pub fn blob(&self, path: &str) -> String {
        self.blob_for(0, path)
    }

    /// The address of the tables, signed.
    #[must_use]
    pub fn tables(&self) -> String {
        self.tables_for(0)
    }

    /// The same with a signature of somebody's own, by which their requests are known.
    #[must_use]
    pub fn blob_for(&self, somebody: u8, path: &str) -> String {
        format!("http://127.0.0.1:{}/{ACCOUNT}/{path}?{}", self.blobs, signature(somebody))
    }

    /// The same with a signature of somebody's own.
    #[must_use]
    pub fn tables_for(&self, somebody: u8) -> String {
        format!("http://127.0.0.1:{}/{ACCOUNT}?{}", self.tables, signature(somebody))
    }

    /// The address of a blob that does not exist. Whoever has asked for it can tell by [`Azurite::requests_of`] what was asked
    /// before: the emulator writes its log after its answers.
    #[must_use]
    pub fn marker(&self, number: usize) -> String {
        self.blob_for(99, &format!("markers/{number}"))
    }

    /// Requests that somebody has made before the marker of this number was asked for, in the form `PUT /path`, in order.
    ///
    /// # Panics
    /// When the emulator does not say that the marker was asked for.
    #[must_use]
    pub fn requests_of(&self, somebody: u8, marker: usize) -> Vec<String> {
        let marked = format!("/markers/{marker}?");
        let log = eventually("the marker is in the log", Duration::from_secs(20), || {
            let log = fs::read_to_string(&self.log).map_err(|error| error.to_string())?;
            if log.contains(&marked) { Ok(log) } else { Err("not yet".to_owned()) }
        });
        let mark = format!("se={}", end(somebody).replace(':', "%3A"));
        let plain = format!("se={}", end(somebody));
        let own = log.lines().filter(|line| line.contains(&mark) || line.contains(&plain));
        own.filter_map(|line| Some(line.split('"').nth(1)?.split('?').next()?.to_owned())).collect()
    }

    /// Whether a request in that form changes something.
    #[must_use]
    pub fn is_write(request: &str) -> bool {
        ["PUT ", "POST ", "DELETE ", "MERGE ", "PATCH "].iter().any(|method| request.starts_with(method))
    }
}

impl Drop for Azurite {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// When somebody's signature ends.
fn end(somebody: u8) -> String {
    format!("21{somebody:02}-01-01T00:00:00Z")
}

/// A signature for everything in the account ("Create an account SAS").
fn signature(somebody: u8) -> String {
    let (permissions, services, types, end, protocols, version) =
        ("rwdlacup", "bt", "sco", end(somebody), "https,http", "2021-10-04");
    let text =
        format!("{ACCOUNT}\n{permissions}\n{services}\n{types}\n\n{end}\n\n{protocols}\n{version}\n\n");
    let key = BASE64.decode(KEY).expect("Microsoft has published it");
    let signed = BASE64.encode(hmac(&key, text.as_bytes()));
    let signed = signed.replace('+', "%2B").replace('/', "%2F").replace('=', "%3D");
    format!("sv={version}&ss={services}&srt={types}&sp={permissions}&se={end}&spr={protocols}&sig={signed}")
}

/// HMAC-SHA256 (RFC 2104).
fn hmac(key: &[u8], text: &[u8]) -> [u8; 32] {
    let mut block = [0; 64];
    block[..key.len()].copy_from_slice(key);
    let pad = |byte: u8| block.map(|own| own ^ byte);
    let inner = Sha256::new().chain_update(pad(0x36)).chain_update(text).finalize();
    Sha256::new().chain_update(pad(0x5c)).chain_update(inner).finalize().into()
}

#[test]
fn signatures_are_as_rfc_4231_has_them() {
    let hex: String =
        hmac(b"Jefe", b"what do ya want for nothing?").iter().map(|b| format!("{b:02x}")).collect();
    assert_eq!(hex, "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843");
}
