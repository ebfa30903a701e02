//! Drives one list and watch: asks what the machine wants asked, reads the stream, and reports what is known.
//!
//! Invariant: nothing is decided here but how long to wait. A report is made at once when something begins or ends to
//! fail, and at most every [`SETTLE`] while events come, so that a thousand changes are a few reports.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, PoisonError},
};

use metacluster_types::{Host, HostState};
use rand::RngExt;
use tokio::{
    sync::Notify,
    task::JoinSet,
    time::{Duration, Instant, sleep_until},
};

use super::{
    api::{Api, Stream},
    machine::{Input, Machine, Output, Pause, Request},
    object::{self, EndpointSlice, Object, Pod},
    peers::{self, End, Peer},
    problem::Problem,
    scope::{Scope, Verb},
};
use crate::poll::Backoff;

/// How long the first change of several waits for the others.
const SETTLE: Duration = Duration::from_millis(20);
/// The longest wait before the API is asked again, unless it asks for more itself.
const BACKOFF_MAX: Duration = Duration::from_secs(30);
/// After this long the API is to close a watch, give or take a tenth, so that agents do not come back all at once.
const WATCH_FOR: Duration = Duration::from_secs(300);
/// How long a pod that ended is told of.
const ENDED_KEPT: Duration = Duration::from_secs(600);
/// How many are. The oldest go first.
const ENDED_MAX: usize = 256;
/// How many pods are looked after at once when it is not known whether they ended. Of those beyond nothing is said.
const CHECKS_MAX: usize = 32;

/// An object that peers are made of.
pub(super) trait Source: Object {
    /// The peers of all of them.
    fn peers<'a>(objects: impl Iterator<Item = &'a Self>, ready_only: bool) -> Vec<Peer>;

    /// What its last state says of its end.
    fn end(&self) -> End;

    /// Its host, for a source whose objects are hosts.
    fn host(&self) -> Option<Host>;
}

impl Source for EndpointSlice {
    fn peers<'a>(objects: impl Iterator<Item = &'a Self>, ready_only: bool) -> Vec<Peer> {
        peers::of_slices(objects, ready_only)
    }

    /// A slice that is gone says nothing of the pods that were in it.
    fn end(&self) -> End {
        End::Unborn
    }

    fn host(&self) -> Option<Host> {
        None
    }
}

impl Source for Pod {
    fn peers<'a>(objects: impl Iterator<Item = &'a Self>, ready_only: bool) -> Vec<Peer> {
        peers::of_pods(objects, ready_only)
    }

    fn end(&self) -> End {
        peers::end_of(self)
    }

    fn host(&self) -> Option<Host> {
        Some(peers::of_pod(self, true).host)
    }
}

/// What is known of one watch.
#[derive(Clone, Debug, Default)]
pub(super) struct Report {
    /// The peers, once a list was whole.
    pub(super) peers: Option<Arc<Vec<Peer>>>,
    /// Hosts that have ended of late.
    pub(super) ended: Vec<Host>,
    /// What fails at present.
    pub(super) problem: Option<String>,
    /// It fails, but what is known is true: the watch is not allowed, so the list is repeated.
    pub(super) degraded: bool,
    /// How often something failed.
    pub(super) failures: u64,
    /// What was left out.
    pub(super) notes: Vec<String>,
}

/// Where one watch puts its reports, and who is woken by them.
#[derive(Clone, Debug)]
pub(super) struct Desk {
    report: Arc<Mutex<Report>>,
    wake: Arc<Notify>,
}

impl Desk {
    pub(super) fn new(wake: &Arc<Notify>) -> Self {
        Self { report: Arc::default(), wake: Arc::clone(wake) }
    }

    /// The latest report.
    pub(super) fn read(&self) -> Report {
        self.report.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn put(&self, report: Report) {
        *self.report.lock().unwrap_or_else(PoisonError::into_inner) = report;
        self.wake.notify_one();
    }
}

/// How one watch is made.
#[derive(Clone, Debug)]
pub(super) struct Order {
    pub(super) scope: Scope,
    pub(super) ready_only: bool,
    /// How long a stream may be silent.
    pub(super) idle: Duration,
}

/// Follows one scope for ever.
pub(super) async fn follow<O: Source>(api: Arc<Api>, order: Order, desk: Desk) {
    let mut follower: Follower<O> = Follower {
        api,
        order,
        desk,
        machine: Machine::new(),
        backoff: Backoff::new(BACKOFF_MAX),
        failures: 0,
        ended: VecDeque::new(),
        checks: JoinSet::new(),
        due: None,
    };
    loop {
        follower.go_on().await;
    }
}

struct Follower<O> {
    api: Arc<Api>,
    order: Order,
    desk: Desk,
    machine: Machine<O>,
    backoff: Backoff,
    failures: u64,
    /// Hosts that ended, and until when they are told of.
    ended: VecDeque<(Instant, Host)>,
    checks: JoinSet<Option<Host>>,
    /// When the next report is due.
    due: Option<Instant>,
}

impl<O: Source> Follower<O> {
    async fn go_on(&mut self) {
        let step = self.machine.step();
        let wait = match step.pause {
            Pause::None => Duration::ZERO,
            Pause::Backoff => self.backoff.next(None),
            Pause::AtLeast(wait) => self.backoff.next(Some(wait)),
        };
        self.rest(wait).await;
        let path = self.order.scope.path(&step.request, WATCH_FOR.mul_f64(rand::rng().random_range(0.9..1.1)));
        match step.request {
            Request::List { .. } => {
                let page = match self.api.get(Verb::List, &path, "application/json").await {
                    Ok(bytes) => object::page(&bytes).map_err(|error| Problem::Garbage(error.to_string())),
                    Err(problem) => Err(problem),
                };
                self.take(page.map_or_else(Input::Failed, Input::Page)).await;
                if self.machine.trouble().is_none() {
                    self.backoff.reset();
                }
                self.report();
            }
            Request::Watch { .. } => match self.api.open(&path).await {
                Ok(stream) => {
                    self.take(Input::Opened).await;
                    self.read(stream).await;
                }
                Err(problem) => {
                    self.take(Input::Failed(problem)).await;
                    self.report();
                }
            },
        }
    }

    /// Waits, and reports in the meantime what is due.
    async fn rest(&mut self, wait: Duration) {
        let over = Instant::now() + wait;
        loop {
            let due = self.due.unwrap_or(over).min(over);
            tokio::select! {
                () = sleep_until(due) => {}
                Some(checked) = self.checks.join_next() => self.checked(checked.ok().flatten()),
            }
            if self.due.is_some_and(|due| due <= Instant::now()) {
                self.report();
            }
            if over <= Instant::now() {
                return;
            }
        }
    }

    /// Reads a stream until it ends.
    async fn read(&mut self, mut stream: Stream) {
        let opened = Instant::now();
        let mut silent = Instant::now() + self.order.idle;
        while self.machine.is_open() {
            let due = self.due.unwrap_or(silent).min(silent);
            let input = tokio::select! {
                line = stream.line() => match line {
                    Ok(Some(line)) => {
                        silent = Instant::now() + self.order.idle;
                        self.backoff.reset();
                        if line.is_empty() {
                            continue;
                        }
                        match object::event(&line) {
                            Ok(event) => Input::Event(event),
                            Err(error) => Input::Failed(Problem::Garbage(error.to_string())),
                        }
                    }
                    Ok(None) => Input::Closed(opened.elapsed()),
                    Err(problem) => Input::Failed(problem),
                },
                Some(checked) = self.checks.join_next() => {
                    self.checked(checked.ok().flatten());
                    continue;
                }
                () = sleep_until(due) => {
                    if self.due.is_some_and(|due| due <= Instant::now()) {
                        self.report();
                    }
                    if silent > Instant::now() {
                        continue;
                    }
                    Input::Closed(opened.elapsed())
                }
            };
            self.take(input).await;
        }
        self.report();
    }

    /// Gives the machine an input and does what it tells.
    async fn take(&mut self, input: Input<O>) {
        self.failures += u64::from(matches!(input, Input::Failed(_)));
        self.machine.handle(input);
        while let Some(output) = self.machine.poll_output() {
            match output {
                Output::Told => self.due = Some(self.due.unwrap_or_else(|| Instant::now() + SETTLE)),
                Output::Renew => self.api.renew().await,
                Output::Removed(object) => self.removed(&object),
            }
        }
    }

    fn removed(&mut self, object: &O) {
        let Some(host) = object.host() else { return };
        match object.end() {
            End::Unborn => {}
            End::Ended => self.checked(Some(host)),
            End::Unknown if self.checks.len() < CHECKS_MAX => {
                let meta = object.meta();
                let path = self.order.scope.object(&meta.namespace, &meta.name);
                self.checks.spawn(check(Arc::clone(&self.api), path, meta.uid.clone(), host));
            }
            End::Unknown => {}
        }
    }

    /// Notes that a host ended, if it did.
    fn checked(&mut self, host: Option<Host>) {
        let Some(mut host) = host else { return };
        host.state = HostState::Terminated;
        self.ended.push_back((Instant::now() + ENDED_KEPT, host));
        if self.ended.len() > ENDED_MAX {
            self.ended.pop_front();
        }
        self.due = Some(self.due.unwrap_or_else(|| Instant::now() + SETTLE));
    }

    fn report(&mut self) {
        self.due = None;
        let now = Instant::now();
        self.ended.retain(|(until, _)| *until > now);
        let (odd, over) = self.machine.left_out();
        let scope = &self.order.scope;
        let mut notes = Vec::new();
        if odd > 0 {
            notes.push(format!("{scope}: {odd} of the API's objects have a shape that is not known, and are left out"));
        }
        if over {
            notes.push(format!("{scope}: more than can be kept; narrow `selector` or `namespace`"));
        }
        let trouble = self.machine.trouble();
        let whole = self.machine.is_whole();
        self.desk.put(Report {
            peers: whole.then(|| Arc::new(O::peers(self.machine.objects(), self.order.ready_only))),
            ended: self.ended.iter().map(|(_, host)| host.clone()).collect(),
            problem: trouble.map(|trouble| trouble.line(scope)),
            degraded: whole && matches!(trouble, Some(Problem::Forbidden { verb: Verb::Watch, .. })),
            failures: self.failures,
            notes,
        });
    }
}

/// Looks whether a pod is there yet. Gives its host if it is certain that it is not.
async fn check(api: Arc<Api>, path: String, uid: String, host: Host) -> Option<Host> {
    match api.get(Verb::Get, &path, "application/json").await {
        Ok(bytes) => {
            let pod: Pod = serde_json::from_slice(&bytes).ok()?;
            (!pod.metadata.uid.is_empty() && pod.metadata.uid != uid).then_some(host)
        }
        Err(Problem::NotServed(_)) => Some(host),
        Err(_) => None,
    }
}
