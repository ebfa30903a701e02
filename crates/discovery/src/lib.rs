//! The strategies that find peers, each pushing what changes.
