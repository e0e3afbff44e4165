//! The network of a sandbox with rules: who may be reached ([`policy`]), by which names, and the relay that carries the
//! connections.

pub mod policy;
