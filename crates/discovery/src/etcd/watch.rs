//! One watch of the prefix: our lease, all keys, then what changes.

use std::{
    collections::BTreeMap,
    future::pending,
    sync::{Arc, Mutex, PoisonError},
};

use metacluster_types::AgentId;
use rand::RngExt as _;
use serde_json::{Value, json};
use tokio::{
    sync::watch as channel,
    time::{Instant, sleep_until, timeout},
};

use super::{
    Settings,
    entry::{self, Entry},
    error::EtcdError,
    gateway::{Gateway, decode, encode, number, range_end},
};
use crate::{Answer, Failure, Feed, Local, http::Streamed, run::GRACE, watch, watch::Stream};

/// How many keys are taken.
const KEYS_MAX: usize = 20_000;
/// How long after a change the answer waits, so that many changes at once are one answer.
const TOGETHER: tokio::time::Duration = tokio::time::Duration::from_millis(20);

/// The lease of our key, if there is one; it outlives a watch, so that the last one is there for the goodbye.
type Lease = Arc<Mutex<Option<i64>>>;

/// Runs until the feed says stop, then gives the lease back, and the key with it.
pub(super) async fn run(gateway: Arc<Gateway>, settings: Settings, prefix: String, feed: Feed) {
    let lease = Lease::default();
    let announces = settings.register && !feed.is_alone();
    watch(&feed, |stream| {
        let session = Session {
            gateway: Arc::clone(&gateway),
            settings: settings.clone(),
            prefix: prefix.clone(),
            local: feed.local(),
            own: (!feed.is_alone()).then(|| feed.local().borrow().agent),
            announces,
            lease: Arc::clone(&lease),
            keys: BTreeMap::new(),
            written: None,
            unread: BTreeMap::new(),
        };
        session.run(stream)
    })
    .await;
    let last = lease.lock().unwrap_or_else(PoisonError::into_inner).take();
    if let Some(id) = last {
        let body = json!({ "ID": id.to_string() });
        let revoked = timeout(GRACE * 4 / 5, gateway.ask("/v3/lease/revoke", &body)).await;
        if !matches!(revoked, Ok(Ok(_))) {
            tracing::debug!(topology = %feed.topology(), "the key of this agent stays until its lease ends");
        }
    }
}

struct Session {
    gateway: Arc<Gateway>,
    settings: Settings,
    prefix: String,
    local: channel::Receiver<Local>,
    own: Option<AgentId>,
    announces: bool,
    lease: Lease,
    keys: BTreeMap<Vec<u8>, Entry>,
    /// What our key says, if it is written.
    written: Option<String>,
    /// The keys whose values cannot be read, each with the reason.
    unread: BTreeMap<Vec<u8>, String>,
}

impl Session {
    async fn run(mut self, stream: Stream) -> Result<(), Failure> {
        match self.follow(&stream).await {
            Ok(()) => Ok(()),
            Err(error) => {
                // What hangs or refuses there may be well elsewhere.
                self.gateway.turn();
                Err(Failure::new(error.to_string()))
            }
        }
    }

    async fn follow(&mut self, stream: &Stream) -> Result<(), EtcdError> {
        let mut denied = self.announce().await?;
        let mut renew_at = self.announces.then(|| Instant::now() + self.settings.lease / 3);
        let mut revision = self.read_all().await?;
        let mut changes = self.open(revision).await?;
        stream.tell(self.answer(&denied));
        let mut read_at = self.next_reading();
        let mut tell_at = None;
        loop {
            let local = &mut self.local;
            let own_changed = async {
                // The error says that the agent is gone; then the feed says stop.
                if local.changed().await.is_err() {
                    pending::<()>().await;
                }
            };
            tokio::select! {
                line = changes.line() => {
                    let Some(line) = line.map_err(EtcdError::Http)? else { return Ok(()) };
                    match self.take(&line)? {
                        Word::Changes => tell_at = tell_at.or_else(|| Some(Instant::now() + TOGETHER)),
                        Word::Nothing => {}
                        Word::Compacted => {
                            revision = self.read_all().await?;
                            changes = self.open(revision).await?;
                            tell_at = Some(Instant::now());
                        }
                    }
                }
                () = sleep_until(read_at) => {
                    self.read_all().await?;
                    read_at = self.next_reading();
                    tell_at = Some(Instant::now());
                }
                () = at(tell_at) => {
                    tell_at = None;
                    stream.tell(self.answer(&denied));
                }
                () = at(renew_at) => {
                    denied = self.renew(denied).await?;
                    renew_at = Some(Instant::now() + self.settings.lease / 3);
                }
                () = own_changed => {
                    // Whom membership knows changes often, and our key says nothing of that.
                    let value = entry::of(&self.local.borrow_and_update());
                    if self.announces && self.written.as_ref() != Some(&value) {
                        denied = self.put(denied).await?;
                    }
                }
            }
        }
    }

    fn next_reading(&self) -> Instant {
        Instant::now() + self.settings.pace.interval.mul_f64(rand::rng().random_range(0.9..1.1))
    }

    /// Takes a lease and writes our key. What it gives back says why that may not be.
    async fn announce(&mut self) -> Result<Option<String>, EtcdError> {
        if !self.announces {
            return Ok(None);
        }
        let seconds = self.settings.lease.as_secs_f64().ceil();
        let granted = self.gateway.ask("/v3/lease/grant", &json!({ "TTL": format!("{seconds}"), "ID": "0" })).await?;
        let id = number(granted.get("ID"));
        self.lease.lock().unwrap_or_else(PoisonError::into_inner).replace(id);
        self.put(None).await
    }

    async fn put(&mut self, before: Option<String>) -> Result<Option<String>, EtcdError> {
        let lease = *self.lease.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(lease) = lease else { return Ok(before) };
        let (value, body) = {
            let local = self.local.borrow_and_update();
            let key = format!("{}{}", self.prefix, local.agent);
            let value = entry::of(&local);
            let body =
                json!({ "key": encode(key.as_bytes()), "value": encode(value.as_bytes()), "lease": lease.to_string() });
            (value, body)
        };
        self.written = None;
        match self.gateway.ask("/v3/kv/put", &body).await {
            Ok(_) => {
                self.written = Some(value);
                Ok(None)
            }
            Err(error @ EtcdError::Right { .. }) => {
                Ok(Some(format!("the nodes of this host are not announced, others are found: {error}")))
            }
            Err(error) => Err(error),
        }
    }

    /// Renews the lease; one that has run out is replaced.
    async fn renew(&mut self, denied: Option<String>) -> Result<Option<String>, EtcdError> {
        let lease = *self.lease.lock().unwrap_or_else(PoisonError::into_inner);
        let body = json!({ "ID": lease.unwrap_or_default().to_string() });
        let lives = match self.gateway.ask("/v3/lease/keepalive", &body).await {
            Ok(answer) => number(answer.get("TTL")) > 0,
            Err(EtcdError::LeaseGone) => false,
            Err(error) => return Err(error),
        };
        match (lives, denied) {
            (true, None) => Ok(None),
            (true, denied @ Some(_)) => self.put(denied).await,
            (false, _) => self.announce().await,
        }
    }

    /// Reads all keys and gives the revision at which they were so.
    async fn read_all(&mut self) -> Result<i64, EtcdError> {
        let prefix = self.prefix.as_bytes();
        let body = json!({
            "key": encode(prefix), "range_end": encode(&range_end(prefix)), "limit": (KEYS_MAX + 1).to_string(),
        });
        let answer = self.gateway.ask("/v3/kv/range", &body).await?;
        let revision = number(answer.get("header").and_then(|header| header.get("revision")));
        self.keys.clear();
        self.unread.clear();
        for pair in answer.get("kvs").and_then(Value::as_array).into_iter().flatten() {
            self.set(pair)?;
        }
        Ok(revision)
    }

    async fn open(&self, revision: i64) -> Result<Streamed, EtcdError> {
        let prefix = self.prefix.as_bytes();
        let body = json!({ "create_request": {
            "key": encode(prefix), "range_end": encode(&range_end(prefix)), "start_revision": (revision + 1).to_string(),
        } });
        self.gateway.open("/v3/watch", &body).await
    }

    /// Takes a line of the watch.
    fn take(&mut self, line: &[u8]) -> Result<Word, EtcdError> {
        if line.is_empty() {
            return Ok(Word::Nothing);
        }
        let value: Value =
            serde_json::from_slice(line).map_err(|error| EtcdError::Garbage { what: error.to_string() })?;
        if let Some(error) = value.get("error") {
            return Err(self.gateway.sort_message(&error.to_string()));
        }
        let Some(result) = value.get("result") else {
            return Err(EtcdError::Garbage { what: "a watch without a result".to_owned() });
        };
        if result.get("canceled").and_then(Value::as_bool) == Some(true) {
            if number(result.get("compact_revision")) > 0 {
                return Ok(Word::Compacted);
            }
            let reason = result.get("cancel_reason").and_then(Value::as_str).unwrap_or("the watch was cancelled");
            return Err(self.gateway.sort_message(reason));
        }
        let events = result.get("events").and_then(Value::as_array);
        for event in events.into_iter().flatten() {
            let Some(pair) = event.get("kv") else { continue };
            if event.get("type").and_then(Value::as_str) == Some("DELETE") {
                let key = key(pair)?;
                self.keys.remove(&key);
                self.unread.remove(&key);
            } else {
                self.set(pair)?;
            }
        }
        Ok(if events.is_some() { Word::Changes } else { Word::Nothing })
    }

    fn set(&mut self, pair: &Value) -> Result<(), EtcdError> {
        let key = key(pair)?;
        let Some(value) = decode(pair.get("value")) else {
            return Err(EtcdError::Garbage { what: "a value that is no base64".to_owned() });
        };
        match entry::read(&key, &value) {
            Ok(entry) => {
                self.unread.remove(&key);
                self.keys.insert(key, entry);
            }
            Err(what) => {
                // What it said before stands.
                self.unread.insert(key, what);
            }
        }
        if self.keys.len() + self.unread.len() > KEYS_MAX {
            return Err(EtcdError::TooMany { max: KEYS_MAX, prefix: self.prefix.clone() });
        }
        Ok(())
    }

    fn answer(&self, denied: &Option<String>) -> Answer {
        let others = || self.keys.values().filter(|entry| entry.agent.is_none() || entry.agent != self.own);
        let hosts = others().map(|entry| entry.host.clone()).collect();
        let named = others().flat_map(|entry| entry.named.iter().cloned()).collect();
        let mut answer = self.settings.naming.answer_with(hosts, named);
        answer.notes.extend(denied.clone());
        if let Some((key, what)) = self.unread.first_key_value() {
            let (count, key) = (self.unread.len(), String::from_utf8_lossy(key));
            answer.notes.push(format!("{count} keys cannot be read; the first, {}: {what}", key.escape_debug()));
        }
        answer
    }
}

/// What a line of the watch meant.
enum Word {
    Changes,
    Nothing,
    /// The revision that was asked for is gone: read all anew.
    Compacted,
}

fn key(pair: &Value) -> Result<Vec<u8>, EtcdError> {
    decode(pair.get("key")).ok_or_else(|| EtcdError::Garbage { what: "a key that is no base64".to_owned() })
}

/// Sleeps until then, or for ever.
async fn at(instant: Option<Instant>) {
    match instant {
        Some(instant) => sleep_until(instant).await,
        None => pending().await,
    }
}
