//! The identity of a run: the canonical Remote Execution API action and its digest.

pub mod messages;
