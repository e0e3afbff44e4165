//! Ready pairs of a user and a net namespace, kept by a process of the user's own.
