//! Private keys are where they belong, and nowhere else.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ebb_core::state::StateName;
use ebb_tests::e2e::client::config;
use ebb_tests::e2e::daemon::{SOON, boot, gateway_home};
use ebb_tests::e2e::world::{HOST, SERVER};
use ebb_tests::e2e::{Client, Daemon, World};
use nix::sys::signal::Signal;

use crate::{home, world};

/// Everything below a directory that is a file.
fn files(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap());
    let nested = entries.map(|entry| match entry.file_type().unwrap() {
        kind if kind.is_dir() => files(&entry.path()),
        kind if kind.is_file() => vec![entry.path()],
        _ => vec![],
    });
    nested.flatten().collect()
}

/// The forms in which a key could be written: WireGuard's own, the hexadecimal one of its control socket, and plain bytes.
fn forms(key: &str) -> Vec<Vec<u8>> {
    let bytes = STANDARD.decode(key).unwrap();
    let hex = |upper: bool| -> String {
        bytes.iter().map(|byte| if upper { format!("{byte:02X}") } else { format!("{byte:02x}") }).collect()
    };
    // Without its last characters, so that padding and line ends make no difference.
    vec![key.trim_end_matches('=').into(), hex(false).into(), hex(true).into(), bytes]
}

fn contains(haystack: &[u8], needle: &[u8]) -> bool {
    haystack.windows(needle.len()).any(|window| window == needle)
}

/// Has the daemon say whatever it ever says, with logs as chatty as they get.
fn live_a_full_life(world: &World) -> String {
    let command = |world: &World| {
        let mut command = world.ebb_command(&["run", "--advertise", HOST]);
        command.env("EBB_LOG", "trace");
        command
    };
    ebb_tests::e2e::daemon::write_document(world, &home(&["alice", "bob"], ""));
    let mut daemon = Daemon::run(world, command(world));
    daemon.await_state("home", StateName::Active, SOON);
    let alice = Client::connected(world, 1, "alice", "home");
    alice.fetch(&format!("http://{SERVER}/page"));
    daemon.edit(&home(&["alice", "mallory", "bob"], "").replace("  - name: mallory\n", ""));
    daemon.edit(&home(&["alice"], "idleTimeout: 1h"));
    daemon.edit(&home(&["alice", "bob"], ""));
    for arguments in [
        &["status"][..],
        &["status", "-o", "json"],
        &["explain", "home"],
        &["explain", "home", "-o", "json"],
        &["plan"],
        &["plan", "-o", "json"],
        &["events"],
        &["events", "-o", "json"],
        &["config", "carol@home"],
        &["start", "home", "--wait", "-o", "json"],
        &["stop", "home", "--wait", "-o", "json"],
        &["start", "home", "--wait"],
    ] {
        world.ebb(arguments);
    }
    let boot = boot(world, "home");
    fs::write(world.path("broken.json"), &boot[..boot.len() - 3]).unwrap();
    world.ebb(&["gateway", "run", "--boot", &world.path("broken.json").display().to_string()]).failure(1);
    fs::remove_file(world.path("broken.json")).unwrap();
    let mut pages =
        ["/metrics", "/metrics/home", "/readyz", "/api/sessions"].map(|path| daemon.get(path).1).concat();
    pages.push_str(&in_azure(world));
    // Azure has nothing but variables to tell a container a secret by, and shows them to nobody.
    let mut of_processes = vec![(daemon.pid(), "cmdline"), (daemon.pid(), "environ")];
    of_processes.push((daemon.gateway("home"), "cmdline"));
    of_processes.extend(world.azure.is_none().then(|| (daemon.gateway("home"), "environ")));
    let arguments = of_processes.into_iter().map(|(pid, file)| {
        String::from_utf8_lossy(&fs::read(format!("/proc/{pid}/{file}")).unwrap()).into_owned()
    });
    let arguments: String = arguments.collect();
    daemon.kill();
    let mut daemon = Daemon::run(world, command(world));
    daemon.await_state("home", StateName::Active, SOON);
    daemon.signal(Signal::SIGTERM);
    daemon.await_end(SOON);
    pages + &arguments
}

/// Everything that Azure shows to whoever may look: groups with their tags, logs of containers, rows of tables.
fn in_azure(world: &World) -> String {
    let Some(azure) = &world.azure else { return String::new() };
    let groups = azure.groups();
    assert!(!groups.is_empty());
    let mut shown = format!("{groups:?}{}", azure.log("ebb-home-home"));
    for table in ["EbbRecords", "EbbNotes", "EbbDocuments"] {
        let url = world.storage().tables().replace('?', &format!("/{table}()?"));
        let options = ["-H", "Accept: application/json;odata=nometadata", "--fail"];
        let rows = world.curl(&world.host, &[&options[..], &[&url]].concat()).success().stdout;
        assert!(rows.contains("RowKey"), "{table} has rows: {rows}");
        shown.push_str(&rows);
    }
    shown
}

#[test]
fn private_keys_are_written_nowhere_but_in_the_files_that_are_for_them() {
    let Some(world) = world() else { return };
    let said = live_a_full_life(&world);
    fs::write(world.logs().join("pages"), said).unwrap();

    let state = world.path("state");
    let secrets = files(&state.join("secrets"));
    let keys: Vec<_> =
        secrets.iter().map(|path| fs::read_to_string(path).unwrap().trim().to_owned()).collect();
    assert_eq!(keys.len(), 4, "the daemon's, the gateway's, alice's and bob's: {secrets:?}");
    // Azure keeps to itself what a container is told.
    let boot = world.azure.is_none().then(|| gateway_home(&world, "home").join("boot.json"));
    for path in secrets.iter().chain(&boot).chain([&state.join("admin.key")]) {
        let mode = fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, 0o600, "{}", path.display());
    }
    let home = boot.as_ref().map(|boot| boot.parent().unwrap().to_owned());
    for directory in [&state, &state.join("secrets")].into_iter().chain(&home) {
        let mode = fs::metadata(directory).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, 0o700, "{}", directory.display());
    }

    let admin = fs::read_to_string(state.join("admin.key")).unwrap().trim().as_bytes().to_vec();
    let searched: Vec<_> = [files(&world.logs()), files(&state)].concat();
    let meant = |path: &PathBuf| secrets.contains(path) || boot.as_ref() == Some(path);
    let searched: Vec<_> = searched.iter().filter(|path| !meant(path)).collect();
    let mut looked_at = 0;
    for path in searched {
        let text = fs::read(path).unwrap();
        looked_at += text.len();
        for key in &keys {
            for form in forms(key) {
                assert!(!contains(&text, &form), "a private key is in {}", path.display());
            }
        }
        let is_admin_key = *path == state.join("admin.key");
        assert!(is_admin_key || !contains(&text, &admin), "the API's key is in {}", path.display());
    }
    assert!(looked_at > 100_000, "logs, store and output were there to be searched: {looked_at} bytes");
}

#[test]
fn the_search_would_find_a_key() {
    let Some(world) = world() else { return };
    let daemon = Daemon::with_document(&world, &home(&["alice"], ""));
    daemon.await_state("home", StateName::Active, SOON);
    let key = fs::read_to_string(world.path("state/secrets/user-alice.key")).unwrap();
    let file = config(&world, "alice", "home");
    assert!(contains(file.as_bytes(), &forms(key.trim())[0]));
    let gateway = fs::read_to_string(world.path("state/secrets/gateway-home.key")).unwrap();
    let boot = boot(&world, "home");
    assert!(contains(boot.as_bytes(), &forms(gateway.trim())[0]));
}
