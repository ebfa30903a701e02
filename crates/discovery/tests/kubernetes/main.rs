//! `kubernetes` against a simulator of the API, and against a server that plays what the simulator cannot.

mod credentials;
mod naming;
mod script;
mod simulator;
mod trouble;
mod versions;

use serde_json::{Value, json};

/// One page of a list.
fn list(items: &[Value], version: &str, next: &str) -> Value {
    json!({
        "kind": "List",
        "apiVersion": "v1",
        "metadata": {"resourceVersion": version, "continue": next},
        "items": items,
    })
}

/// A slice of the service `shop` with one ready pod.
fn slice(name: &str, pod: &str, address: &str, version: &str) -> Value {
    let endpoint = metacluster_testbed::endpoint(pod, address);
    let mut slice = metacluster_testbed::endpoint_slice("shop", name, "shop", &[endpoint]);
    slice["metadata"]["resourceVersion"] = version.into();
    slice
}

/// A pod that runs and is ready.
fn pod(namespace: &str, name: &str, address: &str) -> Value {
    json!({
        "metadata": {"name": name, "namespace": namespace, "uid": format!("uid-{name}"), "labels": {"app": "shop"}},
        "spec": {"nodeName": "worker-1", "hostname": name, "subdomain": "shop", "containers": []},
        "status": {
            "phase": "Running", "podIP": address, "podIPs": [{"ip": address}],
            "conditions": [{"type": "Ready", "status": "True"}],
            "containerStatuses": [{"name": "shop", "state": {"running": {}}}],
        },
    })
}

/// An event of a watch.
fn event(kind: &str, object: &Value) -> Value {
    json!({"type": kind, "object": object})
}

/// How the API says no.
fn status(code: u16, reason: &str, message: &str) -> Value {
    json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code, "reason": reason, "message": message})
}
