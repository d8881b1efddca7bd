//! Commands that are run and waited for.

use std::process::ExitStatus;

use serde::de::DeserializeOwned;

/// What a command printed and how it ended.
#[derive(Debug)]
pub struct Output {
    /// The command line.
    pub line: String,
    /// How it ended.
    pub status: ExitStatus,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

impl Output {
    /// The exit code.
    #[must_use]
    pub fn code(&self) -> i32 {
        self.status.code().unwrap_or_else(|| panic!("{} was killed: {}", self.line, self.status))
    }

    /// The command must have succeeded.
    pub fn success(self) -> Self {
        assert!(self.status.success(), "{self}");
        self
    }

    /// The command must have ended with this code.
    pub fn failure(self, code: i32) -> Self {
        assert_eq!(self.status.code(), Some(code), "{self}");
        self
    }

    /// Standard output as JSON.
    #[must_use]
    pub fn json<T: DeserializeOwned>(&self) -> T {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error} in\n{self}"))
    }
}

impl std::fmt::Display for Output {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} ended with {}\n{}{}", self.line, self.status, self.stdout, self.stderr)
    }
}
