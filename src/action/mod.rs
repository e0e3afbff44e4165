//! The identity of a run: the canonical Remote Execution API action and its digest.
//!
//! Pure: everything that enters the identity is handed in.

pub mod digest;
pub mod messages;
pub mod policy;
