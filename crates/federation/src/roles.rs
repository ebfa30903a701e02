//! Which of several gateways of a cluster publishes what another cluster lets out, and whom of that one it asks.
//!
//! Every gateway of the one may be linked to every gateway of the other, but a member must be published once. Those that
//! export say who may ask them: of the gateways of a cluster that are linked to them the one that comes first, as soon as
//! every other was told that it may not and has answered that it rests, whomever it had asked. A gateway that may asks one
//! of them, and none as long as any says that it may not. Who comes first is a matter of ids and of the two clusters
//! ([`rank`]), so all judge alike, and other pairs of clusters use other gateways. One that was told that it may not, and has
//! not answered within [`crate::Times::dead_after`], is as one that is dead: its link ends, and it holds up nobody any more.
//!
//! Who lost the gateway that it asked waits for [`crate::Times::takeover_after`] before it asks another: what the lost one
//! had sent to the nodes of its cluster is read by then, so that nothing overtakes it. So does who may ask and could not
//! before: the nodes hear from another gateway, or from nobody, that what was published is no more, and must know it
//! before they hear of the same members again.
//!
//! Who asks one that is not the first goes back to the first when that one has returned, for those that export do the same
//! with who may ask: both ways are by the same two gateways again, so that a pid which came by the one goes home by the
//! other. It lets the one go that it asked, and waits as above. The first one must have been linked for
//! [`crate::Times::settled_after`], or one that comes and goes would take all that is published with it each time. The way
//! back from it does not wait so: all that export must say the same of who may ask, and rank is what all know alike, while
//! each has links of its own age. A gateway that does not know that it may be let go ([`LET_GO`]) is asked until it is lost.
//!
//! [`LET_GO`]: crate::codec::hello::LET_GO

use metacluster_types::{AgentId, ClusterName, Instant};

use crate::{
    Federation,
    codec::{CodecError, Reader, frame::Kind},
    directory::hash,
    link::LinkId,
    peer::PeerId,
};
use bytes::BufMut;

/// The place of a gateway among those of its cluster, for a pair of clusters. Lower is first.
pub(crate) fn rank(one: &ClusterName, other: &ClusterName, gateway: AgentId) -> (u64, AgentId) {
    let (first, second) = if one < other { (one, other) } else { (other, one) };
    (hash(&[first.as_str().as_bytes(), second.as_str().as_bytes(), &gateway.0.to_be_bytes()]), gateway)
}

impl Federation {
    /// The gateways of a cluster that are linked, the first one first.
    fn linked(&self, cluster: &ClusterName) -> Vec<PeerId> {
        let mut linked: Vec<PeerId> = PeerId::all()
            .take(self.peers.len())
            .filter(|peer| self.peer(*peer).link.is_some() && self.peer(*peer).cluster == *cluster)
            .collect();
        linked.sort_by_key(|peer| rank(&self.settings.cluster, cluster, self.peer(*peer).gateway));
        linked
    }

    /// A link to a gateway of this cluster came or went, or one of them asks no more: who may ask is judged again.
    pub(crate) fn elect(&mut self, now: Instant, cluster: &ClusterName) {
        let linked = self.linked(cluster);
        let Some((&first, others)) = linked.split_first() else { return };
        for &other in others {
            self.say_role(now, other, false);
        }
        if others.iter().all(|other| self.peer(*other).restless == 0) {
            self.say_role(now, first, true);
        } else if self.peer(first).told_role.is_none() {
            self.say_role(now, first, false);
        }
    }

    fn say_role(&mut self, now: Instant, peer: PeerId, may_ask: bool) {
        let state = self.peer_mut(peer);
        let Some(link) = state.link.filter(|_| state.told_role != Some(may_ask)) else { return };
        state.told_role = Some(may_ask);
        if !may_ask {
            state.restless += 1;
            state.restless_since.get_or_insert(now);
        }
        if let Some(state) = self.links.get_mut(&link) {
            state.control(Kind::Role, |out| out.put_u8(may_ask.into()));
        }
        self.wake(link);
    }

    /// The other side says whether this gateway may ask it.
    pub(crate) fn role_came(&mut self, now: Instant, peer: PeerId, body: &[u8]) -> Result<(), CodecError> {
        let mut reader = Reader::new(body);
        let may_ask = match reader.u8()? {
            0 => false,
            1 => true,
            _ => return Err(CodecError::Invalid("role")),
        };
        reader.end()?;
        let state = self.peer_mut(peer);
        let before = state.role.replace(may_ask);
        let (cluster, link) = (state.cluster.clone(), state.link);
        if may_ask && before == Some(false) {
            self.takeovers.insert(cluster.clone(), (None, now));
        }
        self.choose(now, &cluster);
        if let Some(link) = link.filter(|_| !may_ask) {
            if let Some(state) = self.links.get_mut(&link) {
                state.control(Kind::Resting, |_| {});
            }
            self.wake(link);
        }
        Ok(())
    }

    /// The other side was told that it may not ask, and asks nobody of this cluster.
    pub(crate) fn rests(&mut self, now: Instant, peer: PeerId) -> Result<(), CodecError> {
        let state = self.peer_mut(peer);
        state.restless = state.restless.checked_sub(1).ok_or(CodecError::Invalid("rest that nobody asked for"))?;
        state.restless_since = (state.restless > 0).then_some(now);
        state.in_step = false;
        let cluster = state.cluster.clone();
        self.elect(now, &cluster);
        Ok(())
    }

    /// A role, a link or a time is another: judges whom of a cluster to ask for its groups, and asks.
    pub(crate) fn choose(&mut self, now: Instant, cluster: &ClusterName) {
        self.returns.remove(cluster);
        let linked = self.linked(cluster);
        let asked = linked.iter().copied().find(|peer| self.peer(*peer).asked);
        if linked.iter().any(|peer| self.peer(*peer).role == Some(false)) {
            if let Some(asked) = asked {
                self.rest(now, asked);
            }
            return;
        }
        if let (Some(asked), Some(first)) = (asked, linked.first()) {
            return self.go_back(now, cluster, asked, *first);
        }
        let Some(first) = linked.into_iter().find(|peer| self.peer(*peer).role == Some(true)) else { return };
        let waits = self
            .takeovers
            .get(cluster)
            .is_some_and(|(lost, at)| *lost != Some(first) && now.since(*at) < self.settings.times.takeover_after);
        if !waits {
            self.takeovers.remove(cluster);
            self.ask(first);
        }
    }

    /// One is asked, and this one comes first: it is to be asked in its place, once it may be and is known to stay.
    fn go_back(&mut self, now: Instant, cluster: &ClusterName, asked: PeerId, first: PeerId) {
        if asked == first || self.peer(first).role != Some(true) {
            return;
        }
        let Some(link) = self.peer(asked).link.filter(|link| self.lets_go(*link)) else { return };
        let settled = self.peer(first).since + self.settings.times.settled_after;
        if now < settled {
            self.returns.insert(cluster.clone(), settled);
            return;
        }
        self.rest(now, asked);
        if let Some(state) = self.links.get_mut(&link) {
            state.control(Kind::LetGo, |_| {});
        }
        self.wake(link);
        self.takeovers.insert(cluster.clone(), (None, now));
    }

    fn lets_go(&self, link: LinkId) -> bool {
        self.links.get(&link).is_some_and(|link| link.lets_go)
    }

    /// The other side asks no more: it is told no change from now on. What it asked for before is answered still, as it
    /// counts the answers.
    pub(crate) fn is_let_go(&mut self, link: LinkId, peer: PeerId, body: &[u8]) -> Result<(), CodecError> {
        Reader::new(body).end()?;
        let asked = std::mem::take(&mut self.peer_mut(peer).in_step);
        if asked && self.lets_go(link) { Ok(()) } else { Err(CodecError::Invalid("letting go of what nobody held")) }
    }

    /// Asks for the groups of a gateway, by what is known of them.
    fn ask(&mut self, peer: PeerId) {
        let digest = self.peer(peer).directory.digest(&self.identifiers);
        let state = self.peer_mut(peer);
        let Some(link) = state.link else { return };
        state.asked = true;
        state.unanswered += 1;
        if let Some(state) = self.links.get_mut(&link) {
            state.control(Kind::Digest, |out| digest.iter().for_each(|part| out.put_u64(*part)));
        }
        self.wake(link);
    }

    /// Another gateway of this cluster is to publish.
    fn rest(&mut self, now: Instant, peer: PeerId) {
        self.withdraw_all(peer);
        self.drop_directory(now, peer);
        self.peer_mut(peer).asked = false;
    }

    /// Whether groups that come are what was asked for last; what was asked for before is not wanted any more.
    pub(crate) fn awaits_groups(&self, peer: PeerId) -> Result<bool, CodecError> {
        let state = self.peer(peer);
        if state.unanswered == 0 {
            return Err(CodecError::Invalid("groups that nobody asked for"));
        }
        Ok(state.asked && state.unanswered == 1)
    }

    /// Whether changes that come are of what is published.
    pub(crate) fn takes_changes(&self, peer: PeerId) -> bool {
        let state = self.peer(peer);
        state.asked && state.unanswered == 0
    }

    /// Those who waited long enough take over, and those who stayed long enough are gone back to.
    pub(crate) fn take_over(&mut self, now: Instant) {
        let after = self.settings.times.takeover_after;
        let mut due: Vec<ClusterName> =
            self.takeovers.extract_if(.., |_, (_, at)| now.since(*at) >= after).map(|(c, _)| c).collect();
        due.extend(self.returns.extract_if(.., |_, at| *at <= now).map(|(c, _)| c));
        for cluster in due {
            self.choose(now, &cluster);
        }
    }

    /// The link of a gateway is gone: all else about it that holds for one link only is forgotten, and others may step in.
    pub(crate) fn stand_in(&mut self, now: Instant, peer: PeerId) {
        let state = self.peer_mut(peer);
        let (asked, role) = (std::mem::take(&mut state.asked), state.role.take());
        (state.in_step, state.told_role, state.unanswered) = (false, None, 0);
        (state.restless, state.restless_since) = (0, None);
        let cluster = state.cluster.clone();
        if asked {
            self.takeovers.insert(cluster.clone(), (Some(peer), now));
        } else if role == Some(false) {
            // It spoke for another one, which may be lost with it.
            self.takeovers.insert(cluster.clone(), (None, now));
        }
        self.elect(now, &cluster);
        self.choose(now, &cluster);
    }
}
