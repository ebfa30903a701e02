//! The keys of `kubernetes`, and what is wrong with them.

use tokio::time::Duration;

use super::{access::Access, names::Naming as Names, peers::SERVICE, scope::Resource};
use crate::{
    Gives, Naming, Pace, Strategy,
    naming::ROLES_FROM,
    settings::{Absent, Key, Kind, Reader},
};

/// How many namespaces one topology may name; `*` is all of them in one watch.
const NAMESPACES_MAX: usize = 64;
const RESOURCES: &[&str] = &["endpointslices", "pods"];

pub(crate) const KEYS: &[Key] = &[
    Key {
        name: "service",
        kind: Kind::Text,
        absent: Absent::Unset("none"),
        doc: "The service whose endpoints are wanted, mostly a headless one; with `naming = \"hostname\"` also the \
              service in the names",
    },
    Key {
        name: "selector",
        kind: Kind::Texts,
        absent: Absent::Unset("none"),
        doc: "A label selector, such as `app=shop,tier!=batch`: of EndpointSlices (they have their service's labels) or \
              of Pods",
    },
    Key {
        name: "field_selector",
        kind: Kind::Texts,
        absent: Absent::Unset("none"),
        doc: "A field selector, such as `spec.nodeName=worker-1`",
    },
    Key {
        name: "namespace",
        kind: Kind::Texts,
        absent: Absent::Unset("the agent's own, or that of the kubeconfig's context"),
        doc: "One namespace or several, each with a watch of its own; `*` stands for all and needs a ClusterRole",
    },
    Key {
        name: "resource",
        kind: Kind::OneOf(RESOURCES),
        absent: Absent::Default("endpointslices"),
        doc: "What is watched: the EndpointSlices of a service, or Pods",
    },
    Key {
        name: "naming",
        kind: Kind::OneOf(Names::WORDS),
        absent: Absent::Default("ip"),
        doc: "What a host is called: `ip` by its address, `dns` as `10-0-0-4.NAMESPACE.pod.DOMAIN`, `hostname` as \
              `HOSTNAME.SERVICE.NAMESPACE.svc.DOMAIN`; it must be what the nodes call themselves",
    },
    Key {
        name: "cluster_domain",
        kind: Kind::Text,
        absent: Absent::Unset("as the search list of /etc/resolv.conf tells, else cluster.local"),
        doc: "The domain of the cluster in those names",
    },
    Key {
        name: "ready_only",
        kind: Kind::Boolean,
        absent: Absent::Default("true"),
        doc: "Whether only ready endpoints are dialled; those that are not are still told to the other agents. `false` \
              does what `publishNotReadyAddresses` does, for this topology alone",
    },
    Key {
        name: "node_labels",
        kind: Kind::Boolean,
        absent: Absent::Default("true"),
        doc: "Whether zones and regions are read from the nodes' labels where nothing nearer tells them; it needs the \
              right to list nodes, and does without if that is missing",
    },
    ROLES_FROM,
    Key {
        name: "kubeconfig",
        kind: Kind::Path,
        absent: Absent::Unset("the pod's service account; outside of a pod KUBECONFIG, then ~/.kube/config"),
        doc: "A kubeconfig, with client certificates, tokens or an exec plugin",
    },
    Key {
        name: "context",
        kind: Kind::Text,
        absent: Absent::Unset("the current one"),
        doc: "The context of the kubeconfig",
    },
    Key {
        name: "service_account",
        kind: Kind::Path,
        absent: Absent::Unset("/var/run/secrets/kubernetes.io/serviceaccount"),
        doc: "The folder with `token`, `ca.crt` and `namespace` of the service account; all are read again when they \
              change",
    },
    Key {
        name: "idle_timeout",
        kind: Kind::Duration { least_ms: 1000, most_ms: 3_600_000 },
        absent: Absent::Default("90s"),
        doc: "How long a watch may be silent before it is begun again where it stopped; the API sends a bookmark about \
              every minute",
    },
    Pace::timeout("10s"),
];

/// The strategy, with its settings.
#[derive(Debug)]
pub(crate) struct Kubernetes {
    pub(super) access: Access,
    pub(super) timeout: Duration,
    pub(super) idle: Duration,
    /// The agent's own, if there is none; `None` among them is all.
    pub(super) namespaces: Vec<Option<String>>,
    pub(super) resource: Resource,
    pub(super) labels: String,
    pub(super) fields: String,
    pub(super) service: Option<String>,
    pub(super) names: Names,
    pub(super) domain: Option<String>,
    pub(super) ready_only: bool,
    pub(super) node_labels: bool,
    pub(super) naming: Naming,
}

pub(crate) fn make(reader: &mut Reader<'_>) -> Box<dyn Strategy> {
    let names = Names::of_word(reader.text("naming").as_deref().unwrap_or_default());
    let resource = match reader.text("resource").as_deref() {
        Some("pods") => Resource::Pods,
        Some(_) | None => Resource::EndpointSlices,
    };
    let service = reader.text("service");
    let mut labels = reader.texts("selector");
    let fields = reader.texts("field_selector").join(",");
    match (resource, &service) {
        (Resource::Pods, service) => {
            if labels.is_empty() && fields.is_empty() {
                reader.fault("selector", "is missing: say which pods with it or with `field_selector`");
            }
            if service.is_some() && names != Names::Hostname {
                let message = "names no pods: give the service's `selector`, or leave `resource` at endpointslices";
                reader.fault("service", message);
            }
        }
        (Resource::EndpointSlices | Resource::Nodes, Some(service)) => labels.push(format!("{SERVICE}={service}")),
        (Resource::EndpointSlices | Resource::Nodes, None) => {
            if labels.is_empty() {
                reader.fault("service", "is missing, and `selector` too: say whose endpoints with one of them");
            }
        }
    }
    let access = Access {
        kubeconfig: reader.path("kubeconfig"),
        context: reader.text("context"),
        account: reader.path("service_account"),
    };
    if access.account.is_some() && (access.kubeconfig.is_some() || access.context.is_some()) {
        reader.fault("service_account", "has no use beside `kubeconfig` or `context`: leave one of them out");
    }
    let domain = reader.text("cluster_domain").map(|domain| domain.trim_matches('.').to_owned());
    let template = match names {
        Names::Ip => "{basename}@{ip}",
        Names::Dns | Names::Hostname => "{basename}@{name}",
    };
    Box::new(Kubernetes {
        access,
        timeout: reader.duration("timeout"),
        idle: reader.duration("idle_timeout"),
        namespaces: namespaces(reader),
        resource,
        labels: labels.join(","),
        fields,
        service,
        names,
        domain,
        ready_only: reader.boolean("ready_only"),
        node_labels: reader.boolean("node_labels"),
        naming: Naming::read_as(reader, Gives::Hosts, template),
    })
}

fn namespaces(reader: &mut Reader<'_>) -> Vec<Option<String>> {
    let mut given = reader.texts("namespace");
    given.sort();
    given.dedup();
    if given.iter().any(|namespace| namespace == "*") {
        return vec![None];
    }
    let mut faults = Vec::new();
    for namespace in &given {
        let fits = namespace.len() <= 63
            && namespace.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-');
        if !fits {
            faults
                .push(format!("`{namespace}` is no namespace: expected lower-case letters, digits and dashes, or `*`"));
        }
    }
    if given.len() > NAMESPACES_MAX {
        let count = given.len();
        faults.push(format!("names {count} namespaces: at most {NAMESPACES_MAX}, or `*` for all"));
    }
    for fault in faults {
        reader.fault("namespace", &fault);
    }
    given.into_iter().map(Some).collect()
}
