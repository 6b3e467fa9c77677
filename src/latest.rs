//! Where the latest refresh is kept: behind atomics, so that no scrape makes the model's loop wait. A
//! scrape that meets the loop within its few stores lets others run until they are done.
//!
//! An exporter with one value needs none of this: an `AtomicU64` that holds `f64::to_bits` is enough.
//! This page shows some values that belong together, and one atomic cannot hold them all.

use std::sync::atomic::{AtomicU64, Ordering, fence};
use std::thread;

/// The latest of a series of entries, `N` words each, that one thread writes and any thread reads whole.
///
/// A sequence number guards the words (a seqlock): it is odd while they change, and a reader that
/// meets it odd or changed reads again.
pub struct Latest<const N: usize> {
    sequence: AtomicU64,
    words: [AtomicU64; N],
}

impl<const N: usize> Latest<N> {
    pub fn new() -> Self {
        Latest {
            sequence: AtomicU64::new(0),
            words: [const { AtomicU64::new(0) }; N],
        }
    }

    /// Puts the next entry in place of the one before. Only ever called from one thread.
    pub fn put(&self, words: [u64; N]) {
        let sequence = self.sequence.load(Ordering::Relaxed);
        self.sequence.store(sequence + 1, Ordering::Relaxed);
        // No word may be seen changed before the sequence number is seen odd.
        fence(Ordering::Release);
        for (kept, word) in self.words.iter().zip(words) {
            kept.store(word, Ordering::Relaxed);
        }
        self.sequence.store(sequence + 2, Ordering::Release);
    }

    /// The latest entry and its number, counted from 1, unless that number is `seen`: then this costs
    /// one atomic read.
    pub fn newer_than(&self, seen: u64) -> Option<(u64, [u64; N])> {
        loop {
            let sequence = self.sequence.load(Ordering::Acquire);
            let number = sequence / 2;
            if number == seen {
                return None;
            }
            let words = self
                .words
                .each_ref()
                .map(|word| word.load(Ordering::Relaxed));
            // The words must be read before the sequence number is read again.
            fence(Ordering::Acquire);
            if sequence % 2 == 0 && self.sequence.load(Ordering::Relaxed) == sequence {
                return Some((number, words));
            }
            thread::yield_now();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::thread;

    #[test]
    fn an_entry_is_never_read_in_part() {
        let latest = Latest::<16>::new();
        let last = 200_000;
        thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    let mut seen = 0;
                    while seen < last {
                        if let Some((number, words)) = latest.newer_than(seen) {
                            assert_eq!(words, [number; 16], "words of several entries");
                            assert!(number > seen, "entry {number} came after entry {seen}");
                            seen = number;
                        }
                    }
                });
            }
            for number in 1..=last {
                latest.put([number; 16]);
            }
        });
    }
}
