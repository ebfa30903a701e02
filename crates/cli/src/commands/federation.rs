//! `metacluster federation …`: the certificates of gateways in three commands, how the links are, and who is cut off.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use clap::{Args, Subcommand};
use metacluster_agent::federation::{CompressedView, FederationAnswer, GatewayView, Identity, issue::Authority};
use metacluster_types::ClusterName;
use serde::Deserialize;

use crate::{
    args::{Asking, Listing},
    failure::{Failure, Outcome},
    output::{self, Paint},
    table::{Cell, Table, Tone},
};

/// What the command takes.
#[derive(Args, Clone, Debug)]
pub(crate) struct Federation {
    #[command(subcommand)]
    what: What,
}

#[derive(Clone, Debug, Subcommand)]
enum What {
    /// Make the authority of a cluster: a certificate for the other clusters, and a key that stays here
    Init {
        /// The cluster
        cluster: ClusterName,
        /// Where to put `federation-ca.pem` and `federation-ca.key`
        #[arg(long, value_name = "FOLDER", default_value = "/etc/metacluster")]
        dir: PathBuf,
    },
    /// Make the identity of a gateway of that cluster, signed by its authority
    Issue {
        /// Where the authority is
        #[arg(long, value_name = "FOLDER", default_value = "/etc/metacluster")]
        dir: PathBuf,
        /// The file to make [default: federation.pem in the folder]
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
    },
    /// Look at an identity and the certificates of other clusters, and print the configuration that trusts them
    Trust {
        /// The certificates of the other clusters
        #[arg(required = true, value_name = "FILE")]
        certificates: Vec<PathBuf>,
        /// The identity of this gateway
        #[arg(long, value_name = "FILE", default_value = "/etc/metacluster/federation.pem")]
        identity: PathBuf,
    },
    /// Tell how the links to other clusters are
    Status(Listing),
    /// Cut a cluster off until it is allowed again, or the agent starts anew
    Cut {
        /// The cluster
        cluster: ClusterName,
        #[command(flatten)]
        asking: Asking,
    },
    /// Let a cluster in again that was cut off
    Allow {
        /// The cluster
        cluster: ClusterName,
        #[command(flatten)]
        asking: Asking,
    },
}

#[derive(Deserialize)]
struct Done {
    changed: bool,
}

/// Runs the command.
pub(crate) async fn run(arguments: Federation) -> Outcome {
    let not_so = |error: &dyn std::fmt::Display| Failure::NotSo(error.to_string());
    match arguments.what {
        What::Init { cluster, dir } => {
            let authority = Authority::in_folder(&dir);
            authority.make(&cluster).map_err(|error| not_so(&error))?;
            output::print(&format!(
                "{} is the authority of {cluster}: give it to the other clusters\n{} is its key: keep it\n",
                authority.certificate.display(),
                authority.key.display()
            ))
        }
        What::Issue { dir, out } => {
            let out = out.unwrap_or_else(|| dir.join("federation.pem"));
            Authority::in_folder(&dir).issue(&out).map_err(|error| not_so(&error))?;
            output::print(&format!("{} is the identity of a gateway\n", out.display()))
        }
        What::Trust { certificates, identity } => {
            if !identity.exists() {
                return Err(Failure::NotSo(format!(
                    "there is no {}: make the identity of this gateway with `metacluster federation issue`, or name it \
                     with --identity",
                    identity.display()
                )));
            }
            Identity::load(&identity, &certificates).map_err(|error| not_so(&error))?;
            // The agent is started in another folder.
            let whole = |file: &Path| {
                let file = std::path::absolute(file).unwrap_or_else(|_| file.to_owned());
                format!("{:?}", file.display().to_string())
            };
            let trust: Vec<String> = certificates.iter().map(|file| whole(file)).collect();
            output::print(&format!("[federation]\nidentity = {}\ntrust = [{}]\n", whole(&identity), trust.join(", ")))
        }
        What::Status(listing) => status(listing).await,
        What::Cut { cluster, asking } => {
            let _: Done = asking.client().post(&format!("/v1/federation/cut?cluster={cluster}")).await?;
            output::print(&format!("{cluster} is cut off\n"))
        }
        What::Allow { cluster, asking } => {
            let done: Done = asking.client().post(&format!("/v1/federation/allow?cluster={cluster}")).await?;
            if !done.changed {
                return Err(Failure::NotSo(format!("{cluster} was not cut off")));
            }
            output::print(&format!("{cluster} is let in again\n"))
        }
    }
}

async fn status(listing: Listing) -> Outcome {
    let client = listing.asking.client();
    if listing.json {
        let text = client.get_text("/v1/federation").await?;
        return output::print(&format!("{}\n", text.trim_end()));
    }
    let answer: FederationAnswer = client.get("/v1/federation").await?;
    let mut table = Table::new(&["CLUSTER", "GATEWAY", "LINK", "GROUPS", "MEMBERS", "OUT", "IN", "REFUSED"]);
    for gateway in &answer.gateways {
        let link = match gateway.linked_seconds {
            Some(seconds) => {
                let standing = if gateway.publishing { "" } else { ", stands by" };
                let zstd = if gateway.compressed { ", zstd" } else { "" };
                Cell::toned(&format!("up {seconds}s{standing}{zstd}"), Tone::Good)
            }
            None if answer.cut.contains(&gateway.cluster) => Cell::toned("cut", Tone::Doubtful),
            None => Cell::toned("down", Tone::Bad),
        };
        let refused: u64 = gateway.refused.values().sum();
        table.row(vec![
            gateway.cluster.as_str().into(),
            gateway.node.as_str().into(),
            link,
            gateway.groups.to_string().into(),
            gateway.members.to_string().into(),
            gateway.signals_out.to_string().into(),
            gateway.signals_in.to_string().into(),
            refused.to_string().into(),
        ]);
    }
    let mut text = table.render(Paint::of_stdout(), output::columns());
    let kinds = |counts: &BTreeMap<String, u64>| {
        counts.iter().map(|(kind, count)| format!("{kind} {count}")).collect::<Vec<_>>().join(", ")
    };
    for gateway in &answer.gateways {
        let ways = [("to", gateway.compressed_out), ("from", gateway.compressed_in)];
        for (way, CompressedView { plain_bytes, compressed_bytes }) in ways.iter().filter_map(|(w, c)| Some((w, (*c)?)))
        {
            let GatewayView { cluster, node, .. } = gateway;
            text.push_str(&format!("compressed {way} {cluster} ({node}): {plain_bytes} bytes to {compressed_bytes}\n"));
        }
    }
    for gateway in answer.gateways.iter().filter(|gateway| !gateway.refused.is_empty()) {
        text.push_str(&format!("refused of {} ({}): {}\n", gateway.cluster, gateway.node, kinds(&gateway.refused)));
    }
    if !answer.dropped.is_empty() {
        text.push_str(&format!("dropped here: {}\n", kinds(&answer.dropped)));
    }
    let unmet = |cut: &&ClusterName| !answer.gateways.iter().any(|gateway| gateway.cluster == **cut);
    for cluster in answer.cut.iter().filter(unmet) {
        text.push_str(&format!("{cluster} is cut off\n"));
    }
    output::print(&text)
}
