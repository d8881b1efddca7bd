//! What a daemon with three sessions at rest takes, which decides what Container Apps charge for it: at most 0.01 of a core and 1,000
//! bytes a second count as idle ("Billing in Azure Container Apps"). Needs root, for network namespaces, and Node for Azurite.
//!
//!     cargo bench -p ebb-tests --bench idle_footprint [-- SECONDS]     (600 by default)
//!
//! The daemon, an imitation of Azure Resource Manager with real gateways, and Azurite for tables, document and lock live in one
//! network namespace, in which nobody else sends anything. Bytes are those of its loopback interface, each packet once, headers
//! included; what TLS would add is not there. Exit code 1 when a limit is missed.
#![expect(clippy::print_stdout, reason = "a bench reports to whoever runs it")]
#![allow(clippy::unwrap_used, reason = "a bench ends where its world is not as it says")]

use std::fs;
use std::process::ExitCode;
use std::time::Duration;

use ebb_core::state::StateName;
use ebb_tests::e2e::wait::{now, pause};
use ebb_tests::e2e::world::HOST;
use ebb_tests::e2e::{Daemon, Place, World, eventually};

const MOST_CORE: f64 = 0.01;
const MOST_BYTES: f64 = 1000.0;
const MOST_MEMORY: f64 = 25.0;

/// Whatever the beginning takes is over by then.
const SETTLE: Duration = Duration::from_secs(30);

/// Bytes that loopback of the world has carried.
fn bytes(world: &World) -> f64 {
    let table = world.host.run(|| fs::read_to_string("/proc/thread-self/net/dev").unwrap());
    let line = table.lines().find_map(|line| line.trim().strip_prefix("lo:")).unwrap().to_owned();
    line.split_whitespace().next().unwrap().parse().unwrap()
}

/// Seconds that a process has spent on processors.
fn cpu(process: i32) -> f64 {
    let tasks = fs::read_dir(format!("/proc/{process}/task")).unwrap();
    let of = |path: std::path::PathBuf| {
        let text = fs::read_to_string(path.join("schedstat")).unwrap_or_default();
        text.split_whitespace().next().and_then(|text| text.parse::<f64>().ok()).unwrap_or(0.0)
    };
    tasks.filter_map(Result::ok).map(|task| of(task.path())).sum::<f64>() / 1e9
}

fn memory(process: i32) -> f64 {
    let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<f64>().unwrap() / 1024.0
}

/// Makes a container and a blob in Azurite, by its signed addresses.
fn put(world: &World, url: &str, arguments: &[&str]) {
    let output = world.curl(
        &world.host,
        &[&["-X", "PUT", "-f", "-H", "x-ms-version: 2021-12-02"], arguments, &[url]].concat(),
    );
    output.success();
}

fn main() -> ExitCode {
    let seconds = std::env::args().filter_map(|text| text.parse().ok()).next().unwrap_or(600);
    let Some(world) = World::build_in(Place::Azure, env!("CARGO_BIN_EXE_ebb-under-test")) else {
        return ExitCode::SUCCESS;
    };
    let azurite = world.storage.as_ref().expect("Azurite runs beside an imitation of Azure");
    let signed = |path: &str| azurite.blob(path);
    world.share_lock();
    put(&world, &format!("{}&restype=container", signed("documents")), &["-H", "content-length: 0"]);
    let users: String = (0..3).map(|n| format!("  - name: u{n}\n")).collect();
    let sessions: String = (0..3)
        .map(|n| {
            format!(
                "  - {{ name: s{n}, users: [u{n}], region: eastus2, port: {}, idleTimeout: 12h }}\n",
                41820 + n
            )
        })
        .collect();
    let document = format!("version: 1\ndeployment: home\nusers:\n{users}sessions:\n{sessions}");
    fs::write(world.path("document.yaml"), document).unwrap();
    let file = format!("@{}", world.path("document.yaml").display());
    put(
        &world,
        &signed("documents/desired-state.yaml"),
        &["-H", "x-ms-blob-type: BlockBlob", "--data-binary", &file],
    );

    let mut command = world.ebb_command(&["run", "--advertise", HOST]);
    command
        .env("EBB_LOCK", signed("leader/lock"))
        .env("EBB_DOCUMENT", signed("documents/desired-state.yaml"));
    let daemon = Daemon::run(&world, command);
    // It stands by until it has the lock, and until then nobody gets an answer.
    eventually("the daemon leads", Duration::from_secs(60), || match daemon.try_sessions() {
        Some(3) => Ok(()),
        other => Err(format!("{other:?}")),
    });
    for session in ["s0", "s1", "s2"] {
        daemon.await_state(session, StateName::Active, Duration::from_secs(60));
    }
    pause(SETTLE);
    let id = daemon.pid().as_raw();
    let (began, bytes_before, cpu_before) = (now(), bytes(&world), cpu(id));
    let calls = |world: &World| world.azure.as_ref().unwrap().calls().len();
    let calls_before = calls(&world);
    pause(Duration::from_secs(seconds));
    let elapsed = began.elapsed().as_secs_f64();
    let (core, rate) = ((cpu(id) - cpu_before) / elapsed, (bytes(&world) - bytes_before) / elapsed);
    println!(
        "three sessions at rest for {elapsed:.0} s; {} calls of management",
        calls(&world) - calls_before
    );
    let mut met = true;
    for (what, figure, most) in [
        ("part of a core", core, MOST_CORE),
        ("bytes a second, both ways", rate, MOST_BYTES),
        ("memory, MiB", memory(id), MOST_MEMORY),
    ] {
        let verdict = if figure <= most { "met" } else { "MISSED" };
        met &= figure <= most;
        println!("{what}: {figure:.4}  {verdict}, at most {most}");
    }
    if met { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
