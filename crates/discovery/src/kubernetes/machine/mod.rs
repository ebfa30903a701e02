//! One list and watch of one kind of object, as a machine: what to ask next, what is known, what changed.
//!
//! ```text
//!            page, more to come             last page              the API streams
//!        ┌───────────────┐
//!        ▼               │
//!   Awaits::Page ────────┴────────────► Awaits::Watch ──────────────────────────► Awaits::Event ─┐
//!        ▲                                  │      ▲     closed, silent, dropped       │        │ event, bookmark
//!        │        410, not to be resumed    │      └───────────────────────────────────┤◄───────┘
//!        └──────────────────────────────────┴──────────────────────────────────────────┘
//! ```
//! Follows "Efficient detection of changes" and "Retrieving large results sets in chunks" of the concepts of the
//! Kubernetes API.
//!
//! Invariants: no clock, no socket. What is known changes by a whole list or by an event, never by a failure; a list that
//! breaks off leaves it as it was. At most [`WEIGHT_MAX`] is kept. A watch that the API closes is begun again
//! where it stopped, and nobody is told. Nothing is asked twice at once: what fails at once waits.

mod kept;
mod output;
#[cfg(test)]
mod tests;

use std::{collections::VecDeque, mem};

use tokio::time::Duration;

use self::kept::{Kept, Put};
pub(super) use self::output::{Output, Pause, Request, Step};
use super::{
    object::{Event, Item, Object, Page},
    problem::{Problem, Remedy},
    scope::Verb,
};

/// How much one watch keeps, by [`Object::weight`]: 10,000 endpoints in two families, and some to spare. Objects beyond
/// are left out with a line in the log.
pub(super) const WEIGHT_MAX: usize = 25_000;
/// How many objects one page of a list has, to begin with.
pub(super) const PAGE: u32 = 500;
/// A stream that was open this long was no failure, whatever it brought.
const STEADY: Duration = Duration::from_secs(1);
/// How often a list is begun anew because its pages grew old before the whole is asked for at once.
const RESTARTS_MAX: u32 = 2;
/// How many watches in a row may end at once and in silence, or fail within, before that is a problem.
const FRUITLESS_MAX: u32 = 3;

/// What the world says.
#[derive(Clone, Debug)]
pub(super) enum Input<O> {
    /// One page of the list that was asked for.
    Page(Page<O>),
    /// The watch that was asked for has begun.
    Opened,
    /// One event of it.
    Event(Event<O>),
    /// It was closed, fell silent or was cut off after this long.
    Closed(Duration),
    /// What was asked for failed, or the stream holds what cannot be used.
    Failed(Problem),
}

/// What is awaited.
#[derive(Debug)]
enum Awaits<O> {
    Page { gathered: Kept<O>, next: String, restarts: u32 },
    Watch { from: String },
    Event { from: String, heard: bool },
}

/// The machine.
#[derive(Debug)]
pub(super) struct Machine<O> {
    state: Awaits<O>,
    known: Kept<O>,
    whole: bool,
    /// How many objects a page may have; `None` asks for all at once.
    limit: Option<u32>,
    pause: Pause,
    /// Watches in a row that brought nothing.
    fruitless: u32,
    /// The credentials were renewed since the API last took them.
    renewed: bool,
    trouble: Option<Problem>,
    odd: u64,
    over: bool,
    outputs: VecDeque<Output<O>>,
}

impl<O: Object> Machine<O> {
    /// One that begins with a list.
    pub(super) fn new() -> Self {
        Self {
            state: begin(0),
            known: Kept::default(),
            whole: false,
            limit: Some(PAGE),
            pause: Pause::None,
            fruitless: 0,
            renewed: false,
            trouble: None,
            odd: 0,
            over: false,
            outputs: VecDeque::new(),
        }
    }

    /// What is to be asked next, and after which pause. While [`Machine::is_open`], the stream is to be read instead.
    pub(super) fn step(&self) -> Step {
        let request = match &self.state {
            Awaits::Page { next, .. } => Request::List { limit: self.limit, next: next.clone() },
            Awaits::Watch { from } | Awaits::Event { from, .. } => Request::Watch { from: from.clone() },
        };
        Step { request, pause: self.pause }
    }

    /// Whether the stream that is open is to be read on.
    pub(super) fn is_open(&self) -> bool {
        matches!(self.state, Awaits::Event { .. })
    }

    /// Whether a list has been whole once.
    pub(super) fn is_whole(&self) -> bool {
        self.whole
    }

    /// What fails at present.
    pub(super) fn trouble(&self) -> Option<&Problem> {
        self.trouble.as_ref()
    }

    /// What is known.
    pub(super) fn objects(&self) -> impl Iterator<Item = &O> {
        self.known.objects.values()
    }

    /// How many objects could not be read since the last list, and whether there are more than are kept.
    pub(super) fn left_out(&self) -> (u64, bool) {
        (self.odd, self.over)
    }

    /// What is to be told, until there is nothing more.
    pub(super) fn poll_output(&mut self) -> Option<Output<O>> {
        self.outputs.pop_front()
    }

    /// Takes one input.
    pub(super) fn handle(&mut self, input: Input<O>) {
        self.pause = Pause::None;
        match input {
            Input::Page(page) => self.handle_page(page),
            Input::Opened => self.handle_opened(),
            Input::Event(event) => self.handle_event(event),
            Input::Closed(lived) => self.handle_closed(lived),
            Input::Failed(problem) => self.handle_failed(problem),
        }
    }

    fn handle_page(&mut self, page: Page<O>) {
        // A page that nobody waits for is of a request that was given up.
        let Awaits::Page { gathered, next, .. } = &mut self.state else { return };
        if next.is_empty() {
            (self.odd, self.over) = (0, false);
        }
        for item in page.items {
            match item {
                Item::Known(object) => self.over |= gathered.put(object) == Put::Over,
                Item::Odd(_) => self.odd += 1,
            }
        }
        self.renewed = false;
        // Where no more can be kept, the rest of the pages is not worth its traffic.
        if !page.metadata.next.is_empty() && !self.over {
            *next = page.metadata.next;
            return;
        }
        let listed = mem::take(gathered);
        self.state = Awaits::Watch { from: page.metadata.resource_version };
        self.limit = Some(PAGE);
        self.take_list(listed);
    }

    fn take_list(&mut self, listed: Kept<O>) {
        let before = mem::replace(&mut self.known, listed);
        let changed = !mem::replace(&mut self.whole, true) || before.objects != self.known.objects;
        for (key, object) in before.objects {
            if self.known.objects.get(&key).is_none_or(|known| known.meta().uid != object.meta().uid) {
                self.outputs.push_back(Output::Removed(object));
            }
        }
        // What kept the list from coming is over; what keeps the watch from opening is not.
        let over = self.trouble.as_ref().is_some_and(|trouble| trouble.remedy() != Remedy::ListOn);
        if over {
            self.trouble = None;
        }
        if over || changed {
            self.outputs.push_back(Output::Told);
        }
    }

    fn handle_opened(&mut self) {
        let Awaits::Watch { from } = &mut self.state else { return };
        self.state = Awaits::Event { from: mem::take(from), heard: false };
        self.renewed = false;
        if self.fruitless <= FRUITLESS_MAX && self.trouble.take().is_some() {
            self.outputs.push_back(Output::Told);
        }
    }

    fn handle_event(&mut self, event: Event<O>) {
        let Awaits::Event { from, heard } = &mut self.state else { return };
        let version = match &event {
            Event::Applied(object) | Event::Deleted(object) => object.meta().resource_version.clone(),
            Event::Bookmark(version) => version.clone(),
            Event::Error(_) | Event::Odd => String::new(),
        };
        if !matches!(event, Event::Error(_)) {
            *heard = true;
            self.fruitless = 0;
        }
        if !version.is_empty() {
            *from = version;
        }
        match event {
            Event::Applied(object) => self.apply(object),
            Event::Deleted(object) => {
                if self.known.remove(&object) {
                    self.outputs.push_back(Output::Removed(object));
                    self.outputs.push_back(Output::Told);
                }
            }
            Event::Bookmark(_) => {}
            Event::Odd => self.odd += 1,
            Event::Error(status) => self.handle_failed(Problem::of_status(status, Verb::Watch, None)),
        }
        if self.trouble.is_some() && self.is_open() {
            self.trouble = None;
            self.outputs.push_back(Output::Told);
        }
    }

    fn apply(&mut self, object: O) {
        match self.known.put(object) {
            Put::Same => return,
            Put::Changed(Some(before)) => self.outputs.push_back(Output::Removed(before)),
            Put::Changed(None) => {}
            Put::Over => self.over = true,
        }
        self.outputs.push_back(Output::Told);
    }

    fn handle_closed(&mut self, lived: Duration) {
        let Awaits::Event { from, heard } = &mut self.state else { return };
        let steady = *heard || lived >= STEADY;
        self.state = Awaits::Watch { from: mem::take(from) };
        if steady {
            self.fruitless = 0;
            return;
        }
        self.fruitless += 1;
        self.pause = Pause::Backoff;
        if self.fruitless > FRUITLESS_MAX {
            self.fail(Problem::EndsAtOnce);
        }
    }

    fn handle_failed(&mut self, problem: Problem) {
        if problem.is_denied() && !mem::replace(&mut self.renewed, true) {
            // A token that was rotated: the next request has the new one.
            self.outputs.push_back(Output::Renew);
            self.close();
            return;
        }
        if problem.is_denied() {
            self.outputs.push_back(Output::Renew);
        }
        match (&mut self.state, problem.remedy()) {
            (Awaits::Page { restarts, next, .. }, Remedy::List) if !next.is_empty() => {
                // The pages grew old before all were there.
                let restarts = *restarts + 1;
                if restarts > RESTARTS_MAX {
                    self.limit = None;
                }
                self.state = begin(restarts);
            }
            (Awaits::Page { .. }, Remedy::Smaller) if self.limit != Some(1) => {
                self.limit = Some(self.limit.map_or(PAGE, |limit| (limit / 2).max(1)));
            }
            (Awaits::Page { restarts, .. }, Remedy::List | Remedy::ListOn) => {
                self.state = begin(*restarts);
                self.fail(problem);
            }
            (Awaits::Page { .. }, Remedy::Retry | Remedy::Smaller) => self.fail(problem),
            (Awaits::Watch { .. } | Awaits::Event { .. }, Remedy::Retry) => {
                let was_open = self.is_open();
                self.close();
                self.fruitless += u32::from(was_open);
                if self.fruitless > FRUITLESS_MAX {
                    // It breaks each time at the same place: go round it.
                    self.state = begin(0);
                }
                self.fail(problem);
            }
            (Awaits::Watch { .. } | Awaits::Event { .. }, Remedy::List) => {
                let gone = problem == Problem::Gone;
                self.state = begin(0);
                self.fruitless += 1;
                if gone && self.fruitless == 1 {
                    return;
                }
                self.pause = Pause::Backoff;
                if !gone || self.fruitless > FRUITLESS_MAX {
                    self.fail(problem);
                }
            }
            (Awaits::Watch { .. } | Awaits::Event { .. }, Remedy::ListOn | Remedy::Smaller) => {
                self.state = begin(0);
                self.fail(problem);
            }
        }
    }

    /// Goes back to before the stream that is open, if one is.
    fn close(&mut self) {
        if let Awaits::Event { from, .. } = &mut self.state {
            self.state = Awaits::Watch { from: mem::take(from) };
        }
    }

    fn fail(&mut self, problem: Problem) {
        self.pause = match problem.wait() {
            Some(wait) => Pause::AtLeast(wait),
            None => Pause::Backoff,
        };
        self.trouble = Some(problem);
        self.outputs.push_back(Output::Told);
    }
}

fn begin<O>(restarts: u32) -> Awaits<O> {
    Awaits::Page { gathered: Kept::default(), next: String::new(), restarts }
}
