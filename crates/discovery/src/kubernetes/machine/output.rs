//! What the machine asks for, and what it tells.

use tokio::time::Duration;

/// What is to be asked next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in super::super) struct Step {
    /// The request.
    pub(in super::super) request: Request,
    /// How long to wait before it.
    pub(in super::super) pause: Pause,
}

/// One request to the API.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in super::super) enum Request {
    /// A page of the list: at most so many objects, beginning where the page before ended.
    List {
        /// All of them, if it is `None`.
        limit: Option<u32>,
        /// Empty for the first page.
        next: String,
    },
    /// A watch from a version on; an empty one means from now, with all that is there at its beginning.
    Watch {
        /// The version.
        from: String,
    },
}

/// How long to wait before a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) enum Pause {
    /// Not at all.
    None,
    /// Longer from failure to failure.
    Backoff,
    /// The same, and at least as long as the API asks for.
    AtLeast(Duration),
}

/// What the machine tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in super::super) enum Output<O> {
    /// What is known changed, or a problem began or ended.
    Told,
    /// An object is gone, or the selector has left it: this was its last state.
    Removed(O),
    /// The API does not take the credentials: read them again.
    Renew,
}
