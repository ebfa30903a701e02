//! A node in one expression: name, cookie, options, a listener and its registration.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
    time::Duration,
};

use metacluster_erl_wire::{Term, epmd::NodeType};
use metacluster_types::{Cookie, NameError, NodeName};

use super::{
    Node,
    error::Exception,
    functions::{BadFunctionName, Functions, Started},
    options::NodeOptions,
    reach::epmd_port,
    tls::Tls,
};
use crate::epmd::{EpmdError, Registered, Registration, register};

/// The wait before a lost registration is made anew, as OTP's.
const REGISTER_AGAIN: Duration = Duration::from_secs(2);

/// Makes a [`Node`]; see [`Node::builder`].
#[derive(Clone)]
#[must_use = "it makes nothing before `start`"]
pub struct NodeBuilder {
    name: String,
    cookie: Option<Cookie>,
    hidden: bool,
    tls: Option<Tls>,
    functions: Result<Functions, BadFunctionName>,
    tick_interval: Option<Duration>,
    listen: Option<SocketAddr>,
    epmd: Option<SocketAddr>,
}

/// Why a node did not start. Nothing runs then.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The name is none.
    #[error("`{name}` is no name of a node: {error}")]
    BadName {
        /// What was given.
        name: String,
        /// What is wrong with it.
        error: NameError,
    },
    /// The name of a function is none.
    #[error(transparent)]
    BadFunction(#[from] BadFunctionName),
    /// No cookie was given, and there is no file with one.
    #[error("no cookie: none was given, and {} cannot be read: {error}", .file.display())]
    NoCookie {
        /// Where one was looked for.
        file: PathBuf,
        /// Why it was not read.
        error: io::Error,
    },
    /// The address cannot be listened on.
    #[error("cannot listen on {address}: {error}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Why.
        error: io::Error,
    },
    /// The epmd does not take the node in: there is none, or a node of that name runs.
    #[error(transparent)]
    Register(#[from] EpmdError),
}

impl Node {
    /// Makes a node step by step. It is hidden, speaks plain TCP, and dials only, unless told otherwise.
    ///
    /// ```
    /// use metacluster_erl::{Node, epmd::{Server, ServerOptions}};
    ///
    /// # async fn run() -> Result<(), Box<dyn std::error::Error>> {
    /// // An epmd of our own; on a host with BEAM nodes there is one already.
    /// let epmd = Server::bind(ServerOptions::loopback(0)).await?;
    /// let port = epmd.addresses()[0].port();
    ///
    /// let shop = Node::builder("shop@127.0.0.1").cookie("secret").epmd(epmd.addresses()[0]);
    /// let shop = shop.listen("127.0.0.1:0".parse()?).start().await?;
    ///
    /// let till = Node::builder("till@127.0.0.1").cookie("secret").start().await?;
    /// let peer = till.reach_through(shop.name(), port).await?;
    /// assert_eq!(&peer.name, shop.name());
    /// # Ok(())
    /// # }
    /// # tokio::runtime::Runtime::new().unwrap().block_on(run()).unwrap();
    /// ```
    pub fn builder(name: &str) -> NodeBuilder {
        NodeBuilder {
            name: name.to_owned(),
            cookie: None,
            hidden: true,
            tls: None,
            functions: Ok(Functions::default()),
            tick_interval: None,
            listen: None,
            epmd: None,
        }
    }
}

impl NodeBuilder {
    /// The cookie. Default: the first line of `~/.erlang.cookie`, as `erl` has it.
    pub fn cookie(mut self, cookie: &str) -> Self {
        self.cookie = Some(Cookie::new(cookie));
        self
    }

    /// Makes the node one that is in `nodes()` of its peers and is asked for a part in `global`. A Rust program takes no
    /// part in that, so hidden is right for most.
    pub fn visible(mut self) -> Self {
        self.hidden = false;
        self
    }

    /// Speaks TLS on every connection, as `-proto_dist inet_tls`.
    pub fn tls(mut self, tls: Tls) -> Self {
        self.tls = Some(tls);
        self
    }

    /// Lets peers start `name`, which is `module:function/arity`; see [`Functions::allow`].
    pub fn function<F, O>(mut self, name: &str, function: F) -> Self
    where
        F: Fn(Started) -> O + Send + Sync + 'static,
        O: Future<Output = Result<Term, Box<Exception>>> + Send + 'static,
    {
        self.functions = self.functions.and_then(|functions| functions.allow(name, function));
        self
    }

    /// A quarter of the cluster's `net_ticktime`. Default 15 s.
    pub fn tick_interval(mut self, interval: Duration) -> Self {
        self.tick_interval = Some(interval);
        self
    }

    /// Listens for peers on this address (port 0 for any), and registers with the epmd so that BEAM nodes can dial.
    /// Without this the node dials only.
    pub fn listen(mut self, address: SocketAddr) -> Self {
        self.listen = Some(address);
        self
    }

    /// The epmd to register with. Default: that of this host, on `ERL_EPMD_PORT` or 4369.
    pub fn epmd(mut self, address: SocketAddr) -> Self {
        self.epmd = Some(address);
        self
    }

    /// Starts the node.
    ///
    /// # Errors
    /// When a setting is none, the address is taken, or the epmd does not take the node in.
    pub async fn start(self) -> Result<Node, StartError> {
        let name = NodeName::new(&self.name).map_err(|error| StartError::BadName { name: self.name.clone(), error })?;
        let cookie = match self.cookie {
            Some(cookie) => cookie,
            None => own_cookie()?,
        };
        let mut options = NodeOptions::new(name, cookie);
        options.hidden = self.hidden;
        options.tls = self.tls;
        options.functions = self.functions?;
        if let Some(interval) = self.tick_interval {
            options.tick_interval = interval;
        }
        let node = Node::start(options);
        let Some(listen) = self.listen else { return Ok(node) };
        let listening = node.listen(listen).await;
        let address = listening.map_err(|error| StartError::Listen { address: listen, error })?;
        let epmd = self.epmd.unwrap_or_else(|| (Ipv4Addr::LOCALHOST, epmd_port()).into());
        let kind = if self.hidden { NodeType::Hidden } else { NodeType::Normal };
        let registration = Registration::new(node.name().basename(), address.port(), kind);
        match register(epmd, registration.clone()).await {
            Ok(registered) => node.run(stay_registered(epmd, registration, registered)),
            Err(error) => {
                node.shutdown().await;
                return Err(error.into());
            }
        }
        Ok(node)
    }
}

/// Holds the registration, and makes it anew when the epmd was restarted, for as long as the node lives.
async fn stay_registered(epmd: SocketAddr, registration: Registration, mut registered: Registered) {
    loop {
        registered.closed().await;
        tracing::warn!(%epmd, name = registration.name, "the epmd has gone; the node registers again");
        registered = loop {
            tokio::time::sleep(REGISTER_AGAIN).await;
            match register(epmd, registration.clone()).await {
                Ok(registered) => break registered,
                Err(error) => tracing::debug!(%error, "not registered yet"),
            }
        };
    }
}

fn own_cookie() -> Result<Cookie, StartError> {
    let file = std::env::home_dir().unwrap_or_default().join(".erlang.cookie");
    match std::fs::read_to_string(&file) {
        Ok(text) => Ok(Cookie::new(&text)),
        Err(error) => Err(StartError::NoCookie { file, error }),
    }
}
