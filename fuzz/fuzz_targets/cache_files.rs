//! The files of the host cache.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let dir = tempfile::tempdir().expect("a folder");
    fvd_remote::fuzz::cache_files(dir.path(), data);
});
