//! What a sandbox will do, as plain data.
