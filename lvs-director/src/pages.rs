//! Values that live as long as somebody holds them, many in one piece of memory: ten thousand services
//! come and go at once, and memory from elsewhere is dear.
//!
//! In: nothing. Out: values, each as its default, and never given twice. A page is freed when none of its
//! values is held any more.

use core::ops::Deref;
use std::sync::Arc;

/// Values of a page.
const VALUES: usize = 32;

type Page<T> = Arc<[T; VALUES]>;

/// A value, shared by its clones.
#[derive(Debug)]
pub(crate) struct Shared<T> {
    page: Page<T>,
    place: u8,
}

impl<T> Clone for Shared<T> {
    fn clone(&self) -> Self {
        Self {
            page: Arc::clone(&self.page),
            place: self.place,
        }
    }
}

impl<T> Deref for Shared<T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        let [first, ..] = &*self.page;
        // A place is always one of the page.
        self.page.get(usize::from(self.place)).unwrap_or(first)
    }
}

/// The page from which values are given.
#[derive(Debug)]
pub(crate) struct Pages<T> {
    page: Option<Page<T>>,
    given: u8,
}

impl<T> Default for Pages<T> {
    fn default() -> Self {
        Self {
            page: None,
            given: 0,
        }
    }
}

impl<T: Default> Pages<T> {
    /// A value that nobody has had.
    pub(crate) fn give(&mut self) -> Shared<T> {
        if usize::from(self.given) >= VALUES {
            *self = Self::default();
        }
        let new = || Arc::new(core::array::from_fn(|_| T::default()));
        let page = Arc::clone(self.page.get_or_insert_with(new));
        let place = self.given;
        self.given += 1;
        Shared { page, place }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::sync::atomic::{AtomicU32, Ordering::Relaxed};

    #[test]
    fn each_has_a_value_of_its_own_that_its_clones_share() {
        let mut pages = Pages::<AtomicU32>::default();
        let all: Vec<_> = (0..100).map(|_| pages.give()).collect();
        for (n, one) in (0..).zip(&all) {
            assert_eq!(one.load(Relaxed), 0);
            one.clone().store(n, Relaxed);
        }
        assert!((0..).zip(&all).all(|(n, one)| one.load(Relaxed) == n));
    }

    #[test]
    fn a_page_goes_with_the_last_of_its_values() {
        let mut pages = Pages::<AtomicU32>::default();
        let mut all: Vec<_> = (0..VALUES + 1).map(|_| pages.give()).collect();
        let page = Arc::downgrade(&all[0].page);
        all.drain(1..);
        assert!(page.upgrade().is_some());
        all.clear();
        assert!(page.upgrade().is_none());
    }
}
