//! Machine scenarios on virtual time.
