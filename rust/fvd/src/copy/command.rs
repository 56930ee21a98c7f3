//! What the user wants prefetch to do.

/// The last command of the user. A stop is final.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Command {
    /// Start when the delay has passed.
    #[default]
    Start,
    Run,
    Pause,
    Stop,
}
