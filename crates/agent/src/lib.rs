//! The daemon beside the nodes: configuration, formation driver, events, API.
