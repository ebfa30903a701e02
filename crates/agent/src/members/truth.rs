//! Provider truth: which members a provider's *terminated* ends.
//!
//! An address may be used again and an instance's id never is, so:
//!
//! 1. A host and a member that both have an instance id: the same id ends the member at once, whatever its standing; a
//!    different one never does.
//! 2. Where one of them has none, the address decides, and only while nobody lives there: the member had that address
//!    before the source first said so, and since then it has not shown itself. It is ended once it is suspect or failed.
//! 3. It has shown itself when a packet came from its address, when it said anything of itself (as it does to refute a
//!    suspicion), when it began a new boot, or when it is still alive [`SHOWN_AFTER`] later: whoever is dead is suspected
//!    long before. Then this saying of the source is void for that member; it counts anew only after the source has
//!    ceased to say it.
//!
//! So a member that took over the address of an ended host is never harmed, whether it came before or after the source
//! told of the end.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use metacluster_membership::{Epoch, Incarnation, Stamp, Standing};
use metacluster_types::{AgentId, Instant};

use super::sources::Gone;

/// Who lives so long after the source said otherwise has shown it. Far above what a suspicion takes.
const SHOWN_AFTER: Duration = Duration::from_secs(30);
/// So many hosts that ended are remembered.
const GONE_MAX: usize = 4_096;

/// What the rule needs to know of a member.
#[derive(Clone, Copy, Debug)]
pub(super) struct Subject<'a> {
    pub(super) id: AgentId,
    pub(super) stamp: Stamp,
    pub(super) standing: Standing,
    pub(super) address: SocketAddr,
    pub(super) instance: Option<&'a str>,
}

#[derive(Debug)]
struct Word {
    said_at: Instant,
    /// The members that had the address when it was said, and what each had last said of itself.
    accused: BTreeMap<(AgentId, Epoch), Incarnation>,
    /// Whether somebody at that address has shown himself since.
    inhabited: bool,
}

/// What providers say has ended, and what became of it.
#[derive(Debug, Default)]
pub(super) struct Truth(BTreeMap<Gone, Word>);

impl Truth {
    /// What the sources say now. Gives the members that have ended.
    pub(super) fn say<'a>(
        &mut self,
        now: Instant,
        gone: BTreeSet<Gone>,
        members: impl Iterator<Item = Subject<'a>> + Clone,
    ) -> Vec<AgentId> {
        self.0.retain(|known, _| gone.contains(known));
        for host in gone {
            if self.0.len() >= GONE_MAX && !self.0.contains_key(&host) {
                continue;
            }
            self.0.entry(host).or_insert_with_key(|host| Word {
                said_at: now,
                accused: members
                    .clone()
                    .filter(|member| by_address(host, member))
                    .map(|member| ((member.id, member.stamp.epoch), member.stamp.incarnation))
                    .collect(),
                inhabited: false,
            });
        }
        self.judge(now, members)
    }

    /// A packet that a member sealed came from there.
    pub(super) fn heard(&mut self, from: IpAddr) {
        for (host, word) in &mut self.0 {
            word.inhabited |= host.addresses.contains(&from);
        }
    }

    /// Whether there is anything to judge.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Gives the members that have ended, as things stand now.
    pub(super) fn judge<'a>(
        &mut self,
        now: Instant,
        members: impl Iterator<Item = Subject<'a>> + Clone,
    ) -> Vec<AgentId> {
        let mut ended = Vec::new();
        for (host, word) in &mut self.0 {
            for member in members.clone().filter(|member| member.standing != Standing::Left) {
                let same = host.instance.is_some() && host.instance.as_deref() == member.instance;
                if same || (by_address(host, &member) && word.condemns(now, &member)) {
                    ended.push(member.id);
                }
            }
        }
        ended.sort_unstable();
        ended.dedup();
        ended
    }
}

impl Word {
    fn condemns(&mut self, now: Instant, member: &Subject<'_>) -> bool {
        // Who was not there when it was said is another.
        let boot = (member.id, member.stamp.epoch);
        let Some(&said) = self.accused.get(&boot) else { return false };
        // Only the member itself raises its incarnation.
        let spoke = member.stamp.incarnation > said;
        let lives_on = member.standing == Standing::Alive && now.since(self.said_at) >= SHOWN_AFTER;
        if self.inhabited || spoke || lives_on {
            self.accused.remove(&boot);
            return false;
        }
        matches!(member.standing, Standing::Suspect | Standing::Failed)
    }
}

fn by_address(host: &Gone, member: &Subject<'_>) -> bool {
    let same_port = host.port.is_none_or(|port| port == member.address.port());
    let ids_decide = host.instance.is_some() && member.instance.is_some();
    !ids_decide && same_port && host.addresses.contains(&member.address.ip())
}

#[cfg(test)]
mod tests {
    use super::*;

    const ADDRESS: &str = "10.0.0.4:45893";

    fn at(seconds: u64) -> Instant {
        Instant::from_origin(Duration::from_secs(seconds))
    }

    fn gone(instance: Option<&str>) -> BTreeSet<Gone> {
        let address: SocketAddr = ADDRESS.parse().expect("an address");
        BTreeSet::from([Gone { instance: instance.map(str::to_owned), addresses: [address.ip()].into(), port: None }])
    }

    fn member(id: u128, standing: Standing, instance: Option<&'static str>) -> Subject<'static> {
        let address = ADDRESS.parse().expect("an address");
        let stamp = Stamp { epoch: Epoch(1), incarnation: Incarnation(0) };
        Subject { id: AgentId(id), stamp, standing, address, instance }
    }

    fn ends(truth: &mut Truth, now: Instant, member: Subject<'static>) -> bool {
        truth.judge(now, [member].into_iter()) == [member.id]
    }

    fn said(truth: &mut Truth, now: Instant, instance: Option<&str>, members: &[Subject<'static>]) -> Vec<AgentId> {
        truth.say(now, gone(instance), members.iter().copied())
    }

    #[test]
    fn the_same_instance_ends_at_once_and_another_never() {
        let mut truth = Truth::default();
        let members = [member(1, Standing::Alive, Some("i-1")), member(2, Standing::Failed, Some("i-2"))];
        assert_eq!(said(&mut truth, at(0), Some("i-1"), &members), [AgentId(1)]);
        truth.heard("10.0.0.4".parse().expect("an address"));
        assert!(ends(&mut truth, at(1), members[0]), "whoever speaks at its address");
        assert!(!ends(&mut truth, at(100), members[1]));
    }

    #[test]
    fn without_ids_a_member_at_the_address_ends_when_it_is_suspect() {
        let mut truth = Truth::default();
        assert!(said(&mut truth, at(0), Some("i-1"), &[member(1, Standing::Alive, None)]).is_empty());
        assert!(!ends(&mut truth, at(1), member(1, Standing::Alive, None)));
        assert!(ends(&mut truth, at(2), member(1, Standing::Suspect, None)));
        let mut truth = Truth::default();
        assert_eq!(said(&mut truth, at(0), None, &[member(1, Standing::Failed, Some("i-1"))]), [AgentId(1)]);
    }

    #[test]
    fn who_came_to_the_address_later_is_not_harmed() {
        let mut truth = Truth::default();
        said(&mut truth, at(0), None, &[]);
        assert!(!ends(&mut truth, at(1), member(2, Standing::Suspect, None)));
        assert!(!ends(&mut truth, at(1), member(2, Standing::Failed, None)));
        said(&mut truth, at(2), None, &[member(2, Standing::Failed, None)]);
        assert!(!ends(&mut truth, at(3), member(2, Standing::Failed, None)), "the same word, said on");
        let stamp = Stamp { epoch: Epoch(2), incarnation: Incarnation(0) };
        let later_boot = Subject { stamp, ..member(1, Standing::Suspect, None) };
        let mut truth = Truth::default();
        said(&mut truth, at(0), None, &[member(1, Standing::Alive, None)]);
        assert!(!ends(&mut truth, at(1), later_boot));
    }

    #[test]
    fn who_came_before_the_source_told_of_the_end_is_not_harmed_once_it_shows_itself() {
        let suspect = member(2, Standing::Suspect, None);
        let alive = member(2, Standing::Alive, None);
        // A packet from there.
        let mut truth = Truth::default();
        said(&mut truth, at(0), None, &[alive]);
        truth.heard("10.0.0.4".parse().expect("an address"));
        assert!(!ends(&mut truth, at(1), suspect));
        // It lives on.
        let mut truth = Truth::default();
        said(&mut truth, at(0), None, &[alive]);
        assert!(!ends(&mut truth, at(30), alive));
        assert!(!ends(&mut truth, at(3_600), suspect));
        // It refuted a suspicion, however short.
        let mut truth = Truth::default();
        said(&mut truth, at(0), None, &[alive]);
        let stamp = Stamp { epoch: Epoch(1), incarnation: Incarnation(1) };
        assert!(!ends(&mut truth, at(1), Subject { stamp, ..suspect }));
    }

    #[test]
    fn a_word_that_was_taken_back_and_said_again_counts_anew() {
        let mut truth = Truth::default();
        said(&mut truth, at(0), None, &[member(1, Standing::Alive, None)]);
        truth.heard("10.0.0.4".parse().expect("an address"));
        truth.say(at(1), BTreeSet::new(), [].into_iter());
        assert!(truth.is_empty());
        said(&mut truth, at(2), None, &[member(1, Standing::Alive, None)]);
        assert!(ends(&mut truth, at(3), member(1, Standing::Suspect, None)));
    }

    #[test]
    fn another_port_is_another_agent() {
        let mut truth = Truth::default();
        let host = gone(None).into_iter().map(|host| Gone { port: Some(9), ..host }).collect();
        assert!(truth.say(at(0), host, [member(1, Standing::Failed, None)].into_iter()).is_empty());
    }
}
