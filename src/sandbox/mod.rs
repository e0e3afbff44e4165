//! Launching, supervising and collecting.

pub mod outputs;
pub mod phases;
pub mod relay;
