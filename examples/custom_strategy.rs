//! A strategy of one's own: the peers are the lines of a file, and the file is read every second.
//!
//! ```console
//! $ erl -name shop@127.0.0.1 -detached
//! $ echo db@10.0.0.5 > /tmp/peers
//! $ cargo run -p metacluster --example custom_strategy -- /tmp/peers
//! ```
//! A strategy is a value with settings and one function, [`Strategy::run`], that pushes what it finds into its
//! [`Feed`]: a [`SourceUpdate::Snapshot`] when it knows the whole answer, [`SourceUpdate::Found`] and
//! [`SourceUpdate::Lost`] when it hears of one peer, [`SourceUpdate::Failed`] when a look-up failed, which changes no
//! candidate. All else is done for it: dialling, trying again, events, and a new beginning if it panics.

use std::{path::PathBuf, sync::Arc, time::Duration};

use metacluster::{Candidate, Cluster, Feed, NodeName, Notice, SourceUpdate, Strategy, Work};
use tokio_stream::StreamExt as _;

/// Finds the nodes that a file lists, one on each line.
struct Lines {
    path: PathBuf,
}

impl Strategy for Lines {
    fn run(self: Arc<Self>, feed: Feed) -> Work {
        Box::pin(async move {
            loop {
                feed.push(self.look_up().await).await;
                tokio::select! {
                    () = tokio::time::sleep(Duration::from_secs(1)) => {}
                    () = feed.stopped() => return,
                }
            }
        })
    }
}

impl Lines {
    async fn look_up(&self) -> SourceUpdate {
        let text = match tokio::fs::read_to_string(&self.path).await {
            Ok(text) => text,
            Err(error) => return SourceUpdate::Failed(format!("cannot read {}: {error}", self.path.display())),
        };
        match text.lines().map(NodeName::new).collect::<Result<Vec<_>, _>>() {
            Ok(nodes) => SourceUpdate::Snapshot(nodes.into_iter().map(Candidate::new).collect()),
            Err(error) => SourceUpdate::Failed(format!("{}: {error}", self.path.display())),
        }
    }
}

#[tokio::main]
#[expect(clippy::print_stdout, reason = "it is a program for the terminal")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let path = std::env::args_os().nth(1).ok_or("which file? give its path")?;
    let cluster = Cluster::builder().strategy("lines", Lines { path: path.into() }).start().await?;
    let mut events = cluster.events_since(0);
    loop {
        tokio::select! {
            notice = events.next() => match notice {
                Some(Notice::Event(event)) => println!("{} {:?}", event.event.as_str(), event.subject.node),
                Some(Notice::Missed { from, to }) => println!("missed {from} to {to}"),
                None => break,
            },
            _ = tokio::signal::ctrl_c() => break,
        }
    }
    cluster.leave().await;
    Ok(())
}
