//! Requests and replies against the bytes of a stock epmd.
