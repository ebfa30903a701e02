//! Consul's HTTP API, as its public documents have it: blocking queries, indexes, registration with a check, tokens.

use std::{
    collections::BTreeMap,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use anyhow::Result;
use serde_json::{Value, json};

use crate::{Asked, Host, Said, Web};

/// How often one that waits looks whether it still should.
const LOOK: Duration = Duration::from_millis(200);

/// One service, `web`, in two datacentres, `dc1` and `dc2`; the agent of Consul that is asked is in the first.
#[derive(Debug)]
pub struct Consul {
    web: Web,
    state: Arc<State>,
}

#[derive(Debug, Default)]
struct State {
    centres: Mutex<BTreeMap<String, Centre>>,
    changed: Condvar,
}

/// What a datacentre knows of the service, and what it does with requests.
#[derive(Debug, Default)]
pub struct Centre {
    /// Grows with each change.
    pub index: u64,
    /// The instances by their ids, as they were registered.
    pub instances: BTreeMap<String, Value>,
    /// The token without which nothing is told.
    pub token: Option<String>,
    /// Whether the token's rights hide every instance.
    pub filtered: bool,
    /// The status that every request gets.
    pub fails: Option<u16>,
    /// How many checks were passed.
    pub passes: usize,
    /// How many questions came.
    pub asked: usize,
}

impl Consul {
    /// One on a free port of the loopback interface, without an instance.
    pub fn start() -> Result<Self> {
        Self::begin(|state| Web::start(move |asked| state.answer(asked)))
    }

    /// One on a host's own address, for the agents of its network.
    pub fn start_on(host: &Host) -> Result<Self> {
        Self::begin(|state| Web::start_on(host, move |asked| state.answer(asked)))
    }

    fn begin(serve: impl FnOnce(Arc<State>) -> Result<Web>) -> Result<Self> {
        let state: Arc<State> = Arc::default();
        for name in ["dc1", "dc2"] {
            state.lock().insert(name.to_owned(), Centre { index: 10, ..Centre::default() });
        }
        Ok(Self { web: serve(Arc::clone(&state))?, state })
    }

    /// Its address as a URL.
    #[must_use]
    pub fn url(&self) -> String {
        self.web.url()
    }

    /// Changes a datacentre, which ends the wait of those who ask it.
    pub fn change(&self, centre: &str, change: impl FnOnce(&mut Centre)) {
        let mut centres = self.state.lock();
        let centre = centres.entry(centre.to_owned()).or_default();
        centre.index += 1;
        change(centre);
        self.state.changed.notify_all();
    }

    /// Looks into the first datacentre.
    pub fn look<T>(&self, look: impl FnOnce(&Centre) -> T) -> T {
        look(self.state.lock().entry("dc1".to_owned()).or_default())
    }
}

impl State {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Centre>> {
        self.centres.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn answer(&self, asked: &Asked) -> Said {
        let mut centres = self.lock();
        let name = parameter(&asked.path, "dc").unwrap_or_else(|| "dc1".to_owned());
        let path = asked.path.split('?').next().unwrap_or_default();
        if path == "/v1/catalog/datacenters" {
            return Said::ok(r#"["dc1","dc2"]"#);
        }
        let Some(centre) = centres.get_mut(&name) else { return Said::status(500, "No path to datacenter") };
        if centre.token.is_some() && asked.headers.get("x-consul-token") != centre.token.as_ref() {
            return Said::status(403, "Permission denied: anonymous token lacks permission 'service:read' on \"web\"");
        }
        if let Some(status) = centre.fails {
            return Said::status(status, "rpc error: No cluster leader");
        }
        if asked.method == "PUT" {
            let said = centre.put(path, &asked.body);
            self.changed.notify_all();
            return said;
        }
        centre.asked += 1;
        let index: u64 = parameter(&asked.path, "index").and_then(|index| index.parse().ok()).unwrap_or(0);
        let wait =
            parameter(&asked.path, "wait").and_then(|wait| wait.trim_end_matches("ms").parse().ok()).unwrap_or(0);
        let until = Instant::now() + Duration::from_millis(wait);
        // As Consul: an index of 0, or one that is not the present one, is answered at once.
        while index > 0 && centres[&name].index == index && centres[&name].fails.is_none() && Instant::now() < until {
            let left = until.saturating_duration_since(Instant::now()).min(LOOK);
            centres = self.changed.wait_timeout(centres, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        centres[&name].list(&name, path)
    }
}

impl Centre {
    fn list(&self, name: &str, path: &str) -> Said {
        let seen = self.instances.values().filter(|_| !self.filtered);
        let listed: Vec<Value> = seen.map(|it| entry(it, name, path)).collect();
        let said = Said::ok(Value::from(listed).to_string()).header("x-consul-index", &self.index.to_string());
        if self.filtered { said.header("x-consul-results-filtered-by-acls", "true") } else { said }
    }

    fn put(&mut self, path: &str, body: &[u8]) -> Said {
        let body: Value = serde_json::from_slice(body).unwrap_or_default();
        if path == "/v1/agent/service/register" {
            let check = &body["Check"];
            if body["Name"] != "web"
                || !check["TTL"].is_string()
                || !check["DeregisterCriticalServiceAfter"].is_string()
            {
                return Said::status(400, "the service is not `web`, or has no check");
            }
            let Some(id) = body["ID"].as_str().map(str::to_owned) else { return Said::status(400, "no ID") };
            self.instances.insert(id, body);
        } else if let Some(id) = path.strip_prefix("/v1/agent/service/deregister/") {
            self.instances.remove(&id.replace("%40", "@"));
        } else if let Some(id) = path.strip_prefix("/v1/agent/check/pass/service%3A") {
            self.passes += 1;
            let known = self.instances.contains_key(&id.replace("%40", "@"));
            return if known { Said::ok("") } else { Said::status(404, "Unknown check ID") };
        } else {
            return Said::status(405, "");
        }
        self.index += 1;
        Said::ok("")
    }
}

fn parameter(path: &str, name: &str) -> Option<String> {
    let (_, query) = path.split_once('?')?;
    query.split('&').find_map(|pair| pair.strip_prefix(&format!("{name}=")).map(ToOwned::to_owned))
}

fn entry(service: &Value, centre: &str, path: &str) -> Value {
    let address = &service["Address"];
    if path.starts_with("/v1/catalog") {
        return json!({ "ID": "n1", "Node": "m1", "Address": "192.168.0.1", "Datacenter": centre, "ServiceID": service["ID"],
            "ServiceAddress": address, "ServiceTags": service["Tags"], "ServiceMeta": service["Meta"] });
    }
    json!({ "Node": { "ID": "n1", "Node": "m1", "Address": "192.168.0.1", "Datacenter": centre },
        "Service": service, "Checks": [{ "Status": "passing" }] })
}
