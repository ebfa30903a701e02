//! One look at the tasks of a region: list them, describe them in hundreds, and find the instances of those that have no
//! interface of their own.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::{Mutex, PoisonError},
};

use metacluster_types::Host;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::tasks::{Described, Listed, Machines, Shape, Task};
use crate::aws::{AwsError, call::Caller, ec2, memory::Memory, source::Source};

/// The most tasks, and the most container instances, of one call.
const BATCH: usize = 100;
/// So many tasks are read before the selection is held to be too wide.
const TASKS_MAX: usize = 20_000;
/// So many missing tasks are asked for at once.
const MISSING_MAX: usize = 100;
/// The addresses of so many container instances are kept.
const MACHINES_MAX: usize = 5_000;

/// Which tasks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Selection {
    /// The cluster's name or ARN.
    pub(super) cluster: String,
    /// Services by their exact names or ARNs.
    pub(super) services: Vec<String>,
    /// Families of task definitions. Without these and services, the whole cluster.
    pub(super) families: Vec<String>,
    pub(super) shape: Shape,
}

/// The tasks of one region.
#[derive(Debug)]
pub(super) struct Tasks {
    region: String,
    selection: Selection,
    memory: Mutex<Memory>,
    /// The addresses of container instances, which keep them for life.
    machines: Mutex<BTreeMap<String, Vec<IpAddr>>>,
}

impl Tasks {
    pub(super) fn new(region: String, selection: Selection) -> Self {
        Self { region, selection, memory: Mutex::default(), machines: Mutex::default() }
    }

    async fn list(&self, caller: &Caller) -> Result<BTreeSet<String>, AwsError> {
        let Selection { cluster, services, families, .. } = &self.selection;
        let by = |key: &'static str, values: &[String]| -> Vec<Value> {
            values.iter().map(|value| json!({ "cluster": cluster, key: value })).collect()
        };
        let mut requests = by("serviceName", services);
        requests.extend(by("family", families));
        if requests.is_empty() {
            requests.push(json!({ "cluster": cluster }));
        }
        let mut arns = BTreeSet::new();
        for request in requests {
            self.list_pages(caller, request, &mut arns).await?;
        }
        Ok(arns)
    }

    async fn list_pages(
        &self,
        caller: &Caller,
        mut request: Value,
        arns: &mut BTreeSet<String>,
    ) -> Result<(), AwsError> {
        request["desiredStatus"] = "RUNNING".into();
        request["maxResults"] = BATCH.into();
        for _ in 0..=TASKS_MAX / BATCH {
            let page: Listed = self.call(caller, "ListTasks", &request).await?;
            arns.extend(page.task_arns);
            if arns.len() > TASKS_MAX {
                return Err(AwsError::TooMany { what: "tasks", most: TASKS_MAX });
            }
            match page.next_token.filter(|token| !token.is_empty()) {
                Some(token) => request["nextToken"] = token.into(),
                None => return Ok(()),
            }
        }
        Err(AwsError::Malformed { action: "ecs:ListTasks".to_owned(), what: "pages without end".to_owned() })
    }

    /// The tasks of these ARNs. ECS says nothing of those that it does not know any more.
    async fn describe(&self, caller: &Caller, arns: &[String]) -> Result<Vec<Task>, AwsError> {
        let mut tasks = Vec::new();
        for batch in arns.chunks(BATCH) {
            let request = json!({ "cluster": self.selection.cluster, "tasks": batch, "include": ["TAGS"] });
            let described: Described = self.call(caller, "DescribeTasks", &request).await?;
            tasks.extend(described.tasks.into_iter().filter(|task| !task.task_arn.is_empty()));
        }
        Ok(tasks)
    }

    /// Learns the addresses of the container instances that are needed and not known.
    async fn learn_machines(&self, caller: &Caller, tasks: &[Task]) -> Result<(), AwsError> {
        let needed: BTreeSet<String> = {
            let known = self.machines.lock().unwrap_or_else(PoisonError::into_inner);
            let needed = tasks.iter().filter_map(Task::needs_machine).filter(|arn| !known.contains_key(*arn));
            needed.map(ToOwned::to_owned).collect()
        };
        let needed: Vec<String> = needed.into_iter().take(MACHINES_MAX).collect();
        for batch in needed.chunks(BATCH) {
            let request = json!({ "cluster": self.selection.cluster, "containerInstances": batch });
            let machines: Machines = self.call(caller, "DescribeContainerInstances", &request).await?;
            let arns: BTreeMap<String, String> = machines
                .container_instances
                .into_iter()
                .filter(|machine| machine.ec2_instance_id.starts_with("i-"))
                .map(|machine| (machine.ec2_instance_id, machine.container_instance_arn))
                .collect();
            if arns.is_empty() {
                continue;
            }
            let ids: Vec<String> = arns.keys().cloned().collect();
            let instances = ec2::describe(caller, &self.region, &ec2::with_ids(&ids)).await?;
            let mut known = self.machines.lock().unwrap_or_else(PoisonError::into_inner);
            if known.len() + instances.len() > MACHINES_MAX {
                // Those that are still needed are learned again.
                known.clear();
            }
            for instance in instances {
                if let Some(arn) = arns.get(&instance.id) {
                    let host = instance.into_host(&self.region, false);
                    known.insert(arn.clone(), host.addresses);
                }
            }
        }
        Ok(())
    }

    async fn call<A: DeserializeOwned>(&self, caller: &Caller, action: &str, request: &Value) -> Result<A, AwsError> {
        let body = caller.ecs(&self.region, action, request).await?;
        serde_json::from_slice(&body)
            .map_err(|error| AwsError::Malformed { action: format!("ecs:{action}"), what: error.to_string() })
    }
}

impl Source for Tasks {
    fn region(&self) -> &str {
        &self.region
    }

    async fn look(&self, caller: &Caller) -> Result<Vec<Host>, AwsError> {
        let listed = self.list(caller).await?;
        // Those that are not listed any more are described together with those that are.
        let missing = self.memory.lock().unwrap_or_else(PoisonError::into_inner).missing(&listed, MISSING_MAX);
        let arns: Vec<String> = listed.iter().chain(&missing).cloned().collect();
        let tasks = self.describe(caller, &arns).await?;
        self.learn_machines(caller, &tasks).await?;
        let (mut hosts, mut asked) = (Vec::new(), Vec::new());
        {
            let machines = self.machines.lock().unwrap_or_else(PoisonError::into_inner);
            for task in tasks {
                let of = if missing.contains(&task.task_arn) { &mut asked } else { &mut hosts };
                of.push(task.into_host(&self.selection.shape, &machines));
            }
        }
        let mut memory = self.memory.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(memory.take(hosts, &missing, asked, Instant::now()))
    }
}
