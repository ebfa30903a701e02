//! The daemon beside the nodes: configuration, formation driver, events, API.

pub mod api;
pub mod config;
pub mod core;
pub mod events;
pub mod federation;
pub mod handlers;
pub mod members;
pub mod talk;
pub mod view;

pub use metacluster_discovery as discovery;
pub use metacluster_erl as erl;
