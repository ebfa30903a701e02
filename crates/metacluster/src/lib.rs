//! Form clusters of BEAM nodes and Rust programs.
