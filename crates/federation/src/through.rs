//! Links between processes of two other clusters, through this gateway.
//!
//! Such a link is kept as one of this cluster is: an exit passes only where there is a link, once, and a lost link to either
//! gateway tells the other end. An unlink that is not confirmed yet has the link off; what passes meanwhile is dropped, as
//! the process that unlinked would.

use metacluster_erl_wire::{Control, Term, rewrite::Route};
use metacluster_types::Instant;

use crate::{
    Federation,
    identifiers::PidKey,
    lanes::Lane,
    local::{lane, signal, unlink_id},
    peer::PeerId,
    refusal::Refusal,
    seconds,
    table::Slot,
    watches::{Between, End, take},
};

/// The entries of both ends, the smaller one first.
pub(crate) type Pair = (Slot, Slot);

/// What an end of such a link says of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Word {
    /// It takes it back.
    Unlink,
    /// It confirms that the other end has.
    Unlinked,
    /// It has ended.
    Exit,
}

fn pair(one: Slot, other: Slot) -> Pair {
    if one < other { (one, other) } else { (other, one) }
}

impl Federation {
    /// A process behind `peer` links one behind `via`.
    pub(crate) fn link_through(
        &mut self,
        now: Instant,
        peer: PeerId,
        route: &Route<'_>,
        from: &PidKey,
        (via, to): (PeerId, Slot),
    ) -> Result<(), Refusal> {
        if self.watches.between.len() >= self.settings.limits.watches_max {
            return Err(Refusal::TooManyWatches);
        }
        self.carry_through(now, (peer, via), lane(route), &signal(route))?;
        // It is known since it was carried.
        let Some(from) = self.identifiers.far_pid(peer, from) else { return Ok(()) };
        let ends = [End { peer, slot: from, unlinking: None }, End { peer: via, slot: to, unlinking: None }];
        ends.iter().for_each(|end| self.identifiers.far.pids.hold(end.slot));
        if let Some(old) = self.watches.between.insert(pair(from, to), Between { ends }) {
            self.release_between(now, &old);
        }
        Ok(())
    }

    /// The link of a far process with another one, if there is one, with the ends in this order.
    fn between(&self, peer: PeerId, from: &PidKey, to: &PidKey) -> Option<(Pair, [End; 2])> {
        let from = self.identifiers.far_pid(peer, from)?;
        let of = |end: &End| self.identifiers.far.pids.at(end.slot).is_some_and(|entry| entry.key == *to);
        // The other end has one entry for each gateway that brought it; few have more than one.
        PeerId::all().take(self.peers.len()).find_map(|via| {
            let other = self.identifiers.far.pids.find(Some(via), to)?;
            let known = self.watches.between.get(&pair(from, other))?;
            let [one, two] = known.ends;
            let ends = if (one.peer, one.slot) == (peer, from) { [one, two] } else { [two, one] };
            ((ends[0].peer, ends[0].slot) == (peer, from) && of(&ends[1])).then_some((pair(from, other), ends))
        })
    }

    /// A far process says something of its link with another one, which hears it if it is so.
    pub(crate) fn say_through(
        &mut self,
        now: Instant,
        peer: PeerId,
        route: &Route<'_>,
        (from, to): (&PidKey, &PidKey),
        word: Word,
    ) -> Result<(), Refusal> {
        let unknown = if word == Word::Exit { Refusal::ExitWithoutLink } else { Refusal::NotWatched };
        let (pair, [own, other]) = self.between(peer, from, to).ok_or(unknown)?;
        let id = unlink_id(route);
        let over = match word {
            Word::Unlink => false,
            Word::Unlinked if other.unlinking.is_none() || other.unlinking != id => return Err(Refusal::NotWatched),
            // It is off, unless this end has taken it back, too, and waits.
            Word::Unlinked => own.unlinking.is_none(),
            Word::Exit if own.unlinking.or(other.unlinking).is_some() => return Ok(()),
            Word::Exit => true,
        };
        // Carrying may end a link, and what is then left of this one is told its ends.
        if over {
            self.drop_between(now, pair);
        } else if word == Word::Unlinked {
            self.end_of(pair, other.peer, |end| end.unlinking = None);
        }
        let carried = self.carry_through(now, (peer, other.peer), lane(route), &signal(route));
        match (word, &carried) {
            (Word::Unlink, Ok(())) => self.end_of(pair, peer, |end| end.unlinking = id),
            (Word::Unlink, Err(_)) => self.drop_between(now, pair),
            (Word::Unlinked | Word::Exit, _) => {}
        }
        carried
    }

    /// The link to a gateway is lost: what was linked with processes behind it is told.
    pub(crate) fn through_lost(&mut self, now: Instant, peer: PeerId) {
        let lost = |_: &Pair, between: &Between| between.ends.iter().any(|end| end.peer == peer);
        for (_, between) in take(&mut self.watches.between, lost) {
            let [one, two] = between.ends;
            let (gone, left) = if one.peer == peer { (one, two) } else { (two, one) };
            let key = |slot| self.identifiers.far.pids.at(slot).map(|entry| entry.key);
            if let (Some(gone), Some(to)) = (key(gone.slot), key(left.slot)) {
                let lane = Lane::of(gone.id, gone.serial);
                let (from, to) = (self.identifiers.home_pid(&gone), self.identifiers.home_pid(&to));
                match left.unlinking {
                    Some(id) => self.say(now, left.peer, lane, Control::UnlinkIdAck { id, from, to }, None),
                    None => {
                        let control = Control::PayloadExit { from, to, trace: None };
                        self.say(now, left.peer, lane, control, Some(&Term::atom("noconnection")));
                    }
                }
            }
            self.release_between(now, &between);
        }
    }

    fn end_of(&mut self, pair: Pair, peer: PeerId, change: impl FnOnce(&mut End)) {
        let known = self.watches.between.get_mut(&pair);
        if let Some(end) = known.and_then(|between| between.ends.iter_mut().find(|end| end.peer == peer)) {
            change(end);
        }
    }

    fn drop_between(&mut self, now: Instant, pair: Pair) {
        if let Some(between) = self.watches.between.remove(&pair) {
            self.release_between(now, &between);
        }
    }

    fn release_between(&mut self, now: Instant, between: &Between) {
        between.ends.iter().for_each(|end| self.identifiers.far.pids.release(end.slot, seconds(now)));
    }
}
