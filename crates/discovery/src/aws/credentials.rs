//! The account: credentials, region and endpoints, from every source that AWS's own tools read.
//!
//! `aws-config` finds them: environment, profiles (with SSO, roles and processes), web identity, the container's role, the
//! instance's role. Here they are kept, renewed before they expire, and loaded from the beginning after AWS refused them,
//! so that a key that was rotated in a file needs no restart.
//!
//! Invariant: no secret reaches a log or an error.

use std::{env, error::Error, time::SystemTime};

use aws_config::{BehaviorVersion, SdkConfig};
use aws_credential_types::{
    Credentials,
    provider::{ProvideCredentials, error::CredentialsError},
};
use aws_smithy_http_client::{
    Builder,
    tls::{Provider, rustls_provider::CryptoMode},
};
use tokio::{
    sync::Mutex,
    time::{Duration, Instant},
};

use super::{
    AwsError, Service,
    endpoint::{self, Variant},
    error::one_line,
};

/// How long before they expire credentials are renewed.
const RENEW_BEFORE: Duration = Duration::from_secs(5 * 60);
/// How long a renewal that failed is left alone while the old credentials hold.
const RENEW_AGAIN: Duration = Duration::from_secs(30);

/// The account as it was configured. It loads what it needs at its first use.
#[derive(Debug)]
pub(super) struct Account {
    profile: Option<String>,
    endpoint: Option<String>,
    loaded: Mutex<Option<Loaded>>,
    /// Stands in for every source.
    #[cfg(test)]
    given: Option<SdkConfig>,
}

#[derive(Debug)]
struct Loaded {
    config: SdkConfig,
    credentials: Option<Credentials>,
    renew_not_before: Option<Instant>,
}

/// What one call needs.
#[derive(Clone, Debug)]
pub(super) struct Access {
    /// Whose call it is.
    pub(super) credentials: Credentials,
    /// The region of the account, if any source says one.
    pub(super) region: Option<String>,
    endpoints: [Option<String>; 2],
    variant: Variant,
}

impl Access {
    /// Where a service of a region is reached.
    pub(super) fn endpoint(&self, service: Service, region: &str) -> Result<String, AwsError> {
        match &self.endpoints[service as usize] {
            Some(given) => endpoint::given(given),
            None => Ok(endpoint::usual(service, region, self.variant)),
        }
    }
}

impl Account {
    /// The account of a profile, or of the usual one. `endpoint` is for every service, and wins.
    pub(super) fn new(profile: Option<String>, endpoint: Option<String>) -> Self {
        Self {
            profile,
            endpoint,
            loaded: Mutex::new(None),
            #[cfg(test)]
            given: None,
        }
    }

    /// The account of a provider that a test has.
    #[cfg(test)]
    pub(super) fn given(endpoint: &str, provider: impl ProvideCredentials + 'static) -> Self {
        let provider = aws_credential_types::provider::SharedCredentialsProvider::new(provider);
        let region = aws_config::Region::new("eu-west-1");
        let config = SdkConfig::builder().region(region).credentials_provider(provider).build();
        Self { given: Some(config), ..Self::new(None, Some(endpoint.to_owned())) }
    }

    /// Credentials that hold, and where they are for.
    pub(super) async fn access(&self) -> Result<Access, AwsError> {
        let mut loaded = self.loaded.lock().await;
        let loaded = match &mut *loaded {
            Some(loaded) => loaded,
            none @ None => none.insert(Loaded { config: self.load().await, credentials: None, renew_not_before: None }),
        };
        self.renew(loaded).await?;
        let Some(credentials) = loaded.credentials.clone() else { return Err(self.none()) };
        let config = &loaded.config;
        let endpoint = |service| self.endpoint.clone().or_else(|| configured_endpoint(config, service));
        Ok(Access {
            credentials,
            region: config.region().map(ToString::to_string),
            endpoints: [endpoint(Service::Ec2), endpoint(Service::Ecs)],
            variant: Variant {
                fips: config.use_fips().unwrap_or_default(),
                dual_stack: config.use_dual_stack().unwrap_or_default(),
            },
        })
    }

    /// Loads everything anew at the next call, since AWS did not take what there is.
    pub(super) async fn forget(&self) {
        *self.loaded.lock().await = None;
    }

    async fn load(&self) -> SdkConfig {
        #[cfg(test)]
        if let Some(given) = &self.given {
            return given.clone();
        }
        let client = Builder::new().tls_provider(Provider::Rustls(CryptoMode::Ring)).build_https();
        let mut loader = aws_config::defaults(BehaviorVersion::latest()).http_client(client);
        if let Some(profile) = &self.profile {
            loader = loader.profile_name(profile);
        }
        loader.load().await
    }

    /// Sees to it that there are credentials which hold. Those that still do are kept while renewal fails.
    async fn renew(&self, loaded: &mut Loaded) -> Result<(), AwsError> {
        let left = loaded.credentials.as_ref().map(left_of);
        let due = left.is_none_or(|left| left.is_some_and(|left| left <= RENEW_BEFORE));
        let held = left.is_some_and(|left| left.is_none_or(|left| left > Duration::ZERO));
        let soon = loaded.renew_not_before.is_some_and(|at| Instant::now() < at);
        if !due || (held && soon) {
            return Ok(());
        }
        let Some(provider) = loaded.config.credentials_provider() else { return Err(self.none()) };
        match provider.provide_credentials().await {
            Ok(credentials) => {
                loaded.credentials = Some(credentials);
                // Some sources give what has little time left; they are not asked at each call for that.
                loaded.renew_not_before = Some(Instant::now() + RENEW_AGAIN);
                Ok(())
            }
            Err(error) if held => {
                loaded.renew_not_before = Some(Instant::now() + RENEW_AGAIN);
                tracing::warn!("the AWS credentials are not renewed, the old ones still hold: {}", whole(&error));
                Ok(())
            }
            Err(CredentialsError::CredentialsNotLoaded(_)) => Err(self.none()),
            Err(error) => Err(AwsError::Credentials { what: whole(&error) }),
        }
    }

    fn none(&self) -> AwsError {
        let name =
            self.profile.clone().or_else(|| env::var("AWS_PROFILE").ok()).unwrap_or_else(|| "default".to_owned());
        let file = |variable, usual: &str| env::var(variable).unwrap_or_else(|_| usual.to_owned());
        let shared = file("AWS_SHARED_CREDENTIALS_FILE", "~/.aws/credentials");
        let config = file("AWS_CONFIG_FILE", "~/.aws/config");
        AwsError::NoCredentials { profile: format!("the profile `{name}` ({shared}, {config})") }
    }
}

/// The time that credentials have left, or `None` if they last.
fn left_of(credentials: &Credentials) -> Option<Duration> {
    credentials.expiry().map(|at| at.duration_since(SystemTime::now()).unwrap_or_default())
}

/// `AWS_ENDPOINT_URL_EC2` and the like, then `AWS_ENDPOINT_URL`; each from the environment, then from the profile.
fn configured_endpoint(config: &SdkConfig, service: Service) -> Option<String> {
    let key = aws_config_key(service);
    let own = config.service_config().zip(key).and_then(|(services, key)| services.load_config(key));
    own.or_else(|| config.endpoint_url().map(ToOwned::to_owned))
}

fn aws_config_key(service: Service) -> Option<aws_types::service_config::ServiceConfigKey<'static>> {
    let builder = aws_types::service_config::ServiceConfigKey::builder();
    builder.service_id(service.id()).env("AWS_ENDPOINT_URL").profile("endpoint_url").build().ok()
}

/// An error and what caused it, on one line.
fn whole(error: &(dyn Error + 'static)) -> String {
    let mut parts: Vec<String> = Vec::new();
    let mut next = Some(error);
    while let Some(error) = next {
        let text = error.to_string();
        if parts.last() != Some(&text) {
            parts.push(text);
        }
        next = error.source();
    }
    one_line(&parts.join(": "))
}
