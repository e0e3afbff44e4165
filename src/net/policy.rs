//! Who may be reached: pure decisions about names, addresses and ports.
