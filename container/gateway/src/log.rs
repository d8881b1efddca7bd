//! Lines for people and machines: telemetry on standard output, everything else as JSON on standard error.
//!
//! Both are written by a thread of their own. A reader that stopped reading would otherwise stop the loop, and with it every
//! user, at the first full pipe; here it loses lines.

use std::io::{self, Write};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Duration;

use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

/// Lines that wait to be written.
const QUEUE: usize = 256;

/// How long the end of the process waits for the last lines.
const PATIENCE: Duration = Duration::from_millis(500);

/// What is logged when nobody says otherwise.
const FILTER: &str = "info";

enum Line {
    Output(Vec<u8>),
    Error(Vec<u8>),
    Flush(SyncSender<()>),
}

/// Where lines go.
#[derive(Clone)]
pub struct Log(SyncSender<Line>);

impl Log {
    /// Starts the writer and makes it the destination of all events of this process. In a process that already has one, for
    /// example a test, events keep going there.
    ///
    /// # Errors
    /// When no thread can be started.
    pub fn start(filter: Option<&str>) -> io::Result<Self> {
        let (sender, receiver) = sync_channel(QUEUE);
        std::thread::Builder::new().name("log".into()).spawn(move || write_lines(&receiver))?;
        let log = Self(sender);
        let targets = filter.and_then(|filter| format!("{FILTER},{filter}").parse::<Targets>().ok());
        let unreadable = filter.is_some() && targets.is_none();
        let targets =
            targets.unwrap_or_else(|| Targets::new().with_default(tracing::level_filters::LevelFilter::INFO));
        let layer = tracing_subscriber::fmt::layer()
            .json()
            .flatten_event(true)
            .with_target(false)
            .with_writer(log.clone());
        let _ = tracing_subscriber::registry().with(targets).with(layer).try_init();
        if unreadable {
            tracing::warn!("EBB_LOG cannot be read and is ignored");
        }
        Ok(log)
    }

    /// Prints a line on standard output.
    pub fn print(&self, line: &str) {
        let _ = self.0.try_send(Line::Output(format!("{line}\n").into_bytes()));
    }

    /// Waits, but not for long, until all lines are written.
    pub fn flush(&self) {
        let (done, wait) = sync_channel(1);
        if self.0.try_send(Line::Flush(done)).is_ok() {
            let _ = wait.recv_timeout(PATIENCE);
        }
    }
}

fn write_lines(lines: &Receiver<Line>) {
    for line in lines {
        // Nobody reads: nobody misses it.
        let _ = match line {
            Line::Output(line) => write(&mut io::stdout(), &line),
            Line::Error(line) => write(&mut io::stderr(), &line),
            Line::Flush(done) => done.try_send(()).map_err(io::Error::other),
        };
    }
}

fn write(to: &mut impl Write, line: &[u8]) -> io::Result<()> {
    to.write_all(line)?;
    to.flush()
}

impl<'a> MakeWriter<'a> for Log {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

impl Write for Log {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let _ = self.0.try_send(Line::Error(line.to_vec()));
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
