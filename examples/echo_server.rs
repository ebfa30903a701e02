//! A process that answers `gen_server:call`, and that BEAM nodes can dial.
//!
//! ```console
//! $ erl -name shell@127.0.0.1 -setcookie secret
//! $ cargo run -p metacluster-erl --example echo_server
//! ```
//! In the shell of `erl`, which also started the epmd that the example registers with:
//!
//! ```erlang
//! gen_server:call({echo, 'rust@127.0.0.1'}, {hello, "world"}).
//! gen_server:cast({echo, 'rust@127.0.0.1'}, anything).
//! gen_server:call({echo, 'rust@127.0.0.1'}, stop).
//! ```

use metacluster_erl::{
    Node,
    gen_server::{Next, Request},
    wire::term,
};

#[tokio::main]
#[expect(clippy::print_stdout, reason = "it is a program for the terminal")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let node = Node::builder("rust@127.0.0.1").cookie("secret").listen("127.0.0.1:0".parse()?).start().await?;
    let echo = node.spawn();
    echo.register("echo")?;
    println!("{{echo, '{}'}} waits for calls", node.name());
    let mut calls = 0_u64;
    let reason = echo
        .serve(async |request| match request {
            Request::Call(call) if call.request.is_atom("stop") => Next::ReplyAndStop(term!({calls, (calls)})),
            Request::Call(call) => {
                calls += 1;
                println!("{:?} asks {}", call.from.pid, call.request);
                Next::Reply(term!({echo, (call.request)}))
            }
            Request::Cast(request) => {
                println!("somebody says {request}");
                Next::Continue
            }
            Request::Info(other) => {
                println!("{other:?}");
                Next::Continue
            }
        })
        .await;
    println!("ended: {reason}");
    node.shutdown().await;
    Ok(())
}
