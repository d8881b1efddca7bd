//! The command line.
//!
//! Exit codes: 0 done, 1 failed or `ebb doctor` found a fault, 2 the command line or the document is wrong, 3 `ebb plan` found something to do.
#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a command line speaks through its standard streams"
)]

mod api;
mod args;
mod config;
mod connect;
mod doctor;
mod document;
mod edit;
mod history;
mod inspect;
#[cfg(feature = "azure")]
mod measure;
mod operate;
mod output;
mod plan;
mod run;
mod target;

use std::ffi::OsString;
use std::fmt;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser as _;

use self::api::ApiError;
use self::args::{Args, Command};

/// The document or an argument is wrong.
const USAGE: u8 = 2;

/// `ebb plan` found something to do.
const CHANGES: u8 = 3;

/// Why a command failed: a message for people, and the exit code.
#[derive(Debug)]
pub struct Failure {
    message: String,
    code: u8,
}

impl Failure {
    /// It did not work.
    pub fn new(message: impl fmt::Display) -> Self {
        Self { message: message.to_string(), code: 1 }
    }

    /// It was asked for wrongly.
    pub fn usage(message: impl fmt::Display) -> Self {
        Self { message: message.to_string(), code: USAGE }
    }
}

impl<E: std::error::Error + 'static> From<E> for Failure {
    fn from(error: E) -> Self {
        let error: &(dyn std::error::Error + 'static) = &error;
        match error.downcast_ref::<ApiError>() {
            Some(refused) if refused.is_invalid_document() => Self::usage(refused),
            Some(_) | None => Self::new(error),
        }
    }
}

type Outcome = Result<ExitCode, Failure>;

/// Runs one command.
#[must_use]
pub fn main(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let mut arguments = arguments.into_iter().peekable();
    let program = arguments.next();
    // The gateway has a command line of its own; the local provider starts it through this executable.
    if arguments.peek().is_some_and(|first| first == "gateway") {
        return ebb_gateway::main_with(arguments.skip(1));
    }
    let args = match Args::try_parse_from(program.into_iter().chain(arguments)) {
        Ok(args) => args,
        Err(error) => {
            // Help and version are printed the same way, to standard output and with code 0.
            let _ = error.print();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(USAGE));
        }
    };
    match dispatch(args) {
        Ok(code) => code,
        Err(failure) => {
            eprintln!("error: {}", failure.message);
            ExitCode::from(failure.code)
        }
    }
}

fn dispatch(args: Args) -> Outcome {
    match args.command {
        Command::Validate { files } => document::validate(&files, args.output),
        Command::Schema => document::schema(),
        Command::Keygen => document::keygen(args.output),
        command => {
            // One thread: the daemon waits nearly all the time, and every thread costs memory.
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(with_runtime(command, args.daemon, args.output))
        }
    }
}

async fn with_runtime(command: Command, daemon: args::Daemon, output: args::Output) -> Outcome {
    match command {
        Command::Run(options) => run::run(options, &daemon).await,
        Command::Plan(options) => plan::plan(&daemon, options, output).await,
        Command::Explain { session } => inspect::explain(&daemon, &session, output).await,
        Command::Status { watch } => inspect::status(&daemon, watch, output).await,
        Command::Events { session, kind, limit } => {
            inspect::events(&daemon, session.as_ref(), kind.as_deref(), limit, output).await
        }
        Command::Start { session, wait } => inspect::start(&daemon, &session, wait, output).await,
        Command::Stop { session, wait } => inspect::stop(&daemon, &session, wait, output).await,
        Command::Approve { revision } => inspect::approve(&daemon, revision, output).await,
        Command::Suspend { session, reason, until } => {
            operate::suspend(&daemon, &session, reason, until, output).await
        }
        Command::Resume { session } => operate::resume(&daemon, &session, output).await,
        Command::Detach { session, reason } => operate::detach(&daemon, &session, reason, output).await,
        Command::Adopt { session } => operate::adopt(&daemon, &session, output).await,
        Command::Reconcile { wait, revision, timeout } => {
            let timeout = Duration::from_secs(timeout);
            operate::reconcile(&daemon, wait, revision.as_deref(), timeout, output).await
        }
        Command::History { session: None, limit } => history::history(&daemon, limit, output).await,
        Command::History { session: Some(session), limit } => {
            history::runs(&daemon, &session, limit, output).await
        }
        Command::Diff { from, to } => history::diff(&daemon, &from, to.as_deref(), output).await,
        Command::Rollback { revision } => history::rollback(&daemon, revision, output).await,
        Command::Edit { yes } => edit::edit(&daemon, yes, output).await,
        Command::Config { target, qr, mtu } => config::config(&daemon, &target, qr, mtu, output).await,
        Command::Connect(options) => connect::connect(&daemon, options).await,
        #[cfg(feature = "azure")]
        Command::MeasureAzure(options) => measure::measure(*options).await,
        Command::Doctor(settings) => doctor::doctor(*settings, &daemon, output).await,
        Command::Validate { .. } | Command::Schema | Command::Keygen => unreachable!("needs no runtime"),
    }
}
