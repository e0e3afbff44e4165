//! Launching, supervising and collecting.

pub mod changes;
pub mod outputs;
pub mod relay;
