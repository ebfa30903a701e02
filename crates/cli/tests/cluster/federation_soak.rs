//! Random joins, leaves, sends, monitors, exits and cuts between two clusters of real nodes, held against a model of what
//! one cluster would have allowed.
//!
//! What one cluster promises: a message arrives at the process that it was sent to, once and in the order of its sender; it
//! arrives unless the link was cut or its receiver ended; a monitor fires once, with the reason of the end, with `noproc`
//! when there was nobody, or with `noconnection` when the link was cut. `SOAK_ROUNDS` makes it longer, and `SOAK_SEED`
//! begins elsewhere; the seed of a run that fails is printed.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context as _, Result, bail, ensure};
use metacluster_testbed::{Network, eventually, require};

use crate::{
    federation::{Cluster, Nodes, clusters_of},
    support::{NEEDED, SOON},
};

/// Rounds that every test run makes, and what happens in one between two looks.
const ROUNDS: u64 = 4;
const ACTS: u64 = 60;
/// Processes that live at once on each side, about.
const LIVING: usize = 4;

/// The processes: each is told what to do by name, and notes what it gets where it outlives it.
const START: &str = "
    Keeper = spawn(fun() -> ets:new(notes, [named_table, public, ordered_set]), receive stop -> ok end end),
    register(keeper, Keeper),
    Note = fun(Me, What) -> ets:insert(notes, {erlang:unique_integer([monotonic]), Me, What}) end,
    Find = fun(Name) -> case pg:get_members({actor, Name}) of [Pid | _] -> Pid; [] -> none end end,
    Loop = fun Loop(Me, Refs) -> receive
        {do, To, Ref, {send, Name, Number}} ->
            case Find(Name) of none -> To ! {Ref, none}; Pid -> Pid ! {m, Me, Name, Number}, To ! {Ref, done} end,
            Loop(Me, Refs);
        {do, To, Ref, {watch, Name, Number}} ->
            case Find(Name) of
                none -> To ! {Ref, none}, Loop(Me, Refs);
                Pid -> Monitor = monitor(process, Pid), To ! {Ref, done}, Loop(Me, Refs#{Monitor => Number}) end;
        {do, To, Ref, join} -> To ! {Ref, pg:join({actor, Me}, self())}, Loop(Me, Refs);
        {do, To, Ref, leave} -> To ! {Ref, pg:leave({actor, Me}, self())}, Loop(Me, Refs);
        {do, To, Ref, {exit, Why}} -> To ! {Ref, done}, exit(Why);
        {m, From, Name, Number} -> Note(Me, {m, From, Name, Number}), Loop(Me, Refs);
        {'DOWN', Monitor, process, _, Why} -> Note(Me, {down, maps:get(Monitor, Refs), Why}), Loop(Me, Refs);
        Other -> Note(Me, {odd, Other}), Loop(Me, Refs) end end,
    persistent_term:put(loop, Loop),
    Echo = fun Echo() -> receive {From, Ref} -> From ! Ref, Echo() end end,
    ok = pg:join(probe, spawn(Echo))";

/// Whether messages go there and back for half a second: of links that both ends dialled at the same time one takes the
/// place of the other before that.
const PROBE: &str = "
    Far = fun() -> case pg:get_members(probe) -- pg:get_local_members(probe) of [Pid | _] -> Pid; [] -> self() end end,
    Back = fun() -> Ref = make_ref(), Pid = Far(), Pid ! {self(), Ref},
        receive Ref -> receive after 20 -> true end after 1000 -> false end end,
    lists:all(fun(_) -> Back() end, lists:seq(1, 25))";

/// What it was told, and what came of it.
#[derive(Clone, Debug)]
struct Sent {
    from: u64,
    to: u64,
    number: u64,
    /// How many cuts there had been.
    cuts: u64,
}

#[derive(Clone, Debug)]
struct Watch {
    by: u64,
    of: u64,
    cuts: u64,
}

#[derive(Clone, Debug)]
struct Actor {
    side: usize,
    member: bool,
    /// Why it ended.
    ended: Option<String>,
}

/// A plain generator: the same seed, the same acts.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from((self.0 >> 33) % limit.max(1) as u64).unwrap_or_default()
    }
}

struct Soak {
    sides: [Cluster; 2],
    random: Random,
    actors: BTreeMap<u64, Actor>,
    sent: Vec<Sent>,
    watches: BTreeMap<u64, Watch>,
    next: u64,
    cuts: u64,
}

impl Soak {
    fn pick(&mut self, of: impl Fn(&Actor) -> bool) -> Option<u64> {
        let all: Vec<u64> = self.actors.iter().filter(|(_, actor)| of(actor)).map(|(name, _)| *name).collect();
        let place = self.random.below(all.len());
        all.get(place).copied()
    }

    fn next(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    /// Has a process do something, and says what it answers.
    fn tell(&self, name: u64, what: &str) -> Result<String> {
        let side = &self.sides[self.actors[&name].side];
        side.beam.eval(&format!(
            "Ref = make_ref(), p{name} ! {{do, self(), Ref, {what}}}, receive {{Ref, Answer}} -> Answer after 10000 -> late end"
        ))
    }

    fn act(&mut self) -> Result<()> {
        let alive = |actor: &Actor| actor.ended.is_none();
        let members = self.actors.values().filter(|actor| alive(actor)).count();
        match self.random.below(20) {
            _ if members < 2 * LIVING => {
                let (name, side) = (self.next(), self.random.below(2));
                self.sides[side].beam.eval(&format!(
                    "Loop = persistent_term:get(loop), Pid = spawn(fun() -> Loop({name}, #{{}}) end),
                     register(p{name}, Pid), pg:join({{actor, {name}}}, Pid)"
                ))?;
                self.actors.insert(name, Actor { side, member: true, ended: None });
            }
            0..=10 => {
                let (Some(from), Some(to)) = (self.pick(alive), self.pick(|_| true)) else { return Ok(()) };
                let number = self.next();
                if self.tell(from, &format!("{{send, {to}, {number}}}"))? == "done" {
                    self.sent.push(Sent { from, to, number, cuts: self.cuts });
                }
            }
            11..=15 => {
                let (Some(from), Some(of)) = (self.pick(alive), self.pick(|_| true)) else { return Ok(()) };
                let number = self.next();
                if from != of && self.tell(from, &format!("{{watch, {of}, {number}}}"))? == "done" {
                    self.watches.insert(number, Watch { by: from, of, cuts: self.cuts });
                }
            }
            16 | 17 => {
                let Some(name) = self.pick(alive) else { return Ok(()) };
                let member = self.actors[&name].member;
                let answer = self.tell(name, if member { "leave" } else { "join" })?;
                ensure!(answer == "ok", "{answer}");
                if let Some(actor) = self.actors.get_mut(&name) {
                    actor.member = !member;
                }
            }
            _ => {
                let Some(name) = self.pick(alive) else { return Ok(()) };
                let why = format!("ended{name}");
                self.tell(name, &format!("{{exit, {why}}}"))?;
                if let Some(actor) = self.actors.get_mut(&name) {
                    actor.ended = Some(why);
                }
            }
        }
        Ok(())
    }

    fn linked(&self, wanted: bool) -> Result<()> {
        for side in &self.sides {
            eventually(SOON, if wanted { "linked" } else { "unlinked" }, || {
                let answer = side.agent.get("/v1/federation").map_err(|error| format!("{error:#}"))?;
                let gateways = answer["gateways"].as_array().cloned().unwrap_or_default();
                let linked = gateways.iter().any(|gateway| gateway["linked"] == true);
                if linked == wanted { Ok(()) } else { Err(side.agent.log()) }
            })?;
        }
        Ok(())
    }

    /// Cuts the cable one way or both ways while processes act, until both ends know it, or for a moment only.
    fn cut(&mut self) -> Result<()> {
        self.cuts += 1;
        let [east, west] = [&self.sides[0].host, &self.sides[1].host];
        match self.random.below(3) {
            0 => east.cable().cut()?,
            1 => east.cable().cut_towards(west)?,
            _ => west.cable().cut_towards(east)?,
        }
        for _ in 0..8 {
            self.act()?;
        }
        if self.random.below(3) > 0 {
            self.linked(false)?;
        }
        for side in &self.sides {
            side.host.cable().heal()?;
        }
        // What happened during the cut may have been lost by it.
        self.cuts += 1;
        Ok(())
    }

    /// Waits until each side sees the members of the other, and then until a message of each to each has come.
    fn settle(&mut self) -> Result<()> {
        self.linked(true)?;
        for side in &self.sides {
            eventually(SOON, "messages go there and back", || match side.beam.eval(PROBE).as_deref() {
                Ok("true") => Ok(()),
                other => Err(format!("{other:?} {}", side.agent.log())),
            })?;
        }
        // What was sent before the link was whole again may have been lost.
        self.cuts += 1;
        let alive = |(name, actor): (&u64, &Actor)| actor.ended.is_none().then_some(*name);
        let living: BTreeSet<u64> = self.actors.iter().filter_map(alive).collect();
        let members: BTreeSet<u64> = living.iter().copied().filter(|name| self.actors[name].member).collect();
        for (place, side) in self.sides.iter().enumerate() {
            eventually(SOON, "the groups are what they are", || {
                let text =
                    side.beam.eval("[{N, length(pg:get_members({actor, N}))} || {actor, N} <- pg:which_groups()]");
                let seen = pairs(&text.map_err(|error| format!("{error:#}"))?);
                let right = seen.keys().eq(&members) && seen.values().all(|count| *count == 1);
                if right { Ok(()) } else { Err(format!("side {place} sees {seen:?}, there are {members:?}")) }
            })?;
        }
        for &from in &living {
            for &to in &members {
                let number = self.next();
                ensure!(self.tell(from, &format!("{{send, {to}, {number}}}"))? == "done", "{to} is a member");
                self.sent.push(Sent { from, to, number, cuts: self.cuts });
            }
        }
        // What is wrong stays wrong; what is missing may be on its way.
        eventually(SOON, "all has come that must", || self.check().map_err(|error| format!("{error:#}")))?;
        Ok(())
    }

    /// What came, by receiver: messages as sender, addressee and number, and monitors that fired.
    fn check(&self) -> Result<()> {
        let mut got: BTreeMap<u64, Vec<(u64, u64)>> = BTreeMap::new();
        let mut fired: BTreeMap<u64, String> = BTreeMap::new();
        for side in &self.sides {
            let notes = side.beam.eval(
                "[case What of {m, F, T, N} -> {m, Me, F, T, N}; {down, N, W} -> {d, Me, N, W}; Odd -> {odd, Me, Odd} end
                  || {_, Me, What} <- ets:tab2list(notes)]",
            )?;
            let notes = notes.trim_start_matches("[{").trim_end_matches("}]").trim_matches(['[', ']']);
            for note in notes.split("},{").filter(|note| !note.is_empty()) {
                let words: Vec<&str> = note.split(',').collect();
                match words[..] {
                    ["m", me, from, to, number] => {
                        ensure!(me == to, "a message to {to} came to {me}");
                        got.entry(me.parse()?).or_default().push((from.parse()?, number.parse()?));
                    }
                    ["d", _, number, why] => {
                        let number = number.parse()?;
                        ensure!(fired.insert(number, why.to_owned()).is_none(), "monitor {number} fired twice");
                    }
                    _ => bail!("a process got {note}"),
                }
            }
        }
        self.check_messages(&got)?;
        self.check_monitors(&fired)
    }

    fn check_messages(&self, got: &BTreeMap<u64, Vec<(u64, u64)>>) -> Result<()> {
        for (to, messages) in got {
            let mut last: BTreeMap<u64, u64> = BTreeMap::new();
            for (from, number) in messages {
                // Numbers grow, so this is order and once in one.
                let before = last.insert(*from, *number).unwrap_or_default();
                ensure!(before < *number, "{number} of {from} came to {to} after {before}");
                let known = self.sent.iter().any(|sent| (sent.from, sent.to, sent.number) == (*from, *to, *number));
                ensure!(known, "{number} of {from} came to {to}, and was never sent");
            }
        }
        for sent in &self.sent {
            let same = self.actors[&sent.from].side == self.actors[&sent.to].side;
            let must = self.actors[&sent.to].ended.is_none() && (same || sent.cuts == self.cuts);
            let came = got.get(&sent.to).is_some_and(|all| all.contains(&(sent.from, sent.number)));
            ensure!(came || !must, "{sent:?} was lost, and nothing was cut");
        }
        Ok(())
    }

    fn check_monitors(&self, fired: &BTreeMap<u64, String>) -> Result<()> {
        ensure!(fired.keys().all(|number| self.watches.contains_key(number)), "a monitor fired that was never made");
        for (number, watch) in &self.watches {
            let (by, of) = (&self.actors[&watch.by], &self.actors[&watch.of]);
            let cut = by.side != of.side && watch.cuts != self.cuts;
            let right = match (fired.get(number).map(String::as_str), &of.ended) {
                // Nobody is told when who watches has ended.
                (None, ended) => by.ended.is_some() || ended.is_none(),
                (Some("noconnection"), _) => cut,
                (Some(why), Some(reason)) => why == reason || why == "noproc",
                (Some(_), None) => false,
            };
            ensure!(right, "monitor {number}, {watch:?}, fired with {:?}: {of:?}", fired.get(number));
        }
        Ok(())
    }
}

/// `[{1,2},{3,4}]`
fn pairs(text: &str) -> BTreeMap<u64, u64> {
    let numbers: Vec<u64> =
        text.split(|letter: char| !letter.is_ascii_digit()).filter_map(|number| number.parse().ok()).collect();
    numbers.chunks_exact(2).map(|pair| (pair[0], pair[1])).collect()
}

fn number(name: &str, default: u64) -> Result<u64> {
    match std::env::var(name) {
        Ok(text) => text.parse().with_context(|| format!("{name}={text} is no number")),
        Err(_) => Ok(default),
    }
}

/// What happened, in a line.
fn soak(seed: u64, rounds: u64) -> Result<String> {
    let network = Network::new()?;
    let [east, west] = network.hosts()?;
    let exports = "[[federation.export]]\nto = [\"*\"]\ngroups = [\"actor\", \"probe\"]\n";
    let sides = clusters_of(east, west, Nodes { exports, ..Nodes::default() })?;
    for side in &sides {
        side.beam.eval(START)?;
    }
    let (actors, watches) = (BTreeMap::new(), BTreeMap::new());
    let mut soak = Soak { sides, random: Random(seed), actors, sent: Vec::new(), watches, next: 0, cuts: 0 };
    soak.settle()?;
    for round in 0..rounds {
        for _ in 0..ACTS {
            soak.act()?;
        }
        // Half of the rounds are without a cut: then nothing may be lost.
        if round % 2 == 1 {
            soak.cut()?;
        }
        soak.settle()?;
    }
    let ended = soak.actors.values().filter(|actor| actor.ended.is_some()).count();
    ensure!(soak.sent.len() > 100 && !soak.watches.is_empty() && ended > 0, "too little happened");
    Ok(format!(
        "seed {seed}: {} messages, {} monitors, {} processes of which {ended} ended",
        soak.sent.len(),
        soak.watches.len(),
        soak.actors.len()
    ))
}

#[test]
fn what_processes_of_two_clusters_do_comes_out_as_in_one_but_for_what_a_cut_explains() -> Result<()> {
    if !require(&NEEDED) {
        return Ok(());
    }
    let seed = number("SOAK_SEED", 1)?;
    println!("{}", soak(seed, number("SOAK_ROUNDS", ROUNDS)?).with_context(|| format!("SOAK_SEED={seed}"))?);
    Ok(())
}
