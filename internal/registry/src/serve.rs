//! The registry that the cache is to others: read-only, and read-through where a registry can be asked.
//!
//! Nothing is here yet. It belongs here because it speaks the same protocol over the same [`Remote`](crate::Remote)
//! and the same store, and takes a lease per request where a pull takes one for its whole run.
