//! Who vouches for a commit.
//!
//! git checks the signature with the program of its format, `ssh-keygen` or `gpg`; this module decides what those may trust.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use super::program::{Config, Programs, Variables};
use crate::source::{Reason, Signature, SignatureFormat, revision_of};

/// A program that says no to everything.
const NOBODY: &str = "/bin/false";

/// Whose signatures are trusted. With neither file, nobody has to sign.
#[derive(Debug, Clone, Default)]
pub(super) struct Trust {
    /// An allowed-signers file, ssh-keygen(1).
    pub(super) allowed_signers: Option<PathBuf>,
    /// Public OpenPGP keys, binary or armored.
    pub(super) keyring: Option<PathBuf>,
}

/// What git says of a signature: `%G?`, `%GS` and `%GF` of git-log(1).
pub(super) struct Said<'a> {
    pub(super) verdict: &'a str,
    pub(super) signer: &'a str,
    pub(super) key: &'a str,
}

impl Trust {
    /// Whether commits have to be signed.
    pub(super) fn is_asked_for(&self) -> bool {
        self.allowed_signers.is_some() || self.keyring.is_some()
    }

    /// How git has to check signatures.
    pub(super) async fn configure(&self, programs: &Programs) -> io::Result<(Config, Variables)> {
        let set = |key: &str, value: OsString| (key.to_owned(), value);
        let mut config = vec![
            set("gpg.x509.program", NOBODY.into()),
            // Without a file of allowed signers git would take any key for a good one of nobody.
            match &self.allowed_signers {
                Some(file) => set("gpg.ssh.allowedSignersFile", readable(file)?.into()),
                None => set("gpg.ssh.program", NOBODY.into()),
            },
        ];
        let mut variables = Variables::new();
        match &self.keyring {
            Some(file) => variables.push(("GNUPGHOME", import(programs, file).await?.into())),
            None => config.push(set("gpg.program", NOBODY.into())),
        }
        Ok((config, variables))
    }
}

fn readable(file: &Path) -> io::Result<PathBuf> {
    let path = file.canonicalize().and_then(|path| fs::File::open(&path).map(|_| path));
    path.map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", file.display())))
}

/// Makes a home for gpg in which exactly the keys of `file` are known, and all of them trusted. It is named after their content,
/// so a changed file makes another one.
async fn import(programs: &Programs, file: &Path) -> io::Result<PathBuf> {
    let file = readable(file)?;
    let directory = programs.directory.join("trust");
    let home = directory.join(revision_of(&fs::read(&file)?).0);
    if home.join("complete").exists() {
        return Ok(home);
    }
    // What an interrupted attempt or an older file has left.
    let _ = fs::remove_dir_all(&directory);
    fs::DirBuilder::new().recursive(true).mode(0o700).create(&home)?;
    fs::write(home.join("gpg.conf"), "no-auto-key-retrieve\nno-autostart\n")?;
    gpg(programs, &home, &[Path::new("--import"), &file]).await?;
    let listed = gpg(programs, &home, &["--with-colons", "--list-keys"].map(Path::new)).await?;
    let trusted: String = primary_keys(&listed).map(|key| format!("{key}:6:\n")).collect();
    if trusted.is_empty() {
        return Err(io::Error::other(format!("{} holds no OpenPGP key", file.display())));
    }
    let owners = home.join("owners");
    fs::write(&owners, trusted)?;
    gpg(programs, &home, &[Path::new("--import-ownertrust"), &owners]).await?;
    fs::write(home.join("complete"), "")?;
    Ok(home)
}

async fn gpg(programs: &Programs, home: &Path, arguments: &[&Path]) -> io::Result<String> {
    let fixed = [Path::new("--batch"), Path::new("--quiet"), Path::new("--homedir"), home];
    let ended = programs.run("gpg", &[&fixed, arguments].concat()).await?;
    if !ended.status.success() {
        return Err(io::Error::other(format!("gpg: {}", ended.stderr)));
    }
    Ok(String::from_utf8_lossy(&ended.stdout).into_owned())
}

/// Fingerprints of the primary keys in a listing with colons (GnuPG, doc/DETAILS).
fn primary_keys(listing: &str) -> impl Iterator<Item = &str> {
    let mut of_primary = false;
    listing.lines().filter_map(move |line| {
        let mut fields = line.split(':');
        match fields.next()? {
            "pub" => of_primary = true,
            "sub" => of_primary = false,
            "fpr" if of_primary => return fields.nth(8),
            _ => {}
        }
        None
    })
}

/// Judges what git says of a signature. `is_signed`: the commit carries one.
pub(super) fn judge(is_signed: bool, said: &Said<'_>) -> Result<Signature, (Reason, String)> {
    if !is_signed {
        return Err((Reason::Unsigned, "nobody signed it".to_owned()));
    }
    let why = match said.verdict {
        "G" if !said.key.is_empty() => {
            let is_ssh = said.key.starts_with("SHA256:");
            let format = if is_ssh { SignatureFormat::Ssh } else { SignatureFormat::Openpgp };
            return Ok(Signature { format, signer: said.signer.to_owned(), key: said.key.to_owned() });
        }
        "B" => "its signature is wrong: it was made for something else",
        "U" => "it is signed with a key that is none of the trusted ones",
        "X" => "its signature has expired",
        "Y" => "it is signed with a key that has expired",
        "R" => "it is signed with a key that was revoked",
        _ => "its signature cannot be checked with the trusted keys",
    };
    let key = if said.key.is_empty() { String::new() } else { format!(" (key {})", said.key) };
    Err((Reason::Untrusted, format!("{why}{key}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(is_signed: bool, verdict: &str, key: &str) -> Result<SignatureFormat, Reason> {
        let said = Said { verdict, signer: "alice@example.com", key };
        judge(is_signed, &said).map(|signature| signature.format).map_err(|(reason, _)| reason)
    }

    #[test]
    fn only_a_good_signature_by_a_trusted_key_counts() {
        assert_eq!(judged(true, "G", "SHA256:abc"), Ok(SignatureFormat::Ssh));
        assert_eq!(
            judged(true, "G", "0123456789ABCDEF0123456789ABCDEF01234567"),
            Ok(SignatureFormat::Openpgp)
        );
        assert_eq!(judged(false, "N", ""), Err(Reason::Unsigned));
        for verdict in ["B", "U", "X", "Y", "R", "E", "N", "", "G "] {
            assert_eq!(judged(true, verdict, "SHA256:abc"), Err(Reason::Untrusted), "{verdict}");
        }
        assert_eq!(judged(true, "G", ""), Err(Reason::Untrusted));
    }

    #[test]
    fn trust_is_given_to_primary_keys() {
        let listing = "tru::1:1:0:3:1:5\npub:u:255:22:AA:1:::u:::scESC:::::ed25519:::0:\nfpr:::::::::PRIMARY:\n\
                       uid:u::::1::H::alice::::::::::0:\nsub:u:255:18:BB:1::::::e:::::cv25519::\nfpr:::::::::SUB:\n";
        assert_eq!(primary_keys(listing).collect::<Vec<_>>(), ["PRIMARY"]);
    }
}
