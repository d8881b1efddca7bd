//! `ebb connect`: a session on this machine without root.

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use ebb_core::state::StateName;
use ebb_tunnel::client::ClientConfig;
use ebb_wire::PrivateKey;
use tokio::net::TcpListener;
use tokio::sync::Mutex;

use super::api::Api;
use super::args::{Connect, Daemon};
use super::inspect::{await_active, get, order};
use super::target::Target;
use super::{Failure, Outcome};
use crate::client_config::Connection;
use crate::proxy::{self, Protocol, Uplink};
use crate::tunnel::Tunnel;
use crate::view::SessionView;

/// A handshake is repeated by the tunnel itself; a gateway that is there answers long before this.
const HANDSHAKE_PATIENCE: Duration = Duration::from_secs(30);

/// Without a handshake for this long WireGuard considers a session over (`REJECT_AFTER_TIME`, WireGuard paper, section 6.1).
const FRESH: Duration = Duration::from_secs(180);

pub(super) async fn connect(daemon: &Daemon, options: Connect) -> Outcome {
    if options.socks5.is_none() && options.http.is_none() {
        return Err(Failure::usage("name at least one proxy, for example --socks5 127.0.0.1:1080"));
    }
    // Ports first: nobody should pay for a gateway that nothing can use.
    let listeners = [(options.socks5, Protocol::Socks5), (options.http, Protocol::Http)];
    let mut proxies = Vec::new();
    for (address, protocol) in listeners {
        if let Some(address) = address {
            proxies.push((listen(address).await?, protocol));
        }
    }
    let own_key = options.private_key.as_deref().map(read_key).transpose()?;
    let session = Arc::new(Session::open(daemon, options.target, own_key).await?);
    for (listener, protocol) in proxies {
        let address = listener.local_addr()?;
        let scheme = match protocol {
            Protocol::Socks5 => "socks5h",
            Protocol::Http => "http",
        };
        eprintln!("proxy: {scheme}://{address}");
        tokio::spawn(proxy::serve(listener, protocol, Arc::clone(&session) as Arc<dyn Uplink>));
    }
    eprintln!("Ctrl-C ends the connection; the session goes on until it is idle");
    super::run::ending_signal().await?;
    Ok(ExitCode::SUCCESS)
}

async fn listen(address: SocketAddr) -> Result<TcpListener, Failure> {
    let error = |error| Failure::new(format!("cannot listen on {address}: {error}"));
    if !address.ip().is_loopback() {
        return Err(Failure::usage(format!(
            "{address} can be reached by others, and the proxy asks for no password; listen on 127.0.0.1 or [::1]"
        )));
    }
    TcpListener::bind(address).await.map_err(error)
}

fn read_key(path: &Path) -> Result<PrivateKey, Failure> {
    let text = std::fs::read_to_string(path).map(zeroize::Zeroizing::new);
    let text = text.map_err(|error| Failure::new(format!("cannot read {}: {error}", path.display())))?;
    text.trim().parse().map_err(|error| Failure::usage(format!("{}: {error}", path.display())))
}

/// A session that is brought up again when it has ebbed away and somebody wants to use it.
struct Session {
    api: Api,
    target: Target,
    own_key: Option<PrivateKey>,
    resolver: SocketAddr,
    tunnel: Mutex<Tunnel>,
}

impl Session {
    async fn open(daemon: &Daemon, target: Target, own_key: Option<PrivateKey>) -> Result<Self, Failure> {
        let api = Api::open(daemon)?;
        let (tunnel, connection) = bring_up(&api, &target, own_key.as_ref()).await?;
        let resolver = SocketAddr::new(connection.gateway, 53);
        Ok(Self { api, target, own_key, resolver, tunnel: Mutex::new(tunnel) })
    }
}

#[async_trait]
impl Uplink for Session {
    async fn tunnel(&self) -> io::Result<Tunnel> {
        let mut tunnel = self.tunnel.lock().await;
        if tunnel.last_handshake().is_none_or(|age| age > FRESH) {
            // Silence, or the gateway is gone. A gateway that is there answers at once.
            if tokio::time::timeout(Duration::from_secs(2), tunnel.handshake()).await.is_err() {
                let up = bring_up(&self.api, &self.target, self.own_key.as_ref()).await;
                (*tunnel, _) = up.map_err(|failure| io::Error::other(failure.message))?;
            }
        }
        Ok(tunnel.clone())
    }

    fn resolver(&self) -> SocketAddr {
        self.resolver
    }
}

/// Starts the session if it rests, waits until it is usable, and shakes hands with its gateway.
async fn bring_up(
    api: &Api,
    target: &Target,
    own_key: Option<&PrivateKey>,
) -> Result<(Tunnel, Connection), Failure> {
    let mut shown = None;
    let progress = |view: &SessionView| {
        let name = view.state_name();
        if shown != Some(name) {
            eprintln!("{}: {}", view.session, view.because.first().map_or("", String::as_str));
            shown = Some(name);
        }
    };
    if get(api, &target.session).await?.state_name() == StateName::Parked {
        order(api, &target.session, "start").await?;
    }
    await_active(api, &target.session, progress).await?;
    let path = format!("/api/sessions/{}/users/{}/connection", target.session, target.user);
    let connection: Connection = api.get(&path).await?;
    let private_key = match (own_key, &connection.private_key) {
        (Some(key), _) | (None, Some(key)) => key.clone(),
        (None, None) => {
            return Err(Failure::usage(format!(
                "{} keeps the private key; name its file with --private-key",
                target.user
            )));
        }
    };
    let endpoint = resolve(&connection.endpoint.host, connection.endpoint.port).await?;
    let tunnel = Tunnel::open(ClientConfig {
        private_key,
        gateway_key: connection.gateway_key,
        endpoint,
        addresses: connection.addresses.clone(),
        mtu: connection.mtu,
        persistent_keepalive: connection.persistent_keepalive_seconds.map(Duration::from_secs),
    })
    .await?;
    let late = |_| {
        Failure::new(format!(
            "{endpoint} does not answer WireGuard handshakes; is UDP blocked on this network, or is the key another one?"
        ))
    };
    tokio::time::timeout(HANDSHAKE_PATIENCE, tunnel.handshake()).await.map_err(late)?;
    eprintln!("{target}: connected to {endpoint}");
    Ok((tunnel, connection))
}

async fn resolve(host: &str, port: u16) -> Result<SocketAddr, Failure> {
    let unknown = |why: String| Failure::new(format!("the gateway's name {host} cannot be resolved: {why}"));
    let mut found =
        tokio::net::lookup_host((host, port)).await.map_err(|error| unknown(error.to_string()))?;
    found.next().ok_or_else(|| unknown("it has no address".to_owned()))
}
