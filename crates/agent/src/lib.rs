//! The daemon beside the nodes: configuration, formation driver, events, API.

pub mod config;
pub mod events;
pub mod view;
