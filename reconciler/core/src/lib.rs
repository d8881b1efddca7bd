//! The mind of Ebb: what to do, given what is wanted, remembered, observed and known. It does none of it.
//!
//! ```text
//!   document ─┐
//!   records  ─┤                ┌─▶ Plan    what to do, as data        ─▶ executor ─▶ outcomes ─▶ fold ─▶ records
//!   observed ─┼─▶ plan(…, now) ┤
//!   evidence ─┤                └─▶ Report  why, and when to look again
//!   keys     ─┘
//! ```
//!
//! Nothing here reads a clock, draws a random number or talks to anybody; the time and a seed are arguments. A pass is given no
//! news, only the present, so that the same code serves the happy path, a restart and a takeover.

pub mod action;
pub mod capacity;
pub mod condition;
pub mod demand;
pub mod ended;
pub mod evidence;
pub mod explain;
pub mod fold;
pub mod forecast;
pub mod idle;
pub mod machine;
pub mod names;
pub mod note;
pub mod observed;
pub mod operator;
pub mod outcome;
pub mod plan;
pub mod record;
pub mod spec;
pub mod state;
