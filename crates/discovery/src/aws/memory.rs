//! What was known of hosts that are about to be told as ended.
//!
//! A provider soon forgets the addresses of what it ended, and an ended host fits few filters any more. So the last look
//! at each living host is kept: one that is missing from an answer is asked for by its id, and one that has ended is told
//! with the addresses that it had, for [`TOLD`], so that its member can be found.
//!
//! Invariants: an address that a living host has is never told of an ended one; at most [`KNOWN_MAX`] hosts are kept.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use metacluster_types::{Host, HostState};
use tokio::time::{Duration, Instant};

/// For how long an ended host is told after the source says no more of it.
const TOLD: Duration = Duration::from_secs(600);
/// More hosts are not kept; those beyond are told as the source tells them.
const KNOWN_MAX: usize = 20_000;
/// How often a missing host is asked for before it is forgotten. A new one may be missing from an answer.
const MISSED_MAX: u8 = 3;

/// The hosts of one source that live or have ended of late, by their ids.
#[derive(Debug, Default)]
pub(super) struct Memory {
    living: BTreeMap<String, Known>,
    ended: BTreeMap<String, (Host, Instant)>,
}

#[derive(Debug)]
struct Known {
    host: Host,
    missed: u8,
}

impl Memory {
    /// The ids of living hosts that an answer does not have, at most `most`.
    pub(super) fn missing(&self, answer: &BTreeSet<String>, most: usize) -> Vec<String> {
        self.living.keys().filter(|id| !answer.contains(*id)).take(most).cloned().collect()
    }

    /// Takes an answer and what was found out about `asked`, which were missing from it, and gives what to tell. Of those
    /// asked for, only the ended are told: one that lives does not fit the filters any more.
    pub(super) fn take(&mut self, answer: Vec<Host>, asked: &[String], found: Vec<Host>, now: Instant) -> Vec<Host> {
        let mut found: BTreeMap<String, Host> =
            found.into_iter().filter_map(|host| Some((host.instance.clone()?, host))).collect();
        let mut hosts = answer;
        for id in asked {
            match (found.remove(id), self.living.get_mut(id)) {
                (Some(host), Some(_)) if host.state == HostState::Terminated => hosts.push(host),
                // It is on its way out and stays to be asked for.
                (Some(host), Some(_)) if host.state == HostState::Terminating => hosts.push(host),
                (None, Some(known)) if known.missed < MISSED_MAX => known.missed += 1,
                (Some(_) | None, Some(_)) => drop(self.living.remove(id)),
                (Some(_) | None, None) => {}
            }
        }
        let taken: BTreeSet<IpAddr> = hosts
            .iter()
            .filter(|host| host.state != HostState::Terminated)
            .flat_map(|host| host.addresses.iter().copied())
            .collect();
        for host in &mut hosts {
            self.learn(host, &taken, now);
        }
        self.ended.retain(|_, (_, until)| now < *until);
        let told: BTreeSet<String> = hosts.iter().filter_map(|host| host.instance.clone()).collect();
        for (id, (host, _)) in &mut self.ended {
            if !told.contains(id) {
                host.addresses.retain(|address| !taken.contains(address));
                hosts.push(host.clone());
            }
        }
        hosts
    }

    fn learn(&mut self, host: &mut Host, taken: &BTreeSet<IpAddr>, now: Instant) {
        let Some(id) = host.instance.clone() else { return };
        if host.state != HostState::Terminated {
            if self.living.len() < KNOWN_MAX || self.living.contains_key(&id) {
                // One that is about to go may have lost its addresses already.
                if host.addresses.is_empty()
                    && let Some(known) = self.living.get(&id)
                {
                    let had = known.host.addresses.iter().filter(|address| !taken.contains(address));
                    host.addresses = had.copied().collect();
                }
                self.living.insert(id, Known { host: host.clone(), missed: 0 });
            }
            return;
        }
        let known = self.living.remove(&id).map(|known| known.host);
        let known = known.or_else(|| self.ended.get(&id).map(|(host, _)| host.clone()));
        if let Some(known) = known {
            if host.addresses.is_empty() {
                host.addresses = known.addresses;
            }
            host.name = host.name.take().or(known.name);
            host.port = host.port.or(known.port);
            host.place.zone = host.place.zone.take().or(known.place.zone);
            host.place.region = host.place.region.take().or(known.place.region);
        }
        host.addresses.retain(|address| !taken.contains(address));
        if self.ended.len() < KNOWN_MAX || self.ended.contains_key(&id) {
            self.ended.insert(id, (host.clone(), now + TOLD));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(id: &str, state: HostState, addresses: &[&str]) -> Host {
        let addresses = addresses.iter().map(|text| text.parse().expect("an address")).collect();
        Host { instance: Some(id.to_owned()), addresses, state, ..Host::default() }
    }

    fn told(hosts: &[Host]) -> Vec<(String, HostState, Vec<String>)> {
        let of = |host: &Host| {
            let addresses = host.addresses.iter().map(ToString::to_string).collect();
            (host.instance.clone().expect("an id"), host.state, addresses)
        };
        hosts.iter().map(of).collect()
    }

    fn entry(id: &str, state: HostState, addresses: &[&str]) -> (String, HostState, Vec<String>) {
        (id.to_owned(), state, addresses.iter().map(|&it| it.to_owned()).collect())
    }

    use HostState::{Running, Terminated, Terminating};

    #[test]
    fn an_ended_host_is_told_with_the_addresses_that_it_had() {
        let (mut memory, now) = (Memory::default(), Instant::now());
        memory.take(vec![host("i-1", Running, &["10.0.0.1"])], &[], Vec::new(), now);
        let hosts = memory.take(vec![host("i-1", Terminated, &[])], &[], Vec::new(), now);
        assert_eq!(told(&hosts), [entry("i-1", Terminated, &["10.0.0.1"])]);
        // The source forgets it; it is told for a while yet.
        let hosts = memory.take(Vec::new(), &[], Vec::new(), now + TOLD / 2);
        assert_eq!(told(&hosts), [entry("i-1", Terminated, &["10.0.0.1"])]);
        assert_eq!(memory.take(Vec::new(), &[], Vec::new(), now + TOLD * 2), []);
    }

    #[test]
    fn an_address_that_is_used_again_is_never_told_of_the_dead() {
        let (mut memory, now) = (Memory::default(), Instant::now());
        memory.take(vec![host("i-1", Running, &["10.0.0.1"])], &[], Vec::new(), now);
        let both = vec![host("i-1", Terminated, &[]), host("i-2", Running, &["10.0.0.1"])];
        let hosts = memory.take(both, &[], Vec::new(), now);
        assert_eq!(told(&hosts), [entry("i-1", Terminated, &[]), entry("i-2", Running, &["10.0.0.1"])]);
        // Nor later, when a new host gets it.
        memory.take(vec![host("i-3", Running, &["10.0.0.3"])], &[], Vec::new(), now);
        memory.take(vec![host("i-3", Terminated, &[])], &[], Vec::new(), now);
        let hosts = memory.take(vec![host("i-4", Running, &["10.0.0.3"])], &[], Vec::new(), now);
        assert!(told(&hosts).contains(&entry("i-3", Terminated, &[])), "{hosts:?}");
    }

    #[test]
    fn what_is_missing_from_an_answer_is_asked_for_by_its_id() {
        let (mut memory, now) = (Memory::default(), Instant::now());
        let known = vec![host("i-1", Running, &["10.0.0.1"]), host("i-2", Running, &["10.0.0.2"])];
        memory.take(known, &[], Vec::new(), now);
        let answer = vec![host("i-2", Running, &["10.0.0.2"])];
        let asked = memory.missing(&["i-2".to_owned()].into(), 200);
        assert_eq!(asked, ["i-1"]);
        let hosts = memory.take(answer, &asked, vec![host("i-1", Terminated, &[])], now);
        assert_eq!(told(&hosts), [entry("i-2", Running, &["10.0.0.2"]), entry("i-1", Terminated, &["10.0.0.1"])]);
        assert_eq!(memory.missing(&["i-2".to_owned()].into(), 200), Vec::<String>::new());
    }

    #[test]
    fn one_that_is_ending_stays_to_be_asked_for_until_it_has_ended() {
        let (mut memory, now) = (Memory::default(), Instant::now());
        memory.take(vec![host("i-1", Running, &["10.0.0.1"])], &[], Vec::new(), now);
        let asked = memory.missing(&[].into(), 200);
        let hosts = memory.take(Vec::new(), &asked, vec![host("i-1", Terminating, &[])], now);
        assert_eq!(told(&hosts), [entry("i-1", Terminating, &["10.0.0.1"])]);
        assert_eq!(memory.missing(&[].into(), 200), ["i-1"]);
        let hosts = memory.take(Vec::new(), &asked, vec![host("i-1", Terminated, &[])], now);
        assert_eq!(told(&hosts), [entry("i-1", Terminated, &["10.0.0.1"])]);
    }

    #[test]
    fn one_that_lives_and_fits_no_more_is_forgotten() {
        let (mut memory, now) = (Memory::default(), Instant::now());
        memory.take(vec![host("i-1", Running, &["10.0.0.1"])], &[], Vec::new(), now);
        let asked = memory.missing(&[].into(), 200);
        assert_eq!(memory.take(Vec::new(), &asked, vec![host("i-1", Running, &["10.0.0.1"])], now), []);
        assert_eq!(memory.missing(&[].into(), 200), Vec::<String>::new());
    }

    #[test]
    fn one_that_nobody_knows_is_asked_for_some_times_and_never_held_to_have_ended() {
        let (mut memory, now) = (Memory::default(), Instant::now());
        memory.take(vec![host("i-1", Running, &["10.0.0.1"])], &[], Vec::new(), now);
        for _ in 0..=MISSED_MAX {
            let asked = memory.missing(&[].into(), 200);
            assert_eq!(asked, ["i-1"]);
            assert_eq!(memory.take(Vec::new(), &asked, Vec::new(), now), []);
        }
        assert_eq!(memory.missing(&[].into(), 200), Vec::<String>::new());
    }
}
