//! The files of an open image.

/// The image file, and the separate data file if there is one.
pub(in crate::image) struct Files<S> {
    file: S,
    data: Option<S>,
}

impl<S> Files<S> {
    pub(in crate::image) fn new(file: S, data: Option<S>) -> Self {
        Self { file, data }
    }

    /// The file with the metadata. It also holds the data, unless a separate file does.
    pub(in crate::image) fn file(&self) -> &S {
        &self.file
    }

    /// The file with the guest's data: the separate one, or the image itself.
    pub(in crate::image) fn data(&self) -> &S {
        self.data.as_ref().unwrap_or(&self.file)
    }

    /// Whether the data is in a file of its own.
    pub(in crate::image) fn has_separate_data(&self) -> bool {
        self.data.is_some()
    }
}
