//! What the driver makes of old packets, of lies about others, of a second process with the same id or name, and of a
//! clock that jumps.

use metacluster_membership::{
    Description, Epoch, Identity, Input, Keyring, LeaveProof, Membership, Output, Policy, Sealer, Settings, craft,
};

use super::{
    super::{
        cipher::{ChaCha, default_key},
        clock::{self, BootClock},
        stream::{self, Bounds},
    },
    *,
};

/// A member that the test itself drives, so that it has every byte that was sent.
struct Hand {
    machine: Membership,
    sealer: Sealer<ChaCha>,
    socket: UdpSocket,
    clock: BootClock,
    /// Each sealed packet, and where it went.
    sent: Vec<(SocketAddr, Vec<u8>)>,
}

impl Hand {
    async fn new(id: u128) -> Self {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port");
        let cluster = ClusterName::new("main").expect("a name");
        let clock = BootClock::start();
        let identity =
            Identity { id: AgentId(id), epoch: Epoch(1), cluster: cluster.clone(), proof: LeaveProof([9; 16]) };
        let description = Description {
            name: "hand".to_owned(),
            address: socket.local_addr().expect("bound"),
            place: Place::default(),
            roles: BTreeSet::new(),
            tags: Tags::new(),
            state: Vec::new(),
        };
        let machine =
            Membership::new(clock.now(), identity, description, Settings::local(), 7).expect("it fits a packet");
        let ring = Keyring::new(default_key(&Cookie::new("secret"), &cluster));
        let sealer = Sealer::new(cluster, ChaCha::default(), ring, Policy::Seal);
        Self { machine, sealer, socket, clock, sent: Vec::new() }
    }

    fn input(&mut self, input: Input) {
        self.machine.handle_input(self.clock.now(), input);
    }

    /// Does what the machine wants until it says `enough`, or it has nothing to do for a while.
    async fn run(&mut self, mut enough: impl FnMut(&Membership) -> bool) {
        let until = self.clock.now() + SOON;
        loop {
            while let Some(output) = self.machine.poll_output(self.clock.now()) {
                match output {
                    Output::Transmit { to, bytes } => {
                        let sealed = self.sealer.seal(&bytes).expect("a packet of its own");
                        self.socket.send_to(&sealed, to).await.expect("sent");
                        self.sent.push((to, sealed));
                    }
                    Output::Request { exchange, to, bytes } => {
                        let sealed = self.sealer.seal(&bytes).expect("a message of its own");
                        let bounds = Bounds::new(1 << 20, SOON);
                        let input = match stream::ask(to, sealed, bounds).await {
                            Ok(reply) => {
                                let bytes = self.sealer.open(&reply).expect("a member's answer");
                                Input::StreamReply { exchange, bytes }
                            }
                            Err(_) => Input::StreamFailed { exchange },
                        };
                        self.input(input);
                    }
                    Output::Reply { .. }
                    | Output::Close { .. }
                    | Output::View(_)
                    | Output::Notice(_)
                    | Output::UserEvent(_)
                    | Output::Query(_)
                    | Output::Replied { .. } => {}
                }
            }
            if enough(&self.machine) {
                return;
            }
            assert!(self.clock.now() < until, "it did not come about");
            let mut bytes = vec![0; 65_536];
            let wait = self.clock.until(self.machine.next_deadline()).min(Duration::from_millis(50));
            if let Ok(Ok((length, from))) = timeout(wait, self.socket.recv_from(&mut bytes)).await
                && let Ok(bytes) = self.sealer.open(&bytes[..length])
            {
                self.input(Input::Packet { from, bytes });
            }
        }
    }
}

/// How often `log` has a user event of that name.
fn heard(log: &EventLog, name: &str) -> usize {
    let mut reader = log.reader(Some(0));
    let mut heard = 0;
    while let Some(next) = reader.try_next() {
        if let crate::events::Next::Event(event) = next {
            heard += usize::from(event.subject.said.as_ref().is_some_and(|said| said.name == name));
        }
    }
    heard
}

#[tokio::test]
async fn old_packets_that_are_sent_again_have_no_effect() {
    let (mut one, log) = Plan::new(1).start_with_log();
    let mut hand = Hand::new(9).await;
    hand.input(Input::Seeds(vec![one.at()]));
    hand.run(|machine| machine.live() == 2).await;
    one.told(AgentId(9), MemberChange::Joined).await;
    let now = hand.clock.now();
    hand.machine.send_event(now, "once", b"").expect("sent");
    // Packets enough for every kind: probes, answers, gossip, the event.
    let until = now + Duration::from_secs(2);
    let clock = hand.clock;
    hand.run(|_| clock.now() > until).await;
    one.shows("the event came", |_| heard(&log, "once") == 1).await;
    hand.machine.leave(clock.now());
    let told = clock.now() + Duration::from_secs(1);
    hand.run(|_| clock.now() > told).await;
    one.told(AgentId(9), MemberChange::Left(DownReason::Left)).await;

    // Everything once more, from another port, oldest first.
    let replayed = one.members.view.borrow().counters.replayed;
    let again = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port");
    let sent: Vec<Vec<u8>> = hand.sent.iter().map(|(_, bytes)| bytes.clone()).collect();
    assert!(sent.len() > 10, "{}", sent.len());
    for bytes in &sent {
        again.send_to(bytes, one.at()).await.expect("sent");
    }
    let all = replayed + sent.len() as u64;
    one.shows("each is counted", |view| view.counters.replayed >= all).await;
    assert_eq!(Site::state(&one.members.view.borrow(), AgentId(9)), Some(MemberState::Left));
    assert_eq!(heard(&log, "once"), 1);
    assert!(one.members.events.try_recv().is_err(), "nothing is told");

    // The process that comes after knows no counters, but that this boot has ended.
    one.leave().await;
    let folder = one.crash();
    let (mut one, log) = Plan { folder, ..Plan::new(1) }.start_with_log();
    for bytes in &sent {
        again.send_to(bytes, one.at()).await.expect("sent");
    }
    // What comes behind them was taken after them.
    again.send_to(b"\xffgarbage", one.at()).await.expect("sent");
    one.shows("all were taken in", |view| view.counters.malformed + view.counters.incompatible > 0).await;
    assert_eq!(heard(&log, "once"), 0, "what the process before had delivered is not delivered again");
    let alive = one.members.view.borrow().members.iter().filter(|it| it.state == MemberState::Alive).count();
    assert_eq!(alive, 1, "{:?}", one.members.view.borrow().members);
}

#[tokio::test]
async fn a_member_that_lies_about_others_harms_nobody_and_is_counted() {
    let (mut one, mut two, mut three) = (Plan::new(1).start(), Plan::new(2).start(), Plan::new(3).start());
    two.seed(&[&one]);
    three.seed(&[&one]);
    for site in [&mut one, &mut two, &mut three] {
        site.shows("all are there", |view| view.members.len() == 3).await;
    }
    let (epoch, at) = {
        let view = one.members.view.borrow();
        let of = view.members.iter().find(|member| member.id == AgentId(2)).expect("it is known");
        (of.epoch, of.address)
    };
    let mut liar = Hand::new(9).await;
    let lies = [
        craft::Lie::Left,
        craft::Lie::Failed,
        craft::Lie::Suspect,
        craft::Lie::Alive("127.0.0.1:9".parse().expect("an address")),
        craft::Lie::Alive(at),
    ];
    for (sender, (lie, leap)) in (100..).zip(lies.into_iter().flat_map(|lie| [(lie, 0), (lie, 1), (lie, u32::MAX / 5)]))
    {
        let stamp = craft::stamp(epoch, leap);
        let bytes = craft::gossip("main", (AgentId(sender), Epoch(1)), AgentId(2), stamp, lie);
        let sealed = liar.sealer.seal(&bytes).expect("it has the key");
        for to in [&one, &three] {
            liar.socket.send_to(&sealed, to.at()).await.expect("sent");
        }
    }
    for site in [&mut one, &mut three] {
        site.shows("the lies are counted", |view| view.counters.lies >= 2).await;
        site.shows("it lives, and where it is", |view| {
            let is = |member: &&MemberView| member.id == AgentId(2);
            let member = view.members.iter().find(is).expect("it is known");
            (member.state, member.address) == (MemberState::Alive, at)
        })
        .await;
        while let Ok(event) = site.members.events.try_recv() {
            let ill = matches!(event.change, MemberChange::Failed | MemberChange::Left(_) | MemberChange::Ended(_));
            assert!(!ill, "{event:?}");
        }
    }
}

#[tokio::test]
async fn two_agents_of_one_name_are_two_members_and_that_is_counted() {
    let named = |id| Plan { host: "same", ..Plan::new(id) };
    let (mut one, mut two) = (named(1).start(), named(2).start());
    two.seed(&[&one]);
    for site in [&mut one, &mut two] {
        site.shows("both are there", |view| view.members.len() == 2).await;
        site.shows("it is counted", |view| view.counters.names_shared > 0).await;
        let view = Arc::clone(&site.members.view.borrow());
        assert_eq!(view.members[0].name, view.members[1].name);
        assert!(view.members.iter().all(|member| member.state == MemberState::Alive), "{:?}", view.members);
    }
}

#[tokio::test]
async fn of_two_agents_with_one_id_and_one_name_one_takes_another_id() {
    let mut hub = Plan::new(2).start();
    let (mut one, mut twin) = (Plan::new(1).start(), Plan::new(1).start());
    one.seed(&[&hub]);
    twin.seed(&[&hub]);
    // Started in one second they have one boot, too: that it is not theirs alone shows when it was contradicted often.
    hub.shows_within(SOON * 6, "both are there, each under an id of its own", |view| {
        let alive = |member: &&MemberView| member.state == MemberState::Alive;
        view.members.iter().filter(alive).count() == 3
    })
    .await;
    for site in [&mut one, &mut twin] {
        site.shows("they know one another", |view| {
            view.members.iter().filter(|member| member.state == MemberState::Alive).count() == 3
        })
        .await;
    }
    let ids: BTreeSet<AgentId> = [&mut one, &mut twin].map(|site| site.members.view.borrow().id).into();
    assert_eq!(ids.len(), 2, "{ids:?}");
}

#[tokio::test]
async fn a_clock_that_jumps_an_hour_fails_nobody() {
    let (mut one, mut two, mut three) = (Plan::new(1).start(), Plan::new(2).start(), Plan::new(3).start());
    two.seed(&[&one]);
    three.seed(&[&one]);
    for site in [&mut one, &mut two, &mut three] {
        site.shows("all are there", |view| view.members.len() == 3).await;
    }
    let sent = one.members.view.borrow().counters.packets_sent;
    clock::jump(Duration::from_secs(3_600));
    one.shows("it goes on", |view| view.counters.packets_sent > sent + 50).await;
    for site in [&mut one, &mut two, &mut three] {
        while let Ok(event) = site.members.events.try_recv() {
            let ill = matches!(event.change, MemberChange::Failed | MemberChange::Left(_) | MemberChange::Ended(_));
            assert!(!ill, "{event:?}");
        }
        let view = Arc::clone(&site.members.view.borrow());
        assert!(view.members.iter().all(|member| member.state == MemberState::Alive), "{:?}", view.members);
    }
}
