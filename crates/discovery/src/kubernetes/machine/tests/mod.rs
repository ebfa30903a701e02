//! Scenarios of the machine, each some ten lines; and a model of the API that it must agree with.

mod model;
mod scenarios;

use super::*;
use crate::kubernetes::object::{ListMeta, Meta, Pod, PodStatus, Status};

/// A pod with an id and something that can change.
fn pod(name: &str, uid: &str, phase: &str, version: &str) -> Pod {
    Pod {
        metadata: Meta {
            name: name.to_owned(),
            namespace: "shop".to_owned(),
            uid: uid.to_owned(),
            resource_version: version.to_owned(),
            ..Meta::default()
        },
        status: PodStatus { phase: phase.to_owned(), ..PodStatus::default() },
        ..Pod::default()
    }
}

fn page(pods: &[Pod], version: &str, next: &str) -> Input<Pod> {
    Input::Page(Page {
        metadata: ListMeta { resource_version: version.to_owned(), next: next.to_owned() },
        items: pods.iter().cloned().map(Item::Known).collect(),
    })
}

fn status(code: u16, reason: &str) -> Status {
    Status { code, reason: reason.to_owned(), message: String::new() }
}

fn names(machine: &Machine<Pod>) -> Vec<String> {
    machine.objects().map(|pod| format!("{}:{}", pod.metadata.uid, pod.status.phase)).collect()
}

fn outputs(machine: &mut Machine<Pod>) -> Vec<Output<Pod>> {
    std::iter::from_fn(|| machine.poll_output()).collect()
}

/// Gives an input, and what the machine tells of it.
fn feed(machine: &mut Machine<Pod>, input: Input<Pod>) -> Vec<Output<Pod>> {
    machine.handle(input);
    outputs(machine)
}

fn list(limit: u32, next: &str) -> Request {
    Request::List { limit: Some(limit), next: next.to_owned() }
}

fn watch(from: &str) -> Request {
    Request::Watch { from: from.to_owned() }
}

fn step(request: Request, pause: Pause) -> Step {
    Step { request, pause }
}

/// One that has listed the pods a and b at version 10 and streams.
fn streaming() -> Machine<Pod> {
    let mut machine = Machine::new();
    machine.handle(page(&[pod("a", "1", "Running", "3"), pod("b", "2", "Running", "4")], "10", ""));
    machine.handle(Input::Opened);
    outputs(&mut machine);
    assert!(machine.is_open());
    machine
}
