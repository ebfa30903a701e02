//! The strategies whose peers are in a database or a registry, against the real server of each, or a fixture that follows
//! its public documents where there is none in Debian.

mod postgres;
mod sqlite;
mod support;
