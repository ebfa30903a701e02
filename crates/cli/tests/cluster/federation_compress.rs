//! A link whose ends both have `compress`: the same messages arrive, and far fewer bytes cross. One end alone changes
//! nothing.

use std::fs;

use anyhow::{Context as _, Result};
use metacluster_testbed::{Network, require};

use crate::{
    federation::{Cluster, Nodes, clusters_of},
    support::NEEDED,
};

const COMPRESS: &str = "compress = true\n\n";
/// What is sent: so many messages of 60,000 bytes each.
const MESSAGES: u64 = 24;
const ROUNDS: u64 = 6;
const SENT_BYTES: u64 = MESSAGES * 60_000;

impl Cluster {
    /// The bytes that left this host so far.
    fn sent_bytes(&self) -> Result<u64> {
        let text = fs::read_to_string(format!("/proc/{}/net/dev", self.agent.pid()))?;
        let cables = text.lines().filter_map(|line| line.split_once(':')).filter(|(name, _)| name.trim() != "lo");
        let sent = cables
            .map(|(_, counts)| counts.split_whitespace().nth(8).context("no count")?.parse::<u64>().context("a count"));
        sent.sum::<Result<u64>>()
    }
}

/// The bytes that cross with so many bytes of text, which all arrive as they were.
fn crossed(settings: [&str; 2]) -> Result<u64> {
    let network = Network::new()?;
    let [east, west] = network.hosts()?;
    let [east, west] = clusters_of(east, west, Nodes { settings, ..Nodes::default() })?;
    east.serve()?;
    west.wait_members(1)?;
    let before = west.sent_bytes()?;
    for _ in 0..ROUNDS {
        // No more at once than a lane takes; the answer comes when all before it have.
        let arrived = west.beam.eval(&format!(
            "[P] = pg:get_members(orders),
             Text = binary:copy(<<\"{{order, 4711, <<a customer in the north>>, [{{item, 1}}]}}    \">>, 2000),
             Last = binary:part(Text, 0, 60000),
             [P ! {{none, N, Last}} || N <- lists:seq(1, {} - 1)],
             {{echoed, {{Back, Me}}, _, _}} = gen_server:call(P, {{echo, {{Last, self()}}}}, 20000),
             Back =:= Last andalso Me =:= self()",
            MESSAGES / ROUNDS
        ))?;
        assert_eq!(arrived, "true");
    }
    let status = west.agent.get("/v1/federation")?["gateways"][0].clone();
    let text = west.federation(&["status"])?;
    let both = settings == [COMPRESS, COMPRESS];
    assert_eq!(status["compressed"], both, "{status}");
    assert_eq!(text.contains(", zstd"), both, "{text}");
    assert_eq!(text.contains("compressed to east"), both, "{text}");
    let out = &status["compressed_out"];
    let ratio = out["plain_bytes"].as_u64().zip(out["compressed_bytes"].as_u64()).map(|(plain, sent)| plain / sent);
    assert_eq!(ratio.is_some_and(|ratio| ratio > 10), both, "{status}");
    Ok(west.sent_bytes()? - before)
}

#[test]
fn a_link_is_compressed_where_both_ends_want_it() -> Result<()> {
    if !require(&NEEDED) {
        return Ok(());
    }
    let squeezed = crossed([COMPRESS, COMPRESS])?;
    assert!(squeezed < SENT_BYTES / 10, "{squeezed} of {SENT_BYTES} bytes crossed");
    let plain = crossed(["", COMPRESS])?;
    assert!(plain > SENT_BYTES, "{plain} of {SENT_BYTES} bytes crossed");
    Ok(())
}
