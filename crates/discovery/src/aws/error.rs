//! Why AWS gave no answer, sorted by who can mend it, and each told in a line that says what to do.

use std::time::{Duration, SystemTime};

use super::Service;
use crate::http::HttpError;

/// Longer texts of AWS are cut.
const TEXT_CHARS_MAX: usize = 240;
/// A signature is refused when its time is off by 5 minutes; from here on the clock is the likely cause.
const SKEW: Duration = Duration::from_secs(4 * 60);

/// Why there is no answer. No variant changes anything; the next look-up asks anew.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AwsError {
    /// No source of credentials has any.
    #[error(
        "no AWS credentials: tried the environment (AWS_ACCESS_KEY_ID), {profile}, a web identity \
         (AWS_WEB_IDENTITY_TOKEN_FILE), the container's role (AWS_CONTAINER_CREDENTIALS_RELATIVE_URI or _FULL_URI) and the \
         instance's role (instance metadata); give the instance, the task or the service account a role"
    )]
    NoCredentials {
        /// The profile that was looked at, and where.
        profile: String,
    },
    /// A source of credentials is there and cannot give them.
    #[error(
        "the AWS credentials cannot be had: {what}: give AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, a profile, or the \
         instance or task a role"
    )]
    Credentials {
        /// What the source said.
        what: String,
    },
    /// Nobody says which region.
    #[error(
        "no AWS region: set `region`, or AWS_REGION, or `region` in the profile; the instance metadata does not say one either"
    )]
    NoRegion,
    /// The endpoint of the configuration or the environment is no address.
    #[error("the AWS endpoint that is set is no address: expected https://host or http://host:port")]
    Endpoint,
    /// The request could not be signed.
    #[error("the AWS request cannot be signed: {what}")]
    Sign {
        /// What is wrong.
        what: String,
    },
    /// The credentials are good and may not do this.
    #[error("AWS denies {action} in {region}{}: allow {action} in the IAM policy of that role or user", to(who))]
    Denied {
        /// The action, such as `ec2:DescribeInstances`.
        action: String,
        /// Where.
        region: String,
        /// Who was denied, if AWS says so.
        who: Option<String>,
    },
    /// The credentials are none that AWS knows.
    #[error(
        "AWS in {region} does not take the credentials ({code}): is the key right and active, and is the region enabled for \
         the account?"
    )]
    BadCredentials {
        /// Where.
        region: String,
        /// The code of AWS.
        code: String,
    },
    /// The credentials were good once.
    #[error(
        "the AWS credentials have expired ({code}); they are loaded anew: if this stays, what renews them has stopped"
    )]
    Expired {
        /// The code of AWS.
        code: String,
    },
    /// The signature's time is too far from the time of AWS.
    #[error(
        "AWS refuses the signature since the clock of this host is {} {}: set it right, such as with chrony ({code})",
        metacluster_types::time::format_duration(Duration::from_secs(skew.as_secs())),
        if *ahead { "ahead" } else { "behind" }
    )]
    ClockSkew {
        /// By how much.
        skew: Duration,
        /// Whether it is ahead.
        ahead: bool,
        /// The code of AWS.
        code: String,
    },
    /// Too many calls for the account in this region.
    #[error("AWS throttles {action} in {region} ({code}): it is asked less often for a while")]
    Throttled {
        /// The action.
        action: String,
        /// Where.
        region: String,
        /// The code of AWS, or the status.
        code: String,
    },
    /// AWS does not do what the request asks for.
    #[error("AWS refuses {action} in {region}: {code}{}{message}{}", if message.is_empty() { "" } else { ": " }, hint(code))]
    Refused {
        /// The action.
        action: String,
        /// Where.
        region: String,
        /// The code of AWS, or the status.
        code: String,
        /// Its text.
        message: String,
    },
    /// AWS has a fault of its own.
    #[error("AWS in {region} fails on {action} ({code}): it is tried again")]
    Server {
        /// The action.
        action: String,
        /// Where.
        region: String,
        /// The code of AWS, or the status.
        code: String,
    },
    /// More was found than is read.
    #[error("more than {most} {what} fit: narrow it, such as by a tag")]
    TooMany {
        /// Of what.
        what: &'static str,
        /// How many are read.
        most: usize,
    },
    /// The answer is not what the service answers.
    #[error("the answer to {action} is not one of AWS: {what}; is the endpoint right?")]
    Malformed {
        /// The action.
        action: String,
        /// What is wrong with it.
        what: String,
    },
    /// The whole look at a region took too long.
    #[error("no whole answer from AWS in {region} within {within}: is the network slow, or `timeout` too short?")]
    Slow {
        /// Where.
        region: String,
        /// The time that it had.
        within: String,
    },
    /// A fault of metacluster.
    #[error("the look-up failed, by a fault of metacluster: {what}")]
    Bug {
        /// What happened.
        what: String,
    },
    /// No answer, or half of one.
    #[error("AWS in {region}: {error}{}", reach(error, region))]
    Http {
        /// What failed.
        error: HttpError,
        /// Where.
        region: String,
    },
}

impl AwsError {
    /// Whether the account is asked too often.
    pub(super) fn is_throttled(&self) -> bool {
        matches!(self, Self::Throttled { .. })
    }

    /// Whether other credentials may help, so that the present ones are best forgotten.
    pub(super) fn is_about_credentials(&self) -> bool {
        matches!(self, Self::Expired { .. } | Self::BadCredentials { .. })
    }
}

fn to(who: &Option<String>) -> String {
    who.as_ref().map(|who| format!(" to {who}")).unwrap_or_default()
}

fn hint(code: &str) -> &'static str {
    match code {
        "ClusterNotFoundException" => "; is `cluster` right, and the region?",
        "ServiceNotFoundException" | "ServiceNotActiveException" => {
            "; is `service` its exact name, and `cluster` right?"
        }
        "OptInRequired" => "; the account has not enabled the service or the region",
        "InvalidGroup.NotFound" => "; is `security_group` right, and the region?",
        _ => "",
    }
}

fn reach(error: &HttpError, region: &str) -> String {
    if matches!(error, HttpError::Unresolved { .. }) {
        return format!("; is there a region {region}, and does DNS work?");
    }
    if matches!(error, HttpError::NoConnection { .. } | HttpError::Unreachable { .. } | HttpError::Slow { .. }) {
        return "; is there a way out of the subnet: a NAT gateway or a VPC endpoint?".to_owned();
    }
    String::new()
}

/// What AWS answered in place of an answer.
#[derive(Clone, Copy, Debug)]
pub(super) struct Refusal<'a> {
    pub(super) service: Service,
    pub(super) action: &'a str,
    pub(super) region: &'a str,
    pub(super) status: u16,
    /// The code of the error; empty if the body has none.
    pub(super) code: &'a str,
    pub(super) message: &'a str,
    /// When AWS answered, by its own clock.
    pub(super) date: Option<SystemTime>,
    /// When it was asked, by ours.
    pub(super) now: SystemTime,
}

impl Refusal<'_> {
    /// Sorts it.
    pub(super) fn sort(&self) -> AwsError {
        let region = self.region.to_owned();
        let action = format!("{}:{}", self.service.name(), self.action);
        let status = format!("status {}", self.status);
        let code = if self.code.is_empty() { status } else { one_line(self.code) };
        match self.code {
            "RequestLimitExceeded"
            | "Throttling"
            | "ThrottlingException"
            | "ThrottledException"
            | "RequestThrottled"
            | "RequestThrottledException"
            | "TooManyRequestsException"
            | "BandwidthLimitExceeded"
            | "SlowDown"
            | "PriorRequestNotComplete"
            | "LimitExceededException" => AwsError::Throttled { action, region, code },
            "UnauthorizedOperation" | "AccessDenied" | "AccessDeniedException" | "UnauthorizedAccess" => {
                AwsError::Denied { action, region, who: who(self.message) }
            }
            "RequestTimeTooSkewed"
            | "RequestExpired"
            | "RequestInTheFuture"
            | "InvalidSignatureException"
            | "SignatureDoesNotMatch"
            | "AuthFailure"
            | "ExpiredToken"
            | "ExpiredTokenException"
                if self.skew().is_some() =>
            {
                let (skew, ahead) = self.skew().unwrap_or_default();
                AwsError::ClockSkew { skew, ahead, code }
            }
            "ExpiredToken" | "ExpiredTokenException" | "RequestExpired" => AwsError::Expired { code },
            "AuthFailure"
            | "InvalidClientTokenId"
            | "UnrecognizedClientException"
            | "SignatureDoesNotMatch"
            | "InvalidSignatureException"
            | "IncompleteSignature"
            | "IncompleteSignatureException"
            | "MissingAuthenticationToken"
            | "MissingAuthenticationTokenException"
            | "InvalidAccessKeyId"
            | "RequestTimeTooSkewed" => AwsError::BadCredentials { region, code },
            _ if matches!(self.status, 429 | 503) => AwsError::Throttled { action, region, code },
            _ if self.status >= 500 => AwsError::Server { action, region, code },
            _ => AwsError::Refused { action, region, code, message: one_line(self.message) },
        }
    }

    /// How far our clock is from that of AWS, if that is enough to spoil a signature, and whether it is ahead.
    fn skew(&self) -> Option<(Duration, bool)> {
        let date = self.date?;
        let (skew, ahead) = match self.now.duration_since(date) {
            Ok(ahead) => (ahead, true),
            Err(behind) => (behind.duration(), false),
        };
        (skew >= SKEW).then_some((skew, ahead))
    }
}

/// Whom a text such as `User: arn:aws:iam::1:user/web is not authorized to perform: …` is about.
fn who(message: &str) -> Option<String> {
    let (_, rest) = message.split_once("User: ")?;
    let who = rest.split_whitespace().next()?;
    who.starts_with("arn:").then(|| one_line(who))
}

/// A text of AWS on one line, cut where it is long.
pub(super) fn one_line(text: &str) -> String {
    let words =
        text.split(|letter: char| letter.is_whitespace() || letter.is_control()).filter(|word| !word.is_empty());
    let mut line = String::new();
    for word in words {
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(word);
        if let Some((end, _)) = line.char_indices().nth(TEXT_CHARS_MAX) {
            line.truncate(end);
            line.push('…');
            break;
        }
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(status: u16, code: &str, message: &str) -> AwsError {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000);
        let refusal = Refusal {
            service: Service::Ec2,
            action: "DescribeInstances",
            region: "eu-west-1",
            status,
            code,
            message,
            date: Some(now),
            now,
        };
        refusal.sort()
    }

    #[test]
    fn a_denied_call_names_the_action_and_the_role() {
        let message = "You are not authorized to perform this operation. User: arn:aws:sts::1:assumed-role/web/i-1 is not \
                       authorized to perform: ec2:DescribeInstances";
        let line = refused(403, "UnauthorizedOperation", message).to_string();
        assert_eq!(
            line,
            "AWS denies ec2:DescribeInstances in eu-west-1 to arn:aws:sts::1:assumed-role/web/i-1: allow \
             ec2:DescribeInstances in the IAM policy of that role or user"
        );
    }

    #[test]
    fn each_kind_of_throttling_is_known() {
        for code in ["RequestLimitExceeded", "Throttling", "ThrottlingException"] {
            assert!(refused(400, code, "").is_throttled(), "{code}");
        }
        assert!(refused(503, "", "").is_throttled());
        assert!(refused(503, "ServiceUnavailable", "").is_throttled());
        assert!(!refused(500, "InternalError", "").is_throttled());
    }

    #[test]
    fn a_clock_that_is_off_is_told_from_credentials_that_expired() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000);
        let refusal = |date| {
            let (service, action, region) = (Service::Ec2, "DescribeInstances", "eu-west-1");
            Refusal { service, action, region, status: 400, code: "RequestExpired", message: "", date, now }.sort()
        };
        let slow = refusal(Some(now + Duration::from_secs(3600)));
        assert_eq!(
            slow.to_string(),
            "AWS refuses the signature since the clock of this host is 1h behind: set it right, such as with chrony \
             (RequestExpired)"
        );
        assert!(matches!(refusal(Some(now - Duration::from_secs(600))), AwsError::ClockSkew { ahead: true, .. }));
        assert!(matches!(refusal(Some(now)), AwsError::Expired { .. }));
        assert!(matches!(refusal(None), AwsError::Expired { .. }));
    }

    #[test]
    fn credentials_that_are_refused_or_expired_are_to_be_forgotten() {
        assert!(refused(401, "AuthFailure", "").is_about_credentials());
        assert!(refused(400, "ExpiredTokenException", "").is_about_credentials());
        assert!(!refused(403, "UnauthorizedOperation", "").is_about_credentials());
    }

    #[test]
    fn a_text_of_aws_is_one_line_and_short() {
        let line = refused(400, "InvalidParameterValue", &"no\nsuch\tfilter ".repeat(100)).to_string();
        assert!(!line.contains('\n') && line.chars().count() < 400, "{line}");
    }
}
