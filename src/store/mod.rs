//! The store: blobs, materialised trees, records.

pub mod records;
