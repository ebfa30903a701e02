//! The JSON gateway of etcd's third API: requests to whichever endpoint answers, with a token where users are wanted.
//!
//! Follows *etcd3 API* and *gRPC gateway* of etcd's documentation (`/v3/…`, as etcd 3.4 and later have it). Keys and values
//! are base64, 64-bit numbers are texts.

use std::{
    path::PathBuf,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use metacluster_types::Secret;
use serde_json::{Value, json};
use tokio::time::Duration;

use super::error::EtcdError;
use crate::{
    http::{Answer, Client, HttpError, Request, Streamed},
    settings::read_secret,
    tls::TlsFiles,
};

/// Who asks.
#[derive(Clone)]
pub(super) struct User {
    pub(super) name: String,
    pub(super) password: Password,
}

/// Where the password is. A file is read for each authentication, so it may change.
#[derive(Clone)]
pub(super) enum Password {
    Given(Secret),
    File(PathBuf),
}

/// The client of one topology.
pub(super) struct Gateway {
    client: Client,
    endpoints: Vec<String>,
    /// The endpoint that is asked first.
    current: AtomicUsize,
    user: Option<User>,
    token: Mutex<Option<String>>,
    within: Duration,
    /// What the keys begin with, for the right that may be missing.
    prefix: String,
}

/// What a request gave.
enum Reply {
    Whole(Answer),
    Streamed(Box<Streamed>),
}

impl Gateway {
    pub(super) fn new(
        files: TlsFiles,
        endpoints: Vec<String>,
        user: Option<User>,
        within: Duration,
        prefix: String,
    ) -> Self {
        let endpoints = endpoints.into_iter().map(|url| url.trim_end_matches('/').to_owned()).collect();
        let (current, token) = (AtomicUsize::new(0), Mutex::new(None));
        Self { client: Client::new(files), endpoints, current, user, token, within, prefix }
    }

    /// Asks and gives the answer's object. Endpoints that cannot be reached are passed over, each asked once.
    pub(super) async fn ask(&self, path: &str, body: &Value) -> Result<Value, EtcdError> {
        let Reply::Whole(answer) = self.try_all(path, body, false).await? else {
            return Err(EtcdError::Garbage { what: "a stream, by a fault of metacluster".to_owned() });
        };
        let value: Value = serde_json::from_slice(&answer.body)
            .map_err(|error| EtcdError::Garbage { what: format!("{path}: {error}") })?;
        // A stream of one answer, as a keep-alive's, has it in an envelope.
        match value.get("error") {
            Some(error) => Err(self.sort_message(&message(error).unwrap_or_default())),
            None => Ok(value.get("result").cloned().unwrap_or(value)),
        }
    }

    /// Opens a stream of answers, one a line.
    pub(super) async fn open(&self, path: &str, body: &Value) -> Result<Streamed, EtcdError> {
        match self.try_all(path, body, true).await? {
            Reply::Streamed(stream) => Ok(*stream),
            Reply::Whole(_) => Err(EtcdError::Garbage { what: "no stream, by a fault of metacluster".to_owned() }),
        }
    }

    /// Whom the last request went to.
    pub(super) fn at(&self) -> &str {
        let current = self.current.load(Ordering::Relaxed);
        &self.endpoints[current % self.endpoints.len()]
    }

    /// Asks another endpoint first from now on.
    pub(super) fn turn(&self) {
        self.current.fetch_add(1, Ordering::Relaxed);
    }

    async fn try_all(&self, path: &str, body: &Value, streams: bool) -> Result<Reply, EtcdError> {
        let mut error = None;
        for _ in 0..self.endpoints.len() {
            match self.try_one(path, body, streams).await {
                Err(unreachable @ EtcdError::Http(_)) => {
                    self.turn();
                    error = error.or(Some(unreachable));
                }
                answered => return answered,
            }
        }
        Err(error.unwrap_or(EtcdError::Garbage { what: "there is no endpoint".to_owned() }))
    }

    /// Asks the present endpoint, once more with a new token if the old one has run out.
    async fn try_one(&self, path: &str, body: &Value, streams: bool) -> Result<Reply, EtcdError> {
        let mut fresh = false;
        loop {
            let mut request = self.request(path, body);
            if self.user.is_some() {
                let token = match self.token() {
                    Some(token) => token,
                    None => {
                        fresh = true;
                        self.authenticate().await?
                    }
                };
                if !token.is_empty() {
                    request = request.header("authorization", &token);
                }
            }
            match self.send(request, streams).await.map_err(|error| self.sort(error)) {
                Err(EtcdError::Token) if !fresh => self.set_token(None),
                answered => return answered,
            }
        }
    }

    async fn send(&self, request: Request, streams: bool) -> Result<Reply, HttpError> {
        if streams {
            return self.client.open(request).await.map(|stream| Reply::Streamed(Box::new(stream)));
        }
        self.client.send(request).await?.success().map(Reply::Whole)
    }

    fn request(&self, path: &str, body: &Value) -> Request {
        Request::post(&format!("{}{path}", self.at()), body.to_string()).within(self.within)
    }

    fn token(&self) -> Option<String> {
        self.token.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set_token(&self, token: Option<String>) {
        *self.token.lock().unwrap_or_else(PoisonError::into_inner) = token;
    }

    /// Gets a token. It is empty where the server wants no users.
    async fn authenticate(&self) -> Result<String, EtcdError> {
        let Some(user) = &self.user else { return Ok(String::new()) };
        let password = match &user.password {
            Password::Given(secret) => secret.clone(),
            Password::File(path) => read_secret(path).map_err(EtcdError::Password)?,
        };
        let body = json!({ "name": user.name, "password": String::from_utf8_lossy(password.reveal()) });
        let answer = self.client.send(self.request("/v3/auth/authenticate", &body)).await;
        let token = match answer.and_then(Answer::success).map_err(|error| self.sort(error)) {
            Ok(answer) => {
                let value: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
                let token = value.get("token").and_then(Value::as_str);
                token.ok_or_else(|| EtcdError::Garbage { what: "no token".to_owned() })?.to_owned()
            }
            // Not kept: the server may want users from the next request on.
            Err(EtcdError::NoUsersWanted) => return Ok(String::new()),
            Err(error) => return Err(error),
        };
        self.set_token(Some(token.clone()));
        Ok(token)
    }

    fn sort(&self, error: HttpError) -> EtcdError {
        let HttpError::Status { excerpt, .. } = &error else { return EtcdError::Http(error) };
        let sorted = self.sort_message(excerpt);
        // A gateway without its server, or a server that is not etcd.
        let not_etcd = excerpt.contains("\"code\":14") || !excerpt.contains("etcdserver");
        if not_etcd && matches!(sorted, EtcdError::Said { .. }) { EtcdError::Http(error) } else { sorted }
    }

    /// Sorts what etcd itself says. The texts are those of its `rpctypes`.
    pub(super) fn sort_message(&self, text: &str) -> EtcdError {
        let user = || self.user.as_ref().map_or_else(|| "nobody".to_owned(), |user| user.name.clone());
        if text.contains("permission denied") {
            EtcdError::Right { at: self.at().to_owned(), user: user(), prefix: self.prefix.clone() }
        } else if text.contains("user name is empty") {
            EtcdError::WantsUser { at: self.at().to_owned() }
        } else if text.contains("invalid user ID or password") {
            EtcdError::Refused { at: self.at().to_owned(), user: user() }
        } else if text.contains("authentication is not enabled") {
            EtcdError::NoUsersWanted
        } else if text.contains("invalid auth token") || text.contains("revision of auth store is old") {
            EtcdError::Token
        } else if text.contains("requested lease not found") {
            EtcdError::LeaseGone
        } else {
            let what = message(&serde_json::from_str(text).unwrap_or_default()).unwrap_or_else(|| text.to_owned());
            EtcdError::Said { at: self.at().to_owned(), what }
        }
    }
}

/// The text of an error, whose shape differs between versions.
fn message(error: &Value) -> Option<String> {
    let text = error.as_str().or_else(|| error.get("message").and_then(Value::as_str));
    text.or_else(|| error.get("error").and_then(Value::as_str)).map(ToOwned::to_owned)
}

/// Bytes as the gateway has them.
pub(super) fn encode(bytes: &[u8]) -> String {
    STANDARD.encode(bytes)
}

/// The bytes of a field, none if it is left out.
pub(super) fn decode(value: Option<&Value>) -> Option<Vec<u8>> {
    match value {
        None => Some(Vec::new()),
        Some(value) => STANDARD.decode(value.as_str()?).ok(),
    }
}

/// A 64-bit number, as a text or a number; 0 if it is left out.
pub(super) fn number(value: Option<&Value>) -> i64 {
    let value = value.unwrap_or(&Value::Null);
    value.as_i64().or_else(|| value.as_str()?.parse().ok()).unwrap_or(0)
}

/// The end of the range of all keys that begin so: the prefix with its last byte one more.
pub(super) fn range_end(prefix: &[u8]) -> Vec<u8> {
    let mut end = prefix.to_vec();
    while let Some(last) = end.pop() {
        if last < u8::MAX {
            end.push(last + 1);
            return end;
        }
    }
    vec![0]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_ends_after_its_prefix() {
        for (prefix, end) in [(&b"/a/"[..], &b"/a0"[..]), (b"a\xff", b"b"), (b"\xff\xff", b"\0"), (b"", b"\0")] {
            assert_eq!(range_end(prefix), end);
        }
    }

    #[test]
    fn numbers_are_texts_or_numbers_and_nothing_is_zero() {
        let value = json!({ "a": "7587850966868271111", "b": 5, "c": "x" });
        let read = |key: &str| number(value.get(key));
        assert_eq!((read("a"), read("b"), read("c"), read("d")), (7_587_850_966_868_271_111, 5, 0, 0));
        assert_eq!(decode(Some(&json!("aGk="))).as_deref(), Some(&b"hi"[..]));
        assert_eq!(decode(Some(&json!("!"))), None);
    }
}
