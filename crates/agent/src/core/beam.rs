//! The process `metacluster` on the agent's own nodes: what BEAM processes can ask, and who is told of events.
//!
//! `{subscribe, Pid}` and `{unsubscribe, Pid}` come as plain sends; then `{nodeup, Node}` and `{nodedown, Node}` go to
//! that process as plain messages. `gen_server:call` takes `members`, `nodes`, `clusters`, `ready` and
//! `{subscribe, Pid, Opts}`; anything else gets `{error, unknown_request}` (docs/contracts.md, BEAM). Subscribers are
//! monitored, so that none is kept after its end, and bounded by [`SUBSCRIBERS_MAX`].

use std::{collections::BTreeMap, sync::Arc};

use metacluster_erl::{
    Node, Process, Received, SendError, gen_server,
    wire::{Pid, Reference, Term},
};
use metacluster_types::{Event, EventKind};
use tokio::sync::watch;
use tracing::{debug, warn};

use super::dial::atom;
use crate::{
    events::{EventLog, Next, Reader},
    view::{MemberState, NodeState, View},
};

/// Subscribers of one node of ours; one more gets `{error, system_limit}`.
const SUBSCRIBERS_MAX: usize = 10_000;
/// Where a term can be no longer, the reason of an event is cut.
const REASON_BYTES_MAX: usize = 1_000;

/// What a subscriber wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wish {
    /// `{nodeup, Node}` and `{nodedown, Node}`.
    Nodes,
    /// `{metacluster_event, Map}` for every event.
    All,
}

struct Subscriber {
    wish: Wish,
    monitor: Reference,
}

/// Serves one of our nodes until it is aborted.
pub(crate) async fn serve(node: Node, log: EventLog, view: watch::Receiver<Arc<View>>) {
    let process = node.spawn();
    if let Err(error) = process.register("metacluster") {
        warn!("{}: {error}", node.name());
        return;
    }
    let reader = log.reader(None);
    Desk { process, view, subscribers: BTreeMap::new() }.run(reader).await;
}

struct Desk {
    process: Process,
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
                    Next::Gap { from, to } => warn!("BEAM subscribers missed the events {from} to {to}"),
                    Next::Closed => return,
                },
            }
        }
    }

    fn handle(&mut self, received: Received) {
        match received {
            Received::Message(message) => match gen_server::Call::parse(message) {
                Ok(call) => {
                    let answer = self.answer(&call.request);
                    if let Err(error) = gen_server::reply(self.process.node(), &call.from, answer) {
                        debug!("a caller was not answered: {error}");
                    }
                }
                Err(message) => self.plain(&message),
            },
            Received::Down { reference, .. } => {
                self.subscribers.retain(|_, subscriber| subscriber.monitor != reference)
            }
            Received::Lost { messages } => warn!("{messages} messages to the process metacluster were dropped"),
            Received::Exit { .. } => {}
        }
    }

    fn plain(&mut self, message: &Term) {
        match message.as_tuple() {
            Some([what, pid]) if what.is_atom("subscribe") => {
                if let Some(pid) = pid.as_pid() {
                    self.subscribe(pid, Wish::Nodes);
                }
            }
            Some([what, pid]) if what.is_atom("unsubscribe") => {
                if let Some(pid) = pid.as_pid() {
                    self.unsubscribe(pid);
                }
            }
            Some(_) | None => debug!("a message that is none of ours: {message}"),
        }
    }

    fn answer(&mut self, request: &Term) -> Term {
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
            (_, _) => error("unknown_request"),
        }
    }

    fn subscribe(&mut self, pid: &Pid, wish: Wish) -> bool {
        if let Some(known) = self.subscribers.get_mut(pid) {
            known.wish = wish;
            return true;
        }
        if self.subscribers.len() >= SUBSCRIBERS_MAX {
            return false;
        }
        let monitor = self.process.monitor(pid);
        self.subscribers.insert(pid.clone(), Subscriber { wish, monitor });
        true
    }

    fn unsubscribe(&mut self, pid: &Pid) {
        if let Some(gone) = self.subscribers.remove(pid) {
            self.process.demonitor(&gone.monitor);
        }
    }

    fn tell(&mut self, event: &Event) {
        let short = short_form(event);
        let mut long = None;
        let process = &self.process;
        self.subscribers.retain(|pid, subscriber| {
            let message = match (&subscriber.wish, &short) {
                (Wish::Nodes, None) => return true,
                (Wish::Nodes, Some(short)) => short.clone(),
                (Wish::All, _) => long.get_or_insert_with(|| long_form(event)).clone(),
            };
            match process.send(pid, message) {
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

/// Reads `[]`, `[all]`, or a map `#{events => all | nodes}`.
fn wish(options: &Term) -> Option<Wish> {
    let word = match options.map_get("events") {
        Some(events) => Some(events),
        None => match options.as_list() {
            Some([word]) => Some(word),
            Some([]) => None,
            Some(_) => return None,
            None if options.as_map().is_some_and(<[_]>::is_empty) => None,
            None => return None,
        },
    };
    match word {
        None => Some(Wish::Nodes),
        Some(word) if word.is_atom("nodes") => Some(Wish::Nodes),
        Some(word) if word.is_atom("all") => Some(Wish::All),
        Some(_) => None,
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
        assert_eq!(wish(&Term::list([])), Some(Wish::Nodes));
        assert_eq!(wish(&Term::map([])), Some(Wish::Nodes));
        assert_eq!(wish(&Term::list([Term::atom("all")])), Some(Wish::All));
        assert_eq!(wish(&events("all")), Some(Wish::All));
        for bad in [events("x"), Term::atom("all"), Term::list([Term::Integer(1)])] {
            assert_eq!(wish(&bad), None, "{bad}");
        }
    }
}
