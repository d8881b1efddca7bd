//! Proxies on this machine whose connections go through a tunnel: what makes a session usable without root.

mod http;
mod resolve;
mod socks5;

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};

use crate::tunnel::{Tunnel, TunnelStream};

/// A client that has said what it wants for this long without saying it is dropped.
const GREETING_PATIENCE: Duration = Duration::from_secs(30);

/// One address of a destination gets this long before the next is tried.
const CONNECT_PATIENCE: Duration = Duration::from_secs(10);

/// Something that leads to a tunnel that works.
#[async_trait]
pub trait Uplink: Send + Sync + 'static {
    /// A tunnel with a recent handshake. May start the session and take as long as that takes.
    async fn tunnel(&self) -> io::Result<Tunnel>;

    /// The resolver inside the tunnel.
    fn resolver(&self) -> SocketAddr;
}

/// What a client wants to reach.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Destination {
    /// An address.
    Address(IpAddr),
    /// A name, to be resolved inside the tunnel.
    Name(String),
}

/// Which proxy protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// RFC 1928.
    Socks5,
    /// RFC 9110, section 9.3.6 (CONNECT), and requests in absolute form (RFC 9112, section 3.2.2).
    Http,
}

/// Serves one proxy for as long as the listener lives.
///
/// # Errors
/// When the listener fails.
pub async fn serve(listener: TcpListener, protocol: Protocol, uplink: Arc<dyn Uplink>) -> io::Result<()> {
    loop {
        let (client, _) = match listener.accept().await {
            Ok(accepted) => accepted,
            // One client that vanished, or no descriptors for a moment, is no reason to stop serving.
            Err(error) => {
                tracing::debug!("accept: {error}");
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        let uplink = Arc::clone(&uplink);
        tokio::spawn(async move {
            let served = match protocol {
                Protocol::Socks5 => socks5::serve(client, &*uplink).await,
                Protocol::Http => http::serve(client, &*uplink).await,
            };
            if let Err(error) = served {
                tracing::debug!("proxied connection: {error}");
            }
        });
    }
}

/// Opens a connection through the tunnel, trying each address of the destination in turn.
async fn open(uplink: &dyn Uplink, destination: &Destination, port: u16) -> io::Result<TunnelStream> {
    let tunnel = uplink.tunnel().await?;
    let addresses = match destination {
        Destination::Address(address) => vec![*address],
        Destination::Name(name) => resolve::addresses(&tunnel, uplink.resolver(), name).await?,
    };
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for address in addresses {
        match tokio::time::timeout(CONNECT_PATIENCE, tunnel.connect((address, port).into())).await {
            Ok(Ok(stream)) => return Ok(stream),
            Ok(Err(error)) => last = error,
            Err(_) => last = io::ErrorKind::TimedOut.into(),
        }
    }
    Err(last)
}

/// Carries bytes both ways until both directions have ended.
async fn join<A, B>(mut one: A, mut other: B) -> io::Result<()>
where
    A: AsyncRead + AsyncWrite + Unpin,
    B: AsyncRead + AsyncWrite + Unpin,
{
    tokio::io::copy_bidirectional_with_sizes(&mut one, &mut other, BUFFER, BUFFER).await.map(drop)
}

/// Bytes in flight between the two halves of a connection; one tunnel packet's worth of time at any speed a laptop reaches.
const BUFFER: usize = 64 * 1024;

async fn within<T>(what: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    tokio::time::timeout(GREETING_PATIENCE, what).await.map_err(|_| io::ErrorKind::TimedOut)?
}

fn nodelay(client: &TcpStream) {
    // Only latency is lost if this fails.
    let _ = client.set_nodelay(true);
}
