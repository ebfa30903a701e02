//! What can go wrong with the API, sorted by what is to be done next, and the line that a person reads of it.

use metacluster_types::time::format_duration;
use tokio::time::Duration;

use super::{
    object::Status,
    scope::{Resource, Scope, Verb},
};

/// How much of what the API says is shown.
const MESSAGE_CHARS_MAX: usize = 300;

/// Why a request or a watch failed. Nothing that was known changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub(super) enum Problem {
    /// There is no way to the API: no service account, no usable kubeconfig. Nothing was sent.
    #[error("{0}")]
    Access(String),
    /// No connection to the API.
    #[error("the Kubernetes API cannot be reached: {0}")]
    Unreachable(String),
    /// The API's certificate is not one to trust. No credentials were sent.
    #[error(
        "the certificate of the Kubernetes API is not trusted ({0}): the cluster's certificate authority is \
         `ca.crt` in the service account's folder, or `certificate-authority` in the kubeconfig"
    )]
    Untrusted(String),
    /// No answer in time.
    #[error("the Kubernetes API did not answer within {} (`timeout`)", format_duration(*.0))]
    Slow(Duration),
    /// The connection closed within an answer.
    #[error("the answer of the Kubernetes API broke off: {0}")]
    Broken(String),
    /// An answer or an event is longer than it may be.
    #[error("the Kubernetes API sent more than {0} bytes at once")]
    TooLong(usize),
    /// What came is not what the API speaks.
    #[error("the answer of the Kubernetes API cannot be read ({0}): is it the API, or a proxy before it?")]
    Garbage(String),
    /// 401: the API does not know who asks.
    #[error("the Kubernetes API does not take the credentials (401 Unauthorized{}): the token or certificate has expired, was rotated away, or is of another cluster; it was read again and will be each time", said(.0))]
    Unauthorized(String),
    /// 403: it knows, and forbids.
    #[error("the Kubernetes API forbids to {verb} (403 Forbidden{})", said(.message))]
    Forbidden {
        /// What is forbidden.
        verb: Verb,
        /// What the API says of it.
        message: String,
    },
    /// 404 for a whole kind of object.
    #[error("the Kubernetes API does not serve this (404 Not Found{})", said(.0))]
    NotServed(String),
    /// 410, or an event that says the same: the version is too old to go on from.
    #[error("the Kubernetes API forgets each version before it can be watched (410 Gone)")]
    Gone,
    /// 429, or another status with `Retry-After`.
    #[error("the Kubernetes API is busy ({code}{}); it asks for {} of rest", said(.message), format_duration(*.wait))]
    Busy {
        /// The status.
        code: u16,
        /// How long it asks to be left alone.
        wait: Duration,
        /// What the API says of it.
        message: String,
    },
    /// 5xx.
    #[error("the Kubernetes API failed ({code}{})", said(.message))]
    Failed {
        /// The status.
        code: u16,
        /// What the API says of it.
        message: String,
    },
    /// Any other status, such as 400 for a selector that is none.
    #[error("the Kubernetes API refuses the request ({code}{})", said(.message))]
    Refused {
        /// The status.
        code: u16,
        /// What the API says of it.
        message: String,
    },
    /// Each watch ends as soon as it has begun.
    #[error("the Kubernetes API ends each watch at once: is there a proxy between that cuts streams off?")]
    EndsAtOnce,
}

/// What to do after a problem.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Remedy {
    /// The same again.
    Retry,
    /// List anew, and go on from there.
    List,
    /// The watch is not allowed: list instead, again and again.
    ListOn,
    /// Ask for less at once.
    Smaller,
}

impl Problem {
    /// What a status says. `wait` is its `Retry-After`.
    pub(super) fn of_status(status: Status, verb: Verb, wait: Option<Duration>) -> Self {
        let Status { code, reason, message } = status;
        match (code, reason.as_str()) {
            (410, _) | (_, "Expired" | "Gone") => Self::Gone,
            (401, _) => Self::Unauthorized(message),
            (403, _) => Self::Forbidden { verb, message },
            (404 | 405, _) => Self::NotServed(message),
            (429, _) => Self::Busy { code, wait: wait.unwrap_or(Duration::from_secs(1)), message },
            (500.., _) if wait.is_some() => Self::Busy { code, wait: wait.unwrap_or_default(), message },
            (500.., _) => Self::Failed { code, message },
            (..500, _) => Self::Refused { code, message },
        }
    }

    /// Whether other credentials may help.
    pub(super) fn is_denied(&self) -> bool {
        matches!(self, Self::Unauthorized(_))
    }

    /// How long the API asks to be left alone.
    pub(super) fn wait(&self) -> Option<Duration> {
        if let Self::Busy { wait, .. } = self { Some(*wait) } else { None }
    }

    /// What to do next.
    pub(super) fn remedy(&self) -> Remedy {
        match self {
            Self::Gone | Self::Refused { .. } | Self::NotServed(_) => Remedy::List,
            Self::Forbidden { .. } => Remedy::ListOn,
            Self::TooLong(_) => Remedy::Smaller,
            Self::Access(_)
            | Self::Unreachable(_)
            | Self::Untrusted(_)
            | Self::Slow(_)
            | Self::Broken(_)
            | Self::Garbage(_)
            | Self::Unauthorized(_)
            | Self::Busy { .. }
            | Self::Failed { .. }
            | Self::EndsAtOnce => Remedy::Retry,
        }
    }

    /// The line that a person reads: what failed, where, and what to do.
    pub(super) fn line(&self, scope: &Scope) -> String {
        match self {
            Self::Forbidden { verb, message } => {
                format!(
                    "the Kubernetes API forbids to {verb} {scope} (403 Forbidden{}): add {} and bind it to the \
                     agent's service account",
                    said(message),
                    rule(scope)
                )
            }
            Self::NotServed(message) if scope.resource == Resource::EndpointSlices => {
                format!(
                    "the Kubernetes API does not serve EndpointSlices (404 Not Found{}): they need Kubernetes 1.21; \
                     `resource = \"pods\"` does without",
                    said(message)
                )
            }
            Self::Access(_) => self.to_string(),
            Self::Unreachable(_)
            | Self::Untrusted(_)
            | Self::Slow(_)
            | Self::Broken(_)
            | Self::TooLong(_)
            | Self::Garbage(_)
            | Self::Unauthorized(_)
            | Self::NotServed(_)
            | Self::Gone
            | Self::Busy { .. }
            | Self::Failed { .. }
            | Self::Refused { .. }
            | Self::EndsAtOnce => format!("{scope}: {self}"),
        }
    }
}

/// The rule that is missing, as a Role or ClusterRole has it.
fn rule(scope: &Scope) -> String {
    let verbs = match scope.resource {
        Resource::EndpointSlices => r#""list", "watch""#,
        Resource::Pods => r#""get", "list", "watch""#,
        Resource::Nodes => r#""list""#,
    };
    let (resource, group) = (scope.resource.plural(), scope.resource.group());
    let rule = format!(r#"{{apiGroups: ["{group}"], resources: ["{resource}"], verbs: [{verbs}]}}"#);
    match &scope.namespace {
        Some(namespace) => format!("the rule {rule} to a Role in `{namespace}`"),
        None => format!("the rule {rule} to a ClusterRole"),
    }
}

/// What the API says, shortened and on one line, with what joins it to a status.
fn said(message: &str) -> String {
    let line: String = message.chars().map(|letter| if letter.is_control() { ' ' } else { letter }).collect();
    match line.char_indices().nth(MESSAGE_CHARS_MAX) {
        Some((end, _)) => format!(": {}…", &line[..end]),
        None if line.is_empty() => line,
        None => format!(": {line}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pods(namespace: Option<&str>) -> Scope {
        Scope {
            resource: Resource::Pods,
            namespace: namespace.map(str::to_owned),
            labels: String::new(),
            fields: String::new(),
        }
    }

    fn status(code: u16, reason: &str, message: &str) -> Status {
        Status { code, reason: reason.to_owned(), message: message.to_owned() }
    }

    #[test]
    fn a_403_names_what_is_missing_and_the_rule_to_add() {
        let user = "User \"system:serviceaccount:shop:agent\" cannot watch resource \"pods\"";
        let problem = Problem::of_status(status(403, "Forbidden", user), Verb::Watch, None);
        assert_eq!(
            problem.line(&pods(Some("shop"))),
            format!(
                "the Kubernetes API forbids to watch pods in the namespace `shop` (403 Forbidden: {user}): add the rule \
                 {{apiGroups: [\"\"], resources: [\"pods\"], verbs: [\"get\", \"list\", \"watch\"]}} to a Role in \
                 `shop` and bind it to the agent's service account"
            )
        );
        assert!(problem.line(&pods(None)).contains("to a ClusterRole and bind it"));
    }

    #[test]
    fn each_status_has_its_remedy() {
        for (code, reason, remedy) in [
            (410, "Expired", Remedy::List),
            (500, "Expired", Remedy::List),
            (401, "Unauthorized", Remedy::Retry),
            (403, "Forbidden", Remedy::ListOn),
            (404, "NotFound", Remedy::List),
            (400, "BadRequest", Remedy::List),
            (429, "TooManyRequests", Remedy::Retry),
            (500, "InternalError", Remedy::Retry),
            (504, "Timeout", Remedy::Retry),
        ] {
            assert_eq!(Problem::of_status(status(code, reason, ""), Verb::List, None).remedy(), remedy, "{code}");
        }
    }

    #[test]
    fn a_busy_api_is_left_alone_for_as_long_as_it_asks() {
        let wait = Duration::from_secs(7);
        let problem = Problem::of_status(status(429, "TooManyRequests", "slow down"), Verb::List, Some(wait));
        assert_eq!(problem.wait(), Some(wait));
        let problem = Problem::of_status(status(503, "ServiceUnavailable", ""), Verb::List, Some(wait));
        assert_eq!(problem.wait(), Some(wait));
        assert_eq!(Problem::of_status(status(503, "", ""), Verb::List, None).wait(), None);
    }

    #[test]
    fn what_the_api_says_stays_on_one_short_line() {
        let problem = Problem::Failed { code: 500, message: "a\nb".repeat(1000) };
        let line = problem.line(&pods(Some("shop")));
        assert!(!line.contains('\n') && line.chars().count() < 400, "{line}");
    }
}
