//! What the tests of `ec2` and `ecs` share: a strategy with credentials of its own against a given endpoint.

use std::{net::SocketAddr, sync::Arc};

use aws_credential_types::Credentials;
use metacluster_testbed::{Proxy, Wire};

use super::{
    credentials::Account,
    source::{Asking, Source},
};
use crate::{
    Feed, Settings, Strategy,
    feed::Work,
    settings::{Key, Reader},
    spec::Spec,
    strategies,
    trial::{PATIENCE_WITH_FAILURES, Trial},
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
            let caller = self.asking.caller(Account::given(&self.endpoint, credentials()));
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

/// A strategy may take this much of one answer: 32 MiB and what sockets hold.
const BYTES_MAX: usize = 48 << 20;

/// Holds a strategy against a fixture to the table of faults (`tests/faults`): `says` stands in every line about it, `begin`
/// starts it against an endpoint, and `grow` says how many hosts the fixture has.
pub(crate) async fn withstands(
    says: &str,
    fixture: SocketAddr,
    begin: impl FnOnce(&str) -> Trial,
    grow: impl Fn(usize),
) {
    grow(2);
    let mut proxy = Proxy::start(fixture).expect("a proxy");
    let mut trial = begin(&format!("http://{}", proxy.address())).patient(PATIENCE_WITH_FAILURES);
    trial.until_hosts("two hosts", |hosts| hosts.len() == 2).await;
    for (at, fault) in Wire::FAULTS.into_iter().enumerate() {
        trial.endures(says, || proxy.set(fault).expect("set")).await;
        if fault == Wire::Flood {
            trial.until_taken(|| proxy.drunk()).await;
        }
        // What is new meanwhile is known once the source is well again.
        grow(at + 3);
        proxy.set(Wire::Good).expect("set");
        trial.until_hosts("one more", |hosts| hosts.len() == at + 3).await;
    }
    assert!((1..BYTES_MAX).contains(&proxy.drunk()), "{} bytes of one answer were taken", proxy.drunk());
    trial.stop().await;
}
