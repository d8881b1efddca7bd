//! Asking the probe in a container.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::UdpSocket;
use tokio::time::timeout;

use crate::clock;

/// A lost datagram is sent again after this.
const REPEAT_AFTER: Duration = Duration::from_secs(2);

/// One probe, seen from one socket.
pub(super) struct Probe {
    socket: UdpSocket,
}

impl Probe {
    pub(super) async fn at(ip: &str, port: u16) -> Result<Self, String> {
        let at: SocketAddr = SocketAddr::new(ip.parse().map_err(|_| format!("{ip} is no address"))?, port);
        let any = if at.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
        let socket = UdpSocket::bind(any).await.map_err(|error| error.to_string())?;
        socket.connect(at).await.map_err(|error| error.to_string())?;
        Ok(Self { socket })
    }

    /// The answer, however often it has to be asked for; `None` when there is none within this time.
    pub(super) async fn ask(&self, question: &str, within: Duration) -> Option<String> {
        let repeated = async {
            loop {
                if let Some(answer) = self.once(question.as_bytes(), REPEAT_AFTER).await {
                    return String::from_utf8_lossy(&answer).into_owned();
                }
            }
        };
        timeout(within, repeated).await.ok()
    }

    /// The answer to one datagram.
    pub(super) async fn once(&self, question: &[u8], within: Duration) -> Option<Vec<u8>> {
        // A port that nobody listens on yet shows as an error of an earlier datagram.
        let _ = self.socket.send(question).await;
        self.receive(within).await
    }

    /// The next datagram.
    pub(super) async fn receive(&self, within: Duration) -> Option<Vec<u8>> {
        let mut buffer = vec![0; 65_536];
        let until = clock::monotonic() + within;
        loop {
            let left = until.since(clock::monotonic());
            match timeout(left, self.socket.recv(&mut buffer)).await {
                Ok(Ok(length)) => return Some(buffer[..length].to_vec()),
                Ok(Err(_)) if left > Duration::from_millis(50) => {
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
                Ok(Err(_)) | Err(_) => return None,
            }
        }
    }

    /// Bytes a second that arrive when the probe sends as fast as it can.
    pub(super) async fn flood(&self, seconds: u64) -> f64 {
        let _ = self.socket.send(format!("flood {seconds}").as_bytes()).await;
        let (mut bytes, began) = (0_usize, clock::monotonic());
        while let Some(datagram) = self.receive(Duration::from_secs(2)).await {
            bytes += datagram.len();
            if clock::monotonic().since(began) > Duration::from_secs(seconds + 2) {
                break;
            }
        }
        #[expect(clippy::cast_precision_loss, reason = "a figure for people")]
        let rate = bytes as f64 / seconds.max(1) as f64;
        rate
    }
}
