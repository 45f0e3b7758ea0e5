//! Docker and Podman: what is there, what is missing, load.
