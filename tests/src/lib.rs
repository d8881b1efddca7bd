//! Tests of Ebb that need more than one part, and the simulated world they happen in.

pub mod sim;
