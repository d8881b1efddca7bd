//! What this machine has to have.

use std::collections::BTreeMap;
use std::fs;
use std::net::{Ipv6Addr, UdpSocket};
use std::os::unix::fs::PermissionsExt as _;
use std::process::{Command, Stdio};

use super::{Finding, Patient};
use crate::setup::{self, SetupError};

/// The state directory: there, private, and nobody else's.
pub(super) fn state(patient: &Patient<'_>) -> Finding {
    const CHECK: &str = "state";
    let path = &patient.daemon.state;
    let shown = path.display();
    let state = match setup::prepare_state(path) {
        Ok(state) => state,
        Err(error) => return Finding::fail(CHECK, error.to_string(), "name another directory with --state"),
    };
    let mode = fs::metadata(&state).map(|found| found.permissions().mode() & 0o777);
    match mode {
        Ok(mode) if mode & 0o077 != 0 => {
            let message =
                format!("{shown} can be entered by others (mode {mode:03o}), and keys may be in it");
            return Finding::fail(CHECK, message, format!("chmod 700 {shown}"));
        }
        Ok(_) => {}
        Err(error) => return Finding::failed(CHECK, format!("{shown}: {error}")),
    }
    let probe = state.join(".doctor");
    if let Err(error) = fs::write(&probe, b"ebb").and_then(|()| fs::remove_file(&probe)) {
        let fix = "run this as the user who runs the daemon, and see that the file system has room";
        return Finding::fail(CHECK, format!("cannot write in {shown}: {error}"), fix);
    }
    match setup::lock_state(&state) {
        Ok(_) => Finding::ok(CHECK, format!("{shown}: writable, no daemon works on it")),
        Err(SetupError::Locked { holder, .. }) => {
            Finding::ok(CHECK, format!("{shown}: writable, the daemon with process {holder} works on it"))
        }
        Err(error) => Finding::failed(CHECK, error),
    }
}

/// What gateways on this machine need.
pub(super) fn local(patient: &Patient<'_>) -> Vec<Finding> {
    let mut findings = vec![program(patient)];
    findings.extend(ports(patient));
    findings.push(pings());
    findings
}

fn program(patient: &Patient<'_>) -> Finding {
    const CHECK: &str = "gateway program";
    let mut command = match &patient.settings.gateway {
        Some(program) => Command::new(program),
        None => {
            let mut own = Command::new("/proc/self/exe");
            own.arg("gateway");
            own
        }
    };
    let named = patient
        .settings
        .gateway
        .as_ref()
        .map_or("this program".to_owned(), |path| path.display().to_string());
    let output = command.arg("--version").stdin(Stdio::null()).output();
    match output {
        Ok(output) if output.status.success() => {
            let version = String::from_utf8_lossy(&output.stdout).trim().to_owned();
            Finding::ok(CHECK, format!("{named}: {version}"))
        }
        Ok(output) => {
            let message = format!("{named} --version ended with {}", output.status);
            Finding::fail(CHECK, message, "name an ebb-gateway in --gateway (EBB_GATEWAY), or none")
        }
        Err(error) => {
            let fix = "name a program that can be run in --gateway (EBB_GATEWAY), or none";
            Finding::fail(CHECK, format!("{named} cannot be run: {error}"), fix)
        }
    }
}

/// Whether the ports of sessions are free, or have their gateways.
fn ports(patient: &Patient<'_>) -> Vec<Finding> {
    const CHECK: &str = "ports";
    let Some(document) = &patient.document else {
        return vec![Finding::skipped(CHECK, "needs a valid document")];
    };
    let sessions = document.sessions.iter().filter(|session| session.region == "local");
    let ports: BTreeMap<u16, _> = sessions.map(|session| (session.port, &session.name)).collect();
    let mut findings = Vec::new();
    let mut fine = Vec::new();
    for (port, session) in ports {
        if ebb_gateway::is_alive(port) {
            fine.push(format!("{port} (the gateway of {session} answers)"));
            continue;
        }
        match UdpSocket::bind((Ipv6Addr::UNSPECIFIED, port)) {
            Ok(_) => fine.push(format!("{port} (free, for {session})")),
            Err(error) => {
                let message = format!("UDP port {port} of {session} cannot be had: {error}");
                let fix = format!("give {session} another `port`, or end what has it; `ss -lunp` shows that");
                findings.push(Finding::fail(CHECK, message, fix));
            }
        }
    }
    if !fine.is_empty() {
        findings.push(Finding::ok(CHECK, fine.join(", ")));
    }
    if findings.is_empty() {
        findings.push(Finding::skipped(CHECK, "no session of the document has `region: local`"));
    }
    findings
}

fn pings() -> Finding {
    const CHECK: &str = "ping sockets";
    let machine = ebb_gateway::Machine::probe();
    if machine.ping_v4 {
        return Finding::ok(CHECK, format!("users' pings are carried on (Linux {})", machine.kernel));
    }
    let fix = "sysctl -w net.ipv4.ping_group_range=\"0 2147483647\"";
    Finding::warn(
        CHECK,
        "the kernel lets this user have no ping sockets, so pings through gateways go unanswered",
        fix,
    )
}
