//! OCI distribution: the client that pulls into the cache.
