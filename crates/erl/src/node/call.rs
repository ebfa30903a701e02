//! Calls: `gen_server:call`, `rpc` and `erpc`, as the caller.
//!
//! A call is a monitor, a request and one outcome: the answer, the end of who should answer, the end of the connection,
//! or the end of patience. The monitor's reference is the tag of the answer too, so one look-up settles either. Calls
//! over one connection do not wait for one another. Follows `gen.erl`, `rex` in `rpc.erl`, and `erpc.erl` of OTP.

use std::{future::Future, time::Duration};

use metacluster_erl_wire::{
    Atom, Pid, Reference, Term,
    control::{Control, SpawnRequest},
    handshake::Flags,
};
use metacluster_types::NodeName;
use tokio::{
    sync::oneshot,
    time::{Instant, timeout_at},
};

use super::{
    Node, Route,
    error::{CallError, Class, Exception},
    outbox::Full,
    registry::{LOCAL, Outcome, Signal, Target},
    signals,
};

impl Node {
    /// `gen_server:call({Server, Node}, Request, Timeout)`.
    ///
    /// # Errors
    /// When there is no answer. [`CallError::NoProcess`] and [`CallError::NoConnection`] come at once.
    pub async fn call(
        &self,
        node: &NodeName,
        server: &str,
        request: Term,
        timeout: Duration,
    ) -> Result<Term, CallError> {
        self.call_from(&self.inner.kernel, node, server, request, timeout).await
    }

    /// `gen_server:call(Pid, Request, Timeout)`.
    ///
    /// # Errors
    /// As [`Node::call`].
    pub async fn call_pid(&self, server: &Pid, request: Term, timeout: Duration) -> Result<Term, CallError> {
        self.call_target(&self.inner.kernel, server.node.as_str(), Target::Pid(server.clone()), request, timeout).await
    }

    /// `rpc:call(Node, Module, Function, Args, Timeout)`, by way of `rex`. A function that takes long holds up no other
    /// call.
    ///
    /// # Errors
    /// When there is no result; [`CallError::BadRpc`] is the function's own fault.
    pub async fn rpc(
        &self,
        node: &NodeName,
        module: &str,
        function: &str,
        args: Vec<Term>,
        timeout: Duration,
    ) -> Result<Term, CallError> {
        let (Ok(module), Ok(function)) = (Term::atom_of(module), Term::atom_of(function)) else {
            return Err(CallError::BadRpc(Term::atom("system_limit")));
        };
        // `user` is the group leader: what the function prints goes to the node's own log.
        let request = Term::tuple([Term::atom("call"), module, function, Term::List(args), Term::atom("user")]);
        let result = self.call(node, "rex", request, timeout).await?;
        if let Some([tag, reason]) = result.as_tuple()
            && tag.is_atom("badrpc")
        {
            return Err(CallError::BadRpc(reason.clone()));
        }
        Ok(result)
    }

    /// `erpc:call(Node, Module, Function, Args, Timeout)`: needs no server on the node, and tells an exception with its
    /// class.
    ///
    /// # Errors
    /// When there is no result; [`CallError::Raised`] is the function's own fault.
    pub async fn erpc(
        &self,
        node: &NodeName,
        module: &str,
        function: &str,
        args: Vec<Term>,
        timeout: Duration,
    ) -> Result<Term, CallError> {
        let deadline = Instant::now() + timeout;
        let (Ok(module), Ok(function)) = (Term::atom_of(module), Term::atom_of(function)) else {
            return Err(CallError::Refused(Term::atom("system_limit")));
        };
        let Some(Route::Peer(connection)) = self.inner.route(node.as_str()) else {
            return Err(CallError::NoConnection);
        };
        let caller = self.inner.kernel.clone();
        let mut waiting = self.open(&caller, connection.info().connection, Awaited::Spawned);
        let result_tag = self.reference();
        let request = SpawnRequest {
            request: waiting.reference.clone(),
            from: caller.clone(),
            group_leader: caller,
            module: Atom::from_static("erpc"),
            function: Atom::from_static("execute_call"),
            arity: 4,
            options: vec![Term::atom("monitor")],
            trace: None,
        };
        let arguments = Term::list([result_tag.clone().into(), module, function, Term::List(args)]);
        let control = Control::SpawnRequest(Box::new(request));
        push(deadline, connection.push_when_room(control, Some(&arguments))).await?;
        match waiting.outcome(deadline).await? {
            Outcome::Down(reason) => execute_call_result(&result_tag, reason),
            Outcome::NotSpawned(reason) => Err(CallError::Refused(reason)),
            // Nobody else knows the tag.
            Outcome::Answer(answer) => Err(CallError::Exit(answer)),
        }
    }

    pub(crate) async fn call_from(
        &self,
        caller: &Pid,
        node: &NodeName,
        server: &str,
        request: Term,
        timeout: Duration,
    ) -> Result<Term, CallError> {
        let Ok(server) = Atom::new(server) else { return Err(CallError::NoProcess) };
        self.call_target(caller, node.as_str(), Target::Name(server), request, timeout).await
    }

    pub(crate) async fn call_target(
        &self,
        caller: &Pid,
        node: &str,
        target: Target,
        request: Term,
        timeout: Duration,
    ) -> Result<Term, CallError> {
        let deadline = Instant::now() + timeout;
        let route = self.inner.route(node).ok_or(CallError::NoConnection)?;
        if !self.inner.registry.is_alive(caller) {
            return Err(CallError::Ended);
        }
        let mut waiting = self.open(caller, route.id(), Awaited::Server(target.clone()));
        let reference = waiting.reference.clone();
        let from = Term::tuple([caller.clone().into(), reference.clone().into()]);
        let message = Term::tuple([Term::atom("$gen_call"), from, request]);
        match route {
            Route::Local => match self.inner.registry.watch(LOCAL, caller.clone(), target.clone(), reference) {
                Some(signal) => signals::take_local(&self.inner, signal),
                None => match target {
                    Target::Name(name) => signals::deliver_name(&self.inner, &name, message),
                    Target::Pid(pid) => signals::deliver(&self.inner, &pid, message),
                },
            },
            Route::Peer(connection) => {
                let monitor = Control::MonitorP { from: caller.clone(), to: target.clone(), reference };
                push(deadline, connection.push_when_room(monitor, None)).await?;
                let send = match target {
                    Target::Name(to) => Control::RegSend { from: caller.clone(), to, trace: None },
                    Target::Pid(to) if connection.has(Flags::SEND_SENDER) => {
                        Control::SendSender { from: caller.clone(), to, trace: None }
                    }
                    Target::Pid(to) => Control::Send { to, trace: None },
                };
                push(deadline, connection.push_when_room(send, Some(&message))).await?;
            }
        }
        match waiting.outcome(deadline).await? {
            Outcome::Answer(answer) => Ok(answer),
            Outcome::Down(reason) | Outcome::NotSpawned(reason) => Err(down(reason)),
        }
    }

    fn open(&self, caller: &Pid, connection: u64, awaited: Awaited) -> Waiting {
        let (reference, outcome) = self.inner.registry.open_call(connection);
        Waiting { node: self.clone(), caller: caller.clone(), connection, reference, awaited, outcome, down: false }
    }
}

/// Who is to answer.
enum Awaited {
    /// A server that has a name.
    Server(Target),
    /// A process that the request starts.
    Spawned,
}

/// A call under way. Dropping it forgets the call and takes the monitor back, so a caller may be cancelled.
struct Waiting {
    node: Node,
    caller: Pid,
    connection: u64,
    reference: Reference,
    awaited: Awaited,
    outcome: oneshot::Receiver<Outcome>,
    /// The monitor is used up.
    down: bool,
}

impl Waiting {
    async fn outcome(&mut self, deadline: Instant) -> Result<Outcome, CallError> {
        let outcome = match timeout_at(deadline, &mut self.outcome).await {
            Ok(Ok(outcome)) => outcome,
            // The registry gives each call an outcome, so this is the end of the node.
            Ok(Err(_)) => Outcome::Down(Term::atom("noconnection")),
            Err(_) => return Err(CallError::Timeout),
        };
        self.down = matches!(outcome, Outcome::Down(_) | Outcome::NotSpawned(_));
        Ok(outcome)
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        let registry = &self.node.inner.registry;
        let target = match &self.awaited {
            Awaited::Server(target) => Some(target.clone()),
            Awaited::Spawned => registry.spawned(&self.reference).map(Target::Pid),
        };
        registry.close_call(&self.reference);
        if let (false, Some(target)) = (self.down, target) {
            let (from, reference) = (self.caller.clone(), self.reference.clone());
            let signal = Signal::Demonitor { from, target, reference };
            self.node.inner.emit(&self.caller, self.connection, signal);
        }
    }
}

async fn push(deadline: Instant, push: impl Future<Output = Result<(), Full>>) -> Result<(), CallError> {
    match timeout_at(deadline, push).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(Full::Closed | Full::Busy)) => Err(CallError::NoConnection),
        Err(_) => Err(CallError::Timeout),
    }
}

fn down(reason: Term) -> CallError {
    if reason.is_atom("noproc") {
        CallError::NoProcess
    } else if reason.is_atom("noconnection") {
        CallError::NoConnection
    } else {
        CallError::Exit(reason)
    }
}

/// What `erpc:execute_call/4` exits with is its result.
fn execute_call_result(tag: &Reference, reason: Term) -> Result<Term, CallError> {
    let (class, value, stack) = match reason.as_tuple() {
        Some([own, kind, value, stack @ ..]) if own.as_reference() == Some(tag) => {
            let class = match kind.as_atom().map_or("", Atom::as_str) {
                "return" => return Ok(value.clone()),
                "throw" => Class::Throw,
                "error" => Class::Error,
                _ => Class::Exit,
            };
            (class, value.clone(), stack.first().cloned())
        }
        // It was ended by somebody else.
        Some(_) | None => return Err(down(reason)),
    };
    Err(CallError::Raised(Box::new(Exception { class, reason: value, stack })))
}
