//! What becomes of identifiers.

use super::{PidView, PortView, ReferenceView};

/// Says of each identifier what stands in its place; `None` keeps it, in the very bytes in which it came.
///
/// Called in the order in which identifiers stand in the terms, the creators of closures among them.
pub trait Translate {
    /// A pid.
    fn pid(&mut self, pid: &PidView<'_>) -> Option<PidView<'_>>;

    /// A port.
    fn port(&mut self, port: &PortView<'_>) -> Option<PortView<'_>>;

    /// A reference, which may be an alias.
    fn reference(&mut self, reference: &ReferenceView<'_>) -> Option<ReferenceView<'_>>;
}

/// Keeps all.
#[derive(Clone, Copy, Debug, Default)]
pub struct Keep;

impl Translate for Keep {
    fn pid(&mut self, _: &PidView<'_>) -> Option<PidView<'_>> {
        None
    }

    fn port(&mut self, _: &PortView<'_>) -> Option<PortView<'_>> {
        None
    }

    fn reference(&mut self, _: &ReferenceView<'_>) -> Option<ReferenceView<'_>> {
        None
    }
}
