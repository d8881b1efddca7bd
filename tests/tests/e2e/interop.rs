//! With clients of other people's making. `wireguard-go` is the client of every other test here; the kernel's WireGuard has a
//! machine of its own in `tests/interop-kernel`.

use std::env;
use std::fs::File;
use std::path::PathBuf;
use std::process::Command;

use ebb_core::state::StateName;
use ebb_tests::e2e::client::config;
use ebb_tests::e2e::daemon::SOON;
use ebb_tests::e2e::transfer::Pattern;
use ebb_tests::e2e::world::{SERVER, SERVER_V6};
use ebb_tests::e2e::{Client, Daemon, Download};

use crate::{home, world};

const LENGTH: u64 = 50 << 20;

/// `boringtun-cli` of crates.io, which no package of Debian has.
#[expect(clippy::print_stderr, reason = "a test that does nothing must not look like one that passed")]
fn boringtun() -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let found =
        env::split_paths(&path).map(|directory| directory.join("boringtun-cli")).find(|file| file.exists());
    if found.is_none() {
        eprintln!(
            "SKIPPED: there is no boringtun-cli on PATH; `cargo install --locked boringtun-cli` has it"
        );
    }
    found
}

#[test]
fn boringtun_transfers_every_byte_both_ways() {
    let Some(program) = boringtun() else { return };
    let Some(world) = world() else { return };
    let daemon = Daemon::with_document(&world, &home(&["alice"], ""));
    daemon.await_state("home", StateName::Active, SOON);
    let mut alice = Client::new(&world, 1);
    let mut command = Command::new(program);
    command.args(["-f", "--disable-drop-privileges", "-v", "error", "home"]).env("WG_SUDO", "1");
    alice.up_by(command, "home", &config(&world, "alice", "home"));

    Download::start(&alice, SERVER, LENGTH).finish();
    Download::start(&alice, &format!("[{SERVER_V6}]"), LENGTH).finish();
    let file = world.path("upload");
    Pattern::new().write(&mut File::create(&file).unwrap(), LENGTH).unwrap();
    let file = file.display().to_string();
    for server in [SERVER.to_owned(), format!("[{SERVER_V6}]")] {
        let verdict =
            alice.curl(&["-H", "Expect:", "-T", &file, &format!("http://{server}/")]).success().stdout;
        assert_eq!(verdict, format!("{LENGTH} bytes, all of them right\n"));
    }
    assert!(alice.pings(SERVER));
}
