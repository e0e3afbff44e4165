//! What this machine allows, found out by trying it in a child.
