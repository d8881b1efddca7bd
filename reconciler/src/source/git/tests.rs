//! Against real repositories, with the git program on both sides.

mod tags;

use std::path::Path;
use std::process::Command;

use super::*;
use crate::source::{SignatureFormat, Standing};

const DOCUMENT: &str = "desired-state.yaml";

/// A repository that people push to, the daemon's copy, and keys.
struct World {
    directory: tempfile::TempDir,
}

impl World {
    fn new() -> Self {
        let world = Self { directory: tempfile::tempdir().unwrap() };
        fs::create_dir(world.path("work")).unwrap();
        world.git(&["init", "--quiet", "--initial-branch=main", "."]);
        world.git(&["config", "user.name", "Alice"]);
        world.git(&["config", "user.email", "alice@example.com"]);
        world
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn run(&self, program: &str, arguments: &[&str]) -> String {
        let output = Command::new(program)
            .args(arguments)
            .current_dir(self.path("work"))
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .env("GNUPGHOME", self.path("gnupg"))
            .output()
            .unwrap();
        assert!(
            output.status.success(),
            "{program} {arguments:?}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    fn git(&self, arguments: &[&str]) -> String {
        self.run("git", arguments)
    }

    /// Commits a document; returns the commit.
    fn commit(&self, text: &str, options: &[&str]) -> String {
        fs::write(self.path("work").join(DOCUMENT), text).unwrap();
        self.git(&["add", "--all"]);
        self.git(&[&["commit", "--quiet", "--allow-empty", "-m", "Say\tit"], options].concat());
        self.git(&["rev-parse", "HEAD"])
    }

    fn location(&self, query: &str) -> Location {
        format!("git+file://{}/work{query}", self.directory.path().display()).parse().unwrap()
    }

    fn source(&self, query: &str, settings: &GitSettings) -> GitSource {
        let state = self.path("state");
        fs::create_dir_all(&state).unwrap();
        GitSource::open(self.location(query), settings, &state).unwrap()
    }

    fn plain(&self) -> GitSource {
        self.source("?ref=main", &GitSettings::default())
    }

    /// Makes an SSH key, and a file in which it is trusted.
    fn ssh_key(&self, name: &str) -> PathBuf {
        let key = self.path(name);
        self.run("ssh-keygen", &["-q", "-t", "ed25519", "-N", "", "-C", name, "-f", key.to_str().unwrap()]);
        let public = fs::read_to_string(self.path(&format!("{name}.pub"))).unwrap();
        let signers = self.path(&format!("{name}.signers"));
        fs::write(&signers, format!("{name}@example.com namespaces=\"git\" {public}")).unwrap();
        signers
    }

    fn sign_with_ssh(&self, name: &str) {
        self.git(&["config", "gpg.format", "ssh"]);
        self.git(&["config", "user.signingKey", self.path(name).to_str().unwrap()]);
    }

    /// Makes an OpenPGP key, and a file that holds its public part.
    fn openpgp_key(&self, name: &str) -> PathBuf {
        let home = self.path("gnupg");
        fs::DirBuilder::new().recursive(true).mode(0o700).create(home).unwrap();
        let user = format!("{name} <{name}@example.com>");
        self.run(
            "gpg",
            &["--batch", "--passphrase", "", "--quick-generate-key", &user, "ed25519", "sign", "never"],
        );
        let exported = self.path(&format!("{name}.asc"));
        let out = exported.to_str().unwrap();
        self.run("gpg", &["--batch", "--armor", "--output", out, "--export", &user]);
        self.git(&["config", "gpg.format", "openpgp"]);
        self.git(&["config", "user.signingKey", &user]);
        exported
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if self.path("gnupg").exists() {
            let mut agent = Command::new("gpgconf");
            let _ = agent.args(["--kill", "all"]).env("GNUPGHOME", self.path("gnupg")).status();
        }
    }
}

fn base(source: &GitSource, revision: &str) -> Base {
    Base { revision: Revision(revision.to_owned()), origin: source.origin() }
}

async fn text(source: &GitSource, base: Option<&Base>) -> Result<String, Reason> {
    match source.fetch(base).await {
        Ok(fetched) => Ok(String::from_utf8(fetched.text).unwrap()),
        Err(error) => Err(error.reason),
    }
}

fn signers(file: &Path) -> GitSettings {
    GitSettings { git_allowed_signers: Some(file.to_owned()), ..GitSettings::default() }
}

#[tokio::test]
async fn the_newest_commit_of_a_branch_is_brought_with_its_author() {
    let world = World::new();
    let first = world.commit("one", &[]);
    let source = world.plain();
    let fetched = source.fetch(None).await.unwrap();
    assert_eq!((fetched.text.as_slice(), &fetched.revision.0), (b"one".as_slice(), &first));
    assert_eq!(fetched.provenance.author.as_deref(), Some("Alice <alice@example.com>"));
    assert_eq!(fetched.provenance.subject.as_deref(), Some("Say it"));
    assert!(fetched.provenance.authored_at.is_some() && fetched.provenance.signature.is_none());
    for number in 0..5 {
        world.commit(&format!("two {number}"), &[]);
    }
    assert_eq!(text(&source, Some(&base(&source, &first))).await, Ok("two 4".into()));
}

#[tokio::test]
async fn the_first_fetch_brings_no_history() {
    let world = World::new();
    for number in 0..20 {
        world.commit(&format!("{number}"), &[]);
    }
    let source = world.plain();
    source.fetch(None).await.unwrap();
    let commits = source.local(&["rev-list", "--count", TIP], SHORT).await.unwrap();
    assert_eq!(String::from_utf8(commits).unwrap().trim(), "1");
}

#[tokio::test]
async fn a_tag_or_a_commit_can_be_named() {
    let world = World::new();
    let first = world.commit("one", &[]);
    world.git(&["tag", "-a", "-m", "first", "v1"]);
    world.commit("two", &[]);
    let settings = GitSettings::default();
    assert_eq!(text(&world.source("?ref=refs/tags/v1", &settings), None).await, Ok("one".into()));
    assert_eq!(text(&world.source(&format!("?ref={first}"), &settings), None).await, Ok("one".into()));
    assert_eq!(text(&world.source("", &settings), None).await, Ok("two".into()));
    assert_eq!(text(&world.source("?ref=no-such", &settings), None).await, Err(Reason::FetchFailed));
}

#[tokio::test]
async fn a_rewritten_history_is_refused_until_it_is_allowed() {
    let world = World::new();
    world.commit("one", &[]);
    let second = world.commit("two", &[]);
    let source = world.plain();
    source.fetch(None).await.unwrap();
    let base = base(&source, &second);
    world.commit("three instead of two", &["--amend"]);
    assert_eq!(text(&source, Some(&base)).await, Err(Reason::HistoryRewritten));
    world.git(&["reset", "--quiet", "--hard", "HEAD~1"]);
    assert_eq!(text(&source, Some(&base)).await, Err(Reason::HistoryRewritten), "a rewind is no better");
    let allowed = GitSettings { git_allow_rewind: true, ..GitSettings::default() };
    assert_eq!(text(&world.source("?ref=main", &allowed), Some(&base)).await, Ok("one".into()));
}

#[tokio::test]
async fn descent_is_known_even_when_the_copy_was_lost() {
    let world = World::new();
    let first = world.commit("one", &[]);
    world.commit("two", &[]);
    let second = world.commit("three", &[]);
    let source = world.plain();
    assert_eq!(text(&source, Some(&base(&source, &first))).await, Ok("three".into()));
    fs::remove_dir_all(world.path("state/git")).unwrap();
    world.git(&["switch", "--quiet", "--orphan", "other"]);
    world.commit("elsewhere", &[]);
    world.git(&["branch", "--force", "main"]);
    let source = world.plain();
    assert_eq!(text(&source, Some(&base(&source, &second))).await, Err(Reason::HistoryRewritten));
    let gone = "0123456789abcdef0123456789abcdef01234567";
    assert_eq!(text(&source, Some(&base(&source, gone))).await, Err(Reason::HistoryRewritten));
}

#[tokio::test]
async fn all_of_the_history_can_be_brought_where_it_is_needed() {
    let world = World::new();
    let first = world.commit("one", &[]);
    world.commit("two", &[]);
    let source = world.plain();
    source.bring_tip(None).await.unwrap();
    // Whether a server hands the commit out or not, its descendants are told from others.
    let ended = source.fetch_as(source.location.reference.as_str(), TIP, History::All).await.unwrap();
    assert!(ended.status.success(), "{}", ended.stderr);
    assert!(source.has(&first).await.unwrap());
    assert_eq!(text(&source, Some(&base(&source, &first))).await, Ok("two".into()));
}

#[tokio::test]
async fn a_copy_that_a_crash_has_left_half_done_is_fetched_anew() {
    let world = World::new();
    world.commit("one", &[]);
    let source = world.plain();
    source.fetch(None).await.unwrap();
    fs::write(world.path("state/git/shallow.lock"), "").unwrap();
    world.commit("two", &[]);
    assert_eq!(text(&source, None).await, Err(Reason::FetchFailed));
    assert_eq!(text(&source, None).await, Ok("two".into()));
    for entry in fs::read_dir(world.path("state/git/objects/pack")).unwrap() {
        fs::write(entry.unwrap().path(), "").unwrap();
    }
    fs::remove_file(world.path("state/git/shallow")).unwrap();
    let _ = source.fetch(None).await;
    assert_eq!(text(&source, None).await, Ok("two".into()));
}

#[tokio::test]
async fn a_version_from_another_place_is_no_base() {
    let world = World::new();
    world.commit("one", &[]);
    let elsewhere = Base {
        revision: Revision("0123456789abcdef0123456789abcdef01234567".into()),
        origin: "/etc/ebb/desired-state.yaml".into(),
    };
    assert_eq!(text(&world.plain(), Some(&elsewhere)).await, Ok("one".into()));
}

#[tokio::test]
async fn only_a_regular_file_is_a_document() {
    let world = World::new();
    world.commit("one", &[]);
    fs::create_dir(world.path("work/folder")).unwrap();
    fs::write(world.path("work/folder/file"), "").unwrap();
    std::os::unix::fs::symlink("/etc/passwd", world.path("work/link")).unwrap();
    fs::File::create(world.path("work/large")).unwrap().set_len(LONGEST + 1).unwrap();
    world.commit("two", &[]);
    let settings = GitSettings::default();
    for (path, expected) in [
        ("link", Reason::NotAFile),
        ("folder", Reason::NotAFile),
        ("missing", Reason::Missing),
        ("large", Reason::TooLarge),
        ("*", Reason::Missing),
    ] {
        let source = world.source(&format!("?path={path}"), &settings);
        assert_eq!(text(&source, None).await, Err(expected), "{path}");
    }
}

#[tokio::test]
async fn a_commit_that_a_trusted_ssh_key_signed_is_brought_and_no_other() {
    let world = World::new();
    let (alice, _mallory) = (world.ssh_key("alice"), world.ssh_key("mallory"));
    world.sign_with_ssh("alice");
    world.commit("signed", &["-S"]);
    let source = world.source("?ref=main", &signers(&alice));
    assert!(source.verifies());
    let fetched = source.fetch(None).await.unwrap();
    let signature = fetched.provenance.signature.unwrap();
    assert_eq!((signature.format, signature.signer.as_str()), (SignatureFormat::Ssh, "alice@example.com"));
    assert!(signature.key.starts_with("SHA256:"), "{}", signature.key);

    world.commit("unsigned", &["--no-gpg-sign"]);
    let error = source.fetch(None).await.unwrap_err();
    assert_eq!((error.reason, error.revision.is_some()), (Reason::Unsigned, true));
    world.sign_with_ssh("mallory");
    world.commit("by mallory", &["-S"]);
    assert_eq!(text(&source, None).await, Err(Reason::Untrusted));
    world.openpgp_key("oscar");
    world.commit("by an OpenPGP key", &["-S"]);
    assert_eq!(text(&source, None).await, Err(Reason::Untrusted));
}

#[tokio::test]
async fn a_signature_that_was_made_for_another_commit_is_worth_nothing() {
    let world = World::new();
    let alice = world.ssh_key("alice");
    world.sign_with_ssh("alice");
    let signed = world.commit("signed", &["-S"]);
    let forged = world.git(&["cat-file", "commit", &signed]).replace("Say", "Lie") + "\n";
    fs::write(world.path("forged"), forged).unwrap();
    let forged = world.git(&["hash-object", "-t", "commit", "-w", world.path("forged").to_str().unwrap()]);
    world.git(&["update-ref", "refs/heads/main", &forged]);
    assert_eq!(text(&world.source("?ref=main", &signers(&alice)), None).await, Err(Reason::Untrusted));
}

#[tokio::test]
async fn a_commit_that_a_trusted_openpgp_key_signed_is_brought_and_no_other() {
    let world = World::new();
    let keyring = world.openpgp_key("carol");
    world.commit("signed", &["-S"]);
    let settings = GitSettings { git_keyring: Some(keyring), ..GitSettings::default() };
    let source = world.source("?ref=main", &settings);
    let signature = source.fetch(None).await.unwrap().provenance.signature.unwrap();
    assert_eq!(signature.format, SignatureFormat::Openpgp);
    assert_eq!(signature.signer, "carol <carol@example.com>");
    world.openpgp_key("mallory");
    world.commit("by mallory", &["-S"]);
    assert_eq!(text(&source, None).await, Err(Reason::Untrusted));
    world.ssh_key("alice");
    world.sign_with_ssh("alice");
    world.commit("by an SSH key", &["-S"]);
    assert_eq!(text(&source, None).await, Err(Reason::Untrusted));
}

fn report(revision: &Revision, deployment: &str, text: &str) -> Report {
    let (revision, deployment) = (revision.clone(), deployment.to_owned());
    Report {
        revision,
        deployment,
        standing: Standing::Pending,
        summary: String::new(),
        text: text.to_owned(),
    }
}

#[tokio::test]
async fn what_became_of_a_commit_is_noted_on_it() {
    let world = World::new();
    let first = world.commit("one", &[]);
    let settings = GitSettings { git_report: true, ..GitSettings::default() };
    let source = world.source("?ref=main", &settings);
    assert!(source.reports() && !world.plain().reports());
    let note = |commit: &str| world.git(&["notes", "--ref=ebb/home", "show", commit]);
    let (revision, other) = (source.fetch(None).await.unwrap().revision, "ebb/prod");
    source.report(&report(&revision, "home", "on the way")).await.unwrap();
    assert_eq!(note(&first), "on the way");
    source.report(&report(&revision, "home", "settled")).await.unwrap();
    assert_eq!(note(&first), "settled");

    // A copy that was lost takes no earlier note with it.
    fs::remove_dir_all(world.path("state/git")).unwrap();
    let second = world.commit("two", &[]);
    let source = world.source("?ref=main", &settings);
    let revision = source.fetch(None).await.unwrap().revision;
    source.report(&report(&revision, "home", "refused")).await.unwrap();
    source.report(&report(&revision, "prod", "of another deployment")).await.unwrap();
    assert_eq!((note(&first), note(&second)), ("settled".to_owned(), "refused".to_owned()));
    assert_eq!(world.git(&["notes", &format!("--ref={other}"), "show", &second]), "of another deployment");
}

#[tokio::test]
async fn without_the_files_of_trusted_keys_nothing_is_brought() {
    let world = World::new();
    world.commit("one", &[]);
    let source = world.source("?ref=main", &signers(&world.path("no-such-file")));
    let error = source.fetch(None).await.unwrap_err();
    assert_eq!(error.reason, Reason::FetchFailed);
    assert!(error.why.contains("no-such-file"), "{error}");
}

#[test]
fn an_earlier_version_is_brought_back_by_commands_of_git() {
    let world = World::new();
    let commands = world.plain().restore_commands(&Revision("0123456789abcdef".into())).join("\n");
    assert!(commands.contains("git checkout 0123456789abcdef -- desired-state.yaml"), "{commands}");
}
