//! The gateways, each in a world of its own: client, gateway and server are three network namespaces.

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use ebb_core::state::StateName;
use ebb_tests::e2e::client::{config, values};
use ebb_tests::e2e::daemon::SOON;
use ebb_tests::e2e::process::Process;
use ebb_tests::e2e::relay::{Line, Relay};
use ebb_tests::e2e::world::{HOST, SERVER};
use ebb_tests::e2e::{Client, Daemon, World};
use ebb_wire::PrivateKey;
use nix::unistd::Pid;

use crate::options::{Candidate, Kind};

/// As the daemon's configurations.
const MTU: u16 = 1420;
const PORT: u16 = 51_820;
const DOCUMENT: &str = "version: 1\ndeployment: home\nusers: [{ name: alice }]\n\
    sessions: [{ name: bench, users: [alice], region: local }]\n";

/// A gateway that runs, and its only client.
pub struct Bed<'w> {
    pub world: &'w World,
    pub client: Client<'w>,
    pub gateway: Pid,
    relay: Option<Relay>,
    _running: Running<'w>,
}

enum Running<'w> {
    Daemon(#[expect(dead_code, reason = "kept alive")] Daemon<'w>),
    Program(#[expect(dead_code, reason = "kept alive")] Process),
}

impl<'w> Bed<'w> {
    /// Starts the gateway and connects a client, wireguard-go unless another is named; with a line, through a relay.
    pub fn new(
        world: &'w World,
        candidate: &Candidate,
        program: Option<&Path>,
        line: Option<(Line, u64)>,
    ) -> Self {
        let (running, gateway, config) = match candidate.kind {
            Kind::Ebb => ebb(world),
            Kind::WireguardGo | Kind::Boringtun => nat(world, candidate),
        };
        let mut client = Client::new(world, 1);
        let endpoint = values(&config, "Endpoint").next().unwrap().to_owned();
        let far: SocketAddr = endpoint.parse().unwrap();
        let relay = line.map(|(line, seed)| Relay::start(&client.namespace, far, line, seed));
        let config = match &relay {
            Some(relay) => config.replace(&endpoint, &relay.address.to_string()),
            None => config,
        };
        match program {
            Some(program) => client.up_alone(Command::new(program), "bench", &config),
            None => client.up("bench", &config),
        }
        client.await_reach(SERVER);
        Self { world, client, gateway, relay, _running: running }
    }

    /// Whether the line is slow, long or lossy.
    pub fn is_wan(&self) -> bool {
        self.relay.is_some()
    }

    /// CPU time of the gateway until now, of all its threads, in user and system mode (proc_pid_stat(5)).
    pub fn cpu(&self) -> Duration {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.gateway)).unwrap();
        let (_, fields) = stat.rsplit_once(") ").unwrap();
        let ticks: u64 = fields.split(' ').skip(11).take(2).map(|field| field.parse::<u64>().unwrap()).sum();
        // USER_HZ is 100 on every architecture that Rust's standard library supports on Linux.
        Duration::from_millis(ticks * 10)
    }

    /// `VmRSS` or `VmHWM` of the gateway, in MiB (proc_pid_status(5)).
    pub fn memory(&self, field: &str) -> f64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.gateway)).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':')).unwrap();
        line.split_whitespace().next().unwrap().parse::<f64>().unwrap() / 1024.0
    }
}

/// The shipped program: the daemon, and the gateway that its local provider starts.
fn ebb(world: &World) -> (Running<'_>, Pid, String) {
    let daemon = Daemon::with_document(world, DOCUMENT);
    daemon.await_state("bench", StateName::Active, SOON);
    let pid = daemon.gateway("bench");
    (Running::Daemon(daemon), pid, config(world, "alice", "bench"))
}

/// A gateway as root with a TUN device, and the kernel's forwarding and NAT.
fn nat<'w>(world: &'w World, candidate: &Candidate) -> (Running<'w>, Pid, String) {
    let [own, users] = [1, 2].map(|number| PrivateKey::from_random([number; 32]));
    let key = world.path("gateway.key");
    fs::write(&key, own.reveal().as_str()).unwrap();
    fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();

    let mut command = Command::new(&candidate.program);
    match candidate.kind {
        Kind::Boringtun => {
            command.args(["-f", "--disable-drop-privileges", "-v", "error", "wg0"]).env("WG_SUDO", "1");
        }
        _ => {
            command.args(["-f", "wg0"]).env("LOG_LEVEL", "error").env("WG_PROCESS_FOREGROUND", "1");
        }
    }
    let process = Process::spawn(&world.host, &world.logs(), "gateway", command);
    let lines = format!(
        "until [ -S /run/wireguard/wg0.sock ]; do sleep 0.01; done
         wg set wg0 listen-port {PORT} private-key {key} peer {peer} allowed-ips 10.8.0.2/32,fd65::2/128
         ip address add 10.8.0.1/24 dev wg0
         ip address add fd65::1/64 dev wg0 nodad
         ip link set wg0 mtu {MTU} up
         echo 1 > /proc/sys/net/ipv4/ip_forward
         echo 1 > /proc/sys/net/ipv6/conf/all/forwarding
         nft add table inet nat
         nft 'add chain inet nat post {{ type nat hook postrouting priority 100; }}'
         nft add rule inet nat post oifname outside masquerade",
        key = key.display(),
        peer = users.public(),
    );
    let mut shell = Command::new("timeout");
    shell.args(["20", "sh", "-ec", &lines]);
    world.run(&world.host, shell).success();
    let config = format!(
        "[Interface]\nPrivateKey = {}\nAddress = 10.8.0.2/32, fd65::2/128\nMTU = {MTU}\n\n\
         [Peer]\nPublicKey = {}\nAllowedIPs = 0.0.0.0/0, ::/0\nEndpoint = {HOST}:{PORT}\n",
        users.reveal().as_str(),
        own.public(),
    );
    let pid = process.pid();
    (Running::Program(process), pid, config)
}
