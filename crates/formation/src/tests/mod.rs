//! Scenarios on virtual time.
