//! A user's machine: Debian's `wireguard-go` with the file that `ebb config` prints.

use std::fs;
use std::io::Write as _;
use std::net::IpAddr;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use super::command::Output;
use super::daemon::SOON;
use super::namespace::Namespace;
use super::process::Process;
use super::wait::eventually;
use super::world::World;

/// One user's machine.
pub struct Client<'w> {
    /// Where it is.
    pub namespace: Namespace,
    world: &'w World,
    interface: Option<(String, Process)>,
}

impl<'w> Client<'w> {
    /// A machine that can reach the host and nothing else.
    pub fn new(world: &'w World, number: u8) -> Self {
        Self { namespace: world.client_namespace(number), world, interface: None }
    }

    /// A machine that is connected as `user` to `session`.
    pub fn connected(world: &'w World, number: u8, user: &str, session: &str) -> Self {
        let mut client = Self::new(world, number);
        client.up(session, &config(world, user, session));
        client
    }

    /// Brings an interface up as `wg-quick` does: keys and peers by `wg setconf`, addresses, MTU and routes by `ip`. Like
    /// `wg-quick`, it takes the interface's name from that of the file.
    pub fn up(&mut self, interface: &str, config: &str) {
        let mut command = Command::new("wireguard-go");
        command.args(["-f", interface]).env("LOG_LEVEL", "error").env("WG_PROCESS_FOREGROUND", "1");
        self.up_by(command, interface, config);
    }

    /// The same with another userspace WireGuard, which this command starts in the foreground.
    pub fn up_by(&mut self, command: Command, interface: &str, config: &str) {
        let path = self.write(interface, config);
        let process = self.spawn(command);
        let conf = path.display();
        self.shell(&format!(
            "until [ -S /run/wireguard/{interface}.sock ]; do sleep 0.01; done
             wg-quick strip {conf} > {conf}.stripped
             wg setconf {interface} {conf}.stripped"
        ));
        self.configure(interface, config, process);
    }

    /// The same with a program that takes no commands: it is given the interface's name and the file.
    pub fn up_alone(&mut self, mut command: Command, interface: &str, config: &str) {
        command.arg(interface).arg(self.write(interface, config));
        let process = self.spawn(command);
        self.shell(&format!("until ip link show {interface} >/dev/null 2>&1; do sleep 0.01; done"));
        self.configure(interface, config, process);
    }

    fn write(&self, interface: &str, config: &str) -> PathBuf {
        let path = self.world.path(&format!("{}/{interface}.conf", self.namespace.name()));
        fs::create_dir_all(path.parent().expect("it has one")).expect("the world's directory is ours");
        let mut file = fs::OpenOptions::new();
        let file = file.write(true).create(true).truncate(true).mode(0o600).open(&path);
        file.and_then(|mut file| file.write_all(config.as_bytes())).expect("the world's directory is ours");
        path
    }

    fn spawn(&self, command: Command) -> Process {
        let name = format!("wireguard.{}", self.namespace.name());
        Process::spawn(&self.namespace, &self.world.logs(), &name, command)
    }

    fn configure(&mut self, interface: &str, config: &str, process: Process) {
        for address in values(config, "Address") {
            self.namespace.add_address(interface, address);
        }
        let mtu = values(config, "MTU").next().unwrap_or("1420");
        self.namespace.ip(&format!("link set {interface} mtu {mtu} up"));
        for route in values(config, "AllowedIPs") {
            let family = if route.contains(':') { "-6 " } else { "" };
            self.namespace.ip(&format!("{family}route add {route} dev {interface}"));
        }
        let resolvers: String =
            values(config, "DNS").map(|server| format!("nameserver {server}\n")).collect();
        // In place: the file is mounted.
        fs::write(self.world.path(&format!("{}.resolv.conf", self.namespace.name())), resolvers)
            .expect("the world's directory is ours");
        self.interface = Some((interface.to_owned(), process));
    }

    /// Runs a command here.
    pub fn run(&self, program: &str, arguments: &[&str]) -> Output {
        let mut command = Command::new(program);
        command.args(arguments);
        self.world.run(&self.namespace, command)
    }

    /// Runs lines of `sh` here; each has to succeed.
    pub fn shell(&self, lines: &str) -> Output {
        self.run("timeout", &["60", "sh", "-ec", lines]).success()
    }

    /// Fetches `url` and returns what it says.
    pub fn fetch(&self, url: &str) -> String {
        self.curl(&[url]).success().stdout
    }

    /// Runs `curl` here; an answer that is no success is a failure.
    pub fn curl(&self, arguments: &[&str]) -> Output {
        self.world.curl(&self.namespace, &[&["--fail"], arguments].concat())
    }

    /// Whether one of a few pings is answered.
    #[must_use]
    pub fn pings(&self, address: &str) -> bool {
        self.run("ping", &["-n", "-q", "-c", "1", "-w", "5", address]).status.success()
    }

    /// Waits until the way through the tunnel works. After its gateway was replaced, a client notices by itself within
    /// `KEEPALIVE_TIMEOUT + REKEY_TIMEOUT`, 15 seconds (WireGuard paper, section 6.5).
    pub fn await_reach(&self, address: &str) {
        eventually(&format!("{address} answers pings"), SOON + Duration::from_secs(15), || {
            let answered = self.run("ping", &["-n", "-q", "-c", "1", "-w", "1", address]);
            if answered.status.success() { Ok(()) } else { Err(answered.stdout) }
        });
    }

    /// The client's addresses inside the tunnel.
    #[must_use]
    pub fn addresses(&self) -> Vec<IpAddr> {
        let (interface, _) = self.interface.as_ref().expect("it is up");
        let output = self.run("ip", &["-json", "address", "show", "dev", interface]).success();
        let interfaces: Vec<serde_json::Value> = output.json();
        let addresses = interfaces.iter().filter_map(|interface| interface["addr_info"].as_array()).flatten();
        let global = addresses.filter(|address| address["scope"] == "global");
        global.filter_map(|address| address["local"].as_str()?.parse().ok()).collect()
    }
}

/// The file for a user of a session.
#[must_use]
pub fn config(world: &World, user: &str, session: &str) -> String {
    world.ebb(&["config", &format!("{user}@{session}")]).success().stdout
}

/// The values of a setting, which are separated by commas.
pub fn values<'a>(config: &'a str, name: &'a str) -> impl Iterator<Item = &'a str> {
    let lines = config.lines().filter_map(|line| line.split_once('='));
    lines.filter(move |(key, _)| key.trim() == name).flat_map(|(_, value)| value.split(',').map(str::trim))
}
