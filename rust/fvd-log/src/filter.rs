//! Which records are wanted: the directives of `EnvFilter` without those for single spans and fields.

use std::str::FromStr;

use tracing::Level;
use tracing::level_filters::LevelFilter;

/// The targets of fvd begin with this.
const PREFIX: &str = "fvd";

/// The level that each target needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Filter {
    /// For targets that no directive names.
    default: LevelFilter,
    /// Prefixes of targets, the longest first.
    targets: Vec<(String, LevelFilter)>,
}

impl Filter {
    /// Whether records of `level` from `target` are wanted.
    #[must_use]
    pub fn enables(&self, target: &str, level: Level) -> bool {
        let named = self
            .targets
            .iter()
            .find(|(prefix, _)| target.starts_with(prefix.as_str()));
        level <= named.map_or(self.default, |(_, wanted)| *wanted)
    }

    /// The most verbose level that any target needs.
    #[must_use]
    pub fn max_level(&self) -> LevelFilter {
        let targets = self.targets.iter().map(|(_, level)| *level);
        targets.chain([self.default]).max().unwrap_or(LevelFilter::OFF)
    }
}

impl FromStr for Filter {
    /// What is wrong with the text.
    type Err = String;

    /// Directives `LEVEL`, `TARGET=LEVEL` or `TARGET` (everything of it), with commas in between. Targets are
    /// prefixes; the longest that fits counts, and for targets without one the directive `LEVEL`, or `warn`.
    fn from_str(text: &str) -> Result<Self, String> {
        let mut filter = Self {
            default: LevelFilter::WARN,
            targets: Vec::new(),
        };
        for directive in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
            let (target, wanted) = match directive.split_once('=') {
                Some((target, name)) => (target.trim(), level(name.trim()).ok_or_else(|| unknown(name))?),
                None => match level(directive) {
                    Some(wanted) => {
                        filter.default = wanted;
                        continue;
                    }
                    None => (directive, LevelFilter::TRACE),
                },
            };
            if !is_target(target) {
                return Err(unknown(target));
            }
            filter.targets.retain(|(known, _)| known != target);
            filter.targets.push((target.to_owned(), wanted));
        }
        filter
            .targets
            .sort_by_key(|(target, _)| std::cmp::Reverse(target.len()));
        Ok(filter)
    }
}

fn unknown(word: &str) -> String {
    format!(
        "'{word}' is neither a level (off, error, warn, info, debug, trace) nor a target such as fvd_nbd or fvd::image"
    )
}

/// A misspelt level must not pass for a target.
fn is_target(word: &str) -> bool {
    let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':';
    word.starts_with(PREFIX) && word.chars().all(is_part)
}

fn level(name: &str) -> Option<LevelFilter> {
    let name = name.to_ascii_lowercase();
    // `FromStr` of LevelFilter also takes numbers, and the empty word.
    if name.chars().all(|c| c.is_ascii_alphabetic()) && !name.is_empty() {
        name.parse().ok()
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filter(text: &str) -> Filter {
        text.parse().expect("a valid filter")
    }

    #[test]
    fn the_longest_prefix_of_a_target_decides() {
        let filter = filter("info, fvd=debug,fvd_nbd=trace,fvd::copy=off");
        assert!(filter.enables("fvd::image::flush", Level::DEBUG));
        assert!(!filter.enables("fvd::image::flush", Level::TRACE));
        assert!(filter.enables("fvd_nbd::server", Level::TRACE));
        assert!(!filter.enables("fvd::copy::control", Level::ERROR));
        assert!(filter.enables("other", Level::INFO) && !filter.enables("other", Level::DEBUG));
        assert_eq!(filter.max_level(), LevelFilter::TRACE);
    }

    #[test]
    fn problems_are_wanted_unless_the_filter_says_otherwise() {
        assert!(filter("fvd_nbd=debug").enables("fvd::image", Level::WARN));
        assert!(!filter("fvd_nbd=debug").enables("fvd::image", Level::INFO));
        assert_eq!(filter("off").max_level(), LevelFilter::OFF);
        assert_eq!(filter(""), filter("warn"));
        assert!(
            filter("fvd::image").enables("fvd::image::flush", Level::TRACE),
            "a target alone"
        );
        assert_eq!(filter("DEBUG"), filter("debug"));
    }

    #[test]
    fn misspelt_levels_are_refused() {
        for text in [
            "verbose",
            "fvd=loud",
            "3",
            "fvd=",
            "=debug",
            "fvd[request]=trace",
            "warn,x=debug",
        ] {
            let error = text.parse::<Filter>().expect_err(text);
            assert!(error.contains("a level (off, error"), "{error}");
        }
    }
}
