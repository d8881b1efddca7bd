//! `ebb edit`: changing the document where no repository stands between.

use std::fs;
use std::io::{self, IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use super::api::{Api, ApiError};
use super::args::{Daemon, Output};
use super::history;
use super::plan;
use super::{Failure, Outcome};
use crate::http::Replaced;
use crate::preview::Preview;
use crate::view::StatusView;

const DOCUMENT: &str = "/api/desired-state";

/// The document as it is being changed; the file stays when the work in it would be lost otherwise.
struct Draft {
    path: PathBuf,
}

pub(super) async fn edit(daemon: &Daemon, yes: bool, output: Output) -> Outcome {
    if !yes && !io::stdin().is_terminal() {
        return Err(Failure::usage("there is nobody to ask; with --yes nobody is asked"));
    }
    let api = Api::open(daemon)?;
    let (text, mut tag) = api.get_tagged(DOCUMENT).await?;
    let status: StatusView = api.get("/api/sessions").await?;
    if let Some(seen) =
        status.seen.filter(|seen| status.revision.as_ref() != Some(seen) && !status.problems.is_empty())
    {
        eprintln!("revision {seen} is refused; this is the document in force, which would replace it");
        tag = format!("\"{seen}\"");
    }
    let draft = Draft::write(&daemon.state, &text)?;
    let (edited, preview) = loop {
        run_editor(&draft.path)?;
        let edited = fs::read_to_string(&draft.path)?;
        if edited == text {
            draft.remove();
            eprintln!("nothing was changed");
            return Ok(ExitCode::SUCCESS);
        }
        match api.post_text::<Preview>("/api/plan", edited.clone()).await {
            Ok(preview) => break (edited, preview),
            Err(error @ ApiError::Refused { .. }) => {
                eprintln!("{error}");
                if yes || !ask("Edit it again?", true)? {
                    return Err(draft.kept("it is not valid"));
                }
            }
            Err(error) => return Err(draft.kept(error)),
        }
    };
    eprint!("{}", plan::render(&preview));
    if !yes && !ask("Put it into force?", false)? {
        return Err(draft.kept("it was not put into force"));
    }
    match api.put_tagged::<Replaced>(DOCUMENT, &tag, edited).await {
        Ok(replaced) => {
            draft.remove();
            history::tell(&replaced, "it is in force", output)
        }
        Err(error) => Err(draft.kept(error)),
    }
}

impl Draft {
    /// The state directory belongs to the same person and to nobody else.
    fn write(state: &Path, text: &str) -> io::Result<Self> {
        let path = state.join(format!("edit-{:08x}.yaml", rand::random::<u32>()));
        let mut file = fs::File::create_new(&path)?;
        file.write_all(text.as_bytes())?;
        Ok(Self { path })
    }

    fn remove(self) {
        let _ = fs::remove_file(self.path);
    }

    fn kept(self, why: impl std::fmt::Display) -> Failure {
        Failure::new(format!("{why}; your text is kept in {}", self.path.display()))
    }
}

/// Runs the editor as git does: the variable holds a command line for the shell.
fn run_editor(path: &Path) -> Result<(), Failure> {
    let named = ["VISUAL", "EDITOR"].into_iter().filter_map(|name| std::env::var(name).ok());
    let editor = named.into_iter().find(|value| !value.trim().is_empty()).unwrap_or_else(|| "vi".to_owned());
    let status = Command::new("sh")
        .arg("-c")
        .arg(format!("{editor} \"$1\""))
        .arg("ebb edit")
        .arg(path)
        .status()
        .map_err(|error| Failure::new(format!("cannot run the editor {editor}: {error}; set EDITOR")))?;
    if status.success() {
        return Ok(());
    }
    Err(Failure::new(format!("the editor {editor} ended with {status}; nothing was changed")))
}

fn ask(question: &str, otherwise: bool) -> Result<bool, Failure> {
    let choice = if otherwise { "[Y/n]" } else { "[y/N]" };
    eprint!("{question} {choice} ");
    io::stderr().flush()?;
    let mut answer = String::new();
    io::stdin().read_line(&mut answer)?;
    Ok(match answer.trim().to_lowercase().as_str() {
        "" => otherwise,
        answer => answer.starts_with('y'),
    })
}
