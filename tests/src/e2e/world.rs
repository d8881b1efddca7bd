//! The host that Ebb runs on, the Internet beyond it, and what is needed to look at them.

use std::cell::{Cell, RefCell};
use std::env;
use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use nix::sched::{CloneFlags, unshare};
use tempfile::TempDir;

use super::command::Output;
use super::namespace::Namespace;
use super::server::{Echo, Names, Web};
use crate::azurite::Azurite;
use crate::fake_arm::{Behaviour, FakeArm, Forwarder, Image};

/// Where clients reach the host. It is an address of the host itself, so no user may go there.
pub const HOST: &str = "198.51.100.1";

/// The same over IPv6.
pub const HOST_V6: &str = "2001:db8:51::1";

/// The host's address on the Internet's side.
pub const HOST_OUTSIDE: &str = "45.45.45.254";

/// A server on the Internet.
pub const SERVER: &str = "45.45.45.1";

/// The same over IPv6.
pub const SERVER_V6: &str = "2a0e:45::1";

/// A server in a private network that the host can reach.
pub const PRIVATE: &str = "10.50.0.1";

/// Addresses of the private network that gateways get, in turn.
pub const INSIDE: [&str; 2] = ["10.1.0.4", "10.1.0.5"];

/// A server where clouds have their metadata service.
pub const METADATA: &str = "169.254.169.254";

/// A server where Azure has its wire server.
pub const WIRE_SERVER: &str = "168.63.129.16";

/// Names that the Internet knows.
const NAMES: [(&str, &[&str]); 3] = [
    ("www.ebb.example", &[SERVER, SERVER_V6]),
    ("loopback.ebb.example", &["127.0.0.1"]),
    ("metadata.ebb.example", &[METADATA]),
];

/// Programs of Debian that the tests use, and the packages they come in.
const PROGRAMS: [(&str, &str); 13] = [
    ("curl", "curl"),
    ("git", "git"),
    ("ip", "iproute2"),
    ("jq", "jq"),
    ("nft", "nftables"),
    ("npm", "npm"),
    ("ping", "iputils-ping"),
    ("promtool", "prometheus"),
    ("setpriv", "util-linux"),
    ("ssh-keygen", "openssh-client"),
    ("wg", "wireguard-tools"),
    ("wg-quick", "wireguard-tools"),
    ("wireguard-go", "wireguard-go"),
];

/// Set to skip these tests where they cannot run.
const SKIP: &str = "EBB_SKIP_E2E";

/// Set to `aci` to have gateways run in an imitation of Azure Container Instances instead of as processes of the daemon's host.
const PROVIDER: &str = "EBB_E2E_PROVIDER";

/// The region of Azure in which gateways run.
const REGION: &str = "eastus2";

/// Where the HTTP side of one of several daemons is.
#[must_use]
pub fn replica_api(number: u8) -> String {
    format!("127.0.0.1:92{number:02}")
}

/// Where the imitation is, inside the host.
const MANAGEMENT: &str = "127.0.0.1:7380";

/// Where gateways run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// On the host, by the provider `local`.
    Host,
    /// On what the provider `aci` takes for Azure.
    Azure,
    /// The same in a private network behind a load balancer, which has the host's address.
    PrivateNetwork,
}

impl Place {
    /// What the environment says.
    #[must_use]
    pub fn chosen() -> Self {
        if env::var_os(PROVIDER).is_some_and(|value| value == "aci") { Self::Azure } else { Self::Host }
    }

    /// The region of gateways there.
    #[must_use]
    pub fn region(self) -> &'static str {
        match self {
            Self::Host => "local",
            Self::Azure | Self::PrivateNetwork => REGION,
        }
    }
}

/// Ends everything that lives in the given namespace once nobody holds its standard input open. A gateway outlives the daemon
/// on purpose, and would outlive a test that is killed. It holds the namespace open meanwhile: the kernel gives the number of one
/// that is gone to the next, which may be another test's.
const KEEPER: &str = r#"
exec 3<"$1" || exit
wanted=$(readlink "/proc/$$/fd/3")
read -r _
for round in 1 2 3 4 5; do
    inside=$(ls -l /proc/[0-9]*/ns/net | grep -F -- "-> $wanted" | sed 's|.*/proc/\([0-9]*\)/ns/net.*|\1|')
    [ -n "$inside" ] || exit
    kill -9 $inside
done 2>/dev/null
"#;

/// How gateways are started instead of plainly.
#[derive(Debug, Clone, Copy)]
pub struct Wrapped<'a> {
    /// A filter of `jq` that changes what they are told.
    pub boot: &'a str,
    /// Who has to be able to read the program, and what it is told.
    pub user: Option<&'a str>,
    /// A command that starts them.
    pub by: &'a str,
}

impl Default for Wrapped<'_> {
    fn default() -> Self {
        Self { boot: ".", user: None, by: "" }
    }
}

/// A world: build it first, so that it ends last.
pub struct World {
    /// Azure, where gateways run there.
    pub azure: Option<FakeArm>,
    /// A storage account, where gateways run in Azure.
    pub storage: Option<Azurite>,
    /// Where the daemon runs, and gateways that are on the host or have public addresses.
    pub host: Namespace,
    /// Where gateways run that are in a private network, if they are.
    pub private_network: Option<Namespace>,
    /// Everything beyond the host.
    pub internet: Namespace,
    /// The web server of the Internet, on port 80 of all its addresses.
    pub web: Web,
    /// Sends UDP datagrams back, on port 7 of [`SERVER`].
    pub echo: Echo,
    /// The same on [`SERVER_V6`].
    pub echo_v6: Echo,
    /// The resolver that the host uses.
    pub names: Names,
    ebb: PathBuf,
    keepers: RefCell<Vec<Child>>,
    markers: Cell<usize>,
    directory: TempDir,
}

impl World {
    /// Builds a world in which `ebb` is the program under test; `EBB_UNDER_TEST` names another one. `None` when these tests are
    /// to be skipped.
    #[must_use]
    pub fn build(ebb: &str) -> Option<Self> {
        Self::build_in(Place::chosen(), ebb)
    }

    /// The same with gateways in the given place.
    #[must_use]
    pub fn build_in(place: Place, ebb: &str) -> Option<Self> {
        if let Some(missing) = missing() {
            if env::var_os(SKIP).is_some_and(|value| value == "1") {
                notice(&format!("SKIPPED, because {SKIP}=1: {missing}"));
                return None;
            }
            panic!("an end-to-end test cannot run: {missing}. With {SKIP}=1 these tests are skipped instead");
        }
        let ebb = env::var_os("EBB_UNDER_TEST").map_or_else(|| PathBuf::from(ebb), PathBuf::from);
        let directory =
            tempfile::Builder::new().prefix("ebb-e2e-").tempdir().expect("a directory can be made");
        // Gateways without privileges look for their files below it.
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).expect("it is ours");
        fs::create_dir(directory.path().join("logs")).expect("it is ours");
        let resolv_conf = directory.path().join("resolv.conf");
        fs::write(&resolv_conf, format!("nameserver {SERVER}\n")).expect("it is ours");
        let hosts = directory.path().join("hosts");
        fs::write(&hosts, "127.0.0.1 localhost\n::1 localhost\n").expect("it is ours");
        let namespace = |name| Namespace::new(name, &resolv_conf).expect("namespaces are permitted");
        let (host, internet) = (namespace("host"), namespace("internet"));
        let keepers = vec![keeper(&host), keeper(&internet)];
        wire(&host, &internet);
        let at = |address: &str, port| SocketAddr::new(address.parse().expect("an address"), port);
        let private_network = (place == Place::PrivateNetwork).then(|| {
            let inside = namespace("inside");
            wire_private(&inside, &host, &internet);
            inside
        });
        let keepers = keepers.into_iter().chain(private_network.as_ref().map(keeper)).collect();
        let azure = (place != Place::Host).then(|| {
            let command = vec![ebb.display().to_string(), "gateway".to_owned(), "run".to_owned()];
            let spawn = private_network.as_ref().unwrap_or(&host).spawner();
            let image = Image { command, logs: directory.path().join("logs"), spawn };
            let listener = host.run(|| TcpListener::bind(MANAGEMENT)).expect("nobody else is there");
            let behaviour =
                Behaviour { address: HOST.to_owned(), hosts: Some(hosts.clone()), ..Behaviour::default() };
            let azure = FakeArm::start(listener, behaviour, Some(image));
            if private_network.is_some() {
                azure.behave(|behaviour| behaviour.private = INSIDE.map(str::to_owned).to_vec());
                azure.add_load_balancer(HOST);
                Forwarder::start(&host, &azure, HOST.parse().expect("an address"));
            }
            azure
        });
        let storage = (place == Place::Azure).then(|| {
            Azurite::start_in(&host, &directory.path().join("logs")).unwrap_or_else(|why| {
                panic!("an end-to-end test with Azure cannot run without Azurite: {why}")
            })
        });
        Some(Self {
            azure,
            storage,
            web: Web::start(&internet, at("::", 80)),
            echo: Echo::start(&internet, at(SERVER, 7)),
            echo_v6: Echo::start(&internet, at(SERVER_V6, 7)),
            names: Names::start(&internet, at(SERVER, 53), &NAMES),
            host,
            private_network,
            internet,
            ebb,
            keepers: RefCell::new(keepers),
            markers: Cell::new(0),
            directory,
        })
    }
    /// A namespace for one more client, the `number`th, with a way to the host and nowhere else.
    #[must_use]
    pub fn client_namespace(&self, number: u8) -> Namespace {
        let resolv_conf = self.path(&format!("client{number}.resolv.conf"));
        fs::write(&resolv_conf, "# nobody\n").expect("the world's directory is ours");
        let name = format!("client{number}");
        let namespace = Namespace::new(&name, &resolv_conf).expect("namespaces are permitted");
        self.keepers.borrow_mut().push(keeper(&namespace));
        let (here, there) = (format!("172.31.{number}.2/24"), format!("172.31.{number}.1/24"));
        let (here_v6, there_v6) = (format!("2001:db8:{number}::2/64"), format!("2001:db8:{number}::1/64"));
        namespace.connect(("eth0", &[&here, &here_v6]), &self.host, (&name, &[&there, &there_v6]));
        namespace.ip(&format!("route add {HOST}/32 via 172.31.{number}.1"));
        namespace.ip(&format!("-6 route add {HOST_V6}/128 via 2001:db8:{number}::1"));
        namespace
    }

    /// The program under test.
    #[must_use]
    pub fn ebb_program(&self) -> &Path {
        &self.ebb
    }

    /// A path in the world's own directory.
    #[must_use]
    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Where what programs print is kept.
    #[must_use]
    pub fn logs(&self) -> PathBuf {
        self.path("logs")
    }

    /// Runs `ebb` on the host.
    pub fn ebb(&self, arguments: &[&str]) -> Output {
        self.run(&self.host, self.ebb_command(arguments))
    }

    /// Runs `curl` in a namespace, which gives up after a while. No proxy, no configuration file.
    pub fn curl(&self, namespace: &Namespace, arguments: &[&str]) -> Output {
        let mut command = Command::new("curl");
        command.args(["-q", "-sS", "--noproxy", "*", "--max-time", "90"]).args(arguments);
        self.run(namespace, command)
    }

    /// A command line of `ebb` for this world's state directory and document.
    #[must_use]
    pub fn ebb_command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.ebb);
        command
            .args(arguments)
            .env("EBB_STATE", self.path("state"))
            .env("EBB_DOCUMENT", self.path("desired/desired-state.yaml"))
            .current_dir(self.directory.path());
        if let Some(azure) = &self.azure {
            command.env("EBB_PROVIDER", "aci").envs(azure.environment());
        }
        if let Some(storage) = &self.storage {
            command.env("EBB_STORE", storage.tables());
        }
        command
    }

    /// Makes the container of the lock that daemons share.
    ///
    /// # Panics
    /// When gateways do not run in Azure.
    pub fn share_lock(&self) {
        let url = self.storage().blob("leader");
        let url = url.replace('?', "?restype=container&");
        let options = ["-X", "PUT", "-H", "x-ms-version: 2021-12-02", "-H", "Content-Length: 0", "--fail"];
        self.curl(&self.host, &[&options[..], &[&url]].concat()).success();
    }

    /// The same command line for one of several daemons, with a state directory, an API and an identity of its own. They share
    /// the lock, the tables and the keys.
    ///
    /// # Panics
    /// When gateways do not run in Azure.
    #[must_use]
    pub fn replica_command(&self, number: u8, arguments: &[&str]) -> Command {
        let mut command = self.ebb_command(arguments);
        command
            .env("EBB_STATE", self.path(&format!("state-{number}")))
            .env("EBB_API", replica_api(number))
            .env("EBB_SECRETS", self.path("keys"))
            .env("EBB_STORE", self.storage().tables_for(number))
            .env("EBB_LOCK", self.storage().blob_for(number, "leader/lock"));
        command
    }

    /// Has gateways started in another way; the options with which the daemon does.
    ///
    /// # Panics
    /// When the world's directory cannot be written.
    #[must_use]
    pub fn wrap_gateways(&self, wrapped: &Wrapped<'_>) -> Vec<String> {
        // The program lies where others may not look.
        let program = self.path("wrapped-ebb");
        fs::copy(&self.ebb, &program).expect("the world's directory is ours");
        let Wrapped { boot, user, by } = *wrapped;
        let (file, program) = (self.path("wrapped-boot.json"), program.display());
        let file = file.display();
        // The provider `local` gives a file, Azure a variable and nothing else.
        let run = match (&self.azure, user) {
            // Beside the file they are given they say how they have ended.
            (None, None) => format!(
                "umask 077\njq '{boot}' \"$3\" > \"$3.new\"\nmv \"$3.new\" \"$3\"\nexec {by} {program} gateway \"$@\"\n"
            ),
            (None, Some(owner)) => format!(
                "jq '{boot}' \"$3\" | install -m 0400 -o {owner} /dev/stdin {file}\n\
                 exec {by} {program} gateway run --boot {file}\n"
            ),
            (Some(_), _) => format!(
                "PATH=/usr/sbin:/usr/bin:/sbin:/bin\nEBB_BOOT=$(printf %s \"$EBB_BOOT\" | jq -c '{boot}')\n\
                 export EBB_BOOT\nexec {by} {program} gateway run\n"
            ),
        };
        let wrapper = self.path("wrapper");
        fs::write(&wrapper, format!("#!/bin/sh\nset -e\n{run}")).expect("the world's directory is ours");
        fs::set_permissions(&wrapper, fs::Permissions::from_mode(0o755)).expect("it is ours");
        let wrapper = wrapper.display().to_string();
        match &self.azure {
            None => vec!["--gateway".to_owned(), wrapper],
            Some(azure) => {
                azure.run_instead(vec![wrapper]);
                Vec::new()
            }
        }
    }

    /// The storage account.
    ///
    /// # Panics
    /// When gateways do not run in Azure.
    #[must_use]
    pub fn storage(&self) -> &Azurite {
        self.storage.as_ref().expect("gateways run in Azure")
    }

    /// Requests by which the daemon of this number has changed something in the storage account so far; 0 is the one without.
    ///
    /// # Panics
    /// When gateways do not run in Azure.
    #[must_use]
    pub fn storage_writes(&self, number: u8) -> Vec<String> {
        let marker = self.markers.get();
        self.markers.set(marker + 1);
        self.curl(&self.host, &[&self.storage().marker(marker)]);
        let requests = self.storage().requests_of(number, marker);
        requests.into_iter().filter(|request| Azurite::is_write(request)).collect()
    }

    /// What clients are told to connect to, for a session at this port.
    #[must_use]
    pub fn endpoint(&self, session: &str, port: u16) -> String {
        match self.azure {
            Some(_) => format!("ebb-home-{session}.a1b2c3d4e5f6a7b8.{REGION}.azurecontainer.io:{port}"),
            None => format!("{HOST}:{port}"),
        }
    }

    /// The region in which gateways run.
    #[must_use]
    pub fn region(&self) -> &'static str {
        let place = if self.azure.is_some() { Place::Azure } else { Place::Host };
        place.region()
    }

    /// Whether this test is about the provider `local` alone. It says so, and why, where another one is used.
    #[must_use]
    pub fn is_about_local(&self, why: &str) -> bool {
        if self.azure.is_some() {
            notice(&format!("NOT FOR ACI: {why}"));
        }
        self.azure.is_none()
    }

    /// Runs a command in a namespace and waits for it. What it prints is kept, except configurations, which people ask for
    /// because there is a private key in them.
    pub fn run(&self, namespace: &Namespace, mut command: Command) -> Output {
        let line = format!("{command:?}");
        let secret = command.get_args().any(|argument| argument == "config" || argument == "keygen");
        let output = namespace.run(move || command.stdin(Stdio::null()).output());
        let output = output.unwrap_or_else(|error| panic!("cannot run {line}: {error}"));
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let output = Output {
            line,
            status: output.status,
            stdout: text(&output.stdout),
            stderr: text(&output.stderr),
        };
        let stdout = if secret && output.status.success() { "" } else { &output.stdout };
        self.note(&format!("$ {}\n{stdout}{}[{}]\n", output.line, output.stderr, output.status));
        output
    }

    fn note(&self, text: &str) {
        let path = self.logs().join("commands.log");
        let file = OpenOptions::new().create(true).append(true).open(path);
        file.and_then(|mut file| file.write_all(text.as_bytes())).expect("the world's directory is ours");
    }
}

impl Drop for World {
    fn drop(&mut self) {
        for keeper in self.keepers.get_mut() {
            drop(keeper.stdin.take());
            let _ = keeper.wait();
        }
    }
}

/// Connects the host with the Internet.
fn wire(host: &Namespace, internet: &Namespace) {
    host.add_address("lo", &format!("{HOST}/32"));
    host.add_address("lo", &format!("{HOST_V6}/128"));
    host.connect(
        ("outside", &[&format!("{HOST_OUTSIDE}/24"), "2a0e:45::fe/64"]),
        internet,
        ("eth0", &[&format!("{SERVER}/24"), &format!("{SERVER_V6}/64")]),
    );
    for address in [PRIVATE, METADATA, WIRE_SERVER] {
        internet.add_address("eth0", &format!("{address}/32"));
        host.ip(&format!("route add {address}/32 via {SERVER}"));
    }
    host.ip(&format!("route add default via {SERVER}"));
    host.ip(&format!("-6 route add default via {SERVER_V6}"));
    // Ping sockets need no privilege, but a group that the kernel lets have them.
    host.sysctl("net/ipv4/ping_group_range", "0 2147483647");
}

/// Connects a private network with the host, where the load balancer is, and with the Internet.
fn wire_private(inside: &Namespace, host: &Namespace, internet: &Namespace) {
    let addresses = INSIDE.map(|address| format!("{address}/24"));
    let addresses: Vec<&str> = addresses.iter().map(String::as_str).collect();
    inside.connect(("eth0", &addresses), host, ("inside", &["10.1.0.1/24"]));
    inside.connect(("outside", &["45.45.46.2/24"]), internet, ("inside", &["45.45.46.1/24"]));
    // An address that goes would take the others of its network with it.
    inside.sysctl("net/ipv4/conf/all/promote_secondaries", "1");
    inside.ip("route add default via 45.45.46.1");
    inside.sysctl("net/ipv4/ping_group_range", "0 2147483647");
}

/// Kills what lives in a namespace when the test ends.
fn keeper(namespace: &Namespace) -> Child {
    let mut keeper = Command::new("sh");
    keeper.args(["-c", KEEPER, "keeper", &namespace.path()]);
    // Whoever ends the test by a signal to its group does not mean the keeper.
    keeper.process_group(0).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
    keeper.spawn().expect("sh can be run")
}

/// What these tests need and do not find.
fn missing() -> Option<String> {
    if !nix::unistd::geteuid().is_root() {
        return Some("it needs root, for network namespaces".to_owned());
    }
    // A thread of its own: the attempt must not move the test.
    let permitted = std::thread::spawn(|| unshare(CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS)).join();
    if !matches!(permitted, Ok(Ok(()))) {
        return Some("it needs CAP_SYS_ADMIN and CAP_NET_ADMIN, for network namespaces".to_owned());
    }
    if !Path::new("/dev/net/tun").exists() {
        return Some("it needs /dev/net/tun, for wireguard-go".to_owned());
    }
    let directories: Vec<_> = env::split_paths(&env::var_os("PATH").unwrap_or_default()).collect();
    let found = |program: &str| directories.iter().any(|directory| directory.join(program).exists());
    let missing: Vec<_> = PROGRAMS.iter().filter(|(program, _)| !found(program)).collect();
    let packages: Vec<_> = missing.iter().map(|(_, package)| *package).collect();
    let packages = packages.join(" ");
    (!missing.is_empty()).then(|| format!("it needs the packages {packages}; `tests/run` installs them"))
}

#[expect(clippy::print_stderr, reason = "a test that does nothing must not look like one that passed")]
pub(super) fn notice(text: &str) {
    eprintln!("{text}");
}
