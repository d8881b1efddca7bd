//! Shows on this machine, without an account anywhere, what the decision records beside it say of three crates. Exit code 1 when
//! something is no longer so, which would be a reason to look at the decision again.
//!
//!     cargo run --locked --manifest-path reconciler/decisions/reproduce/Cargo.toml

mod containers;
mod server;
mod tables;
mod yaml;

use std::process::ExitCode;

/// A claim of a decision record, and what happened.
pub struct Shown {
    pub claim: &'static str,
    pub seen: String,
    pub holds: bool,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let mut all = containers::show().await;
    all.extend(tables::show().await);
    all.extend(yaml::show());
    for Shown { claim, seen, holds } in &all {
        println!("{}  {claim}\n            {seen}", if *holds { "reproduced" } else { "NOT SEEN  " });
    }
    if all.iter().all(|one| one.holds) { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
