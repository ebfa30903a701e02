//! `metacluster up`: the agent with what is built in, changed by flags; no file is needed.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use metacluster_agent::{
    config::{Config, Environment},
    discovery::spec::Spec,
};

use crate::{commands::check_config, failure::Outcome, running};

/// The arguments of `up`.
#[derive(Args, Debug)]
#[command(after_help = "Every flag is a key of the configuration file, and a variable METACLUSTER_… too.\n\
    Example: metacluster up --topology gossip:secret=s3 --topology static:nodes=shop@10.0.0.4")]
pub(crate) struct Up {
    /// How to find peers, STRATEGY or STRATEGY:key=value,…; may be given again [default: gossip and local-epmd]
    #[arg(long = "topology", value_name = "SPEC")]
    topologies: Vec<Spec>,
    /// The cluster of this host
    #[arg(long, value_name = "NAME")]
    cluster: Option<String>,
    /// The availability zone of this host
    #[arg(long, value_name = "NAME")]
    zone: Option<String>,
    /// The region of this host
    #[arg(long, value_name = "NAME")]
    region: Option<String>,
    /// Which local nodes are ours, such as `shop,worker-*` [default: all that take the cookie]
    #[arg(long, value_name = "PATTERNS")]
    names: Option<String>,
    /// The file with the cookie of the local nodes
    #[arg(long, value_name = "FILE")]
    cookie_file: Option<PathBuf>,
    /// Where the agent keeps its id and its socket
    #[arg(long, value_name = "FOLDER")]
    state_dir: Option<PathBuf>,
    /// The socket on which the agent answers
    #[arg(long, value_name = "PATH")]
    socket: Option<PathBuf>,
    /// Who is the epmd: this agent if the port is free, this agent or it is an error, the one that runs
    #[arg(long, value_name = "MODE", value_enum)]
    epmd: Option<Epmd>,
    /// The port of epmd
    #[arg(long, value_name = "PORT")]
    epmd_port: Option<u16>,
    /// The loopback address of HTTP and the dashboard, or `off`
    #[arg(long, value_name = "ADDRESS")]
    http: Option<String>,
    /// The name of the agent's own node, before the @
    #[arg(long, value_name = "NAME")]
    node_name: Option<String>,
    /// The host of the agent's own node, after the @ [default: that of the local nodes]
    #[arg(long, value_name = "HOST")]
    host: Option<String>,
    /// Where the agent's own node takes connections of BEAM nodes [default: a free port, for this host only]
    #[arg(long, value_name = "ADDRESS:PORT")]
    listen: Option<String>,
    /// What is logged: error, warn, info, debug or trace
    #[arg(long, value_name = "LEVEL")]
    log: Option<String>,
}

/// Who is the epmd. The flag's own line explains the modes, so that the help stays a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Epmd {
    // The agent when the port is free, else the one that runs.
    Auto,
    // The agent; it is an error when it cannot be.
    Own,
    // The one that runs.
    External,
}

/// Runs the command.
pub(crate) fn run(arguments: &Up) -> Outcome {
    let environment =
        arguments.flags().into_iter().fold(Environment::capture(), |environment, (flag, key, value)| match value {
            Some(value) => environment.with_flag(flag, key, &value),
            None => environment,
        });
    let config = Config::embedded(arguments.topologies.clone(), &environment)
        .map_err(|faults| check_config::refused(&faults))?;
    running::run(config, None, false)
}

impl Up {
    /// Each flag with the key that it stands for.
    fn flags(&self) -> [(&'static str, &'static str, Option<String>); 14] {
        let path = |path: &Option<PathBuf>| path.as_ref().map(|path| path.to_string_lossy().into_owned());
        let epmd = self.epmd.and_then(|mode| mode.to_possible_value()).map(|mode| mode.get_name().to_owned());
        [
            ("--cluster", "cluster", self.cluster.clone()),
            ("--zone", "zone", self.zone.clone()),
            ("--region", "region", self.region.clone()),
            ("--names", "nodes.names", self.names.clone()),
            ("--cookie-file", "cookie_file", path(&self.cookie_file)),
            ("--state-dir", "state_dir", path(&self.state_dir)),
            ("--socket", "api.socket", path(&self.socket)),
            ("--epmd", "epmd.mode", epmd),
            ("--epmd-port", "epmd.port", self.epmd_port.map(|port| port.to_string())),
            ("--http", "api.http", self.http.clone()),
            ("--node-name", "node_name", self.node_name.clone()),
            ("--host", "host", self.host.clone()),
            ("--listen", "listen", self.listen.clone()),
            ("--log", "log.level", self.log.clone()),
        ]
    }
}
