//! Commands that need no daemon.

use std::path::PathBuf;
use std::process::ExitCode;

use ebb_wire::PrivateKey;
use serde_json::json;

use super::args::Output;
use super::{Failure, Outcome, USAGE};

pub(super) fn validate(files: &[PathBuf], output: Output) -> Outcome {
    let mut verdicts = Vec::new();
    let mut valid = true;
    for file in files {
        let name = file.display().to_string();
        if name.contains("://") {
            return Err(Failure::usage(format!(
                "{name} is no file on this machine; name the one to check: ebb validate FILE"
            )));
        }
        let bytes =
            std::fs::read(file).map_err(|error| Failure::new(format!("cannot read {name}: {error}")))?;
        match ebb_desired_state::parse_bytes(&bytes) {
            Ok(document) => {
                let (users, sessions) = (document.users.len(), document.sessions.len());
                if output == Output::Text {
                    println!("{name}: valid, {sessions} session(s) of {users} user(s)");
                }
                verdicts.push(json!({ "file": name, "valid": true, "sessions": sessions, "users": users }));
            }
            Err(problems) => {
                valid = false;
                if output == Output::Text {
                    eprintln!("{}", problems.render(&name, super::output::is_colourful()));
                }
                let problems: Vec<_> = problems
                    .iter()
                    .map(|problem| {
                        json!({
                            "line": problem.line, "column": problem.column, "field": problem.field,
                            "message": problem.message, "help": problem.help,
                        })
                    })
                    .collect();
                verdicts.push(json!({ "file": name, "valid": false, "problems": problems }));
            }
        }
    }
    if output == Output::Json {
        super::output::json(&verdicts)?;
    }
    Ok(if valid { ExitCode::SUCCESS } else { ExitCode::from(USAGE) })
}

pub(super) fn schema() -> Outcome {
    print!("{}", ebb_desired_state::SCHEMA);
    Ok(ExitCode::SUCCESS)
}

pub(super) fn keygen(output: Output) -> Outcome {
    let key = PrivateKey::from_random(rand::random());
    match output {
        Output::Text => println!("private {}\npublic  {}", *key.reveal(), key.public()),
        Output::Json => {
            super::output::json(&json!({ "privateKey": *key.reveal(), "publicKey": key.public() }))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}
