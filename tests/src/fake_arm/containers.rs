//! Containers as processes.

use std::fs::{self, File, OpenOptions};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use nix::unistd::Pid;

use super::Shared;
use crate::e2e::wait::pause;

/// How often the service looks after its containers.
const LOOK_EVERY: Duration = Duration::from_millis(50);

type Spawn = dyn Fn(Command) -> std::io::Result<Child> + Send + Sync;

/// How the container of a group is started, whatever image it names.
#[derive(Clone)]
pub struct Image {
    /// The program and its arguments.
    pub command: Vec<String>,
    /// Where what containers print is kept.
    pub logs: PathBuf,
    /// Starts a process where containers live.
    pub spawn: Arc<Spawn>,
}

/// What a container does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    Running,
    Waiting,
    Ended(i32),
}

pub(super) struct Container {
    image: Image,
    environment: Vec<(String, String)>,
    child: Option<Child>,
    ended: Option<i32>,
    log: PathBuf,
}

impl Container {
    pub(super) fn start(image: &Image, name: &str, environment: &[(String, String)]) -> Self {
        // What a deleted group has printed is gone with it.
        let log = image.logs.join(format!("container.{name}.log"));
        File::create(&log).expect("a log file can be made");
        let mut container =
            Self { image: image.clone(), environment: environment.to_vec(), child: None, ended: None, log };
        container.run();
        container
    }

    fn run(&mut self) {
        let file = OpenOptions::new().append(true).open(&self.log).expect("the log file is there");
        let other = file.try_clone().expect("a file can be shared");
        let (program, arguments) = self.image.command.split_first().expect("a program");
        let mut command = Command::new(program);
        command.args(arguments).env_clear().envs(self.environment.iter().cloned());
        command.stdin(Stdio::null()).stdout(file).stderr(other);
        self.child = Some((self.image.spawn)(command).expect("the image can be started"));
    }

    pub(super) fn pid(&self) -> Option<Pid> {
        let id = self.child.as_ref()?.id();
        Some(Pid::from_raw(i32::try_from(id).expect("process ids are positive")))
    }

    pub(super) fn log(&self) -> String {
        fs::read(&self.log).map(|text| String::from_utf8_lossy(&text).into_owned()).unwrap_or_default()
    }

    pub(super) fn state(&self) -> State {
        match (&self.child, self.ended) {
            (_, Some(code)) => State::Ended(code),
            (Some(_), None) => State::Running,
            (None, None) => State::Waiting,
        }
    }

    /// Notices an end; whether the container was started again, as `restartPolicy: OnFailure` says.
    pub(super) fn settle(&mut self) -> bool {
        let Some(child) = &mut self.child else { return false };
        let Ok(Some(status)) = child.try_wait() else { return false };
        if status.code() == Some(0) {
            self.ended = Some(0);
            self.child = None;
            return false;
        }
        self.run();
        true
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Looks after the containers for as long as the service is there.
pub(super) fn watch(shared: &Shared) {
    let weak = Arc::downgrade(&shared.0);
    thread::spawn(move || {
        while let Some(shared) = weak.upgrade().map(Shared) {
            {
                let state = &mut *shared.lock();
                state.groups.settle(&state.behaviour);
            }
            drop(shared);
            pause(LOOK_EVERY);
        }
    });
}
