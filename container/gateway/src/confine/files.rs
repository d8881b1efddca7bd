//! The file system, by Landlock (landlock(7)); and what else Landlock can take away.

use std::path::{Path, PathBuf};

use landlock::{
    ABI, Access as _, AccessFs, AccessNet, BitFlags, PathBeneath, PathFd, Ruleset, RulesetAttr as _,
    RulesetCreatedAttr as _, RulesetError, RulesetStatus, Scope,
};

use super::Wall;

/// Newest interface that is asked for. Older kernels do what they can.
const INTERFACE: ABI = ABI::V6;

pub(super) fn confine(resolver: &Path, termination_log: Option<&Path>) -> Wall {
    match restrict(resolver, termination_log) {
        Ok(RulesetStatus::FullyEnforced) => Wall::Full,
        Ok(RulesetStatus::PartiallyEnforced) => Wall::Partial,
        Ok(RulesetStatus::NotEnforced) => Wall::Missing("the kernel has no Landlock".into()),
        Err(error) => Wall::Missing(error.to_string()),
    }
}

fn restrict(resolver: &Path, termination_log: Option<&Path>) -> Result<RulesetStatus, RulesetError> {
    let mut rules = Ruleset::default()
        .handle_access(AccessFs::from_all(INTERFACE))?
        // Connections only go out; nothing of the gateway listens on TCP.
        .handle_access(AccessNet::BindTcp)?
        // Signals and abstract sockets of other processes.
        .scope(Scope::from_all(INTERFACE))?
        .create()?;
    // Directories, because such files are replaced and not rewritten: a rule for a file is one for its inode.
    for directory in readable(resolver) {
        if let Ok(directory) = PathFd::new(directory) {
            rules = rules.add_rule(PathBeneath::new(directory, AccessFs::ReadFile))?;
        }
    }
    if let Some(directory) = termination_log.and_then(parent)
        && let Ok(directory) = PathFd::new(directory)
    {
        let write: BitFlags<AccessFs> = AccessFs::WriteFile | AccessFs::MakeReg | AccessFs::Truncate;
        rules = rules.add_rule(PathBeneath::new(directory, write))?;
    }
    Ok(rules.restrict_self()?.ruleset)
}

/// The directory of a file, and that of what it links to: `/etc/resolv.conf` often is a link.
fn readable(file: &Path) -> Vec<PathBuf> {
    let target = std::fs::canonicalize(file).ok();
    [parent(file), target.as_deref().and_then(parent)].into_iter().flatten().collect()
}

fn parent(file: &Path) -> Option<PathBuf> {
    let parent = file.parent()?;
    Some(if parent.as_os_str().is_empty() { ".".into() } else { parent.to_owned() })
}
