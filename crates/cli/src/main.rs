//! The `metacluster` command.

fn main() {}
