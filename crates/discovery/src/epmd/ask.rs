//! Asks the epmds of some hosts again and again, in parallel, and keeps what each said last.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
};

use metacluster_erl::epmd::client;
use rand::RngExt;
use tokio::{
    net::lookup_host,
    task::JoinSet,
    time::{Duration, Instant, sleep_until, timeout},
};

/// How many hosts are asked; those above are left out, with a line in the log.
pub(crate) const HOSTS_MAX: usize = 1024;
/// How many are asked at the same moment.
const AT_ONCE: usize = 32;
/// The longest wait before a host that does not answer is asked again, unless the interval is longer still.
const BACKOFF_MAX: Duration = Duration::from_secs(5);
/// The time for one question, with the look-up of the host's address.
const PATIENCE: Duration = Duration::from_secs(3);
/// How long an address is used before it is looked up again.
const ADDRESS_KEPT: Duration = Duration::from_secs(30);
/// Addresses of one host that are tried.
const ADDRESSES_MAX: usize = 4;
/// Names of one host that are kept.
const NAMES_MAX: usize = 4096;

/// What is known of one host.
#[derive(Debug)]
struct Host {
    due: Instant,
    backoff: Duration,
    asking: bool,
    /// What it said last; kept while it is silent.
    names: BTreeSet<String>,
    state: State,
    /// Where it answered last, and since when that address is used.
    address: Option<(SocketAddr, Instant)>,
}

#[derive(Debug)]
enum State {
    Unasked,
    Answers,
    Silent(String),
}

/// One answer that was worth telling.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) host: String,
    /// Names that are registered anew: they were not there before, or the host was silent before. None of the first
    /// answer are.
    pub(crate) anew: BTreeSet<String>,
}

type Asked = (String, Result<(Vec<(String, u16)>, SocketAddr), String>);

/// The asker. Dropping it ends its questions.
#[derive(Debug)]
pub(crate) struct Asker {
    port: u16,
    interval: Duration,
    hosts: BTreeMap<String, Host>,
    asking: JoinSet<Asked>,
}

impl Asker {
    pub(crate) fn new(port: u16, interval: Duration) -> Self {
        Self { port, interval, hosts: BTreeMap::new(), asking: JoinSet::new() }
    }

    /// Says whom to ask. Hosts that stay keep what they said.
    pub(crate) fn set_hosts(&mut self, mut hosts: BTreeSet<String>) {
        if hosts.len() > HOSTS_MAX {
            tracing::warn!(hosts = hosts.len(), limit = HOSTS_MAX, "too many hosts: the last ones are not asked");
            hosts = hosts.into_iter().take(HOSTS_MAX).collect();
        }
        self.hosts.retain(|host, _| hosts.contains(host));
        for host in hosts {
            self.hosts.entry(host).or_insert_with(|| Host {
                due: Instant::now(),
                backoff: self.interval,
                asking: false,
                names: BTreeSet::new(),
                state: State::Unasked,
                address: None,
            });
        }
    }

    /// Asks every host now.
    pub(crate) fn hurry(&mut self) {
        let now = Instant::now();
        for host in self.hosts.values_mut() {
            host.due = host.due.min(now);
        }
    }

    /// What each host said last.
    pub(crate) fn names(&self) -> impl Iterator<Item = (&str, &BTreeSet<String>)> {
        self.hosts.iter().map(|(host, known)| (host.as_str(), &known.names))
    }

    /// Whether each host was asked at least once.
    pub(crate) fn all_asked(&self) -> bool {
        self.hosts.values().all(|host| !matches!(host.state, State::Unasked))
    }

    /// A line that says why, if no host answers at all.
    pub(crate) fn all_silent(&self) -> Option<String> {
        let mut lines = Vec::new();
        for (name, host) in &self.hosts {
            match &host.state {
                State::Silent(line) => lines.push(format!("{name}: {line}")),
                State::Unasked | State::Answers => return None,
            }
        }
        match lines.len() {
            0 => None,
            1 => lines.pop(),
            count => Some(format!("none of {count} hosts answers; the first is {}", lines[0])),
        }
    }

    /// Asks on until a host has answered or fallen silent. Safe to cancel. Without a host it waits for ever.
    pub(crate) async fn next(&mut self) -> Answer {
        loop {
            self.ask_those_due();
            let due = self.hosts.values().filter(|host| !host.asking).map(|host| host.due).min();
            let room = self.asking.len() < AT_ONCE;
            tokio::select! {
                Some(asked) = self.asking.join_next() => match asked {
                    Ok((host, outcome)) => if let Some(answer) = self.take(host, outcome) { return answer },
                    Err(error) => tracing::error!(%error, "a question to an epmd failed"),
                },
                () = async { sleep_until(due.unwrap_or_else(Instant::now)).await }, if room && due.is_some() => {}
                else => std::future::pending().await,
            }
        }
    }

    fn ask_those_due(&mut self) {
        let now = Instant::now();
        for (name, host) in &mut self.hosts {
            if self.asking.len() >= AT_ONCE {
                break;
            }
            if host.asking || host.due > now {
                continue;
            }
            host.asking = true;
            let (name, port) = (name.clone(), self.port);
            let address = host.address.filter(|(_, since)| since.elapsed() < ADDRESS_KEPT).map(|(address, _)| address);
            self.asking.spawn(async move {
                let asked = timeout(PATIENCE, ask(&name, port, address)).await;
                let outcome = asked.unwrap_or_else(|_| {
                    Err(format!("its epmd did not answer within {} s: host down, or a firewall", PATIENCE.as_secs()))
                });
                (name, outcome)
            });
        }
    }

    /// Keeps what a host said. `None` when the host is not wanted any more.
    fn take(&mut self, name: String, outcome: Result<(Vec<(String, u16)>, SocketAddr), String>) -> Option<Answer> {
        let host = self.hosts.get_mut(&name)?;
        host.asking = false;
        let spread = rand::rng().random_range(0.9..1.1);
        let anew = match outcome {
            Ok((names, address)) => {
                host.due = Instant::now() + self.interval.mul_f64(spread);
                host.backoff = self.interval;
                let since = host.address.filter(|(kept, since)| *kept == address && since.elapsed() < ADDRESS_KEPT);
                host.address = Some(since.unwrap_or_else(|| (address, Instant::now())));
                let names: BTreeSet<String> = names.into_iter().take(NAMES_MAX).map(|(name, _)| name).collect();
                let anew = match host.state {
                    State::Unasked => BTreeSet::new(),
                    State::Answers => names.difference(&host.names).cloned().collect(),
                    State::Silent(_) => {
                        tracing::info!(host = name, "its epmd answers again");
                        names.clone()
                    }
                };
                host.names = names;
                host.state = State::Answers;
                anew
            }
            Err(line) => {
                host.backoff = (host.backoff * 2).min(BACKOFF_MAX.max(self.interval));
                host.due = Instant::now() + host.backoff.mul_f64(spread);
                host.address = None;
                if !matches!(host.state, State::Silent(_)) {
                    tracing::info!(host = name, reason = line, "its epmd does not answer");
                }
                host.state = State::Silent(line);
                BTreeSet::new()
            }
        };
        Some(Answer { host: name, anew })
    }
}

/// Asks one host, at the address that worked before or at each that its name has.
async fn ask(host: &str, port: u16, known: Option<SocketAddr>) -> Result<(Vec<(String, u16)>, SocketAddr), String> {
    let addresses: Vec<SocketAddr> = match known {
        Some(address) => vec![address],
        None => match lookup_host((host, port)).await {
            Ok(addresses) => addresses.take(ADDRESSES_MAX).collect(),
            Err(error) => return Err(format!("no address is known for it: {error}")),
        },
    };
    let mut failure = "no address is known for it".to_owned();
    for address in addresses {
        match client::names(address).await {
            Ok(names) => return Ok((names, address)),
            Err(error) => failure = error.to_string(),
        }
    }
    Err(failure)
}
