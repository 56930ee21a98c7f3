//! The same in normal tests: bytes from seeds.

#[path = "../../../fvd/tests/seeds/mod.rs"]
mod seeds;

use super::{cache_files, http_answers};

fn bytes(rng: &mut fastrand::Rng, most: usize) -> Vec<u8> {
    let len = rng.usize(..most);
    std::iter::repeat_with(|| rng.u8(..)).take(len).collect()
}

#[test]
fn fuzz_no_answer_of_a_server_gives_wrong_bytes_or_no_end() {
    seeds::fuzz(600, |rng| http_answers(&bytes(rng, 150)));
}

#[test]
fn fuzz_no_file_of_the_host_cache_gives_wrong_bytes() {
    seeds::fuzz(300, |rng| {
        let dir = tempfile::tempdir().expect("a folder");
        cache_files(dir.path(), &bytes(rng, 60));
    });
}
