//! What became of a commit, as a note on it (git-notes(1)): every Git server takes those, and `git log --notes=ebb/NAME` shows
//! them beside the commit.

use ebb_core::plan::Revision;

use super::program::Variables;
use super::{GitSource, SHORT, fixed, said};
use crate::source::SourceError;

impl GitSource {
    pub(super) async fn note(&self, commit: &str, deployment: &str, text: &str) -> Result<(), SourceError> {
        let _turn = self.turn.lock().await;
        let name = format!("refs/notes/ebb/{deployment}");
        // There may be none yet; a push says whether that was the reason.
        let _ = self.network("fetch", &["--quiet", "--no-tags"], &format!("+{name}:{name}")).await?;
        let mut config = fixed();
        config.push(("user.name".to_owned(), "Ebb".into()));
        config.push(("user.email".to_owned(), "ebb@invalid".into()));
        let reference = format!("--ref={name}");
        let arguments = ["notes", &reference, "add", "--force", "--message", text, commit];
        let noted = self.try_git(&arguments, &config, &Variables::new(), SHORT).await?;
        if !noted.status.success() {
            return Err(self.not_noted(commit, &said(&noted)));
        }
        let pushed = self.network("push", &["--quiet"], &format!("{name}:{name}")).await?;
        if pushed.status.success() { Ok(()) } else { Err(self.not_noted(commit, &said(&pushed))) }
    }

    fn not_noted(&self, commit: &str, why: &str) -> SourceError {
        let mut error = self.failed(format!(
            "cannot push a note: {why}. The token or key needs to write, or leave --git-report out"
        ));
        error.revision = Some(Revision(commit.to_owned()));
        error
    }
}
