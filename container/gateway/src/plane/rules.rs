//! The egress policy in force, for the loop and for the resolver.

use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use ebb_tunnel::policy::{Policy, Refusal};

/// The policy. The loop has its own copy; the resolver, which asks for every answer, shares another one.
pub struct Rules {
    policy: Policy,
    shared: Arc<Mutex<Policy>>,
    /// The destination that was allowed last: datagrams come in runs.
    allowed: Option<IpAddr>,
}

impl Rules {
    /// Rules that allow nothing.
    pub fn new() -> Self {
        Self { policy: Policy::default(), shared: Arc::default(), allowed: None }
    }

    /// Puts other rules in force.
    pub fn replace(&mut self, policy: Policy) {
        self.allowed = None;
        self.shared.lock().unwrap_or_else(PoisonError::into_inner).clone_from(&policy);
        self.policy = policy;
    }

    /// Tells the addresses of the gateway's interfaces.
    pub fn set_own(&mut self, own: &[IpAddr]) {
        let mut policy = self.policy.clone();
        policy.set_own(own);
        self.replace(policy);
    }

    /// Whether users may reach a destination.
    ///
    /// # Errors
    /// Why not.
    #[inline]
    pub fn check(&mut self, destination: IpAddr) -> Result<(), Refusal> {
        if self.allowed == Some(destination) {
            return Ok(());
        }
        self.policy.check(destination)?;
        self.allowed = Some(destination);
        Ok(())
    }

    /// The same question for somebody who lives elsewhere; follows every change of the rules.
    pub fn reachable(&self) -> Box<dyn Fn(IpAddr) -> bool + Send> {
        let shared = Arc::clone(&self.shared);
        Box::new(move |address| shared.lock().unwrap_or_else(PoisonError::into_inner).check(address).is_ok())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everybody_sees_a_change_of_the_rules_at_once() {
        let (public, own): (IpAddr, IpAddr) = ([8, 8, 8, 8].into(), [20, 1, 1, 1].into());
        let mut rules = Rules::new();
        let reachable = rules.reachable();
        assert!(rules.check(public).is_err() && !reachable(public));
        rules.replace(Policy::new(&["0.0.0.0/0".parse().unwrap()], &[], &[]));
        assert!(rules.check(public).is_ok() && reachable(public));
        assert!(rules.check(own).is_ok());
        rules.set_own(&[own]);
        assert!(rules.check(own).is_err() && !reachable(own));
        rules.replace(Policy::default());
        assert!(rules.check(public).is_err() && !reachable(public));
    }
}
