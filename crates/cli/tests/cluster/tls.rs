//! Hosts whose BEAM nodes speak distribution over TLS alone (`-proto_dist inet_tls`), linked by agents with
//! `[distribution]`.

use std::{fs, path::Path, time::Duration};

use anyhow::{Context as _, Result};
use metacluster_testbed::{Agent, Beam, Host, Network, eventually, require};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose, SanType,
    date_time_ymd,
};

use crate::support::{NEEDED, SOON, binary, full_mesh};

/// Long enough for a node to be dialled several times.
const LONG_ENOUGH: Duration = Duration::from_secs(4);

/// What signs the certificates of a cluster.
struct Authority {
    certificate: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    fn new() -> Result<Self> {
        let mut params = CertificateParams::default();
        // A certificate that has the name of its signer would be taken for one that signed itself.
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, "authority");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let key = KeyPair::generate()?;
        let certificate = params.self_signed(&key)?.pem();
        Ok(Self { certificate, issuer: Issuer::new(params, key) })
    }

    /// Puts a certificate for the nodes of this host, with its key, and the authority's into its home folder.
    fn sign(&self, host: &Host, file: &str, until: i32) -> Result<()> {
        let name = host.address().to_string();
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, "a node");
        params.subject_alt_names =
            vec![SanType::DnsName(name.as_str().try_into()?), SanType::IpAddress(host.address().into())];
        params.not_before = date_time_ymd(2020, 1, 1);
        params.not_after = date_time_ymd(until, 1, 1);
        let key = KeyPair::generate()?;
        let certificate = params.signed_by(&key, &self.issuer)?;
        // A file that is renewed is replaced, never half there.
        let new = host.home().join("new.pem");
        fs::write(&new, format!("{}{}", certificate.pem(), key.serialize_pem()))?;
        fs::rename(new, host.home().join(file))?;
        Ok(fs::write(host.home().join("ca.pem"), &self.certificate)?)
    }
}

/// A node of this host that verifies its peers, and shows the certificate of `node.pem`.
fn beam(host: &Host) -> Result<Beam> {
    let file = |name: &str| host.home().join(name).display().to_string();
    let (own, authority) = (file("node.pem"), file("ca.pem"));
    let both = format!(
        "{{certfile, \"{own}\"}}, {{keyfile, \"{own}\"}}, {{cacertfile, \"{authority}\"}}, {{verify, verify_peer}}"
    );
    let options = host.home().join("tls.conf");
    fs::write(&options, format!("[{{server, [{both}, {{fail_if_no_peer_cert, true}}]}}, {{client, [{both}]}}].\n"))?;
    host.beam("shop").flags(&format!("-proto_dist inet_tls -ssl_dist_optfile {}", options.display())).spawn()
}

fn configuration(host: &Host, certificate: &str) -> String {
    let home = host.home().display();
    format!(
        "[distribution]\ncertificate = \"{home}/{certificate}\"\nauthorities = \"{home}/ca.pem\"\n\n\
         [[topology]]\nname = \"lan\"\nstrategy = \"gossip\"\n"
    )
}

fn agent(host: &Host, configuration: &str) -> Result<Agent> {
    host.agent(Path::new(binary())).config(configuration)?.start()
}

#[test]
fn hosts_whose_nodes_speak_tls_are_linked() -> Result<()> {
    if !require(&NEEDED) {
        return Ok(());
    }
    let (network, authority) = (Network::new()?, Authority::new()?);
    let hosts = [network.host()?, network.host()?];
    let mut agents = Vec::new();
    for host in &hosts {
        authority.sign(host, "node.pem", 2099)?;
        agents.push(agent(host, &configuration(host, "node.pem"))?);
    }
    let beams = [beam(&hosts[0])?, beam(&hosts[1])?];
    for node in &beams {
        node.wait_ready()?;
    }
    full_mesh(SOON, &beams).with_context(|| agents.iter().map(Agent::log).collect::<String>())?;
    for (host, node) in hosts.iter().zip(&beams) {
        let ours = host.node_name("metacluster");
        assert!(node.hidden_nodes()?.contains(&ours), "{:?}", node.hidden_nodes());
        assert_eq!(node.eval(&format!("gen_server:call({{metacluster, '{ours}'}}, ready)"))?, "true");
        // The node dials the agent.
        let again = format!("erlang:disconnect_node('{ours}'), net_adm:ping('{ours}')");
        eventually(SOON, "the agent answers a node that dials it", || match node.eval(&again) {
            Ok(pong) if pong == "pong" => Ok(()),
            other => Err(format!("{other:?}")),
        })?;
    }
    Ok(())
}

#[test]
fn a_certificate_that_is_renewed_is_taken_without_a_restart() -> Result<()> {
    if !require(&NEEDED) {
        return Ok(());
    }
    let (network, authority) = (Network::new()?, Authority::new()?);
    let hosts = [network.host()?, network.host()?];
    for host in &hosts {
        authority.sign(host, "node.pem", 2099)?;
        authority.sign(host, "agent.pem", 2021)?;
    }
    let agents = [
        agent(&hosts[0], &configuration(&hosts[0], "node.pem"))?,
        agent(&hosts[1], &configuration(&hosts[1], "agent.pem"))?,
    ];
    let beams = [beam(&hosts[0])?, beam(&hosts[1])?];
    for node in &beams {
        node.wait_ready()?;
    }
    let ours = hosts[0].node_name("metacluster");
    eventually(SOON, "the first host is joined", || {
        let hidden = beams[0].hidden_nodes().map_err(|error| format!("{error:#}"))?;
        if hidden.contains(&ours) { Ok(()) } else { Err(format!("{hidden:?}")) }
    })?;
    // The second agent's certificate has expired: its node refuses it.
    let begin = std::time::Instant::now();
    while begin.elapsed() < LONG_ENOUGH {
        assert!(beams[1].hidden_nodes()?.is_empty(), "an expired certificate is refused");
    }
    let log = agents[1].log();
    assert!(log.contains("expired"), "{log}");
    authority.sign(&hosts[1], "agent.pem", 2099)?;
    full_mesh(SOON, &beams)?;
    let ours = hosts[1].node_name("metacluster");
    assert!(beams[1].hidden_nodes()?.contains(&ours));
    Ok(())
}

#[test]
fn an_agent_that_speaks_the_other_kind_says_which() -> Result<()> {
    if !require(&NEEDED) {
        return Ok(());
    }
    let (network, authority) = (Network::new()?, Authority::new()?);
    let host = network.host()?;
    authority.sign(&host, "node.pem", 2099)?;
    let plain = agent(&host, "[[topology]]\nname = \"lan\"\nstrategy = \"gossip\"\n")?;
    let _node = beam(&host)?;
    eventually(SOON, "the agent names the fault and the key", || {
        let log = plain.log();
        if log.contains("speaks TLS") && log.contains("[distribution]") { Ok(()) } else { Err(log) }
    })?;
    Ok(())
}
