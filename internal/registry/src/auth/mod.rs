//! Who we are to a registry: challenges, credentials, tokens.
//!
//! ```text
//!   401 WWW-Authenticate: Bearer realm=…,service=…      challenge
//!        │
//!        ├─ credentials for this host?                  credentials (files) ── helper (programs)
//!        ▼
//!   GET realm?service=…&scope=repository:…:pull         token: one request, whoever else waits for it
//!        │
//!        ▼
//!   Authorization: Bearer …                             until its time is over, or the next 401
//! ```

mod challenge;
mod credentials;
mod helper;
mod token;

pub(crate) use challenge::Challenge;
pub use credentials::{CredentialError, CredentialSources};
pub(crate) use token::{Pass, Tokens};
