//! What the driver is told: changes in batches, so that the loss of a zone is one burst.

use metacluster_types::{AgentId, Instant};

use crate::{
    Change, ChangeKind, Membership, Output,
    record::{DownReason, Ending, Epoch},
    state::{Life, Member, Told},
    timers::Timer,
};

impl Membership {
    /// Something is to be told of a member. A failure holds the batch open for those that are about to follow it; one
    /// that comes alone is not held up.
    pub(crate) fn changed(&mut self, now: Instant, id: AgentId, failure: bool) {
        self.changed.insert(id);
        let window = self.settings.batch_window;
        let (first, due) = self.flush.unwrap_or((now, now + window));
        let mut at = due;
        if failure {
            let most = first + self.settings.batch_window_max;
            at = at.max(self.last_suspicion_until(most).map_or(due, |deadline| deadline + window)).min(most.max(due));
        }
        if let Some((_, set)) = self.flush {
            self.timers.take_back(set, Timer::Flush);
        }
        self.set_flush(first, at);
    }

    /// When the last of the suspicions that end by then ends.
    fn last_suspicion_until(&self, most: Instant) -> Option<Instant> {
        if self.members.suspects == 0 {
            return None;
        }
        let deadlines = self.members.iter().filter_map(|(_, member)| match &member.life {
            Life::Suspect(suspicion) => Some(suspicion.deadline),
            Life::Alive | Life::Failed | Life::Left(_) => None,
        });
        deadlines.filter(|&deadline| deadline <= most).max()
    }

    fn set_flush(&mut self, first: Instant, at: Instant) {
        self.flush = Some((first, at));
        self.timers.set(at, Timer::Flush);
    }

    /// A record is gone.
    pub(crate) fn gone(&mut self, now: Instant, id: AgentId, epoch: Epoch) {
        self.gone.push(Change { id, epoch, kind: ChangeKind::Reaped });
        if self.flush.is_none() {
            self.set_flush(now, now + self.settings.batch_window);
        }
    }

    /// Tells all that changed since the last time: the way from what was told to what is so.
    pub(crate) fn on_flush(&mut self) {
        if let Some((_, at)) = self.flush.take() {
            self.timers.take_back(at, Timer::Flush);
        }
        let mut changes = Vec::new();
        for id in std::mem::take(&mut self.changed) {
            self.members.note(id, |member| {
                let told = member.told;
                member.told = way(id, told, member, &mut changes);
            });
        }
        changes.append(&mut self.gone);
        if !changes.is_empty() {
            self.push(Output::View(changes));
        }
    }
}

/// The changes that lead from what was told to what is so, and what is told then.
fn way(id: AgentId, told: Told, member: &Member, changes: &mut Vec<Change>) -> Told {
    let (epoch, version) = (member.stamp.epoch, member.version);
    let mut say = |epoch, kind| changes.push(Change { id, epoch, kind });
    let down = |ending: Option<Ending>| match ending {
        None => DownReason::Failed,
        Some(Ending::Leave(_)) => DownReason::Left,
        Some(Ending::Provider(_)) => DownReason::Provider,
    };
    let ending = match &member.life {
        Life::Alive | Life::Suspect(_) => {
            let suspect = matches!(member.life, Life::Suspect(_));
            match told {
                Told::Nothing | Told::Down | Told::Ended => say(epoch, ChangeKind::Joined),
                Told::Up(before, _) | Told::Suspect(before, _) if before != epoch => {
                    say(before, ChangeKind::Down(DownReason::Restarted));
                    say(epoch, ChangeKind::Joined);
                }
                Told::Up(_, before) | Told::Suspect(_, before) => {
                    if matches!(told, Told::Suspect(..)) && !suspect {
                        say(epoch, ChangeKind::Recovered);
                    }
                    if before != version {
                        say(epoch, ChangeKind::Updated);
                    }
                }
            }
            let same = matches!(told, Told::Suspect(before, _) if before == epoch);
            if suspect && !same {
                say(epoch, ChangeKind::Suspect);
            }
            return if suspect { Told::Suspect(epoch, version) } else { Told::Up(epoch, version) };
        }
        Life::Failed => None,
        Life::Left(ending) => Some(*ending),
    };
    match told {
        Told::Up(before, _) | Told::Suspect(before, _) => say(before, ChangeKind::Down(down(ending))),
        Told::Down if ending.is_some() => say(epoch, ChangeKind::Ended(down(ending))),
        Told::Nothing | Told::Down | Told::Ended => {}
    }
    match (ending, told) {
        (Some(_), _) => Told::Ended,
        (None, Told::Nothing) => Told::Nothing,
        (None, _) => Told::Down,
    }
}
