//! Real BEAM nodes that the binary forms through one source each: no other one brings the first contact.

mod consul;
mod dns;
mod ec2;
mod etcd;
mod exec;
mod file;
mod launch_data;
mod mdns;
mod pages;
mod rancher;
mod sql;
mod support;
