//! The records of past runs, per project.
