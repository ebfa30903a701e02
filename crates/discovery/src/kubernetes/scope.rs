//! What one watch is of: a kind of object, a namespace and selectors; and the paths that ask for it.
//!
//! Follows "API concepts" of the Kubernetes documentation: `GET …?limit=&continue=` for pages, `…?watch=true` with
//! `allowWatchBookmarks`, `resourceVersion` and `timeoutSeconds` for a watch.

use std::fmt::{self, Write as _};

use tokio::time::Duration;

use super::machine::Request;

/// A kind of object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Resource {
    EndpointSlices,
    Pods,
    Nodes,
}

impl Resource {
    /// Its name in paths and rules.
    pub(super) fn plural(self) -> &'static str {
        match self {
            Self::EndpointSlices => "endpointslices",
            Self::Pods => "pods",
            Self::Nodes => "nodes",
        }
    }

    /// Its API group; that of the core is empty.
    pub(super) fn group(self) -> &'static str {
        match self {
            Self::EndpointSlices => "discovery.k8s.io",
            Self::Pods | Self::Nodes => "",
        }
    }

    fn root(self) -> &'static str {
        match self {
            Self::EndpointSlices => "/apis/discovery.k8s.io/v1",
            Self::Pods | Self::Nodes => "/api/v1",
        }
    }
}

/// What is done with it, as a rule of a Role says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verb {
    Get,
    List,
    Watch,
}

impl fmt::Display for Verb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Get => "get",
            Self::List => "list",
            Self::Watch => "watch",
        })
    }
}

/// What one watch is of.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Scope {
    pub(super) resource: Resource,
    /// `None` for all of them, or for what has none.
    pub(super) namespace: Option<String>,
    pub(super) labels: String,
    pub(super) fields: String,
}

impl Scope {
    /// The path of one request. A watch is closed by the API after `watch_for`.
    pub(super) fn path(&self, request: &Request, watch_for: Duration) -> String {
        let mut path = self.collection();
        let mut add = |name: &str, value: &str| {
            let sign = if path.contains('?') { '&' } else { '?' };
            path.push(sign);
            path.push_str(name);
            path.push('=');
            encode(value, &mut path);
        };
        if !self.labels.is_empty() {
            add("labelSelector", &self.labels);
        }
        if !self.fields.is_empty() {
            add("fieldSelector", &self.fields);
        }
        match request {
            Request::List { limit, next } => {
                if let Some(limit) = limit {
                    add("limit", &limit.to_string());
                }
                if !next.is_empty() {
                    add("continue", next);
                }
            }
            Request::Watch { from } => {
                add("watch", "true");
                add("allowWatchBookmarks", "true");
                add("timeoutSeconds", &watch_for.as_secs().max(1).to_string());
                if !from.is_empty() {
                    add("resourceVersion", from);
                }
            }
        }
        path
    }

    /// The path of one object.
    pub(super) fn object(&self, namespace: &str, name: &str) -> String {
        let one = Self { namespace: Some(namespace.to_owned()), ..self.clone() };
        let mut path = one.collection();
        path.push('/');
        encode(name, &mut path);
        path
    }

    fn collection(&self) -> String {
        let mut path = self.resource.root().to_owned();
        if let Some(namespace) = &self.namespace {
            path.push_str("/namespaces/");
            encode(namespace, &mut path);
        }
        path.push('/');
        path.push_str(self.resource.plural());
        path
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.resource.plural())?;
        match &self.namespace {
            Some(namespace) => write!(f, " in the namespace `{namespace}`"),
            None if self.resource == Resource::Nodes => Ok(()),
            None => f.write_str(" in all namespaces"),
        }
    }
}

/// Appends a value with all but the unreserved characters of RFC 3986 as `%XX`.
fn encode(value: &str, path: &mut String) {
    for byte in value.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            path.push(char::from(byte));
        } else {
            write!(path, "%{byte:02X}").expect("a String takes all that is written");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slices(labels: &str) -> Scope {
        Scope {
            resource: Resource::EndpointSlices,
            namespace: Some("shop".to_owned()),
            labels: labels.to_owned(),
            fields: String::new(),
        }
    }

    #[test]
    fn a_list_is_asked_for_in_pages() {
        let scope = slices("app=x,env in (a,b)");
        let first = Request::List { limit: Some(500), next: String::new() };
        assert_eq!(
            scope.path(&first, Duration::ZERO),
            "/apis/discovery.k8s.io/v1/namespaces/shop/endpointslices\
             ?labelSelector=app%3Dx%2Cenv%20in%20%28a%2Cb%29&limit=500"
        );
        let second = Request::List { limit: Some(500), next: "eyJ2Ijoi+/=".to_owned() };
        assert!(scope.path(&second, Duration::ZERO).ends_with("&limit=500&continue=eyJ2Ijoi%2B%2F%3D"));
        let whole = Request::List { limit: None, next: String::new() };
        assert!(scope.path(&whole, Duration::ZERO).ends_with("%29"));
    }

    #[test]
    fn a_watch_says_where_it_begins_and_for_how_long() {
        let scope = Scope { resource: Resource::Pods, namespace: None, ..slices("") };
        let from = Request::Watch { from: "10245".to_owned() };
        assert_eq!(
            scope.path(&from, Duration::from_secs(290)),
            "/api/v1/pods?watch=true&allowWatchBookmarks=true&timeoutSeconds=290&resourceVersion=10245"
        );
        let now = Request::Watch { from: String::new() };
        assert!(scope.path(&now, Duration::from_secs(1)).ends_with("&timeoutSeconds=1"));
    }

    #[test]
    fn a_name_cannot_leave_its_path() {
        let scope = Scope { resource: Resource::Pods, ..slices("") };
        assert_eq!(scope.object("a/b", "../x"), "/api/v1/namespaces/a%2Fb/pods/..%2Fx");
    }
}
