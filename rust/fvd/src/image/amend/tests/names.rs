//! The base, the data file and the clean mark.

use super::*;

fn based(kind: Kind) -> Sample<MemoryStorage> {
    sample(&options(Kind { based: true, ..kind }), true)
}

#[test]
fn a_renamed_base_changes_nothing_else() {
    let sample = based(Kind::default());
    let before = content(&sample);
    let old = sample.header();
    let changes = changes([("base_img", text("moved/base")), ("base_img_fmt", text("raw"))]);
    let new = sample.amend(&changes).expect("amended");
    assert_eq!(
        (new.base_img.to_str(), new.base_img_fmt.as_str()),
        (Some("moved/base"), "raw")
    );
    let same = Header {
        base_img: old.base_img.clone(),
        base_img_fmt: String::new(),
        clean_shutdown: false,
        ..new
    };
    assert_eq!(same, old);
    assert_eq!(content(&sample), before);
}

#[test]
fn the_journal_is_erased_when_the_base_changes() {
    let sample = based(Kind::default());
    sample.amend(&changes([("base_img", text("b"))])).expect("amended");
    let journal = sample.geometry().journal.expect("one");
    let bytes = &sample.file.to_vec()[journal.offset as usize..journal.end() as usize];
    assert!(bytes.iter().all(|byte| *byte == 0));
}

#[test]
fn only_a_base_that_is_not_needed_can_be_dropped() {
    for kind in [0, 1, 2, 3].map(|bits| Kind {
        separate: bits & 1 > 0,
        no_journal: bits & 2 > 0,
        ..Kind::default()
    }) {
        let unclean = !kind.no_journal;
        let sample = sample(&options(Kind { based: true, ..kind }), unclean);
        let message = sample.refusal([("base_img", text(""))]);
        assert!(message.contains("still in the backing file"), "{message}");
        let image = open(&sample, true).expect("opens");
        let before = content(&sample);
        block_on(image.write(before.clone().into(), 0)).expect("written");
        block_on(image.flush()).expect("flushed");
        drop(image);
        // At this point the bits are only in the journal.
        let header = sample.amend(&changes([("base_img", text(""))])).expect("dropped");
        assert!(header.all_data_in_fvd_img && header.base_img.is_empty());
        assert_eq!(content(&sample), before);
        sample.assert_consistent("without a base");
        let message = sample.refusal([("base_img", text("b"))]);
        assert!(message.contains("has no backing file"), "{message}");
    }
}

#[test]
fn a_name_must_fit() {
    let sample = based(Kind::default());
    sample
        .amend(&changes([("base_img", text(&"n".repeat(1023)))]))
        .expect("fits");
    let message = sample.refusal([("base_img", text(&"n".repeat(1024)))]);
    assert!(message.contains("base_img has 1024 bytes"), "{message}");
}

#[test]
fn a_data_file_can_be_renamed_but_not_added_or_removed() {
    let separate = based(Kind {
        separate: true,
        ..Kind::default()
    });
    let before = content(&separate);
    let header = separate
        .amend(&changes([("data_file", text("moved"))]))
        .expect("amended");
    assert_eq!(header.data_file.to_str(), Some("moved"));
    assert_eq!(content(&separate), before);
    separate.refusal([("data_file", text(""))]);
    let inside = based(Kind::default());
    inside.refusal([("data_file", text("d"))]);
    inside.refusal([("data_file_fmt", text("raw"))]);
}

#[test]
fn the_data_file_is_required_only_if_it_is_needed() {
    let sample = based(Kind {
        separate: true,
        ..Kind::default()
    });
    let without = Sample {
        file: sample.file.clone(),
        data: None,
    };
    // The image was not closed, and its recovery would cut the data file.
    without.refusal([("copy_on_read", Value::Bool(true))]);
    sample
        .amend(&changes([("clean_shutdown", Value::Bool(true))]))
        .expect("recovered");
    without
        .amend(&changes([("copy_on_read", Value::Bool(true))]))
        .expect("amended");
    without.refusal([("size", int(2 * SIZE))]);
    without.refusal([("base_img", text(""))]);
}

#[test]
fn marking_an_image_clean_recovers_it() {
    let sample = based(Kind::default());
    assert!(!sample.header().clean_shutdown);
    let before = content(&sample);
    sample
        .amend(&changes([("clean_shutdown", Value::Bool(true))]))
        .expect("recovered");
    assert!(sample.header().clean_shutdown);
    assert_eq!(content(&sample), before);
    sample.assert_consistent("recovered");
}

#[test]
fn an_image_can_be_marked_unclean_only_if_it_can_be_recovered() {
    let unclean = || changes([("clean_shutdown", Value::Bool(false))]);
    let with_journal = based(Kind::default());
    let before = content(&with_journal);
    with_journal.amend(&unclean()).expect("marked");
    assert!(!with_journal.header().clean_shutdown);
    assert_eq!(content(&with_journal), before);
    let kind = Kind {
        no_journal: true,
        ..Kind::default()
    };
    let without = sample(&options(kind), false);
    let message = without.refusal([("clean_shutdown", Value::Bool(false))]);
    assert!(message.contains("without a journal"), "{message}");
}

#[test]
fn a_suspect_image_is_not_amended() {
    let kind = Kind {
        no_journal: true,
        ..Kind::default()
    };
    let sample = sample(&options(kind), false);
    sample.set_clean(false);
    for change in [("clean_shutdown", Value::Bool(true)), ("size", int(2 * SIZE))] {
        let error = sample.amend(&changes([change])).expect_err("refused");
        assert_eq!(error.kind(), crate::ErrorKind::InvalidImage);
    }
    assert!(!sample.header().clean_shutdown);
}
