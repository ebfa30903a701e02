//! The events as a stream.

use std::{
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use futures_core::Stream;
use metacluster_agent::events::{Next, Reader};
use metacluster_types::Event;

/// One thing that the stream tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notice {
    /// An event.
    Event(Arc<Event>),
    /// The reader was so slow that the events numbered `from..=to` are not kept any more. [`Cluster::nodes`] says what
    /// is so now.
    ///
    /// [`Cluster::nodes`]: crate::Cluster::nodes
    Missed {
        /// The first that is gone.
        from: u64,
        /// The last that is gone.
        to: u64,
    },
}

type Reading = Pin<Box<dyn Future<Output = (Reader, Next)> + Send>>;

/// The events of a cluster, in order, from [`Cluster::events`](crate::Cluster::events). It ends when the cluster does,
/// after the last event. Dropping it costs nobody anything.
#[must_use = "a stream does nothing unless it is read"]
pub struct Events {
    reading: Option<Reading>,
}

impl Events {
    pub(crate) fn new(reader: Reader) -> Self {
        Self { reading: Some(read(reader)) }
    }
}

fn read(mut reader: Reader) -> Reading {
    Box::pin(async move {
        let next = reader.next().await;
        (reader, next)
    })
}

impl Stream for Events {
    type Item = Notice;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Notice>> {
        let Some(reading) = &mut self.reading else { return Poll::Ready(None) };
        let (reader, next) = ready!(reading.as_mut().poll(context));
        let notice = match next {
            Next::Event(event) => Some(Notice::Event(event)),
            Next::Gap { from, to, .. } => Some(Notice::Missed { from, to }),
            Next::Closed => None,
        };
        self.reading = notice.is_some().then(|| read(reader));
        Poll::Ready(notice)
    }
}
