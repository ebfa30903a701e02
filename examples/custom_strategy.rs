//! A strategy of one's own: the peers are the lines of a file, and the file is read every second.
//!
//! ```console
//! $ erl -name shop@127.0.0.1 -detached
//! $ echo db@10.0.0.5 > /tmp/peers
//! $ cargo run -p metacluster --example custom_strategy -- /tmp/peers
//! ```
//! A strategy is a value with settings and one function, [`Strategy::run`], that tells its [`Feed`] what it finds. Here
//! [`Poll`] asks again and again, with jitter, and less often while the file cannot be read; each [`Answer`] is the whole
//! of it, and a [`Failure`] changes no candidate. A strategy that keeps a stream open has `watch` for that, and one that
//! hears of its peers one by one pushes a [`SourceUpdate`](metacluster::SourceUpdate) for each. All else is done for it:
//! dialling, trying again, events, and a new beginning if it panics. Its tests may drive it with `trial::Trial`.

use std::{path::PathBuf, sync::Arc, time::Duration};

use metacluster::{Answer, Candidate, Cluster, Failure, Feed, NodeName, Notice, Pace, Poll, Strategy, Work};
use tokio_stream::StreamExt as _;

/// Finds the nodes that a file lists, one on each line.
struct Lines {
    path: PathBuf,
}

impl Strategy for Lines {
    fn run(self: Arc<Self>, feed: Feed) -> Work {
        Box::pin(async move {
            let pace = Pace { interval: Duration::from_secs(1), timeout: Duration::from_secs(1) };
            Poll::new(pace).run(&feed, || Arc::clone(&self).look_up()).await;
        })
    }
}

impl Lines {
    async fn look_up(self: Arc<Self>) -> Result<Answer, Failure> {
        let path = self.path.display();
        let text =
            tokio::fs::read_to_string(&self.path).await.map_err(|error| format!("cannot read {path}: {error}"))?;
        let nodes: Result<Vec<_>, _> = text.lines().map(NodeName::new).collect();
        let nodes = nodes.map_err(|error| format!("{path}: {error}: give one name@host a line"))?;
        Ok(Answer { candidates: nodes.into_iter().map(Candidate::new).collect(), ..Answer::default() })
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
