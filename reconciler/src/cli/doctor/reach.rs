//! Whether gateways that run can be reached over UDP.

use std::time::Duration;

use ebb_core::observed::Endpoint;
use ebb_tunnel::client::ClientConfig;
use ebb_wire::{DAEMON_ADDRESS, PrivateKey, PublicKey};

use super::super::api::Api;
use super::super::args::Daemon;
use super::{Finding, Patient};
use crate::leadership::Leadership;
use crate::secrets::SecretName;
use crate::setup;
use crate::tunnel::Tunnel;
use crate::view::StatusView;

const CHECK: &str = "UDP to gateways";

/// A gateway that is there answers within a second, and a lost message is repeated after five.
const HANDSHAKE_WITHIN: Duration = Duration::from_secs(12);

const FIX: &str = "let UDP to the session's port out of this network and in at the gateway; 4500 and 443 pass more firewalls \
                   than others, and `port` sets it";

/// What a daemon on this machine says, if there is one.
pub(super) async fn status(daemon: &Daemon) -> Option<StatusView> {
    Api::open(daemon).ok()?.get("/api/sessions").await.ok()
}

pub(super) async fn examine(patient: &Patient<'_>) -> Vec<Finding> {
    match &patient.status {
        Some(status) => vec![as_daemon_sees(status)],
        None => by_handshakes(patient).await,
    }
}

/// A daemon shakes hands with its gateways all the time; a second one with the same key would lead their answers astray.
fn as_daemon_sees(status: &StatusView) -> Finding {
    let up: Vec<_> = status.sessions.iter().filter(|session| session.state_name().is_up()).collect();
    let deaf: Vec<_> = up
        .iter()
        .filter(|session| {
            session.conditions.iter().any(|one| one.kind.as_str() == "TelemetryKnown" && one.is_bad())
        })
        .map(|session| session.session.as_str())
        .collect();
    match (up.len(), deaf.len()) {
        (0, _) => Finding::skipped(CHECK, "no session is up; start one and ask again"),
        (all, 0) => {
            Finding::ok(CHECK, format!("the daemon hears from all {all} gateway(s) through their tunnels"))
        }
        (all, _) => {
            let message = format!("of {all} gateway(s) the daemon does not hear from {}", deaf.join(", "));
            Finding::fail(CHECK, message, FIX)
        }
    }
}

/// Without a daemon: as the daemon would.
async fn by_handshakes(patient: &Patient<'_>) -> Vec<Finding> {
    let targets = match targets(patient).await {
        Ok(targets) => targets,
        Err(error) => return vec![Finding::failed(CHECK, error.message)],
    };
    let Some((key, targets)) = targets.filter(|(_, targets)| !targets.is_empty()) else {
        return vec![Finding::skipped(CHECK, "no gateway is known to run; start the daemon and ask again")];
    };
    let mut findings = Vec::new();
    for (session, endpoint, gateway) in targets {
        findings.push(match shake(&key, gateway, &endpoint).await {
            Ok(()) => Finding::ok(CHECK, format!("{session} at {endpoint} answers")),
            Err(why) => Finding::fail(CHECK, format!("{session} at {endpoint}: {why}"), FIX),
        });
    }
    findings
}

type Targets = (PrivateKey, Vec<(String, Endpoint, PublicKey)>);

async fn targets(patient: &Patient<'_>) -> Result<Option<Targets>, super::super::Failure> {
    let state = setup::prepare_state(&patient.daemon.state)?;
    let (settings, secrets) = (patient.settings, patient.settings.secrets(&state)?);
    let Some(key) = secrets.get(&SecretName::Control).await? else { return Ok(None) };
    let mut targets = Vec::new();
    for (record, _) in settings.store(&state, &Leadership::alone())?.records().await? {
        let Some(endpoint) = record.endpoint.filter(|_| record.state.name().is_up()) else { continue };
        if let Some(gateway) = secrets.get(&SecretName::Gateway(record.session.clone())).await? {
            targets.push((record.session.to_string(), endpoint, gateway.public()));
        }
    }
    Ok(Some((key, targets)))
}

async fn shake(key: &PrivateKey, gateway_key: PublicKey, at: &Endpoint) -> Result<(), String> {
    let mut found =
        tokio::net::lookup_host((at.host.as_str(), at.port)).await.map_err(|error| error.to_string())?;
    let endpoint = found.next().ok_or("the name has no address")?;
    let config = ClientConfig {
        private_key: key.clone(),
        gateway_key,
        endpoint,
        addresses: vec![DAEMON_ADDRESS.into()],
        mtu: 1280,
        persistent_keepalive: None,
    };
    let tunnel = Tunnel::open(config).await.map_err(|error| error.to_string())?;
    let shaken = tokio::time::timeout(HANDSHAKE_WITHIN, tunnel.handshake()).await;
    shaken.map_err(|_| format!("no answer to WireGuard handshakes within {} s", HANDSHAKE_WITHIN.as_secs()))
}
