//! BEAM nodes: they start, die and start again elsewhere under the same name, and see one another.
//!
//! A connection is known at both of its ends, and the two may disagree for a while: an end that was cut off keeps its
//! view until its tick runs out, or until the other end resets the connection.

use std::collections::{BTreeMap, BTreeSet};

use metacluster_types::NodeName;

use crate::network::HostId;

/// A name of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct NameId(pub(crate) u32);

/// One life of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct LifeId(u32);

/// One life of a node.
#[derive(Debug)]
pub(crate) struct Life {
    pub(crate) name: NameId,
    pub(crate) host: HostId,
    pub(crate) alive: bool,
    /// The connections that it holds, one a name.
    pub(crate) view: BTreeMap<NameId, Connection>,
}

/// One end of a connection. Both ends have the same number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Connection {
    /// Who is at the other end.
    pub(crate) to: LifeId,
    pub(crate) number: u64,
}

/// All nodes, by name and by life.
#[derive(Debug, Default)]
pub(crate) struct Beams {
    names: Vec<NodeName>,
    by_name: BTreeMap<NodeName, NameId>,
    /// The host that a name stands for now.
    homes: Vec<HostId>,
    current: Vec<Option<LifeId>>,
    lives: Vec<Life>,
    on_host: BTreeMap<HostId, BTreeSet<LifeId>>,
    connections: u64,
}

impl Beams {
    pub(crate) fn add_name(&mut self, name: NodeName, home: HostId) -> NameId {
        let id = NameId(u32::try_from(self.names.len()).expect("few names"));
        self.by_name.insert(name.clone(), id);
        self.names.push(name);
        self.homes.push(home);
        self.current.push(None);
        id
    }

    pub(crate) fn names(&self) -> impl Iterator<Item = NameId> + use<> {
        (0..u32::try_from(self.names.len()).expect("few names")).map(NameId)
    }

    pub(crate) fn name(&self, id: NameId) -> &NodeName {
        &self.names[id.0 as usize]
    }

    pub(crate) fn find(&self, name: &NodeName) -> Option<NameId> {
        self.by_name.get(name).copied()
    }

    pub(crate) fn home(&self, name: NameId) -> HostId {
        self.homes[name.0 as usize]
    }

    /// The life that a name has now.
    pub(crate) fn current(&self, name: NameId) -> Option<LifeId> {
        self.current[name.0 as usize]
    }

    pub(crate) fn life(&self, id: LifeId) -> &Life {
        &self.lives[id.0 as usize]
    }

    /// Every life on a host that is not over.
    pub(crate) fn alive_on(&self, host: HostId) -> Vec<LifeId> {
        self.on_host.get(&host).into_iter().flatten().copied().collect()
    }

    pub(crate) fn alive(&self) -> impl Iterator<Item = LifeId> + '_ {
        self.current.iter().flatten().copied()
    }

    /// A name comes to life on a host.
    pub(crate) fn start(&mut self, name: NameId, host: HostId) -> LifeId {
        let id = LifeId(u32::try_from(self.lives.len()).expect("few lives"));
        self.lives.push(Life { name, host, alive: true, view: BTreeMap::new() });
        self.homes[name.0 as usize] = host;
        self.current[name.0 as usize] = Some(id);
        self.on_host.entry(host).or_default().insert(id);
        id
    }

    /// A life is over; gives the connections that it held.
    pub(crate) fn end(&mut self, id: LifeId) -> Vec<Connection> {
        let life = &mut self.lives[id.0 as usize];
        life.alive = false;
        let view = std::mem::take(&mut life.view);
        self.current[life.name.0 as usize] = None;
        if let Some(lives) = self.on_host.get_mut(&life.host) {
            lives.remove(&id);
        }
        view.into_values().collect()
    }

    /// The connections that a life holds.
    pub(crate) fn connections(&self, id: LifeId) -> Vec<Connection> {
        self.life(id).view.values().copied().collect()
    }

    /// Whether both hold the two ends of one connection.
    pub(crate) fn linked(&self, one: LifeId, other: LifeId) -> bool {
        let end = |from: LifeId, to: LifeId| {
            self.life(from).view.get(&self.life(to).name).filter(|held| held.to == to).map(|held| held.number)
        };
        end(one, other).is_some_and(|number| end(other, one) == Some(number))
    }

    /// Whether the other end of a connection of `id` is gone.
    pub(crate) fn half_open(&self, id: LifeId, held: Connection) -> bool {
        let back = self.life(held.to).view.get(&self.life(id).name);
        back.is_none_or(|back| back.number != held.number)
    }

    /// The two hold a connection from now on; says of each whether it replaces one that it held under that name.
    pub(crate) fn connect(&mut self, one: LifeId, other: LifeId) -> [bool; 2] {
        self.connections += 1;
        let number = self.connections;
        [(one, other), (other, one)].map(|(from, to)| {
            let name = self.life(to).name;
            self.lives[from.0 as usize].view.insert(name, Connection { to, number }).is_some()
        })
    }

    /// A life holds this connection no more; says whether it did until now.
    pub(crate) fn lose(&mut self, id: LifeId, held: Connection) -> bool {
        let name = self.life(held.to).name;
        let life = &mut self.lives[id.0 as usize];
        let holds = life.alive && life.view.get(&name) == Some(&held);
        if holds {
            life.view.remove(&name);
        }
        holds
    }
}
