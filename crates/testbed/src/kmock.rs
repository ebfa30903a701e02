//! A Kubernetes API on this machine: kmock's emulator over TLS, with its objects, credentials and rights in our hands.
//!
//! kmock knows lists and real watch streams, and no versions, pages, bookmarks or selectors.

use std::{
    fs,
    io::{BufRead as _, BufReader, Write as _},
    net::{IpAddr, Ipv4Addr},
    path::{Path, PathBuf},
    process::{ChildStdin, ChildStdout, Stdio},
    sync::{Mutex, PoisonError},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, SanType};
use serde_json::{Value, json};

use crate::{Child, Host, Tool, child::tied, eventually};

const SCRIPT: &str = include_str!("../scripts/kmock.py");
/// The token that the API takes to begin with.
const TOKEN: &str = "token-1";

/// An API of its own, empty. It ends with this guard.
#[derive(Debug)]
pub struct Kmock {
    child: Child,
    talk: Mutex<(ChildStdin, BufReader<ChildStdout>)>,
    address: IpAddr,
    port: u16,
    folder: tempfile::TempDir,
}

impl Kmock {
    /// One on a free port of the loopback interface. [`Tool::Kmock`] must be there.
    pub fn start() -> Result<Self> {
        Self::begin(Ipv4Addr::LOCALHOST.into(), 0, None, tempfile::tempdir()?)
    }

    /// One on a host's own address, for agents of every host of its network.
    pub fn start_on(host: &Host) -> Result<Self> {
        Self::begin(host.address().into(), 6443, Some(host), tempfile::tempdir()?)
    }

    /// Kills it and starts another at the same place, of the same certificate authority, and empty.
    pub fn restart(self) -> Result<Self> {
        let Self { child, talk, address, port, folder } = self;
        drop((child, talk));
        Self::begin(address, port, None, folder)
    }

    fn begin(address: IpAddr, port: u16, on: Option<&Host>, folder: tempfile::TempDir) -> Result<Self> {
        let python = Tool::Kmock.python().context("kmock is a Python program")?.program("python")?;
        let files = Files { folder: folder.path(), address };
        if !files.authority().exists() {
            files.make_authority("ca")?;
            files.make_certificate("ca")?;
        }
        // Not under its own name, which is that of the package it imports.
        let script = folder.path().join("serve.py");
        fs::write(&script, SCRIPT)?;
        let mut command = match on {
            Some(host) => host.command(python),
            None => tied(python.to_str().context("a path of letters")?),
        };
        command.arg(&script).arg(files.path("server.pem")).arg(files.path("server.key"));
        command.args([address.to_string(), port.to_string()]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(fs::File::create(files.path("log"))?);
        let mut child = Child::spawn(&mut command, "kmock")?;
        let talk = (child.take_stdin().context("an input")?, BufReader::new(child.take_stdout().context("an output")?));
        fs::write(files.path("namespace"), "shop")?;
        let mut kmock = Self { child, talk: Mutex::new(talk), address, port, folder };
        let line = kmock.talk(None)?;
        kmock.port = line.trim().strip_prefix("listening ").with_context(|| line.clone())?.parse()?;
        kmock.rotate_token(TOKEN)?;
        Ok(kmock)
    }

    /// Where it listens.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The environment of a program in a pod of the namespace `shop`, but for the folder of its service account.
    #[must_use]
    pub fn environment(&self) -> [(&'static str, String); 2] {
        [("KUBERNETES_SERVICE_HOST", self.address.to_string()), ("KUBERNETES_SERVICE_PORT", self.port.to_string())]
    }

    /// The folder of the service account: `token`, `ca.crt`, `namespace`.
    #[must_use]
    pub fn account(&self) -> &Path {
        self.folder.path()
    }

    /// A kubeconfig that leads here.
    pub fn kubeconfig(&self) -> Result<PathBuf> {
        let (address, port, account) = (self.address, self.port, self.account().display());
        let path = self.account().join("kubeconfig");
        let text = format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: test\n\
             clusters:\n- name: test\n  cluster:\n    server: https://{address}:{port}\n    certificate-authority: {account}/ca.crt\n\
             users:\n- name: agent\n  user:\n    tokenFile: {account}/token\n\
             contexts:\n- name: test\n  context: {{cluster: test, user: agent, namespace: shop}}\n"
        );
        fs::write(&path, text)?;
        Ok(path)
    }

    /// Puts an object into a collection, such as `/api/v1/namespaces/shop/pods`, be it new or not.
    pub fn apply(&self, collection: &str, object: &Value) -> Result<()> {
        let name = object["metadata"]["name"].as_str().context("an object has a name")?;
        let made = self.ask(&json!({"method": "POST", "path": collection, "body": object}))?;
        if made["status"] == 409 {
            let path = format!("{collection}/{name}");
            let patched = self.ask(&json!({"method": "PATCH", "path": path, "body": object}))?;
            ensure!(patched["status"] == 200, "{patched}");
        } else {
            ensure!(made["status"] == 200, "{made}");
        }
        Ok(())
    }

    /// Deletes an object, at once.
    pub fn delete(&self, collection: &str, name: &str) -> Result<()> {
        let deleted = self.ask(&json!({"method": "DELETE", "path": format!("{collection}/{name}")}))?;
        ensure!(deleted["status"] == 200, "{deleted}");
        Ok(())
    }

    /// Waits until so many watches of a kind, such as `pods`, are open: only then are all changes told.
    pub fn wait_for_watches(&self, kind: &str, count: u64) -> Result<()> {
        let what = format!("{count} watches of {kind}");
        eventually(Duration::from_secs(60), &what, || {
            let watches = self.ask(&json!({"watches": kind})).map_err(|error| error.to_string())?;
            if watches["watches"].as_u64() >= Some(count) { Ok(()) } else { Err(watches.to_string()) }
        })
        .map(drop)
    }

    /// From now on another token counts. It is in the folder of the service account first, as a kubelet does.
    pub fn rotate_token(&self, token: &str) -> Result<()> {
        self.write_token(token)?;
        self.accept_token(token)
    }

    /// From now on another token counts, and nobody has it.
    pub fn accept_token(&self, token: &str) -> Result<()> {
        self.ask(&json!({"accept": token})).map(drop)
    }

    /// Puts a token into the folder of the service account.
    pub fn write_token(&self, token: &str) -> Result<()> {
        let new = self.account().join("token.new");
        fs::write(&new, token)?;
        Ok(fs::rename(new, self.account().join("token"))?)
    }

    /// Forbids the paths that hold a text; an empty one allows all again.
    pub fn forbid(&self, text: &str) -> Result<()> {
        self.ask(&json!({"forbid": text})).map(drop)
    }

    /// Shows connections that come now a certificate of another authority, whose own certificate is not yet in the folder
    /// of the service account: [`Kmock::trust`] puts it there.
    pub fn rotate_authority(&self) -> Result<()> {
        let files = Files { folder: self.folder.path(), address: self.address };
        files.make_authority("next")?;
        files.make_certificate("next")?;
        let pair = [files.path("server.pem"), files.path("server.key")];
        self.ask(&json!({"certificate": pair.map(|path| path.display().to_string())})).map(drop)
    }

    /// Puts the certificate of the new authority into the folder of the service account.
    pub fn trust(&self) -> Result<()> {
        Ok(fs::rename(self.folder.path().join("next.crt"), self.folder.path().join("ca.crt"))?)
    }

    /// Stops it where it is: connections are taken and nothing is answered.
    pub fn pause(&self) -> Result<()> {
        self.child.signal(nix::sys::signal::Signal::SIGSTOP)
    }

    /// Lets it go on.
    pub fn resume(&self) -> Result<()> {
        self.child.signal(nix::sys::signal::Signal::SIGCONT)
    }

    /// What it complained of.
    #[must_use]
    pub fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    fn ask(&self, line: &Value) -> Result<Value> {
        let said = self.talk(Some(line))?;
        serde_json::from_str(&said).with_context(|| said.clone())
    }

    /// Says a line, and gives the next one that it says.
    fn talk(&self, line: Option<&Value>) -> Result<String> {
        let mut talk = self.talk.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(line) = line {
            writeln!(talk.0, "{line}").with_context(|| self.log())?;
            talk.0.flush()?;
        }
        let mut said = String::new();
        talk.1.read_line(&mut said)?;
        ensure!(!said.is_empty(), "kmock has ended: {}", self.log());
        Ok(said)
    }
}

/// The certificates of one API.
struct Files<'a> {
    folder: &'a Path,
    address: IpAddr,
}

impl Files<'_> {
    fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    fn authority(&self) -> PathBuf {
        self.path("ca.crt")
    }

    fn make_authority(&self, name: &str) -> Result<()> {
        let mut params = CertificateParams::new(Vec::new())?;
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate()?;
        fs::write(self.path(&format!("{name}.crt")), params.self_signed(&key)?.pem())?;
        Ok(fs::write(self.path(&format!("{name}.key")), key.serialize_pem())?)
    }

    fn make_certificate(&self, authority: &str) -> Result<()> {
        let key = KeyPair::from_pem(&fs::read_to_string(self.path(&format!("{authority}.key")))?)?;
        let mut root = CertificateParams::new(Vec::new())?;
        root.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = Issuer::new(root, key);
        let mut params = CertificateParams::new(Vec::new())?;
        params.subject_alt_names = vec![SanType::IpAddress(self.address)];
        let key = KeyPair::generate()?;
        fs::write(self.path("server.pem"), params.signed_by(&key, &issuer)?.pem())?;
        Ok(fs::write(self.path("server.key"), key.serialize_pem())?)
    }
}

/// An EndpointSlice as the API has it, of a service, with endpoints as [`endpoint`] makes them.
#[must_use]
pub fn endpoint_slice(namespace: &str, name: &str, service: &str, endpoints: &[Value]) -> Value {
    json!({
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {"name": name, "namespace": namespace, "labels": {"kubernetes.io/service-name": service}},
        "addressType": "IPv4",
        "endpoints": endpoints,
        "ports": [{"name": "epmd", "port": 4369, "protocol": "TCP"}],
    })
}

/// An endpoint of a pod that is ready.
#[must_use]
pub fn endpoint(pod: &str, address: &str) -> Value {
    json!({
        "addresses": [address],
        "conditions": {"ready": true, "serving": true, "terminating": false},
        "hostname": pod,
        "nodeName": "worker-1",
        "targetRef": {"kind": "Pod", "name": pod, "namespace": "shop", "uid": format!("uid-{pod}")},
        "zone": "eu-west-1a",
    })
}
