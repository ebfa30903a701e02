//! One look at the instances of a region: every page, then those that were known and are missing.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, PoisonError},
};

use metacluster_types::Host;
use tokio::time::Instant;

use super::{
    filters::Filters,
    instances::{Instance, page},
};
use crate::aws::{AwsError, call::Caller, memory::Memory, source::Source};

/// The most that one page may have.
const PAGE: usize = 1000;
/// So many instances are read before the filters are held to be too wide.
const INSTANCES_MAX: usize = 20_000;
/// So many pages, of which some may be empty.
const PAGES_MAX: usize = 100;
/// A filter takes so many values, so this many missing instances are asked for at once.
const VALUES_MAX: usize = 200;
const ACTION: &str = "DescribeInstances";

/// The instances of one region.
#[derive(Debug)]
pub(super) struct Instances {
    region: String,
    filters: Arc<Filters>,
    memory: Mutex<Memory>,
}

impl Instances {
    pub(super) fn new(region: String, filters: Arc<Filters>) -> Self {
        Self { region, filters, memory: Mutex::new(Memory::default()) }
    }
}

impl Source for Instances {
    fn region(&self) -> &str {
        &self.region
    }

    async fn look(&self, caller: &Caller) -> Result<Vec<Host>, AwsError> {
        let host = |instance: Instance| instance.into_host(&self.region, self.filters.groups_are_roles);
        let found = describe(caller, &self.region, &self.filters.parameters()).await?;
        let hosts: Vec<Host> = found.into_iter().map(host).collect();
        let ids: BTreeSet<String> = hosts.iter().filter_map(|host| host.instance.clone()).collect();
        let missing = self.memory.lock().unwrap_or_else(PoisonError::into_inner).missing(&ids, VALUES_MAX);
        let asked: Vec<Host> = if missing.is_empty() {
            Vec::new()
        } else {
            describe(caller, &self.region, &with_ids(&missing)).await?.into_iter().map(host).collect()
        };
        let mut memory = self.memory.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(memory.take(hosts, &missing, asked, Instant::now()))
    }
}

/// The instances of these ids, at most [`VALUES_MAX`]: by a filter, since an id that is not known any more would be an
/// error.
pub(in crate::aws) fn with_ids(ids: &[String]) -> Vec<(String, String)> {
    let mut parameters = vec![("Filter.1.Name".to_owned(), "instance-id".to_owned())];
    let values = ids.iter().enumerate();
    parameters.extend(values.map(|(at, value)| (format!("Filter.1.Value.{}", at + 1), value.clone())));
    parameters
}

/// Every page of an answer.
pub(in crate::aws) async fn describe(
    caller: &Caller,
    region: &str,
    filters: &[(String, String)],
) -> Result<Vec<Instance>, AwsError> {
    let mut instances = Vec::new();
    let mut next: Option<String> = None;
    let malformed = |what: String| AwsError::Malformed { action: format!("ec2:{ACTION}"), what };
    for _ in 0..PAGES_MAX {
        let mut parameters = filters.to_vec();
        parameters.push(("MaxResults".to_owned(), PAGE.to_string()));
        parameters.extend(next.take().map(|token| ("NextToken".to_owned(), token)));
        let body = caller.ec2(region, ACTION, &parameters).await?;
        let page = page(&body).map_err(|error| malformed(error.to_string()))?;
        instances.extend(page.instances.into_iter().filter(|instance| !instance.id.is_empty()));
        if instances.len() > INSTANCES_MAX {
            return Err(AwsError::TooMany { what: "instances", most: INSTANCES_MAX });
        }
        match page.next {
            None => return Ok(instances),
            Some(token) => next = Some(token),
        }
    }
    Err(malformed("pages without end".to_owned()))
}
