//! HTTP/1.1 by hand, over TCP and unix sockets, so that a test can break it on purpose.
//!
//! An HTTP library makes sure that what goes over the wire is HTTP. A server with faults needs the opposite: a body
//! that ends in mid-air after exactly N bytes, a length that lies, a connection reset before the first byte, a
//! request body that nobody reads. So this module parses and writes messages itself (RFC 9112, the small part that
//! registry and engine clients use), one thread per connection.

pub(crate) mod client;
mod connection;
mod message;
mod server;

pub(crate) use connection::{After, BodyEnd, Connection};
pub(crate) use message::{Head, Reply};
pub(crate) use message::{find as find_header, form};
pub(crate) use server::{Handler, Server};
