//! Azurite, Microsoft's emulator of storage accounts, and signatures that it takes.

use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use ebb_tests::e2e::eventually;
use sha2::{Digest as _, Sha256};
use tempfile::TempDir;

use super::npm;

/// The account that every Azurite has, and its key, which Microsoft publishes ("Use the Azurite emulator").
const ACCOUNT: &str = "devstoreaccount1";
const KEY: &str = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==";

/// A running emulator.
pub struct Azurite {
    process: Child,
    blobs: u16,
    tables: u16,
    _directory: TempDir,
}

impl Azurite {
    /// Starts one; the reason where that is not possible.
    pub fn start() -> Result<Self, String> {
        let modules = npm::install("azurite", &["azurite@3.35.0"])?;
        let directory = tempfile::tempdir().unwrap();
        let [blobs, queues, tables] = free_ports();
        let mut command = Command::new("node");
        command.arg(modules.join("node_modules/azurite/dist/src/azurite.js"));
        command.args(["--silent", "--disableTelemetry", "--skipApiVersionCheck", "--inMemoryPersistence"]);
        for (service, port) in [("blob", blobs), ("queue", queues), ("table", tables)] {
            command.args([
                format!("--{service}Host"),
                "127.0.0.1".into(),
                format!("--{service}Port"),
                port.to_string(),
            ]);
        }
        command.current_dir(directory.path()).stdin(Stdio::null()).stdout(Stdio::null());
        let process = command.spawn().map_err(|error| error.to_string())?;
        let azurite = Self { process, blobs, tables, _directory: directory };
        eventually("Azurite listens", Duration::from_secs(60), || {
            let up = |port: u16| std::net::TcpStream::connect(("127.0.0.1", port)).is_ok();
            if up(blobs) && up(tables) { Ok(()) } else { Err("not yet".to_owned()) }
        });
        Ok(azurite)
    }

    /// The address of something in Blob storage, signed.
    pub fn blob(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}/{ACCOUNT}/{path}?{}", self.blobs, signature())
    }

    /// The address of the tables, signed.
    pub fn tables(&self) -> String {
        format!("http://127.0.0.1:{}/{ACCOUNT}?{}", self.tables, signature())
    }
}

impl Drop for Azurite {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn free_ports() -> [u16; 3] {
    let listeners = [(); 3].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
    listeners.map(|listener| listener.local_addr().unwrap().port())
}

/// A signature for everything in the account ("Create an account SAS").
fn signature() -> String {
    let (permissions, services, types, end, protocols, version) =
        ("rwdlacup", "bt", "sco", "2100-01-01T00:00:00Z", "https,http", "2021-10-04");
    let text =
        format!("{ACCOUNT}\n{permissions}\n{services}\n{types}\n\n{end}\n\n{protocols}\n{version}\n\n");
    let signed = BASE64.encode(hmac(&BASE64.decode(KEY).unwrap(), text.as_bytes()));
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
