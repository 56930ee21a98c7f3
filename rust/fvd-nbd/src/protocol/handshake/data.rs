//! Decodes the data of options. Lengths come from the client: each is checked against the bytes that are
//! there.

use crate::protocol::constants::{MAX_STRING, rep};

/// Why an option is refused: the type of the error reply, and a message for people.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Rejection {
    pub(super) code: u32,
    pub(super) message: String,
}

impl Rejection {
    pub(super) fn new(code: u32, message: impl Into<String>) -> Self {
        let message = message.into();
        Self { code, message }
    }

    pub(super) fn invalid(message: impl Into<String>) -> Self {
        Self::new(rep::ERR_INVALID, message)
    }
}

/// The data of `INFO` and `GO`.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct InfoQuery<'a> {
    pub(super) export: &'a str,
    /// The kinds of information that the client asks for, including unknown ones.
    pub(super) wanted: Vec<u16>,
}

impl<'a> InfoQuery<'a> {
    pub(super) fn parse(data: &'a [u8]) -> Result<Self, Rejection> {
        let mut reader = Reader(data);
        let export = reader.string("the name of the export")?;
        let count = reader.u16()?;
        let wanted = (0..count).map(|_| reader.u16()).collect::<Result<_, _>>()?;
        reader.end()?;
        Ok(Self { export, wanted })
    }
}

/// The data of `LIST_META_CONTEXT` and `SET_META_CONTEXT`.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct MetaQuery<'a> {
    pub(super) export: &'a str,
    pub(super) queries: Vec<&'a str>,
}

impl<'a> MetaQuery<'a> {
    pub(super) fn parse(data: &'a [u8]) -> Result<Self, Rejection> {
        let mut reader = Reader(data);
        let export = reader.string("the name of the export")?;
        let count = reader.u32()?;
        // The vector grows with the queries that are really there, not with the count that the client sent.
        let queries = (0..count).map(|_| reader.string("a query")).collect::<Result<_, _>>()?;
        reader.end()?;
        Ok(Self { export, queries })
    }
}

/// A protocol string: UTF-8, no NUL, at most [`MAX_STRING`] bytes.
pub(super) fn string<'a>(what: &str, bytes: &'a [u8]) -> Result<&'a str, Rejection> {
    if bytes.len() > MAX_STRING {
        return Err(Rejection::invalid(format!(
            "{what} has {} bytes, the limit is {MAX_STRING}",
            bytes.len()
        )));
    }
    match str::from_utf8(bytes) {
        Ok(text) if !text.contains('\0') => Ok(text),
        _ => Err(Rejection::invalid(format!("{what} is no UTF-8 without NUL"))),
    }
}

/// The data that has not been decoded yet.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8], Rejection> {
        let short = || Rejection::invalid("the data of the option ends too early");
        let (taken, rest) = self.0.split_at_checked(count).ok_or_else(short)?;
        self.0 = rest;
        Ok(taken)
    }

    fn u16(&mut self) -> Result<u16, Rejection> {
        let bytes = self.take(2)?;
        Ok(u16::from_be_bytes(bytes.try_into().expect("two bytes")))
    }

    fn u32(&mut self) -> Result<u32, Rejection> {
        self.take(4).map(super::be_u32)
    }

    /// A string that is preceded by its length (u32).
    fn string(&mut self, what: &str) -> Result<&'a str, Rejection> {
        let length = self.u32()?;
        string(what, self.take(length as usize)?)
    }

    fn end(self) -> Result<(), Rejection> {
        if self.0.is_empty() {
            Ok(())
        } else {
            Err(Rejection::invalid("the data of the option goes on behind its end"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with_length(text: &[u8]) -> Vec<u8> {
        [&(text.len() as u32).to_be_bytes(), text].concat()
    }

    #[test]
    fn info_names_an_export_and_the_wanted_information() {
        let data = [with_length(b"disk"), vec![0, 2, 0, 3, 0xff, 0xff]].concat();
        let query = InfoQuery::parse(&data).unwrap();
        assert_eq!((query.export, query.wanted), ("disk", vec![3, 0xffff]));
    }

    #[test]
    fn truncated_or_trailing_data_is_invalid() {
        let info = [with_length(b"disk"), vec![0, 1, 0, 3]].concat();
        let meta = [with_length(b""), vec![0, 0, 0, 1], with_length(b"base:")].concat();
        for end in 0..info.len() {
            assert_eq!(InfoQuery::parse(&info[..end]).unwrap_err().code, rep::ERR_INVALID);
        }
        for end in 0..meta.len() {
            assert_eq!(MetaQuery::parse(&meta[..end]).unwrap_err().code, rep::ERR_INVALID);
        }
        assert!(InfoQuery::parse(&[&info[..], &[0]].concat()).is_err());
        assert!(MetaQuery::parse(&[&meta[..], &[0]].concat()).is_err());
    }

    #[test]
    fn strings_have_at_most_4096_bytes_of_utf_8_without_nul() {
        assert!(string("it", &[b'x'; 4096]).is_ok());
        assert!(string("it", &[b'x'; 4097]).is_err());
        assert!(string("it", b"a\0b").is_err());
        assert!(string("it", b"\xff").is_err());
        let message = string("a query", &[b'x'; 4097]).unwrap_err().message;
        assert_eq!(message, "a query has 4097 bytes, the limit is 4096");
    }
}
