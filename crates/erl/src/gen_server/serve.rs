//! A process as a server: one function that is given each thing that comes, and says how to go on.

use metacluster_erl_wire::{Atom, Term};

use super::{Call, parse_cast, reply_when_room};
use crate::node::process::{Process, Received};

/// What a server is given.
#[derive(Clone, Debug, PartialEq)]
pub enum Request {
    /// A `gen_server:call`. It is answered with [`Next::Reply`], or later with [`super::reply_as`].
    Call(Call),
    /// A `gen_server:cast`.
    Cast(Term),
    /// Anything else: a plain message, the end of what is monitored or linked, messages that were lost.
    Info(Received),
}

/// How a server goes on.
#[derive(Clone, Debug, PartialEq)]
pub enum Next {
    /// Answers the call with this, and goes on. To what is no call nothing is answered.
    Reply(Term),
    /// Goes on. A call is answered later, or never.
    Continue,
    /// Answers the call with this, and ends.
    ReplyAndStop(Term),
    /// Ends with this reason. Callers that still wait are told it.
    Stop(Term),
}

impl From<Term> for Next {
    fn from(answer: Term) -> Self {
        Self::Reply(answer)
    }
}

impl From<Received> for Request {
    fn from(received: Received) -> Self {
        let Received::Message(message) = received else { return Self::Info(received) };
        match Call::parse(message) {
            Ok(call) => Self::Call(call),
            Err(message) => match parse_cast(message) {
                Ok(request) => Self::Cast(request),
                Err(message) => Self::Info(Received::Message(message)),
            },
        }
    }
}

impl Process {
    /// Gives each thing that comes to `handle`, one after the other, until that ends the server; the reason is returned.
    /// To end it from outside, drop the future: the process ends with the reason `normal`.
    ///
    /// An answer to a caller whose connection is full waits for room, and so does all that comes meanwhile.
    ///
    /// ```
    /// use std::time::Duration;
    /// use metacluster_erl::{Node, gen_server::{Next, Request}, wire::{Term, term}};
    ///
    /// # async fn run() -> Result<(), Box<dyn std::error::Error>> {
    /// let node = Node::builder("counter@127.0.0.1").cookie("secret").start().await?;
    /// let counter = node.spawn();
    /// counter.register("counter")?;
    /// let mut count = 0_i64;
    /// let server = tokio::spawn(counter.serve(async move |request| match request {
    ///     Request::Call(call) if call.request.is_atom("count") => Next::Reply(count.into()),
    ///     Request::Call(_) => Next::Reply(term!({error, unknown_request})),
    ///     Request::Cast(term) if term.is_atom("stop") => Next::Stop(term!(normal)),
    ///     Request::Cast(term) => {
    ///         count += term.as_i64().unwrap_or(0);
    ///         Next::Continue
    ///     }
    ///     Request::Info(_) => Next::Continue,
    /// }));
    ///
    /// let name = node.name();
    /// node.cast(name, "counter", term!(5))?;
    /// assert_eq!(node.call(name, "counter", term!(count), Duration::from_secs(5)).await?, term!(5));
    /// node.cast(name, "counter", term!(stop))?;
    /// assert_eq!(server.await?, term!(normal));
    /// # Ok(())
    /// # }
    /// # tokio::runtime::Runtime::new().unwrap().block_on(run()).unwrap();
    /// ```
    pub async fn serve<H>(mut self, mut handle: H) -> Term
    where
        H: AsyncFnMut(Request) -> Next,
    {
        loop {
            let request = Request::from(self.recv().await);
            let caller = if let Request::Call(call) = &request { Some(call.from.clone()) } else { None };
            let (answer, reason) = match handle(request).await {
                Next::Reply(answer) => (Some(answer), None),
                Next::Continue => (None, None),
                Next::ReplyAndStop(answer) => (Some(answer), Some(Term::Atom(Atom::from_static("normal")))),
                Next::Stop(reason) => (None, Some(reason)),
            };
            if let (Some(caller), Some(answer)) = (caller, answer)
                && let Err(error) = reply_when_room(&self, &caller, answer).await
            {
                tracing::debug!(to = ?caller.pid, %error, "a call was answered to nobody");
            }
            if let Some(reason) = reason {
                self.exit(reason.clone());
                return reason;
            }
        }
    }
}
