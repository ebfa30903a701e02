//! Virtual time, network, faults and checkers that run the pure crates.
//!
//! A run is a pure function of a seed and a scenario: no clock, socket or thread. [`queue`] is virtual time and
//! [`network`] decides what arrives and when; both are for any machine. A world joins machines to them: [`formation`]
//! has the one of the formation machines, [`membership`] that of the membership machines, [`federation`] that of gateways.
//!
//! Each world has checkers that run at each step and must all hold while faults happen; then the faults stop and
//! what is wanted must come about within a bound that is worked out from the settings. A rule that is broken is a
//! [`failure::Failure`] with the seed that shows it again.

pub mod failure;
pub mod federation;
pub mod formation;
pub mod membership;
pub mod network;
pub mod queue;
