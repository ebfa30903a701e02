//! What AWS says of the host that this agent runs on: an instance, or a task of ECS.

pub(crate) mod imds;
pub(crate) mod task;
#[cfg(test)]
mod tests;

use std::{env, fs};

use metacluster_types::{Host, HostState, Place, Region, Tags, Zone};
use tokio::time::{Duration, timeout};

use self::{imds::Imds, task::Task};
pub use self::{imds::ImdsError, task::TaskError};

/// A tag of more than this is none; an instance has at most 50.
const TAGS_MAX: usize = 64;

/// Why AWS does not say where this host is.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum OwnHostError {
    /// On an instance.
    #[error(transparent)]
    Imds(#[from] ImdsError),
    /// In a task.
    #[error(transparent)]
    Task(#[from] TaskError),
    /// Nobody answered in time.
    #[error("AWS did not say within {} where this host is", metacluster_types::time::format_duration(*within))]
    Slow {
        /// The time that it had.
        within: Duration,
    },
}

/// What AWS says of this host: its id (an instance's, or a task's ARN), zone, region, addresses, and tags where the
/// instance has them in its metadata. `None` off AWS, where nothing is sent and nothing waits, and where
/// AWS_EC2_METADATA_DISABLED says that nobody is to be asked.
///
/// # Errors
/// Why it is not known, if this is a host of AWS.
pub async fn own_host(within: Duration) -> Result<Option<Host>, OwnHostError> {
    if env::var_os(task::VARIABLE).is_none() && !is_instance() {
        return Ok(None);
    }
    let asked = async {
        match Task::own().await? {
            Some(task) => Ok(Some(task.host())),
            None => match own_instance(&Imds::of_environment()).await {
                Err(ImdsError::Disabled) => Ok(None),
                asked => asked.map_err(OwnHostError::Imds),
            },
        }
    };
    timeout(within, asked).await.map_err(|_| OwnHostError::Slow { within })?
}

/// Whether this looks like an instance of EC2, without a packet.
pub(crate) fn is_instance() -> bool {
    let begins = |path: &str, word: &str| {
        fs::read_to_string(path)
            .is_ok_and(|text| text.get(..word.len()).is_some_and(|it| it.eq_ignore_ascii_case(word)))
    };
    env::var_os(imds::ENDPOINT_VARIABLE).is_some()
        || begins("/sys/class/dmi/id/sys_vendor", "Amazon EC2")
        || begins("/sys/hypervisor/uuid", "ec2")
}

/// What the metadata of an instance say of it; `None` if they say no id.
pub(crate) async fn own_instance(imds: &Imds) -> Result<Option<Host>, ImdsError> {
    let Some(id) = imds.text("/latest/meta-data/instance-id").await? else { return Ok(None) };
    let zone = imds.text("/latest/meta-data/placement/availability-zone").await?;
    let region = imds.text("/latest/meta-data/placement/region").await?;
    let name = imds.text("/latest/meta-data/local-hostname").await?;
    let ipv4 = imds.text("/latest/meta-data/local-ipv4").await?;
    let ipv6 = imds.text("/latest/meta-data/ipv6").await?;
    let mut tags = Tags::new();
    // 404 where the instance does not allow tags in its metadata.
    let keys = imds.text("/latest/meta-data/tags/instance").await?.unwrap_or_default();
    for key in keys.lines().filter(|key| !key.is_empty() && !key.contains(['/', ' ', '?', '#', '%'])).take(TAGS_MAX) {
        if let Some(value) = imds.text(&format!("/latest/meta-data/tags/instance/{key}")).await? {
            tags.insert(key.to_owned(), value);
        }
    }
    Ok(Some(Host {
        name: name.filter(|name| !name.is_empty()),
        addresses: [ipv4, ipv6].into_iter().flatten().filter_map(|text| text.parse().ok()).collect(),
        port: None,
        instance: Some(id),
        place: Place {
            zone: zone.and_then(|zone| Zone::new(&zone).ok()),
            region: region.and_then(|region| Region::new(&region).ok()),
        },
        state: HostState::Running,
        roles: [].into(),
        tags,
    }))
}
