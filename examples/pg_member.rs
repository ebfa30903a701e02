//! A member of a process group, together with processes of BEAM nodes.
//!
//! ```console
//! $ erl -name shell@127.0.0.1 -setcookie secret -kernel start_pg true
//! $ cargo run -p metacluster-erl --example pg_member -- shell@127.0.0.1
//! ```
//! In the shell of `erl`:
//!
//! ```erlang
//! pg:join(orders, self()).
//! [Pid ! {order, tea} || Pid <- pg:get_members(orders)].
//! pg:leave(orders, self()).
//! ```

use metacluster_erl::{Node, Received, pg::Scope, wire::term};
use metacluster_types::NodeName;

#[tokio::main]
#[expect(clippy::print_stdout, reason = "it is a program for the terminal")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let peer = NodeName::new(&std::env::args().nth(1).ok_or("which node? give its name")?)?;
    let node = Node::builder("rust@127.0.0.1").cookie("secret").start().await?;
    node.reach(&peer).await?;

    let orders = term!(orders);
    let scope = Scope::start(&node, "pg")?;
    let mut member = node.spawn();
    scope.join(&orders, member.pid())?;
    let (_, mut changes) = scope.monitor_group(&orders);
    loop {
        tokio::select! {
            Some(change) = changes.next() => println!("{change:?}, now {} members", scope.members(&orders).len()),
            received = member.recv() => if let Received::Message(message) = received {
                println!("got {message}");
            },
            _ = tokio::signal::ctrl_c() => break,
        }
    }
    node.shutdown().await;
    Ok(())
}
