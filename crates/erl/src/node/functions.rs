//! Functions that peers may start here: what `erlang:spawn_request`, `erpc` and `rpc` of a peer come to.
//!
//! Nothing runs but what is on the node's list, by module, function and arity. A request for anything else is refused
//! with `notsup`, as is every request to a node that has no list. What runs is a process like any other: it has a pid,
//! can be linked to and monitored, and tells how it ended; an exit signal ends it, wherever it is. As many as
//! [`Functions::running_max`] run at once; past that a request is refused with `system_limit`.
//!
//! Follows `SPAWN_REQUEST` in the guide's "Protocol between Connected Nodes", and `erpc.erl` of OTP, whose calls and casts
//! are requests to start `erpc:execute_call/4` and `erpc:execute_cast/3`: here these stand for the function that they
//! name.

use std::{collections::BTreeMap, future::Future, pin::Pin, sync::Arc};

use metacluster_erl_wire::{
    Atom, Pid, Reference, Term,
    control::{Control, SPAWN_LINKED, SPAWN_MONITORED, SpawnRequest, SpawnResult},
    frame::Payload,
    term::{DecodeError, Limits},
};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    task::JoinSet,
};

use super::{
    Inner, Node,
    connection::Connection,
    error::{Class, Exception},
    process::{Process, Received},
    registry::Target,
    schedule::Lane,
    signals::is_limit,
};

/// How many functions run at once when nobody says anything.
const RUNNING_MAX: usize = 1_000;

/// Options of a request that say how the BEAM is to run a process, and mean nothing here.
const TUNING: [&str; 6] =
    ["priority", "fullsweep_after", "min_heap_size", "min_bin_vheap_size", "max_heap_size", "message_queue_data"];

type Outcome = Pin<Box<dyn Future<Output = Result<Term, Box<Exception>>> + Send>>;
type Function = Arc<dyn Fn(Started) -> Outcome + Send + Sync>;

/// The functions that peers may start. Cheap to clone; the default is none.
///
/// ```
/// use metacluster_erl::{Class, Exception, Functions, wire::{Term, term}};
///
/// // `erpc:call(Node, shop, price, [tea])` gives 3; any other item raises `error:unknown_item`.
/// let functions = Functions::default().allow("shop:price/1", |started| async move {
///     match &started.arguments[..] {
///         [item] if item.is_atom("tea") => Ok(term!(3)),
///         _ => Err(Exception::new(Class::Error, term!(unknown_item))),
///     }
/// });
/// assert_eq!(functions.unwrap().names().collect::<Vec<_>>(), ["shop:price/1"]);
/// ```
#[derive(Clone)]
pub struct Functions {
    table: BTreeMap<Name, Function>,
    running: Arc<Semaphore>,
}

#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Name {
    module: Atom,
    function: Atom,
    arity: usize,
}

/// A function that a peer has started, and what it was started with. It runs as a process without a mailbox: what is
/// sent to its pid is dropped.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Started {
    /// The node that it runs on.
    pub node: Node,
    /// Its pid.
    pub pid: Pid,
    /// Who has asked for it.
    pub caller: Pid,
    /// As many as its arity says.
    pub arguments: Vec<Term>,
}

/// What was given is no name of a function.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no function: expected module:function/arity, such as shop:price/1")]
pub struct BadFunctionName(String);

impl Default for Functions {
    fn default() -> Self {
        Self { table: BTreeMap::new(), running: Arc::new(Semaphore::new(RUNNING_MAX)) }
    }
}

impl Functions {
    /// Lets peers start `name`, which is `module:function/arity`, and answers with what it gives. To `erpc` that is the
    /// result; to others, who only see how a process ends, a result is the reason `normal`. A second function of the name
    /// takes the place of the first.
    ///
    /// # Errors
    /// When that is no name.
    pub fn allow<F, O>(mut self, name: &str, function: F) -> Result<Self, BadFunctionName>
    where
        F: Fn(Started) -> O + Send + Sync + 'static,
        O: Future<Output = Result<Term, Box<Exception>>> + Send + 'static,
    {
        let name = Name::parse(name).ok_or_else(|| BadFunctionName(name.to_owned()))?;
        self.table.insert(name, Arc::new(move |started| Box::pin(function(started))));
        Ok(self)
    }

    /// How many may run at once. Default 1,000.
    #[must_use]
    pub fn running_max(self, most: usize) -> Self {
        Self { running: Arc::new(Semaphore::new(most.min(Semaphore::MAX_PERMITS))), ..self }
    }

    /// What is on the list, as `module:function/arity`.
    pub fn names(&self) -> impl Iterator<Item = String> {
        self.table.keys().map(|name| format!("{}:{}/{}", name.module.as_str(), name.function.as_str(), name.arity))
    }
}

impl std::fmt::Debug for Functions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.names()).finish()
    }
}

impl Name {
    fn parse(text: &str) -> Option<Self> {
        let (name, arity) = text.rsplit_once('/')?;
        let (module, function) = name.split_once(':')?;
        let arity = arity.parse::<u8>().ok()?;
        if module.is_empty() || function.is_empty() {
            return None;
        }
        Some(Self { module: Atom::new(module).ok()?, function: Atom::new(function).ok()?, arity: arity.into() })
    }
}

/// How the end of a function is told.
enum Told {
    /// As the exit of its process.
    Exit,
    /// As `erpc` wants to have it, with this reference.
    Erpc(Reference),
}

/// What a request asks for.
struct Asked {
    name: Name,
    arguments: Vec<Term>,
    told: Told,
}

/// Takes the request of a peer.
///
/// # Errors
/// When the arguments are no term.
pub(crate) fn requested(
    inner: &Arc<Inner>,
    connection: &Arc<Connection>,
    request: SpawnRequest,
    arguments: Option<Payload>,
    limits: &Limits,
) -> Result<(), DecodeError> {
    let outcome = match arguments.map(|arguments| arguments.decode(limits)).transpose() {
        Ok(arguments) => start(inner, connection, &request, arguments),
        Err(error) if is_limit(&error) => Err("system_limit"),
        Err(error) => return Err(error),
    };
    if let Err(reason) = outcome {
        let result = SpawnResult::Refused(Atom::from_static(reason));
        let SpawnRequest { request, from, trace, .. } = request;
        connection.push_control(Control::SpawnReply { request, to: from, flags: 0, result, trace }, None);
    }
    Ok(())
}

/// Starts what a request asks for, or says why not, in the words of OTP. Nothing changed then.
fn start(
    inner: &Arc<Inner>,
    connection: &Arc<Connection>,
    request: &SpawnRequest,
    arguments: Option<Term>,
) -> Result<(), &'static str> {
    let functions = &inner.options.functions;
    if functions.table.is_empty() {
        return Err("notsup");
    }
    let Asked { name, arguments, told } = asked(request, arguments).ok_or("badarg")?;
    let function = functions.table.get(&name).ok_or("notsup")?;
    let (link, monitor) = wanted(&request.options).ok_or("badopt")?;
    let permit = Arc::clone(&functions.running).try_acquire_owned().map_err(|_| "system_limit")?;

    let node = Node::of(inner);
    let process = node.spawn();
    let pid = process.pid().clone();
    let (id, caller) = (connection.info().connection, &request.from);
    // The process is fresh and known to nobody, so neither can fail.
    let mut flags = 0;
    if link && inner.registry.link_from(id, caller.clone(), &pid).is_none() {
        flags |= SPAWN_LINKED;
    }
    let target = Target::Pid(pid.clone());
    if monitor && inner.registry.watch(id, caller.clone(), target, request.request.clone()).is_none() {
        flags |= SPAWN_MONITORED;
    }
    let reply = Control::SpawnReply {
        request: request.request.clone(),
        to: caller.clone(),
        flags,
        result: SpawnResult::Started(pid.clone()),
        trace: request.trace.clone(),
    };
    // In the order of the process, so that it comes before the end of it.
    connection.push_control_in(Lane::of(&pid), reply);
    let outcome = function(Started { node, pid, caller: caller.clone(), arguments });
    inner.run(run(process, outcome, name, told, permit));
    Ok(())
}

/// What a request names, by itself or through `erpc`; none if its arguments are no list, or not those of `erpc`.
fn asked(request: &SpawnRequest, arguments: Option<Term>) -> Option<Asked> {
    let arguments = match arguments {
        Some(Term::List(arguments)) => arguments,
        Some(_) => return None,
        None => Vec::new(),
    };
    let function = (request.module.as_str(), request.function.as_str(), arguments.len());
    let (told, module, function, arguments) = match function {
        ("erpc", "execute_call", 4) => {
            let [reference, module, function, arguments] = <[Term; 4]>::try_from(arguments).ok()?;
            (Told::Erpc(reference.as_reference()?.clone()), module, function, arguments)
        }
        ("erpc", "execute_cast", 3) => {
            let [module, function, arguments] = <[Term; 3]>::try_from(arguments).ok()?;
            (Told::Exit, module, function, arguments)
        }
        (_, _, arity) => {
            let name = Name { module: request.module.clone(), function: request.function.clone(), arity };
            return Some(Asked { name, arguments, told: Told::Exit });
        }
    };
    let Term::List(arguments) = arguments else { return None };
    let (module, function) = (module.as_atom()?.clone(), function.as_atom()?.clone());
    Some(Asked { name: Name { module, function, arity: arguments.len() }, arguments, told })
}

/// Whether a link and a monitor are asked for; none if there is an option that OTP does not have either.
fn wanted(options: &[Term]) -> Option<(bool, bool)> {
    let (mut link, mut monitor) = (false, false);
    for option in options {
        match (option, option.as_tuple()) {
            (option, _) if option.is_atom("link") => link = true,
            (option, _) if option.is_atom("monitor") => monitor = true,
            (_, Some([option, _])) if option.is_atom("monitor") => monitor = true,
            (_, Some([option, _])) if option.as_atom().is_some_and(|name| TUNING.contains(&name.as_str())) => {}
            (option, _) if option.is_atom("async_dist") => {}
            (_, Some([option, _])) if option.is_atom("async_dist") => {}
            (_, _) => return None,
        }
    }
    Some((link, monitor))
}

/// Runs a function until it is done or somebody ends its process.
async fn run(mut process: Process, outcome: Outcome, name: Name, told: Told, permit: OwnedSemaphorePermit) {
    let mut task = JoinSet::new();
    task.spawn(outcome);
    let reason = tokio::select! {
        outcome = task.join_next() => match outcome {
            Some(Ok(outcome)) => told.reason(outcome, &name),
            // It panicked; what it said went to the program's own error output.
            Some(Err(_)) | None => told.reason(Err(Exception::new(Class::Error, Term::atom("panic"))), &name),
        },
        reason = ended(&mut process) => reason,
    };
    task.shutdown().await;
    process.exit(reason);
    drop(permit);
}

/// Waits for an exit signal that ends a process, as one of the BEAM that does not trap exits.
async fn ended(process: &mut Process) -> Term {
    loop {
        match process.recv().await {
            Received::Exit { from: _, reason } if reason.is_atom("kill") => return Term::atom("killed"),
            Received::Exit { from: _, reason } if !reason.is_atom("normal") => return reason,
            Received::Exit { .. } | Received::Message(_) | Received::Down { .. } | Received::Lost { .. } => {}
        }
    }
}

impl Told {
    /// The reason with which the process ends.
    fn reason(self, outcome: Result<Term, Box<Exception>>, name: &Name) -> Term {
        let stack = |stack: Option<Term>| {
            let arity = i64::try_from(name.arity).unwrap_or(i64::MAX);
            let place = [name.module.clone().into(), name.function.clone().into(), arity.into(), Term::list([])];
            stack.unwrap_or_else(|| Term::list([Term::tuple(place)]))
        };
        match (self, outcome) {
            (Self::Exit, Ok(_)) => Term::atom("normal"),
            (Self::Exit, Err(raised)) => match raised.class {
                Class::Exit => raised.reason,
                Class::Error => Term::tuple([raised.reason, stack(raised.stack)]),
                Class::Throw => Term::tuple([Term::tuple([Term::atom("nocatch"), raised.reason]), stack(raised.stack)]),
            },
            (Self::Erpc(reference), Ok(value)) => Term::tuple([reference.into(), Term::atom("return"), value]),
            (Self::Erpc(reference), Err(raised)) => {
                let mut result = vec![reference.into(), Term::atom(raised.class.as_str()), raised.reason];
                if raised.class == Class::Error {
                    result.push(stack(raised.stack));
                }
                Term::tuple(result)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_function_is_named_as_in_erlang() {
        let parsed = |text: &str| Name::parse(text).map(|n| (n.module.to_string(), n.function.to_string(), n.arity));
        assert_eq!(parsed("shop:price/1"), Some(("shop".into(), "price".into(), 1)));
        assert_eq!(parsed("Elixir.Shop:price!/0"), Some(("'Elixir.Shop'".into(), "'price!'".into(), 0)));
        for bad in ["", "shop", "shop:price", "shop:price/", "shop:price/-1", "shop:price/256", ":price/1", "shop:/1"] {
            assert_eq!(parsed(bad), None, "{bad}");
        }
        let error = Functions::default().allow("shop.price", |_| async { Ok(Term::list([])) }).expect_err("no name");
        assert!(error.to_string().starts_with("`shop.price` is no function"), "{error}");
    }

    #[test]
    fn options_of_the_beam_are_known_and_others_are_not() {
        let tuple = |name: &'static str| Term::tuple([Term::atom(name), Term::Integer(1)]);
        assert_eq!(wanted(&[]), Some((false, false)));
        assert_eq!(wanted(&[Term::atom("link"), tuple("priority"), tuple("monitor")]), Some((true, true)));
        assert_eq!(wanted(&[tuple("async_dist"), Term::atom("monitor")]), Some((false, true)));
        for bad in [Term::atom("links"), tuple("link"), Term::Integer(1), Term::tuple([])] {
            assert_eq!(wanted(&[bad]), None);
        }
    }
}
