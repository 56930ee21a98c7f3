//! Random requests of a guest, mixed with actions of the test.

use std::fmt::Debug;

use proptest::prelude::*;

/// The most bytes of one request.
const LONGEST: u64 = 60_000;

/// A request of the guest, or an action of the test itself.
#[derive(Clone, Debug)]
pub(crate) enum Request<Own> {
    Write { offset: u64, len: u64, fill: u8 },
    Zero { offset: u64, len: u64 },
    Read { offset: u64, len: u64 },
    Flush,
    Own(Own),
}

/// A request on a disk of `size` bytes. An action of the test is `own_weight` times as frequent as a flush.
pub(crate) fn request<Own: Clone + Debug>(
    size: u64,
    own_weight: u32,
    own: impl Strategy<Value = Own>,
) -> impl Strategy<Value = Request<Own>> {
    let range = move || (0..size).prop_flat_map(move |offset| (Just(offset), 0..=(size - offset).min(LONGEST)));
    prop_oneof![
        6 => (range(), any::<u8>()).prop_map(|((offset, len), fill)| Request::Write { offset, len, fill }),
        2 => range().prop_map(|(offset, len)| Request::Zero { offset, len }),
        4 => range().prop_map(|(offset, len)| Request::Read { offset, len }),
        1 => Just(Request::Flush),
        own_weight => own.prop_map(Request::Own),
    ]
}
