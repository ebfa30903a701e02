//! Where a service of AWS is reached: the partitions, and the endpoints of a region in each of them.
//!
//! Follows the endpoint rules that AWS publishes with its service models: `SERVICE.REGION.SUFFIX`, with `-fips` after the
//! service, and another suffix where IPv6 is wanted (dual stack).

use super::AwsError;

/// A service that is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Service {
    /// EC2: the Query protocol, answers in XML.
    Ec2,
    /// ECS: JSON 1.1.
    Ecs,
}

impl Service {
    /// Its name in endpoints, in signatures and in IAM actions.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Ec2 => "ec2",
            Self::Ecs => "ecs",
        }
    }

    /// Its name in `[services]` of a profile, and in `AWS_ENDPOINT_URL_…` in capitals.
    pub(super) const fn id(self) -> &'static str {
        match self {
            Self::Ec2 => "EC2",
            Self::Ecs => "ECS",
        }
    }
}

/// How the endpoint is to be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Variant {
    /// One with cryptography validated to FIPS 140.
    pub(super) fips: bool,
    /// One with IPv6 addresses too.
    pub(super) dual_stack: bool,
}

struct Partition {
    /// How the names of its regions begin.
    prefixes: &'static [&'static str],
    suffix: &'static str,
    dual_stack_suffix: &'static str,
}

/// The partitions but for the usual one, which is the last.
const PARTITIONS: &[Partition] = &[
    Partition { prefixes: &["cn-"], suffix: "amazonaws.com.cn", dual_stack_suffix: "api.amazonwebservices.com.cn" },
    Partition { prefixes: &["us-gov-"], suffix: "amazonaws.com", dual_stack_suffix: "api.aws" },
    Partition { prefixes: &["eusc-"], suffix: "amazonaws.eu", dual_stack_suffix: "api.amazonwebservices.eu" },
    Partition { prefixes: &["us-isob-"], suffix: "sc2s.sgov.gov", dual_stack_suffix: "api.aws.scloud" },
    Partition { prefixes: &["us-isof-"], suffix: "csp.hci.ic.gov", dual_stack_suffix: "api.aws.hci.ic.gov" },
    Partition { prefixes: &["us-iso-"], suffix: "c2s.ic.gov", dual_stack_suffix: "api.aws.ic.gov" },
    Partition { prefixes: &["eu-isoe-"], suffix: "cloud.adc-e.uk", dual_stack_suffix: "api.cloud-aws.adc-e.uk" },
    Partition { prefixes: &[""], suffix: "amazonaws.com", dual_stack_suffix: "api.aws" },
];

/// Whether a text can be the name of a region, and so a part of a host's name.
pub(super) fn is_region(text: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    text.len() <= 32 && text.contains('-') && text.bytes().all(fits) && !text.starts_with('-') && !text.ends_with('-')
}

/// The endpoint of a region as AWS has it.
pub(super) fn usual(service: Service, region: &str, variant: Variant) -> String {
    let name = service.name();
    let found = PARTITIONS.iter().find(|it| it.prefixes.iter().any(|prefix| region.starts_with(prefix)));
    let (suffix, dual) = found.map_or(("amazonaws.com", "api.aws"), |it| (it.suffix, it.dual_stack_suffix));
    let suffix = if variant.dual_stack { dual } else { suffix };
    // The usual endpoints of EC2 in GovCloud are those with FIPS.
    let same = service == Service::Ec2 && region.starts_with("us-gov-") && !variant.dual_stack;
    let fips = if variant.fips && !same { "-fips" } else { "" };
    format!("https://{name}{fips}.{region}.{suffix}")
}

/// The endpoint that somebody gave, with the slash that every request asks for.
///
/// # Errors
/// When it is no address.
pub(super) fn given(text: &str) -> Result<String, AwsError> {
    let host = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
    match host.map(|host| host.trim_end_matches('/')) {
        Some(host) if !host.is_empty() && !host.contains(['?', '#', '@']) && !host.contains(char::is_whitespace) => {
            Ok(text.trim_end_matches('/').to_owned())
        }
        Some(_) | None => Err(AwsError::Endpoint),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_partition_has_its_own_domain() {
        let plain = Variant::default();
        for (region, endpoint) in [
            ("eu-west-1", "https://ec2.eu-west-1.amazonaws.com"),
            ("mx-central-1", "https://ec2.mx-central-1.amazonaws.com"),
            ("cn-north-1", "https://ec2.cn-north-1.amazonaws.com.cn"),
            ("us-gov-west-1", "https://ec2.us-gov-west-1.amazonaws.com"),
            ("us-iso-east-1", "https://ec2.us-iso-east-1.c2s.ic.gov"),
            ("us-isob-east-1", "https://ec2.us-isob-east-1.sc2s.sgov.gov"),
            ("eusc-de-east-1", "https://ec2.eusc-de-east-1.amazonaws.eu"),
        ] {
            assert_eq!(usual(Service::Ec2, region, plain), endpoint);
        }
    }

    #[test]
    fn fips_and_dual_stack_have_names_of_their_own() {
        let of = |service, region, fips, dual_stack| usual(service, region, Variant { fips, dual_stack });
        assert_eq!(of(Service::Ecs, "us-east-1", true, false), "https://ecs-fips.us-east-1.amazonaws.com");
        assert_eq!(of(Service::Ecs, "us-east-1", false, true), "https://ecs.us-east-1.api.aws");
        assert_eq!(of(Service::Ec2, "us-east-1", true, true), "https://ec2-fips.us-east-1.api.aws");
        assert_eq!(of(Service::Ec2, "us-gov-west-1", true, false), "https://ec2.us-gov-west-1.amazonaws.com");
        assert_eq!(of(Service::Ecs, "us-gov-west-1", true, false), "https://ecs-fips.us-gov-west-1.amazonaws.com");
    }

    #[test]
    fn what_is_no_region_cannot_become_a_host() {
        assert!(is_region("ap-southeast-2") && is_region("us-gov-west-1"));
        for text in ["", "euwest1", "eu-west-1.evil.example", "eu-west-1/", "EU-WEST-1", "-eu", "eu-"] {
            assert!(!is_region(text), "{text}");
        }
    }

    #[test]
    fn a_given_endpoint_is_held_to_be_an_address() {
        assert_eq!(given("http://127.0.0.1:5000/"), Ok("http://127.0.0.1:5000".to_owned()));
        for text in ["", "localhost:5000", "https://", "ftp://a", "https://user:pass@a", "http://a b"] {
            assert_eq!(given(text), Err(AwsError::Endpoint), "{text}");
        }
    }
}
