//! Who called, and what goes wrong with calls.

use std::collections::{BTreeMap, VecDeque};

/// What a call is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// A page of a listing.
    List,
    /// One group.
    Get,
    /// Create or replace.
    Put,
    /// Tags.
    Patch,
    /// Delete.
    Delete,
    /// Start, stop or restart.
    Post,
    /// The state of an operation.
    Operation,
    /// A container's log.
    Logs,
    /// The subscription's usage.
    Usage,
    /// One load balancer.
    LoadBalancer,
    /// Replace a load balancer.
    PutLoadBalancer,
    /// A subnet.
    Subnet,
    /// A public IP address.
    PublicAddress,
    /// What the caller may do.
    Permissions,
    /// Whether the subscription uses a service.
    Registration,
    /// A resource group.
    ResourceGroup,
    /// A token; not a call of management.
    Token,
    /// Something that does not exist.
    Other,
}

/// One call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call {
    /// What about.
    pub kind: Kind,
    /// Which group, if one.
    pub name: String,
    /// The status of its answer, whether or not that arrived.
    pub status: u16,
}

/// What goes wrong with a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// Nothing does.
    None,
    /// It is refused and has no effect.
    Refuse {
        /// HTTP status.
        status: u16,
        /// Azure's word.
        code: &'static str,
        /// `Retry-After`, in seconds.
        retry_after: Option<u64>,
    },
    /// The connection breaks before it has an effect.
    LoseRequest,
    /// It has its effect, and the connection breaks before the answer.
    LoseAnswer,
}

type Then = Box<dyn FnOnce() + Send>;

#[derive(Default)]
pub(super) struct Calls {
    pub(super) made: Vec<Call>,
    faults: BTreeMap<Kind, VecDeque<Fault>>,
    interruption: Option<(usize, Then)>,
    before_answer: Option<(Kind, Then)>,
}

impl Calls {
    pub(super) fn fail(&mut self, kind: Kind, fault: Fault) {
        self.faults.entry(kind).or_default().push_back(fault);
    }

    pub(super) fn next_fault(&mut self, kind: Kind) -> Option<Fault> {
        self.faults.get_mut(&kind)?.pop_front()
    }

    pub(super) fn interrupt(&mut self, number: usize, then: Then) {
        self.interruption = Some((number, then));
    }

    pub(super) fn before_answer(&mut self, kind: Kind, then: Then) {
        self.before_answer = Some((kind, then));
    }

    /// What to do before the answer to a call of this kind goes out.
    pub(super) fn take_before_answer(&mut self, kind: Kind) -> Option<Then> {
        self.before_answer.take_if(|(wanted, _)| *wanted == kind).map(|(_, then)| then)
    }

    /// Writes a call down; what to do now, if it is the one that is waited for.
    pub(super) fn made(&mut self, call: Call) -> Option<Then> {
        let counts = call.kind != Kind::Token;
        self.made.push(call);
        let made = self.made.iter().filter(|call| call.kind != Kind::Token).count();
        match &self.interruption {
            Some((number, _)) if counts && *number == made => self.interruption.take().map(|(_, then)| then),
            _ => None,
        }
    }
}
