//! `rancher`: the containers of a service, as the metadata service of Rancher 1.x knows them.
//!
//! Asks `/2015-12-19/self/service`, or the services that are named, and waits on `/2015-12-19/version?wait=true` for the
//! next change. Invariant: an answer counts only when every service gave its part.

use std::{net::IpAddr, sync::Arc};

use metacluster_types::{Host, HostState, Tags};
use serde::Deserialize;
use tokio::time::{Instant, sleep, sleep_until};

use crate::{
    Answer, Failure, Feed, Gives, Naming, Pace, Strategy,
    feed::Work,
    http::{Client, HttpError, Request},
    naming::ROLES_FROM,
    settings::{Absent, Key, Kind, Reader},
    tls::TlsFiles,
    watch,
    watch::Stream,
};

/// The version of the API, which stays as it is.
const API: &str = "2015-12-19";
/// How many labels a container may have.
const LABELS_MAX: usize = 64;
/// The shortest time between two questions.
const REST: tokio::time::Duration = tokio::time::Duration::from_millis(100);

pub(crate) const GIVES: Gives = Gives::Hosts;

pub(crate) const KEYS: &[Key] = &[
    Key {
        name: "address",
        kind: Kind::Text,
        absent: Absent::Default("http://rancher-metadata"),
        doc: "The metadata service",
    },
    Key {
        name: "services",
        kind: Kind::Texts,
        absent: Absent::Unset("the service of this container"),
        doc: "The services whose containers are peers, each as `service` of this container's stack or as `stack/service`",
    },
    ROLES_FROM,
    Key {
        name: "interval",
        kind: Kind::Duration { least_ms: 100, most_ms: 3_600_000 },
        absent: Absent::Default("5s"),
        doc: "How long the service is let wait for a change before it is asked anew; an older one that cannot wait is asked so often",
    },
    Pace::timeout("5s"),
];

/// The strategy.
struct Rancher {
    address: String,
    services: Vec<String>,
    pace: Pace,
    naming: Naming,
}

pub(crate) fn make(reader: &mut Reader<'_>) -> Box<dyn Strategy> {
    let address = reader.text("address").unwrap_or_default();
    if !address.starts_with("http://") && !address.starts_with("https://") {
        reader.fault("address", "is no address: expected `http://rancher-metadata`");
    }
    let services = reader.texts("services");
    let odd = |name: &str| {
        name.split('/').count() > 2 || name.split('/').any(str::is_empty) || name.contains(['?', '#', ' '])
    };
    if services.iter().any(|name| odd(name)) {
        reader.fault("services", "holds what is no service: expected `service` or `stack/service`");
    }
    let address = address.trim_end_matches('/').to_owned();
    Box::new(Rancher { address, services, pace: Pace::read(reader), naming: Naming::read(reader, GIVES) })
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Service {
    containers: Vec<Container>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Container {
    name: Option<String>,
    uuid: Option<String>,
    ips: Option<Vec<String>>,
    primary_ip: Option<String>,
    state: Option<String>,
    health_state: Option<String>,
    labels: Option<Tags>,
}

impl Container {
    fn host(self) -> Host {
        let ips = self.primary_ip.into_iter().chain(self.ips.unwrap_or_default());
        let state = match (self.state.as_deref(), self.health_state.as_deref()) {
            (Some("stopping" | "stopped" | "removing"), _) => HostState::Terminating,
            (Some("removed" | "purged"), _) => HostState::Terminated,
            (Some("creating" | "starting" | "restarting"), _) | (_, Some("initializing" | "unhealthy")) => {
                HostState::Pending
            }
            (Some(_) | None, Some(_) | None) => HostState::Running,
        };
        Host {
            name: self.name.filter(|name| !name.is_empty()),
            addresses: ips.filter_map(|ip| ip.parse::<IpAddr>().ok()).collect(),
            instance: self.uuid,
            state,
            tags: self.labels.unwrap_or_default().into_iter().take(LABELS_MAX).collect(),
            ..Host::default()
        }
    }
}

impl Rancher {
    async fn follow(self: Arc<Self>, stream: Stream) -> Result<(), Failure> {
        let client = Client::new(TlsFiles::default());
        loop {
            let begun = Instant::now();
            // The version of before the answer: a change that comes between the two is seen by the wait.
            let version = self.version(&client).await;
            stream.tell(self.look(&client).await.map_err(Failure::new)?);
            match version {
                Some(version) => self.wait(&client, &version).await.map_err(Failure::new)?,
                None => sleep(self.pace.interval).await,
            }
            sleep_until(begun + REST).await;
        }
    }

    async fn look(&self, client: &Client) -> Result<Answer, String> {
        let mut paths: Vec<String> = Vec::new();
        for service in &self.services {
            paths.push(match service.split_once('/') {
                Some((stack, service)) => format!("stacks/{stack}/services/{service}"),
                None => format!("self/stack/services/{service}"),
            });
        }
        if paths.is_empty() {
            paths.push("self/service".to_owned());
        }
        let mut hosts = Vec::new();
        for path in paths {
            let body = self.get(client, &path).await.map_err(|error| match error.status() {
                Some(404) => {
                    format!("Rancher knows no {path}: is that the service's name, is this container in a service?")
                }
                Some(_) | None => format!("Rancher's metadata: {error}"),
            })?;
            let service: Service = serde_json::from_slice(&body)
                .map_err(|error| format!("the answer for {path} is not Rancher's: {error}"))?;
            hosts.extend(service.containers.into_iter().map(Container::host));
        }
        Ok(self.naming.answer(hosts))
    }

    async fn get(&self, client: &Client, path: &str) -> Result<hyper::body::Bytes, HttpError> {
        let request = Request::get(&format!("{}/{API}/{path}", self.address)).within(self.pace.timeout);
        Ok(client.send(request.header("accept", "application/json")).await?.success()?.body)
    }

    /// The version of all metadata, where the service tells one.
    async fn version(&self, client: &Client) -> Option<String> {
        let body = self.get(client, "version").await.ok()?;
        let text = String::from_utf8_lossy(&body);
        let text = text.trim().trim_matches('"');
        let plain = !text.is_empty()
            && text.len() <= 64
            && text.chars().all(|letter| letter.is_ascii_alphanumeric() || letter == '-');
        plain.then(|| text.to_owned())
    }

    /// Waits for another version.
    async fn wait(&self, client: &Client, version: &str) -> Result<(), String> {
        let seconds = self.pace.interval.as_secs().max(1);
        let url = format!("{}/{API}/version?wait=true&value={version}&maxWait={seconds}", self.address);
        let within = tokio::time::Duration::from_secs(seconds) + self.pace.timeout;
        let answer = client.send(Request::get(&url).within(within)).await;
        answer.and_then(crate::http::Answer::success).map(drop).map_err(|error| format!("Rancher's metadata: {error}"))
    }
}

impl Strategy for Rancher {
    fn run(self: Arc<Self>, feed: Feed) -> Work {
        Box::pin(async move { watch(&feed, |stream| Arc::clone(&self).follow(stream)).await })
    }
}
