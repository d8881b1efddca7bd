//! A Git repository that people push to, the keys they sign with, and the servers it is fetched from.

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::process::Process;
use super::server::GitServer;
use super::world::{World, notice};

/// Where the repository is served on the host's loopback.
pub const HTTP: &str = "127.0.0.1:8418";
const SSHD: &str = "/usr/sbin/sshd";
const SSH_PORT: u16 = 2222;

/// The token that the HTTP server asks for.
pub const TOKEN: &str = "ghs_an-installation-token";

/// `x-access-token:ghs_an-installation-token` in Base64.
const AUTHORIZATION: &str = "Basic eC1hY2Nlc3MtdG9rZW46Z2hzX2FuLWluc3RhbGxhdGlvbi10b2tlbg==";

/// A bare repository and somebody's clone of it.
pub struct Repository<'w> {
    world: &'w World,
}

impl<'w> Repository<'w> {
    /// An empty repository.
    pub fn new(world: &'w World) -> Self {
        let repository = Self { world };
        for name in ["repositories", "clone"] {
            fs::create_dir(world.path(name)).expect("the world's directory is ours");
        }
        let bare = repository.bare();
        repository.git(&["init", "--quiet", "--bare", "--initial-branch=main", &bare]);
        repository.git(&["clone", "--quiet", &bare, "."]);
        repository.git(&["switch", "--quiet", "--create", "main"]);
        repository.git(&["config", "user.name", "Alice"]);
        repository.git(&["config", "user.email", "alice@example.com"]);
        repository.git(&["config", "gpg.format", "ssh"]);
        repository
    }

    /// Its directory.
    #[must_use]
    pub fn bare(&self) -> String {
        self.world.path("repositories/vpn.git").display().to_string()
    }

    /// A path in the world's own directory, where the keys are.
    #[must_use]
    pub fn path(&self, name: &str) -> PathBuf {
        self.world.path(name)
    }

    /// Runs git in the clone.
    pub fn git(&self, arguments: &[&str]) -> String {
        let mut command = Command::new("git");
        command.args(arguments).current_dir(self.world.path("clone"));
        command.env("GIT_CONFIG_NOSYSTEM", "1").env("GIT_CONFIG_GLOBAL", "/dev/null");
        self.world.run(&self.world.host, command).success().stdout.trim().to_owned()
    }

    /// Makes an SSH key; returns its path.
    pub fn key(&self, name: &str) -> PathBuf {
        let key = self.world.path(name);
        let mut command = Command::new("ssh-keygen");
        command.args(["-q", "-t", "ed25519", "-N", "", "-C", name, "-f"]).arg(&key);
        self.world.run(&self.world.host, command).success();
        key
    }

    /// A file in which this key alone is allowed to sign.
    pub fn allowed_signers(&self, name: &str) -> String {
        let public = fs::read_to_string(self.world.path(&format!("{name}.pub"))).expect("the key was made");
        let file = self.world.path(&format!("{name}.signers"));
        fs::write(&file, format!("{name}@example.com namespaces=\"git\" {public}")).expect("it is ours");
        file.display().to_string()
    }

    /// Commits and pushes a document, signed with this key if one is named; returns the commit.
    pub fn push(&self, document: &str, signed_by: Option<&str>) -> String {
        self.commit(document, signed_by, &[]);
        self.git(&["push", "--quiet", "origin", "main"]);
        self.git(&["rev-parse", "HEAD"])
    }

    /// Commits a document.
    pub fn commit(&self, document: &str, signed_by: Option<&str>, options: &[&str]) {
        fs::write(self.world.path("clone/desired-state.yaml"), document)
            .expect("the world's directory is ours");
        self.git(&["add", "--all"]);
        let signing = match signed_by {
            Some(name) => format!("user.signingKey={}", self.world.path(name).display()),
            None => "commit.gpgSign=false".to_owned(),
        };
        let sign = if signed_by.is_some() { "--gpg-sign" } else { "--no-gpg-sign" };
        let fixed = ["-c", &signing, "commit", "--quiet", "--allow-empty", "-m", "Change the VPN", sign];
        self.git(&[&fixed, options].concat());
    }

    /// Serves it over HTTP, to whoever has the token.
    #[must_use]
    pub fn serve_http(&self) -> GitServer {
        let address: SocketAddr = HTTP.parse().expect("an address");
        GitServer::start(&self.world.host, address, &self.world.path("repositories"), AUTHORIZATION)
    }

    /// Serves it over SSH, to whoever has the key `client`; returns the server and the file with its host key. `None` where there
    /// is no `sshd`: installing that would open the machine to the network.
    pub fn serve_ssh(&self) -> Option<(Process, String)> {
        if !Path::new(SSHD).exists() {
            notice(&format!("SKIPPED, because there is no {SSHD}: a repository over SSH"));
            return None;
        }
        self.key("client");
        self.key("host-key");
        // sshd wants it, and packages leave it to the system's start.
        fs::DirBuilder::new().recursive(true).mode(0o755).create("/run/sshd").expect("it can be made");
        let path = |name: &str| self.world.path(name).display().to_string();
        let search = std::env::var("PATH").expect("there is one");
        let config = format!(
            "Port {SSH_PORT}\nListenAddress 127.0.0.1\nHostKey {}\nAuthorizedKeysFile {}\nPidFile none\nStrictModes no\n\
             UsePAM no\nPermitRootLogin prohibit-password\nPasswordAuthentication no\nSetEnv PATH={search}\n",
            path("host-key"),
            path("client.pub")
        );
        fs::write(self.world.path("sshd_config"), config).expect("the world's directory is ours");
        let mut command = Command::new(SSHD);
        command.args(["-D", "-e", "-f"]).arg(self.world.path("sshd_config"));
        let mut server = Process::spawn(&self.world.host, &self.world.logs(), "sshd", command);
        server.await_log("Server listening", super::daemon::SOON);
        let public = fs::read_to_string(self.world.path("host-key.pub")).expect("the key was made");
        let known = self.world.path("known_hosts");
        fs::write(&known, format!("[127.0.0.1]:{SSH_PORT} {public}")).expect("the world's directory is ours");
        Some((server, known.display().to_string()))
    }

    /// Its URL over HTTP.
    #[must_use]
    pub fn http_url(&self) -> String {
        format!("git+http://{HTTP}/vpn.git?ref=main")
    }

    /// Its URL over SSH.
    #[must_use]
    pub fn ssh_url(&self) -> String {
        format!("git+ssh://root@127.0.0.1:{SSH_PORT}{}?ref=main", self.bare())
    }
}
