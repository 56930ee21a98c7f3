//! What happens in a run, from its seed.

use std::time::Duration;

use super::content::LONGEST;
use crate::config::{Outage, Tuning};
use crate::fetch::UNIT;

/// What a run is mostly about. Each has rules of its own, in addition to those that hold for all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Theme {
    /// Nothing fails, and each answer takes the same time.
    Calm,
    /// Everything fails now and then; another attempt helps.
    Flaky,
    /// The store is away for a while.
    Outage,
    /// An object is replaced, cut or removed.
    Replaced,
    /// An answer is not what was asked for.
    Lying,
    /// Credentials expire.
    Expiring,
    /// Another host has the data, and the way there expires.
    Moved,
    /// The link is slow, and prefetch could fill it alone.
    Narrow,
}

impl Theme {
    pub(super) const ALL: [Self; 8] = [
        Self::Calm,
        Self::Flaky,
        Self::Outage,
        Self::Replaced,
        Self::Lying,
        Self::Expiring,
        Self::Moved,
        Self::Narrow,
    ];
}

/// How often a request meets what, in a thousand.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Weather {
    /// An answer begins after this many milliseconds, or up to twice as many.
    pub(super) latency: u64,
    /// Every answer after exactly that time.
    pub(super) is_steady: bool,
    /// Ten to two hundred times as long.
    pub(super) tail: u32,
    pub(super) silence: u32,
    pub(super) reset: u32,
    /// The body ends early.
    pub(super) cut: u32,
    /// The body stops, and the connection stays.
    pub(super) stall: u32,
    /// A kilobyte a second.
    pub(super) drip: u32,
    /// A server error, or that it is too busy, perhaps with `Retry-After`.
    pub(super) error: u32,
    /// Less is sent than was asked for, and the answer says so.
    pub(super) short: u32,
    /// Bytes a second of the link, which all bodies share.
    pub(super) rate: Option<u64>,
}

/// How the server tells objects apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Marks {
    ETag,
    Modified,
    Version,
}

/// What becomes of an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// Another one of the same length.
    Replaced,
    Truncated,
    Removed,
}

/// How an answer is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lie {
    /// It begins a little later than it should, and says so.
    OtherRange,
    /// It says that the object is longer.
    OtherLength,
    /// The mark is missing.
    NoMark,
    Encoded,
    /// All of the object, with status 200.
    Whole,
    /// No `Content-Range`.
    NoRange,
}

/// What happens in a run.
#[derive(Clone, Debug)]
pub(super) struct Case {
    pub(super) seed: u64,
    pub(super) theme: Theme,
    pub(super) weather: Weather,
    pub(super) marks: Marks,
    /// Lengths of the objects, in bytes.
    pub(super) objects: Vec<u64>,
    pub(super) processes: usize,
    /// The processes share a cache, in which so many of a thousand operations fail.
    pub(super) cache: Option<u32>,
    /// Bytes of units in memory, a process.
    pub(super) memory: u64,
    pub(super) tuning: Tuning,
    /// Readers of a process that guests wait for, and those of prefetch.
    pub(super) readers: usize,
    pub(super) background: usize,
    pub(super) reads: usize,
    /// One in eight reads is given up.
    pub(super) gives_up: bool,
    /// The store is away from the first time to the second.
    pub(super) outage: Option<(Duration, Duration)>,
    pub(super) change: Option<(Duration, Change)>,
    /// The server honours `If-Match` and its like.
    pub(super) is_honest: bool,
    pub(super) lie: Option<Lie>,
    /// How long credentials are valid, and in how many of a thousand cases there are none.
    pub(super) credentials: Option<(Duration, u32)>,
    /// How long a redirect leads to the data.
    pub(super) redirect: Option<Duration>,
}

fn ms(count: u64) -> Duration {
    Duration::from_millis(count)
}

impl Case {
    pub(super) fn random(seed: u64) -> Self {
        let theme = Theme::ALL[(seed % 8) as usize];
        let random = &mut fastrand::Rng::with_seed(seed ^ 0x5703_e5ed);
        let mut case = Self {
            seed,
            theme,
            weather: weather(theme, random),
            marks: [Marks::ETag, Marks::Modified, Marks::Version][random.usize(..3)],
            objects: (0..random.usize(1..4)).map(|_| random.u64(1..24 * UNIT)).collect(),
            processes: random.usize(1..4),
            cache: random.bool().then_some(0),
            memory: [4, 8, 32, 256][random.usize(..4)] * UNIT,
            tuning: Tuning {
                window: [0, 1 << 20, 8 << 20][random.usize(..3)],
                request: [UNIT, 1 << 20][random.usize(..2)],
                on_outage: [Outage::Wait, Outage::Report(ms(random.u64(100..40_000)))][random.usize(..2)],
                ..Tuning::default()
            },
            readers: [1, 3, 8, 40][random.usize(..4)],
            background: [0, 0, 2, 20][random.usize(..4)],
            reads: random.usize(4..12),
            gives_up: random.bool(),
            outage: None,
            change: None,
            is_honest: random.bool(),
            lie: None,
            credentials: None,
            redirect: None,
        };
        case.make_theme(random);
        case
    }

    fn make_theme(&mut self, random: &mut fastrand::Rng) {
        match self.theme {
            Theme::Calm => {
                self.tuning.on_outage = Outage::Wait;
                self.gives_up = false;
                self.readers = random.usize(1..4);
                self.background = random.usize(..60);
                self.memory = 512 * UNIT;
            }
            Theme::Flaky => self.cache = self.cache.map(|_| [0, 5, 50][random.usize(..3)]),
            Theme::Outage => {
                let begins = random.u64(..2000);
                self.outage = Some((ms(begins), ms(begins + random.u64(1000..90_000))));
                self.cache = None;
            }
            Theme::Replaced => {
                let change = [Change::Replaced, Change::Replaced, Change::Truncated, Change::Removed];
                self.change = Some((ms(random.u64(1..1500)), change[random.usize(..4)]));
            }
            Theme::Lying => {
                let lies = [
                    Lie::OtherRange,
                    Lie::OtherRange,
                    Lie::OtherLength,
                    Lie::NoMark,
                    Lie::Encoded,
                    Lie::Whole,
                    Lie::NoRange,
                ];
                self.lie = Some(lies[random.usize(..lies.len())]);
            }
            Theme::Expiring => {
                self.credentials = Some((ms(random.u64(500..3000)), [0, 0, 300][random.usize(..3)]));
                self.tuning.on_outage = Outage::Wait;
            }
            Theme::Moved => {
                self.redirect = Some(ms(random.u64(200..3000)));
                self.cache = Some(0);
            }
            Theme::Narrow => {
                *self = Self {
                    objects: vec![LONGEST],
                    processes: 1,
                    cache: None,
                    memory: 64 * UNIT,
                    readers: 1,
                    background: 12,
                    reads: 80,
                    gives_up: false,
                    tuning: Tuning {
                        window: 0,
                        hedge_default: Duration::from_secs(600),
                        hedge_floor: Duration::from_secs(600),
                        ..Tuning::default()
                    },
                    ..self.clone()
                };
            }
        }
    }

    /// Whether each unit comes by one request.
    pub(super) fn is_calm(&self) -> bool {
        self.theme == Theme::Calm
    }
}

fn weather(theme: Theme, random: &mut fastrand::Rng) -> Weather {
    let calm = Weather {
        latency: random.u64(5..60),
        is_steady: true,
        ..Weather::default()
    };
    let tail = Weather {
        is_steady: false,
        tail: 20,
        ..calm
    };
    match theme {
        Theme::Calm | Theme::Outage => calm,
        Theme::Narrow => Weather {
            latency: 30,
            rate: Some(2_500_000),
            ..calm
        },
        Theme::Lying | Theme::Replaced | Theme::Expiring | Theme::Moved if random.bool() => tail,
        _ => {
            let mut often = || [0, 0, 10, 60][random.usize(..4)];
            Weather {
                silence: often(),
                reset: often(),
                cut: often(),
                stall: often(),
                drip: often(),
                error: often(),
                short: often(),
                ..tail
            }
        }
    }
}
