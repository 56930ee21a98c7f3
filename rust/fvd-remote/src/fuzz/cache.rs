//! The host cache, with files that hold anything.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use fvd::remote::{Pin, Validator};

use super::choices::Choices;
use crate::cache::{
    Folder, HEADER, Label, Missing, Quick, StoredObject as Object, list_cache, prune_cache, verify_cache,
};
use crate::fetch::UNIT;

const LEN: u64 = 3 * UNIT + 777;
const CHECKSUM: u64 = 36;

/// Fills a cache in `dir`, which must be empty, changes its files as `data` decides, and uses it.
///
/// # Panics
///
/// If a read gives bytes that are not the object's, before or after what is missing is stored again.
pub fn cache_files(dir: &Path, data: &[u8]) {
    let medium = Arc::new(Folder::open(dir, Missing::Make).expect("a new folder"));
    let object = Object::open(&(Arc::clone(&medium) as _), &label())
        .expect("a disk")
        .expect("made");
    fill(&object);
    // Half of the time a process has it open while it is changed.
    let mut choices = Choices::new(data);
    let open = (choices.byte() & 1 == 0).then_some(object);
    while !choices.is_empty() {
        damage(&dir.join("v1").join(label().name()), &mut choices);
    }
    open.iter().for_each(read);
    // None of them may fail but with an error.
    _ = list_cache(dir);
    if choices.byte() & 1 == 0 {
        _ = verify_cache(dir);
    }
    _ = prune_cache(dir, u64::MAX);
    drop(open);
    if let Ok(Some(object)) = Object::open(&(Arc::clone(&medium) as _), &label()) {
        check(&object);
        fill(&object);
        check(&object);
    }
    _ = prune_cache(dir, 0);
}

fn label() -> Label {
    let pin = Pin {
        len: LEN,
        validator: Validator::ETag("\"v0\"".to_owned()),
    };
    Label::new("http://store.example/x", &pin, UNIT as u32).expect("it fits")
}

fn content(unit: u64) -> Vec<u8> {
    let len = UNIT.min(LEN - unit * UNIT);
    (0..len).map(|at| (at ^ at >> 8 ^ unit) as u8 | 1).collect()
}

/// Stores what is not there.
fn fill(object: &Arc<Object>) {
    for unit in 0..LEN.div_ceil(UNIT) {
        if let Ok(Some(lead)) = object.lead(unit)
            && let Ok(None) = lead.read()
        {
            // A file may be anything now, so this may fail.
            _ = lead.publish(&content(unit));
        }
    }
}

/// What a process has checked is not checked again (docs/design/cache.md, "Limits").
fn read(object: &Arc<Object>) {
    for unit in 0..LEN.div_ceil(UNIT) {
        let mut buf = vec![0; content(unit).len()];
        if let Ok(Quick::No) = object.read_quickly(unit, &mut buf, 0) {
            _ = object.read_unit(unit);
        }
    }
}

/// A unit that is there is the right one.
fn check(object: &Arc<Object>) {
    for unit in 0..LEN.div_ceil(UNIT) {
        let expected = content(unit);
        if let Ok(Some(found)) = object.read_unit(unit) {
            assert!(found.as_ref() == expected, "unit {unit} is not the right one");
        }
    }
}

const NUMBERS: [u64; 8] = [0, 1, 3, 1 << 31, u32::MAX as u64, 1 << 40, i64::MAX as u64, u64::MAX];

/// One change of the files of an object.
fn damage(folder: &Path, choices: &mut Choices<'_>) {
    let file = folder.join(choices.one_of(&["index", "data"]));
    let index = folder.join("index");
    match choices.below(10) {
        0 => write(&file, choices.below(1 << 14) as u64, &[choices.byte()]),
        // Length, unit, kind and lengths of texts.
        1 => write(
            &index,
            choices.one_of(&[12, 16, 24, 28, 32]),
            &hostile(choices).to_le_bytes()[..4],
        ),
        2 => write(&index, 16, &hostile(choices).to_le_bytes()),
        // An entry: its checksum, its generation, or all of it.
        3 => {
            let entry = HEADER as u64 + 16 * choices.below(5) as u64;
            write(
                &index,
                entry + choices.one_of(&[0, 4, 8]),
                &hostile(choices).to_le_bytes()[..4],
            );
        }
        4 => set_len(&file, hostile(choices) % (1 << 42)),
        5 => set_len(&file, choices.below(1 << 13) as u64),
        6 => sign(&index),
        7 => {
            sign(&index);
            rename(folder);
        }
        8 => write(
            &folder.join("data"),
            choices.below(4) as u64 * UNIT,
            &content(choices.below(4) as u64),
        ),
        _ => replace(&file, choices.below(4)),
    }
}

fn hostile(choices: &mut Choices<'_>) -> u64 {
    match choices.below(2) {
        0 => choices.one_of(&NUMBERS),
        _ => choices.number(),
    }
}

// Files may be missing by now, or be something else.

fn write(file: &Path, at: u64, bytes: &[u8]) {
    if let Ok(file) = OpenOptions::new().write(true).open(file) {
        _ = file.write_all_at(bytes, at);
    }
}

fn set_len(file: &Path, len: u64) {
    if let Ok(file) = OpenOptions::new().write(true).open(file) {
        _ = file.set_len(len);
    }
}

/// Makes the checksum of a header right.
fn sign(index: &Path) {
    let Ok(mut header) = header(index) else { return };
    header[CHECKSUM as usize..CHECKSUM as usize + 4].fill(0);
    write(index, CHECKSUM, &crc32c::crc32c(&header).to_le_bytes());
}

fn header(index: &Path) -> std::io::Result<Vec<u8>> {
    let mut header = vec![0; HEADER];
    if !fs::metadata(index)?.is_file() {
        return Err(std::io::ErrorKind::InvalidInput.into());
    }
    fs::File::open(index)?.read_exact_at(&mut header, 0)?;
    Ok(header)
}

/// Gives a folder the name that its header asks for.
fn rename(folder: &Path) {
    let label = header(&folder.join("index"))
        .ok()
        .and_then(|header| Label::decode(&header));
    if let Some(label) = label {
        let target: PathBuf = folder.with_file_name(label.name());
        // It may be there already.
        _ = fs::rename(folder, target);
    }
}

/// Puts something else in the place of a file.
fn replace(file: &Path, by: usize) {
    if fs::remove_file(file).is_err() {
        return;
    }
    // What fails here is tried with other bytes.
    _ = match by {
        0 => Ok(()),
        1 => fs::create_dir(file),
        2 => std::os::unix::fs::symlink("/etc/hostname", file),
        _ => fs::write(file, b""),
    };
}
