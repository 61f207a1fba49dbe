//! The public URL.
