//! The accept loop: one thread per connection, all of them gone when the server is dropped.

use std::collections::HashMap;
use std::io;
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener};
use std::os::fd::AsFd;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};

use super::connection::{After, Connection, Socket};
use super::message::Head;

/// What answers requests. Called from many threads.
pub(crate) trait Handler: Send + Sync + 'static {
    /// Answers one request. An error ends the connection, as a client going away does.
    fn handle(&self, head: &Head, connection: &mut Connection) -> io::Result<After>;

    /// Lets every request go that is being held back: the server is stopping.
    fn release(&self) {}
}

#[derive(Debug)]
enum Listener {
    Tcp(TcpListener),
    Unix(UnixListener),
}

impl Listener {
    fn accept(&self) -> io::Result<Socket> {
        Ok(match self {
            Self::Tcp(l) => {
                let (stream, _) = l.accept()?;
                // Answers are written whole; waiting to fill packets would only add delay.
                stream.set_nodelay(true)?;
                Socket::Tcp(stream)
            }
            Self::Unix(l) => Socket::Unix(l.accept()?.0),
        })
    }

    /// Wakes whoever sleeps in [`Listener::accept`], for good; nobody can connect any more.
    fn close(&self) {
        let fd = match self {
            Self::Tcp(l) => l.as_fd(),
            Self::Unix(l) => l.as_fd(),
        };
        // It fails only on a socket that is not listening, which is what is wanted.
        let _ = rustix::net::shutdown(fd, rustix::net::Shutdown::Both);
    }
}

#[derive(Debug, Clone)]
enum Address {
    Tcp(SocketAddr),
    Unix(PathBuf),
}

#[derive(Debug, Default)]
struct Shared {
    stopping: AtomicBool,
    next: AtomicU64,
    open: Mutex<HashMap<u64, Socket>>,
}

impl Shared {
    fn open(&self) -> MutexGuard<'_, HashMap<u64, Socket>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A server that runs until it is dropped.
pub(crate) struct Server {
    address: Address,
    shared: Arc<Shared>,
    handler: Arc<dyn Handler>,
    listener: Arc<Listener>,
    acceptor: Option<JoinHandle<()>>,
}

impl std::fmt::Debug for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Server").field("address", &self.address).finish_non_exhaustive()
    }
}

impl Server {
    /// Listens on a free port of 127.0.0.1.
    pub(crate) fn tcp(handler: Arc<dyn Handler>) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let address = Address::Tcp(listener.local_addr()?);
        Ok(Self::start(Listener::Tcp(listener), address, handler))
    }

    /// Listens on a new unix socket.
    pub(crate) fn unix(path: &Path, handler: Arc<dyn Handler>) -> io::Result<Self> {
        let listener = UnixListener::bind(path)?;
        let address = Address::Unix(path.to_owned());
        Ok(Self::start(Listener::Unix(listener), address, handler))
    }

    fn start(listener: Listener, address: Address, handler: Arc<dyn Handler>) -> Self {
        let (listener, shared) = (Arc::new(listener), Arc::new(Shared::default()));
        let acceptor = thread::spawn({
            let (listener, shared, handler) =
                (Arc::clone(&listener), Arc::clone(&shared), Arc::clone(&handler));
            move || accept_all(&listener, &shared, &handler)
        });
        Self { address, shared, handler, listener, acceptor: Some(acceptor) }
    }

    /// Where a TCP server listens.
    pub(crate) fn tcp_address(&self) -> Option<SocketAddr> {
        match self.address {
            Address::Tcp(address) => Some(address),
            Address::Unix(_) => None,
        }
    }

    /// Closes the listener and every connection, at once.
    pub(crate) fn stop(&mut self) {
        self.shared.stopping.store(true, Ordering::SeqCst);
        self.listener.close();
        if let Some(acceptor) = self.acceptor.take() {
            // A panic in the acceptor has been printed by its own thread.
            let _ = acceptor.join();
        }
        self.handler.release();
        for socket in self.shared.open().values() {
            socket.shutdown(Shutdown::Both);
        }
        if let Address::Unix(path) = &self.address {
            let _ = std::fs::remove_file(path);
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if self.acceptor.is_some() {
            self.stop();
        }
    }
}

fn accept_all(listener: &Listener, shared: &Arc<Shared>, handler: &Arc<dyn Handler>) {
    loop {
        let accepted = listener.accept();
        if shared.stopping.load(Ordering::SeqCst) {
            return;
        }
        // A client that left before it was accepted concerns nobody.
        let Ok(socket) = accepted else { continue };
        let id = shared.next.fetch_add(1, Ordering::SeqCst);
        let Ok(kept) = socket.try_clone() else {
            continue;
        };
        shared.open().insert(id, kept);
        let (shared, handler) = (Arc::clone(shared), Arc::clone(handler));
        thread::spawn(move || {
            let after = serve(&socket, handler.as_ref());
            // The clone in the table goes before the last handle, so that closing (or resetting) happens in `end`.
            shared.open().remove(&id);
            drop(socket);
            if let Some((connection, after)) = after {
                connection.end(after);
            }
        });
    }
}

/// Answers requests until one says that the connection ends.
fn serve(socket: &Socket, handler: &dyn Handler) -> Option<(Connection, After)> {
    let mut connection = Connection::new(socket).ok()?;
    loop {
        let Ok(Some(head)) = connection.next_head() else {
            return Some((connection, After::Close));
        };
        let wants_close = head.values("connection").any(|v| v.eq_ignore_ascii_case("close"));
        let after = handler.handle(&head, &mut connection).unwrap_or(After::Close);
        if after != After::KeepAlive || wants_close || !connection.skip_body() {
            let after = if after == After::KeepAlive { After::Close } else { after };
            return Some((connection, after));
        }
    }
}
