//! Is the gateway alive? ACI asks by running a command in the container, whose image holds nothing but this binary.
//!
//! The gateway listens on an abstract Unix socket named after its port: it needs no file, lives in the container's own
//! network namespace, and only a loop that turns answers on it.

use std::fmt::Display;
use std::io::{self, Read as _, Write as _};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
use std::time::Duration;

use crate::args::Target;
use crate::run::{self, ReadBootError};

/// What a living gateway says.
const ALIVE: &[u8] = b"alive\n";

/// A loop that does not turn for this long does not serve its users either.
const PATIENCE: Duration = Duration::from_secs(3);

/// Why a gateway is not known to be alive.
#[derive(Debug, thiserror::Error)]
pub enum HealthError {
    /// The boot file does not tell the port.
    #[error(transparent)]
    Boot(#[from] ReadBootError),
    /// Nobody listens.
    #[error("no gateway runs on port {port} of this network namespace ({error})")]
    Nobody {
        /// UDP port of the gateway.
        port: u16,
        /// What the kernel says.
        error: io::Error,
    },
    /// Somebody listens and says nothing, or something else.
    #[error("the gateway on port {port} does not answer within {} s", PATIENCE.as_secs())]
    Silent {
        /// UDP port of the gateway.
        port: u16,
    },
}

fn address(port: impl Display) -> io::Result<SocketAddr> {
    SocketAddr::from_abstract_name(format!("ebb-gateway-{port}"))
}

/// Asks a gateway whether it is alive.
///
/// # Errors
/// When it is not, or nobody can tell.
pub fn ask(target: &Target) -> Result<(), HealthError> {
    let port = match target {
        Target::Port(port) => *port,
        Target::Boot(path) => run::read_boot(path)?.listen_port,
    };
    let nobody = |error| HealthError::Nobody { port, error };
    let mut stream = address(port).and_then(|at| UnixStream::connect_addr(&at)).map_err(nobody)?;
    stream.set_read_timeout(Some(PATIENCE)).map_err(nobody)?;
    let mut answer = Vec::new();
    match stream.read_to_end(&mut answer) {
        Ok(_) if answer == ALIVE => Ok(()),
        _ => Err(HealthError::Silent { port }),
    }
}

/// The gateway's end.
pub struct Health(UnixListener);

impl Health {
    /// Listens for the gateway on `port`.
    ///
    /// # Errors
    /// When somebody else already does.
    pub fn listen(port: u16) -> io::Result<Self> {
        let listener = UnixListener::bind_addr(&address(port)?)?;
        listener.set_nonblocking(true)?;
        Ok(Self(listener))
    }

    /// Answers everybody who asks.
    pub fn answer(&self) {
        while let Ok((mut stream, _)) = self.0.accept() {
            // The buffer of a new connection holds these few bytes; whoever went away needs no answer.
            let _ = stream.set_nonblocking(true).and_then(|()| stream.write_all(ALIVE));
        }
    }
}

impl AsFd for Health {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_gateway_that_answers_is_alive() {
        // Port 0 is nobody's: the test can collide with a gateway on this machine.
        let error = ask(&Target::Port(0)).unwrap_err();
        assert!(matches!(error, HealthError::Nobody { port: 0, .. }), "{error}");
        let health = Health::listen(0).unwrap();
        let thread = std::thread::spawn(|| ask(&Target::Port(0)));
        while !thread.is_finished() {
            health.answer();
            std::thread::yield_now();
        }
        thread.join().unwrap().unwrap();
    }
}
