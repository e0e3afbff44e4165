//! Regular files: cloning, copying, stamps.
