//! What the tasks of a session share: the models, and what was wrong.

use std::cell::RefCell;
use std::ops::Range;
use std::rc::Rc;

use crate::base;
use crate::medium::{Medium, SECTOR};
use crate::model::{Mismatch, Model};
use crate::rig::Rig;
use crate::shape::Shape;

/// What concurrent tasks share.
pub struct Shared {
    /// The model of the disk as the image shows it.
    pub model: Model,
    /// The model of the base's region as the base itself holds it, if that is checked. A read of the image
    /// does not show what the base holds, so only a flush makes the sets of this model smaller.
    pub base: Option<Model>,
    /// The first thing that was wrong.
    pub wrong: Option<String>,
    /// Errors that requests returned.
    pub errors: Vec<fvd::Error>,
}

/// A [`Shared`] that the tasks of one thread share.
pub type SharedRef = Rc<RefCell<Shared>>;

/// The number of a write or a flush in each model.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Id {
    disk: u64,
    base: Option<u64>,
}

impl Shared {
    /// The state for a disk with this content, before the first session.
    #[must_use]
    pub fn new(content: Medium) -> Self {
        Self {
            model: Model::on(content),
            base: None,
            wrong: None,
            errors: Vec::new(),
        }
    }

    /// As [`Shared::new`], with a model of the base if the image writes to it.
    #[must_use]
    pub fn with_base(content: Medium, shape: &Shape) -> Self {
        let base = shape.writes_base().then(|| {
            let mut base = content.clone();
            base.set_size(shape.base_img_size());
            Model::on(base)
        });
        Self {
            base,
            ..Self::new(content)
        }
    }

    pub(crate) fn begin_write(&mut self, offset: u64, data: &[u8]) -> Id {
        let inside = |base: &mut Model| {
            let len = base.size().saturating_sub(offset).min(data.len() as u64);
            base.begin_write(offset.min(base.size()), &data[..len as usize])
        };
        Id {
            disk: self.model.begin_write(offset, data),
            base: self.base.as_mut().map(inside),
        }
    }

    pub(crate) fn ack_write(&mut self, id: Id, durable: bool) {
        self.model.ack_write(id.disk, durable);
        self.in_base(id, |base, id| base.ack_write(id, durable));
    }

    pub(crate) fn fail_write(&mut self, id: Id) {
        self.model.fail_write(id.disk);
        self.in_base(id, Model::fail_write);
    }

    pub(crate) fn begin_flush(&mut self) -> Id {
        Id {
            disk: self.model.begin_flush(),
            base: self.base.as_mut().map(Model::begin_flush),
        }
    }

    pub(crate) fn ack_flush(&mut self, id: Id) {
        self.model.ack_flush(id.disk);
        self.in_base(id, Model::ack_flush);
    }

    pub(crate) fn fail_flush(&mut self, id: Id) {
        self.model.fail_flush(id.disk);
        self.in_base(id, Model::fail_flush);
    }

    /// A new process finds what `media` hold, in caches and on disks. `disk` is the same content as the image
    /// shows it: the bytes of `ranges`, one range after the other.
    pub(crate) fn outlive_process(&mut self, rig: &Rig, media: &[Medium], ranges: &[Range<u64>], disk: &[u8]) {
        let given_up = rig.file.world().has_given_up();
        self.model.outlive_process(ranges, disk, given_up);
        if let Some(base) = &mut self.base {
            base::outlive_process(rig, media, base, ranges, disk, given_up);
        }
        self.errors.clear();
    }

    /// The kernel drops the caches.
    pub(crate) fn lose_cache(&mut self) {
        self.model.lose_cache();
        if let Some(base) = &mut self.base {
            base.lose_cache();
        }
    }

    pub(crate) fn begin_read(&mut self, offset: u64, len: u64) -> Id {
        Id {
            disk: self.model.begin_read(offset, len),
            base: None,
        }
    }

    pub(crate) fn end_read(&mut self, id: Id, data: &[u8]) -> Result<(), Mismatch> {
        self.model.end_read(id.disk, data)
    }

    pub(crate) fn fail_read(&mut self, id: Id) {
        self.model.fail_read(id.disk);
    }

    fn in_base(&mut self, id: Id, what: impl FnOnce(&mut Model, u64)) {
        if let (Some(base), Some(id)) = (&mut self.base, id.base) {
            what(base, id);
        }
    }
}

/// Marks a sector of the base as dirty: from now on, `content` of the disk may reach it at any time.
pub(crate) fn mark_dirty(base: &mut Model, sector: u64, content: &[u8]) {
    let id = base.begin_write(sector * SECTOR, content);
    base.fail_write(id);
}

/// Tells the models that a request has failed.
pub(crate) type Fail = fn(&mut Shared, Id);

/// Fails a request in the models when its task is dropped, that is, cancelled.
pub(crate) struct Guard<'a> {
    pub(crate) shared: &'a SharedRef,
    fail: Option<(Fail, Id)>,
}

impl<'a> Guard<'a> {
    pub(crate) fn new(shared: &'a SharedRef, fail: Fail, id: Id) -> Self {
        Self {
            shared,
            fail: Some((fail, id)),
        }
    }

    pub(crate) fn disarm(mut self) {
        self.fail = None;
    }
}

impl Drop for Guard<'_> {
    fn drop(&mut self) {
        if let Some((fail, id)) = self.fail.take() {
            fail(&mut self.shared.borrow_mut(), id);
        }
    }
}
