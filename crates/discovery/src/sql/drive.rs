//! The look-ups of a database, and the lease of our own rows: what one connection does from its first statement to its
//! end.
//!
//! Invariants: our rows are renewed three times within a lease, also while look-ups fail for a reason that another
//! connection would not mend. A database that takes no writes is still read.

use std::{collections::BTreeSet, future::pending, sync::Arc};

use metacluster_types::{NodeName, Place};
use tokio::{
    sync::{Mutex, watch as channel},
    time::{Instant, sleep_until, timeout},
};

use super::{Plan, Where, error::SqlError, row, store::Store, table::Flavour};
use crate::{Answer, Failure, Feed, Local, run::GRACE, watch, watch::Stream};

/// Runs until the feed says stop, then removes our rows.
pub(super) async fn run(plan: Arc<Plan>, feed: Feed) {
    // It outlives each connection's work, so that the last one is there for the goodbye.
    let slot: Slot = Arc::default();
    let announces = plan.register && !feed.is_alone();
    watch(&feed, |stream| {
        let session = Session { plan: Arc::clone(&plan), local: feed.local(), announces, alone: feed.is_alone() };
        session.run(Arc::clone(&slot), stream)
    })
    .await;
    if !announces {
        return;
    }
    let leave = plan.table.leave(plan.flavour(), &feed.local().borrow());
    let within = GRACE * 4 / 5;
    let left = timeout(within, async {
        match &mut *slot.lock().await {
            Some(store) => store.ask(&plan, &leave, within).await.map(drop),
            None => Ok(()),
        }
    });
    if let Ok(Err(error)) = left.await {
        tracing::debug!(topology = %feed.topology(), %error, "the rows of this agent stay until their lease ends");
    }
}

type Slot = Arc<Mutex<Option<Store>>>;

/// What our rows say.
type Own = (BTreeSet<NodeName>, Place);

fn own(local: &Local) -> Own {
    (local.nodes.clone(), local.place.clone())
}

struct Session {
    plan: Arc<Plan>,
    local: channel::Receiver<Local>,
    announces: bool,
    alone: bool,
}

impl Session {
    async fn run(mut self, slot: Slot, stream: Stream) -> Result<(), Failure> {
        let plan = Arc::clone(&self.plan);
        let mut slot = slot.lock().await;
        *slot = None;
        let (store, notes) = Store::open(&plan).await.map_err(line)?;
        let store = slot.insert(store);
        let mut renew_at = self.announces.then(Instant::now);
        let mut unannounced = None;
        let mut renewed = None;
        loop {
            if renew_at.is_some_and(|at| at <= Instant::now()) {
                renewed = Some(self.own());
                unannounced = self.renew(store).await?;
                renew_at = Some(Instant::now() + plan.lease / 3);
            }
            match self.look(store).await {
                Ok(mut answer) => {
                    answer.notes.extend(notes.iter().chain(&unannounced).cloned());
                    stream.tell(answer);
                }
                Err(error) if error.ends_connection() => return Err(line(error)),
                Err(error) => stream.fail(error.to_string()),
            }
            let look_at = Instant::now() + plan.interval();
            let wake_at = renew_at.map_or(look_at, |at| at.min(look_at));
            let local = &mut self.local;
            let own_changed = async {
                while renewed.is_some() && local.changed().await.is_ok() {
                    if renewed.as_ref() != Some(&own(&local.borrow_and_update())) {
                        return;
                    }
                }
                pending().await
            };
            tokio::select! {
                noticed = store.notice() => noticed.map_err(line)?,
                () = sleep_until(wake_at) => {}
                () = own_changed => renew_at = Some(Instant::now()),
            }
        }
    }

    fn own(&mut self) -> Own {
        own(&self.local.borrow_and_update())
    }

    /// Renews our rows. What it gives back says why they cannot be.
    async fn renew(&mut self, store: &mut Store) -> Result<Option<String>, Failure> {
        let plan = &self.plan;
        let statements = plan.table.renew(plan.flavour(), &self.local.borrow_and_update(), plan.lease);
        match store.ask(plan, &statements, plan.pace.timeout).await {
            Ok(_) => Ok(None),
            Err(error) if error.ends_connection() => Err(line(error)),
            Err(error) => {
                // What PostgreSQL refused, it refused within a transaction that is open still.
                if matches!(plan.place, Where::Postgres(_)) {
                    store.ask(plan, "ROLLBACK", plan.pace.timeout).await.map_err(line)?;
                }
                Ok(Some(format!("the nodes of this host are not announced, others are found: {error}")))
            }
        }
    }

    async fn look(&self, store: &mut Store) -> Result<Answer, SqlError> {
        let plan = &self.plan;
        let (own, statement) = {
            let local = self.local.borrow();
            let own = (!self.alone).then_some(local.agent);
            (own, plan.query.clone().unwrap_or_else(|| plan.table.list(plan.flavour(), &local.cluster)))
        };
        let table = store.ask(plan, &statement, plan.pace.timeout).await?;
        let peers = row::read(&table, own)?;
        let mut answer = plan.naming.answer_with(peers.hosts, peers.named);
        if let Some((count, what)) = peers.unread {
            answer.notes.push(format!("{count} rows cannot be read; the first: {what}"));
        }
        Ok(answer)
    }
}

impl Plan {
    pub(super) fn flavour(&self) -> Flavour {
        match self.place {
            Where::Postgres(_) => Flavour::Postgres,
            Where::Sqlite(_) => Flavour::Sqlite,
        }
    }
}

pub(super) fn line(error: SqlError) -> Failure {
    Failure::new(error.to_string())
}
