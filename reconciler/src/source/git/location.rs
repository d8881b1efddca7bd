//! Where in a repository the document is, as one URL.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

/// Path inside the repository unless another is named.
const DEFAULT_PATH: &str = "desired-state.yaml";

/// A document in a Git repository: `git+https://host/owner/repository.git?ref=main&path=vpn/desired-state.yaml`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Location {
    /// How the repository is reached.
    pub transport: Transport,
    /// What git calls it: the URL without `git+` and without what follows the question mark.
    pub repository: String,
    /// Which version.
    pub reference: Reference,
    /// Where the document is inside the repository.
    pub path: String,
}

/// How a repository is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    /// HTTPS.
    Https,
    /// HTTP, to this machine alone: whoever can change what travels can change the deployment.
    Http,
    /// SSH.
    Ssh,
    /// A directory of this machine.
    File,
}

impl Transport {
    const ALL: [(&str, Self); 4] =
        [("https", Self::Https), ("http", Self::Http), ("ssh", Self::Ssh), ("file", Self::File)];

    /// What git calls it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Https => "https",
            Self::Http => "http",
            Self::Ssh => "ssh",
            Self::File => "file",
        }
    }
}

/// Which version of a repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reference {
    /// Whatever the repository calls its default.
    Head,
    /// This reference in full, for example `refs/heads/main` or `refs/tags/v1`.
    Named(String),
    /// This commit and no other.
    Commit(String),
}

impl Reference {
    /// What to ask the repository for.
    #[must_use]
    pub fn as_str(&self) -> &str {
        match self {
            Self::Head => "HEAD",
            Self::Named(name) | Self::Commit(name) => name,
        }
    }

    /// The branch that it names, if it does.
    #[must_use]
    pub fn branch(&self) -> Option<&str> {
        match self {
            Self::Named(name) => name.strip_prefix("refs/heads/"),
            Self::Head | Self::Commit(_) => None,
        }
    }
}

/// Whether `text` is a commit's full name, SHA-1 or SHA-256.
#[must_use]
pub fn is_commit(text: &str) -> bool {
    matches!(text.len(), 40 | 64) && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

/// Why a URL names no document.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{why}; a document in Git is written git+https://host/repository.git?ref=main&path=desired-state.yaml"
)]
pub struct LocationError {
    why: String,
}

fn wrong(why: impl Into<String>) -> LocationError {
    LocationError { why: why.into() }
}

impl FromStr for Location {
    type Err = LocationError;

    fn from_str(text: &str) -> Result<Self, LocationError> {
        let url = text.strip_prefix("git+").ok_or_else(|| wrong("it does not begin with git+"))?;
        if !url.bytes().all(|byte| byte.is_ascii_graphic()) || url.contains(['\'', '"', '\\', '%', '#']) {
            return Err(wrong(
                "it has a character that such a URL cannot have, such as a space or a percent sign",
            ));
        }
        let (repository, query) = url.split_once('?').unwrap_or((url, ""));
        let (scheme, rest) = repository.split_once("://").ok_or_else(|| wrong("it has no scheme"))?;
        let transport = Transport::ALL.into_iter().find(|(name, _)| *name == scheme).map(|(_, found)| found);
        let transport =
            transport.ok_or_else(|| wrong(format!("{scheme} is none of git+https, git+ssh and git+file")))?;
        let (authority, directory) = rest.split_once('/').unwrap_or((rest, ""));
        if directory.is_empty() {
            return Err(wrong("it names no repository"));
        }
        check_authority(transport, authority)?;
        let (reference, path) = read_query(query)?;
        Ok(Self { transport, repository: repository.to_owned(), reference, path })
    }
}

fn check_authority(transport: Transport, authority: &str) -> Result<(), LocationError> {
    let (user, host) = match authority.rsplit_once('@') {
        Some((user, host)) => (Some(user), host),
        None => (None, authority),
    };
    if user.is_some_and(|user| user.contains(':')) || (transport != Transport::Ssh && user.is_some()) {
        return Err(wrong("a name or password in it would be shown and logged; use --git-token-file"));
    }
    // ssh would take it for an option.
    if user.is_some_and(|user| user.starts_with('-')) || host.starts_with('-') {
        return Err(wrong("a host or user does not begin with a dash"));
    }
    match transport {
        Transport::File if !authority.is_empty() => Err(wrong("a directory is written git+file:///…")),
        Transport::Https | Transport::Ssh | Transport::Http if host.is_empty() => {
            Err(wrong("it has no host"))
        }
        Transport::Http if !is_loopback(host) => Err(wrong(
            "git+http is for this machine alone, because anybody on the way can change what it brings",
        )),
        Transport::Https | Transport::Http | Transport::Ssh | Transport::File => Ok(()),
    }
}

fn is_loopback(host: &str) -> bool {
    let host = match host.strip_prefix('[').and_then(|host| host.split_once(']')) {
        Some((host, _)) => host,
        None => host.split(':').next().unwrap_or_default(),
    };
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

fn read_query(query: &str) -> Result<(Reference, String), LocationError> {
    let (mut reference, mut path) = (Reference::Head, DEFAULT_PATH.to_owned());
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        match pair.split_once('=') {
            Some(("ref", value)) => reference = read_reference(value)?,
            Some(("path", value)) => {
                check_path(value)?;
                value.clone_into(&mut path);
            }
            _ => return Err(wrong(format!("{pair} is neither ref=… nor path=…"))),
        }
    }
    Ok((reference, path))
}

/// A name without `refs/` is a branch. The rules are those of git-check-ref-format(1).
fn read_reference(value: &str) -> Result<Reference, LocationError> {
    let odd = value.is_empty()
        || value.starts_with(['-', '/', '.'])
        || value.ends_with(['/', '.'])
        || value.contains("..")
        || value.contains("//")
        || value.contains("@{")
        || value.contains(['~', '^', ':', '?', '*', '['])
        || value.split('/').any(|part| part.starts_with('.') || part.ends_with(".lock"));
    if odd {
        return Err(wrong(format!("{value:?} is no name of a branch, tag or commit")));
    }
    Ok(match value {
        "HEAD" => Reference::Head,
        commit if is_commit(commit) => Reference::Commit(commit.to_owned()),
        full if full.starts_with("refs/") => Reference::Named(full.to_owned()),
        branch => Reference::Named(format!("refs/heads/{branch}")),
    })
}

fn check_path(value: &str) -> Result<(), LocationError> {
    let parts_fine = value.split('/').all(|part| !matches!(part, "" | "." | ".."));
    if parts_fine {
        Ok(())
    } else {
        Err(wrong(format!("{value:?} is no path of a file inside a repository")))
    }
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "git+{}?ref={}&path={}", self.repository, self.reference.as_str(), self.path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Location {
        text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    #[test]
    fn a_location_names_a_repository_a_version_and_a_file() {
        let location = parse("git+https://example.com/acme/vpn.git?ref=main&path=prod/ebb.yaml");
        assert_eq!(location.transport, Transport::Https);
        assert_eq!(location.repository, "https://example.com/acme/vpn.git");
        assert_eq!(location.reference, Reference::Named("refs/heads/main".into()));
        assert_eq!(location.reference.branch(), Some("main"));
        assert_eq!(location.path, "prod/ebb.yaml");
        assert_eq!(parse(&location.to_string()), location);
    }

    #[test]
    fn what_is_not_said_is_the_default() {
        let location = parse("git+ssh://git@example.com:2222/acme/vpn.git");
        assert_eq!((location.reference, location.path.as_str()), (Reference::Head, "desired-state.yaml"));
        assert_eq!(parse("git+file:///srv/vpn.git").repository, "file:///srv/vpn.git");
    }

    #[test]
    fn a_version_is_a_branch_a_tag_or_a_commit() {
        let commit = "0123456789abcdef0123456789abcdef01234567";
        let reference = |value: &str| parse(&format!("git+file:///r?ref={value}")).reference;
        assert_eq!(reference("release/1"), Reference::Named("refs/heads/release/1".into()));
        assert_eq!(reference("refs/tags/v1"), Reference::Named("refs/tags/v1".into()));
        assert_eq!(reference(commit), Reference::Commit(commit.into()));
    }

    #[test]
    fn what_could_be_an_option_a_secret_or_an_escape_is_refused() {
        for wrong in [
            "https://example.com/r",
            "git+https://example.com",
            "git+https:///r",
            "git+https://user:secret@example.com/r",
            "git+https://token@example.com/r",
            "git+ssh://-oProxyCommand=x/r",
            "git+ssh://git:secret@example.com/r",
            "git+http://example.com/r",
            "git+http://localhost.example.com/r",
            "git+ext::sh -c x",
            "git+file://host/r",
            "git+file:///r?ref=--upload-pack=x",
            "git+file:///r?ref=a..b",
            "git+file:///r?ref=a:b",
            "git+file:///r?path=../secret",
            "git+file:///r?path=/etc/passwd",
            "git+file:///r?branch=main",
            "git+file:///r?path=a%2fb",
            "git+file:///a b",
        ] {
            assert!(wrong.parse::<Location>().is_err(), "{wrong}");
        }
        parse("git+http://127.0.0.1:8080/r");
        parse("git+http://[::1]:8080/r");
    }
}
