//! The binary as people run it: several hosts, stock BEAM nodes, real faults.
//!
//! Each test makes its own network of namespaces. What is asserted is what the nodes themselves and the readers of
//! events say, never a log line, but where a log line is what a person is promised.

mod aws;
mod bad_input;
mod cells;
mod death;
mod federation;
mod federation_compress;
mod federation_elixir;
mod federation_faults;
mod federation_hostile;
mod federation_pairs;
mod federation_releases;
mod federation_returns;
mod federation_services;
mod federation_soak;
mod federation_three;
mod federation_topology;
mod heal;
mod hosts;
mod libcluster;
mod members;
mod mesh;
mod refusals;
mod restarts;
mod runtime;
mod support;
mod talk;
mod tls;
