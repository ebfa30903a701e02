//! Links that open, say who they are, live, and end.
//!
//! Who dials says hello at once, and who takes the link once it has judged it. Of two links to the same gateway one stays:
//! who holds one that lives refuses to take another, unless it holds it longer than the other end does, which dials again
//! from the same side. Where both ends took one at the same time, that stays which the gateway with the smaller id dialled.
//! The other one ends as if it were lost, before anything of the one that stays is read, so that nothing overtakes.

use std::time::Duration;

use bytes::{BufMut, BytesMut};
use metacluster_types::{AgentId, ClusterName, Instant};

use crate::{
    CloseReason, Federation, LinkId, Notice, Output, cells,
    codec::{
        CodecError, Reader,
        frame::{Body, HEAD_BYTES, Inbound, Kind, head},
        hello::{Hello, LET_GO, VERSION, ZSTD},
        put_bytes16, put_text8,
    },
    directory::Directory,
    lanes::{Lane, Lanes},
    link::{Link, State, nonce},
    peer::{Peer, PeerId, Traffic, Window},
    refusal::{Refusal, Refusals},
    squeeze::Squeezed,
};

/// A link that is never quiet is pinged so often, to know how long a ping takes.
const PROBE_INTERVAL: Duration = Duration::from_secs(5);

/// Whether the authority of a cluster may vouch for that one: itself, or a cell of it.
fn vouches(certified: &ClusterName, said: &ClusterName) -> bool {
    certified == said || cells::parent(said) == Some(certified.as_str())
}

impl Federation {
    /// A connection to another gateway is there. `certified` is the cluster that its certificate is for; with `None`,
    /// which is for tests and simulations, it is believed.
    pub fn link_opened(&mut self, now: Instant, link: LinkId, certified: Option<ClusterName>, dialled: bool) {
        let limits = &self.settings.limits;
        let (inbound, lanes) = (Inbound::new(limits.message_bytes_max), Lanes::new(limits.lane_bytes_max));
        self.links.insert(link, Link::new(certified, dialled, now, inbound, lanes));
        if dialled {
            self.say_hello(link);
        }
    }

    fn say_hello(&mut self, link: LinkId) {
        let hello = Hello {
            lowest: VERSION,
            highest: VERSION,
            features: if self.settings.compress { LET_GO | ZSTD } else { LET_GO },
            cluster: self.settings.cluster.clone(),
            gateway: self.settings.gateway,
            epoch: self.settings.epoch,
            node: self.settings.node.clone(),
            place: self.settings.place.clone(),
        };
        if let Some(state) = self.links.get_mut(&link) {
            state.control(Kind::Hello, |out| hello.put(out));
        }
        self.wake(link);
    }

    /// A connection has ended. Nothing happens when that is known.
    pub fn link_closed(&mut self, now: Instant, link: LinkId) {
        self.end(now, link, CloseReason::Lost);
    }

    /// Bytes of another gateway, in any pieces. Nothing happens when the link has ended.
    pub fn handle_link(&mut self, now: Instant, link: LinkId, mut bytes: &[u8]) {
        let Some(state) = self.links.get_mut(&link) else { return };
        state.heard = now;
        if let Some(peer) = state.peer() {
            self.peer_mut(peer).traffic.bytes_in += bytes.len() as u64;
        }
        loop {
            // It may have ended because of the frame before.
            let Some(state) = self.links.get_mut(&link) else { return };
            let (kind, body) = match state.inbound.next(&mut bytes) {
                Ok(Some(frame)) => frame,
                Ok(None) => return,
                Err(error) => return self.close(now, link, CloseReason::Malformed(error)),
            };
            let handled = match (state.state, kind) {
                (State::AwaitingHello, Kind::Hello) => match Hello::read(&body) {
                    Ok(hello) => {
                        self.introduced(now, link, &hello);
                        Ok(())
                    }
                    Err(error) => Err(error),
                },
                (_, Kind::Bye) => return self.bye(now, link, &body),
                (State::AwaitingHello, _) => Err(CodecError::NotAGateway),
                (State::Up(peer), Kind::Squeezed) => self.squeezed(now, link, peer, &body),
                (State::Up(peer), kind) => self.frame(now, link, peer, kind, &body),
            };
            if let Err(error) = handled {
                return self.close(now, link, CloseReason::Malformed(error));
            }
        }
    }

    fn bye(&mut self, now: Instant, link: LinkId, body: &[u8]) {
        let mut reader = Reader::new(body);
        let why = reader.text16().unwrap_or_default().chars().take(200).collect();
        if let Some(state) = self.links.get_mut(&link)
            && state.said.is_none()
            && let (Ok(cluster), Ok(gateway)) = (reader.text8(), reader.u128())
            && let Ok(cluster) = ClusterName::new(cluster)
            && state.certified.as_ref().is_none_or(|certified| vouches(certified, &cluster))
        {
            // It took no link and said no hello, since it has another one.
            state.said = Some((cluster, AgentId(gateway)));
        }
        self.close(now, link, CloseReason::Bye(why));
    }

    /// Frames that came compressed.
    fn squeezed(&mut self, now: Instant, link: LinkId, peer: PeerId, body: &[u8]) -> Result<(), CodecError> {
        if !self.squeezes(link) {
            return Err(CodecError::Invalid("compression that was not agreed"));
        }
        let plain = match self.inflater.inflate(body) {
            Ok(plain) => plain,
            Err(error) => {
                self.refuse(now, peer, Refusal::Inflation);
                return Err(error);
            }
        };
        let (plain_bytes, squeezed_bytes) = (plain.len() as u64, (HEAD_BYTES + body.len()) as u64);
        self.peer_mut(peer).traffic.squeezed_in.add(Squeezed { plain_bytes, squeezed_bytes });
        let mut rest = &plain[..];
        // Each of them may end the link.
        while let Some(state) = self.links.get_mut(&link) {
            match state.inbound.next(&mut rest)? {
                Some((Kind::Squeezed, _)) => return Err(CodecError::Invalid("compression within compression")),
                Some((Kind::Bye, body)) => self.bye(now, link, &body),
                Some((kind, body)) => self.frame(now, link, peer, kind, &body)?,
                None if state.inbound.is_between_frames() => return Ok(()),
                None => return Err(CodecError::Truncated),
            }
        }
        Ok(())
    }

    fn frame(
        &mut self,
        now: Instant,
        link: LinkId,
        peer: PeerId,
        kind: Kind,
        body: &Body<'_>,
    ) -> Result<(), CodecError> {
        match kind {
            Kind::Signal => self.remote_signal(now, link, peer, body),
            Kind::Ping => {
                let nonce = Reader::new(body).u64()?;
                if let Some(state) = self.links.get_mut(&link) {
                    state.control(Kind::Pong, |out| out.put_u64(nonce));
                }
                self.wake(link);
            }
            Kind::Pong => self.pong_came(now, link, peer, Reader::new(body).u64()?),
            Kind::Digest if self.links.get(&link).is_some_and(|link| link.lanes.may_answer()) => {
                self.digest_came(now, link, peer, body)?;
            }
            Kind::Digest => self.close(now, link, CloseReason::Overloaded),
            Kind::Role => self.role_came(now, peer, body)?,
            Kind::Resting => self.rests(now, peer)?,
            Kind::LetGo => self.is_let_go(link, peer, body)?,
            Kind::Differing => {
                if self.awaits_groups(peer)? {
                    self.start_renewal(now, peer, Reader::new(body).u64()?);
                }
            }
            Kind::Group => {
                if self.awaits_groups(peer)? {
                    self.group_came(now, peer, body)?;
                }
            }
            Kind::InStep => {
                let awaited = self.awaits_groups(peer)?;
                self.peer_mut(peer).unanswered -= 1;
                if awaited {
                    self.in_step(now, peer);
                }
            }
            Kind::Join if self.takes_changes(peer) => self.joined(now, peer, body)?,
            Kind::Leave if self.takes_changes(peer) => self.left(now, peer, body)?,
            // Said before it knew that it is not asked any more.
            Kind::Join | Kind::Leave => {}
            Kind::Hello | Kind::Bye | Kind::Part | Kind::LastPart | Kind::Squeezed => {
                return Err(CodecError::Invalid("hello"));
            }
        }
        if self.links.get(&link).is_some_and(|link| link.lanes.is_overloaded()) {
            self.close(now, link, CloseReason::Overloaded);
        }
        Ok(())
    }

    fn introduced(&mut self, now: Instant, link: LinkId, hello: &Hello) {
        let Some(state) = self.links.get_mut(&link) else { return };
        state.said = Some((hello.cluster.clone(), hello.gateway));
        let refusal = if hello.version().is_none() {
            Some(CloseReason::Incompatible { lowest: hello.lowest, highest: hello.highest })
        } else if state.certified.as_ref().is_some_and(|certified| !vouches(certified, &hello.cluster)) {
            Some(CloseReason::WrongCluster(hello.cluster.clone()))
        } else if hello.cluster == self.settings.cluster {
            Some(CloseReason::OwnCluster)
        } else if self.cut.contains(&hello.cluster) {
            Some(CloseReason::Cut)
        } else {
            None
        };
        if let Some(reason) = refusal {
            return self.close(now, link, reason);
        }
        let dialled = state.dialled;
        let known = self
            .peers
            .iter()
            .position(|peer| peer.gateway == hello.gateway && peer.cluster == hello.cluster)
            .and_then(PeerId::new);
        let Some(peer) = known.or_else(|| self.meet(now, hello)) else {
            return self.close(now, link, CloseReason::TooManyGateways);
        };
        let preferred = |dialled: bool| dialled == (self.settings.gateway < hello.gateway);
        if let Some(old) = self.peer(peer).link
            && let Some(held) = self.links.get(&old)
        {
            let same_boot = self.peer(peer).epoch == hello.epoch;
            let lives = now.since(held.heard) < self.settings.times.dead_after / 2;
            let taken = held.dialled && !dialled && same_boot && lives;
            if taken || (preferred(held.dialled) && !preferred(dialled)) {
                return self.close(now, link, CloseReason::Replaced);
            }
            self.close(now, old, CloseReason::Replaced);
        }
        if self.peer(peer).epoch != hello.epoch {
            // What it had handed out, and been handed out, it does not know any more.
            self.drop_directory(now, peer);
            self.identifiers.forget(peer);
        }
        if !dialled {
            self.say_hello(link);
        }
        let state = self.peer_mut(peer);
        (state.epoch, state.node, state.link, state.since) = (hello.epoch, hello.node.clone(), Some(link), now);
        state.place = hello.place.clone();
        if let Some(state) = self.links.get_mut(&link) {
            state.state = State::Up(peer);
            state.squeezes = self.settings.compress && hello.features & ZSTD != 0;
            state.lets_go = hello.features & LET_GO != 0;
        }
        let (cluster, node) = (hello.cluster.clone(), hello.node.clone());
        self.outputs.push_back(Output::Notice(Notice::Linked { cluster, node }));
        self.elect(now, &hello.cluster);
    }

    fn meet(&mut self, now: Instant, hello: &Hello) -> Option<PeerId> {
        let new = Peer {
            cluster: hello.cluster.clone(),
            gateway: hello.gateway,
            epoch: hello.epoch,
            node: hello.node.clone(),
            place: hello.place.clone(),
            round_trip: None,
            link: None,
            since: now,
            directory: Directory::default(),
            in_step: false,
            told_role: None,
            restless: 0,
            restless_since: None,
            role: None,
            asked: false,
            unanswered: 0,
            window: Window::default(),
            traffic: Traffic::default(),
            refusals: Refusals::default(),
            told: None,
        };
        if let Some(id) = PeerId::new(self.peers.len()) {
            self.identifiers.meet(id, &new.cluster);
            self.peers.push(new);
            return Some(id);
        }
        // The one that is gone for longest makes room.
        let gone = PeerId::all().filter(|peer| self.peer(*peer).link.is_none());
        let id = gone.min_by_key(|peer| self.peer(*peer).since)?;
        self.drop_directory(now, id);
        self.identifiers.meet(id, &new.cluster);
        self.takeovers.retain(|_, (lost, _)| *lost != Some(id));
        *self.peer_mut(id) = new;
        Some(id)
    }

    /// A ping came back.
    fn pong_came(&mut self, now: Instant, link: LinkId, peer: PeerId, said: u64) {
        let Some(state) = self.links.get_mut(&link) else { return };
        let Some(pinged) = state.pinged.take_if(|pinged| nonce(*pinged) == said) else { return };
        let took = now.since(pinged);
        let known = &mut self.peer_mut(peer).round_trip;
        *known = Some(known.map_or(took, |known| (known * 7 + took) / 8));
    }

    /// Pings what is quiet, ends what is dead.
    pub(crate) fn tend_links(&mut self, now: Instant) {
        let times = self.settings.times;
        let links: Vec<LinkId> = self.links.keys().copied().collect();
        for link in links {
            let Some(peer) = self.links.get(&link).map(Link::peer) else { continue };
            let restless = peer.and_then(|peer| self.peer(peer).restless_since);
            let Some(state) = self.links.get_mut(&link) else { continue };
            if peer.is_none() {
                if now.since(state.opened) >= times.hello_within {
                    self.close(now, link, CloseReason::NoHello);
                }
            } else if now.since(state.heard) >= times.dead_after {
                self.close(now, link, CloseReason::Silent);
            } else if restless.is_some_and(|since| now.since(since) >= times.dead_after) {
                self.close(now, link, CloseReason::Restless);
            } else if state.lanes.is_overloaded() {
                self.close(now, link, CloseReason::Overloaded);
            } else if now.since(state.written) >= times.ping_after {
                state.written = now;
                // What waits is a sign of life too, once it is written.
                if state.lanes.bytes() == 0 {
                    state.ping(now);
                    self.wake(link);
                }
            } else if now.since(state.probed) >= PROBE_INTERVAL {
                state.ping(now);
                self.wake(link);
            }
        }
    }

    /// Ends a link from here.
    pub(crate) fn close(&mut self, now: Instant, link: LinkId, reason: CloseReason) {
        let Some(state) = self.links.get(&link) else { return };
        let gateway = state.said.clone();
        let mut farewell = BytesMut::new();
        if !matches!(reason, CloseReason::Bye(_) | CloseReason::Silent) {
            let told = reason.to_string();
            let mut body = BytesMut::new();
            put_bytes16(&mut body, told.as_bytes());
            put_text8(&mut body, self.settings.cluster.as_str());
            body.put_u128(self.settings.gateway.0);
            farewell.put_slice(&head(Kind::Bye, Lane::CONTROL.number(), body.len()));
            farewell.put_slice(&body);
        }
        let farewell = farewell.freeze();
        self.outputs.push_back(Output::Close { link, reason: reason.clone(), farewell, gateway });
        self.end(now, link, reason);
    }

    /// Forgets a link, and fires what hangs on it.
    fn end(&mut self, now: Instant, link: LinkId, reason: CloseReason) {
        let Some(state) = self.links.remove(&link) else { return };
        let Some(peer) = state.peer() else { return };
        if self.peer(peer).link != Some(link) {
            return;
        }
        let state = self.peer_mut(peer);
        (state.link, state.since) = (None, now);
        let (cluster, node) = (state.cluster.clone(), state.node.clone());
        self.withdraw_all(peer);
        self.link_lost(now, peer);
        self.outputs.push_back(Output::Notice(Notice::Unlinked { cluster, node, reason }));
        self.stand_in(now, peer);
    }
}
