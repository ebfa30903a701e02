//! `metacluster leave`: the agent says goodbye to its peers and ends. The nodes keep their links, unless they are to leave
//! the mesh too.

use std::time::Duration;

use clap::Args;
use metacluster_agent::view::LeaveAnswer;
use tokio::time::{Instant, sleep};

use crate::{
    args::Asking,
    failure::{Failure, Outcome},
    output,
};

/// How long an agent may take to leave.
const LEAVE_WAIT: Duration = Duration::from_secs(15);
/// How often its socket is looked at.
const LOOK: Duration = Duration::from_millis(20);

/// What the command takes.
#[derive(Args, Clone, Debug)]
pub(crate) struct Leave {
    /// Have the nodes of this host leave their mesh first (`global:disconnect/0`); without it they keep their links
    #[arg(long)]
    nodes: bool,
    #[command(flatten)]
    asking: Asking,
}

/// Runs the command.
pub(crate) async fn run(arguments: Leave) -> Outcome {
    let client = arguments.asking.client();
    let path = if arguments.nodes { "/v1/leave?nodes=true" } else { "/v1/leave" };
    let _: LeaveAnswer = client.post(path).await?;
    let until = Instant::now() + LEAVE_WAIT;
    while client.is_there().await {
        if Instant::now() > until {
            return Err(Failure::NotSo(format!(
                "the agent has begun to leave and still runs after {} seconds",
                LEAVE_WAIT.as_secs()
            )));
        }
        sleep(LOOK).await;
    }
    output::print("the agent has left\n")
}
