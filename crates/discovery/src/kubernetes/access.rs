//! How the agent gets at the API: as a pod's service account, or by a kubeconfig.
//!
//! Follows "Accessing the Kubernetes API from a Pod" and "Organizing Cluster Access Using kubeconfig Files". Contexts,
//! client certificates, token files and exec plugins are kube's work.
//!
//! Invariant: without a certificate authority nothing is sent; there is no way to turn that off but the kubeconfig's own
//! `insecure-skip-tls-verify`.

use std::{
    env, fs, io,
    net::IpAddr,
    path::{Path, PathBuf},
};

use hyper::Uri;
use kube::{
    Config,
    config::{AuthInfo, KubeConfigOptions, Kubeconfig, KubeconfigError},
};
use tokio::{runtime::Handle, time::Duration};

use super::problem::Problem;
use crate::http::innermost;

/// Where a pod finds its service account.
pub(super) const ACCOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
/// What a kubelet sets in each container.
const HOST: &str = "KUBERNETES_SERVICE_HOST";
const PORT: &str = "KUBERNETES_SERVICE_PORT";

/// What the settings say of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Access {
    /// A kubeconfig; that of the environment, if it is `None` and there is no service account.
    pub(super) kubeconfig: Option<PathBuf>,
    /// A context of it; its current one, if it is `None`.
    pub(super) context: Option<String>,
    /// The folder of the service account.
    pub(super) account: Option<PathBuf>,
}

impl Access {
    /// Reads what there is. It reads files, so it blocks; it must run within a tokio runtime.
    pub(super) fn config(&self, timeout: Duration) -> Result<Config, Problem> {
        let host = env::var(HOST).ok().filter(|host| !host.is_empty());
        let wants_kubeconfig = self.kubeconfig.is_some() || self.context.is_some();
        let mut config = match host {
            Some(host) if !wants_kubeconfig => self.of_account(&host)?,
            Some(_) | None if wants_kubeconfig || kubeconfig_is_there() => self.of_kubeconfig()?,
            Some(_) | None => return Err(Problem::Access(NOWHERE.to_owned())),
        };
        config.connect_timeout = Some(timeout);
        config.write_timeout = Some(timeout);
        // What fails is told, and tried again here.
        config.default_retry = false;
        Ok(config)
    }

    fn of_account(&self, host: &str) -> Result<Config, Problem> {
        let port = env::var(PORT).ok().filter(|port| !port.is_empty()).unwrap_or_else(|| "443".to_owned());
        let host = match host.parse::<IpAddr>() {
            Ok(IpAddr::V6(address)) => format!("[{address}]"),
            Ok(IpAddr::V4(_)) | Err(_) => host.to_owned(),
        };
        let url = format!("https://{host}:{port}");
        let url: Uri = url.parse().map_err(|_| Problem::Access(format!("{HOST} and {PORT} make no address: {url}")))?;
        let folder = self.account.as_deref().unwrap_or(Path::new(ACCOUNT));
        let (token, ca) = (folder.join("token"), folder.join("ca.crt"));
        for file in [&token, &ca] {
            fs::File::open(file).map_err(|error| no_account(file, &error))?;
        }
        let mut config = Config::new(url);
        config.root_cert_file = Some(ca);
        config.auth_info = AuthInfo { token_file: Some(token.display().to_string()), ..AuthInfo::default() };
        let namespace = fs::read_to_string(folder.join("namespace")).unwrap_or_default();
        config.default_namespace = namespace.trim().to_owned();
        Ok(config)
    }

    fn of_kubeconfig(&self) -> Result<Config, Problem> {
        let options = KubeConfigOptions { context: self.context.clone(), ..KubeConfigOptions::default() };
        let config = match &self.kubeconfig {
            Some(path) => {
                let read = Kubeconfig::read_from(path);
                let read = read.map_err(|error| unusable(Some(path), &error))?;
                Handle::current().block_on(Config::from_custom_kubeconfig(read, &options))
            }
            None => Handle::current().block_on(Config::from_kubeconfig(&options)),
        };
        config.map_err(|error| unusable(self.kubeconfig.as_deref(), &error))
    }
}

/// What to do where nothing leads to an API.
const NOWHERE: &str = "no way to a Kubernetes API: this is no pod (KUBERNETES_SERVICE_HOST is not set) and there is no \
                       kubeconfig; run the agent in a pod with a service account, or give `kubeconfig`";

fn no_account(file: &Path, error: &io::Error) -> Problem {
    let file = file.display();
    Problem::Access(format!(
        "the pod has no usable service account ({file}: {error}): set `automountServiceAccountToken: true` in the \
         pod's spec, mount a projected token with the cluster's `ca.crt` and name its folder in `service_account`, or \
         give `kubeconfig`"
    ))
}

fn unusable(path: Option<&Path>, error: &KubeconfigError) -> Problem {
    let which = path.map_or_else(|| "the kubeconfig".to_owned(), |path| format!("the kubeconfig {}", path.display()));
    let (what, cause) = (error.to_string(), innermost(error));
    let cause = if what.contains(&cause) { String::new() } else { format!(" ({cause})") };
    Problem::Access(format!("{which} cannot be used: {what}{cause}"))
}

/// Whether the environment names a kubeconfig, or the home directory has one.
fn kubeconfig_is_there() -> bool {
    let named = env::var_os("KUBECONFIG").is_some_and(|paths| !paths.is_empty());
    named || env::var_os("HOME").is_some_and(|home| Path::new(&home).join(".kube/config").is_file())
}
