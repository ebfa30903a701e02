//! `metacluster leave`: the agent says goodbye to its peers and ends. The nodes stay as they are.

use std::time::Duration;

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

/// Runs the command.
pub(crate) async fn run(arguments: Asking) -> Outcome {
    let client = arguments.client();
    let _: LeaveAnswer = client.post("/v1/leave").await?;
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
