//! Names of hosts and their addresses: looked up beside the members' task, kept for a while, never waited for.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    time::Duration,
};

use metacluster_types::Instant;
use tokio::{net::lookup_host, task::JoinSet, time::timeout};

/// So many names are kept; others are left out until one of these is no longer asked for.
const NAMES_MAX: usize = 1_024;
/// So many look-ups run at once.
const AT_ONCE: usize = 8;
/// So many addresses of one name are used.
const ADDRESSES_MAX: usize = 4;
/// How long one look-up may take.
const WITHIN: Duration = Duration::from_secs(5);
/// When a name is looked up again.
const AGAIN: Duration = Duration::from_secs(30);

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Resolver {
    names: BTreeMap<String, Entry>,
    running: JoinSet<(String, Vec<IpAddr>)>,
}

#[derive(Debug, Default)]
struct Entry {
    addresses: Vec<IpAddr>,
    asking: bool,
    next: Instant,
}

impl Resolver {
    /// What is known of a name.
    pub(super) fn addresses(&self, name: &str) -> &[IpAddr] {
        self.names.get(name).map_or(&[], |entry| entry.addresses.as_slice())
    }

    /// These names are of interest, and no others. What is not known or old is looked up.
    pub(super) fn want(&mut self, now: Instant, names: &BTreeSet<String>) {
        self.names.retain(|name, _| names.contains(name));
        for name in names {
            if self.names.len() < NAMES_MAX && !self.names.contains_key(name) {
                self.names.insert(name.clone(), Entry { next: now, ..Entry::default() });
            }
        }
        self.look_up(now);
    }

    fn look_up(&mut self, now: Instant) {
        for (name, entry) in &mut self.names {
            if self.running.len() >= AT_ONCE {
                return;
            }
            if entry.asking || entry.next > now {
                continue;
            }
            (entry.asking, entry.next) = (true, now + AGAIN);
            let name = name.clone();
            self.running.spawn(async move {
                let addresses = timeout(WITHIN, addresses(&name)).await.unwrap_or_default();
                (name, addresses)
            });
        }
    }

    /// When a name is to be looked up again.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let free = self.running.len() < AT_ONCE;
        self.names.values().filter(|entry| free && !entry.asking).map(|entry| entry.next).min()
    }

    /// Looks up what is old.
    pub(super) fn wake(&mut self, now: Instant) {
        self.look_up(now);
    }

    /// Resolves when a look-up has ended; says whether it changed anything. Cancel safe; with none on its way it never
    /// resolves. A look-up that failed leaves what was known.
    pub(super) async fn resolved(&mut self) -> bool {
        match self.running.join_next().await {
            Some(Ok((name, addresses))) => {
                let Some(entry) = self.names.get_mut(&name) else { return false };
                entry.asking = false;
                let changed = !addresses.is_empty() && entry.addresses != addresses;
                if changed {
                    entry.addresses = addresses;
                }
                changed
            }
            // A look-up that panicked: its name is asked again when it is wanted anew.
            Some(Err(_)) => false,
            None => std::future::pending().await,
        }
    }
}

/// The addresses of a name; none when it has none, or nobody knows.
async fn addresses(name: &str) -> Vec<IpAddr> {
    match lookup_host((name, 0)).await {
        Ok(found) => found.map(|address| address.ip().to_canonical()).take(ADDRESSES_MAX).collect(),
        Err(_) => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(names: &[&str]) -> BTreeSet<String> {
        names.iter().map(|&name| name.to_owned()).collect()
    }

    #[tokio::test]
    async fn a_name_is_looked_up_kept_and_forgotten() {
        let mut resolver = Resolver::default();
        resolver.want(Instant::ZERO, &names(&["localhost"]));
        assert!(resolver.addresses("localhost").is_empty());
        assert!(resolver.resolved().await);
        assert!(resolver.addresses("localhost").iter().any(IpAddr::is_loopback));
        assert_eq!(resolver.deadline(), Some(Instant::ZERO + AGAIN));
        resolver.want(Instant::ZERO + AGAIN, &names(&["localhost"]));
        assert!(!resolver.resolved().await, "the same again");
        resolver.want(Instant::ZERO, &names(&[]));
        assert!(resolver.addresses("localhost").is_empty());
    }

    #[tokio::test]
    async fn many_names_are_bounded_and_few_run_at_once() {
        let mut resolver = Resolver::default();
        let many: BTreeSet<String> = (0..NAMES_MAX + 100).map(|n| format!("127.0.{}.{}", n / 256, n % 256)).collect();
        resolver.want(Instant::ZERO, &many);
        assert_eq!((resolver.names.len(), resolver.running.len()), (NAMES_MAX, AT_ONCE));
    }
}
