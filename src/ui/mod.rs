//! The one printer.
