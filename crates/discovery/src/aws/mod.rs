//! AWS: the strategies `ec2` and `ecs`, and what AWS says of this host.
//!
//! `aws-config` finds credentials, `aws-sigv4` signs, the client of this crate sends, `quick-xml` and `serde_json` read: a
//! few calls need no whole SDK. [`askers`] says who asks, since the API is limited per account; [`own_host`] says where
//! this host is.
//!
//! Invariants: no call lasts or answers longer than its bound; half of an answer is none; no secret reaches a log.

pub mod askers;
mod call;
mod credentials;
pub(crate) mod ec2;
pub(crate) mod ecs;
mod endpoint;
mod error;
mod memory;
pub(crate) mod metadata;
mod sign;
mod source;
#[cfg(test)]
pub(crate) mod trial;
mod xml;

use self::endpoint::Service;
pub use self::{
    error::AwsError,
    metadata::{ImdsError, OwnHostError, TaskError, own_host},
};
