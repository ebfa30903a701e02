//! Two clusters of different releases of Erlang/OTP: the node of one is started by the `erl` that comes first on the path,
//! that of the other by the machine's own. `cargo xtask otp RELEASE` makes them differ.

use std::path::Path;

use anyhow::Result;
use metacluster_testbed::require;

use crate::{
    federation::{Nodes, clusters_of},
    support::{NEEDED, SOON},
};

/// The machine's own, where Debian has it.
const OWN: &str = "/usr/bin/erl";

#[test]
fn clusters_of_two_releases_call_monitor_and_link_across() -> Result<()> {
    if !require(&NEEDED) {
        return Ok(());
    }
    let network = metacluster_testbed::Network::new()?;
    let [east, west] = network.hosts()?;
    let [east, mut west] = clusters_of(east, west, Nodes::default())?;
    if Path::new(OWN).is_file() {
        // The first one has to be gone before its name is free.
        west.beam.kill9()?;
        west.beam = west.host.beam("shop").program(OWN).flags("-kernel start_pg true").start()?;
        let seen = || west.beam.hidden_nodes().map_err(|error| format!("{error:#}"));
        metacluster_testbed::eventually(SOON, "the gateway is connected", || {
            if seen()?.is_empty() { Err(west.agent.log()) } else { Ok(()) }
        })?;
    }
    let release = "list_to_integer(erlang:system_info(otp_release))";
    println!("OTP {} in the east, {} in the west", east.beam.eval(release)?, west.beam.eval(release)?);
    for (serves, calls) in [(&east, &west), (&west, &east)] {
        serves.serve()?;
        calls.wait_members(1)?;
        let called = calls.beam.eval(
            "[P] = pg:get_members(orders) -- pg:get_local_members(orders), Large = binary:copy(<<7>>, 300000),
             Sent = {hello, [1, 2.5, #{key => <<\"x\">>}], make_ref(), fun lists:map/2, Large},
             {echoed, Sent, Server, Caller} = gen_server:call(P, {echo, Sent}),
             Monitor = monitor(process, P),
             Gone = spawn(fun() -> process_flag(trap_exit, true), link(P),
                 receive {'EXIT', P, R} -> exit({linked, R}) end end),
             Watch = monitor(process, Gone), {echoed, _, _, _} = gen_server:call(P, {echo, 1}),
             ok = gen_server:call(P, stop),
             {Server =:= P, Caller =:= self(), receive {'DOWN', Monitor, process, P, Why} -> Why after 10000 -> late end,
              receive {'DOWN', Watch, process, Gone, Reason} -> Reason after 10000 -> late end}",
        )?;
        assert_eq!(called, "{true,true,stopped,{linked,stopped}}");
        calls.wait_members(0)?;
    }
    Ok(())
}
