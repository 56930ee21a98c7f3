//! Fields that are only numbers or keywords.

use super::*;
use crate::format::FieldValue;
use crate::format::options::{self, Kind as Accepts};

fn overlay() -> Sample<MemoryStorage> {
    let kind = Kind {
        based: true,
        separate: true,
        ..Kind::default()
    };
    sample(&options(kind), false)
}

#[test]
fn every_attribute_changes_only_the_field_of_its_name() {
    for (option, amend) in options::of_amend().filter(|(_, amend)| amend.set.is_some()) {
        let sample = overlay();
        let before = sample.header().fields();
        let value = match option.kind {
            Accepts::Bool => Value::Bool(amend.name != "clean_shutdown"),
            Accepts::Number(_, most) | Accepts::Size(_, most) => Value::Int(most.min(24 << 12)),
            Accepts::Word(words) => text(words[1]),
            Accepts::File => text("other"),
            Accepts::SignedSize | Accepts::Text => unreachable!("no attribute has that type"),
        };
        let expected = match &value {
            Value::Bool(on) => FieldValue::Bool(*on),
            Value::Int(number) => FieldValue::Int(*number),
            Value::Beyond(_) => unreachable!("no field can hold it"),
            Value::Text(name) => FieldValue::Text(name.to_string_lossy().into_owned()),
        };
        sample.amend(&changes([(amend.name, value)])).expect("amended");
        let after = sample.header().fields();
        // Local blocks were never written to the base, so the image becomes unclean.
        let makes_unclean = amend.name == "write_updates_base_img";
        let expected_too = |name: &str| makes_unclean && name == "clean_shutdown";
        let changes = before.iter().zip(&after).filter(|(old, new)| old != new);
        let changed: Vec<_> = changes.filter(|(_, (name, _))| !expected_too(name)).collect();
        let [(_, (name, value))] = changed[..] else {
            panic!("{}: {changed:?}", amend.name);
        };
        assert_eq!((*name, value), (amend.name, &expected));
    }
}

#[test]
fn values_out_of_range_are_refused_by_name() {
    for (name, value, expected) in [
        (
            "prefetch_perf_calc_alpha",
            Value::Int(101),
            "a number from 0 to 100, not 101",
        ),
        ("prefetch_perf_calc_alpha", Value::Int(-1), "a number from 0 to 100"),
        ("num_prefetch_slots", Value::Int(0), "a number from 1 to 2147483647"),
        (
            "num_prefetch_slots",
            Value::Bool(true),
            "a number from 1 to 2147483647, not on",
        ),
        ("prefetch_start_delay", Value::Int(1 << 31), "a number from -2147483648"),
        ("copy_on_read", Value::Int(1), "'on' or 'off', not 1"),
        ("write_updates_base_img", text("maybe"), "one of 'no', 'writethrough'"),
        (
            "base_img_fmt",
            text("vmdk"),
            "one of '', 'raw', 'qcow2', 'fvd', not 'vmdk'",
        ),
        ("base_img", Value::Int(5), "a name, not 5"),
        ("size", text("x"), "a number from 0 to 9223372036854775296, not 'x'"),
        ("clean_shutdown", Value::Int(1), "'on' or 'off'"),
    ] {
        let error = Changes::default().set(name, value).expect_err("refused");
        let message = error.to_string();
        assert!(
            message.contains(&format!("Parameter '{name}' expects {expected}")),
            "{message}"
        );
    }
    let error = Changes::default()
        .set("block_size", Value::Int(512))
        .expect_err("refused");
    assert_eq!(error.to_string(), "Invalid parameter 'block_size'");
}

#[test]
fn values_are_rounded_up_to_units_as_at_creation() {
    let sample = overlay();
    let header = sample
        .amend(&changes([("bytes_per_prefetch", int(12289))]))
        .expect("amended");
    assert_eq!(header.bytes_per_prefetch, 2 * 12288);
    let header = sample
        .amend(&changes([("storage_grow_unit", int(1))]))
        .expect("amended");
    assert_eq!(header.storage_grow_unit, CHUNK);
    let most = int(i32::MAX as u64);
    let message = sample.refusal([("bytes_per_prefetch", most)]);
    assert!(message.contains("rounded up to whole blocks of 12288"), "{message}");
}

#[test]
fn attributes_of_a_base_need_a_base() {
    let sample = sample(&options(Kind::default()), false);
    let message = sample.refusal([("copy_on_read", Value::Bool(true))]);
    assert!(message.contains("copy_on_read needs a backing file"), "{message}");
    sample.refusal([("base_img_fmt", text("raw"))]);
    sample.refusal([("num_prefetch_slots", int(2))]);
    sample
        .amend(&changes([("copy_on_read", Value::Bool(false))]))
        .expect("as it is");
    sample
        .amend(&changes([("need_zero_init", Value::Bool(true))]))
        .expect("no base needed");
}

#[test]
fn the_last_of_two_values_is_used() {
    let sample = overlay();
    let twice = changes([("prefetch_start_delay", int(5)), ("prefetch_start_delay", int(9))]);
    assert_eq!(sample.amend(&twice).expect("amended").prefetch_start_delay, 9);
}
