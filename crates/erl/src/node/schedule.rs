//! In which order the messages of a connection are written: each sender's in its own, and large ones of several senders in
//! turns.
//!
//! A message of one frame is written as it comes, unless one of the same sender is not done yet. One of several fragments
//! takes turns with those of others, a fragment each, so that none holds up another for longer than the rest takes for
//! one. Invariants: a sender has at most one message under way; at most [`OPEN_MAX`] are under way at all, since the peer
//! must hold them all; what is held here still counts in the [`Outbox`](super::outbox::Outbox), which bounds it.
//!
//! OTP does the same: a process that sends a large message writes it fragment by fragment, and others come between.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use metacluster_erl_wire::{
    Pid,
    control::{Control, Process},
    frame::{Encoder, FRAGMENT_BYTES, Frames},
    sink::{Chain, Sink as _},
};

use super::outbox::{Entry, Outgoing, Queued, Run, cost};

/// How many messages are under way in fragments at most; further ones wait. Peers bound them, too: this crate at 4,096.
const OPEN_MAX: usize = 64;

/// Whose order a message keeps: that of one process of this node, or of the node itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Lane(u64);

impl Lane {
    /// What no process sends.
    pub(crate) const NODE: Self = Self(0);

    /// That of a process elsewhere that a pid of this node stands for.
    pub(crate) fn of_number(number: u64) -> Self {
        Self(number)
    }

    /// That of a process.
    pub(crate) fn of(process: &Pid) -> Self {
        // All of them are of this node and this life.
        Self(u64::from(process.id) << 32 | u64::from(process.serial))
    }

    /// That of who sends this.
    pub(crate) fn of_control(control: &Control) -> Self {
        match control {
            Control::Link { from, .. }
            | Control::Exit { from, .. }
            | Control::Unlink { from, .. }
            | Control::RegSend { from, .. }
            | Control::GroupLeader { from, .. }
            | Control::Exit2 { from, .. }
            | Control::MonitorP { from, .. }
            | Control::DemonitorP { from, .. }
            | Control::SendSender { from, .. }
            | Control::PayloadExit { from, .. }
            | Control::PayloadExit2 { from, .. }
            | Control::AliasSend { from, .. }
            | Control::UnlinkId { from, .. }
            | Control::UnlinkIdAck { from, .. }
            | Control::MonitorPExit { from: Process::Pid(from), .. }
            | Control::PayloadMonitorPExit { from: Process::Pid(from), .. }
            | Control::AltactSigSend { from: Process::Pid(from), .. } => Self::of(from),
            Control::SpawnRequest(request) => Self::of(&request.from),
            // Who sends a `Send` knows whose it is.
            Control::Send { .. }
            | Control::SpawnReply { .. }
            | Control::MonitorPExit { from: Process::Name(_), .. }
            | Control::PayloadMonitorPExit { from: Process::Name(_), .. }
            | Control::AltactSigSend { from: Process::Name(_), .. } => Self::NODE,
        }
    }
}

/// See the module.
pub(crate) struct Schedule {
    encoder: Encoder,
    /// The senders that have something to write.
    lanes: BTreeMap<Lane, Waiting>,
    /// Whose turn it is; each of the senders once.
    turns: VecDeque<Lane>,
    /// How many messages are under way.
    open: usize,
}

/// What one sender has to write.
#[derive(Default)]
struct Waiting {
    /// The message that is under way.
    open: Option<Started>,
    /// Those behind it.
    held: VecDeque<Started>,
}

struct Started {
    frames: Left,
    cost: usize,
}

/// The frames of a message that are not written.
enum Left {
    /// As they are to be cut.
    Cut(Frames),
    /// Its only one, as it is.
    Only(Bytes),
}

impl Left {
    fn count(&self) -> u64 {
        match self {
            Self::Cut(frames) => frames.left(),
            Self::Only(_) => 1,
        }
    }

    /// Writes the next one, and gives those behind it.
    fn write_next(self, out: &mut Chain) -> Option<Self> {
        match self {
            Self::Cut(mut frames) => {
                frames.write_next(out);
                (frames.left() > 0).then_some(Self::Cut(frames))
            }
            Self::Only(frame) => {
                out.put_shared(&frame);
                None
            }
        }
    }
}

impl Schedule {
    pub(crate) fn new(encoder: Encoder) -> Self {
        Self { encoder, lanes: BTreeMap::new(), turns: VecDeque::new(), open: 0 }
    }

    /// Whether all that was put in is written.
    pub(crate) fn is_idle(&self) -> bool {
        self.turns.is_empty()
    }

    /// Puts in what was queued, which may write it. Gives the cost of what is written to its end.
    pub(crate) fn insert(&mut self, queued: Queued, out: &mut Chain) -> usize {
        match queued {
            Queued::Run(run) => self.insert_run(run, out),
            Queued::Entry(entry) => self.insert_entry(entry, out),
        }
    }

    fn insert_run(&mut self, run: Run, out: &mut Chain) -> usize {
        let Run { mut frames, messages } = run;
        if self.lanes.is_empty() {
            let cost = frames.len();
            out.append(frames);
            return cost;
        }
        let mut written = 0;
        for (lane, cost) in messages {
            let frame = frames.split_to(cost);
            if let Some(waiting) = self.lanes.get_mut(&lane) {
                waiting.held.push_back(Started { frames: Left::Only(frame.freeze()), cost });
            } else {
                out.put_slice(&frame);
                written += cost;
            }
        }
        written
    }

    fn insert_entry(&mut self, entry: Entry, out: &mut Chain) -> usize {
        let Entry { lane, message } = entry;
        let cost = cost(&message);
        if let Some(waiting) = self.lanes.get_mut(&lane) {
            let frames = match message {
                Outgoing::Message(message) => self.encoder.start(message.control, message.payload),
                Outgoing::Encoded(control, payload) => self.encoder.start_encoded(&control, payload),
            };
            waiting.held.push_back(Started { frames: Left::Cut(frames), cost });
            return 0;
        }
        let frames = match message {
            Outgoing::Message(message) => self.encoder.write_or_start(message.control, message.payload, out),
            Outgoing::Encoded(control, payload) => self.encoder.write_or_start_encoded(&control, payload, out),
        };
        let Some(frames) = frames else { return cost };
        let started = Started { frames: Left::Cut(frames), cost };
        self.lanes.insert(lane, Waiting { open: None, held: VecDeque::from([started]) });
        self.turns.push_back(lane);
        0
    }

    /// Gives a turn to who is next: a fragment, or as many bytes of small messages. Gives the cost of what is written to its
    /// end.
    pub(crate) fn advance(&mut self, out: &mut Chain) -> usize {
        let Some(lane) = self.turns.pop_front() else { return 0 };
        let Some(waiting) = self.lanes.get_mut(&lane) else { return 0 };
        let (start, mut written) = (out.len(), 0);
        while out.len() - start < FRAGMENT_BYTES {
            let next = match waiting.open.take() {
                Some(started) => {
                    self.open -= 1;
                    started
                }
                None => match waiting.held.pop_front() {
                    Some(next) if next.frames.count() > 1 && self.open >= OPEN_MAX => {
                        waiting.held.push_front(next);
                        break;
                    }
                    Some(next) => next,
                    None => break,
                },
            };
            match next.frames.write_next(out) {
                Some(frames) => {
                    self.open += 1;
                    waiting.open = Some(Started { frames, cost: next.cost });
                }
                None => written += next.cost,
            }
        }
        if waiting.open.is_none() && waiting.held.is_empty() {
            self.lanes.remove(&lane);
        } else {
            self.turns.push_back(lane);
        }
        written
    }
}

#[cfg(test)]
mod tests {
    use bytes::Buf as _;
    use metacluster_erl_wire::{
        Atom, Term,
        control::Sending,
        frame::{Bounds, Decoder, Frame, Message, Mode, Payload},
    };

    use super::*;

    fn pid(id: u32) -> Pid {
        Pid { node: Atom::from_static("a@b"), id, serial: 0, creation: 4 }
    }

    /// A message of this sender, whose receiver is its number.
    fn message(sender: u32, number: u32, bytes: usize) -> Queued {
        let control = Control::SendSender { from: pid(sender), to: pid(number), trace: None };
        // A binary of that many bytes.
        let mut payload = vec![109];
        payload.extend(u32::try_from(bytes).expect("small").to_be_bytes());
        payload.resize(5 + bytes, number as u8);
        let payload = Some(Payload::from_bytes(payload.into()));
        let lane = Lane::of_control(&control);
        Queued::Entry(Entry { lane, message: Outgoing::Message(Message { control, payload }) })
    }

    /// Short ones of these senders, with their numbers.
    fn run(messages: &[(u32, u32)]) -> Queued {
        let mut run = Run::default();
        for (sender, number) in messages {
            let (from, to, start) = (pid(*sender), pid(*number), run.frames.len());
            let sending = Sending::Pid { from: &from, to: &to };
            Mode::Fragments.put_short(&sending, &Term::Integer(1), &mut run.frames);
            run.messages.push((Lane::of(&from), run.frames.len() - start));
        }
        Queued::Run(run)
    }

    /// What a message costs.
    fn cost_of(queued: &Queued) -> usize {
        match queued {
            Queued::Run(run) => run.frames.len(),
            Queued::Entry(entry) => cost(&entry.message),
        }
    }

    fn schedule() -> Schedule {
        Schedule::new(Encoder::new(Mode::Fragments))
    }

    /// What a peer reads, as senders and numbers.
    fn read(decoder: &mut Decoder, out: &mut Chain) -> Vec<(u32, u32)> {
        decoder.feed(&out.copy_to_bytes(out.len()));
        let mut read = Vec::new();
        while let Some(frame) = decoder.next_frame().expect("good frames") {
            if let Frame::Message(Message { control: Control::SendSender { from, to, .. }, .. }) = frame {
                read.push((from.id, to.id));
            }
        }
        read
    }

    #[test]
    fn a_large_message_lets_small_ones_of_others_by_and_holds_its_own_back() {
        let (mut schedule, mut out, mut decoder) = (schedule(), Chain::default(), Decoder::new(Bounds::default()));
        let large = message(1, 10, 300_000);
        let large_cost = cost_of(&large);
        assert_eq!(schedule.insert(large, &mut out), 0);
        assert_eq!(schedule.advance(&mut out), 0, "a fragment is not all of it");
        assert_eq!(schedule.insert(message(1, 11, 10), &mut out), 0);
        assert!(schedule.insert(message(2, 20, 10), &mut out) > 0);
        assert_eq!(read(&mut decoder, &mut out), [(2, 20)]);
        let mut written = 0;
        while !schedule.is_idle() {
            written += schedule.advance(&mut out);
        }
        assert_eq!(read(&mut decoder, &mut out), [(1, 10), (1, 11)]);
        assert_eq!(written, large_cost + cost_of(&message(1, 11, 10)));
    }

    #[test]
    fn of_short_messages_those_of_a_sender_with_a_large_one_under_way_are_held_back() {
        let (mut schedule, mut out, mut decoder) = (schedule(), Chain::default(), Decoder::new(Bounds::default()));
        let first = run(&[(1, 1), (2, 2)]);
        let first_cost = cost_of(&first);
        assert_eq!(schedule.insert(first, &mut out), first_cost, "nothing is in their way");
        schedule.insert(message(1, 10, 300_000), &mut out);
        let behind = run(&[(2, 20), (1, 11), (3, 30), (1, 12), (2, 21)]);
        let behind_cost = cost_of(&behind);
        let mut written = schedule.insert(behind, &mut out);
        assert!(written > 0 && written < behind_cost);
        assert_eq!(read(&mut decoder, &mut out), [(1, 1), (2, 2), (2, 20), (3, 30), (2, 21)]);
        while !schedule.is_idle() {
            written += schedule.advance(&mut out);
        }
        assert_eq!(read(&mut decoder, &mut out), [(1, 10), (1, 11), (1, 12)]);
        assert_eq!(written, cost_of(&message(1, 10, 300_000)) + behind_cost);
    }

    #[test]
    fn large_messages_of_several_senders_take_turns() {
        let (mut schedule, mut out, mut decoder) = (schedule(), Chain::default(), Decoder::new(Bounds::default()));
        schedule.insert(message(1, 10, 1_000_000), &mut out);
        schedule.insert(message(2, 20, 100_000), &mut out);
        schedule.insert(message(2, 21, 100_000), &mut out);
        schedule.insert(message(1, 11, 10), &mut out);
        let mut turns = 0;
        while read(&mut decoder, &mut out).last() != Some(&(2, 21)) {
            schedule.advance(&mut out);
            turns += 1;
        }
        assert!(turns <= 10, "{turns} turns for a message that is done in eight");
        while !schedule.is_idle() {
            schedule.advance(&mut out);
        }
        assert_eq!(read(&mut decoder, &mut out), [(1, 10), (1, 11)]);
    }

    #[test]
    fn few_messages_are_under_way_at_once_and_all_arrive_in_the_order_of_their_sender() {
        let senders = u32::try_from(OPEN_MAX).expect("small") * 2;
        let bounds = Bounds { sequences_max: OPEN_MAX, ..Bounds::default() };
        let (mut schedule, mut out, mut decoder) = (schedule(), Chain::default(), Decoder::new(bounds));
        for number in 0..3 {
            for sender in 1..=senders {
                let bytes = if number == 1 { 10 } else { 150_000 };
                schedule.insert(message(sender, number, bytes), &mut out);
            }
        }
        let mut all = Vec::new();
        while !schedule.is_idle() {
            schedule.advance(&mut out);
            all.extend(read(&mut decoder, &mut out));
        }
        assert_eq!(all.len(), senders as usize * 3);
        for sender in 1..=senders {
            let own: Vec<u32> = all.iter().filter(|(from, _)| *from == sender).map(|(_, number)| *number).collect();
            assert_eq!(own, [0, 1, 2]);
        }
        assert_eq!(schedule.open, 0);
    }
}
