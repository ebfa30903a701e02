//! The metadata service of Rancher 1.x, as its documents have it: one service with its containers, and the version that
//! one who waits for a change names.

use std::{
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use anyhow::Result;

use crate::{Asked, Host, Said, Web};

/// The service `web` of the stack `shop`.
#[derive(Debug)]
pub struct Rancher {
    web: Web,
    state: Arc<State>,
}

/// The version, and the containers as JSON.
type Version = (u32, String);

#[derive(Debug, Default)]
struct State {
    version: Mutex<Version>,
    changed: Condvar,
}

impl Rancher {
    /// One on a free port of the loopback interface, without a container.
    pub fn start() -> Result<Self> {
        let state: Arc<State> = Arc::default();
        let serves = Arc::clone(&state);
        Ok(Self { web: Web::start(move |asked| serves.answer(asked))?, state })
    }

    /// One on a host's own address, for the agents of its network.
    pub fn start_on(host: &Host) -> Result<Self> {
        let state: Arc<State> = Arc::default();
        let serves = Arc::clone(&state);
        Ok(Self { web: Web::start_on(host, move |asked| serves.answer(asked))?, state })
    }

    /// Its address as a URL.
    #[must_use]
    pub fn url(&self) -> String {
        self.web.url()
    }

    /// From now on the service has these containers: JSON objects with commas between them.
    pub fn set_containers(&self, containers: &str) {
        let mut version = self.state.lock();
        *version = (version.0 + 1, containers.to_owned());
        self.state.changed.notify_all();
    }
}

impl State {
    fn lock(&self) -> MutexGuard<'_, Version> {
        self.version.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn answer(&self, asked: &Asked) -> Said {
        if asked.headers.get("accept").is_some_and(|accept| accept != "application/json") {
            return Said::status(406, "");
        }
        let mut state = self.lock();
        if let Some((_, value)) = asked.path.split_once("/2015-12-19/version?wait=true&value=") {
            let (known, seconds) = value.split_once("&maxWait=").unwrap_or((value, "0"));
            let wait = Duration::from_secs(seconds.parse().unwrap_or(0));
            let is_known = |state: &mut Version| state.0.to_string() == known;
            state = self.changed.wait_timeout_while(state, wait, is_known).unwrap_or_else(PoisonError::into_inner).0;
        }
        let (version, containers) = &*state;
        match asked.path.split('?').next().unwrap_or_default() {
            "/2015-12-19/version" => Said::ok(version.to_string()),
            "/2015-12-19/self/service"
            | "/2015-12-19/stacks/shop/services/web"
            | "/2015-12-19/self/stack/services/web" => {
                Said::ok(format!(r#"{{"name":"web","stack_name":"shop","containers":[{containers}]}}"#))
            }
            _ => Said::status(404, "Not found"),
        }
    }
}
