//! Programs from npm, installed once for all tests.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// A directory with these packages installed.
///
/// # Errors
/// Why that is not possible.
pub fn install(name: &str, packages: &[&str]) -> Result<PathBuf, String> {
    let directory = target().join(format!("tmp/npm-{name}"));
    fs::create_dir_all(&directory).map_err(|error| error.to_string())?;
    let lock = File::create(directory.join("lock")).map_err(|error| error.to_string())?;
    // Tests run side by side, each in a process of its own.
    lock.lock().map_err(|error| error.to_string())?;
    let done = directory.join("done");
    if fs::read_to_string(&done).is_ok_and(|installed| installed == packages.join(" ")) {
        return Ok(directory);
    }
    let mut npm = Command::new("npm");
    npm.args(["install", "--no-audit", "--no-fund", "--ignore-scripts", "--no-save"]).args(packages);
    let output = npm.current_dir(&directory).stdin(Stdio::null()).output();
    let output = output.map_err(|error| format!("npm cannot be run: {error}"))?;
    if !output.status.success() {
        return Err(format!("npm cannot install {packages:?}: {}", String::from_utf8_lossy(&output.stderr)));
    }
    fs::write(done, packages.join(" ")).map_err(|error| error.to_string())?;
    Ok(directory)
}

/// Cargo's target directory: a test's executable is in `debug/deps` below it.
fn target() -> PathBuf {
    let own = std::env::current_exe().unwrap_or_default();
    own.ancestors().nth(3).unwrap_or(Path::new("target")).to_owned()
}
