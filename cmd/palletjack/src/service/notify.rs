//! One datagram to the service manager (sd_notify(3)).

use std::ffi::OsStr;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

/// Where a service manager listens.
#[derive(Debug, Clone)]
pub(crate) struct Manager {
    socket: SocketAddr,
}

impl Manager {
    /// Reads the value of `NOTIFY_SOCKET`: a path, or a name after `@`. `None` where it is something else.
    pub(crate) fn of(socket: &OsStr) -> Option<Self> {
        let socket = match socket.as_bytes() {
            [b'@', name @ ..] => SocketAddr::from_abstract_name(name).ok()?,
            [b'/', ..] => SocketAddr::from_pathname(socket).ok()?,
            _ => return None,
        };
        Some(Self { socket })
    }

    /// Tells it the status: one line, because a second one would be another message.
    pub(super) fn status(&self, text: &str) -> io::Result<()> {
        let line: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        let socket = UnixDatagram::unbound()?;
        // A manager that does not read must not keep the work from being done.
        socket.set_nonblocking(true)?;
        socket.send_to_addr(format!("STATUS={line}\n").as_bytes(), &self.socket).map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_is_one_line() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        let manager = Manager::of(path.as_os_str()).unwrap();
        manager.status("a\nREADY=1").unwrap();
        let mut buffer = [0; 100];
        let length = socket.recv(&mut buffer).unwrap();
        assert_eq!(&buffer[..length], b"STATUS=a READY=1\n");
        drop((socket, directory));
        assert!(manager.status("nobody listens").is_err());
        for other in ["", "notify", "vsock:2:9"] {
            assert!(Manager::of(OsStr::new(other)).is_none());
        }
    }
}
