//! Signed tags: where the version wanted is a tag, whoever signed the tag vouches for the commit that it names.

use super::program::{Config, Variables};
use super::verify::{self, Said};
use super::{GitSource, Reference, SHORT, TIP};
use crate::source::{Reason, Signature, SourceError};

/// How the signature in a tag begins, in the formats that git knows (`gpg-interface.c`).
const SIGNATURES: [&str; 4] = [
    "-----BEGIN SSH SIGNATURE-----",
    "-----BEGIN PGP SIGNATURE-----",
    "-----BEGIN PGP MESSAGE-----",
    "-----BEGIN SIGNED MESSAGE-----",
];

impl GitSource {
    /// The signature of the tag that was fetched for `tip`; `None` where a branch, a commit, or a tag that nobody signed is
    /// wanted.
    pub(super) async fn tag_signature(
        &self,
        tip: &str,
        config: &Config,
        variables: &Variables,
    ) -> Result<Option<Signature>, SourceError> {
        let Reference::Named(name) = &self.location.reference else { return Ok(None) };
        let Some(name) = name.strip_prefix("refs/tags/") else { return Ok(None) };
        let kind = self.local(&["cat-file", "-t", TIP], SHORT).await?;
        if kind.trim_ascii() != b"tag" {
            return Ok(None);
        }
        let tag = self.local(&["cat-file", "tag", TIP], SHORT).await?;
        let tag = String::from_utf8_lossy(&tag);
        if !tag.lines().any(|line| SIGNATURES.contains(&line)) {
            return Ok(None);
        }
        let refused = |why: String| {
            self.error(Reason::Untrusted, format!("tag {name} of commit {tip}: {why}"), Some(tip))
        };
        // Whoever may push could put an older signed tag in the place of this one.
        let called = tag.lines().find_map(|line| line.strip_prefix("tag "));
        if called != Some(name) {
            return Err(refused(format!("it was signed as the tag {}", called.unwrap_or_default())));
        }
        let ended = self.try_git(&["verify-tag", "--raw", TIP], config, variables, SHORT).await?;
        let said = said(ended.status.success(), &ended.stderr);
        verify::judge(true, &said).map(Some).map_err(|(_, why)| refused(why))
    }
}

/// Reads what ssh-keygen or gpg print under `git verify-tag --raw` (GnuPG, doc/DETAILS), in the letters of `%G?`.
fn said(succeeded: bool, raw: &str) -> Said<'_> {
    let lines = || raw.lines();
    if let Some(rest) = lines().find_map(|line| line.strip_prefix("Good \"git\" signature ")) {
        let key = rest.rsplit(' ').next().filter(|key| key.starts_with("SHA256:")).unwrap_or_default();
        // Without a principal, `with` follows at once: the key is nobody's.
        let signer = rest.strip_prefix("for ").and_then(|rest| rest.rsplit_once(" with "));
        return match signer {
            Some((signer, _)) if succeeded => Said { verdict: "G", signer, key },
            _ => Said { verdict: "U", signer: "", key },
        };
    }
    let status = |word: &str| {
        lines().find_map(|line| line.strip_prefix("[GNUPG:] ")?.strip_prefix(word)?.strip_prefix(' '))
    };
    let key = status("VALIDSIG").and_then(|rest| rest.split(' ').next()).unwrap_or_default();
    let signer = status("GOODSIG").and_then(|rest| rest.split_once(' ')).map_or("", |(_, signer)| signer);
    let is_trusted = status("TRUST_ULTIMATE").or_else(|| status("TRUST_FULLY")).is_some();
    let bad = [("BADSIG", "B"), ("EXPSIG", "X"), ("EXPKEYSIG", "Y"), ("REVKEYSIG", "R"), ("ERRSIG", "E")];
    let verdict = match bad.into_iter().find(|(word, _)| status(word).is_some()) {
        Some((_, letter)) => letter,
        None if signer.is_empty() => "E",
        None if succeeded && is_trusted => "G",
        None => "U",
    };
    Said { verdict, signer, key }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(succeeded: bool, raw: &str) -> (String, String, String) {
        let Said { verdict, signer, key } = said(succeeded, raw);
        (verdict.to_owned(), signer.to_owned(), key.to_owned())
    }

    fn three(verdict: &str, signer: &str, key: &str) -> (String, String, String) {
        (verdict.to_owned(), signer.to_owned(), key.to_owned())
    }

    #[test]
    fn a_good_signature_by_a_known_key_is_good_and_by_an_unknown_one_is_not() {
        let known = "Good \"git\" signature for alice@example.com with ED25519 key SHA256:abc";
        assert_eq!(read(true, known), three("G", "alice@example.com", "SHA256:abc"));
        assert_eq!(read(false, known).0, "U", "git has the last word");
        let unknown = "Good \"git\" signature with ED25519 key SHA256:abc\nNo principal matched.";
        assert_eq!(read(false, unknown), three("U", "", "SHA256:abc"));
        assert_eq!(read(true, unknown).0, "U");
    }

    #[test]
    fn what_gpg_says_is_read_by_its_status_lines() {
        let good = "[GNUPG:] NEWSIG\n[GNUPG:] GOODSIG 1F7F carol <c@example.com>\n[GNUPG:] VALIDSIG AD54 2026-11-21 1 0 4\n";
        let trusted = format!("{good}[GNUPG:] TRUST_ULTIMATE 0 pgp");
        assert_eq!(read(true, &trusted), three("G", "carol <c@example.com>", "AD54"));
        assert_eq!(read(true, &format!("{good}[GNUPG:] TRUST_UNDEFINED 0 pgp")).0, "U");
        assert_eq!(read(true, good).0, "U");
        for (word, letter) in [("BADSIG", "B"), ("EXPSIG", "X"), ("EXPKEYSIG", "Y"), ("REVKEYSIG", "R")] {
            let raw = format!("{trusted}\n[GNUPG:] {word} 1F7F carol");
            assert_eq!(read(true, &raw).0, letter, "{word}");
        }
        for raw in ["", "error: no signature found", "[GNUPG:] TRUST_ULTIMATE 0 pgp"] {
            assert_eq!(read(true, raw).0, "E", "{raw}");
        }
    }
}
