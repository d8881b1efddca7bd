//! `ebb connect`: a session on this machine without root.

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use ebb_core::state::StateName;
use ebb_tunnel::Time;
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
use crate::clock;
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

/// How long an answer of the daemon holds. A page opens dozens of connections at a time; one question is enough for them.
const ASK_AGAIN: Duration = Duration::from_secs(2);

/// A session that is brought up again when it has ebbed away and somebody wants to use it.
struct Session {
    api: Api,
    target: Target,
    own_key: Option<PrivateKey>,
    resolver: SocketAddr,
    link: Mutex<Link>,
}

/// A tunnel to one run of the session's gateway.
struct Link {
    tunnel: Tunnel,
    run: Option<String>,
    checked_at: Time,
}

impl Session {
    async fn open(daemon: &Daemon, target: Target, own_key: Option<PrivateKey>) -> Result<Self, Failure> {
        let api = Api::open(daemon)?;
        let (link, connection) = bring_up(&api, &target, own_key.as_ref()).await?;
        let resolver = SocketAddr::new(connection.gateway, 53);
        Ok(Self { api, target, own_key, resolver, link: Mutex::new(link) })
    }

    /// Whether the gateway at the other end of the tunnel is there.
    async fn is_usable(&self, link: &Link) -> bool {
        match get(&self.api, &self.target.session).await {
            // The keys of a tunnel belong to one run: the next one drops what is encrypted with them.
            Ok(view) => view.state_name().is_up() && view.session_id == link.run,
            // Without the daemon the gateway itself can be asked. One that is there answers at once.
            Err(_) => {
                link.tunnel.last_handshake().is_some_and(|age| age <= FRESH)
                    || tokio::time::timeout(Duration::from_secs(2), link.tunnel.handshake()).await.is_ok()
            }
        }
    }
}

#[async_trait]
impl Uplink for Session {
    async fn tunnel(&self) -> io::Result<Tunnel> {
        let mut link = self.link.lock().await;
        if clock::monotonic().since(link.checked_at) > ASK_AGAIN {
            if !self.is_usable(&link).await {
                let up = bring_up(&self.api, &self.target, self.own_key.as_ref()).await;
                (*link, _) = up.map_err(|failure| io::Error::other(failure.message))?;
            }
            link.checked_at = clock::monotonic();
        }
        Ok(link.tunnel.clone())
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
) -> Result<(Link, Connection), Failure> {
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
    let view = await_active(api, &target.session, progress).await?;
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
    Ok((Link { tunnel, run: view.session_id, checked_at: clock::monotonic() }, connection))
}

async fn resolve(host: &str, port: u16) -> Result<SocketAddr, Failure> {
    let unknown = |why: String| Failure::new(format!("the gateway's name {host} cannot be resolved: {why}"));
    let mut found =
        tokio::net::lookup_host((host, port)).await.map_err(|error| unknown(error.to_string()))?;
    found.next().ok_or_else(|| unknown("it has no address".to_owned()))
}
