//! What waits to be begun.

use std::collections::BTreeMap;
use std::collections::btree_map::IntoValues;

/// In the order of coming. Each can be taken back until it has been begun.
#[derive(Debug)]
pub(super) struct Queue<T> {
    waiting: BTreeMap<u64, T>,
    next: u64,
}

impl<T> Default for Queue<T> {
    fn default() -> Self {
        Self {
            waiting: BTreeMap::new(),
            next: 0,
        }
    }
}

impl<T> Queue<T> {
    /// Gives the ticket for [`Queue::take_back`].
    pub(super) fn push(&mut self, item: T) -> u64 {
        let ticket = self.next;
        self.next += 1;
        self.waiting.insert(ticket, item);
        ticket
    }

    /// The one that has waited longest.
    pub(super) fn pop(&mut self) -> Option<T> {
        self.waiting.pop_first().map(|(_, item)| item)
    }

    /// None if it has been begun.
    pub(super) fn take_back(&mut self, ticket: u64) -> Option<T> {
        self.waiting.remove(&ticket)
    }

    pub(super) fn len(&self) -> usize {
        self.waiting.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }
}

impl<T> IntoIterator for Queue<T> {
    type Item = T;
    type IntoIter = IntoValues<u64, T>;

    fn into_iter(self) -> Self::IntoIter {
        self.waiting.into_values()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_taken_back_is_left_out() {
        let mut queue = Queue::default();
        let tickets = ["a", "b", "c"].map(|item| queue.push(item));
        assert_eq!(queue.take_back(tickets[1]), Some("b"));
        assert_eq!(queue.take_back(tickets[1]), None);
        assert_eq!((queue.pop(), queue.pop(), queue.pop()), (Some("a"), Some("c"), None));
    }
}
