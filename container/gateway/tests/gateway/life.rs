//! Start, health and end of a gateway.

use std::process::{Command, Stdio};

use ebb_wire::LogLine;
use nix::sys::signal::Signal;

use crate::bed::{bed, clock};
use crate::daemon::{Daemon, live};

fn gateway(arguments: &[&str]) -> (Option<i32>, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ebb-gateway"));
    let output = command.args(arguments).env_clear().stdin(Stdio::null()).output().unwrap();
    let text = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8(text).unwrap())
}

#[test]
fn a_signal_ends_it_with_success_and_a_last_report() {
    let Some(bed) = bed() else { return };
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        let gateway = bed.start();
        let mut daemon = Daemon::new(&bed);
        daemon.configure(&live(3, &[2]));
        gateway.signal(signal);
        let (status, output, errors) = gateway.wait();
        assert_eq!(status.code(), Some(0), "{errors}");
        let line = output.lines().find_map(LogLine::parse).expect("a telemetry line");
        assert_eq!((line.session.as_str(), line.telemetry.generation), ("test", Some(3)));
        assert!(errors.contains("ended by a signal"), "{errors}");
        assert!(!bed.is_healthy());
    }
}

#[test]
fn without_daemon_and_traffic_it_ends_itself_when_its_lease_is_over() {
    let Some(mut bed) = bed() else { return };
    bed.lease = 1;
    let gateway = bed.start();
    let mut daemon = Daemon::new(&bed);
    // Contact renews the lease: the gateway lives for longer than one.
    let end = clock() + std::time::Duration::from_millis(2500);
    while clock() < end {
        daemon.telemetry();
    }
    drop(daemon);
    let (status, _, errors) = gateway.wait();
    assert_eq!(status.code(), Some(0));
    assert!(errors.contains("during the lease"), "{errors}");
}

#[test]
fn a_gateway_that_stands_still_is_not_healthy() {
    let Some(bed) = bed() else { return };
    let gateway = bed.start();
    gateway.signal(Signal::SIGSTOP);
    assert!(!bed.is_healthy());
    gateway.signal(Signal::SIGCONT);
    assert!(bed.is_healthy());
}

#[test]
fn every_line_on_standard_error_is_json_and_names_no_key() {
    let Some(bed) = bed() else { return };
    let gateway = bed.start();
    Daemon::new(&bed).configure(&live(1, &[2]));
    gateway.signal(Signal::SIGTERM);
    let (_, _, errors) = gateway.wait();
    for line in errors.lines() {
        let value: serde_json::Value = serde_json::from_str(line).expect(line);
        assert!(value["message"].is_string(), "{line}");
    }
    assert!(errors.contains("\"gso\":"), "the probe's findings: {errors}");
    assert!(!errors.contains(&crate::daemon::key(2).public().to_string()));
    assert!(!errors.contains(bed.gateway_key.reveal().as_str()));
}

#[test]
fn a_serving_gateway_is_confined_and_says_so() {
    let Some(bed) = bed() else { return };
    let gateway = bed.start();
    Daemon::new(&bed).configure(&live(1, &[2]));
    let threads = std::fs::read_dir(format!("/proc/{}/task", gateway.pid())).unwrap();
    for thread in threads {
        let status = std::fs::read_to_string(thread.unwrap().path().join("status")).unwrap();
        // 2 is SECCOMP_MODE_FILTER.
        for line in ["NoNewPrivs:\t1", "Seccomp:\t2"] {
            assert!(status.lines().any(|found| found == line), "{line} in {status}");
        }
    }
    gateway.signal(Signal::SIGTERM);
    let (_, _, errors) = gateway.wait();
    let started = errors.lines().find(|line| line.contains("\"started\"")).unwrap();
    let started: serde_json::Value = serde_json::from_str(started).unwrap();
    assert_eq!(started["seccomp"], "full");
    let landlock = started["landlock"].as_str().unwrap();
    assert!(["full", "partial", "missing: the kernel has no Landlock"].contains(&landlock), "{landlock}");
}

#[test]
fn mistakes_on_the_command_line_and_in_the_boot_file_are_named() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("boot.json");
    let path = path.to_str().unwrap();
    assert_eq!(gateway(&[]).0, Some(2));
    assert!(gateway(&["--version"]).1.contains(env!("CARGO_PKG_VERSION")));
    let (code, text) = gateway(&["run", "--boot", path]);
    assert_eq!(code, Some(1));
    assert!(text.contains(path) && text.contains("cannot be read"), "{text}");
    std::fs::write(path, "{\"version\":1,\n\"privateKey\":\"secret").unwrap();
    let (code, text) = gateway(&["run", "--boot", path]);
    assert_eq!(code, Some(1));
    assert!(text.contains("line 2") && !text.contains("secret"), "{text}");
    let (code, text) = gateway(&["health", "--port", "1"]);
    assert_eq!(code, Some(1));
    assert!(text.contains("port 1"), "{text}");
}

#[test]
fn a_port_in_use_is_named() {
    let Some(bed) = bed() else { return };
    let _gateway = bed.start();
    let mut second = bed.command(crate::bed::Place::Gateway, env!("CARGO_BIN_EXE_ebb-gateway"));
    let boot = bed.write_boot(&serde_json::to_string(&bed.boot()).unwrap());
    let output = second.arg("run").arg("--boot").arg(boot).output().unwrap();
    let errors = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(errors.contains("UDP port 41820"), "{errors}");
}
