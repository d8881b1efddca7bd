//! Documents small enough to generate, shrink and read in a failure report.

use std::time::Duration;

use ebb_desired_state::{
    Document, Drift, Idle, Limits, Schedule, Session, SessionName, Signal, Suspension, User, UserName,
    VERSION,
};
use jiff::{SignedDuration, Timestamp};

/// How many users and sessions a sketch can have.
pub const SIZE: usize = 4;

/// Idle timeouts that sketches use, in seconds.
pub const TIMEOUTS: [u64; 4] = [5, 60, 200, 600];

/// A document in few numbers. Moments are seconds since the world began.
#[derive(Debug, Clone)]
pub struct Sketch {
    /// `limits.activeUsers`.
    pub active_users: u32,
    /// `limits.activeSessions`.
    pub active_sessions: u32,
    /// `limits.maxTeardownsPerPass`.
    pub max_teardowns: u32,
    /// The deployment is suspended until then.
    pub suspended: Option<u16>,
    /// The users' `until`.
    pub until: [Option<u16>; SIZE],
    /// The sessions.
    pub sessions: [SessionSketch; SIZE],
}

/// One session of a sketch.
#[derive(Debug, Clone)]
pub struct SessionSketch {
    /// Whether the document has it.
    pub present: bool,
    /// Bit `n` is set for user `n`; without any, user 0 is meant.
    pub users: u8,
    /// Index into [`TIMEOUTS`].
    pub timeout: usize,
    /// What counts as use.
    pub signal: Signal,
    /// `maxLifetime` in seconds.
    pub lifetime: Option<u16>,
    /// `until`.
    pub until: Option<u16>,
    /// It is suspended until then.
    pub suspended: Option<u16>,
    /// Open from this minute of the hour on, for 10 minutes.
    pub opens: Option<u8>,
    /// `wake`.
    pub wake: u8,
    /// Stands for everything that forces another gateway.
    pub template: u8,
    /// Stands for everything that does not.
    pub dns: u8,
}

/// One change of a sketch.
#[derive(Debug, Clone)]
pub enum Edit {
    /// Adds or removes a session.
    Present(usize, bool),
    /// Gives a session other users.
    Users(usize, u8),
    /// Gives a session another idle timeout.
    Timeout(usize, usize),
    /// Makes a session need another gateway.
    Template(usize, u8),
    /// Changes what a gateway takes without a restart.
    Dns(usize, u8),
    /// Sets `wake`.
    Wake(usize, u8),
    /// Suspends a session, or ends that.
    Suspend(usize, Option<u16>),
    /// Suspends the deployment, or ends that.
    SuspendAll(Option<u16>),
    /// Sets a session's `until`.
    Until(usize, Option<u16>),
    /// Sets a user's `until`.
    UserUntil(usize, Option<u16>),
    /// Sets a session's schedule.
    Opens(usize, Option<u8>),
    /// Sets users, sessions and teardowns.
    Limits(u32, u32, u32),
    /// Removes every session.
    Clear,
}

/// Name of session `n`.
///
/// # Panics
/// Never: the name is well formed.
#[must_use]
pub fn session(n: usize) -> SessionName {
    format!("s{n}").parse().expect("a name")
}

/// Name of user `n`.
///
/// # Panics
/// Never: the name is well formed.
#[must_use]
pub fn user(n: usize) -> UserName {
    ["alice", "bob", "carol", "dave"][n % SIZE].parse().expect("a name")
}

impl Sketch {
    /// Applies one change.
    pub fn apply(&mut self, edit: &Edit) {
        match edit {
            Edit::Present(n, present) => self.sessions[*n].present = *present,
            Edit::Users(n, users) => self.sessions[*n].users = *users,
            Edit::Timeout(n, timeout) => self.sessions[*n].timeout = *timeout,
            Edit::Template(n, template) => self.sessions[*n].template = *template,
            Edit::Dns(n, dns) => self.sessions[*n].dns = *dns,
            Edit::Wake(n, wake) => self.sessions[*n].wake = *wake,
            Edit::Suspend(n, until) => self.sessions[*n].suspended = *until,
            Edit::SuspendAll(until) => self.suspended = *until,
            Edit::Until(n, until) => self.sessions[*n].until = *until,
            Edit::UserUntil(n, until) => self.until[*n] = *until,
            Edit::Opens(n, opens) => self.sessions[*n].opens = *opens,
            Edit::Limits(users, sessions, teardowns) => {
                (self.active_users, self.active_sessions, self.max_teardowns) =
                    (*users, *sessions, *teardowns);
            }
            Edit::Clear => self.sessions.iter_mut().for_each(|session| session.present = false),
        }
    }

    /// The document it stands for, in a world that began at `epoch`.
    ///
    /// # Panics
    /// Never: all its parts are well formed.
    #[must_use]
    pub fn document(&self, epoch: Timestamp) -> Document {
        let at = |seconds: u16| epoch + SignedDuration::from_secs(i64::from(seconds));
        let suspension = |seconds: u16| Suspension { reason: "maintenance".into(), until: at(seconds) };
        let users = (0..SIZE).map(|n| User { until: self.until[n].map(at), ..User::new(user(n)) }).collect();
        let sessions = self
            .sessions
            .iter()
            .enumerate()
            .filter(|(_, sketch)| sketch.present)
            .map(|(n, sketch)| sketch.session(n, at, suspension))
            .collect();
        Document {
            version: VERSION,
            deployment: "home".parse().expect("a name"),
            limits: Limits {
                active_users: self.active_users,
                active_sessions: self.active_sessions,
                max_teardowns_per_pass: self.max_teardowns,
            },
            suspended: self.suspended.map(suspension),
            drift: Drift::Correct,
            users,
            sessions,
        }
    }
}

impl SessionSketch {
    fn session(
        &self,
        n: usize,
        at: impl Fn(u16) -> Timestamp,
        suspend: impl Fn(u16) -> Suspension,
    ) -> Session {
        let users: Vec<UserName> = (0..SIZE).filter(|n| self.users & (1 << n) != 0).map(user).collect();
        let users = if users.is_empty() { vec![user(0)] } else { users };
        let seconds = TIMEOUTS[self.timeout % TIMEOUTS.len()];
        // A client with traffic shakes hands every two minutes; the document asks for at least three.
        let seconds = if self.signal == Signal::Handshake { seconds.max(180) } else { seconds };
        let mut session = Session::new(session(n), users, "local");
        session.idle = Idle { timeout: Duration::from_secs(seconds), signal: self.signal };
        session.max_lifetime = self.lifetime.map(|seconds| Duration::from_secs(u64::from(seconds)));
        session.until = self.until.map(&at);
        session.suspended = self.suspended.map(suspend);
        session.schedule = self.opens.map(|minute| {
            let (open, close) = (minute % 50, minute % 50 + 10);
            let hours = format!("08:{open:02}-08:{close:02}").parse().expect("hours");
            Schedule::new("daily".parse().expect("days"), hours, "UTC").expect("a time zone")
        });
        session.wake = (self.wake > 0).then(|| self.wake.to_string());
        session.port += u16::from(self.template);
        if self.dns > 0 {
            session.dns.upstream = vec![[9, 9, 9, self.dns].into()];
        }
        session
    }
}
