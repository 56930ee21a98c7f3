//! How a request keeps storage chunks from being used again while it knows their numbers.

use crate::image::Image;
use crate::image::space::epochs::Pin;
use crate::storage::Storage;

impl<S: Storage> Image<S> {
    /// Pins the current epoch. A request holds the pin while it looks up storage chunks and then reads or
    /// writes there. None if chunks never move.
    pub(in crate::image) fn pin(&self) -> Option<Pin<'_>> {
        (self.writable && self.table.is_some()).then(|| self.epochs.pin())
    }
}
