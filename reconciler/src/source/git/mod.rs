//! The document in a Git repository.
//!
//! It is read with the git program, because that speaks every transport and checks signatures of every format; the decision
//! record `git-program.md` tells what was weighed. The repository is fetched into a bare one of the daemon's own with no more
//! history than is needed to see that a version follows the one in force.

mod location;
mod notes;
mod program;
mod settings;
#[cfg(feature = "azure")]
mod status;
mod tag;
mod verify;

use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use ebb_core::plan::Revision;
use tokio::sync::Mutex;
use zeroize::Zeroizing;

use self::location::is_commit;
use self::program::{Config, Ended, Programs, Variables};
use self::verify::{Said, Trust};
use super::{Base, Fetched, Provenance, Reason, Report, Signature, Source, SourceError};

pub use location::{Location, LocationError, Reference, Transport};
pub use settings::GitSettings;

/// No document is longer: 10,000 sessions take 2.2 MB.
const LONGEST: u64 = 8 * 1024 * 1024;

/// Anything else that is read from git fits into this many bytes.
const SHORT: u64 = 64 * 1024;

/// Polls are spread over this share of their interval, so that the daemons of many deployments do not ask at once.
const JITTER: f64 = 0.2;

/// The version that was fetched last, and the one in force.
const TIP: &str = "refs/ebb/tip";
const BASE: &str = "refs/ebb/base";

/// A [`Source`] that fetches a repository.
pub struct GitSource {
    location: Location,
    programs: Programs,
    trust: Trust,
    token_file: Option<PathBuf>,
    ssh_command: Option<OsString>,
    allow_rewind: bool,
    report: bool,
    #[cfg(feature = "azure")]
    statuses: Option<status::Statuses>,
    poll: Duration,
    /// Two fetches into one repository would disturb each other.
    turn: Mutex<()>,
    /// Something is wrong with what was fetched; it is fetched anew.
    is_suspect: AtomicBool,
}

/// How much history a fetch brings.
#[derive(Clone, Copy, PartialEq, Eq)]
enum History {
    None,
    /// What lies between what is here and the new version.
    SinceBase,
    All,
}

impl History {
    const fn option(self) -> Option<&'static str> {
        match self {
            Self::None => Some("--depth=1"),
            Self::SinceBase => None,
            // What git itself calls infinite.
            Self::All => Some("--depth=2147483647"),
        }
    }
}

impl GitSource {
    /// The document at `location`; what is fetched is kept in `state`.
    ///
    /// # Errors
    /// When the directory cannot be made, or commit statuses cannot be set as the settings want them.
    pub fn open(location: Location, settings: &GitSettings, state: &Path) -> io::Result<Self> {
        let directory = state.join("git");
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&directory)?;
        let ssh_command = (location.transport == Transport::Ssh)
            .then(|| ssh_command(settings.git_ssh_key.as_deref(), settings.git_known_hosts.as_deref()));
        #[cfg(feature = "azure")]
        let statuses = status::Statuses::open(&location, settings)?;
        Ok(Self {
            location,
            programs: Programs { directory: directory.canonicalize()? },
            trust: Trust {
                allowed_signers: settings.git_allowed_signers.clone(),
                keyring: settings.git_keyring.clone(),
            },
            token_file: settings.git_token_file.clone(),
            ssh_command: ssh_command.transpose()?,
            allow_rewind: settings.git_allow_rewind,
            report: settings.git_report,
            #[cfg(feature = "azure")]
            statuses,
            poll: Duration::from_secs(settings.git_poll),
            turn: Mutex::default(),
            is_suspect: AtomicBool::new(false),
        })
    }

    fn error(&self, reason: Reason, why: impl ToString, revision: Option<&str>) -> SourceError {
        SourceError {
            origin: self.origin(),
            reason,
            why: why.to_string(),
            revision: revision.map(|revision| Revision(revision.to_owned())),
        }
    }

    fn failed(&self, why: impl ToString) -> SourceError {
        self.error(Reason::FetchFailed, why, None)
    }

    async fn try_git(
        &self,
        arguments: &[&str],
        config: &Config,
        variables: &Variables,
        longest: u64,
    ) -> Result<Ended, SourceError> {
        self.programs.git(arguments, config, variables, longest).await.map_err(|error| self.failed(error))
    }

    /// Runs git on what was fetched; it must succeed.
    async fn local(&self, arguments: &[&str], longest: u64) -> Result<Vec<u8>, SourceError> {
        let ended = self.try_git(arguments, &fixed(), &Variables::new(), longest).await?;
        if ended.status.success() { Ok(ended.stdout) } else { Err(self.broken(&ended)) }
    }

    /// An error about what was fetched: a crash or a full disk has left half of something.
    fn broken(&self, ended: &Ended) -> SourceError {
        self.is_suspect.store(true, Ordering::Relaxed);
        self.failed(said(ended))
    }

    /// Everything that was fetched can be fetched again.
    fn forget_copy(&self) -> io::Result<()> {
        for entry in fs::read_dir(&self.programs.directory)? {
            let path = entry?.path();
            if path.is_dir() { fs::remove_dir_all(path)? } else { fs::remove_file(path)? }
        }
        Ok(())
    }

    /// Fetches `reference` as `name`.
    async fn fetch_as(&self, reference: &str, name: &str, history: History) -> Result<Ended, SourceError> {
        let refspec = format!("+{reference}:{name}");
        let mut options = vec!["--quiet", "--no-tags", "--no-write-fetch-head", "--no-recurse-submodules"];
        options.extend(history.option());
        self.network("fetch", &options, &refspec).await
    }

    /// Runs a command of git that talks to the repository.
    async fn network(&self, command: &str, options: &[&str], refspec: &str) -> Result<Ended, SourceError> {
        let (mut config, mut variables) = (fixed(), Variables::new());
        config.extend(self.authorization()?);
        variables.push(("GIT_ALLOW_PROTOCOL", self.location.transport.as_str().into()));
        variables.extend(self.ssh_command.iter().map(|command| ("GIT_SSH_COMMAND", command.clone())));
        let arguments = [&[command], options, &["--", &self.location.repository, refspec]].concat();
        self.try_git(&arguments, &config, &variables, SHORT).await
    }

    /// The header that lets us in, for the repository's host alone.
    fn authorization(&self) -> Result<Option<(String, OsString)>, SourceError> {
        let Some(file) = &self.token_file else { return Ok(None) };
        if !matches!(self.location.transport, Transport::Https | Transport::Http) {
            return Ok(None);
        }
        let token = self.read_token(file)?;
        let pair = Zeroizing::new(format!("x-access-token:{}", token.trim()));
        let header = format!("Authorization: Basic {}", BASE64.encode(pair.as_bytes()));
        let host: String =
            self.location.repository.splitn(4, '/').take(3).map(|part| format!("{part}/")).collect();
        Ok(Some((format!("http.{host}.extraHeader"), header.into())))
    }

    /// Reads it every time: tokens of apps are replaced every hour.
    fn read_token(&self, file: &Path) -> Result<Zeroizing<String>, SourceError> {
        let token = fs::read_to_string(file).map(Zeroizing::new);
        token.map_err(|error| self.failed(format!("cannot read {}: {error}", file.display())))
    }

    #[cfg(feature = "azure")]
    async fn set_status(&self, report: &Report) -> Result<(), SourceError> {
        let (Some(statuses), Some(file)) = (&self.statuses, &self.token_file) else { return Ok(()) };
        let token = self.read_token(file)?;
        let set = statuses.set(token.trim(), report).await;
        set.map_err(|why| {
            self.error(Reason::FetchFailed, format!("no commit status: {why}"), Some(&report.revision.0))
        })
    }

    async fn bring_tip(&self, base: Option<&str>) -> Result<String, SourceError> {
        if !self.programs.directory.join("HEAD").exists() {
            self.local(&["init", "--quiet", "--bare", "."], SHORT).await?;
        }
        let history = match base {
            None => History::None,
            Some(base) => self.bring_base(base).await?,
        };
        let ended = self.fetch_as(self.location.reference.as_str(), TIP, history).await?;
        if !ended.status.success() {
            let of_server = [
                "couldn't find remote ref",
                "Authentication failed",
                "unable to access",
                "Could not read from remote",
            ];
            let is_fine = of_server.iter().any(|words| ended.stderr.contains(words));
            return Err(if is_fine { self.failed(said(&ended)) } else { self.broken(&ended) });
        }
        let tip = self.local(&["rev-parse", "--verify", &format!("{TIP}^{{commit}}")], SHORT).await?;
        Ok(String::from_utf8_lossy(&tip).trim().to_owned())
    }

    /// Brings the version in force, so that its successors can be told from others; returns how much history of a new version
    /// is needed for that.
    async fn bring_base(&self, base: &str) -> Result<History, SourceError> {
        if self.has(base).await? {
            self.local(&["update-ref", BASE, base], SHORT).await?;
            return Ok(History::SinceBase);
        }
        let ended = self.fetch_as(base, BASE, History::None).await?;
        if ended.status.success() {
            return Ok(History::SinceBase);
        }
        // Some servers hand out no commit that has no name, though it is an ancestor of one that has.
        if is_unknown_object(&ended.stderr) { Ok(History::All) } else { Err(self.failed(said(&ended))) }
    }

    async fn has(&self, commit: &str) -> Result<bool, SourceError> {
        let object = format!("{commit}^{{commit}}");
        let ended = self.try_git(&["cat-file", "-e", &object], &fixed(), &Variables::new(), SHORT).await?;
        Ok(ended.status.success())
    }

    async fn check_descent(&self, base: &str, tip: &str) -> Result<(), SourceError> {
        if !self.has(base).await? {
            let why = format!("the version in force, {base}, is no longer in the repository: {REWRITTEN}");
            return Err(self.error(Reason::HistoryRewritten, why, Some(tip)));
        }
        let arguments = ["merge-base", "--is-ancestor", base, tip];
        let ended = self.try_git(&arguments, &fixed(), &Variables::new(), SHORT).await?;
        match ended.status.code() {
            Some(0) => Ok(()),
            Some(1) => {
                let why = format!("{tip} does not descend from the version in force, {base}: {REWRITTEN}");
                Err(self.error(Reason::HistoryRewritten, why, Some(tip)))
            }
            _ => Err(self.broken(&ended)),
        }
    }

    async fn provenance(&self, tip: &str) -> Result<Provenance, SourceError> {
        let (mut config, mut variables, mut format) =
            (fixed(), Variables::new(), "%an <%ae>%x00%aI%x00%s".to_owned());
        if self.trust.is_asked_for() {
            let configured = self.trust.configure(&self.programs).await;
            let (more, environment) = configured.map_err(|error| {
                self.error(Reason::FetchFailed, format!("cannot check signatures: {error}"), Some(tip))
            })?;
            config.extend(more);
            variables = environment;
            format.push_str("%x00%G?%x00%GS%x00%GF");
        }
        let format = format!("--format=tformat:{format}");
        let arguments = ["log", "-1", "--no-show-signature", "--encoding=UTF-8", &format, tip];
        let ended = self.try_git(&arguments, &config, &variables, SHORT).await?;
        if !ended.status.success() {
            return Err(self.broken(&ended));
        }
        let text = String::from_utf8_lossy(&ended.stdout).into_owned();
        let mut fields = text.trim_end_matches('\n').split('\0');
        let mut next = || fields.next().unwrap_or_default();
        let (author, authored_at, subject) = (one_line(next()), next().parse().ok(), one_line(next()));
        let said = Said { verdict: next(), signer: next(), key: next() };
        let signature = if self.trust.is_asked_for() {
            match self.tag_signature(tip, &config, &variables).await? {
                Some(of_tag) => Some(of_tag),
                None => Some(self.signature(tip, &said).await?),
            }
        } else {
            None
        };
        Ok(Provenance {
            author: Some(author),
            authored_at,
            subject: Some(subject),
            signature,
            ..Provenance::default()
        })
    }

    async fn signature(&self, tip: &str, said: &Said<'_>) -> Result<Signature, SourceError> {
        let commit = self.local(&["cat-file", "commit", tip], SHORT).await?;
        let head = commit.split(|byte| *byte == b'\n').take_while(|line| !line.is_empty());
        let is_signed = head.into_iter().any(|line| line.starts_with(b"gpgsig"));
        verify::judge(is_signed, said)
            .map_err(|(reason, why)| self.error(reason, format!("commit {tip}: {why}"), Some(tip)))
    }

    async fn read(&self, tip: &str) -> Result<Vec<u8>, SourceError> {
        let path = &self.location.path;
        let listed = self.local(&["ls-tree", "-z", "--long", tip, "--", path], SHORT).await?;
        let listed = String::from_utf8_lossy(&listed).into_owned();
        let refused = |reason, why: String| self.error(reason, why, Some(tip));
        let entry = listed.split('\0').next().and_then(|entry| entry.split_once('\t'));
        let Some((facts, _)) = entry else {
            return Err(refused(Reason::Missing, format!("commit {tip} has no file {path}")));
        };
        let facts: Vec<&str> = facts.split_whitespace().collect();
        let ["100644" | "100755", "blob", blob, size] = facts.as_slice() else {
            return Err(refused(Reason::NotAFile, format!("{path} in commit {tip} is no regular file")));
        };
        if size.parse::<u64>().is_ok_and(|size| size > LONGEST) {
            return Err(refused(Reason::TooLarge, format!("{path} in commit {tip} has {size} bytes")));
        }
        self.local(&["cat-file", "blob", blob], LONGEST + 1).await
    }
}

/// What people can do about it.
const REWRITTEN: &str = "its history was rewritten. If that is meant, allow it once with --git-allow-rewind";

#[async_trait]
impl Source for GitSource {
    async fn fetch(&self, base: Option<&Base>) -> Result<Fetched, SourceError> {
        let _turn = self.turn.lock().await;
        if self.is_suspect.swap(false, Ordering::Relaxed) {
            self.forget_copy().map_err(|error| self.failed(error))?;
        }
        // A version from elsewhere has no descendants here, and a commit that is named is meant.
        let follows = !self.allow_rewind && !matches!(self.location.reference, Reference::Commit(_));
        let base = base.filter(|base| follows && base.origin == self.origin() && is_commit(&base.revision.0));
        let base = base.map(|base| base.revision.0.as_str());
        let tip = self.bring_tip(base).await?;
        if let Some(base) = base {
            self.check_descent(base, &tip).await?;
        }
        let provenance = self.provenance(&tip).await?;
        let text = self.read(&tip).await?;
        Ok(Fetched { text, revision: Revision(tip), provenance })
    }

    async fn changed(&self) {
        let spread = 1.0 + JITTER * (rand::random::<f64>() - 0.5);
        tokio::time::sleep(self.poll.mul_f64(spread)).await;
    }

    fn restore_commands(&self, revision: &Revision) -> Vec<String> {
        let path = &self.location.path;
        let short: String = revision.0.chars().take(12).collect();
        let branch = self.location.reference.branch().unwrap_or("<branch>");
        vec![
            format!("git switch {branch} && git pull --ff-only"),
            format!("git checkout {revision} -- {path}"),
            format!("git commit -S -m 'Bring back {path} of {short}'"),
            "git push".to_owned(),
        ]
    }

    fn reports(&self) -> bool {
        #[cfg(feature = "azure")]
        if self.statuses.is_some() {
            return true;
        }
        self.report
    }

    async fn report(&self, report: &Report) -> Result<(), SourceError> {
        // One must not keep the other from being tried.
        #[cfg(feature = "azure")]
        let set = self.set_status(report).await;
        if self.report {
            self.note(&report.revision.0, &report.deployment, &report.text).await?;
        }
        #[cfg(feature = "azure")]
        set?;
        Ok(())
    }

    fn verifies(&self) -> bool {
        self.trust.is_asked_for()
    }

    fn origin(&self) -> String {
        self.location.to_string()
    }
}

/// What holds for every call.
fn fixed() -> Config {
    let settings = [
        // A repository must not move to another host without anybody noticing.
        ("http.followRedirects", "false"),
        // Slower than 1 kB/s for 30 s is not an answer.
        ("http.lowSpeedLimit", "1000"),
        ("http.lowSpeedTime", "30"),
        ("core.hooksPath", "/dev/null"),
        ("core.fsmonitor", "false"),
        ("gc.autoDetach", "false"),
        ("maintenance.autoDetach", "false"),
        ("protocol.version", "2"),
    ];
    let mut config: Config = settings.map(|(key, value)| (key.to_owned(), value.into())).into();
    if let Some(file) = std::env::var_os("SSL_CERT_FILE") {
        config.push(("http.sslCAInfo".to_owned(), file));
    }
    config
}

fn ssh_command(key: Option<&Path>, known_hosts: Option<&Path>) -> io::Result<OsString> {
    let quote = |path: &Path| -> io::Result<String> {
        let path = std::path::absolute(path)?;
        let path = path.to_str().ok_or_else(|| io::Error::other("a path that is not UTF-8"))?.to_owned();
        Ok(format!("'{}'", path.replace('\'', r"'\''")))
    };
    // No configuration of a user's, nobody to ask, and only hosts that are known.
    let mut command =
        "ssh -F /dev/null -o BatchMode=yes -o StrictHostKeyChecking=yes -o ConnectTimeout=20".to_owned();
    if let Some(key) = key {
        command.push_str(&format!(" -o IdentitiesOnly=yes -i {}", quote(key)?));
    }
    if let Some(file) = known_hosts {
        command
            .push_str(&format!(" -o GlobalKnownHostsFile=/dev/null -o UserKnownHostsFile={}", quote(file)?));
    }
    Ok(command.into())
}

fn said(ended: &Ended) -> String {
    let text = one_line(&ended.stderr.replace('\n', "; "));
    if text.is_empty() { format!("git ended with {}", ended.status) } else { text }
}

/// The words with which servers say that they have no such object.
fn is_unknown_object(stderr: &str) -> bool {
    ["not our ref", "unadvertised object", "couldn't find remote ref"]
        .iter()
        .any(|words| stderr.contains(words))
}

fn one_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect::<String>().trim().to_owned()
}

#[cfg(test)]
mod tests;
