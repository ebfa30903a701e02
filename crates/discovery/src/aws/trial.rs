//! What the tests of `ec2` and `ecs` share: a strategy with credentials of its own against a given endpoint.

use std::{sync::Arc, time::Duration};

use aws_credential_types::Credentials;

use super::{
    call::Caller,
    credentials::Account,
    source::{Asking, Source},
};
use crate::{
    Feed, Settings, Strategy,
    feed::Work,
    settings::{Key, Reader},
    spec::Spec,
    strategies,
    trial::Trial,
};

/// A key that means nothing.
pub(super) fn credentials() -> Credentials {
    Credentials::new("AKIDEXAMPLE", "secret", None, None, "a test")
}

struct Against<S, M> {
    endpoint: String,
    asking: Asking,
    make: Arc<M>,
    source: std::marker::PhantomData<fn() -> S>,
}

impl<S: Source, M: Fn(String) -> S + Send + Sync + 'static> Strategy for Against<S, M> {
    fn run(self: Arc<Self>, feed: Feed) -> Work {
        Box::pin(async move {
            let caller = Caller::new(Account::given(&self.endpoint, credentials()), Duration::from_secs(5));
            let make = Arc::clone(&self.make);
            self.asking.run_as(&feed, caller, move |region| make(region)).await;
        })
    }
}

/// The settings of a spec, and all keys of its strategy.
fn settings(spec: &str) -> (Settings, Vec<Key>) {
    let spec: Spec = spec.parse().expect("a spec");
    let info = strategies().iter().find(|info| info.name == spec.strategy).expect("a strategy");
    (spec.settings, info.all_keys())
}

/// Reads a spec as `read` does.
pub(super) fn read<T>(spec: &str, read: impl FnOnce(&mut Reader<'_>) -> T) -> Result<T, Vec<crate::Fault>> {
    let (settings, keys) = settings(spec);
    let mut reader = Reader::new(&[&keys], &settings);
    let value = read(&mut reader);
    reader.finish().map(|()| value)
}

/// Starts a strategy against an endpoint.
pub(super) fn start<S: Source>(
    endpoint: &str,
    asking: Asking,
    make: impl Fn(String) -> S + Send + Sync + 'static,
) -> Trial {
    let (endpoint, make) = (endpoint.to_owned(), Arc::new(make));
    Trial::start(Box::new(Against { endpoint, asking, make, source: std::marker::PhantomData }))
}
