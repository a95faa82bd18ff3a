//! Work on several threads in small pieces, each done by whichever thread is free (`pieces.h` says why).

use crate::check;
use anyhow::{Result, anyhow};
use std::ffi::{c_char, c_void};
use std::marker::PhantomData;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;

unsafe extern "C" {
    fn tm_own_threads() -> *mut c_void;
    fn tm_end_own_threads(threads: *mut c_void);
    fn tm_run_pieces(count: i64, body: extern "C" fn(*mut c_void, i64), context: *mut c_void) -> *mut c_char;
}

/// A guard: this crate's threads run the calling thread's pieces, and libtorch's own operations run on the calling thread
/// alone. Use it when most operations are fused: libtorch's worker threads spin for 5 ms after each libtorch operation, and
/// every operation waits for all of them.
#[derive(Debug)]
pub struct OwnThreads {
    guard: *mut c_void,
    /// It belongs to the thread that made it.
    not_send: PhantomData<*const ()>,
}

impl OwnThreads {
    /// As many threads as libtorch would use.
    #[expect(clippy::new_without_default, reason = "a guard is made on purpose")]
    pub fn new() -> OwnThreads {
        // SAFETY: it takes nothing; `drop` deletes what it returns, once and on this thread.
        OwnThreads { guard: unsafe { tm_own_threads() }, not_send: PhantomData }
    }
}

impl Drop for OwnThreads {
    fn drop(&mut self) {
        // SAFETY: made by `tm_own_threads` on this thread, for the type is not Send.
        unsafe { tm_end_own_threads(self.guard) }
    }
}

/// The results of `f` for each of `items`, in their order.
///
/// # Errors
///
/// The first error in the order of the items, or if `f` panics.
pub fn map<T: Send, R: Send>(items: Vec<T>, f: impl Fn(T) -> Result<R> + Sync) -> Result<Vec<R>> {
    let items: Vec<Mutex<Option<T>>> = items.into_iter().map(|item| Mutex::new(Some(item))).collect();
    let results: Vec<Mutex<Option<Result<R>>>> = items.iter().map(|_| Mutex::new(None)).collect();
    each(items.len(), |piece| {
        let item = items[piece].lock().expect("each item is locked once").take().expect("each piece is done once");
        let result = catch_unwind(AssertUnwindSafe(|| f(item)));
        let result = result.unwrap_or_else(|_| Err(anyhow!("a piece of the work panicked")));
        *results[piece].lock().expect("each result is locked once") = Some(result);
    })?;
    results.into_iter().map(|result| result.into_inner().expect("none panics").expect("all are done")).collect()
}

/// Calls `body`, which must not panic, for each number below `count`.
fn each<F: Fn(usize) + Sync>(count: usize, body: F) -> Result<()> {
    extern "C" fn call<F: Fn(usize)>(body: *mut c_void, piece: i64) {
        // SAFETY: the pointer below to a function that several threads may call; it lives until all have.
        unsafe { (*body.cast::<F>())(piece as usize) }
    }
    // SAFETY: `call` gets the pointer that it expects, and `tm_run_pieces` returns when no thread uses it any more.
    unsafe { check(tm_run_pieces(count as i64, call::<F>, (&raw const body).cast_mut().cast())) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::thread;

    #[test]
    fn every_piece_is_done_once_whoever_else_works() {
        let work = || {
            let _own = OwnThreads::new();
            for count in [0, 1, 2, 3, 50] {
                for _ in 0..100 {
                    let done: Vec<AtomicUsize> = (0..count).map(|_| AtomicUsize::new(0)).collect();
                    each(count, |piece| _ = done[piece].fetch_add(1, Ordering::Relaxed)).unwrap();
                    assert!(done.iter().all(|times| times.load(Ordering::Relaxed) == 1));
                }
            }
        };
        // Several callers: the threads work for one of them, and the others do their pieces alone.
        thread::scope(|scope| (0..3).for_each(|_| drop(scope.spawn(work))));
    }

    #[test]
    fn results_are_in_the_order_of_the_items_and_pieces_may_have_pieces() {
        let _own = OwnThreads::new();
        let squares = |items: Vec<usize>| map(items, |i| Ok(i * i));
        let sums = map((0..40).collect(), |n: usize| Ok(squares((0..n).collect())?.iter().sum::<usize>())).unwrap();
        assert_eq!(sums, (0..40).map(|n: usize| (0..n).map(|i| i * i).sum()).collect::<Vec<usize>>());
    }

    #[test]
    fn the_first_error_is_returned_and_the_next_work_is_done() {
        for own in [false, true] {
            let _own = own.then(OwnThreads::new);
            let odd = |i: i32| if i % 2 == 0 { Ok(i) } else { Err(anyhow!("{i} is odd")) };
            assert_eq!(map((0..20).collect(), odd).unwrap_err().to_string(), "1 is odd");
            assert_eq!(map(vec![2, 4], odd).unwrap(), [2, 4]);
            let error = map(vec![1, 2], |_| -> Result<()> { panic!("on purpose") }).unwrap_err();
            assert_eq!(error.to_string(), "a piece of the work panicked");
        }
    }

    #[test]
    fn with_own_threads_libtorch_keeps_to_one() {
        let threads = tch::get_num_threads();
        {
            let _own = OwnThreads::new();
            assert_eq!(tch::get_num_threads(), 1);
            let _again = OwnThreads::new();
            assert_eq!(map(vec![(); 8], |()| Ok(tch::get_num_threads())).unwrap(), [1; 8]);
        }
        assert_eq!(tch::get_num_threads(), threads);
    }
}
