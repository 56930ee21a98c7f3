//! Metadata contexts: what a client can query about the ranges of an export.

/// Flags of `base:allocation`.
pub(super) mod state {
    /// The range takes no space.
    pub(in crate::protocol) const HOLE: u32 = 1 << 0;
    /// The range reads as zeroes.
    pub(in crate::protocol) const ZERO: u32 = 1 << 1;
}

/// A metadata context that fvd knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Context {
    /// `base:allocation`: holes and zeroes.
    Allocation,
    /// `qemu:allocation-depth`: which image of the backing chain holds the data.
    AllocationDepth,
}

impl Context {
    /// Every context, in the order of their ids.
    pub const ALL: [Self; 2] = [Self::Allocation, Self::AllocationDepth];

    /// The name by which a client selects it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Allocation => "base:allocation",
            Self::AllocationDepth => "qemu:allocation-depth",
        }
    }

    /// The id in replies. It is the same on every connection, but clients must not rely on that.
    #[must_use]
    pub fn id(self) -> u32 {
        match self {
            Self::Allocation => 1,
            Self::AllocationDepth => 2,
        }
    }

    fn bit(self) -> u8 {
        1 << self.id()
    }
}

/// A set of contexts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Contexts(u8);

impl Contexts {
    /// No context.
    pub const NONE: Self = Self(0);

    /// Every context.
    #[must_use]
    pub fn all() -> Self {
        Context::ALL.into_iter().collect()
    }

    /// Whether the set is empty.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Whether the set contains `context`.
    #[must_use]
    pub fn contains(self, context: Context) -> bool {
        self.0 & context.bit() != 0
    }

    /// Iterates over the contexts in the order of their ids.
    pub fn iter(self) -> impl Iterator<Item = Context> {
        Context::ALL.into_iter().filter(move |&context| self.contains(context))
    }

    /// The subset of `self` that at least one of `queries` names. With `wildcards`, a bare namespace
    /// (`base:`) names all contexts in it; the protocol allows this for listing, not for selecting. Queries
    /// that match nothing are ignored.
    #[must_use]
    pub fn matching(self, queries: &[&str], wildcards: bool) -> Self {
        let named = |context: Context| {
            queries.iter().any(|&query| {
                query == context.name() || (wildcards && query.ends_with(':') && is_namespace_of(query, context))
            })
        };
        self.iter().filter(|&context| named(context)).collect()
    }
}

/// Whether `query`, with its colon, is the namespace of `context`.
fn is_namespace_of(query: &str, context: Context) -> bool {
    let (namespace, _) = context.name().split_once(':').expect("every name has a namespace");
    query.strip_suffix(':') == Some(namespace)
}

impl FromIterator<Context> for Contexts {
    fn from_iter<I: IntoIterator<Item = Context>>(contexts: I) -> Self {
        Self(contexts.into_iter().fold(0, |bits, context| bits | context.bit()))
    }
}

/// The status of a range of an export. Each context reports a part of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Status {
    /// The range is known to read as zeroes. `base:allocation` reports it as a hole.
    pub zero: bool,
    /// Which image of the chain holds the data: 1 is the export itself, 2 its base image, and so on; 0: none.
    pub depth: u32,
}

impl Status {
    /// No image holds anything: zeroes that take no space.
    pub const HOLE: Self = Self { zero: true, depth: 0 };
    /// Data in the image itself.
    pub const LOCAL: Self = Self { zero: false, depth: 1 };

    /// The flags that a status reply reports for `context`.
    #[must_use]
    pub fn flags(self, context: Context) -> u32 {
        match context {
            Context::Allocation if self.zero => state::HOLE | state::ZERO,
            Context::Allocation => 0,
            Context::AllocationDepth => self.depth,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matching(queries: &[&str], wildcards: bool) -> Vec<&'static str> {
        Contexts::all()
            .matching(queries, wildcards)
            .iter()
            .map(Context::name)
            .collect()
    }

    #[test]
    fn a_namespace_is_a_wildcard_to_list_and_nothing_to_select() {
        assert_eq!(matching(&["base:"], true), ["base:allocation"]);
        assert_eq!(matching(&["qemu:"], true), ["qemu:allocation-depth"]);
        assert!(matching(&["base:", "qemu:"], false).is_empty());
    }

    #[test]
    fn queries_that_name_nothing_are_ignored() {
        let strange = [
            "",
            ":",
            "base",
            "base:alloc",
            "bas:",
            "ase:",
            "qemu:dirty-bitmap:x",
            "x-y:",
            "base::",
        ];
        assert!(matching(&strange, true).is_empty());
        assert_eq!(
            matching(&["x-y:z", "base:allocation", "base:allocation"], false),
            ["base:allocation"]
        );
    }

    #[test]
    fn only_what_an_export_offers_can_be_selected() {
        let offered = Contexts::from_iter([Context::Allocation]);
        assert!(offered.matching(&["qemu:allocation-depth"], false).is_empty());
    }

    #[test]
    fn depth_is_0_for_holes_1_for_the_image_and_counts_bases() {
        let states = [
            Status::HOLE,
            Status::LOCAL,
            Status { zero: true, depth: 1 },
            Status { zero: false, depth: 3 },
        ];
        assert_eq!(states.map(|state| state.flags(Context::AllocationDepth)), [0, 1, 1, 3]);
        assert_eq!(states.map(|state| state.flags(Context::Allocation)), [3, 0, 3, 0]);
    }
}
