//! One link: a handshake, a control connection, and questions at the times that the planner asks for.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use ebb_core::evidence::{Place, Report};
use ebb_core::idle::STALE_AFTER;
use ebb_core::outcome::{Class, Failure};
use ebb_desired_state::SessionName;
use ebb_tunnel::client::ClientConfig;
use ebb_wire::{
    CONTROL_PORT, DAEMON_ADDRESS, FrameError, Frames, GATEWAY_ADDRESS, PrivateKey, Refusal, Reply, Request,
};
use jiff::Timestamp;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::{News, Order, Target, What};
use crate::clock;
use crate::provider::Provider;
use crate::tunnel::{Tunnel, TunnelStream};

/// A gateway that has just been started answers within milliseconds on this machine and within a second elsewhere, so the
/// first handshakes follow each other quickly.
const FIRST_PATIENCE: Duration = Duration::from_millis(15);

/// `REKEY_TIMEOUT` of the protocol (WireGuard paper, section 6.1): no answer comes later.
const LONGEST_PATIENCE: Duration = Duration::from_secs(5);

/// A gateway that does not answer a question for this long is lost; a lost segment is repeated many times within it.
const ANSWER_PATIENCE: Duration = Duration::from_secs(5);

/// How long the tunnel is out of reach before the log is read: from then on its last report counts as stale.
const LOG_AFTER: Duration = STALE_AFTER.unsigned_abs();

/// A gateway prints a line of telemetry a minute; whoever reads more often reads the same.
const LOG_EVERY: Duration = Duration::from_secs(60);

/// Inner packets of the link; every IPv6 path carries them (RFC 8200, section 5).
const MTU: u16 = 1280;

pub(super) struct Worker {
    pub(super) session: SessionName,
    pub(super) target: Target,
    pub(super) key: PrivateKey,
    pub(super) provider: Arc<dyn Provider>,
    pub(super) news: mpsc::Sender<News>,
    pub(super) ask_at: watch::Receiver<Option<Timestamp>>,
    pub(super) orders: mpsc::Receiver<Order>,
    /// The last time that was acted upon.
    pub(super) asked: Option<Timestamp>,
}

impl Worker {
    pub(super) async fn run(mut self) {
        let mut patience = FIRST_PATIENCE;
        let mut read_log_at = Instant::now() + LOG_AFTER;
        loop {
            let lost = match self.connect(&mut patience).await {
                Ok((tunnel, stream)) => {
                    patience = FIRST_PATIENCE;
                    let lost = self.serve(&tunnel, stream).await;
                    read_log_at = Instant::now() + LOG_AFTER;
                    lost
                }
                Err(error) => error,
            };
            tracing::debug!(session = %self.session, "link lost: {lost}");
            self.tell(None, What::Lost(lost.to_string())).await;
            self.provider.look_at(&self.target.gateway);
            let read_log = async {
                if read_log_at <= Instant::now() {
                    read_log_at = Instant::now() + LOG_EVERY;
                    self.read_log().await;
                }
            };
            // The tunnel paces its own handshakes; this keeps failures that come at once from turning into a loop.
            tokio::join!(sleep(patience), read_log);
        }
    }

    /// Whoever cannot be asked may have written something down.
    async fn read_log(&self) {
        let log = match self.provider.log_tail(&self.target.gateway, &self.target.run).await {
            Ok(log) => log,
            Err(failure) => return tracing::warn!(session = %self.session, "{failure}"),
        };
        match super::read_log(&log, &self.session, clock::now()) {
            Some(report) => self.tell(None, What::Report(Box::new(report))).await,
            None => tracing::debug!(session = %self.session, "the gateway's log has no telemetry"),
        }
    }

    async fn connect(&self, patience: &mut Duration) -> io::Result<(Tunnel, TunnelStream)> {
        let endpoint = resolve(&self.target.endpoint.host, self.target.endpoint.port).await?;
        let tunnel = Tunnel::open(ClientConfig {
            private_key: self.key.clone(),
            gateway_key: self.target.gateway_key,
            endpoint,
            addresses: vec![IpAddr::V6(DAEMON_ADDRESS)],
            mtu: MTU,
            persistent_keepalive: None,
        })
        .await?;
        while timeout(*patience, tunnel.handshake()).await.is_err() {
            *patience = (*patience * 2).min(LONGEST_PATIENCE);
            if *patience == LONGEST_PATIENCE {
                // The name may mean another address by now.
                return Err(io::Error::new(
                    io::ErrorKind::TimedOut,
                    format!("no answer to WireGuard handshakes from {} ({endpoint})", self.target.endpoint),
                ));
            }
        }
        let control = SocketAddr::from((GATEWAY_ADDRESS, CONTROL_PORT));
        let stream = timeout(ANSWER_PATIENCE, tunnel.connect(control)).await.map_err(|_| {
            io::Error::new(io::ErrorKind::TimedOut, "the gateway's control port does not answer")
        })??;
        Ok((tunnel, stream))
    }

    /// Asks and configures until something goes wrong; returns what.
    async fn serve(&mut self, tunnel: &Tunnel, stream: TunnelStream) -> io::Error {
        let mut control = Control { stream, frames: Frames::default() };
        loop {
            if let Err(error) = self.report(tunnel, &mut control).await {
                return error;
            }
            let order = match self.wait().await {
                Some(Wake::Order(order)) => order,
                Some(Wake::Time) => continue,
                None => return io::Error::other("the link is not wanted any more"),
            };
            let answer = control.ask(&Request::Configure(order.live)).await;
            let (outcome, lost) = judge(answer);
            let _ = order.done.send(outcome);
            if let Some(lost) = lost {
                return lost;
            }
        }
    }

    async fn report(&self, tunnel: &Tunnel, control: &mut Control) -> io::Result<()> {
        match control.ask(&Request::Telemetry).await? {
            Reply::Telemetry(telemetry) => {
                let now = clock::now();
                let age = tunnel.last_handshake().unwrap_or_default();
                self.tell(
                    now.checked_sub(age).ok(),
                    What::Report(Box::new(Report::new(&telemetry, Place::Tunnel, now))),
                )
                .await;
                Ok(())
            }
            Reply::Refused(why) => Err(io::Error::other(why.to_string())),
            Reply::Configured { .. } => Err(io::Error::other("the gateway answered another question")),
        }
    }

    /// Waits until it is time to ask, or until there is something to send. A time that was named is due once.
    async fn wait(&mut self) -> Option<Wake> {
        loop {
            let at = self.ask_at.borrow_and_update().filter(|at| Some(*at) != self.asked);
            let due = async {
                match at {
                    Some(at) => sleep_until(clock::instant_at(at)).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                order = self.orders.recv() => return order.map(Wake::Order),
                () = due => {
                    self.asked = at;
                    return Some(Wake::Time);
                }
                changed = self.ask_at.changed() => changed.ok()?,
            }
        }
    }

    async fn tell(&self, handshake_at: Option<Timestamp>, what: What) {
        let news = News { session: self.session.clone(), run: self.target.run.clone(), handshake_at, what };
        let _ = self.news.send(news).await;
    }
}

enum Wake {
    Time,
    Order(Order),
}

/// The outcome of a configuration, and the error if the connection is of no more use.
fn judge(answer: io::Result<Reply>) -> (Result<(), Failure>, Option<io::Error>) {
    match answer {
        Ok(Reply::Configured { .. }) => (Ok(()), None),
        Ok(Reply::Refused(why)) => {
            let class = match why {
                Refusal::OlderGeneration { .. } => Class::Conflict,
                Refusal::Invalid { .. } | Refusal::Version { .. } | Refusal::Unreadable => Class::Stalled,
            };
            (Err(Failure::new(class, format!("the gateway refused its configuration: {why}"))), None)
        }
        Ok(Reply::Telemetry(_)) => {
            let error = io::Error::other("the gateway answered another question");
            (Err(Failure::new(Class::Transient, error.to_string())), Some(error))
        }
        Err(error) => {
            let message = format!("the gateway did not take its configuration: {error}");
            (Err(Failure::new(Class::Transient, message)), Some(error))
        }
    }
}

struct Control {
    stream: TunnelStream,
    frames: Frames,
}

impl Control {
    async fn ask(&mut self, request: &Request) -> io::Result<Reply> {
        let late =
            |_| io::Error::new(io::ErrorKind::TimedOut, "the gateway does not answer on its control port");
        timeout(ANSWER_PATIENCE, self.exchange(request)).await.map_err(late)?
    }

    async fn exchange(&mut self, request: &Request) -> io::Result<Reply> {
        let invalid = |error: FrameError| io::Error::new(io::ErrorKind::InvalidData, error.to_string());
        self.stream.write_all(&ebb_wire::encode(request).map_err(invalid)?).await?;
        let mut piece = [0; 4096];
        loop {
            if let Some(reply) = self.frames.take().map_err(invalid)? {
                return Ok(reply);
            }
            match self.stream.read(&mut piece).await? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                length => self.frames.push(&piece[..length]),
            }
        }
    }
}

async fn resolve(host: &str, port: u16) -> io::Result<SocketAddr> {
    let mut found = tokio::net::lookup_host((host, port)).await?;
    found.next().ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, format!("{host} has no address")))
}
