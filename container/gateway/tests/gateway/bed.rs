//! Namespaces, and a gateway in the middle one.

use std::io::Read as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use ebb_wire::{Boot, PrivateKey, VERSION};
use nix::sched::{CloneFlags, setns};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

pub const SERVER_V4: Ipv4Addr = Ipv4Addr::new(172, 31, 2, 2);
pub const SERVER_V6: Ipv6Addr = Ipv6Addr::new(0xfd31, 2, 0, 0, 0, 0, 0, 2);
/// On the server's link, and nobody's: what is sent there is taken and dropped.
pub const SILENT: Ipv4Addr = Ipv4Addr::new(172, 31, 2, 3);
/// Where the gateway listens, seen by clients.
pub const GATEWAY_OUTER: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(172, 31, 1, 1)), PORT);
pub const GATEWAY_OUTER_V6: SocketAddr =
    SocketAddr::new(IpAddr::V6(Ipv6Addr::new(0xfd31, 1, 0, 0, 0, 0, 0, 1)), PORT);
pub const PORT: u16 = 41820;
/// The gateway inside the tunnel.
pub const GATEWAY_V4: Ipv4Addr = Ipv4Addr::new(10, 8, 0, 1);

/// How long anything may take. Long, because machines are slow; nothing waits for it when all is well.
pub const PATIENCE: Duration = Duration::from_secs(30);

#[derive(Clone, Copy)]
pub enum Place {
    Client,
    Gateway,
    Server,
}

/// Three namespaces; gone when dropped.
pub struct Bed {
    name: String,
    directory: tempfile::TempDir,
    pub gateway_key: PrivateKey,
    pub control_key: PrivateKey,
    pub lease: u64,
}

#[expect(clippy::disallowed_methods, reason = "deadlines of tests against a real process")]
pub fn clock() -> Instant {
    Instant::now()
}

/// A test bed, or `None` with a word about it when this process may not make one.
pub fn bed() -> Option<Bed> {
    if !nix::unistd::geteuid().is_root() {
        println!("skipped: network namespaces need root");
        return None;
    }
    Some(Bed::new())
}

impl Bed {
    fn new() -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let bed = Self {
            name: format!("ebb-{}-{number}", std::process::id()),
            directory: tempfile::tempdir().unwrap(),
            gateway_key: PrivateKey::from_random([1; 32]),
            control_key: PrivateKey::from_random([2; 32]),
            lease: 600,
        };
        let [client, gateway, server] =
            [Place::Client, Place::Gateway, Place::Server].map(|place| bed.namespace(place));
        for namespace in [&client, &gateway, &server] {
            ip(&format!("netns add {namespace}"));
            ip(&format!("-n {namespace} link set lo up"));
        }
        for line in [
            format!("link add right netns {client} type veth peer name left netns {gateway}"),
            format!("link add right netns {gateway} type veth peer name left netns {server}"),
        ] {
            ip(&line);
        }
        for (namespace, link, v4, v6) in [
            (&client, "right", "172.31.1.2/24", "fd31:1::2/64"),
            (&gateway, "left", "172.31.1.1/24", "fd31:1::1/64"),
            (&gateway, "right", "172.31.2.1/24", "fd31:2::1/64"),
            (&server, "left", "172.31.2.2/24", "fd31:2::2/64"),
        ] {
            ip(&format!("-n {namespace} addr add {v4} dev {link}"));
            ip(&format!("-n {namespace} addr add {v6} dev {link} nodad"));
            ip(&format!("-n {namespace} link set {link} up"));
        }
        let mac = output("ip", &["-n", &server, "-br", "link", "show", "left"]);
        let mac = mac.split_whitespace().nth(2).unwrap();
        ip(&format!("-n {gateway} neigh add {SILENT} lladdr {mac} dev right nud permanent"));
        bed.inside(Place::Gateway, || {
            std::fs::write("/proc/sys/net/ipv4/ping_group_range", "0 2147483647").unwrap();
        });
        bed
    }

    pub fn namespace(&self, place: Place) -> String {
        let suffix = match place {
            Place::Client => 'c',
            Place::Gateway => 'g',
            Place::Server => 's',
        };
        format!("{}{suffix}", self.name)
    }

    /// Runs something in a namespace. Sockets made there stay there.
    pub fn inside<T: Send>(&self, place: Place, work: impl FnOnce() -> T + Send) -> T {
        let file = std::fs::File::open(format!("/run/netns/{}", self.namespace(place))).unwrap();
        std::thread::scope(|scope| {
            let thread = scope.spawn(|| {
                setns(file, CloneFlags::CLONE_NEWNET).unwrap();
                work()
            });
            thread.join().unwrap()
        })
    }

    /// A command in a namespace.
    pub fn command(&self, place: Place, program: &str) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.namespace(place), program]);
        command
    }

    pub fn boot(&self) -> Boot {
        Boot {
            version: VERSION,
            session: "test".into(),
            listen_port: PORT,
            private_key: self.gateway_key.clone(),
            control_key: self.control_key.public(),
            ipv4: "10.8.0.0/24".parse().unwrap(),
            ipv6: "fd65:6262:0:1::/64".parse().unwrap(),
            lease_seconds: self.lease,
        }
    }

    /// Starts the gateway as nobody, without capabilities, and waits until it answers its health command.
    pub fn start(&self) -> Gateway {
        self.start_with(&[], &[])
    }

    /// The same under another command, for example one that limits it, and with more options.
    pub fn start_with(&self, under: &[&str], options: &[&str]) -> Gateway {
        let path = self.write_boot(&serde_json::to_string(&self.boot()).unwrap());
        let mut command = self.command(Place::Gateway, "setpriv");
        command.args(["--reuid", "nobody", "--regid", "nogroup", "--clear-groups"]);
        command.args(["--bounding-set=-all", "--inh-caps=-all", "--no-new-privs"]);
        command.args(under);
        command.arg(env!("CARGO_BIN_EXE_ebb-gateway")).arg("run").arg("--boot").arg(&path).args(options);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).env_clear();
        let mut gateway = Gateway { child: command.spawn().unwrap() };
        let deadline = clock() + PATIENCE;
        while !self.is_healthy() {
            assert!(clock() < deadline, "the gateway does not come up");
            if let Some(status) = gateway.child.try_wait().unwrap() {
                panic!("the gateway ended: {status}\n{}", gateway.errors());
            }
        }
        gateway
    }

    /// A boot file.
    pub fn write_boot(&self, text: &str) -> PathBuf {
        self.write_secret("boot.json", text)
    }

    /// A file that the gateway's user may read.
    pub fn write_secret(&self, name: &str, text: &str) -> PathBuf {
        // Nobody else on the machine of a test is curious.
        std::fs::set_permissions(self.directory.path(), PermissionsExt::from_mode(0o755)).unwrap();
        let path = self.directory.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    }

    /// What the health command says.
    pub fn is_healthy(&self) -> bool {
        let mut command = self.command(Place::Gateway, env!("CARGO_BIN_EXE_ebb-gateway"));
        command.args(["health", "--port", &PORT.to_string()]).stderr(Stdio::null());
        command.status().unwrap().success()
    }
}

impl Drop for Bed {
    fn drop(&mut self) {
        for place in [Place::Client, Place::Gateway, Place::Server] {
            let _ = Command::new("ip").args(["netns", "del", &self.namespace(place)]).status();
        }
    }
}

/// A running gateway; killed when dropped.
pub struct Gateway {
    pub child: Child,
}

impl Gateway {
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.child.id() as i32), signal).unwrap();
    }

    /// Waits for the end and returns status, standard output and standard error.
    pub fn wait(mut self) -> (ExitStatus, String, String) {
        let deadline = clock() + PATIENCE;
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            assert!(clock() < deadline, "the gateway does not end");
            std::thread::yield_now();
        };
        let mut output = String::new();
        self.child.stdout.take().unwrap().read_to_string(&mut output).unwrap();
        (status, output, self.errors())
    }

    fn errors(&mut self) -> String {
        let mut errors = String::new();
        self.child.stderr.take().unwrap().read_to_string(&mut errors).unwrap();
        errors
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn ip(line: &str) {
    output("ip", &line.split_whitespace().collect::<Vec<_>>());
}

pub fn output(program: &str, arguments: &[&str]) -> String {
    let result = Command::new(program).args(arguments).output().unwrap();
    let text = String::from_utf8_lossy(&result.stdout).into_owned();
    assert!(
        result.status.success(),
        "{program} {arguments:?}: {text}{}",
        String::from_utf8_lossy(&result.stderr)
    );
    text
}
