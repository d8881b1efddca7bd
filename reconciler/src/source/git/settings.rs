//! How a repository is reached and whom it has to be signed by.

use std::path::PathBuf;

/// Options for a document in Git.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct GitSettings {
    /// SSH keys whose signatures are trusted: an allowed-signers file, see ssh-keygen(1). With it, commits have to be signed, or
    /// the tag where one is wanted.
    #[arg(long, env = "EBB_GIT_ALLOWED_SIGNERS", value_name = "FILE")]
    pub git_allowed_signers: Option<PathBuf>,
    /// OpenPGP keys whose signatures are trusted: exported public keys. With it, commits have to be signed, or the tag
    /// where one is wanted.
    #[arg(long, env = "EBB_GIT_KEYRING", value_name = "FILE")]
    pub git_keyring: Option<PathBuf>,
    /// Token for git+https. The file is read before every fetch.
    #[arg(long, env = "EBB_GIT_TOKEN_FILE", value_name = "FILE")]
    pub git_token_file: Option<PathBuf>,
    /// Private key for git+ssh.
    #[arg(long, env = "EBB_GIT_SSH_KEY", value_name = "FILE")]
    pub git_ssh_key: Option<PathBuf>,
    /// Host keys for git+ssh. A host that is not known is not talked to.
    #[arg(long, env = "EBB_GIT_KNOWN_HOSTS", value_name = "FILE")]
    pub git_known_hosts: Option<PathBuf>,
    /// Write on each commit what became of it, as a note in refs/notes/ebb/DEPLOYMENT. The token or key needs to write.
    #[arg(long, env = "EBB_GIT_REPORT")]
    pub git_report: bool,
    /// Set a commit status at GitHub on each commit, with the context ebb/DEPLOYMENT. The token needs to write statuses.
    #[cfg(feature = "azure")]
    #[arg(long, env = "EBB_GIT_COMMIT_STATUS")]
    pub git_commit_status: bool,
    /// GitHub's API, where it is not the one that belongs to the repository's host.
    #[cfg(feature = "azure")]
    #[arg(long, env = "EBB_GIT_API", value_name = "URL")]
    pub git_api: Option<String>,
    /// Where a commit status leads people, for example a dashboard.
    #[cfg(feature = "azure")]
    #[arg(long, env = "EBB_GIT_STATUS_URL", value_name = "URL")]
    pub git_status_url: Option<String>,
    /// Seconds between two looks at the repository.
    #[arg(long, env = "EBB_GIT_POLL_SECONDS", default_value_t = 60, value_name = "SECONDS",
          value_parser = clap::value_parser!(u64).range(1..=86_400))]
    pub git_poll: u64,
    /// Take versions into force that do not descend from the one in force, as after a force-push.
    #[arg(long, env = "EBB_GIT_ALLOW_REWIND")]
    pub git_allow_rewind: bool,
}
