//! What a run leaves behind: declared outputs come back, the rest is listed.
