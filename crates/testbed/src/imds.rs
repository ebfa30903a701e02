//! The instance metadata service, version 2, as "Use the Instance Metadata Service" of the EC2 User Guide has it.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use anyhow::Result;

use crate::{Asked, Host, Said, Web};

const TOKEN: &str = "x-aws-ec2-metadata-token";
const TTL: &str = "x-aws-ec2-metadata-token-ttl-seconds";

/// A service whose items a test sets. A request without a token, or with one that is none or has expired, gets 401.
#[derive(Debug)]
pub struct Imds {
    web: Web,
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    items: BTreeMap<String, String>,
    tokens: BTreeMap<String, Instant>,
    made: u32,
    mode: Mode,
}

/// What the service does with a request for a token.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Mode {
    /// It gives one.
    #[default]
    On,
    /// It answers 403, as one that is switched off.
    Off,
    /// Its answer never arrives, as in a container beyond the hop limit.
    BeyondHops,
}

impl Imds {
    /// A service with these items, by their paths, such as `/latest/meta-data/instance-id`.
    pub fn start(items: &[(&str, &str)]) -> Result<Self> {
        Self::begin(items, |state| Web::start(move |asked| lock(&state).answer(asked)))
    }

    /// The same on a host's own address, for the agents of its network.
    pub fn start_on(host: &Host, items: &[(&str, &str)]) -> Result<Self> {
        Self::begin(items, |state| Web::start_on(host, move |asked| lock(&state).answer(asked)))
    }

    fn begin(items: &[(&str, &str)], serve: impl FnOnce(Arc<Mutex<State>>) -> Result<Web>) -> Result<Self> {
        let items = items.iter().map(|(path, value)| ((*path).to_owned(), (*value).to_owned())).collect();
        let state = Arc::new(Mutex::new(State { items, ..State::default() }));
        Ok(Self { web: serve(Arc::clone(&state))?, state })
    }

    /// Its address as a URL, for `AWS_EC2_METADATA_SERVICE_ENDPOINT`.
    #[must_use]
    pub fn url(&self) -> String {
        self.web.url()
    }

    /// Sets an item, or takes it away.
    pub fn set(&self, path: &str, value: Option<&str>) {
        let mut state = lock(&self.state);
        match value {
            Some(value) => drop(state.items.insert(path.to_owned(), value.to_owned())),
            None => drop(state.items.remove(path)),
        }
    }

    /// Lets every token expire.
    pub fn expire_tokens(&self) {
        lock(&self.state).tokens.clear();
    }

    /// Switches the service off.
    pub fn switch_off(&self) {
        lock(&self.state).mode = Mode::Off;
    }

    /// Lets no answer arrive that carries a token.
    pub fn move_beyond_hops(&self) {
        lock(&self.state).mode = Mode::BeyondHops;
    }

    /// How many tokens were given.
    #[must_use]
    pub fn tokens_made(&self) -> u32 {
        lock(&self.state).made
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

impl State {
    fn answer(&mut self, asked: &Asked) -> Said {
        let status = |status| Said::status(status, format!("{status}"));
        match self.mode {
            Mode::On => {}
            Mode::Off => return status(403),
            Mode::BeyondHops if asked.method == "PUT" => return Said::never(),
            Mode::BeyondHops => {}
        }
        if asked.path == "/latest/api/token" {
            if asked.headers.contains_key("x-forwarded-for") {
                return status(403);
            }
            let ttl = asked.headers.get(TTL).and_then(|text| text.parse::<u64>().ok());
            let Some(ttl) = ttl.filter(|ttl| (1..=21_600).contains(ttl)) else { return status(400) };
            if asked.method != "PUT" {
                return status(405);
            }
            self.made += 1;
            let token = format!("AQAEAFixture{}==", self.made);
            self.tokens.insert(token.clone(), Instant::now() + Duration::from_secs(ttl));
            return Said::ok(token).header(TTL, &ttl.to_string());
        }
        let until = asked.headers.get(TOKEN).and_then(|token| self.tokens.get(token));
        if until.is_none_or(|until| Instant::now() >= *until) {
            return status(401);
        }
        self.items.get(&asked.path).map_or_else(|| status(404), |value| Said::ok(value.as_bytes()))
    }
}
