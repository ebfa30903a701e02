//! Calls whose requests and answers are types of Rust, by way of serde.

use std::time::Duration;

use metacluster_erl_wire::{
    Term,
    serde::{Fault, from_term, to_term},
};
use metacluster_types::NodeName;
use serde::{Serialize, de::DeserializeOwned};

use super::{Node, error::CallError};

impl Node {
    /// [`Node::call`] with a request and an answer of any type that serde knows; see [`metacluster_erl_wire::serde`].
    ///
    /// # Errors
    /// As [`Node::call`]; [`CallError::BadAnswer`] when the answer is not of that type.
    ///
    /// ```
    /// use std::time::Duration;
    /// use metacluster_erl::{Node, gen_server::Next, wire::term};
    ///
    /// #[derive(serde::Serialize)]
    /// #[serde(rename_all = "snake_case")]
    /// enum Request {
    ///     Find { name: String },
    /// }
    ///
    /// #[derive(serde::Deserialize)]
    /// struct User {
    ///     age: u8,
    /// }
    ///
    /// # async fn run() -> Result<(), Box<dyn std::error::Error>> {
    /// let node = Node::builder("users@127.0.0.1").cookie("secret").start().await?;
    /// let users = node.spawn();
    /// users.register("users")?;
    /// tokio::spawn(users.serve(async |_| Next::Reply(term!({ok, #{age => 42}}))));
    ///
    /// let request = Request::Find { name: "joe".into() };
    /// let found: Result<User, String> = node.call_as(node.name(), "users", &request, Duration::from_secs(5)).await?;
    /// assert_eq!(found?.age, 42);
    /// # Ok(())
    /// # }
    /// # tokio::runtime::Runtime::new().unwrap().block_on(run()).unwrap();
    /// ```
    pub async fn call_as<T: DeserializeOwned>(
        &self,
        node: &NodeName,
        server: &str,
        request: &(impl Serialize + Sync + ?Sized),
        timeout: Duration,
    ) -> Result<T, CallError> {
        let request = to_term(request).map_err(CallError::BadRequest)?;
        read(self.call(node, server, request, timeout).await?)
    }

    /// [`Node::rpc`] with arguments and a result of any type that serde knows. The arguments are a tuple or a list: `()`
    /// for none, `(one,)` for one.
    ///
    /// # Errors
    /// As [`Node::rpc`]; [`CallError::BadAnswer`] when the result is not of that type.
    pub async fn rpc_as<T: DeserializeOwned>(
        &self,
        node: &NodeName,
        module: &str,
        function: &str,
        args: &(impl Serialize + Sync + ?Sized),
        timeout: Duration,
    ) -> Result<T, CallError> {
        read(self.rpc(node, module, function, arguments(args)?, timeout).await?)
    }

    /// [`Node::erpc`] with arguments and a result of any type that serde knows. The arguments are a tuple or a list: `()`
    /// for none, `(one,)` for one.
    ///
    /// ```no_run
    /// # use std::time::Duration;
    /// # async fn run(node: metacluster_erl::Node, shop: metacluster_types::NodeName) -> Result<(), metacluster_erl::CallError> {
    /// let numbers: Vec<u8> = node.erpc_as(&shop, "lists", "seq", &(1, 3), Duration::from_secs(5)).await?;
    /// assert_eq!(numbers, [1, 2, 3]);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As [`Node::erpc`]; [`CallError::BadAnswer`] when the result is not of that type.
    pub async fn erpc_as<T: DeserializeOwned>(
        &self,
        node: &NodeName,
        module: &str,
        function: &str,
        args: &(impl Serialize + Sync + ?Sized),
        timeout: Duration,
    ) -> Result<T, CallError> {
        read(self.erpc(node, module, function, arguments(args)?, timeout).await?)
    }
}

fn arguments(args: &(impl Serialize + ?Sized)) -> Result<Vec<Term>, CallError> {
    let args = to_term(args).map_err(CallError::BadRequest)?;
    if let Term::Tuple(items) | Term::List(items) = args {
        return Ok(items);
    }
    let fault = Fault::Mismatch(format!("arguments are a tuple or a list, not {args}"));
    Err(CallError::BadRequest(fault.into()))
}

fn read<T: DeserializeOwned>(answer: Term) -> Result<T, CallError> {
    from_term(&answer).map_err(|error| CallError::BadAnswer { error, answer: answer.clone() })
}
