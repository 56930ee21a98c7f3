//! The subject of a certificate as text, in the form of RFC 4514.
//!
//! It is used only for certificates whose signature was verified. The bytes still come from the client and
//! are not trusted.

use std::fmt::Write as _;

const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;
const INTEGER: u8 = 0x02;
const OBJECT_ID: u8 = 0x06;
const UTF8_STRING: u8 = 0x0c;
const PRINTABLE_STRING: u8 = 0x13;
const IA5_STRING: u8 = 0x16;
/// The optional version of a certificate.
const VERSION: u8 = 0xa0;

/// The RFC 4514 names of attribute types, by their object ids in DER.
const TYPES: [(&[u8], &str); 9] = [
    (&[0x55, 4, 3], "CN"),
    (&[0x55, 4, 7], "L"),
    (&[0x55, 4, 8], "ST"),
    (&[0x55, 4, 10], "O"),
    (&[0x55, 4, 11], "OU"),
    (&[0x55, 4, 6], "C"),
    (&[0x55, 4, 9], "STREET"),
    (&[0x09, 0x92, 0x26, 0x89, 0x93, 0xf2, 0x2c, 0x64, 1, 25], "DC"),
    (&[0x09, 0x92, 0x26, 0x89, 0x93, 0xf2, 0x2c, 0x64, 1, 1], "UID"),
];

/// The distinguished name of the subject of `certificate` (DER), the most specific part first:
/// `CN=laptop,O=Example,C=GB`. None if it cannot be parsed.
pub(super) fn subject(certificate: &[u8]) -> Option<String> {
    let mut outer = Der(Der(certificate).expect(SEQUENCE)?);
    let mut fields = Der(outer.expect(SEQUENCE)?);
    if fields.0.first() == Some(&VERSION) {
        fields.expect(VERSION)?;
    }
    fields.expect(INTEGER)?; // serial number
    fields.expect(SEQUENCE)?; // algorithm
    fields.expect(SEQUENCE)?; // issuer
    fields.expect(SEQUENCE)?; // validity
    let mut names = Der(fields.expect(SEQUENCE)?);
    let mut parts = Vec::new();
    while !names.0.is_empty() {
        parts.push(part(Der(names.expect(SET)?))?);
    }
    parts.reverse();
    Some(parts.join(","))
}

/// One part of a name. It usually has one attribute.
fn part(mut attributes: Der<'_>) -> Option<String> {
    let mut texts = Vec::new();
    while !attributes.0.is_empty() {
        let mut attribute = Der(attributes.expect(SEQUENCE)?);
        let id = attribute.expect(OBJECT_ID)?;
        let whole = attribute.0;
        let (tag, value) = attribute.next()?;
        texts.push(match (type_name(id), text_of(tag, value)) {
            (Some(name), Some(text)) => format!("{name}={}", escaped(text)),
            (Some(name), None) => format!("{name}=#{}", hex(whole)),
            (None, _) => format!("{}=#{}", dotted(id), hex(whole)),
        });
    }
    Some(texts.join("+"))
}

fn type_name(id: &[u8]) -> Option<&'static str> {
    TYPES.iter().find(|(known, _)| *known == id).map(|(_, name)| *name)
}

fn text_of(tag: u8, value: &[u8]) -> Option<&str> {
    match tag {
        UTF8_STRING | PRINTABLE_STRING | IA5_STRING => str::from_utf8(value).ok(),
        _ => None,
    }
}

/// Escapes with a backslash the characters that would end a value, and control characters.
fn escaped(text: &str) -> String {
    let mut out = String::new();
    let last = text.chars().count().saturating_sub(1);
    for (at, character) in text.chars().enumerate() {
        match character {
            ',' | '+' | '"' | '\\' | '<' | '>' | ';' => out.extend(['\\', character]),
            '#' if at == 0 => out.push_str("\\#"),
            ' ' if at == 0 || at == last => out.push_str("\\ "),
            _ if character.is_control() => {
                let mut bytes = [0; 4];
                for byte in character.encode_utf8(&mut bytes).bytes() {
                    // Writing to a String does not fail.
                    let _ = write!(out, "\\{byte:02X}");
                }
            }
            _ => out.push(character),
        }
    }
    out
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a String does not fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// An object id in dotted form. Each number is encoded in groups of 7 bits. The first encodes two numbers.
fn dotted(id: &[u8]) -> String {
    let mut numbers = Vec::new();
    let mut number: u64 = 0;
    for &byte in id {
        number = number << 7 | u64::from(byte & 0x7f);
        if byte & 0x80 == 0 {
            if numbers.is_empty() {
                let first = (number / 40).min(2);
                numbers.extend([first, number - 40 * first]);
            } else {
                numbers.push(number);
            }
            number = 0;
        }
    }
    let numbers: Vec<_> = numbers.iter().map(u64::to_string).collect();
    numbers.join(".")
}

/// A sequence of DER values.
struct Der<'a>(&'a [u8]);

impl<'a> Der<'a> {
    /// Tag and content of the next value.
    fn next(&mut self) -> Option<(u8, &'a [u8])> {
        let (&[tag, length], rest) = self.0.split_first_chunk()?;
        let (length, rest) = if length < 0x80 {
            (usize::from(length), rest)
        } else {
            // At most 4 length bytes: no certificate is longer than that.
            let count = usize::from(length & 0x7f);
            let (bytes, rest) = rest.split_at_checked(count).filter(|_| (1..=4).contains(&count))?;
            let length = bytes.iter().fold(0, |all, byte| all << 8 | usize::from(*byte));
            (length, rest)
        };
        let (content, rest) = rest.split_at_checked(length)?;
        self.0 = rest;
        Some((tag, content))
    }

    /// The content of the next value, which must have this tag.
    fn expect(&mut self, tag: u8) -> Option<&'a [u8]> {
        self.next()
            .filter(|(found, _)| *found == tag)
            .map(|(_, content)| content)
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, DnType, DnValue, KeyPair};

    use super::*;

    fn certificate(name: &[(DnType, DnValue)]) -> Vec<u8> {
        let mut params = CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        for (kind, value) in name {
            params.distinguished_name.push(kind.clone(), value.clone());
        }
        let key = KeyPair::generate().expect("a key");
        params.self_signed(&key).expect("a certificate").der().to_vec()
    }

    #[test]
    fn a_subject_reads_as_rfc_4514_writes_it() {
        let name = [
            (DnType::CountryName, DnValue::PrintableString("GB".try_into().unwrap())),
            (DnType::OrganizationName, "Example, Ltd".into()),
            (DnType::CommonName, "lap top é".into()),
        ];
        assert_eq!(
            subject(&certificate(&name)).unwrap(),
            "CN=lap top é,O=Example\\, Ltd,C=GB"
        );
        assert_eq!(subject(&certificate(&[])).unwrap(), "");
    }

    #[test]
    fn no_value_can_pose_as_another_part_of_the_name() {
        for (value, expected) in [
            ("a,O=b", "CN=a\\,O\\=b".replace("\\=", "=")),
            ("a+O=b", "CN=a\\+O=b".into()),
            (" #a\\ ", "CN=\\ #a\\\\\\ ".into()),
            ("#a", "CN=\\#a".into()),
            ("a\nb\0", "CN=a\\0Ab\\00".into()),
        ] {
            assert_eq!(
                subject(&certificate(&[(DnType::CommonName, value.into())])).unwrap(),
                expected
            );
        }
        let custom = DnType::CustomDnType(vec![1, 2, 840, 113_549, 1, 9, 1]);
        let text = subject(&certificate(&[(custom, "x@y".into())])).unwrap();
        assert_eq!(text, "1.2.840.113549.1.9.1=#0c03784079");
    }

    #[test]
    fn invalid_certificates_have_no_subject() {
        let whole = certificate(&[(DnType::CommonName, "a".into())]);
        for end in 0..whole.len() {
            assert_eq!(subject(&whole[..end]), None);
        }
        let mut rng = fastrand::Rng::with_seed(20);
        for _ in 0..20_000 {
            let mut bytes = whole.clone();
            for _ in 0..rng.usize(1..4) {
                let at = rng.usize(..bytes.len().min(150));
                bytes[at] = rng.u8(..);
            }
            // Only a panic would be an error.
            let _ = subject(&bytes);
        }
    }
}
