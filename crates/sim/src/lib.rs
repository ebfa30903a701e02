//! Virtual time, network, faults and checkers that run the pure crates.
