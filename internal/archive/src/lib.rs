//! Images of the cache as one byte stream that every engine loads.
