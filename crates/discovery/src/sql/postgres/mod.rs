//! A connection to PostgreSQL: statements whose answers are text, and notifications.
//!
//! Statements go by the simple protocol, so that a pooler between us and the server does no harm. `LISTEN` does not work
//! through a pooler that lends a server connection for a transaction at a time (PgBouncer's `pool_mode = transaction`):
//! [`Link::listen`] finds out whether what one connection says reaches the other.

mod binding;
mod reason;
mod stream;
mod url;

use std::{future::poll_fn, net::SocketAddr, pin::Pin, sync::Arc};

use futures_core::Stream as _;
use rustls::pki_types::ServerName;
use tokio::{
    net::{TcpStream, UnixStream, lookup_host},
    sync::{mpsc, oneshot},
    task::JoinSet,
    time::{Duration, timeout},
};
use tokio_postgres::{
    AsyncMessage, Client, Connection, SimpleQueryMessage,
    config::{Host, SslMode, TargetSessionAttrs},
};

use self::{
    reason::Asked,
    stream::{Budget, Counted, Secured, Tls},
    url::Server,
};
pub(super) use self::{reason::Purpose, url::Target};
use super::{error::SqlError, row::Table};

/// How long one server may take for the connection, TLS and the password, unless the address has a `connect_timeout`.
const CONNECT_WITHIN: Duration = Duration::from_secs(5);
/// How many notifications may wait. Those beyond are dropped: a change leads to one look-up however often it is told,
/// and a heartbeat is told again.
const HEARD_MAX: usize = 1024;
/// How long a notification of ours may take to come back to us, before a pooler is held to swallow it.
const PROBE_WITHIN: Duration = Duration::from_secs(2);
/// How many rows an answer may have.
const ROWS_MAX: usize = 20_000;

/// A notification.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Notified {
    pub(super) channel: String,
    pub(super) payload: String,
}

/// A connection. Dropping it closes it.
pub(super) struct Link {
    at: String,
    user: String,
    client: Client,
    budget: Budget,
    heard: mpsc::Receiver<Notified>,
    ended: oneshot::Receiver<SqlError>,
    /// The port at our end, by which a pooler is told from the server.
    local_port: Option<u16>,
    _driver: JoinSet<()>,
}

impl Link {
    /// Connects to the first server of the address that will have us.
    pub(super) async fn open(target: &Target) -> Result<Self, SqlError> {
        let config = target.config()?;
        let within = config.get_connect_timeout().copied().unwrap_or(CONNECT_WITHIN);
        let mut first = None;
        for server in &target.servers {
            let opened = match timeout(within, Self::open_one(target, &config, server)).await {
                Ok(Ok(link)) => link.of_the_kind(config.get_target_session_attrs(), within).await,
                Ok(Err(error)) => Err(error),
                Err(_) => {
                    let what = format!("no answer within {}", metacluster_types::time::format_duration(within));
                    Err(SqlError::Unreachable { at: server.at(), what })
                }
            };
            match opened {
                Ok(link) => return Ok(link),
                Err(error) => first = first.or(Some(error)),
            }
        }
        Err(first.unwrap_or_else(|| SqlError::Url("names no host".to_owned())))
    }

    async fn open_one(target: &Target, config: &tokio_postgres::Config, server: &Server) -> Result<Self, SqlError> {
        let (at, user) = (server.at(), target.user());
        let budget = Budget::full();
        let mut config = config.clone();
        let (stream, local_port, name) = match &server.host {
            Host::Unix(_) => {
                // As libpq does: a socket of this machine needs no TLS.
                config.ssl_mode(SslMode::Disable);
                let stream = UnixStream::connect(&at).await.map_err(|error| unreachable(&at, &error))?;
                (Counted::new(stream, budget.clone()), None, "localhost".to_owned())
            }
            Host::Tcp(host) => {
                let stream = connect_tcp(server, host).await.map_err(|error| unreachable(&at, &error))?;
                let local_port = stream.local_addr().ok().map(|address| address.port());
                (Counted::new(stream, budget.clone()), local_port, host.clone())
            }
        };
        let tls = Tls {
            config: Arc::new(if config.get_ssl_mode() == SslMode::Disable {
                crate::tls::unused_config()?
            } else {
                target.files.client_config_that_checks(target.check)?
            }),
            name: ServerName::try_from(name)
                .map_err(|error| SqlError::Tls { at: at.clone(), what: error.to_string() })?,
        };
        let asked = Asked { at: &at, user: &user, purpose: Purpose::Query };
        let (client, connection) = config.connect_raw(stream, tls).await.map_err(|error| asked.explain(&error))?;
        let (words, heard) = mpsc::channel(HEARD_MAX);
        let (end, ended) = oneshot::channel();
        let mut driver = JoinSet::new();
        driver.spawn(drive(connection, words, end, at.clone(), user.clone()));
        Ok(Self { at, user, client, budget, heard, ended, local_port, _driver: driver })
    }

    /// Holds the server against `target_session_attrs`.
    async fn of_the_kind(mut self, wanted: TargetSessionAttrs, within: Duration) -> Result<Self, SqlError> {
        if wanted == TargetSessionAttrs::Any {
            return Ok(self);
        }
        let wants_writes = wanted == TargetSessionAttrs::ReadWrite;
        let read_only = self.ask("SHOW transaction_read_only", Purpose::Query, within).await?;
        let takes_writes = read_only.rows.first().and_then(|row| row.first()) == Some(&Some("off".to_owned()));
        if takes_writes == wants_writes { Ok(self) } else { Err(SqlError::WrongKind { at: self.at }) }
    }

    /// The server, as it stands in messages.
    pub(super) fn at(&self) -> &str {
        &self.at
    }

    /// Runs statements and gives the rows of the last that has any.
    pub(super) async fn ask(
        &mut self,
        statements: &str,
        purpose: Purpose<'_>,
        within: Duration,
    ) -> Result<Table, SqlError> {
        self.budget.refill();
        match timeout(within, self.answer(statements, purpose)).await {
            Ok(answer) => answer,
            Err(_) => Err(SqlError::Slow { at: format!("PostgreSQL at {}", self.at), within }),
        }
    }

    async fn answer(&mut self, statements: &str, purpose: Purpose<'_>) -> Result<Table, SqlError> {
        let asked = Asked { at: &self.at, user: &self.user, purpose };
        let explain = |error: &tokio_postgres::Error| {
            if self.budget.is_spent() {
                return SqlError::TooMuch {
                    max: format!("{} MiB from PostgreSQL at {}", stream::BYTES_MAX >> 20, self.at),
                };
            }
            asked.explain(error)
        };
        let rows = self.client.simple_query_raw(statements).await.map_err(|error| explain(&error))?;
        let mut rows = Box::pin(rows);
        let mut answer = Table::default();
        while let Some(message) = poll_fn(|cx| Pin::new(&mut rows).poll_next(cx)).await {
            let message = message.map_err(|error| explain(&error))?;
            if let SimpleQueryMessage::RowDescription(columns) = message {
                answer.columns = columns.iter().map(|column| column.name().to_owned()).collect();
                answer.rows.clear();
            } else if let SimpleQueryMessage::Row(row) = message {
                if answer.rows.len() == ROWS_MAX {
                    return Err(SqlError::TooMuch { max: format!("{ROWS_MAX} rows") });
                }
                let value = |at| row.try_get(at).ok().flatten().map(ToOwned::to_owned);
                answer.rows.push((0..row.len()).map(value).collect());
            }
        }
        Ok(answer)
    }

    /// The next notification.
    pub(super) async fn hear(&mut self) -> Result<Notified, SqlError> {
        tokio::select! {
            biased;
            Some(notified) = self.heard.recv() => {
                self.budget.refill();
                Ok(notified)
            }
            ended = &mut self.ended => Err(ended.unwrap_or_else(|_| self.closed())),
            else => Err(self.closed()),
        }
    }

    /// The notifications that are here already.
    pub(super) fn hear_now(&mut self) -> Option<Notified> {
        self.heard.try_recv().ok()
    }

    fn closed(&self) -> SqlError {
        SqlError::Closed { at: self.at.clone(), what: "it is gone".to_owned() }
    }

    /// Listens on a channel. `Ok(false)` says that the server takes it and what is told there does not come through.
    pub(super) async fn listen(&mut self, channel: &str, target: &Target, within: Duration) -> Result<bool, SqlError> {
        self.ask(&format!("LISTEN {}", identifier(channel)), Purpose::Query, within).await?;
        let port = self.ask("SELECT inet_client_port()", Purpose::Query, within).await?;
        let port =
            port.rows.first().and_then(|row| row.first()).and_then(Option::as_deref).and_then(|port| port.parse().ok());
        if self.local_port.is_some() && self.local_port == port {
            return Ok(true);
        }
        // Someone stands between, be it a pooler or an address translation. What another connection says has to come
        // through while this one is at rest.
        let mut other = Self::open(target).await?;
        let probe = format!("{PROBE}{:016x}", rand::random::<u64>());
        let notify = format!("SELECT pg_notify({}, '{probe}')", super::table::Flavour::Postgres.quote(channel));
        other.ask(&notify, Purpose::Query, within).await?;
        let comes = async {
            loop {
                match self.hear().await {
                    Ok(notified) if notified.payload == probe => return Ok(true),
                    Ok(_) => {}
                    Err(error) => return Err(error),
                }
            }
        };
        let comes = timeout(PROBE_WITHIN, comes).await.unwrap_or(Ok(false))?;
        if !comes {
            self.ask("UNLISTEN *", Purpose::Query, within).await?;
        }
        Ok(comes)
    }
}

/// What a probe's payload begins with. Nobody takes it for a node: it has no `@`.
pub(super) const PROBE: &str = "metacluster-probe-";

/// A name as it stands in a statement.
pub(super) fn identifier(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

fn unreachable(at: &str, error: &std::io::Error) -> SqlError {
    let what = if error.kind() == std::io::ErrorKind::ConnectionRefused {
        "it refuses the connection; is the server up?".to_owned()
    } else {
        error.to_string()
    };
    SqlError::Unreachable { at: at.to_owned(), what }
}

async fn connect_tcp(server: &Server, host: &str) -> std::io::Result<TcpStream> {
    let addresses: Vec<SocketAddr> = match server.address {
        Some(address) => vec![SocketAddr::new(address, server.port)],
        None => lookup_host((host, server.port)).await?.collect(),
    };
    let mut last = std::io::Error::new(std::io::ErrorKind::NotFound, "the name has no address");
    for address in addresses {
        match TcpStream::connect(address).await {
            Ok(stream) => {
                stream.set_nodelay(true)?;
                return Ok(stream);
            }
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// Moves the bytes of a connection and hands on its notifications, until it ends.
async fn drive(
    mut connection: Connection<Counted, Secured>,
    words: mpsc::Sender<Notified>,
    end: oneshot::Sender<SqlError>,
    at: String,
    user: String,
) {
    let why = loop {
        match poll_fn(|cx| connection.poll_message(cx)).await {
            Some(Ok(AsyncMessage::Notification(said))) => {
                let notified = Notified { channel: said.channel().to_owned(), payload: said.payload().to_owned() };
                // Full or without a reader: the bound says what that means.
                words.try_send(notified).ok();
            }
            Some(Ok(_)) => {}
            Some(Err(error)) => break Asked { at: &at, user: &user, purpose: Purpose::Query }.explain(&error),
            None => break SqlError::Closed { at, what: "it is gone".to_owned() },
        }
    };
    end.send(why).ok();
}
