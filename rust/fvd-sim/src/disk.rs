//! A simulated disk, as the engine sees it.

use std::future::Future;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use fvd::storage::{Allocation, IoBufMut, Space, Storage};
use fvd::{Error, ErrorKind, Result};

use crate::medium::Medium;
use crate::world::{Action, DiskId, Outcome, World};

/// A handle to one disk of a [`World`]. Clones are handles to the same disk.
#[derive(Clone)]
pub struct SimDisk {
    world: World,
    id: DiskId,
    path: PathBuf,
    is_device: bool,
}

impl SimDisk {
    /// A file named `name` whose durable content is `medium`.
    #[must_use]
    pub fn file(world: &World, name: &str, medium: Medium) -> Self {
        Self::new(world, name, medium, false)
    }

    /// A device named `name` with the content and the length of `medium`. The length cannot change.
    #[must_use]
    pub fn device(world: &World, name: &str, medium: Medium) -> Self {
        Self::new(world, name, medium, true)
    }

    /// A file or a device.
    #[must_use]
    pub fn new(world: &World, name: &str, medium: Medium, is_device: bool) -> Self {
        let path = PathBuf::from(name);
        Self {
            id: world.add_disk(path.clone(), medium, is_device),
            world: world.clone(),
            path,
            is_device,
        }
    }

    /// The same disk in a copy of its world.
    #[must_use]
    pub(crate) fn within(&self, copy: &World) -> Self {
        Self {
            world: copy.clone(),
            ..self.clone()
        }
    }

    /// Its world.
    #[must_use]
    pub fn world(&self) -> &World {
        &self.world
    }

    /// Sets the offset (in bytes) where metadata ends. Power cuts that keep only metadata or only data use
    /// it.
    pub fn set_data_start(&self, offset: u64) {
        self.world.state().disks[self.id].data_start = offset;
    }

    /// What a read sees now.
    #[must_use]
    pub fn content(&self) -> Medium {
        self.world.state().disks[self.id].current.clone()
    }

    pub(crate) fn id(&self) -> DiskId {
        self.id
    }

    fn size(&self) -> u64 {
        self.world.state().disks[self.id].current.size()
    }

    fn run(&self, action: Action, offset: u64) -> Operation<'_> {
        Operation {
            disk: self,
            start: Some((action, offset)),
            id: None,
        }
    }
}

/// One operation. The first poll submits it; dropping it before its end cancels it.
struct Operation<'a> {
    disk: &'a SimDisk,
    start: Option<(Action, u64)>,
    id: Option<u64>,
}

impl Future for Operation<'_> {
    type Output = Outcome;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Outcome> {
        let disk = self.disk;
        let mut state = disk.world.state();
        if let Some((action, offset)) = self.start.take() {
            let (id, outcome) = state.submit(disk.id, action, offset);
            if let Some(outcome) = outcome {
                return Poll::Ready(outcome);
            }
            self.id = Some(id);
        }
        let id = self.id.expect("an operation is not polled after its end");
        match state.poll(id, context.waker()) {
            None => Poll::Pending,
            Some(outcome) => {
                self.id = None;
                Poll::Ready(outcome)
            }
        }
    }
}

impl Drop for Operation<'_> {
    fn drop(&mut self) {
        if let Some(id) = self.id {
            self.disk.world.state().cancel(id);
        }
    }
}

impl Storage for SimDisk {
    fn path(&self) -> &Path {
        &self.path
    }

    async fn read(&self, buf: IoBufMut, offset: u64) -> Result<IoBufMut> {
        if buf.is_empty() {
            return Ok(buf);
        }
        let buf = self.run(Action::Read(Some(buf)), offset).await?;
        Ok(buf.expect("a read gives its buffer back"))
    }

    async fn write(&self, buf: Bytes, offset: u64) -> Result<()> {
        if buf.is_empty() {
            return Ok(());
        }
        self.run(Action::Write(buf), offset).await.map(drop)
    }

    async fn write_vectored(&self, bufs: Vec<Bytes>, offset: u64) -> Result<()> {
        let mut whole = BytesMut::new();
        for buf in bufs {
            whole.extend_from_slice(&buf);
        }
        self.write(whole.freeze(), offset).await
    }

    async fn write_zeroes(&self, offset: u64, len: u64, _space: Space) -> Result<()> {
        let end = offset.saturating_add(len).min(self.size());
        if offset >= end {
            return Ok(());
        }
        self.run(Action::Zero(end - offset), offset).await.map(drop)
    }

    async fn discard(&self, offset: u64, len: u64) -> Result<()> {
        // Simulated devices have no discard.
        if self.is_device {
            return Ok(());
        }
        self.write_zeroes(offset, len, Space::Free).await
    }

    async fn sync(&self) -> Result<()> {
        self.run(Action::Sync, 0).await.map(drop)
    }

    async fn drop_cached(&self, len: u64) -> Result<()> {
        self.world.state().drop_cached(self.id, len);
        Ok(())
    }

    async fn len(&self) -> Result<u64> {
        self.world.state().fail_question(self.id, "get the length")?;
        Ok(self.size())
    }

    async fn set_len(&self, len: u64) -> Result<()> {
        if self.is_device {
            let error = Error::new(ErrorKind::Unsupported, "The length of a device cannot be changed");
            return Err(error.with_path(&self.path));
        }
        self.run(Action::SetLen(len), 0).await.map(drop)
    }

    fn can_resize(&self) -> bool {
        !self.is_device
    }

    async fn allocation(&self, offset: u64, len: u64) -> Result<(Allocation, u64)> {
        let mut state = self.world.state();
        state.fail_question(self.id, "find holes")?;
        Ok(state.disks[self.id].current.allocation(offset, len))
    }
}
