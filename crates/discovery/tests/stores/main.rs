//! The strategies whose peers are in a database or a registry, against the real server of each, or a fixture that follows
//! its public documents where there is none in Debian.

mod consul;
mod etcd;
mod postgres;
mod rancher;
mod sqlite;
mod support;
mod time_to_know;
