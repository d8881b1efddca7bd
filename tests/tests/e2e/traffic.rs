//! What users send through a session.

use std::fs::File;

use ebb_core::state::StateName;
use ebb_tests::e2e::daemon::SOON;
use ebb_tests::e2e::transfer::Pattern;
use ebb_tests::e2e::world::{SERVER, SERVER_V6};
use ebb_tests::e2e::{Client, Daemon, Download};

use crate::{home, world};

const LONG: u64 = 100 << 20;

#[test]
fn a_hundred_megabytes_arrive_byte_by_byte_both_ways() {
    let Some(world) = world() else { return };
    let daemon = Daemon::with_document(&world, &home(&["alice"], ""));
    daemon.await_state("home", StateName::Active, SOON);
    let alice = Client::connected(&world, 1, "alice", "home");

    Download::start(&alice, SERVER, LONG, None).finish();

    let file = world.path("upload");
    Pattern::new().write(&mut File::create(&file).unwrap(), LONG).unwrap();
    let file = file.display().to_string();
    let verdict =
        alice.curl(&["-H", "Expect:", "-T", &file, &format!("http://{SERVER}/sum")]).success().stdout;
    assert_eq!(verdict, format!("{LONG} bytes, all of them right\n"));
    Download::start(&alice, &format!("[{SERVER_V6}]"), LONG / 4, None).finish();
}
