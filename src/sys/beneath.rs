//! Directory trees by descriptor: nothing followed, nothing outside reached.
