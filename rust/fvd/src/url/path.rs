//! The path of a URL, as segments.

use std::fmt;

/// The segments after the first slash. The path of a folder ends with an empty one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Segments(Vec<String>);

impl Segments {
    /// `path` is empty or begins with a slash. `is_key`: it is a key of an object store, whose bytes are taken
    /// as they are; in any other path, dot segments are removed, and no character is encoded without need.
    ///
    /// # Errors
    ///
    /// Says what is wrong, if a server could see dot segments where this sees none.
    pub(super) fn parse(path: &str, is_key: bool) -> Result<Self, String> {
        let segments = path.strip_prefix('/').unwrap_or(path).split('/');
        let mut parsed = Self(Vec::new());
        if is_key {
            parsed.0 = segments.map(str::to_owned).collect();
            let is_dots = |segment: &String| has_dots(&decoded(segment)) || has_dots(segment);
            return match parsed.0.iter().find(|segment| is_dots(segment)) {
                Some(segment) => Err(format!(
                    "has '{segment}' in its key, which some programs take for a folder"
                )),
                None => Ok(parsed),
            };
        }
        let normal = segments.map(normal);
        parsed.push(normal)?;
        Ok(parsed)
    }

    /// The file `name` in the folder of this one.
    pub(super) fn join(&self, name: &str, is_key: bool) -> Result<Self, String> {
        let mut joined = self.folder();
        joined.0.pop();
        if is_key {
            let path = name.split('/').filter(|segment| *segment != ".");
            for segment in path {
                match segment {
                    ".." if joined.0.pop().is_none() => return Err("lies above the bucket".to_owned()),
                    ".." => {}
                    _ => joined.0.push(segment.to_owned()),
                }
            }
            return Ok(joined);
        }
        joined.push(name.split('/').map(|segment| normal(&encoded(segment))))?;
        Ok(joined)
    }

    /// Adds segments in their normal form, and follows dots.
    fn push(&mut self, segments: impl Iterator<Item = String>) -> Result<(), String> {
        let mut is_folder = false;
        for segment in segments {
            is_folder = matches!(segment.as_str(), "." | "..");
            match segment.as_str() {
                "." => {}
                // As a browser does, the path stays below its server.
                ".." => drop(self.0.pop()),
                _ if has_dots(&decoded(&segment)) => {
                    return Err(format!(
                        "has '{segment}' in its path, which some servers take for a folder above"
                    ));
                }
                _ => self.0.push(segment),
            }
        }
        if is_folder || self.0.is_empty() {
            self.0.push(String::new());
        }
        Ok(())
    }

    /// The folder that contains the file.
    pub(super) fn folder(&self) -> Self {
        let mut segments = self.0.clone();
        segments.pop();
        segments.push(String::new());
        Self(segments)
    }

    /// The segments, without the empty one that ends the path of a folder.
    fn names(&self) -> &[String] {
        match self.0.split_last() {
            Some((last, names)) if last.is_empty() => names,
            _ => &self.0,
        }
    }

    /// Whether `other` begins with all names of this path.
    pub(super) fn covers(&self, other: &Self) -> bool {
        other.0.starts_with(self.names())
    }

    /// Whether a segment after those of `folder` begins with a dot.
    pub(super) fn is_hidden_below(&self, folder: &Self) -> bool {
        let below = self.0.iter().skip(folder.names().len());
        below.into_iter().any(|segment| decoded(segment).starts_with('.'))
    }
}

impl fmt::Display for Segments {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|segment| write!(f, "/{segment}"))
    }
}

/// Whether a part between slashes of any kind is a dot segment.
fn has_dots(text: &str) -> bool {
    text.split(['/', '\\']).any(|part| matches!(part, "." | ".."))
}

/// A segment in which only those characters are encoded that must be, with capital letters.
fn normal(segment: &str) -> String {
    let mut result = String::with_capacity(segment.len());
    let mut rest = segment;
    while let Some(at) = rest.find('%') {
        result.push_str(&rest[..at]);
        let Some(byte) = escape(&rest[at..]) else {
            result.push_str("%25");
            rest = &rest[at + 1..];
            continue;
        };
        let is_unreserved = byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~');
        if is_unreserved {
            result.push(char::from(byte));
        } else {
            push_escape(&mut result, byte);
        }
        rest = &rest[at + 3..];
    }
    result.push_str(rest);
    result
}

fn push_escape(text: &mut String, byte: u8) {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    text.push('%');
    for digit in [byte >> 4, byte & 15] {
        text.push(char::from(DIGITS[usize::from(digit)]));
    }
}

/// The byte that `text` begins with, if that is `%` and two hexadecimal digits.
fn escape(text: &str) -> Option<u8> {
    let digits = text
        .get(1..3)
        .filter(|digits| digits.bytes().all(|byte| byte.is_ascii_hexdigit()))?;
    u8::from_str_radix(digits, 16).ok()
}

/// The text without encoding. What is not UTF-8 then becomes U+FFFD.
pub(super) fn decoded(text: &str) -> String {
    let (mut bytes, mut rest) = (Vec::with_capacity(text.len()), text);
    while let Some(at) = rest.find('%') {
        bytes.extend(rest[..at].bytes());
        let escaped = escape(&rest[at..]);
        bytes.push(escaped.unwrap_or(b'%'));
        rest = &rest[at + if escaped.is_some() { 3 } else { 1 }..];
    }
    bytes.extend(rest.bytes());
    String::from_utf8_lossy(&bytes).into_owned()
}

/// The name of a file as a segment: what would end the path, and what no URL may contain, is encoded.
fn encoded(name: &str) -> String {
    let mut result = String::with_capacity(name.len());
    for byte in name.bytes() {
        if byte.is_ascii_graphic()
            && !matches!(
                byte,
                b'?' | b'#' | b'"' | b'<' | b'>' | b'^' | b'`' | b'{' | b'|' | b'}'
            )
        {
            result.push(char::from(byte));
        } else {
            push_escape(&mut result, byte);
        }
    }
    result
}
