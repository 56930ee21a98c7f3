//! Info: what the header says, for people and programs. No file that it names is opened.

use std::ffi::OsString;

use crate::error::Result;
use crate::format::records::BASE_PIN;
use crate::format::{Area, Header, StoredPin};
use crate::image::{Head, read_head};
use crate::storage::Storage;

/// A file that an image names. Untrusted: it must be opened through the [`gate`](crate::gate) only.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamedFile {
    /// Path or URL, as stored.
    pub name: OsString,
    /// Its format, if the image says so.
    pub format: Option<String>,
}

/// The prefetch profile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProfileInfo {
    /// Bytes of its region.
    pub size: u64,
    /// Number of its entries.
    pub entries: u64,
}

/// What the header of an image says.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a field of the format, or follows from one"
)]
pub struct Info {
    /// Size of the disk in bytes.
    pub virtual_size: u64,
    /// The image was not closed, or is open for writing.
    pub dirty: bool,
    /// Dirty, and no journal tells what is missing: the image must be repaired before it can be opened.
    pub suspect: bool,
    /// Whether there is a table.
    pub compact: bool,
    /// Size of a chunk in bytes; None unless the image is compact.
    pub chunk_size: Option<u64>,
    /// Size of a block in bytes; None without a bitmap.
    pub block_size: Option<u64>,
    /// The base image, even if it is no longer needed.
    pub base: Option<NamedFile>,
    /// Which object the base is, if it was pinned.
    pub base_pin: Option<StoredPin>,
    /// What is wrong with the record area, where the pin lies. None: nothing.
    pub damaged_records: Option<&'static str>,
    /// Bytes of the disk that the base covers.
    pub base_size: u64,
    /// The base is never read again. Also true without a base.
    pub all_local: bool,
    /// The separate data file.
    pub data_file: Option<NamedFile>,
    /// Size of the journal in bytes; 0: there is none.
    pub journal_size: u64,
    /// Offset in bytes of the data, in the image or in the data file.
    pub data_offset: u64,
    /// The prefetch profile; None without room for one.
    pub profile: Option<ProfileInfo>,
    /// Every field as stored; [`Header::fields`] lists them.
    pub header: Header,
}

/// Reads the header of the image in `file`, and checks it.
pub async fn info<S: Storage>(file: &S) -> Result<Info> {
    Ok(Info::from(read_head(file).await?))
}

impl From<Head> for Info {
    fn from(head: Head) -> Self {
        let suspect = head.is_suspect();
        // A pin that cannot be understood is shown as a damage.
        let base_pin = head.records.get(BASE_PIN).map(StoredPin::decode);
        let damaged_records = match (&head.records, &base_pin) {
            (Area::Damaged(why), _) => Some(*why),
            (_, Some(Err(_))) => Some("the pin cannot be read"),
            _ => None,
        };
        let Head { header, geometry, .. } = head;
        let compact = geometry.table.is_some();
        let base = named(&header.base_img, &header.base_img_fmt);
        Self {
            virtual_size: geometry.virtual_size,
            dirty: !header.clean_shutdown,
            suspect,
            compact,
            chunk_size: compact.then_some(geometry.chunk_size),
            block_size: geometry.bitmap.map(|_| geometry.block_size),
            base_pin: base_pin.and_then(Result::ok),
            damaged_records,
            base_size: geometry.base_size,
            all_local: header.all_data_in_fvd_img || base.is_none(),
            data_file: named(&header.data_file, &header.data_file_fmt),
            journal_size: geometry.journal.map_or(0, |region| region.size),
            data_offset: geometry.data_offset,
            profile: geometry.profile.map(|region| ProfileInfo {
                size: region.size,
                entries: geometry.profile_entries,
            }),
            base,
            header,
        }
    }
}

fn named(name: &OsString, format: &str) -> Option<NamedFile> {
    let format = Some(format).filter(|format| !format.is_empty());
    (!name.is_empty()).then(|| NamedFile {
        name: name.clone(),
        format: format.map(str::to_owned),
    })
}

#[cfg(test)]
mod tests {
    use pollster::block_on;

    use super::*;
    use crate::format::LayoutOptions;
    use crate::image::{CreateOptions, create};
    use crate::storage::MemoryStorage;

    fn info_of(options: &CreateOptions) -> Info {
        let file = MemoryStorage::new();
        block_on(create(&file, None, options, None)).expect("created");
        block_on(info(&file)).expect("valid")
    }

    #[test]
    fn an_overlay_shows_its_base_and_how_it_prefetches() {
        let info = info_of(&CreateOptions {
            layout: LayoutOptions {
                virtual_size: 4 << 20,
                base_size: Some(3 << 20),
                block_size: Some(65536),
                ..LayoutOptions::default()
            },
            base_img: "base.raw".into(),
            base_img_fmt: "raw".to_owned(),
            prefetch_start_delay: Some(7),
            ..CreateOptions::default()
        });
        let base = NamedFile {
            name: "base.raw".into(),
            format: Some("raw".to_owned()),
        };
        assert_eq!(info.base, Some(base));
        assert_eq!((info.base_size, info.block_size), (3 << 20, Some(65536)));
        assert_eq!(info.journal_size, 16 << 20);
        assert!(!info.all_local && !info.dirty && !info.suspect && !info.compact);
        assert_eq!((info.chunk_size, info.data_file), (None, None));
        assert_eq!(info.header.prefetch_start_delay, 7);
        assert_eq!(info.profile, None);
    }

    #[test]
    fn a_profile_gets_room_and_needs_a_base() {
        let options = CreateOptions {
            layout: LayoutOptions {
                virtual_size: 4 << 20,
                base_size: Some(3 << 20),
                ..LayoutOptions::default()
            },
            base_img: "base.raw".into(),
            ..CreateOptions::default()
        };
        let recording = CreateOptions {
            generate_prefetch_profile: true,
            ..options.clone()
        };
        let profile = info_of(&recording).profile.expect("room");
        assert_eq!((profile.size, profile.entries), (64 << 10, 0));
        let mut using = options.clone();
        using.profile_directed_prefetch_start_delay = Some(0);
        assert_eq!(info_of(&using).profile.expect("room").size, 64 << 10);
        using.layout.prefetch_profile_size = Some(4096);
        assert_eq!(info_of(&using).profile.expect("room").size, 4096);
        using.layout.prefetch_profile_size = Some(0);
        let error = using.header().expect_err("no room").to_string();
        assert!(error.contains("prefetch_profile_size"), "{error}");
        let mut baseless = recording;
        baseless.layout.base_size = None;
        let error = baseless.header().expect_err("no base").to_string();
        assert!(error.contains("needs a backing file"), "{error}");
    }

    #[test]
    fn a_compact_image_without_journal_is_suspect_once_dirty() {
        let file = MemoryStorage::new();
        let options = CreateOptions {
            layout: LayoutOptions {
                virtual_size: 4 << 20,
                compact: true,
                journal_size: Some(-1),
                ..LayoutOptions::default()
            },
            data_file: "data.raw".into(),
            ..CreateOptions::default()
        };
        let mut header = block_on(create(&file, None, &options, None)).expect("created");
        header.clean_shutdown = false;
        let bytes = header.encode().expect("fits").into();
        block_on(file.write(bytes, 0)).expect("written");
        let info = block_on(info(&file)).expect("valid");
        assert!(info.dirty && info.suspect && info.compact && info.all_local);
        assert_eq!((info.chunk_size, info.data_offset), (Some(1 << 20), 0));
        assert_eq!(info.data_file.expect("named").format, None);
        assert_eq!(info.base, None);
    }
}
