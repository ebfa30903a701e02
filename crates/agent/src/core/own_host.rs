//! What AWS says of this host, for what the configuration leaves open: its zone, its region, and the id by which AWS says
//! one day that it has ended.
//!
//! Off AWS nothing is asked and nothing waits; there the zone is `local`, unless it was said. On AWS the start waits for
//! [`WITHIN`] at most, and goes on without an answer.

use std::time::Duration;

use metacluster_discovery::aws::{OwnHostError, own_host};
use metacluster_types::{Host, Place};
use tracing::{info, warn};

use crate::config::Config;

/// How long the start may wait for AWS.
const WITHIN: Duration = Duration::from_secs(2);

/// Fills in where this host is.
pub(super) async fn complete(config: &mut Config) {
    if config.zone_said && config.place.region.is_some() && config.membership.instance.is_some() {
        return;
    }
    take(config, own_host(WITHIN).await);
}

fn take(config: &mut Config, said: Result<Option<Host>, OwnHostError>) {
    match said {
        Ok(Some(host)) => {
            let Place { zone, region } = host.place;
            if let Some(zone) = zone.filter(|_| !config.zone_said) {
                info!("AWS says that this host is in {zone}");
                config.place.zone = Some(zone);
            }
            if config.place.region.is_none() {
                config.place.region = region;
            }
            if config.membership.instance.is_none() {
                config.membership.instance = host.instance;
            }
        }
        Ok(None) => {}
        Err(error) => {
            warn!("AWS does not say where this host is: {error}; or set `zone`, `region` and `membership.instance`")
        }
    }
}

#[cfg(test)]
mod tests {
    use metacluster_types::{Region, Zone};

    use super::*;
    use crate::config::Environment;

    fn config(variables: &[(&str, &str)]) -> Config {
        let given = [("METACLUSTER_COOKIE", "c"), ("METACLUSTER_STATE_DIR", "/nowhere")];
        let all = given.iter().chain(variables);
        let environment = all.fold(Environment::empty(), |it, (name, value)| it.with_variable(name, value));
        Config::embedded(Vec::new(), &environment).unwrap_or_else(|faults| panic!("{faults}"))
    }

    fn said() -> Result<Option<Host>, OwnHostError> {
        let place = Place { zone: Zone::new("eu-west-1b").ok(), region: Region::new("eu-west-1").ok() };
        Ok(Some(Host { place, instance: Some("i-1".to_owned()), ..Host::default() }))
    }

    fn place(config: &Config) -> (Option<&str>, Option<&str>) {
        (config.place.zone.as_ref().map(Zone::as_str), config.place.region.as_ref().map(Region::as_str))
    }

    #[test]
    fn what_aws_says_fills_what_nobody_said() {
        let mut config = config(&[]);
        take(&mut config, said());
        assert_eq!(place(&config), (Some("eu-west-1b"), Some("eu-west-1")));
        assert_eq!(config.membership.instance.as_deref(), Some("i-1"));
    }

    #[test]
    fn what_was_said_stays() {
        let mut config = config(&[("METACLUSTER_ZONE", "rack-1"), ("METACLUSTER_MEMBERSHIP_INSTANCE", "i-2")]);
        take(&mut config, said());
        assert_eq!(place(&config), (Some("rack-1"), Some("eu-west-1")));
        assert_eq!(config.membership.instance.as_deref(), Some("i-2"));
    }

    #[test]
    fn without_an_answer_the_zone_is_local() {
        for said in [Ok(None), Err(OwnHostError::Slow { within: WITHIN })] {
            let mut config = config(&[]);
            take(&mut config, said);
            assert_eq!(place(&config), (Some("local"), None));
        }
    }
}
