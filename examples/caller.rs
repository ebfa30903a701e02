//! Calls to a BEAM node: `erpc` with types of Rust, `rpc`, `gen_server:call`, and what their errors say.
//!
//! ```console
//! $ erl -name shell@127.0.0.1 -setcookie secret
//! $ cargo run -p metacluster-erl --example caller -- shell@127.0.0.1
//! ```

use std::{collections::BTreeMap, time::Duration};

use metacluster_erl::{Node, wire::term};
use metacluster_types::NodeName;

const PATIENCE: Duration = Duration::from_secs(5);

#[tokio::main]
#[expect(clippy::print_stdout, reason = "it is a program for the terminal")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let peer = NodeName::new(&std::env::args().nth(1).ok_or("which node? give its name")?)?;
    let node = Node::builder("rust@127.0.0.1").cookie("secret").start().await?;
    let info = node.reach(&peer).await?;
    println!("connected to {} at {}", info.name, info.address);

    // Arguments and results as types of Rust.
    let odd: Vec<u64> = node.erpc_as(&peer, "lists", "seq", &(1, 9, 2), PATIENCE).await?;
    let memory: BTreeMap<String, u64> = node.erpc_as(&peer, "erlang", "memory", &(), PATIENCE).await?;
    println!("lists:seq(1, 9, 2) is {odd:?}; the node uses {} bytes", memory["total"]);

    // Or as terms.
    let release = node.rpc(&peer, "erlang", "system_info", vec![term!(otp_release)], PATIENCE).await?;
    println!("OTP {}", release.as_text().unwrap_or_default());
    let servers = node.call(&peer, "kernel_sup", term!(which_children), PATIENCE).await?;
    println!("its kernel supervises {} children", servers.as_list().map_or(0, <[_]>::len));

    // An exception comes with its class, and a call to nobody fails at once.
    for (module, function) in [("erlang", "exit"), ("no_module", "at_all")] {
        if let Err(error) = node.erpc(&peer, module, function, vec![term!(oops)], PATIENCE).await {
            println!("{module}:{function}(oops): {error}");
        }
    }
    if let Err(error) = node.call(&peer, "nobody", term!(hello), PATIENCE).await {
        println!("a call to nobody: {error}");
    }
    if let Err(error) = node.erpc_as::<Vec<String>>(&peer, "lists", "seq", &(1, 2), PATIENCE).await {
        println!("numbers as texts: {error}");
    }
    node.shutdown().await;
    Ok(())
}
