//! Threads that work on one pass of few rows. Between what they do together they stay awake, since what one of them
//! does alone takes less time than waking another, and ask for the weights that come next: the memory would have nothing
//! to do meanwhile.

use rayon::prelude::*;
use std::any::Any;
use std::cell::{Cell, UnsafeCell};
use std::hint::spin_loop;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::ptr;
use std::sync::atomic::{AtomicPtr, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use steer_kernels::{Isa, ask};

/// How often a thread looks for work before it lets others have the processor.
const LOOKS: usize = 1024;
/// Bytes of which threads that wait are told together.
pub const PAGE: usize = 4 << 10;
/// Bytes that are asked for between two looks for work.
const PIECE: usize = 256;
/// Of the caches.
const LINE: usize = 64;
/// Parts of one turn, at most: their number has 16 bits, with room for every thread to ask for one too many.
const PARTS: usize = 1 << 15;
/// The last turn, which has no parts.
const OVER: u64 = u64::MAX << 32;

thread_local! {
    /// The team that this thread leads.
    static LEADS: Cell<*const Team> = const { Cell::new(ptr::null()) };
}

struct Team {
    ask: fn(*const f32, usize),
    /// The number of the turn, how many parts it has, and the next of them to be taken: 32, 16 and 16 bits.
    turn: AtomicU64,
    /// What is done with each part: written where none is left, read by those who took one.
    work: UnsafeCell<*const (dyn Fn(usize) + Sync)>,
    /// Parts of this turn that are done.
    done: AtomicUsize,
    panic: Mutex<Option<Box<dyn Any + Send>>>,
    ahead: Ahead,
}

// SAFETY: `work` is shared as it says there; it may be called by every thread.
unsafe impl Sync for Team {}

/// Sets what this thread leads again when it goes.
struct Before(*const Team);

impl Drop for Before {
    fn drop(&mut self) {
        LEADS.set(self.0);
    }
}

/// Executes `f` on this thread of the pool, with the others at hand for [`each`] until it is done.
pub fn lead<R>(isa: Isa, f: impl FnOnce() -> R) -> R {
    let threads = rayon::current_num_threads();
    let Some(leader) = rayon::current_thread_index().filter(|_| threads > 1) else { return f() };
    let nothing: &(dyn Fn(usize) + Sync) = &|_| {};
    let team = Team {
        ask: ask(isa),
        turn: AtomicU64::new(0),
        work: UnsafeCell::new(nothing),
        done: AtomicUsize::new(0),
        panic: Mutex::new(None),
        ahead: Ahead { pages: AtomicPtr::default(), asked: AtomicUsize::new(0) },
    };
    rayon::in_place_scope(|scope| {
        for _ in 1..threads {
            scope.spawn(|_| team.serve(leader));
        }
        // The scope waits for the members, so that they have to go whatever happens.
        let _over = Over(&team);
        let _before = Before(LEADS.replace(&team));
        f()
    })
}

/// Lets the members go when it goes.
struct Over<'t>(&'t Team);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.turn.store(OVER, Ordering::Release);
    }
}

/// Calls `f` with each of `0..parts`, on the threads of the team that this thread leads or else of the pool.
pub fn each(parts: usize, f: impl Fn(usize) + Sync) {
    if parts < 2 {
        return (0..parts).for_each(f);
    }
    // What a part calls in its turn is not led.
    let before = Before(LEADS.replace(ptr::null()));
    match before.0.is_null() || parts > PARTS {
        true => (0..parts).into_par_iter().with_max_len(1).for_each(&f),
        // SAFETY: its `lead` has not returned.
        false => unsafe { (*before.0).run(parts, &f) },
    }
}

/// [`each`] of what may fail: one of the errors, if any.
pub fn try_each<E: Send>(parts: usize, f: impl Fn(usize) -> Result<(), E> + Sync) -> Result<(), E> {
    let failed = Mutex::new(None);
    each(parts, |i| {
        if let Err(e) = f(i) {
            failed.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(e);
        }
    });
    failed.into_inner().unwrap_or_else(PoisonError::into_inner).map_or(Ok(()), Err)
}

/// Some bytes that will be read, at most [`PAGE`] from an address on.
pub struct Page {
    pub at: *const u8,
    pub bytes: usize,
}

// SAFETY: they are asked for, not read.
unsafe impl Send for Page {}
// SAFETY: as above.
unsafe impl Sync for Page {}

/// What will be read next, in the order of its use.
#[derive(Default)]
pub struct Pages(pub Vec<Page>);

/// Says what will be read next.
///
/// # Safety
/// The pages stay where they are until the pass ends.
pub unsafe fn ahead(pages: &Pages) {
    let team = LEADS.get();
    if !team.is_null() {
        // SAFETY: its `lead` has not returned.
        unsafe { (*team).ahead.set(pages) };
    }
}

impl Team {
    fn run<'f>(&self, parts: usize, f: &'f (dyn Fn(usize) + Sync + 'f)) {
        type Work = dyn Fn(usize) + Sync;
        // SAFETY: no part is left of the turn before, so that nobody reads this; all of this turn are done before `f` goes.
        unsafe { *self.work.get() = std::mem::transmute::<*const (dyn Fn(usize) + Sync + 'f), *const Work>(f) };
        self.done.store(0, Ordering::Relaxed);
        let turn = (self.turn.load(Ordering::Relaxed) >> 32) + 1;
        self.turn.store(turn << 32 | (parts as u64) << 16, Ordering::Release);
        while self.take() {}
        self.wait(|| self.done.load(Ordering::Acquire) == parts, std::thread::yield_now);
        if let Some(panic) = self.panic().take() {
            resume_unwind(panic);
        }
    }

    fn panic(&self) -> MutexGuard<'_, Option<Box<dyn Any + Send>>> {
        self.panic.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a part that is left, if any.
    fn take(&self) -> bool {
        let parts_of = |turn: u64| ((turn >> 16) as usize & 0xffff, turn as usize & 0xffff);
        let (parts, next) = parts_of(self.turn.load(Ordering::Acquire));
        if next >= parts {
            return false;
        }
        // Another turn may have begun meanwhile: the part is of that one then.
        let (parts, part) = parts_of(self.turn.fetch_add(1, Ordering::AcqRel));
        if part >= parts {
            return false;
        }
        // SAFETY: it stays as it is until this part is done.
        let work = unsafe { &**self.work.get() };
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| work(part))) {
            *self.panic() = Some(panic);
        }
        self.done.fetch_add(1, Ordering::Release);
        true
    }

    /// Works until the last turn.
    fn serve(&self, leader: usize) {
        // A leader that waits for work of the pool may come across this.
        if rayon::current_thread_index() == Some(leader) {
            return;
        }
        let others = || match rayon::yield_now() {
            Some(rayon::Yield::Executed) => {}
            _ => std::thread::yield_now(),
        };
        while self.turn.load(Ordering::Acquire) < OVER {
            if !self.take() {
                let changed = || {
                    let turn = self.turn.load(Ordering::Acquire);
                    turn >= OVER || (turn as usize & 0xffff) < (turn >> 16) as usize & 0xffff
                };
                self.wait(changed, others);
            }
        }
    }

    /// Waits, and now and then lets others have the processor.
    fn wait(&self, end: impl Fn() -> bool, others: impl Fn()) {
        let mut looks = 0;
        while !end() {
            looks += 1;
            if !self.ahead.ask(self.ask) {
                spin_loop();
            }
            if looks % LOOKS == 0 {
                others();
            }
        }
    }
}

/// What is read next, and how many pieces of it have been asked for.
struct Ahead {
    pages: AtomicPtr<Pages>,
    asked: AtomicUsize,
}

impl Ahead {
    fn set(&self, pages: &Pages) {
        self.asked.store(0, Ordering::Relaxed);
        self.pages.store((&raw const *pages).cast_mut(), Ordering::Release);
    }

    /// Asks for a piece; false where nothing is left to ask for.
    fn ask(&self, ask: fn(*const f32, usize)) -> bool {
        const PIECES: usize = PAGE / PIECE;
        // SAFETY: null, or pages that stay until the pass ends.
        let Some(Pages(pages)) = (unsafe { self.pages.load(Ordering::Acquire).as_ref() }) else { return false };
        if self.asked.load(Ordering::Relaxed) >= pages.len() * PIECES {
            return false;
        }
        let i = self.asked.fetch_add(1, Ordering::Relaxed);
        let Some(Page { at, bytes }) = pages.get(i / PIECES) else { return false };
        let from = i % PIECES * PIECE;
        ask(at.wrapping_add(from).cast(), bytes.saturating_sub(from).min(PIECE).div_ceil(LINE));
        true
    }
}

#[cfg(test)]
mod tests {
    use super::{each, lead, try_each};
    use rayon::prelude::*;
    use std::panic::{AssertUnwindSafe, catch_unwind};
    use std::sync::atomic::{AtomicUsize, Ordering};
    use steer_kernels::Isa;

    fn pool() -> rayon::ThreadPool {
        rayon::ThreadPoolBuilder::new().num_threads(3).build().unwrap()
    }

    #[test]
    fn every_part_is_done_once_and_before_the_next_turn() {
        pool().install(|| {
            lead(Isa::detect(), || {
                for turn in 0..2000 {
                    let parts: Vec<AtomicUsize> = (0..turn % 7 + 2).map(|_| AtomicUsize::new(0)).collect();
                    each(parts.len(), |i| _ = parts[i].fetch_add(1, Ordering::Relaxed));
                    assert!(parts.iter().all(|p| p.load(Ordering::Relaxed) == 1), "turn {turn}");
                }
            });
        });
    }

    #[test]
    fn parts_may_have_parts_and_use_the_pool() {
        let count = AtomicUsize::new(0);
        pool().install(|| {
            lead(Isa::detect(), || {
                each(5, |_| {
                    each(4, |_| _ = count.fetch_add(1, Ordering::Relaxed));
                    (0..3).into_par_iter().for_each(|_| _ = count.fetch_add(1, Ordering::Relaxed));
                });
                (0..100)
                    .into_par_iter()
                    .for_each(|_| lead(Isa::detect(), || each(2, |_| _ = count.fetch_add(1, Ordering::Relaxed))));
            });
        });
        assert_eq!(count.into_inner(), 5 * 7 + 200);
    }

    #[test]
    fn a_panic_and_an_error_reach_the_leader() {
        pool().install(|| {
            let caught = catch_unwind(AssertUnwindSafe(|| {
                lead(Isa::detect(), || {
                    assert_eq!(try_each(9, |i| if i == 4 { Err(i) } else { Ok(()) }), Err(4));
                    each(8, |i| assert!(i != 5, "part five"));
                })
            }));
            assert!(caught.unwrap_err().downcast_ref::<&str>() == Some(&"part five"));
        });
        each(3, |i| assert!(i < 3));
    }
}
