//! What a change does to the pin of the backing file (`docs/design/format.md`, section 13).

use super::Changes;
use crate::error::{Error, Result};
use crate::format::records::{self, BASE_PIN};
use crate::format::{Area, Header, Records};
use crate::image::Head;

/// The record area after the changes. None: it stays as it is.
///
/// The pin belongs to the name of the base: with another name it goes, unless the changes bring the pin of the
/// new base.
pub(super) fn area_after(changes: &Changes, head: &Head, new: &Header) -> Result<Option<[u8; records::SIZE]>> {
    let is_renamed = new.base_img != head.header.base_img;
    let pin = match changes.pin() {
        Some(pin) => Some(pin.encode()),
        None if is_renamed => None,
        None => return Ok(None),
    };
    let mut records = match (&head.records, &pin) {
        (Area::Records(records), _) => records.clone(),
        // There is no valid pin to remove.
        (Area::Damaged(_), None) => return Ok(None),
        (Area::Damaged(_), Some(_)) if changes.updates_pin() => Records::default(),
        (Area::Damaged(why), Some(_)) => {
            let message = format!("The record area of the image, where the pin would be, is damaged ({why})");
            let hint = "backing_pin=update writes a new one, without what it held";
            return Err(Error::invalid_image(message).with_hint(hint));
        }
    };
    records.set(BASE_PIN, pin);
    records.encode().map(Some)
}
