//! Promises that hold in every history.

use ebb_tests::sim::{Case, Mutation};
use proptest::prelude::*;

use crate::generate::{Trouble, case};

/// Lives through a history and fails with its log if a promise was broken.
pub fn holds(case: &Case, mutation: Option<Mutation>) -> Result<(), TestCaseError> {
    let world = case.run(mutation);
    if world.oracle.violations.is_empty() {
        return Ok(());
    }
    let mut text = String::new();
    for line in &world.lines {
        let session = line.session.as_ref().map_or("", |session| session.as_str());
        text.push_str(&format!("  {} {session} {}\n", line.at, line.text));
    }
    for violation in &world.oracle.violations {
        text.push_str(&format!("{violation}\n"));
    }
    Err(TestCaseError::fail(text))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(std::env::var("EBB_CASES").ok().and_then(|c| c.parse().ok()).unwrap_or(300)))]

    #[test]
    fn promises_hold_without_trouble(case in case(20, Trouble::NONE)) {
        holds(&case, None)?;
    }

    #[test]
    fn promises_hold_whatever_the_provider_does(case in case(20, Trouble { provider: true, ..Trouble::NONE })) {
        holds(&case, None)?;
    }

    #[test]
    fn promises_hold_whatever_happens_to_gateways(case in case(20, Trouble { gateways: true, ..Trouble::NONE })) {
        holds(&case, None)?;
    }

    #[test]
    fn promises_hold_whatever_happens_to_the_daemon(case in case(20, Trouble { daemon: true, ..Trouble::NONE })) {
        holds(&case, None)?;
    }

    #[test]
    fn promises_hold_whatever_the_clock_shows(case in case(20, Trouble { clock: true, ..Trouble::NONE })) {
        holds(&case, None)?;
    }

    #[test]
    fn promises_hold_although_listings_are_old(case in case(20, Trouble { stale: true, ..Trouble::NONE })) {
        holds(&case, None)?;
    }

    #[test]
    fn promises_hold_whatever_happens(case in case(30, Trouble::ALL)) {
        holds(&case, None)?;
    }
}
