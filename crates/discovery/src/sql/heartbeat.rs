//! Heartbeats by PostgreSQL's `NOTIFY`, as three libraries of the libcluster world send them; their nodes find us and are
//! found.
//!
//! | dialect | a sign of life | a goodbye | library |
//! |---|---|---|---|
//! | `supabase` | `NODE` | none | supabase/libcluster_postgres |
//! | `kevbuchanan` | `heartbeat::NODE` | none | kevbuchanan/libcluster_postgres |
//! | `firezone` | `heartbeat:NODE` | `goodbye:NODE` | firezone's `PostgresStrategy` |
//!
//! All are understood, whatever is spoken. Invariants: the table of peers has at most [`PEERS_MAX`]; while we cannot hear,
//! nobody grows old.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use metacluster_types::{Candidate, NodeName, SourceUpdate};
use rand::RngExt as _;
use tokio::{
    sync::watch,
    time::{Duration, Instant, sleep, sleep_until, timeout},
};

use super::{
    Plan, Where,
    error::SqlError,
    postgres::{Link, Purpose},
    table::Flavour,
};
use crate::{Feed, Local, poll::Backoff, run::GRACE};

/// The channel of kevbuchanan's and firezone's, unless told otherwise.
pub(super) const CHANNEL: &str = "cluster";
/// How many peers are kept; further ones are not taken until others are lost.
const PEERS_MAX: usize = 10_000;
/// How many heartbeats a peer may miss.
const MISSED_MAX: u32 = 3;
/// The longest interval that the libraries have by default.
const THEIR_INTERVAL: Duration = Duration::from_secs(5);
/// Newcomers are answered at once, but not more often than this.
const ANSWER_EVERY: Duration = Duration::from_secs(1);
/// How often silences are looked at.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// The longest wait between two attempts to connect.
const BACKOFF_MAX: Duration = Duration::from_secs(30);

/// Which payloads are spoken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Dialect {
    Supabase,
    Kevbuchanan,
    Firezone,
}

/// What a payload means.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Word {
    Alive(NodeName),
    Goodbye(NodeName),
}

impl Dialect {
    /// The words of the key.
    pub(super) const WORDS: &'static [&'static str] = &["supabase", "kevbuchanan", "firezone"];

    pub(super) fn of_word(word: &str) -> Option<Self> {
        match word {
            "supabase" => Some(Self::Supabase),
            "kevbuchanan" => Some(Self::Kevbuchanan),
            "firezone" => Some(Self::Firezone),
            _ => None,
        }
    }

    fn alive(self, node: &NodeName) -> String {
        match self {
            Self::Supabase => node.to_string(),
            Self::Kevbuchanan => format!("heartbeat::{node}"),
            Self::Firezone => format!("heartbeat:{node}"),
        }
    }

    fn goodbye(self, node: &NodeName) -> Option<String> {
        match self {
            Self::Supabase | Self::Kevbuchanan => None,
            Self::Firezone => Some(format!("goodbye:{node}")),
        }
    }

    /// Reads a payload of any dialect. One that is none is passed over.
    fn read(payload: &str) -> Option<Word> {
        if let Some(node) = payload.strip_prefix("goodbye:") {
            return NodeName::new(node).ok().map(Word::Goodbye);
        }
        let node =
            payload.strip_prefix("heartbeat::").or_else(|| payload.strip_prefix("heartbeat:")).unwrap_or(payload);
        NodeName::new(node).ok().map(Word::Alive)
    }
}

/// Who was heard, and when last.
#[derive(Debug, Default)]
struct Peers(BTreeMap<NodeName, Instant>);

impl Peers {
    /// Takes a sign of life. Says whether the node is new; `None` says that the table is full, and it was not taken.
    fn hear(&mut self, node: &NodeName, now: Instant) -> Option<bool> {
        if let Some(heard) = self.0.get_mut(node) {
            *heard = now;
            return Some(false);
        }
        if self.0.len() >= PEERS_MAX {
            return None;
        }
        self.0.insert(node.clone(), now);
        Some(true)
    }

    /// Forgets who was silent for longer than `silence`.
    fn expire(&mut self, now: Instant, silence: Duration) -> Vec<NodeName> {
        let gone: Vec<NodeName> =
            self.0.iter().filter(|(_, heard)| now - **heard > silence).map(|(node, _)| node.clone()).collect();
        for node in &gone {
            self.0.remove(node);
        }
        gone
    }

    /// Begins every silence anew, after a time in which nothing could be heard.
    fn forgive(&mut self, now: Instant) {
        for heard in self.0.values_mut() {
            *heard = now;
        }
    }
}

/// What is spoken, and how often.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Heartbeat {
    pub(super) dialect: Dialect,
    pub(super) interval: Duration,
}

impl Heartbeat {
    /// How long one look-up listens: the longest gap between two heartbeats of the libraries, and a little.
    pub(super) fn listens(&self) -> Duration {
        THEIR_INTERVAL.max(self.interval) + Duration::from_millis(500)
    }

    /// After which silence a peer is lost.
    fn silence(&self) -> Duration {
        (THEIR_INTERVAL.max(self.interval) * MISSED_MAX) + Duration::from_secs(1)
    }

    /// Speaks and listens until the feed says stop, then says goodbye.
    pub(super) async fn run(self, plan: Arc<Plan>, feed: Feed) {
        let mut talk = Talk {
            heartbeat: self,
            announces: plan.register && !feed.is_alone(),
            local: feed.local(),
            spoken: BTreeSet::new(),
            peers: Peers::default(),
            feed,
            plan,
            link: None,
        };
        let stopped = talk.feed.clone();
        tokio::select! {
            () = talk.go_on() => {}
            () = stopped.stopped() => {}
        }
        drop(timeout(GRACE * 4 / 5, talk.say_goodbye(&talk.spoken.clone())).await);
    }
}

/// The conversation, over one connection after the other.
struct Talk {
    heartbeat: Heartbeat,
    plan: Arc<Plan>,
    feed: Feed,
    announces: bool,
    local: watch::Receiver<Local>,
    /// The nodes that were announced.
    spoken: BTreeSet<NodeName>,
    peers: Peers,
    link: Option<Link>,
}

impl Talk {
    async fn go_on(&mut self) {
        let mut backoff = Backoff::new(BACKOFF_MAX);
        loop {
            let Err(error) = self.session(&mut backoff).await else { continue };
            self.link = None;
            self.feed.push(SourceUpdate::Failed(error.to_string())).await;
            sleep(backoff.next(None)).await;
        }
    }

    /// One connection. It ends with an error, always.
    async fn session(&mut self, backoff: &mut Backoff) -> Result<(), SqlError> {
        let plan = Arc::clone(&self.plan);
        let Where::Postgres(target) = &plan.place else {
            return Err(SqlError::Url("heartbeats go through PostgreSQL alone".to_owned()));
        };
        let channel = plan.channel.as_deref().unwrap_or(CHANNEL);
        let link = self.link.insert(Link::open(target).await?);
        if !link.listen(channel, target, plan.pace.timeout).await? {
            let at = link.at();
            return Err(SqlError::Said(format!(
                "{at} is a pooler that lends connections by the transaction, so LISTEN does not work through it: give the \
                 server's own address, or a pool with pool_mode = session"
            )));
        }
        self.peers.forgive(Instant::now());
        // That the channel is heard ends an error, also while nobody speaks on it.
        let known = self.peers.0.keys().cloned().map(Candidate::new).collect();
        self.feed.push(SourceUpdate::Snapshot(known)).await;
        backoff.reset();
        let (mut speak_at, mut spoke_at) = (Instant::now(), None);
        let mut look_at = Instant::now() + LOOK_EVERY;
        loop {
            let Some(link) = &mut self.link else { return Ok(()) };
            tokio::select! {
                heard = link.hear() => {
                    let heard = heard?;
                    if heard.channel == channel && self.take(&heard.payload).await {
                        // A newcomer hears of us at once.
                        let earliest = spoke_at.map_or_else(Instant::now, |spoke| spoke + ANSWER_EVERY);
                        speak_at = speak_at.min(earliest);
                    }
                }
                () = sleep_until(speak_at) => {
                    self.speak(channel).await?;
                    spoke_at = Some(Instant::now());
                    speak_at = Instant::now() + self.heartbeat.interval.mul_f64(rand::rng().random_range(0.9..1.1));
                }
                Ok(()) = self.local.changed() => speak_at = Instant::now(),
                () = sleep_until(look_at) => {
                    look_at = Instant::now() + LOOK_EVERY;
                    for node in self.peers.expire(Instant::now(), self.heartbeat.silence()) {
                        self.feed.push(SourceUpdate::Lost(node)).await;
                    }
                }
            }
        }
    }

    /// Takes a payload. Says whether it came from a newcomer.
    async fn take(&mut self, payload: &str) -> bool {
        let (node, alive) = match Dialect::read(payload) {
            Some(Word::Alive(node)) => (node, true),
            Some(Word::Goodbye(node)) => (node, false),
            None => return false,
        };
        if self.local.borrow().nodes.contains(&node) || !self.plan.naming.wants(&node) {
            return false;
        }
        if !alive {
            if self.peers.0.remove(&node).is_some() {
                self.feed.push(SourceUpdate::Lost(node)).await;
            }
            return false;
        }
        let Some(new) = self.peers.hear(&node, Instant::now()) else { return false };
        self.feed.push(SourceUpdate::Found(Candidate::new(node))).await;
        new
    }

    /// Says that our nodes live, and that those which were ours do no more.
    async fn speak(&mut self, channel: &str) -> Result<(), SqlError> {
        let nodes = self.local.borrow_and_update().nodes.clone();
        for node in &nodes {
            self.peers.0.remove(node);
        }
        if !self.announces {
            return Ok(());
        }
        let gone: BTreeSet<NodeName> = self.spoken.difference(&nodes).cloned().collect();
        self.say_goodbye(&gone).await?;
        let dialect = self.heartbeat.dialect;
        self.say(channel, nodes.iter().map(|node| dialect.alive(node)).collect()).await?;
        self.spoken = nodes;
        Ok(())
    }

    async fn say_goodbye(&mut self, nodes: &BTreeSet<NodeName>) -> Result<(), SqlError> {
        let plan = Arc::clone(&self.plan);
        let dialect = self.heartbeat.dialect;
        let words = nodes.iter().filter_map(|node| dialect.goodbye(node)).collect();
        self.say(plan.channel.as_deref().unwrap_or(CHANNEL), words).await
    }

    async fn say(&mut self, channel: &str, payloads: Vec<String>) -> Result<(), SqlError> {
        let Some(link) = self.link.as_mut().filter(|_| !payloads.is_empty()) else { return Ok(()) };
        let quote = |text: &str| Flavour::Postgres.quote(text);
        let calls: Vec<String> =
            payloads.iter().map(|payload| format!("pg_notify({}, {})", quote(channel), quote(payload))).collect();
        let statement = format!("SELECT {}", calls.join(", "));
        link.ask(&statement, Purpose::Query, self.plan.pace.timeout).await.map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(text: &str) -> NodeName {
        NodeName::new(text).expect("a node")
    }

    #[test]
    fn each_dialect_is_spoken_and_all_are_understood() {
        let a = node("a@10.0.0.4");
        for (word, alive, goodbye) in [
            ("supabase", "a@10.0.0.4", None),
            ("kevbuchanan", "heartbeat::a@10.0.0.4", None),
            ("firezone", "heartbeat:a@10.0.0.4", Some("goodbye:a@10.0.0.4".to_owned())),
        ] {
            let dialect = Dialect::of_word(word).expect("a dialect");
            assert_eq!((dialect.alive(&a).as_str(), dialect.goodbye(&a)), (alive, goodbye));
            assert_eq!(Dialect::read(alive), Some(Word::Alive(a.clone())));
        }
        assert_eq!(Dialect::read("goodbye:a@10.0.0.4"), Some(Word::Goodbye(a)));
        for payload in ["", "sync", "heartbeat:", "a b@c", "metacluster-probe-00", "goodbye:"] {
            assert_eq!(Dialect::read(payload), None, "{payload}");
        }
    }

    #[test]
    fn who_is_silent_is_lost_unless_nothing_could_be_heard() {
        let begun = Instant::now();
        let at = |seconds| begun + Duration::from_secs(seconds);
        let mut peers = Peers::default();
        assert_eq!(peers.hear(&node("a@h"), at(0)), Some(true));
        assert_eq!(peers.hear(&node("b@h"), at(0)), Some(true));
        assert_eq!(peers.hear(&node("b@h"), at(10)), Some(false));
        assert_eq!(peers.expire(at(17), Duration::from_secs(16)), [node("a@h")]);
        peers.forgive(at(100));
        assert_eq!(peers.expire(at(116), Duration::from_secs(16)), []);
        assert_eq!(peers.expire(at(117), Duration::from_secs(16)), [node("b@h")]);
    }

    #[test]
    fn the_table_is_bounded() {
        let (mut peers, now) = (Peers::default(), Instant::now());
        for at in 0..PEERS_MAX {
            assert_eq!(peers.hear(&node(&format!("n{at}@h")), now), Some(true));
        }
        assert_eq!(peers.hear(&node("one@more"), now), None);
        assert_eq!(peers.hear(&node("n0@h"), now), Some(false), "known ones are heard all the same");
    }
}
