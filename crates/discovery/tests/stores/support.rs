//! What the tests share.

use std::{
    collections::BTreeSet,
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    time::Duration,
};

use metacluster_discovery::{Local, build, spec::Spec, trial::Trial};
use metacluster_testbed::Contention;
use metacluster_types::{AgentId, ClusterName, NodeName, Place, Zone};
use tokio::runtime::{Builder, Runtime};

/// Much sooner than anything that is asked again and again would tell it.
const AT_ONCE: Duration = Duration::from_secs(5);

/// A strategy of an agent of its own, which has these nodes.
pub(crate) fn agent(spec: &str, id: u128, nodes: &[&str]) -> Trial {
    agent_of("main", spec, id, nodes)
}

/// The same in another cluster.
pub(crate) fn agent_of(cluster: &str, spec: &str, id: u128, nodes: &[&str]) -> Trial {
    let spec: Spec = spec.parse().unwrap_or_else(|fault| panic!("{spec}: {fault}"));
    let strategy = build(&spec.strategy, &spec.settings).unwrap_or_else(|faults| panic!("{faults:?}"));
    let local = Local {
        agent: AgentId(id),
        cluster: ClusterName::new(cluster).expect("a name"),
        place: Place { zone: Zone::new("z1").ok(), region: None },
        nodes: names(nodes),
        agents: BTreeSet::new(),
        port: None,
    };
    Trial::start_for(strategy, local)
}

fn names(nodes: &[&str]) -> BTreeSet<NodeName> {
    nodes.iter().map(|name| NodeName::new(name).expect("a node")).collect()
}

/// Changes the nodes of the trial's agent.
pub(crate) fn announce(trial: &Trial, nodes: &[&str]) {
    trial.set_local(|local| local.nodes = names(nodes));
}

/// Two agents with this specification find each other, and one knows at once what the other one's nodes are. The one that
/// is left.
pub(crate) async fn know_changes_at_once(spec: &str) -> Trial {
    let mut hears = agent(spec, 1, &["a@10.0.0.1"]);
    let speaks = agent(spec, 2, &["b@10.0.0.2", "c@10.0.0.2"]);
    hears.until(&["b@10.0.0.2", "c@10.0.0.2"]).await;
    assert!(hears.hosts().iter().all(|host| host.place.zone.is_some() && host.addresses.len() == 1));
    for nodes in [&["b@10.0.0.2"][..], &[], &["c@10.0.0.2", "d@10.0.0.2"]] {
        let begun = Contention::start();
        announce(&speaks, nodes);
        hears.until(nodes).await;
        assert!(begun.given() < AT_ONCE, "{nodes:?} took {:?}", begun.given());
    }
    speaks.stop().await;
    hears.until(&[]).await;
    hears
}

/// An agent that can die without a goodbye, since its tasks run on a runtime of their own.
pub(crate) struct Mortal(Option<Runtime>);

impl Mortal {
    pub(crate) fn start(spec: &str, id: u128, nodes: &[&str]) -> Self {
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
        let spec = spec.to_owned();
        let nodes: Vec<String> = nodes.iter().map(|&node| node.to_owned()).collect();
        runtime.spawn(async move {
            let nodes: Vec<&str> = nodes.iter().map(String::as_str).collect();
            let mut trial = agent(&spec, id, &nodes);
            loop {
                trial.next().await;
            }
        });
        Self(Some(runtime))
    }

    pub(crate) fn die(mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

impl Drop for Mortal {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

/// A certificate that signed itself, and its key, as two PEM files.
pub(crate) fn certificate(folder: &Path, name: &str) -> (PathBuf, PathBuf) {
    let made = rcgen::generate_simple_self_signed([name.to_owned()]).expect("a certificate");
    let (certificate, key) = (folder.join("server.pem"), folder.join("server.key"));
    fs::write(&certificate, made.cert.pem()).expect("written");
    fs::write(&key, made.signing_key.serialize_pem()).expect("written");
    fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).expect("protected");
    (certificate, key)
}
