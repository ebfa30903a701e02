//! What `ec2` and `ecs` have in common: several regions looked at together, their turns, and how an answer is told.
//!
//! Invariants: a region that fails keeps its last answer and hides no other region; only if all fail, the look-up does.

use std::{
    future::Future,
    sync::{Arc, Mutex, PoisonError},
    time::SystemTime,
};

use metacluster_types::{Host, time::format_duration};
use rand::RngExt;
use tokio::{
    sync::OnceCell,
    task::JoinSet,
    time::{Duration, timeout},
};

use super::{
    AwsError,
    askers::{Rota, WallTime},
    call::Caller,
    credentials::Account,
    endpoint::{self, is_region},
};
use crate::{
    Feed,
    naming::Naming,
    poll::{Failure, Found, Pace, Poll},
    settings::{Absent, Key, Kind, Reader},
};

/// The part of a look-up's time that one region has.
const SHARE: f64 = 0.9;
/// The part of a look-up's time that one call has.
const CALL_SHARE: f64 = 0.6;
/// More regions are none.
const REGIONS_MAX: usize = 40;

/// The keys of both strategies.
pub(super) const REGION: Key = Key {
    name: "region",
    kind: Kind::Texts,
    absent: Absent::Unset("AWS_REGION, else that of the profile, else that of the instance"),
    doc: "The region, or several",
};
pub(super) const PROFILE: Key = Key {
    name: "profile",
    kind: Kind::Text,
    absent: Absent::Unset("AWS_PROFILE, else `default`"),
    doc: "The profile of the AWS configuration files",
};
pub(super) const ENDPOINT: Key = Key {
    name: "endpoint",
    kind: Kind::Text,
    absent: Absent::Unset("AWS_ENDPOINT_URL_EC2 and the like, else that of the region"),
    doc: "Where the API is, such as a VPC endpoint: https://host or http://host:port",
};
pub(super) const INTERVAL: Key = Pace::interval("5s");
pub(super) const TIMEOUT: Key = Pace::timeout("15s");

/// What is looked at in one region.
pub(super) trait Source: Send + Sync + 'static {
    /// The region.
    fn region(&self) -> &str;

    /// One look: every host that fits, whatever its state.
    fn look(&self, caller: &Caller) -> impl Future<Output = Result<Vec<Host>, AwsError>> + Send;
}

/// Where and how often is asked.
#[derive(Clone, Debug)]
pub(super) struct Asking {
    regions: Vec<String>,
    profile: Option<String>,
    endpoint: Option<String>,
    pace: Pace,
    naming: Naming,
    /// By which all agents know whose turn it is.
    clock: WallTime,
}

impl Asking {
    /// Reads the keys of both strategies.
    pub(super) fn read(reader: &mut Reader<'_>, naming: Naming) -> Self {
        let regions = reader.texts("region");
        if let Some(wrong) = regions.iter().find(|region| !is_region(region)) {
            reader.fault("region", &format!("`{wrong}` is no region: expected one such as eu-west-1"));
        }
        if regions.len() > REGIONS_MAX {
            reader.fault("region", &format!("names more than {REGIONS_MAX} regions"));
        }
        let endpoint = reader.text("endpoint");
        if endpoint.as_deref().is_some_and(|text| endpoint::given(text).is_err()) {
            reader.fault("endpoint", "is no address: expected https://host or http://host:port");
        }
        if endpoint.is_some() && regions.len() > 1 {
            reader.fault("endpoint", "is for one region: make a topology for each");
        }
        let (profile, pace) = (reader.text("profile"), Pace::read(reader));
        Self { regions, profile, endpoint, pace, naming, clock: SystemTime::now }
    }

    /// Looks for as long as the feed wants it.
    pub(super) async fn run<S: Source>(&self, feed: &Feed, make: impl Fn(String) -> S + Send + Sync + 'static) {
        let account = Account::new(self.profile.clone(), self.endpoint.clone());
        self.run_as(feed, self.caller(account), make).await;
    }

    /// A caller for an account, which gives one call its share of a look-up's time.
    pub(super) fn caller(&self, account: Account) -> Caller {
        Caller::new(account, self.pace.timeout.mul_f64(CALL_SHARE))
    }

    /// As [`Asking::run`], with a caller of its own.
    pub(super) async fn run_as<S: Source>(
        &self,
        feed: &Feed,
        caller: Caller,
        make: impl Fn(String) -> S + Send + Sync + 'static,
    ) {
        let rota = Arc::new(Rota::new(self.pace.interval, feed.local(), self.clock));
        let looks = Arc::new(Looks {
            asking: self.clone(),
            caller: Arc::new(caller),
            make: Box::new(make),
            parts: OnceCell::new(),
            rota: Arc::clone(&rota),
        });
        let poll = Poll::new(self.pace).asks("AWS");
        poll.run_by_turns(feed, || rota.turn_comes(), || Arc::clone(&looks).look()).await;
    }
}

struct Looks<S> {
    asking: Asking,
    caller: Arc<Caller>,
    make: Box<dyn Fn(String) -> S + Send + Sync>,
    parts: OnceCell<Vec<Arc<Part<S>>>>,
    rota: Arc<Rota>,
}

/// A region with what it last answered.
struct Part<S> {
    source: S,
    last: Mutex<Option<Vec<Host>>>,
}

impl<S: Source> Looks<S> {
    async fn look(self: Arc<Self>) -> Result<Found, Failure> {
        let before = self.caller.calls();
        let outcome = self.look_everywhere().await;
        let throttled = matches!(&outcome, Err(error) if error.is_throttled());
        let wait = self.rota.wait_after(self.caller.calls() - before, throttled);
        let wait = wait.mul_f64(rand::rng().random_range(0.9..1.1));
        match outcome {
            Ok((hosts, lines)) => {
                let mut answer = self.asking.naming.answer(hosts);
                answer.notes.extend(lines);
                Ok(Found { answer, again: Some(wait) })
            }
            Err(error) => Err(Failure::with_wait(error.to_string(), wait)),
        }
    }

    /// The hosts of all regions, and a line for each region that failed. An error if all failed.
    async fn look_everywhere(&self) -> Result<(Vec<Host>, Vec<String>), AwsError> {
        let parts = self.parts.get_or_try_init(|| self.parts()).await?;
        let within = self.asking.pace.timeout.mul_f64(SHARE);
        let mut looks = JoinSet::new();
        for part in parts {
            let (part, caller) = (Arc::clone(part), Arc::clone(&self.caller));
            looks.spawn(async move { part.look(&caller, within).await });
        }
        let mut errors: Vec<AwsError> = Vec::new();
        while let Some(outcome) = looks.join_next().await {
            match outcome {
                Ok(outcome) => errors.extend(outcome.err()),
                Err(error) => errors.push(AwsError::Bug { what: error.to_string() }),
            }
        }
        // What says least about the whole comes last.
        errors.sort_by_key(|error| (!error.is_throttled(), error.to_string()));
        if errors.len() == parts.len()
            && let Some(first) = errors.first()
        {
            return Err(first.clone());
        }
        let hosts = parts.iter().filter_map(|part| part.last()).flatten().collect();
        let lines = errors.iter().map(|error| format!("{error}; what was known of that region stands"));
        Ok((hosts, lines.collect()))
    }

    async fn parts(&self) -> Result<Vec<Arc<Part<S>>>, AwsError> {
        let mut regions = self.asking.regions.clone();
        if regions.is_empty() {
            let region = self.caller.region().await?;
            if !is_region(&region) {
                return Err(AwsError::NoRegion);
            }
            regions.push(region);
        }
        let part = |region| Arc::new(Part { source: (self.make)(region), last: Mutex::new(None) });
        Ok(regions.into_iter().map(part).collect())
    }
}

impl<S: Source> Part<S> {
    async fn look(&self, caller: &Caller, within: Duration) -> Result<(), AwsError> {
        let late = || AwsError::Slow { region: self.source.region().to_owned(), within: format_duration(within) };
        let hosts = timeout(within, self.source.look(caller)).await.map_err(|_| late())??;
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Some(hosts);
        Ok(())
    }

    fn last(&self) -> Option<Vec<Host>> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

#[cfg(test)]
mod tests;
