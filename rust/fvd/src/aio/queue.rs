//! Operations that have not begun.

use std::collections::BTreeMap;

/// A FIFO queue. Each item can be taken back until it is popped.
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
    /// Returns the ticket for [`Queue::take_back`].
    pub(super) fn push(&mut self, item: T) -> u64 {
        let ticket = self.next;
        self.next += 1;
        self.waiting.insert(ticket, item);
        ticket
    }

    /// The item that has waited longest.
    pub(super) fn pop(&mut self) -> Option<T> {
        self.waiting.pop_first().map(|(_, item)| item)
    }

    /// None if the item was popped or taken back.
    pub(super) fn take_back(&mut self, ticket: u64) -> Option<T> {
        self.waiting.remove(&ticket)
    }

    /// Takes all items. Tickets are never reused, because a caller may still hold an old one.
    pub(super) fn empty(&mut self) -> impl Iterator<Item = T> + use<T> {
        std::mem::take(&mut self.waiting).into_values()
    }

    pub(super) fn len(&self) -> usize {
        self.waiting.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_item_that_was_taken_back_is_left_out() {
        let mut queue = Queue::default();
        let tickets = ["a", "b", "c"].map(|item| queue.push(item));
        assert_eq!(queue.take_back(tickets[1]), Some("b"));
        assert_eq!(queue.take_back(tickets[1]), None);
        assert_eq!((queue.pop(), queue.pop(), queue.pop()), (Some("a"), Some("c"), None));
    }

    #[test]
    fn an_old_ticket_takes_back_nothing_new() {
        let mut queue = Queue::default();
        let old = queue.push("old");
        assert_eq!(queue.empty().collect::<Vec<_>>(), ["old"]);
        queue.push("new");
        assert_eq!((queue.take_back(old), queue.pop()), (None, Some("new")));
    }
}
