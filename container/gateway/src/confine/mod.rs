//! What the gateway gives up before it serves: everything that it does not need and that an intruder would.
//!
//! Users' packets are parsed by safe Rust, and the container has no privileges anyway; this is the layer behind both. It is
//! made of three parts, each of which a kernel or a container runtime may lack or forbid. The gateway then goes without that
//! part and says so in its first line: a session without a second wall is better than none.

mod calls;
mod files;

use std::fmt;
use std::path::Path;

/// Whether a part is in force.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wall {
    /// As a whole.
    Full,
    /// As far as this kernel can.
    Partial,
    /// Not at all, and why.
    Missing(String),
}

impl fmt::Display for Wall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Full => f.write_str("full"),
            Self::Partial => f.write_str("partial"),
            Self::Missing(why) => write!(f, "missing: {why}"),
        }
    }
}

/// No program that this one starts can get more rights than it has (`PR_SET_NO_NEW_PRIVS`), and of the file system there
/// remain the resolver's configuration and the termination log. For the calling thread and those it starts afterwards, so it
/// has to come first.
#[must_use]
pub fn confine_files(resolver: &Path, termination_log: Option<&Path>) -> Wall {
    if let Err(error) = nix::sys::prctl::set_no_new_privs() {
        return Wall::Missing(format!("no_new_privs cannot be set: {error}"));
    }
    files::confine(resolver, termination_log)
}

/// Of the system calls there remain those that serving needs; all others fail with EPERM. For all threads.
#[must_use]
pub fn confine_calls() -> Wall {
    match calls::filter().and_then(|filter| seccompiler::apply_filter_all_threads(&filter)) {
        Ok(()) => Wall::Full,
        Err(error) => Wall::Missing(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use std::io::ErrorKind;
    use std::mem::MaybeUninit;
    use std::net::{TcpListener, TcpStream, UdpSocket};

    use rustix::event::{Timespec, epoll};
    use rustix::io::Errno;
    use socket2::{Domain, Socket, Type};

    use super::*;

    /// Runs something in a thread of its own, which takes what it gave up with it.
    fn aside(work: impl FnOnce() + Send + 'static) {
        std::thread::spawn(work).join().unwrap();
    }

    fn confine_thread() {
        seccompiler::apply_filter(&calls::filter().unwrap()).unwrap();
    }

    #[test]
    fn a_confined_thread_opens_flows_and_starts_nothing() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        aside(move || {
            confine_thread();
            TcpStream::connect(address).unwrap();
            UdpSocket::bind("127.0.0.1:0").unwrap().send_to(b"x", address).unwrap();
            nix::ifaddrs::getifaddrs().unwrap();
            let denied = |error: std::io::Error| assert_eq!(error.kind(), ErrorKind::PermissionDenied);
            denied(std::process::Command::new("/bin/true").spawn().unwrap_err());
            denied(Socket::new(Domain::IPV4, Type::RAW, None).unwrap_err());
            denied(Socket::new(Domain::UNIX, Type::STREAM, None).unwrap_err());
            // Not every C library hands the reason on.
            assert!(std::thread::Builder::new().spawn(|| ()).is_err());
            denied(std::fs::remove_file("/nowhere").unwrap_err());
        });
    }

    #[test]
    fn a_confined_thread_waits_for_fractions_of_a_millisecond() {
        aside(|| {
            let epoll = epoll::create(epoll::CreateFlags::CLOEXEC).unwrap();
            confine_thread();
            let timeout = Timespec { tv_sec: 0, tv_nsec: 1_500_000 };
            let waited = epoll::wait(&epoll, &mut [MaybeUninit::uninit(); 1], Some(&timeout)).map(|_| ());
            // A kernel before 5.11 does not know the call.
            assert!(matches!(waited, Ok(()) | Err(Errno::NOSYS)), "{waited:?}");
        });
    }

    #[test]
    fn where_the_kernel_forbids_confinement_the_gateway_learns_it_and_lives() {
        aside(|| {
            // The filter itself forbids everything that confinement is made of.
            confine_thread();
            let wall = match calls::filter().and_then(|filter| seccompiler::apply_filter(&filter)) {
                Ok(()) => Wall::Full,
                Err(error) => Wall::Missing(error.to_string()),
            };
            assert!(matches!(wall, Wall::Missing(_)), "{wall}");
            let wall = confine_files(Path::new("/etc/resolv.conf"), None);
            assert!(wall.to_string().starts_with("missing: "), "{wall}");
        });
    }

    #[test]
    fn of_the_file_system_only_the_named_files_remain() {
        let directory = tempfile::tempdir().unwrap();
        let (secrets, logs) = (directory.path().join("secrets"), directory.path().join("logs"));
        let (etc, run) = (directory.path().join("etc"), directory.path().join("run"));
        for path in [&secrets, &logs, &etc, &run] {
            std::fs::create_dir(path).unwrap();
            std::fs::write(path.join("file"), "text").unwrap();
        }
        let link = etc.join("resolv.conf");
        std::os::unix::fs::symlink(run.join("file"), &link).unwrap();
        aside(move || {
            let log = logs.join("termination");
            let wall = confine_files(&link, Some(&log));
            if let Wall::Missing(why) = wall {
                println!("skipped: {why}");
                return;
            }
            std::fs::read_to_string(&link).unwrap();
            // Written anew by whoever manages it.
            std::fs::write(&log, "0 reason\n").unwrap();
            let denied = |error: std::io::Error| assert_eq!(error.kind(), ErrorKind::PermissionDenied);
            denied(std::fs::read_to_string(secrets.join("file")).unwrap_err());
            denied(std::fs::write(run.join("file"), "other").unwrap_err());
            denied(std::fs::read_dir(&etc).unwrap_err());
            denied(std::fs::read_to_string(logs.join("file")).unwrap_err());
            denied(std::fs::File::open("/proc/self/status").unwrap_err());
        });
    }
}
