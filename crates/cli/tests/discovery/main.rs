//! Real BEAM nodes that the binary forms through one source each: no other one brings the first contact.

mod exec;
mod file;
mod support;
