//! A first-in, first-out queue. In and out: values. Deliberately absent: `VecDeque`, because each element type costs
//! two kilobytes in WebAssembly.

use crate::prelude::*;

/// A queue made of two lists.
pub(super) struct Queue<T> {
    /// The first values, in reverse order.
    front: Vec<T>,
    /// The values after those of `front`, in order.
    back: Vec<T>,
}

impl<T> Queue<T> {
    pub(super) const fn new() -> Self {
        Queue { front: Vec::new(), back: Vec::new() }
    }

    pub(super) fn push_back(&mut self, value: T) {
        self.back.push(value);
    }

    pub(super) fn push_front(&mut self, value: T) {
        self.front.push(value);
    }

    pub(super) fn pop_front(&mut self) -> Option<T> {
        if self.front.is_empty() {
            self.front = core::mem::take(&mut self.back);
            self.front.reverse();
        }
        self.front.pop()
    }

    pub(super) fn front(&self) -> Option<&T> {
        self.get(0)
    }

    pub(super) fn get(&self, at: usize) -> Option<&T> {
        match self.front.len().checked_sub(at + 1) {
            Some(at) => self.front.get(at),
            None => self.back.get(at - self.front.len()),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.front.len() + self.back.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub(super) fn clear(&mut self) {
        self.front.clear();
        self.back.clear();
    }
}
