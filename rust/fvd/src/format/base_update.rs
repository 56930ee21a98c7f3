//! Whether guest writes also go to the base image: the values of `write_updates_base_img`.

/// Whether, and when, a guest write also goes to the base image (docs/design/copies.md, "Base writeback").
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum BaseUpdate {
    /// Never. The base is only read.
    #[default]
    No,
    /// The data is written to the image and to the base before the write is acknowledged.
    Writethrough,
    /// The data is written to the image before the acknowledgement, and to the base in the background and at
    /// a flush.
    Writeback,
    /// The data is written to the base before the acknowledgement, and to the image only where it is already
    /// local.
    Writenocache,
}

impl BaseUpdate {
    /// Every value.
    pub const ALL: [Self; 4] = [Self::No, Self::Writethrough, Self::Writeback, Self::Writenocache];

    /// The names as stored in the header.
    pub const NAMES: [&str; 4] = ["no", "writethrough", "writeback", "writenocache"];

    /// The name as stored in the header.
    #[must_use]
    pub fn name(self) -> &'static str {
        Self::NAMES[self as usize]
    }

    /// The value called `name`. The empty name, which every image of the original driver has, is `no`. `None`
    /// if there is no such value.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        if name.is_empty() {
            return Some(Self::No);
        }
        Self::ALL.into_iter().find(|update| update.name() == name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_reads_back_and_the_empty_name_is_no() {
        for update in BaseUpdate::ALL {
            assert_eq!(BaseUpdate::from_name(update.name()), Some(update));
        }
        assert_eq!(BaseUpdate::from_name(""), Some(BaseUpdate::No));
        assert_eq!(BaseUpdate::from_name("Writeback"), None);
    }
}
