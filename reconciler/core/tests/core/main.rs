//! Tests of the core that need more than one module.

#![allow(clippy::unwrap_used, reason = "a test ends where its world is not as it says")]

mod drift;
mod ending;
mod forecasting;
mod machine;
mod operating;
mod planning;
mod situation;
