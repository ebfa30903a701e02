//! Gateways that a topology finds: they are dialled as the source names them, and no more when it does not.

use std::{path::Path, time::Duration};

use anyhow::{Context as _, Result};
use metacluster_testbed::{Agent, Beam, Host, Network, eventually, require};

use crate::{
    federation::{command, folder, prove},
    support::{NEEDED, SOON, binary},
};

/// Within this time all is well again after every gateway of the far side is at another address.
const RESUMED: Duration = Duration::from_secs(30);

/// A gateway, and a node beside it.
struct Gateway {
    beam: Beam,
    agent: Agent,
    host: Host,
}

fn start(host: Host, cluster: &str, identity: &Path, trust: &Path, more: &str) -> Result<Gateway> {
    host.write_cookie(&format!("COOKIE{cluster}"))?;
    let config = format!(
        "cluster = \"{cluster}\"\n\n[[topology]]\nname = \"lan\"\nstrategy = \"gossip\"\n\n[federation]\n\
         listen = \"0.0.0.0:4391\"\nidentity = \"{}\"\ntrust = [\"{}\"]\n{more}\n\
         [[federation.export]]\nto = [\"*\"]\ngroups = [\"orders\"]\n",
        identity.display(),
        trust.display()
    );
    let agent = host.agent(binary()).config(&config)?.start()?;
    let beam = host.beam("shop").cookie(&format!("COOKIE{cluster}")).flags("-kernel start_pg true").spawn()?;
    Ok(Gateway { beam, agent, host })
}

impl Gateway {
    fn serve(&self) -> Result<()> {
        self.beam.wait_ready()?;
        self.beam.eval(
            "Server = spawn(fun Loop() -> receive {'$gen_call', From, Term} -> gen_server:reply(From, Term), Loop() end end),
             ok = pg:join(orders, Server)",
        )?;
        Ok(())
    }

    fn wait_members(&self, within: Duration, count: usize) -> Result<Duration> {
        let waited = eventually(within, &format!("{count} far members"), || {
            let members = self.beam.eval("length(pg:get_members(orders))").map_err(|error| format!("{error:#}"))?;
            if members == count.to_string() { Ok(()) } else { Err(members) }
        });
        waited.with_context(|| self.agent.log())
    }
}

#[test]
fn gateways_that_a_file_lists_are_dialled_as_it_changes() -> Result<()> {
    if !require(&NEEDED) {
        return Ok(());
    }
    let network = Network::new()?;
    let [west, one, two, three, four] = network.hosts()?;
    prove(&west, "west")?;
    prove(&one, "east")?;
    let authority = folder(&one);
    let identity_of = |host: &Host| -> Result<std::path::PathBuf> {
        let identity = host.home().join("gateway.pem");
        let (from, out) = (authority.display().to_string(), identity.display().to_string());
        command(host, &["federation", "issue", "--dir", &from, "--out", &out])?;
        Ok(identity)
    };
    let (of_west, of_east) = (folder(&west).join("federation-ca.pem"), authority.join("federation-ca.pem"));

    // Nobody is listed yet.
    let list = west.home().join("east.peers");
    let write = |hosts: &[&Host]| -> Result<()> {
        let lines: String = hosts.iter().map(|host| format!("{}\n", host.address())).collect();
        std::fs::write(&list, lines)?;
        Ok(())
    };
    write(&[])?;
    let topology = format!("\n[[federation.topology]]\nstrategy = \"file\"\npath = \"{}\"\n", list.display());
    let identity = folder(&west).join("federation.pem");
    let west = start(west, "west", &identity, &of_east, &topology)?;
    west.beam.wait_ready()?;

    let identities = [identity_of(&one)?, identity_of(&two)?, identity_of(&three)?, identity_of(&four)?];
    let [one, two] = [(one, &identities[0]), (two, &identities[1])]
        .map(|(host, identity)| start(host, "east", identity, &of_west, ""));
    let (one, two) = (one?, two?);
    one.serve()?;
    two.serve()?;
    assert_eq!(west.beam.eval("pg:get_members(orders)")?, "[]", "nobody named them");
    write(&[&one.host, &two.host])?;
    west.wait_members(SOON, 2)?;

    // Both gateways go, and others of that cluster are elsewhere.
    let gone = [one.host.address(), two.host.address()];
    drop((one, two));
    let (three, four) =
        (start(three, "east", &identities[2], &of_west, "")?, start(four, "east", &identities[3], &of_west, "")?);
    three.serve()?;
    four.serve()?;
    west.wait_members(SOON, 0)?;
    write(&[&three.host, &four.host])?;
    west.wait_members(RESUMED, 2)?;
    let called = west.beam.eval("[gen_server:call(P, hello) || P <- pg:get_members(orders)]")?;
    assert_eq!(called, "[hello,hello]");
    let log = west.agent.log();
    for address in gone {
        assert!(log.contains(&format!("{address}:4391 is not dialled any more")), "{address}: {log}");
    }

    // What the file names no more is not dialled again; the link that is up stays.
    write(&[])?;
    eventually(SOON, "the file is read", || {
        let log = west.agent.log();
        let told = format!("{}:4391 is not dialled any more", four.host.address());
        if log.contains(&told) { Ok(()) } else { Err(log) }
    })?;
    assert_eq!(west.beam.eval("length(pg:get_members(orders))")?, "2");
    Ok(())
}
