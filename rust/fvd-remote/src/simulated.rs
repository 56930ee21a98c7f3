//! What tests and fuzz targets put in the place of threads, sockets and disks: everything runs on their own
//! thread, in virtual time (`docs/simulation.md`). In any other build there is nothing here.

#[cfg(any(test, feature = "simulation"))]
mod place {
    use std::cell::RefCell;
    use std::future::Future;
    use std::time::Duration;

    use tokio::io::DuplexStream;
    use tokio::runtime::{Builder, Handle};
    use tokio::time::timeout;

    /// Connects to a host.
    type Dial = Box<dyn Fn(&str, u16) -> DuplexStream>;

    thread_local! {
        static RUNTIME: RefCell<Option<Handle>> = const { RefCell::new(None) };
        static DIAL: RefCell<Option<Dial>> = const { RefCell::new(None) };
    }

    struct Restore;

    impl Drop for Restore {
        fn drop(&mut self) {
            RUNTIME.set(None);
            DIAL.set(None);
        }
    }

    pub(crate) fn runtime() -> Option<Handle> {
        RUNTIME.with_borrow(Clone::clone)
    }

    pub(crate) fn dial(host: &str, port: u16) -> Option<DuplexStream> {
        DIAL.with_borrow(|dial| dial.as_ref().map(|dial| dial(host, port)))
    }

    /// From now on, and until [`run`] ends.
    pub(crate) fn set_dial(dial: impl Fn(&str, u16) -> DuplexStream + 'static) {
        DIAL.set(Some(Box::new(dial)));
    }

    /// Runs `future` and what it spawns on this thread, in virtual time. None: it has not ended after `limit`.
    pub(crate) fn run<T>(limit: Duration, future: impl Future<Output = T>) -> Option<T> {
        let runtime = Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .expect("a runtime without I/O");
        let _restore = Restore;
        RUNTIME.set(Some(runtime.handle().clone()));
        runtime.block_on(async { timeout(limit, future).await.ok() })
    }
}

#[cfg(any(test, feature = "simulation"))]
pub(crate) use place::{dial, run, runtime, set_dial};

#[cfg(not(any(test, feature = "simulation")))]
mod place {
    use tokio::io::DuplexStream;
    use tokio::runtime::Handle;

    /// Where tasks run, if not on the I/O thread.
    #[inline]
    pub(crate) fn runtime() -> Option<Handle> {
        None
    }

    /// A connection to this host that is no socket.
    #[inline]
    pub(crate) fn dial(_host: &str, _port: u16) -> Option<DuplexStream> {
        None
    }
}

#[cfg(not(any(test, feature = "simulation")))]
pub(crate) use place::{dial, runtime};
