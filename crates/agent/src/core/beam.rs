//! The process `metacluster` on the agent's own nodes: what BEAM processes can ask, and who is told of events.
//!
//! `{subscribe, Pid}` and `{unsubscribe, Pid}` come as plain sends; then `{nodeup, Node}` and `{nodedown, Node}` go to
//! that process as plain messages. `gen_server:call` takes `members`, `nodes`, `clusters`, `ready` and
//! `{subscribe, Pid, Opts}`, at a gateway also `{route, Service, Key}` and `{members, Service}`; anything else gets `{error, unknown_request}` (docs/contracts.md, BEAM). Subscribers are
//! monitored, so that none is kept after its end, and bounded by [`SUBSCRIBERS_MAX`].

use std::{collections::BTreeMap, sync::Arc};

use metacluster_erl::{
    Node, Process, Received, SendError, gen_server,
    wire::{Pid, Reference, Term},
};
use metacluster_types::{Event, EventKind, NodeName};
use tokio::sync::watch;
use tracing::{debug, warn};

use super::dial::atom;
use crate::{
    events::{EventLog, Next, Reader},
    federation,
    talk::Panel,
    view::{MemberState, NodeState, View},
};

/// Subscribers of one node of ours; one more gets `{error, system_limit}`.
const SUBSCRIBERS_MAX: usize = 10_000;
/// Where a term can be no longer, the reason of an event is cut.
const REASON_BYTES_MAX: usize = 1_000;

/// What a subscriber wants.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Wish {
    /// `{metacluster_event, Map}` for every event, instead of `{nodeup, Node}` and `{nodedown, Node}`.
    all: bool,
    /// `{metacluster_event, Name, Payload, From}` for every user event.
    user_events: bool,
    /// `{metacluster_query, Name, Payload, From, Ref}` for every query; `{metacluster_answer, Ref, Payload}` answers.
    queries: bool,
}

struct Subscriber {
    wish: Wish,
    monitor: Reference,
}

/// Serves one of our nodes until it is aborted.
pub(crate) async fn serve(
    node: Node,
    log: EventLog,
    view: watch::Receiver<Arc<View>>,
    panel: Panel,
    federation: federation::Handle,
) {
    let process = node.spawn();
    if let Err(error) = process.register("metacluster") {
        warn!("{}: {error}", node.name());
        return;
    }
    let reader = log.reader(None);
    Desk { process, view, panel, federation, subscribers: BTreeMap::new() }.run(reader).await;
}

struct Desk {
    process: Process,
    panel: Panel,
    federation: federation::Handle,
    view: watch::Receiver<Arc<View>>,
    subscribers: BTreeMap<Pid, Subscriber>,
}

impl Desk {
    async fn run(mut self, mut reader: Reader) {
        loop {
            tokio::select! {
                received = self.process.recv() => self.handle(received),
                next = reader.next() => match next {
                    Next::Event(event) => self.tell(&event),
                    Next::Gap { from, to, .. } => warn!("BEAM subscribers missed the events {from} to {to}"),
                    Next::Closed => return,
                },
            }
        }
    }

    fn handle(&mut self, received: Received) {
        match received {
            Received::Message(message) => match gen_server::Call::parse(message) {
                Ok(call) => {
                    let answer = self.answer(&call.request, &call.from);
                    if let Err(error) = gen_server::reply(self.process.node(), &call.from, answer) {
                        debug!("a caller was not answered: {error}");
                    }
                }
                Err(message) => self.plain(&message),
            },
            Received::Down { reference, .. } => {
                let panel = &self.panel;
                self.subscribers.retain(|_, subscriber| {
                    let stays = subscriber.monitor != reference;
                    panel.processes(0, usize::from(!stays && subscriber.wish.queries));
                    stays
                });
            }
            Received::Lost { messages } => warn!("{messages} messages to the process metacluster were dropped"),
            Received::Exit { .. } => {}
        }
    }

    fn plain(&mut self, message: &Term) {
        match message.as_tuple() {
            Some([what, pid]) if what.is_atom("subscribe") => {
                if let Some(pid) = pid.as_pid() {
                    self.subscribe(pid, Wish::default());
                }
            }
            Some([what, pid]) if what.is_atom("unsubscribe") => {
                if let Some(pid) = pid.as_pid() {
                    self.unsubscribe(pid);
                }
            }
            Some([what, query, answer]) if what.is_atom("metacluster_answer") => {
                if let (Some(query), Some(answer)) = (query.as_u64(), answer.as_binary()) {
                    self.panel.answer(query, Some(answer.to_vec()));
                }
            }
            Some(_) | None => debug!("a message that is none of ours: {message}"),
        }
    }

    fn answer(&mut self, request: &Term, from: &gen_server::From) -> Term {
        let view = Arc::clone(&self.view.borrow());
        match (request.as_atom().map(|request| request.as_str().to_owned()).as_deref(), request.as_tuple()) {
            (Some("nodes"), _) => Term::list(
                view.nodes.iter().filter(|node| node.state == NodeState::Up).map(|node| atom(node.name.as_str())),
            ),
            (Some("clusters"), _) => {
                Term::list(view.clusters.iter().map(|cluster| Term::binary(cluster.name.as_str())))
            }
            (Some("members"), _) => {
                let there = view.members.iter().filter(|member| member.state <= MemberState::Suspect);
                Term::list(there.map(|member| atom(&member.name)))
            }
            (Some("ready"), _) => Term::boolean(view.readiness.ready),
            (_, Some([what, pid, options])) if what.is_atom("subscribe") => match (pid.as_pid(), wish(options)) {
                (Some(pid), Some(wish)) if self.subscribe(pid, wish) => Term::atom("ok"),
                (Some(_), Some(_)) => error("system_limit"),
                (_, _) => error("badarg"),
            },
            (_, _) => self.service(request, from).unwrap_or_else(|| error("unknown_request")),
        }
    }

    /// What is asked of services, where this agent is a gateway.
    fn service(&self, request: &Term, from: &gen_server::From) -> Option<Term> {
        let caller = NodeName::new(from.pid.node.as_str()).ok()?;
        self.federation.ask(request, &caller)
    }

    fn subscribe(&mut self, pid: &Pid, wish: Wish) -> bool {
        if let Some(known) = self.subscribers.get_mut(pid) {
            self.panel.processes(usize::from(wish.queries), usize::from(known.wish.queries));
            known.wish = wish;
            return true;
        }
        if self.subscribers.len() >= SUBSCRIBERS_MAX {
            return false;
        }
        self.panel.processes(usize::from(wish.queries), 0);
        let monitor = self.process.monitor(pid);
        self.subscribers.insert(pid.clone(), Subscriber { wish, monitor });
        true
    }

    fn unsubscribe(&mut self, pid: &Pid) {
        if let Some(gone) = self.subscribers.remove(pid) {
            self.panel.processes(0, usize::from(gone.wish.queries));
            self.process.demonitor(&gone.monitor);
        }
    }

    fn tell(&mut self, event: &Event) {
        let short = short_form(event);
        let said = said_form(event);
        let mut long = None;
        let (process, panel) = (&self.process, &self.panel);
        self.subscribers.retain(|pid, subscriber| {
            let wish = subscriber.wish;
            let whole = wish.all.then(|| long.get_or_insert_with(|| long_form(event)).clone());
            let wants_said = (event.event == EventKind::User && wish.user_events)
                || (event.event == EventKind::Query && wish.queries);
            let messages = whole.or_else(|| short.clone()).into_iter().chain(said.clone().filter(|_| wants_said));
            let sent = messages.into_iter().try_for_each(|message| process.send(pid, message));
            if sent.is_err() {
                panel.processes(0, usize::from(wish.queries));
            }
            match sent {
                Ok(()) => true,
                // One that does not read would miss events without knowing; its monitor tells it that we gave up.
                Err(SendError::Busy) => {
                    warn!("{pid}: does not read its events and is not subscribed any more");
                    false
                }
                Err(_) => false,
            }
        });
    }
}

fn error(reason: &'static str) -> Term {
    Term::tuple([Term::atom("error"), Term::atom(reason)])
}

/// Reads a list of `all`, `nodes`, `user_events` and `queries`, or a map `#{events => all | nodes, user_events => true,
/// queries => true}`.
fn wish(options: &Term) -> Option<Wish> {
    let mut wish = Wish::default();
    if let Some(words) = options.as_list() {
        for word in words {
            match word.as_atom()?.as_str() {
                "all" => wish.all = true,
                "nodes" => {}
                "user_events" => wish.user_events = true,
                "queries" => wish.queries = true,
                _ => return None,
            }
        }
        return Some(wish);
    }
    for (key, value) in options.as_map()? {
        match key.as_atom()?.as_str() {
            "events" if value.is_atom("all") => wish.all = true,
            "events" if value.is_atom("nodes") => {}
            "user_events" => wish.user_events = value.as_bool()?,
            "queries" => wish.queries = value.as_bool()?,
            _ => return None,
        }
    }
    Some(wish)
}

/// `{metacluster_event, Name, Payload, From}`, or `{metacluster_query, Name, Payload, From, Ref}` while an answer is taken.
fn said_form(event: &Event) -> Option<Term> {
    let said = event.subject.said.as_ref()?;
    let from = event.subject.member.as_deref().unwrap_or_default();
    let common = [Term::binary(&said.name), Term::binary(&said.payload), Term::binary(from)];
    match said.query {
        Some(query) => {
            let reference = Term::Integer(i64::try_from(query).unwrap_or(i64::MAX));
            let head = std::iter::once(Term::atom("metacluster_query"));
            Some(Term::tuple(head.chain(common).chain([reference]).collect::<Vec<_>>()))
        }
        None if event.event == EventKind::User => {
            Some(Term::tuple(std::iter::once(Term::atom("metacluster_event")).chain(common).collect::<Vec<_>>()))
        }
        None => None,
    }
}

/// `{nodeup, Node}` or `{nodedown, Node}`.
fn short_form(event: &Event) -> Option<Term> {
    let is_node = matches!(event.event, EventKind::NodeUp | EventKind::NodeDown);
    let node = event.subject.node.as_ref().filter(|_| is_node)?;
    Some(Term::tuple([Term::atom(event.event.as_str()), atom(node.as_str())]))
}

/// `{metacluster_event, #{event => …, seq => …, …}}`.
fn long_form(event: &Event) -> Term {
    let mut map = vec![
        (Term::atom("event"), Term::atom(event.event.as_str())),
        (Term::atom("seq"), Term::Integer(i64::try_from(event.seq).unwrap_or(i64::MAX))),
        (Term::atom("at"), Term::binary(event.at.to_string())),
        (Term::atom("cluster"), Term::binary(event.cluster.as_str())),
    ];
    let subject = &event.subject;
    map.extend(subject.node.iter().map(|node| (Term::atom("node"), atom(node.as_str()))));
    map.extend(subject.member.iter().map(|member| (Term::atom("member"), Term::binary(member))));
    map.extend(subject.topology.iter().map(|topology| (Term::atom("topology"), Term::binary(topology.as_str()))));
    if let Some(said) = &subject.said {
        map.push((Term::atom("name"), Term::binary(&said.name)));
        map.push((Term::atom("payload"), Term::binary(&said.payload)));
    }
    map.extend(event.zone.iter().map(|zone| (Term::atom("zone"), Term::binary(zone.as_str()))));
    map.extend(event.reason.iter().map(|reason| {
        let end = reason.floor_char_boundary(REASON_BYTES_MAX.min(reason.len()));
        (Term::atom("reason"), Term::binary(&reason[..end]))
    }));
    Term::tuple([Term::atom("metacluster_event"), Term::map(map)])
}

#[cfg(test)]
mod tests {
    use metacluster_types::{ClusterName, NodeName, Subject, WallClock};

    use super::*;

    fn event(kind: EventKind) -> Event {
        Event {
            seq: 3,
            at: WallClock::new(std::time::SystemTime::UNIX_EPOCH),
            event: kind,
            subject: Subject::node(NodeName::new("a@b").expect("valid")),
            cluster: ClusterName::new("main").expect("valid"),
            zone: None,
            reason: Some("ü".repeat(REASON_BYTES_MAX)),
        }
    }

    #[test]
    fn only_nodes_have_a_short_form() {
        assert_eq!(short_form(&event(EventKind::NodeUp)).expect("a term").to_string(), "{nodeup,a@b}");
        assert_eq!(short_form(&event(EventKind::CandidateFound)), None);
    }

    #[test]
    fn a_long_reason_is_cut_at_a_character() {
        let long = long_form(&event(EventKind::NodeDown));
        let map = long.as_tuple().expect("a tuple")[1].clone();
        let reason = map.map_get("reason").and_then(Term::as_text).expect("a text");
        assert_eq!(reason.len(), REASON_BYTES_MAX);
    }

    #[test]
    fn options_are_read_or_refused() {
        let events = |word| Term::map([(Term::atom("events"), Term::atom(word))]);
        let all = Wish { all: true, ..Wish::default() };
        assert_eq!(wish(&Term::list([])), Some(Wish::default()));
        assert_eq!(wish(&Term::map([])), Some(Wish::default()));
        assert_eq!(wish(&Term::list([Term::atom("all")])), Some(all));
        assert_eq!(wish(&events("all")), Some(all));
        let said =
            Term::map([(Term::atom("user_events"), Term::boolean(true)), (Term::atom("queries"), Term::boolean(true))]);
        let wanted = Wish { user_events: true, queries: true, ..Wish::default() };
        assert_eq!(wish(&said), Some(wanted));
        assert_eq!(wish(&Term::list([Term::atom("user_events"), Term::atom("queries")])), Some(wanted));
        for bad in [events("x"), Term::atom("all"), Term::list([Term::Integer(1)])] {
            assert_eq!(wish(&bad), None, "{bad}");
        }
    }
}
