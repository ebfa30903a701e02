//! An API that a test plays itself: it gets each request and says what the answer is, step by step.
//!
//! It plays what kmock does not know: versions, pages, bookmarks, 410, answers that break off.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    pin::Pin,
    task::{Context, Poll},
};

use axum::{
    Router,
    body::{Body, Bytes},
    extract::{Request, State},
    response::Response,
};
use hyper::body::{Body as HyperBody, Frame};
use metacluster_discovery::trial::PATIENCE;
use serde_json::Value;
use tokio::{
    net::TcpListener,
    sync::{mpsc, oneshot},
    time::timeout,
};

use crate::status;

/// The server.
pub(crate) struct Script {
    asks: mpsc::Receiver<Ask>,
    folder: tempfile::TempDir,
    server: tokio::task::JoinHandle<()>,
}

impl Drop for Script {
    fn drop(&mut self) {
        self.server.abort();
    }
}

impl Script {
    pub(crate) async fn start() -> Self {
        let (sender, asks) = mpsc::channel(64);
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let port = listener.local_addr().expect("an address").port();
        let app = Router::new().fallback(take).with_state(sender);
        let server = tokio::spawn(async move {
            axum::serve(listener, app).await.expect("it serves");
        });
        let folder = tempfile::tempdir().expect("a folder");
        let account = folder.path().display();
        let text = format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: test\n\
             clusters:\n- name: test\n  cluster: {{server: \"http://127.0.0.1:{port}\"}}\n\
             users:\n- name: agent\n  user: {{tokenFile: {account}/token}}\n\
             contexts:\n- name: test\n  context: {{cluster: test, user: agent, namespace: shop}}\n"
        );
        fs::write(folder.path().join("kubeconfig"), text).expect("written");
        let script = Self { asks, folder, server };
        script.write_token("token-1");
        script
    }

    pub(crate) fn write_token(&self, token: &str) {
        fs::write(self.folder().join("token"), token).expect("written");
    }

    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn kubeconfig(&self) -> PathBuf {
        self.folder().join("kubeconfig")
    }

    /// A spec whose requests come here.
    pub(crate) fn spec(&self, rest: &str) -> String {
        format!("kubernetes:kubeconfig={},basename=shop,node_labels=false,{rest}", self.kubeconfig().display())
    }

    /// The next request.
    pub(crate) async fn next(&mut self) -> Ask {
        timeout(PATIENCE, self.asks.recv()).await.expect("a request in time").expect("the server runs")
    }

    /// The next request, which must be for a page of a list.
    pub(crate) async fn list(&mut self) -> Ask {
        let ask = self.next().await;
        assert!(!ask.is_watch(), "a list was awaited: {}", ask.path);
        ask
    }

    /// The next request, which must be for a watch from this version on.
    pub(crate) async fn watch(&mut self, from: &str) -> Ask {
        let ask = self.next().await;
        assert!(ask.is_watch(), "a watch was awaited: {}", ask.path);
        assert_eq!(ask.query.get("resourceVersion").map(String::as_str), Some(from));
        assert_eq!(ask.query["allowWatchBookmarks"], "true");
        ask
    }
}

/// One request that waits for its answer.
pub(crate) struct Ask {
    pub(crate) path: String,
    pub(crate) query: BTreeMap<String, String>,
    pub(crate) token: String,
    answer: oneshot::Sender<Response>,
}

async fn take(State(asks): State<mpsc::Sender<Ask>>, request: Request) -> Response {
    let (answer, answered) = oneshot::channel();
    let header = request.headers().get("authorization").and_then(|it| it.to_str().ok()).unwrap_or_default();
    let query = request.uri().query().unwrap_or_default().split('&').filter_map(|pair| pair.split_once('='));
    let ask = Ask {
        path: request.uri().path().to_owned(),
        query: query.map(|(name, value)| (name.to_owned(), value.to_owned())).collect(),
        token: header.trim_start_matches("Bearer ").to_owned(),
        answer,
    };
    if asks.send(ask).await.is_err() {
        return Response::new(Body::empty());
    }
    match answered.await {
        Ok(response) => response,
        // The test threw the request away: it hangs until the client gives up.
        Err(_) => std::future::pending().await,
    }
}

impl Ask {
    pub(crate) fn is_watch(&self) -> bool {
        self.query.get("watch").is_some_and(|value| value == "true")
    }

    /// Answers 200.
    pub(crate) fn json(self, body: &Value) {
        self.raw(body.to_string());
    }

    /// Answers 200 with any bytes.
    pub(crate) fn raw(self, body: impl Into<Body>) {
        self.response(Response::new(body.into()));
    }

    /// Answers with a refusal.
    pub(crate) fn refuse(self, code: u16, reason: &str, message: &str) {
        self.refuse_with(code, reason, message, &[]);
    }

    /// Answers with a refusal and headers.
    pub(crate) fn refuse_with(self, code: u16, reason: &str, message: &str, headers: &[(&'static str, &'static str)]) {
        let mut response = Response::new(Body::from(status(code, reason, message).to_string()));
        *response.status_mut() = axum::http::StatusCode::from_u16(code).expect("a status");
        for &(name, value) in headers {
            response.headers_mut().insert(name, value.parse().expect("a value"));
        }
        self.response(response);
    }

    /// Begins an answer that goes on.
    pub(crate) fn stream(self) -> Live {
        let (parts, frames) = mpsc::channel(64);
        self.raw(Body::new(Frames(frames)));
        Live { parts }
    }

    fn response(self, response: Response) {
        // A client that has gone in the meantime is what some tests want.
        drop(self.answer.send(response));
    }
}

/// An answer that goes on. Dropping it ends it in good order.
pub(crate) struct Live {
    parts: mpsc::Sender<Result<Bytes, std::io::Error>>,
}

impl Live {
    pub(crate) async fn event(&self, event: &Value) {
        self.raw(format!("{event}\n")).await;
    }

    pub(crate) async fn raw(&self, bytes: impl Into<Bytes>) {
        self.parts.send(Ok(bytes.into())).await.expect("the client reads");
    }

    /// Breaks the connection.
    pub(crate) async fn cut(self) {
        self.parts.send(Err(std::io::Error::other("cut"))).await.expect("the client reads");
    }
}

struct Frames(mpsc::Receiver<Result<Bytes, std::io::Error>>);

impl HyperBody for Frames {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, std::io::Error>>> {
        self.0.poll_recv(context).map(|part| part.map(|part| part.map(Frame::data)))
    }
}
