//! A model of the API: a log of versions that is cut at its old end, lists in pages as of one version, watches from a
//! version on. Whatever fails on the way, the machine must agree with it once nothing fails any more.

use std::collections::BTreeMap;

use proptest::{prelude::*, sample::Index};

use super::*;

/// What happens next.
#[derive(Clone, Debug)]
enum Act {
    /// A pod is written.
    Write { name: u8, phase: u8 },
    /// A pod is deleted.
    Delete { name: u8 },
    /// The log forgets some of its oldest versions.
    Compact(Index),
    /// The client is served, and the stream delivers at most so many events.
    Serve(u8),
    /// What the client asks for fails, or its stream does.
    Fail(Fault),
}

#[derive(Clone, Debug)]
enum Fault {
    Broken,
    Gone,
    Forbidden,
    Unauthorized,
    TooLong,
    ErrorEvent,
    Closed,
}

#[derive(Default)]
struct Server {
    version: u64,
    /// Versions up to this one are forgotten.
    forgotten: u64,
    log: Vec<(u64, Event<Pod>)>,
    pods: BTreeMap<String, Pod>,
    next_uid: u64,
    /// What the pages of one list are cut from.
    snapshots: BTreeMap<u64, Vec<Pod>>,
}

impl Server {
    fn write(&mut self, name: u8, phase: u8) {
        self.version += 1;
        let name = format!("p{}", name % 8);
        let uid = self.pods.get(&name).map_or_else(
            || {
                self.next_uid += 1;
                self.next_uid.to_string()
            },
            |pod| pod.metadata.uid.clone(),
        );
        let written = pod(&name, &uid, &format!("phase-{}", phase % 3), &self.version.to_string());
        self.pods.insert(name, written.clone());
        self.log.push((self.version, Event::Applied(written)));
    }

    fn delete(&mut self, name: u8) {
        if let Some(mut gone) = self.pods.remove(&format!("p{}", name % 8)) {
            self.version += 1;
            gone.metadata.resource_version = self.version.to_string();
            self.log.push((self.version, Event::Deleted(gone)));
        }
    }

    fn list(&mut self, limit: Option<u32>, next: &str) -> Input<Pod> {
        let (version, offset) = match next.split_once('/') {
            Some((version, offset)) => (version.parse().expect("a version"), offset.parse().expect("an offset")),
            None => {
                self.snapshots.insert(self.version, self.pods.values().cloned().collect());
                (self.version, 0_usize)
            }
        };
        if version < self.forgotten {
            return Input::Failed(Problem::Gone);
        }
        let all = &self.snapshots[&version];
        // Pages of three at most, so that lists have several.
        let size = limit.map_or(usize::MAX, |limit| limit.min(3) as usize);
        let items: Vec<Pod> = all.iter().skip(offset).take(size).cloned().collect();
        let end = offset + items.len();
        let next = if end < all.len() { format!("{version}/{end}") } else { String::new() };
        page(&items, &version.to_string(), &next)
    }

    /// The events after a version, or `None` if they are forgotten.
    fn events(&self, from: &str) -> Option<Vec<Event<Pod>>> {
        let from: u64 = from.parse().expect("a version of this server");
        let events = self.log.iter().filter(|(version, _)| *version > from).map(|(_, event)| event.clone());
        (from >= self.forgotten).then(|| events.collect())
    }
}

/// Does what the machine asks for once, and delivers at most so many events.
fn serve(server: &mut Server, machine: &mut Machine<Pod>, events_max: usize) {
    let request = machine.step().request;
    match request {
        Request::List { limit, next } => {
            let input = server.list(limit, &next);
            machine.handle(input);
        }
        Request::Watch { from } => match server.events(&from) {
            None if machine.is_open() => machine.handle(Input::Event(Event::Error(status(410, "Expired")))),
            None => machine.handle(Input::Failed(Problem::Gone)),
            Some(events) => {
                if !machine.is_open() {
                    machine.handle(Input::Opened);
                }
                for event in events.into_iter().take(events_max) {
                    machine.handle(Input::Event(event));
                }
                if events_max.is_multiple_of(2) {
                    machine.handle(Input::Closed(Duration::from_secs(2)));
                }
            }
        },
    }
}

fn fault(machine: &Machine<Pod>, fault: &Fault) -> Input<Pod> {
    let verb = if matches!(machine.step().request, Request::List { .. }) { Verb::List } else { Verb::Watch };
    match fault {
        Fault::Broken => Input::Failed(Problem::Broken(String::new())),
        Fault::Gone => Input::Failed(Problem::Gone),
        Fault::Forbidden => Input::Failed(Problem::Forbidden { verb, message: String::new() }),
        Fault::Unauthorized => Input::Failed(Problem::Unauthorized(String::new())),
        Fault::TooLong => Input::Failed(Problem::TooLong(1)),
        Fault::ErrorEvent => Input::Event(Event::Error(status(500, "InternalError"))),
        Fault::Closed => Input::Closed(Duration::ZERO),
    }
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let faults = prop_oneof![
        Just(Fault::Broken),
        Just(Fault::Gone),
        Just(Fault::Forbidden),
        Just(Fault::Unauthorized),
        Just(Fault::TooLong),
        Just(Fault::ErrorEvent),
        Just(Fault::Closed),
    ];
    let act = prop_oneof![
        3 => (any::<u8>(), any::<u8>()).prop_map(|(name, phase)| Act::Write { name, phase }),
        2 => any::<u8>().prop_map(|name| Act::Delete { name }),
        1 => any::<Index>().prop_map(Act::Compact),
        4 => (0_u8..5).prop_map(Act::Serve),
        2 => faults.prop_map(Act::Fail),
    ];
    prop::collection::vec(act, 0..80)
}

fn kept(machine: &Machine<Pod>) -> Vec<Pod> {
    machine.objects().cloned().collect()
}

proptest! {
    #[test]
    fn the_machine_agrees_with_the_api_once_nothing_fails(acts in acts()) {
        let mut server = Server::default();
        let mut machine = Machine::new();
        for act in acts {
            match act {
                Act::Write { name, phase } => server.write(name, phase),
                Act::Delete { name } => server.delete(name),
                Act::Compact(index) => {
                    let span = usize::try_from(server.version - server.forgotten).expect("a small number");
                    server.forgotten += index.index(span + 1) as u64;
                    server.log.retain(|(version, _)| *version > server.forgotten);
                }
                Act::Serve(events) => serve(&mut server, &mut machine, usize::from(events)),
                Act::Fail(kind) => {
                    let before = kept(&machine);
                    let input = fault(&machine, &kind);
                    machine.handle(input);
                    prop_assert_eq!(before, kept(&machine), "a failure changed what is known");
                }
            }
            outputs(&mut machine);
        }
        // Twenty requests are more than any list here has pages.
        for _ in 0..20 {
            serve(&mut server, &mut machine, 1001);
        }
        let known: Vec<String> = names(&machine);
        let there: Vec<String> =
            server.pods.values().map(|pod| format!("{}:{}", pod.metadata.uid, pod.status.phase)).collect();
        prop_assert_eq!(known, there);
        prop_assert!(machine.is_open());
    }
}
