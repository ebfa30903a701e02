//! Real hosts, BEAM nodes and agents for tests and benches.
