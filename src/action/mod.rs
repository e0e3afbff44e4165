//! The identity of a run and its result: the canonical Remote Execution API action, its digest, and what it came to.
//!
//! Pure: everything that enters the identity is handed in.

pub mod digest;
pub mod messages;
pub mod policy;
pub mod result;
pub mod why;
