//! Tests with existing clients: nbdinfo, nbdcopy, qemu-img, qemu-io.

use std::fs;
use std::sync::Arc;

use fastrand::Rng;
use fvd_nbd::protocol::export::ExportInfo;
use fvd_nbd::server::{Limits, MemoryExport};

use crate::host::Host;
use crate::programs::run;

const MIB: usize = 1 << 20;

fn host(exports: impl IntoIterator<Item = MemoryExport>) -> (Host<MemoryExport>, Vec<Arc<MemoryExport>>) {
    let exports: Vec<_> = exports.into_iter().map(Arc::new).collect();
    (Host::new(Limits::default(), exports.clone()), exports)
}

#[test]
fn nbdinfo_lists_every_export_with_its_capabilities() {
    let read_only = ExportInfo {
        read_only: true,
        description: "nothing to write".into(),
        ..ExportInfo::new("ro", 512)
    };
    let (host, _) = host([MemoryExport::new("disk", MIB), MemoryExport::with_info(read_only)]);
    let listed = run("nbdinfo", &["--list", &host.uri("")]);
    for line in [
        "protocol: newstyle-fixed without TLS",
        "export=\"disk\":",
        "export-size: 1048576 (1M)",
        "base:allocation",
        "qemu:allocation-depth",
        "can_fast_zero: true",
        "can_multi_conn: true",
        "block_size_maximum: 67108864",
        "description: nothing to write",
        "is_read_only: true",
    ] {
        assert!(listed.contains(line), "{line} is missing in {listed}");
    }
    assert_eq!(host.stop(), [""; 0]);
}

#[test]
fn nbdcopy_copies_in_and_out_without_changes() {
    let (host, exports) = host([MemoryExport::new("disk", 64 * MIB)]);
    let mut data = vec![0; 64 * MIB];
    let mut rng = Rng::with_seed(7);
    for piece in data.chunks_mut(300_000).step_by(3) {
        piece.fill_with(|| rng.u8(..));
    }
    let (from, to) = (host.folder().join("from"), host.folder().join("to"));
    fs::write(&from, &data).unwrap();
    run("nbdcopy", &["--flush", from.to_str().unwrap(), &host.uri("disk")]);
    assert!(exports[0].content() == data, "what was copied in");
    assert!(exports[0].flushes() > 0);
    run("nbdcopy", &[&host.uri("disk"), to.to_str().unwrap()]);
    assert!(fs::read(to).unwrap() == data, "what was copied out");
    assert_eq!(host.stop(), [""; 0]);
}

#[test]
fn qemu_img_maps_holes_and_data() {
    let (host, _) = host([MemoryExport::new("disk", 8 * MIB)]);
    run("qemu-io", &["-f", "raw", "-c", "write -P 7 1M 64k", &host.uri("disk")]);
    let map = run("qemu-img", &["map", "-f", "raw", "--output=json", &host.uri("disk")]);
    // "present" depends on the version of qemu-img.
    let map = map
        .replace("\"present\": true, ", "")
        .replace("\"present\": false, ", "");
    for line in [
        "\"start\": 0, \"length\": 1048576, \"depth\": 0, \"zero\": true, \"data\": false",
        "\"start\": 1048576, \"length\": 65536, \"depth\": 0, \"zero\": false, \"data\": true",
        "\"start\": 1114112, \"length\": 7274496, \"depth\": 0, \"zero\": true, \"data\": false",
    ] {
        assert!(map.contains(line), "{line} is missing in {map}");
    }
    let depth = run("nbdinfo", &["--map=qemu:allocation-depth", &host.uri("disk")]);
    assert!(depth.contains("1048576       65536    1"), "{depth}");
    assert_eq!(host.stop(), [""; 0]);
}

#[test]
fn qemu_io_writes_reads_zeroes_discards_and_flushes() {
    let (host, exports) = host([MemoryExport::new("disk", 200 * MIB)]);
    let commands = [
        "write -P 1 0 100M",
        "write -f -P 2 4096 512",
        "write -z 1M 1M",
        "discard 2M 1M",
        "flush",
        "read -P 1 0 4096",
        "read -P 2 4096 512",
        "read -P 1 4608 512",
        "read -P 0 1M 2M",
        "read -P 1 3M 97M",
        "read -P 0 100M 100M",
    ];
    let uri = host.uri("disk");
    let mut arguments = vec!["-f", "raw"];
    arguments.extend(commands.iter().flat_map(|command| ["-c", command]));
    arguments.push(&uri);
    let printed = run("qemu-io", &arguments);
    assert!(
        !printed.contains("verification failed") && !printed.contains("error"),
        "{printed}"
    );
    assert!(exports[0].flushes() >= 2, "a flush and a write with FUA");
    assert_eq!(host.stop(), [""; 0]);
}
