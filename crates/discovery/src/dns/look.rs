//! One look-up of all names: which records are asked for, what becomes a host, and what stands in for a question that
//! failed.
//!
//! Invariant: a question that fails has the answer that it had last, as long as another one is answered. If none is, the
//! look-up fails.

use std::{collections::BTreeMap, net::IpAddr, sync::Arc};

use metacluster_types::Host;
use tokio::{
    sync::{Mutex, Semaphore},
    task::JoinSet,
    time::Duration,
};

use super::{
    Dns, NAMED_MAX, RecordKind,
    resolver::{Kind, Records, ResolveError, Resolver, Target},
};
use crate::{Failure, naming::Addresses, poll::Found};

/// How many questions are open at the same moment.
const AT_ONCE: usize = 32;
/// How many targets of SRV records are resolved.
const TARGETS_MAX: usize = 2048;
/// The service whose SRV records name the ports of agents.
const AGENTS: &str = "_metacluster.";

/// A question.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Question {
    name: String,
    kind: Kind,
}

/// The last good answer to each question.
#[derive(Debug, Default)]
pub(super) struct Memory {
    answers: BTreeMap<Question, Records>,
}

/// What became of the questions of one look-up.
#[derive(Debug, Default)]
struct Round {
    answers: BTreeMap<Question, Records>,
    failures: BTreeMap<Question, ResolveError>,
    ttl: Option<Duration>,
}

/// Looks all names up once.
pub(super) async fn look_up(dns: Arc<Dns>, memory: Arc<Mutex<Memory>>) -> Result<Found, Failure> {
    let resolver = Resolver::new(&dns.servers, dns.pace.timeout).map_err(|error| Failure::new(error.to_string()))?;
    let mut memory = memory.lock().await;
    let mut round = Round::default();
    round.ask(&resolver, dns.questions(), &mut memory).await;
    if round.answers.is_empty() {
        return Err(Failure::new(round.failed()));
    }
    let more = round.questions_of_targets(dns.naming.addresses());
    round.ask(&resolver, more, &mut memory).await;
    memory.forget_all_but(&round);

    let mut answer = dns.naming.answer(dns.hosts(&round, &memory));
    if !round.failures.is_empty() {
        answer.notes.push(format!("{}; what it had before stands", round.failed()));
    }
    Ok(Found { answer, again: Some(dns.wait(round.ttl)) })
}

impl Round {
    /// Asks, each question on its own. What one takes too long for costs no other one its answer.
    async fn ask(&mut self, resolver: &Resolver, questions: Vec<Question>, memory: &mut Memory) {
        let gate = Arc::new(Semaphore::new(AT_ONCE));
        let mut asked = JoinSet::new();
        for question in questions {
            let (resolver, gate) = (resolver.clone(), Arc::clone(&gate));
            asked.spawn(async move {
                // The gate is never closed, and a question that goes through without it does no harm.
                let _permit = gate.acquire().await.ok();
                let outcome = resolver.ask(&question.name, question.kind).await;
                (question, outcome)
            });
        }
        while let Some(joined) = asked.join_next().await {
            match joined {
                Ok((question, Ok(records))) => {
                    self.ttl = Some(self.ttl.map_or(records.ttl, |ttl| ttl.min(records.ttl)));
                    memory.answers.insert(question.clone(), records.clone());
                    self.answers.insert(question, records);
                }
                Ok((question, Err(error))) => drop(self.failures.insert(question, error)),
                Err(error) => tracing::error!(%error, "a question to a DNS server panicked"),
            }
        }
    }

    fn targets(&self) -> impl Iterator<Item = (&Question, &Target)> {
        self.answers.iter().flat_map(|(question, records)| records.targets.iter().map(move |target| (question, target)))
    }

    /// The addresses of the targets that SRV records name.
    fn questions_of_targets(&self, addresses: Addresses) -> Vec<Question> {
        let kinds: &[Kind] = match addresses {
            Addresses::Private | Addresses::Public => &[Kind::A, Kind::Aaaa],
            Addresses::Ipv6 => &[Kind::Aaaa],
        };
        let mut names: Vec<String> = self.targets().map(|(_, target)| format!("{}.", target.name)).collect();
        names.sort_unstable();
        names.dedup();
        names.truncate(TARGETS_MAX);
        let question = |name: String| kinds.iter().map(move |&kind| Question { name: name.clone(), kind });
        names.into_iter().flat_map(question).collect()
    }

    /// A line of what failed.
    fn failed(&self) -> String {
        let mut lines: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for (question, error) in &self.failures {
            lines.entry(error.to_string()).or_default().push(format!("`{}` {}", question.name, question.kind));
        }
        let line = |(error, questions): (String, Vec<String>)| {
            let more = questions.len().saturating_sub(NAMED_MAX);
            let more = if more > 0 { format!(" and {more} more") } else { String::new() };
            let named: Vec<String> = questions.into_iter().take(NAMED_MAX).collect();
            format!("{}{more}: {error}", named.join(", "))
        };
        lines.into_iter().map(line).collect::<Vec<_>>().join("; ")
    }
}

impl Memory {
    /// What a question has at present: its answer, or its last one if it failed.
    fn records(&self, round: &Round, question: &Question) -> Option<&Records> {
        let asked = round.answers.contains_key(question) || round.failures.contains_key(question);
        self.answers.get(question).filter(|_| asked)
    }

    /// Forgets questions that are asked no more, such as those of targets that are gone. The targets of an SRV question
    /// that failed stand, and so do their addresses.
    fn forget_all_but(&mut self, round: &Round) {
        let srv_failed = round.failures.keys().any(|question| question.kind == Kind::Srv);
        self.answers.retain(|question, _| {
            srv_failed || round.answers.contains_key(question) || round.failures.contains_key(question)
        });
    }
}

impl Dns {
    fn questions(&self) -> Vec<Question> {
        let mut questions = Vec::new();
        for name in &self.queries {
            let kinds: &[Kind] = match (self.kind, self.naming.addresses()) {
                (RecordKind::A, _) => &[Kind::A],
                (RecordKind::Aaaa, _) => &[Kind::Aaaa],
                (RecordKind::Srv, _) => &[Kind::Srv],
                (RecordKind::Auto, _) if name.starts_with('_') => &[Kind::Srv],
                (RecordKind::Auto, Addresses::Ipv6) => &[Kind::Aaaa],
                (RecordKind::Auto, Addresses::Private | Addresses::Public) => &[Kind::A, Kind::Aaaa],
            };
            questions.extend(kinds.iter().map(|&kind| Question { name: name.clone(), kind }));
        }
        questions
    }

    /// The hosts that the records name.
    fn hosts(&self, round: &Round, memory: &Memory) -> Vec<Host> {
        let mut hosts = Vec::new();
        for name in &self.queries {
            let records = |kind| {
                let question = Question { name: name.clone(), kind };
                memory.records(round, &question)
            };
            let addresses = |kind| records(kind).map(|records| records.addresses.as_slice()).unwrap_or_default();
            // The A and AAAA records of one name are those of the same hosts, and nothing tells which belong together.
            let list = if addresses(Kind::A).is_empty() { addresses(Kind::Aaaa) } else { addresses(Kind::A) };
            hosts.extend(list.iter().map(|&address| self.host_at(name, address)));
            for target in records(Kind::Srv).map(|records| records.targets.as_slice()).unwrap_or_default() {
                hosts.push(self.host_of(name, target, memory));
            }
        }
        hosts
    }

    fn host_at(&self, query: &str, address: IpAddr) -> Host {
        let tags = [("query".to_owned(), query.trim_end_matches('.').to_owned())].into();
        Host { addresses: vec![address], tags, ..Host::default() }
    }

    fn host_of(&self, query: &str, target: &Target, memory: &Memory) -> Host {
        let full = format!("{}.", target.name);
        let known = [Kind::A, Kind::Aaaa].into_iter().filter_map(|kind| {
            memory.answers.get(&Question { name: full.clone(), kind }).map(|records| records.addresses.as_slice())
        });
        let tags = [
            ("query", query.trim_end_matches('.').to_owned()),
            ("port", target.port.to_string()),
            ("priority", target.priority.to_string()),
            ("weight", target.weight.to_string()),
        ];
        Host {
            name: Some(target.name.clone()),
            addresses: known.flatten().copied().collect(),
            port: query.starts_with(AGENTS).then_some(target.port),
            tags: tags.map(|(key, value)| (key.to_owned(), value)).into(),
            ..Host::default()
        }
    }
}
