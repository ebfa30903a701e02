//! Decides which local node is linked to which peer, and when it is dialled or dropped.
