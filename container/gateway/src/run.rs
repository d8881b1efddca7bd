//! A gateway's life: boot file, loop, end.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ebb_tunnel::Time;
use ebb_wire::{Boot, BootError, control_network};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use zeroize::Zeroizing;

use crate::args::{BOOT_VARIABLE, BootPlace, Options};
use crate::clock::Clock;
use crate::confine::{self, Wall};
use crate::health::{Health, HealthError};
use crate::log::Log;
use crate::plane::{Limits, Noticed, Plane};
use crate::probe::Machine;
use crate::resolv;

/// How often telemetry is printed.
const TELEMETRY: Duration = Duration::from_secs(60);

/// Longest boot file that is read. A real one has less than a kilobyte.
const BOOT_MAX: u64 = 64 << 10;

/// Why a boot file cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadBootError {
    /// The file is not there, or not for us.
    #[error("the boot file {path} cannot be read: {error}", path = .path.display())]
    File {
        /// Which file.
        path: PathBuf,
        /// Why not.
        error: io::Error,
    },
    /// It should be in a variable and is not.
    #[error("EBB_BOOT does not hold a boot file: it is not set, or not text")]
    Variable,
    /// It is something else than a boot file.
    #[error("{place}: {error}")]
    Content {
        /// Where it is.
        place: String,
        /// What is wrong.
        error: BootError,
    },
    /// The session's network is the control network.
    #[error("{place}: the session's network {network} overlaps the control network {control}", control = control_network())]
    Network {
        /// Where it is.
        place: String,
        /// The session's network.
        network: ipnet::Ipv6Net,
    },
}

/// Why the gateway could not do its work.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The boot file is missing or wrong.
    #[error(transparent)]
    Boot(#[from] ReadBootError),
    /// The port is not to be had.
    #[error("UDP port {port} cannot be used: {error}")]
    Port {
        /// Which port.
        port: u16,
        /// Why not.
        error: io::Error,
    },
    /// The system refused something that the gateway cannot do without.
    #[error("{what}: {error}")]
    System {
        /// What was attempted.
        what: &'static str,
        /// Why it failed.
        error: io::Error,
    },
    /// The gateway that was asked for is not alive.
    #[error(transparent)]
    Health(HealthError),
}

/// Reads a boot file.
///
/// # Errors
/// See [`ReadBootError`]. No error quotes the file: it holds a private key.
pub fn read_boot(place: &BootPlace) -> Result<Boot, ReadBootError> {
    let (text, place) = match place {
        BootPlace::File(path) => (read_file(path)?, path.display().to_string()),
        BootPlace::Variable => {
            let missing = |_| ReadBootError::Variable;
            (std::env::var(BOOT_VARIABLE).map(Zeroizing::new).map_err(missing)?, BOOT_VARIABLE.to_owned())
        }
    };
    let boot = match Boot::parse(&text) {
        Ok(boot) => boot,
        Err(error) => return Err(ReadBootError::Content { place, error }),
    };
    let control = control_network();
    if boot.ipv6.contains(&control) || control.contains(&boot.ipv6) {
        return Err(ReadBootError::Network { place, network: boot.ipv6 });
    }
    Ok(boot)
}

fn read_file(path: &Path) -> Result<Zeroizing<String>, ReadBootError> {
    let file = |error| ReadBootError::File { path: path.to_owned(), error };
    let length = std::fs::metadata(path).map_err(file)?.len();
    if length > BOOT_MAX {
        return Err(file(io::Error::other("it is far too long for a boot file")));
    }
    std::fs::read_to_string(path).map(Zeroizing::new).map_err(file)
}

/// Serves until a signal or the end of the lease.
///
/// # Errors
/// See [`Failure`].
pub fn run(options: &Options) -> Result<(), Failure> {
    let system = |what| move |error| Failure::System { what, error };
    let boot = read_boot(&options.boot)?;
    // Before any thread is started: threads inherit the mask, and a signal must find nobody but the loop.
    let signals = catch_signals().map_err(system("signals cannot be caught"))?;
    let files = confine::confine_files(Path::new(resolv::FILE), options.termination_log.as_deref());
    let filter = std::env::var("EBB_LOG").ok();
    let log = Log::start(filter.as_deref()).map_err(system("no thread can be started"))?;
    let machine = Machine::probe();
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let limits = Limits {
        loops: options.loops.unwrap_or(cores),
        memory: options.memory,
        files: machine.files,
        segmentation: options.segmentation && machine.segmentation,
    };
    let clock = Clock::start();
    let (port, lease) = (boot.listen_port, Duration::from_secs(boot.lease_seconds));
    let session = boot.session.clone();
    let mut planes = Plane::start(boot, &limits, clock).map_err(|error| Failure::Port { port, error })?;
    // Before the system calls are confined, because starting a thread is none of those that remain.
    for beside in planes.split_off(1) {
        let serve = move || {
            if let Err(error) = beside.serve_beside() {
                tracing::error!(%error, "a loop cannot wait");
            }
        };
        std::thread::Builder::new()
            .name("loop".into())
            .spawn(serve)
            .map_err(system("no thread can be started"))?;
    }
    let Some(mut plane) = planes.pop() else { return Ok(()) };
    plane.watch(&signals, Noticed::Signal).map_err(system("signals cannot be waited for"))?;
    let health = listen_for_health(port, &plane);
    let walls = [files, confine::confine_calls()];
    introduce(&session, &machine, &plane, &limits, &walls);

    let reason = serve(&mut plane, &log, clock, lease, &signals, health.as_ref())
        .map_err(system("the loop cannot wait"))?;
    let last_line = plane.log_line();
    plane.stop();
    if let Some(line) = last_line {
        log.print(&line);
    }
    let last_words = match reason {
        Reason::Signal => "ended by a signal",
        Reason::Lease => "ended: neither the daemon nor a user's traffic was seen during the lease",
    };
    tracing::info!(lease_seconds = lease.as_secs(), "{last_words}");
    if let Some(path) = &options.termination_log
        && let Err(error) = std::fs::write(path, format!("0 {last_words}\n"))
    {
        tracing::warn!("{} cannot be written: {error}", path.display());
    }
    log.flush();
    Ok(())
}

enum Reason {
    Signal,
    Lease,
}

fn serve(
    plane: &mut Plane,
    log: &Log,
    clock: Clock,
    lease: Duration,
    signals: &SignalFd,
    health: Option<&Health>,
) -> io::Result<Reason> {
    let mut telemetry_at = clock.now() + TELEMETRY;
    let mut lease_ends = clock.now() + lease;
    let mut noticed = Vec::new();
    loop {
        plane.turn(telemetry_at.min(lease_ends), &mut noticed)?;
        for noticed in noticed.drain(..) {
            match noticed {
                Noticed::Signal if signals.read_signal()?.is_some() => return Ok(Reason::Signal),
                Noticed::Signal => {}
                Noticed::Health => {
                    if let Some(health) = health
                        && plane.turns()
                    {
                        health.answer();
                    }
                }
            }
        }
        let now = clock.now();
        if telemetry_at <= now {
            telemetry_at = now + TELEMETRY;
            if let Some(line) = plane.log_line() {
                log.print(&line);
            }
        }
        if lease_ends <= now {
            lease_ends = plane.last_sign_of_life().unwrap_or(Time::ZERO) + lease;
            if lease_ends <= now {
                return Ok(Reason::Lease);
            }
        }
    }
}

fn catch_signals() -> io::Result<SignalFd> {
    let mut set = SigSet::empty();
    set.add(Signal::SIGTERM);
    set.add(Signal::SIGINT);
    set.thread_block()?;
    Ok(SignalFd::with_flags(&set, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)?)
}

/// Without the health socket the gateway serves all the same.
fn listen_for_health(port: u16, plane: &Plane) -> Option<Health> {
    let listening = Health::listen(port).and_then(|health| {
        plane.watch(&health, Noticed::Health)?;
        Ok(health)
    });
    listening.inspect_err(|error| tracing::warn!(%error, "the health command will not work")).ok()
}

fn introduce(session: &str, machine: &Machine, plane: &Plane, limits: &Limits, walls: &[Wall; 2]) {
    let [files, calls] = walls;
    let (receive, send) = plane.offloads();
    let (receive_buffer, send_buffer) = plane.socket_buffers();
    tracing::info!(
        session,
        address = plane.local_address().ok().map(tracing::field::display),
        version = env!("CARGO_PKG_VERSION"),
        kernel = machine.kernel,
        gro = receive > 1,
        gso = send > 1,
        gso_broken_in_kernel = !machine.segmentation,
        ping_v4 = machine.ping_v4,
        ping_v6 = machine.ping_v6,
        route_v6 = machine.route_v6,
        receive_buffer,
        send_buffer,
        files = machine.files,
        loops = plane.loops(),
        memory_mib = limits.memory >> 20,
        landlock = %files,
        seccomp = %calls,
        "started"
    );
}
