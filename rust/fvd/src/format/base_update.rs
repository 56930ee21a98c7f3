//! What a write does to the base: the values of `write_updates_base_img`.

/// Whether, and when, what a guest writes goes to the base image.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum BaseUpdate {
    /// Never: the base is only read.
    #[default]
    No,
    /// Before the write is acknowledged, to the image and to the base.
    Writethrough,
    /// To the image at once, to the base in the background and at a flush.
    Writeback,
    /// Before the write is acknowledged, to the base; to the image only where it is local already.
    Writenocache,
}

impl BaseUpdate {
    /// Every value.
    pub const ALL: [Self; 4] = [Self::No, Self::Writethrough, Self::Writeback, Self::Writenocache];

    /// The name in the format.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::No => "no",
            Self::Writethrough => "writethrough",
            Self::Writeback => "writeback",
            Self::Writenocache => "writenocache",
        }
    }

    /// What `name` stands for; empty, as in every image of the original, is `no`. None: nothing.
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
    fn every_name_is_read_as_what_it_names_and_nothing_is_no() {
        for update in BaseUpdate::ALL {
            assert_eq!(BaseUpdate::from_name(update.name()), Some(update));
        }
        assert_eq!(BaseUpdate::from_name(""), Some(BaseUpdate::No));
        assert_eq!(BaseUpdate::from_name("Writeback"), None);
    }
}
