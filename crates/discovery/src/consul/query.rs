//! Blocking queries, one loop a datacentre, and the one answer that they make together.
//!
//! Follows *Blocking queries* of Consul's API documentation: the index goes back to 0 when it runs backwards, and a server
//! that answers at once again and again is not asked again and again.

use std::{collections::BTreeMap, path::PathBuf, sync::Arc};

use metacluster_types::{AgentId, Secret};
use tokio::{
    sync::{mpsc, watch as channel},
    task::JoinSet,
    time::{Duration, Instant, sleep, sleep_until},
};

use super::{
    instance::{self, Instance},
    register::Registration,
};
use crate::{
    Answer, Failure, Local, Naming,
    http::{Answer as HttpAnswer, Client, HttpError, Request},
    poll::Backoff,
    settings::read_secret,
    watch::Stream,
};

/// The shortest time between two questions to one datacentre.
const REST: Duration = Duration::from_millis(100);
/// How many datacentres are asked.
const DATACENTERS_MAX: usize = 64;
/// How many answers may wait to be merged.
const QUEUE: usize = 16;
/// The longest wait after failures.
const BACKOFF_MAX: Duration = Duration::from_secs(30);

/// The token that goes with each request.
pub(super) enum Token {
    None,
    Given(Secret),
    File(PathBuf),
}

/// What a datacentre gave; `None` is the one of the agent that is asked.
type Told = (Option<String>, Result<Vec<Instance>, String>);

/// What is asked.
pub(super) struct Query {
    pub(super) address: String,
    pub(super) service: String,
    pub(super) health: bool,
    pub(super) passing: bool,
    pub(super) tags: Vec<String>,
    pub(super) filter: Option<String>,
    pub(super) token: Token,
    /// How long a blocking query waits.
    pub(super) wait: Duration,
    /// How long any other answer may take.
    pub(super) within: Duration,
}

impl Query {
    /// Adds the token as it is now.
    pub(super) fn sign(&self, request: Request) -> Result<Request, String> {
        let token = match &self.token {
            Token::None => return Ok(request),
            Token::Given(secret) => secret.clone(),
            Token::File(path) => read_secret(path)?,
        };
        Ok(request.header("x-consul-token", &String::from_utf8_lossy(token.reveal())))
    }

    /// Sends a request. The error says which right is missing: `right` is such as `read`.
    pub(super) async fn send(&self, client: &Client, request: Request, right: &str) -> Result<HttpAnswer, String> {
        let answer = client.send(self.sign(request)?).await.and_then(HttpAnswer::success);
        answer.map_err(|error| self.explain(&error, right))
    }

    fn explain(&self, error: &HttpError, right: &str) -> String {
        let service = &self.service;
        match error.status() {
            Some(401 | 403) => format!(
                "Consul denies it: {error}; the token needs `service \"{service}\" {{ policy = \"{right}\" }}` and \
                 `node_prefix \"\" {{ policy = \"read\" }}`"
            ),
            Some(_) | None => format!("Consul: {error}"),
        }
    }

    fn url(&self, datacenter: Option<&str>, index: u64) -> String {
        let list = if self.health { "health" } else { "catalog" };
        let mut url = format!("{}/v1/{list}/service/{}?index={index}", self.address, escaped(&self.service));
        url.push_str(&format!("&wait={}ms", self.wait.as_millis()));
        if self.health && self.passing {
            url.push_str("&passing=true");
        }
        for tag in &self.tags {
            url.push_str(&format!("&tag={}", escaped(tag)));
        }
        if let Some(filter) = &self.filter {
            url.push_str(&format!("&filter={}", escaped(filter)));
        }
        if let Some(datacenter) = datacenter {
            url.push_str(&format!("&dc={}", escaped(datacenter)));
        }
        url
    }

    /// One blocking query: what came, and the index for the next.
    async fn ask(&self, client: &Client, datacenter: Option<&str>, index: u64) -> Result<(Vec<Instance>, u64), String> {
        // Consul adds up to a sixteenth to the wait.
        let within = if index == 0 { self.within } else { self.wait + self.wait / 16 + self.within };
        let answer = self.send(client, Request::get(&self.url(datacenter, index)).within(within), "read").await?;
        let instances = instance::read(self.health, &answer.body)?;
        let filtered = answer.header("x-consul-results-filtered-by-acls") == Some("true");
        if instances.is_empty() && filtered {
            return Err(format!(
                "Consul keeps the instances of `{0}` from this token: it needs `service \"{0}\" {{ policy = \"read\" }}` and \
                 `node_prefix \"\" {{ policy = \"read\" }}`",
                self.service
            ));
        }
        let new: u64 = answer.header("x-consul-index").and_then(|index| index.parse().ok()).unwrap_or(0);
        Ok((instances, if new < index { 0 } else { new }))
    }

    /// Asks one datacentre again and again and tells each answer.
    async fn follow(self: Arc<Self>, client: Arc<Client>, datacenter: Option<String>, told: mpsc::Sender<Told>) {
        let mut index = 0;
        let mut backoff = Backoff::new(BACKOFF_MAX);
        loop {
            let begun = Instant::now();
            let outcome = self.ask(&client, datacenter.as_deref(), index).await;
            let wait = match &outcome {
                Ok((_, next)) => {
                    backoff.reset();
                    // Without an index nothing is waited for.
                    if *next == 0 && index == 0 { Duration::from_secs(1) } else { REST }
                }
                Err(_) => backoff.next(None),
            };
            index = outcome.as_ref().map_or(0, |(_, next)| *next);
            if told.send((datacenter.clone(), outcome.map(|(instances, _)| instances))).await.is_err() {
                return;
            }
            sleep_until((begun + REST).max(Instant::now() + if wait > REST { wait } else { Duration::ZERO })).await;
        }
    }
}

/// What makes one answer of all datacentres.
pub(super) struct Merge {
    pub(super) client: Arc<Client>,
    pub(super) query: Arc<Query>,
    pub(super) datacenters: Vec<String>,
    pub(super) naming: Naming,
    pub(super) own: Option<AgentId>,
}

impl Merge {
    pub(super) async fn run(
        self,
        stream: Stream,
        registration: Option<Arc<Registration>>,
        local: channel::Receiver<Local>,
    ) -> Result<(), Failure> {
        let datacenters = self.datacenters().await.map_err(Failure::new)?;
        let (told, mut heard) = mpsc::channel(QUEUE);
        let mut tasks = JoinSet::new();
        for datacenter in &datacenters {
            let (query, client) = (Arc::clone(&self.query), Arc::clone(&self.client));
            tasks.spawn(query.follow(client, datacenter.clone(), told.clone()));
        }
        let (note, mut notes) = channel::channel(None);
        if let Some(registration) = registration {
            tasks.spawn(registration.keep_up(local, note));
        }
        let mut known: BTreeMap<Option<String>, Vec<Instance>> = BTreeMap::new();
        let mut failing: BTreeMap<Option<String>, String> = BTreeMap::new();
        loop {
            tokio::select! {
                Some((datacenter, outcome)) = heard.recv() => match outcome {
                    Ok(instances) => {
                        failing.remove(&datacenter);
                        known.insert(datacenter, instances);
                    }
                    Err(line) => {
                        failing.insert(datacenter, line);
                    }
                },
                Ok(()) = notes.changed() => {}
                Some(ended) = tasks.join_next() => {
                    if let Err(error) = ended {
                        return Err(Failure::new(format!("a query failed, by a fault of metacluster: {error}")));
                    }
                }
            }
            if failing.len() == datacenters.len() {
                stream.fail(failing.values().next().cloned().unwrap_or_default());
            } else if datacenters.iter().all(|it| known.contains_key(it) || failing.contains_key(it)) {
                // A part of the datacentres before each was asked once would look like the whole.
                let mut answer = self.answer(&known);
                for (datacenter, line) in &failing {
                    let datacenter = datacenter.as_deref().unwrap_or("the agent's own");
                    answer.notes.push(format!("datacentre {datacenter}: {line}; its peers stay as they were"));
                }
                answer.notes.extend(notes.borrow_and_update().clone());
                stream.tell(answer);
            }
        }
    }

    /// Which datacentres are asked; `None` is the one of the agent that is asked.
    async fn datacenters(&self) -> Result<Vec<Option<String>>, String> {
        if self.datacenters.is_empty() {
            return Ok(vec![None]);
        }
        if !self.datacenters.iter().any(|datacenter| datacenter == "*") {
            return Ok(self.datacenters.iter().take(DATACENTERS_MAX).cloned().map(Some).collect());
        }
        let query = &self.query;
        let request = Request::get(&format!("{}/v1/catalog/datacenters", query.address)).within(query.within);
        let answer = query.send(&self.client, request, "read").await?;
        let names: Vec<String> =
            serde_json::from_slice(&answer.body).map_err(|error| format!("the answer is not Consul's: {error}"))?;
        if names.is_empty() {
            return Err("Consul knows no datacentre".to_owned());
        }
        Ok(names.into_iter().take(DATACENTERS_MAX).map(Some).collect())
    }

    fn answer(&self, known: &BTreeMap<Option<String>, Vec<Instance>>) -> Answer {
        let others = || known.values().flatten().filter(|it| it.agent.is_none() || it.agent != self.own);
        let hosts = others().map(|it| it.host.clone()).collect();
        self.naming.answer_with(hosts, others().filter_map(|it| it.named.clone()).collect())
    }
}

/// A text as it stands in a URL.
pub(super) fn escaped(text: &str) -> String {
    let mut escaped = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            escaped.push(char::from(byte));
        } else {
            escaped.push_str(&format!("%{byte:02X}"));
        }
    }
    escaped
}

/// Waits a little, for a caller that has to ask again.
pub(super) async fn rest() {
    sleep(REST).await;
}
