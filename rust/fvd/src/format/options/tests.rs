use super::*;

/// Both ends of the legal numbers of an option that is a number.
fn ends(option: &FormatOption) -> Option<[i64; 2]> {
    match option.kind {
        Kind::Number(least, most) | Kind::Size(least, most) => Some([least, most]),
        _ => None,
    }
}

#[test]
fn every_legal_number_fits_into_its_field() {
    for (option, create) in of_create() {
        for number in ends(option).into_iter().flatten() {
            let mut new = CreateOptions::default();
            let stored = create.set.is_none_or(|set| set(&mut new, &Value::Int(number)));
            assert!(stored, "create {} {number}", create.name);
        }
    }
    for (option, amend) in of_amend() {
        for number in ends(option).into_iter().flatten() {
            let mut header = Header::default();
            let stored = amend.set.is_none_or(|set| set(&mut header, &Value::Int(number)));
            assert!(stored, "amend {} {number}", amend.name);
            let outside = [number.checked_sub(1), number.checked_add(1)].map(|it| it.map(Value::Int));
            let refused = outside.iter().flatten().filter(|it| !option.accepts(it)).count();
            assert!(refused == 1 || number == i64::MAX, "{} {number}", amend.name);
        }
    }
}

#[test]
fn every_default_is_legal() {
    for option in &OPTIONS {
        if let Some(default) = option.default {
            assert!(option.accepts(&Value::Int(default)), "{option:?}");
        }
    }
}

#[test]
fn no_placeholder_is_left_in_a_text() {
    let create = of_create().map(|(option, create)| option.limits(create));
    let amend = of_amend().map(|(option, amend)| option.limits(amend));
    for text in create.chain(amend) {
        assert!(!text.contains('<'), "{text}");
    }
}

#[test]
fn every_name_means_one_option() {
    let create: Vec<_> = of_create().map(|(_, create)| create.name).collect();
    assert!(create.is_sorted() && create.windows(2).all(|pair| pair[0] != pair[1]));
    let names = of_amend().map(|(_, amend)| amend.name);
    let mut amend: Vec<_> = names.chain(aliases().map(|(other, _)| other)).collect();
    let count = amend.len();
    amend.sort_unstable();
    amend.dedup();
    assert_eq!(amend.len(), count);
}

#[test]
fn a_value_that_create_cannot_store_is_refused_by_name() {
    for (name, value, expected) in [
        ("block_size", Value::Int(-1), "a number from 1 to 2147483136, not -1"),
        (
            "prefetch_start_delay",
            Value::Int(1 << 31),
            "a number from -2147483648 to",
        ),
        (
            "journal_size",
            Value::Beyond("9223372036854775808".to_owned()),
            "a number from -2^63 to 2^63 - 1, not 9223372036854775808",
        ),
        ("copy_on_read", Value::Int(1), "'on' or 'off', not 1"),
        ("data_file", Value::Bool(true), "a name, not on"),
    ] {
        let error = CreateOptions::default()
            .set(name, &value)
            .expect_err("refused")
            .to_string();
        assert!(
            error.contains(&format!("Parameter '{name}' expects {expected}")),
            "{error}"
        );
    }
    for name in ["size", "backing_file", "num_prefetch_slots", "nonsense"] {
        let error = CreateOptions::default().set(name, &Value::Int(1)).expect_err("refused");
        assert_eq!(error.to_string(), format!("Invalid parameter '{name}'"));
    }
}
