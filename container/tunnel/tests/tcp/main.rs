//! The TCP endpoint in a simulated network: properties over thousands of seeds, goodput on emulated WANs, the rules of the
//! RFCs one by one, and hostile peers. Time is virtual, so every run repeats exactly.

mod properties;
mod sim;
mod wan;
