//! A node on tokio that BEAM nodes accept: epmd, listener, dialler, calls, processes.
