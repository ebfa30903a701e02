//! What the demo will build: zones, the agent of each, the nodes in them. Pure: the same arguments and sandbox give the
//! same plan.

use std::{
    net::Ipv4Addr,
    path::{Path, PathBuf},
};

/// The most zones: one letter each.
pub(super) const ZONES_MAX: u8 = 20;
/// The most nodes in all: what one machine can carry as operating system processes.
pub(super) const NODES_MAX: u16 = 200;

/// What the machine gives the demo.
#[derive(Clone, Debug)]
pub(super) struct Ground {
    /// A folder of the demo's own.
    pub(super) folder: PathBuf,
    /// A free port for the epmd.
    pub(super) epmd_port: u16,
    /// A free port for the agents as members of one another.
    pub(super) membership_port: u16,
    /// A free port for the agents' gossip.
    pub(super) gossip_port: u16,
    /// What the gossip is encrypted with.
    pub(super) gossip_secret: String,
    /// Whether each zone can have a loopback address of its own. Linux has all of 127.0.0.0/8, others one address.
    pub(super) many_addresses: bool,
}

impl Ground {
    /// The file with the cookie of all nodes, where `erl` looks for it too.
    pub(super) fn cookie_file(&self) -> PathBuf {
        self.folder.join(".erlang.cookie")
    }
}

/// A zone with its agent and its nodes.
#[derive(Clone, Debug)]
pub(super) struct Zone {
    /// A letter.
    pub(super) name: String,
    /// The loopback address that stands for its host.
    pub(super) address: Ipv4Addr,
    /// The state folder of its agent.
    pub(super) folder: PathBuf,
    /// Where its agent answers.
    pub(super) socket: PathBuf,
    /// The names of its nodes.
    pub(super) nodes: Vec<String>,
}

impl Zone {
    /// The file that its agent starts from.
    pub(super) fn config_file(&self) -> PathBuf {
        self.folder.join("agent.toml")
    }
}

/// The whole demo.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    /// The zones; there is at least one. The agent of the first is the epmd.
    pub(super) zones: Vec<Zone>,
}

impl Plan {
    /// Spreads `nodes` over `zones`, the first zones getting one more where it does not come out even.
    pub(super) fn new(ground: &Ground, zones: u8, nodes: u16) -> Self {
        let zones = (0..zones.clamp(1, ZONES_MAX))
            .map(|index| {
                let name = char::from(b'a' + index).to_string();
                let address = Ipv4Addr::new(127, 0, if ground.many_addresses { index + 1 } else { 0 }, 1);
                let folder = ground.folder.join(&name);
                let share = nodes / u16::from(zones) + u16::from(u16::from(index) < nodes % u16::from(zones));
                Zone {
                    nodes: (1..=share).map(|number| format!("{name}{number}@{address}")).collect(),
                    socket: folder.join("metacluster.sock"),
                    folder,
                    address,
                    name,
                }
            })
            .collect();
        Self { zones }
    }

    /// Every node with its zone.
    pub(super) fn nodes(&self) -> impl Iterator<Item = (&Zone, &str)> {
        self.zones.iter().flat_map(|zone| zone.nodes.iter().map(move |node| (zone, node.as_str())))
    }

    /// The addresses that the epmd listens on.
    fn addresses(&self) -> Vec<Ipv4Addr> {
        let mut addresses = vec![Ipv4Addr::LOCALHOST];
        addresses.extend(self.zones.iter().map(|zone| zone.address));
        addresses.dedup();
        addresses
    }

    /// The configuration of a zone's agent.
    pub(super) fn config(&self, zone: &Zone, ground: &Ground) -> String {
        let is_epmd = self.zones.first().is_some_and(|first| first.name == zone.name);
        let addresses =
            self.addresses().iter().map(|address| text(&address.to_string())).collect::<Vec<_>>().join(", ");
        let epmd = if is_epmd {
            format!("mode = \"own\"\naddresses = [{addresses}]\n")
        } else {
            "mode = \"external\"\n".to_owned()
        };
        format!(
            "cluster = \"demo\"\n\
             zone = {zone_name}\n\
             cookie_file = {cookie}\n\
             state_dir = {folder}\n\
             node_name = {agent}\n\
             host = {address}\n\
             listen = {listen}\n\
             \n\
             [nodes]\n\
             names = [{pattern}]\n\
             \n\
             [epmd]\n\
             {epmd}\
             port = {epmd_port}\n\
             \n\
             [api]\n\
             http = \"off\"\n\
             \n\
             [membership]\n\
             enabled = {membership}\n\
             port = {membership_port}\n\
             profile = \"local\"\n\
             \n\
             [[topology]]\n\
             name = \"zones\"\n\
             strategy = \"gossip\"\n\
             port = {gossip_port}\n\
             multicast_if = \"127.0.0.1\"\n\
             secret = {secret}\n\
             \n\
             [[topology]]\n\
             name = \"here\"\n\
             strategy = \"local-epmd\"\n",
            zone_name = text(&zone.name),
            cookie = path(&ground.cookie_file()),
            folder = path(&zone.folder),
            agent = text(&format!("metacluster-{}", zone.name)),
            address = text(&zone.address.to_string()),
            listen = text(&format!("{}:0", zone.address)),
            pattern = text(&format!("{}*", zone.name)),
            epmd_port = ground.epmd_port,
            // Agents that share an address would share the port.
            membership = ground.many_addresses,
            membership_port = ground.membership_port,
            gossip_port = ground.gossip_port,
            secret = text(&ground.gossip_secret),
        )
    }
}

/// A TOML string.
fn text(value: &str) -> String {
    let mut quoted = String::from("\"");
    for character in value.chars() {
        match character {
            '"' => quoted.push_str("\\\""),
            '\\' => quoted.push_str("\\\\"),
            c if c.is_control() => quoted.push_str(&format!("\\u{:04x}", u32::from(c))),
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}

fn path(value: &Path) -> String {
    text(&value.to_string_lossy())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ground() -> Ground {
        Ground {
            folder: PathBuf::from("/tmp/demo \"x\""),
            epmd_port: 5000,
            membership_port: 5002,
            gossip_port: 5001,
            gossip_secret: "s3".to_owned(),
            many_addresses: true,
        }
    }

    #[test]
    fn nodes_are_spread_over_the_zones() {
        let plan = Plan::new(&ground(), 3, 7);
        let nodes: Vec<Vec<String>> = plan.zones.iter().map(|zone| zone.nodes.clone()).collect();
        assert_eq!(nodes[0], ["a1@127.0.1.1", "a2@127.0.1.1", "a3@127.0.1.1"]);
        assert_eq!(nodes[2], ["c1@127.0.3.1", "c2@127.0.3.1"]);
        assert_eq!(plan.nodes().count(), 7);
    }

    #[test]
    fn one_agent_is_the_epmd_and_the_others_use_it() {
        let ground = ground();
        let plan = Plan::new(&ground, 2, 2);
        let first = plan.config(&plan.zones[0], &ground);
        assert!(first.contains("mode = \"own\"\naddresses = [\"127.0.0.1\", \"127.0.1.1\", \"127.0.2.1\"]"), "{first}");
        assert!(plan.config(&plan.zones[1], &ground).contains("mode = \"external\""));
        assert!(first.contains("state_dir = \"/tmp/demo \\\"x\\\"/a\""), "{first}");
    }

    #[test]
    fn every_configuration_is_one_that_the_agent_takes() {
        let folder = tempfile::tempdir().expect("a folder");
        let ground = Ground { folder: folder.path().to_owned(), ..ground() };
        let plan = Plan::new(&ground, 3, 6);
        std::fs::write(ground.cookie_file(), "demo").expect("a cookie");
        let permissions = std::os::unix::fs::PermissionsExt::from_mode(0o400);
        std::fs::set_permissions(ground.cookie_file(), permissions).expect("permissions");
        for zone in &plan.zones {
            std::fs::create_dir_all(&zone.folder).expect("a folder");
            std::fs::write(zone.config_file(), plan.config(zone, &ground)).expect("a file");
            let environment = metacluster_agent::config::Environment::empty();
            let loaded = metacluster_agent::config::Config::load(&zone.config_file(), &environment);
            if let Err(faults) = loaded {
                panic!("{faults}");
            }
        }
    }
}
