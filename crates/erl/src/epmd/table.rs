//! Who is registered: the rules of names and creations, without a socket.
//!
//! A name is active for as long as the connection that registered it. After that its creation is remembered, so that
//! its next life gets the next number: that tells the pids of two lives apart. At most [`REMEMBERED_MAX`] names are
//! remembered, as in stock epmd. Follows `erts/epmd/src/epmd_srv.c` of OTP.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
};

use metacluster_erl_wire::epmd::{DumpReply, NameEntry, Registration};

/// Names whose creation is remembered after they went.
pub(crate) const REMEMBERED_MAX: usize = 1_000;

/// The names that are active now.
pub type Names = Arc<BTreeMap<String, Registration>>;

/// What tells one registration from a later one of the same name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Token(u64);

/// What of a registration only a dump shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Held {
    token: Token,
    creation: u32,
    port: u16,
    descriptor: i32,
}

/// Another connection holds the name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Taken;

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Table {
    active: Names,
    held: BTreeMap<String, Held>,
    remembered: BTreeMap<String, Held>,
    order: VecDeque<String>,
    registered: u64,
}

impl Table {
    /// What is active now; a shared, immutable map.
    pub(crate) fn names(&self) -> Names {
        Arc::clone(&self.active)
    }

    /// Registers a name that the codec has found good. `seed` is the creation of a name that was never seen,
    /// `descriptor` is for dumps.
    pub(crate) fn register(
        &mut self,
        registration: Registration,
        seed: u32,
        descriptor: i32,
    ) -> Result<(Token, u32), Taken> {
        let name = registration.name.clone();
        if self.held.contains_key(&name) {
            return Err(Taken);
        }
        let creation = match self.remembered.remove(&name) {
            Some(last) => {
                self.order.retain(|other| *other != name);
                next(last.creation)
            }
            None => seed.max(4),
        };
        self.registered += 1;
        let token = Token(self.registered);
        self.held.insert(name.clone(), Held { token, creation, port: registration.port, descriptor });
        Arc::make_mut(&mut self.active).insert(name, registration);
        Ok((token, creation))
    }

    /// Ends a registration; false if it had ended before.
    pub(crate) fn unregister(&mut self, name: &str, token: Token) -> bool {
        if self.held.get(name).is_none_or(|held| held.token != token) {
            return false;
        }
        let Some(held) = self.held.remove(name) else { return false };
        Arc::make_mut(&mut self.active).remove(name);
        if self.order.len() == REMEMBERED_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.remembered.remove(&oldest);
        }
        self.order.push_back(name.to_owned());
        self.remembered.insert(name.to_owned(), held);
        true
    }

    /// The token of a name that is active.
    pub(crate) fn token(&self, name: &str) -> Option<Token> {
        self.held.get(name).map(|held| held.token)
    }

    /// What a dump shows: who is active and who was, each with its descriptor.
    pub(crate) fn dump(&self, port: u32) -> DumpReply {
        let line =
            |(name, held): (&String, &Held)| (NameEntry { name: name.clone(), port: held.port }, held.descriptor);
        DumpReply {
            port,
            active: self.held.iter().map(line).collect(),
            unused: self.remembered.iter().map(line).collect(),
        }
    }
}

/// The creation after `last`: 0 to 3 are those of old nodes, so they are left out.
fn next(last: u32) -> u32 {
    last.wrapping_add(1).max(4)
}

#[cfg(test)]
mod tests {
    use metacluster_erl_wire::epmd::NodeType;

    use super::*;

    fn node(name: &str) -> Registration {
        Registration::new(name, 4_000, NodeType::Normal)
    }

    #[test]
    fn the_next_life_of_a_name_has_the_next_creation() {
        let mut table = Table::default();
        let (token, first) = table.register(node("shop"), 77, 3).expect("free");
        assert_eq!(first, 77);
        assert_eq!(table.register(node("shop"), 5, 3), Err(Taken));
        assert!(table.unregister("shop", token));
        assert!(!table.unregister("shop", token), "twice is once");
        assert!(table.names().is_empty());
        let (second_token, second) = table.register(node("shop"), 5, 3).expect("free again");
        assert_eq!(second, 78);
        assert!(!table.unregister("shop", token), "an old connection does not end the new registration");
        assert!(table.unregister("shop", second_token));
    }

    #[test]
    fn creations_below_four_are_left_out() {
        assert_eq!(next(u32::MAX), 4);
        assert_eq!(Table::default().register(node("shop"), 0, 3).expect("free").1, 4);
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let mut table = Table::default();
        for n in 0..REMEMBERED_MAX + 10 {
            let name = format!("n{n}");
            let (token, _) = table.register(node(&name), 9, 3).expect("free");
            table.unregister(&name, token);
        }
        assert_eq!(table.remembered.len(), REMEMBERED_MAX);
        assert_eq!(table.order.len(), REMEMBERED_MAX);
        assert_eq!(table.register(node("n0"), 50, 3).expect("free").1, 50, "the oldest is forgotten");
    }

    #[test]
    fn a_dump_shows_who_is_and_who_was() {
        let mut table = Table::default();
        let (token, _) = table.register(node("old"), 9, 5).expect("free");
        table.unregister("old", token);
        table.register(node("shop"), 9, 6).expect("free");
        let entry = |name: &str| NameEntry { name: name.to_owned(), port: 4_000 };
        let expected = DumpReply { port: 4369, active: vec![(entry("shop"), 6)], unused: vec![(entry("old"), 5)] };
        assert_eq!(table.dump(4369), expected);
    }
}
