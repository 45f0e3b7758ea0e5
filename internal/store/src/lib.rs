//! The cache directory: blobs, names, leases, check.
