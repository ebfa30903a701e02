//! Which instances are wanted: the keys of the topology, as filters of `DescribeInstances`. All must fit; of several values
//! of one filter, one must.

use crate::settings::Reader;

/// The states that an instance can be in.
const STATES: [&str; 6] = ["pending", "running", "shutting-down", "terminated", "stopping", "stopped"];
/// A filter takes so many values.
const VALUES_MAX: usize = 200;
/// What makes security groups roles.
pub(super) const GROUPS: &str = "security_group";

/// The filters of one topology.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Filters {
    /// Each with its name and values.
    filters: Vec<(String, Vec<String>)>,
    /// Whether the groups of an instance are its roles.
    pub(super) groups_are_roles: bool,
}

impl Filters {
    pub(super) fn read(reader: &mut Reader<'_>) -> Self {
        let mut filters = Vec::new();
        let tags = reader.table("tag");
        if tags.keys().any(|key| key.is_empty() || key.chars().count() > 128) {
            reader.fault("tag", "has a key that is empty or longer than 128 characters");
        }
        filters.extend(tags.into_iter().map(|(tag, values)| (format!("tag:{tag}"), values)));
        let groups = reader.texts("security_group");
        let ids = groups.iter().filter(|group| group.starts_with("sg-")).count();
        if ids > 0 && ids < groups.len() {
            reader.fault("security_group", "mixes names and ids: give all by name or all by id");
        }
        let by = if ids > 0 { "instance.group-id" } else { "instance.group-name" };
        let auto_scaling = reader.texts("auto_scaling_group");
        let vpcs = checked(reader, "vpc", "vpc-");
        let subnets = checked(reader, "subnet", "subnet-");
        let states = reader.texts("state");
        if let Some(wrong) = states.iter().find(|state| !STATES.contains(&state.as_str())) {
            reader.fault("state", &format!("`{wrong}` is no state of an instance; there are {}", STATES.join(", ")));
        }
        for (name, values) in [
            (by, groups),
            ("tag:aws:autoscaling:groupName", auto_scaling),
            ("vpc-id", vpcs),
            ("subnet-id", subnets),
            ("instance-state-name", states),
        ] {
            if !values.is_empty() {
                filters.push((name.to_owned(), values));
            }
        }
        if let Some((name, _)) = filters.iter().find(|(_, values)| values.len() > VALUES_MAX) {
            reader.fault("strategy", &format!("the filter {name} has more than {VALUES_MAX} values"));
        }
        Self { filters, groups_are_roles: false }
    }

    /// Whether every instance of the region fits that is in some state.
    pub(super) fn is_empty(&self) -> bool {
        self.filters.iter().all(|(name, _)| name == "instance-state-name")
    }

    /// As the Query API takes them.
    pub(super) fn parameters(&self) -> Vec<(String, String)> {
        let mut parameters = Vec::new();
        for (at, (name, values)) in self.filters.iter().enumerate() {
            let at = at + 1;
            parameters.push((format!("Filter.{at}.Name"), name.clone()));
            let values = values.iter().enumerate();
            parameters.extend(values.map(|(of, value)| (format!("Filter.{at}.Value.{}", of + 1), value.clone())));
        }
        parameters
    }
}

fn checked(reader: &mut Reader<'_>, key: &str, prefix: &str) -> Vec<String> {
    let ids = reader.texts(key);
    if let Some(wrong) = ids.iter().find(|id| !id.starts_with(prefix)) {
        reader.fault(key, &format!("`{wrong}` is no id: expected one such as {prefix}0a1b2c3d"));
    }
    ids
}
