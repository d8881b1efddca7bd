//! Network namespaces without names.
//!
//! A namespace belongs to a thread. What has to happen inside runs on that thread; processes and threads started there belong to
//! the namespace too. The kernel removes it with its last thread, process and socket, so a test that dies leaves none behind.
//! Each has its own view of two files that the whole machine would otherwise share: `/etc/resolv.conf`, and the control sockets
//! in `/run/wireguard`.

use std::fs;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::Path;
use std::process::{Child, Command};
use std::sync::Arc;
use std::sync::mpsc::{Sender, channel};
use std::thread;

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};

type Job = Box<dyn FnOnce() + Send>;

/// One network namespace.
pub struct Namespace {
    name: String,
    jobs: Sender<Job>,
    thread: i32,
}

impl Namespace {
    /// Makes a namespace with loopback up, whose programs resolve names as `resolv_conf` says.
    ///
    /// # Errors
    /// When the system does not permit it: that takes root and `CAP_SYS_ADMIN`.
    pub fn new(name: &str, resolv_conf: &Path) -> io::Result<Self> {
        let (jobs, work) = channel::<Job>();
        let (ready, made) = channel();
        let resolv_conf = resolv_conf.to_owned();
        thread::Builder::new().name(name.to_owned()).spawn(move || {
            let entered = enter(&resolv_conf);
            let failed = entered.is_err();
            let _ = ready.send(entered);
            if !failed {
                work.into_iter().for_each(|job| job());
            }
        })?;
        let thread = made.recv().map_err(io::Error::other)??;
        let namespace = Self { name: name.to_owned(), jobs, thread };
        namespace.ip("link set lo up");
        Ok(namespace)
    }

    /// What the namespace is called in messages.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// A file that is the namespace for whoever opens it while this value lives.
    #[must_use]
    pub fn path(&self) -> String {
        format!("/proc/{}/ns/net", self.thread)
    }

    /// Does something inside and waits for it.
    pub fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> T {
        let (done, result) = channel();
        let job = Box::new(move || {
            let _ = done.send(catch_unwind(AssertUnwindSafe(work)));
        });
        self.jobs.send(job).expect("the namespace's thread runs");
        match result.recv().expect("the namespace's thread answers") {
            Ok(value) => value,
            Err(panic) => resume_unwind(panic),
        }
    }

    /// Something that starts programs inside, for whoever outlives a borrow.
    #[must_use]
    pub fn spawner(&self) -> Arc<dyn Fn(Command) -> io::Result<Child> + Send + Sync> {
        // Not the namespace's own thread: it may be busy with a program that waits for the one that is to be started.
        let (jobs, work) = channel::<Job>();
        self.thread(move || work.into_iter().for_each(|job| job()));
        Arc::new(move |mut command: Command| {
            let (done, result) = channel();
            let job = Box::new(move || drop(done.send(command.spawn())));
            jobs.send(job).map_err(|_| io::Error::other("the namespace is gone"))?;
            result.recv().map_err(io::Error::other)?
        })
    }

    /// Starts a thread inside.
    pub fn thread(&self, work: impl FnOnce() + Send + 'static) {
        self.run(move || drop(thread::spawn(work)));
    }

    /// Runs `ip` with these words.
    pub fn ip(&self, words: &str) {
        self.command("ip", words);
    }

    /// Sets a kernel variable of the namespace, such as `net/ipv4/ip_forward`.
    pub fn sysctl(&self, path: &str, value: &'static str) {
        let path = format!("/proc/sys/{path}");
        self.run(move || {
            fs::write(&path, value).unwrap_or_else(|error| panic!("{path} = {value}: {error}"));
        });
    }

    /// Connects this namespace with another one by a pair of interfaces. Addresses are given with their prefix.
    pub fn connect(&self, own: (&str, &[&str]), other: &Self, theirs: (&str, &[&str])) {
        let thread = other.thread;
        self.ip(&format!("link add {} type veth peer name {} netns {thread}", own.0, theirs.0));
        for (side, (interface, addresses)) in [(self, own), (other, theirs)] {
            for address in addresses {
                side.add_address(interface, address);
            }
            side.ip(&format!("link set {interface} up"));
        }
    }

    /// Gives an interface an address, with its prefix.
    pub fn add_address(&self, interface: &str, address: &str) {
        // Duplicate address detection would leave an IPv6 address unusable for a second.
        let nodad = if address.contains(':') { " nodad" } else { "" };
        self.ip(&format!("address add {address} dev {interface}{nodad}"));
    }

    fn command(&self, program: &'static str, words: &str) {
        let arguments: Vec<String> = words.split_whitespace().map(str::to_owned).collect();
        let output = self.run(move || Command::new(program).args(arguments).output());
        let output = output.unwrap_or_else(|error| panic!("cannot run {program}: {error}"));
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{}: {program} {words}: {said}", self.name);
    }
}

/// Takes the calling thread into a new namespace; returns its thread id.
fn enter(resolv_conf: &Path) -> io::Result<i32> {
    const NOTHING: Option<&str> = None;
    unshare(CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS)?;
    mount(NOTHING, "/", NOTHING, MsFlags::MS_REC | MsFlags::MS_PRIVATE, NOTHING)?;
    fs::create_dir_all("/run/wireguard")?;
    mount(Some("tmpfs"), "/run/wireguard", Some("tmpfs"), MsFlags::empty(), NOTHING)?;
    mount(Some(resolv_conf), "/etc/resolv.conf", NOTHING, MsFlags::MS_BIND, NOTHING)?;
    let hosts = resolv_conf.with_file_name("hosts");
    if hosts.exists() {
        mount(Some(&hosts), "/etc/hosts", NOTHING, MsFlags::MS_BIND, NOTHING)?;
    }
    Ok(nix::unistd::gettid().as_raw())
}
