//! Pre-shared keys: a file with lines `user:key`, the key in hexadecimal digits, as `psktool` writes them.

use std::path::Path;

use fvd::{Error, Result};
use s2n_tls::enums::PskHmac;
use s2n_tls::psk::Psk;

use super::x509::read;
use super::{Credentials, builder};

/// The allowed lengths of a key in bytes: RFC 9257 requires at least 128 bits.
const KEY_LENGTHS: std::ops::RangeInclusive<usize> = 16..=64;

/// The maximum number of users: every handshake goes through all of them.
const MAX_USERS: usize = 1024;

impl Credentials {
    /// Reads keys from `file`. A client must know one of the keys and its user. TLS 1.3 only.
    ///
    /// # Errors
    ///
    /// The file cannot be read, is longer than 1 MiB or not UTF-8, has no key or more than 1024, or has an
    /// invalid line: no user, a key that is not hexadecimal or has not 16 to 64 bytes, a user that occurs
    /// twice.
    pub fn psk(file: &Path) -> Result<Self> {
        let bytes = read(file)?;
        let invalid = |why: String| Error::invalid_argument(why).with_path(file);
        let text = str::from_utf8(&bytes).map_err(|_| invalid("a file with TLS keys is UTF-8 text".into()))?;
        let users = parse(text).map_err(invalid)?;
        make(&users).map_err(|error| invalid(format!("TLS cannot use these keys: {}", error.message())))
    }
}

fn make(users: &[(&str, Vec<u8>)]) -> std::result::Result<Credentials, s2n_tls::error::Error> {
    let key = |(user, secret): &(&str, Vec<u8>)| {
        let mut key = Psk::builder()?;
        key.set_identity(user.as_bytes())?;
        key.set_secret(secret)?;
        // SHA-256 is the hash of keys that specify none (RFC 8446, 4.2.11).
        key.set_hmac(PskHmac::SHA256)?;
        key.build()
    };
    let keys = users.iter().map(key).collect::<std::result::Result<_, _>>()?;
    Credentials::new(builder()?, keys)
}

/// Parses the lines into users and keys. Errors name the line, but never quote it.
fn parse(text: &str) -> std::result::Result<Vec<(&str, Vec<u8>)>, String> {
    let mut users: Vec<(&str, Vec<u8>)> = Vec::new();
    for (number, line) in (1..).zip(text.lines()) {
        if line.trim().is_empty() || line.starts_with('#') {
            continue;
        }
        let (user, key) = line
            .rsplit_once(':')
            .filter(|(user, _)| !user.is_empty())
            .ok_or_else(|| format!("line {number} is not USER:KEY"))?;
        let key = unhex(key.trim_end()).ok_or_else(|| format!("line {number}: the key is no hexadecimal number"))?;
        if !KEY_LENGTHS.contains(&key.len()) {
            let (least, most) = KEY_LENGTHS.into_inner();
            return Err(format!(
                "line {number}: a key has {least} to {most} bytes, two digits each, this one {}",
                key.len()
            ));
        }
        if users.iter().any(|(other, _)| *other == user) {
            return Err(format!("line {number}: this user has a key already"));
        }
        users.push((user, key));
        if users.len() > MAX_USERS {
            return Err(format!("more than {MAX_USERS} users"));
        }
    }
    if users.is_empty() {
        return Err("there is no key; psktool -u USER -p FILE makes one".into());
    }
    Ok(users)
}

fn unhex(digits: &str) -> Option<Vec<u8>> {
    let digit = |byte: u8| char::from(byte).to_digit(16);
    let (pairs, rest) = digits.as_bytes().as_chunks::<2>();
    if !rest.is_empty() {
        return None;
    }
    pairs
        .iter()
        .map(|&[high, low]| Some((digit(high)? << 4 | digit(low)?) as u8))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "000102030405060708090a0B0C0D0E0F";

    #[test]
    fn lines_are_users_and_keys() {
        let text = format!("# made by hand\nalice:{KEY}\n\nb:o:b:{KEY}{KEY}\r\n");
        let users = parse(&text).unwrap();
        assert_eq!(users[0], ("alice", (0..16).collect()));
        assert_eq!((users[1].0, users[1].1.len()), ("b:o:b", 32));
    }

    #[test]
    fn errors_name_the_line_and_do_not_reveal_keys() {
        let line = |text: String| parse(&text).unwrap_err();
        assert_eq!(line(format!("a:{KEY}\n{KEY}")), "line 2 is not USER:KEY");
        assert_eq!(line(format!(":{KEY}")), "line 1 is not USER:KEY");
        assert_eq!(line(format!("a:{KEY}0")), "line 1: the key is no hexadecimal number");
        assert_eq!(
            line(format!("a:{}", KEY.replace('0', "g"))),
            "line 1: the key is no hexadecimal number"
        );
        assert!(line("a:0011".into()).contains("this one 2"));
        assert!(line(format!("a:{}", "00".repeat(65))).contains("this one 65"));
        assert_eq!(line(format!("a:{KEY}\na:{KEY}")), "line 2: this user has a key already");
        assert!(line("# nothing\n".into()).starts_with("there is no key"));
        let many: Vec<_> = (0..1025).map(|user| format!("{user}:{KEY}")).collect();
        assert_eq!(line(many.join("\n")), "more than 1024 users");
    }
}
