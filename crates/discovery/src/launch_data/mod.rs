//! `launch-data`: the hosts that were named when this one was launched, in its user data, its environment, a file or the
//! kernel command line.
//!
//! [`sources`] reads the places, [`grammar`] the texts. All places are read again at each interval, so that a file may be
//! changed. Seeds are only where to begin: they are told to membership as hosts, and one of them that answers is enough to
//! learn of all others, so a dead first seed does no harm.
//!
//! Invariants: a place that fails keeps what it said, and while no place has seeds the look-up fails; a name that does not
//! resolve keeps the addresses that it had.

mod grammar;
mod sources;
#[cfg(test)]
mod tests;

use std::{
    collections::BTreeMap,
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError},
};

use metacluster_types::Host;
use tokio::{net::lookup_host, task::JoinSet, time::timeout};

use self::{
    grammar::{Seed, Seeds},
    sources::Place,
};
use crate::{
    Feed, Strategy,
    feed::Work,
    naming::{Gives, Naming},
    poll::{Failure, Found, Pace, Poll},
    settings::{Absent, Key, Kind, Reader},
};

const USER_DATA: &str = "user-data";
const ENVIRONMENT: &str = "environment";
const FILE: &str = "file";
const KERNEL: &str = "kernel";
/// More addresses of one seed are not taken.
const ADDRESSES_MAX: usize = 64;
/// The part of a look-up's time that names have to resolve.
const RESOLVE_SHARE: f64 = 0.5;

pub(crate) const KEYS: &[Key] = &[
    Key {
        name: "from",
        kind: Kind::Texts,
        absent: Absent::Unset("the variable, the kernel command line, `path` if given, and on EC2 the user data"),
        doc: "Where seeds are looked for: `user-data`, `environment`, `file`, `kernel`, or several of them",
    },
    Key { name: "path", kind: Kind::Path, absent: Absent::Unset("none"), doc: "The file of seeds" },
    Key {
        name: "variable",
        kind: Kind::Text,
        absent: Absent::Default("METACLUSTER_SEEDS"),
        doc: "The variable of seeds",
    },
    Pace::interval("5s"),
    Pace::timeout("10s"),
];

/// The strategy with its settings.
#[derive(Clone, Debug)]
struct LaunchData {
    places: Vec<Place>,
    pace: Pace,
    naming: Naming,
}

pub(crate) fn make(reader: &mut Reader<'_>) -> Box<dyn Strategy> {
    Box::new(LaunchData::read(reader))
}

impl LaunchData {
    fn read(reader: &mut Reader<'_>) -> Self {
        let given = reader.is_given("from");
        let from = reader.texts("from");
        let path = reader.path("path");
        let variable = reader.text("variable").unwrap_or_default();
        if variable.contains(['=', '\0']) {
            reader.fault("variable", "is no name of a variable");
        }
        let wanted = |word: &str| !given || from.iter().any(|from| from == word);
        let mut places = Vec::new();
        if wanted(ENVIRONMENT) {
            places.push(Place::Environment { name: variable, sure: given });
        }
        if wanted(KERNEL) {
            places.push(Place::kernel());
        }
        match path {
            Some(path) if wanted(FILE) => places.push(Place::File { path }),
            Some(_) => reader.fault("path", "is given, and `from` does not name `file`"),
            None if given && wanted(FILE) => reader.fault("path", "is missing: the file that `from` names"),
            None => {}
        }
        if wanted(USER_DATA) {
            places.push(Place::user_data(given));
        }
        for word in from.iter().filter(|word| ![USER_DATA, ENVIRONMENT, FILE, KERNEL].contains(&word.as_str())) {
            let message = format!("`{word}` is no place; there are {USER_DATA}, {ENVIRONMENT}, {FILE} and {KERNEL}");
            reader.fault("from", &message);
        }
        Self { places, pace: Pace::read(reader), naming: Naming::read(reader, Gives::Hosts) }
    }
}

impl Strategy for LaunchData {
    fn run(self: Arc<Self>, feed: Feed) -> Work {
        Box::pin(async move {
            let known = Arc::new(Mutex::new(Known::default()));
            let look = || Arc::clone(&self).look(Arc::clone(&known));
            let asked: Vec<String> = self.places.iter().map(Place::asked).collect();
            Poll::new(self.pace).asks(asked.join(", ")).run(&feed, look).await;
        })
    }
}

/// What was known at the last look.
#[derive(Debug, Default)]
struct Known {
    /// What each place said.
    said: BTreeMap<usize, Seeds>,
    addresses: BTreeMap<Seed, Vec<IpAddr>>,
}

impl LaunchData {
    async fn look(self: Arc<Self>, known: Arc<Mutex<Known>>) -> Result<Found, Failure> {
        let lock = || known.lock().unwrap_or_else(PoisonError::into_inner);
        let (mut notes, mut fresh) = (Vec::new(), false);
        for (at, place) in self.places.iter().enumerate() {
            match place.read().await {
                Ok(Some(text)) => {
                    let seeds = Seeds::read(&text, place.form());
                    fresh |= !seeds.seeds.is_empty();
                    lock().said.insert(at, seeds);
                }
                Ok(None) => drop(lock().said.remove(&at)),
                Err(line) => notes.push(line),
            }
        }
        let mut seeds: Vec<Seed> = Vec::new();
        for (&at, said) in &lock().said {
            seeds.extend(said.seeds.iter().cloned());
            let place = self.places.get(at).map(Place::describe).unwrap_or_default();
            notes.extend(said.faults.iter().map(|fault| format!("{place}: {fault}")));
        }
        seeds.sort();
        seeds.dedup();
        if seeds.is_empty() {
            return Err(Failure::new(self.nothing(&notes)));
        }
        // What no place says now is no answer.
        if !fresh {
            return Err(Failure::new(format!("{}; the seeds that were known stand", notes.join("; "))));
        }
        let (hosts, unresolved) = self.resolve(seeds, &known).await;
        notes.extend(unresolved);
        if hosts.iter().all(|host| host.addresses.is_empty()) {
            return Err(Failure::new(notes.join("; ")));
        }
        let mut answer = self.naming.answer(hosts);
        answer.notes.extend(notes);
        Ok(Found::from(answer))
    }

    fn nothing(&self, notes: &[String]) -> String {
        let places: Vec<String> = self.places.iter().map(Place::describe).collect();
        let why = if notes.is_empty() { String::new() } else { format!(" ({})", notes.join("; ")) };
        format!("no seeds in {}{why}: give one such as seed=10.0.0.4", places.join(", "))
    }

    /// The hosts of seeds, and a line for each name that does not resolve.
    async fn resolve(&self, seeds: Vec<Seed>, known: &Mutex<Known>) -> (Vec<Host>, Vec<String>) {
        let within = self.pace.timeout.mul_f64(RESOLVE_SHARE);
        let mut looks = JoinSet::new();
        let (mut found, mut lines) = (BTreeMap::new(), BTreeMap::new());
        for seed in &seeds {
            if let Ok(address) = seed.host.parse::<IpAddr>() {
                found.insert(seed.clone(), vec![address]);
                continue;
            }
            let seed = seed.clone();
            looks.spawn(async move {
                let looked = match timeout(within, lookup_host((seed.host.as_str(), 0))).await {
                    Ok(Ok(found)) => Ok(found.map(|at| at.ip()).take(ADDRESSES_MAX).collect::<Vec<IpAddr>>()),
                    Ok(Err(error)) => Err(format!("the seed {} does not resolve: {error}", seed.host)),
                    Err(_) => Err(format!("the seed {} does not resolve in time", seed.host)),
                };
                (seed, looked)
            });
        }
        while let Some(looked) = looks.join_next().await {
            match looked {
                Ok((seed, Ok(addresses))) => drop(found.insert(seed, addresses)),
                Ok((seed, Err(line))) => drop(lines.insert(seed, line)),
                Err(error) => tracing::error!(%error, "a look-up of a seed failed"),
            }
        }
        let mut known = known.lock().unwrap_or_else(PoisonError::into_inner);
        known.addresses.retain(|seed, _| seeds.contains(seed));
        known.addresses.extend(found);
        let host = |seed: &Seed| Host {
            name: seed.host.parse::<IpAddr>().is_err().then(|| seed.host.clone()),
            addresses: known.addresses.get(seed).cloned().unwrap_or_default(),
            port: seed.port,
            ..Host::default()
        };
        (seeds.iter().map(host).collect(), lines.into_values().collect())
    }
}
