//! The threads of a pass. Between what they do together they wait awake for a while, since what one of them does alone
//! mostly takes less time than waking another, and ask for what is read next: the memory would have nothing to do meanwhile.
//!
//! They are no threads of rayon's pool, and a part of their work never waits for that pool: a thread that waits there takes
//! up whatever work it finds, which may in turn wait for this part.

use std::any::Any;
use std::cell::{Cell, UnsafeCell};
use std::hint::spin_loop;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::{self, JoinHandle, Thread};
use steer_kernels::{Isa, ask};

/// How often a thread looks for what it waits for before it sleeps: a fraction of a millisecond. It does not let others have
/// the processor before, who would keep it for milliseconds, while one that slept is preferred.
const LOOKS: usize = 1 << 14;
/// The same where there are more threads than processors: who waits is in the way of those who work.
const CROWDED: usize = 1 << 6;
/// Bytes of which threads that wait are told together.
pub const PAGE: usize = 4 << 10;
/// Bytes that are asked for between two looks for work.
const PIECE: usize = 256;
/// Of the caches.
const LINE: usize = 64;
/// After it there are no other turns.
const OVER: u64 = 1 << 63;

thread_local! {
    /// The team that this thread leads; none while it does a part itself.
    static LEADS: Cell<*const Team> = const { Cell::new(ptr::null()) };
    /// Its place in the team that it works in.
    static INDEX: Cell<usize> = const { Cell::new(0) };
}

/// A thread that works in one team after another.
struct Member {
    /// Its team, null while it has none, and its place there.
    team: AtomicPtr<Team>,
    index: AtomicUsize,
    thread: Thread,
}

/// Those that have no team, and how many there are in all.
static MEMBERS: Mutex<(Vec<Arc<Member>>, usize)> = Mutex::new((Vec::new(), 0));

fn members() -> MutexGuard<'static, (Vec<Arc<Member>>, usize)> {
    MEMBERS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// As many as are free, at most so many. Where the system has no more threads there are fewer.
fn take(most: usize) -> Vec<Arc<Member>> {
    let mut all = members();
    while all.0.len() < most && all.1 < most {
        let Some(member) = Member::start() else { break };
        all.0.push(member);
        all.1 += 1;
    }
    let rest = all.0.len().saturating_sub(most);
    all.0.split_off(rest)
}

impl Member {
    fn start() -> Option<Arc<Member>> {
        let (send, receive) = std::sync::mpsc::channel::<Arc<Member>>();
        let body = move || receive.recv().into_iter().for_each(|member| member.live());
        let thread: JoinHandle<()> = thread::Builder::new().name("steer team".into()).spawn(body).ok()?;
        let thread = thread.thread().clone();
        let member = Arc::new(Member { team: AtomicPtr::default(), index: AtomicUsize::new(0), thread });
        send.send(Arc::clone(&member)).ok()?;
        Some(member)
    }

    fn call(&self, team: &Team, index: usize) {
        self.index.store(index, Ordering::Relaxed);
        self.team.store((&raw const *team).cast_mut(), Ordering::Release);
        self.thread.unpark();
    }

    fn live(self: Arc<Self>) {
        let mut most = LOOKS;
        loop {
            let mut looks = 0;
            while self.team.load(Ordering::Acquire).is_null() {
                looks += 1;
                match looks >= most {
                    true => thread::park(),
                    false => spin_loop(),
                }
            }
            // SAFETY: its `lead` waits until this thread has said that it leaves.
            let team = unsafe { &*self.team.load(Ordering::Acquire) };
            INDEX.set(self.index.load(Ordering::Relaxed));
            most = team.looks;
            team.serve();
            self.team.store(ptr::null_mut(), Ordering::Relaxed);
            members().0.push(Arc::clone(&self));
            team.present.fetch_sub(1, Ordering::Release);
        }
    }
}

struct Team {
    /// Called when there is the first work to share.
    members: OnceLock<Vec<Arc<Member>>>,
    ask: fn(*const f32, usize),
    /// As [`LOOKS`] says.
    looks: usize,
    leader: Thread,
    /// Whether the leader sleeps until all parts are done.
    waits: AtomicBool,
    /// How many parts the turn has, and the next of them to be taken: 32 bits each.
    turn: AtomicU64,
    /// What is done with each part: written where none is left, read by those who took one.
    work: UnsafeCell<*const (dyn Fn(usize) + Sync)>,
    /// Parts of this turn that are done.
    done: AtomicUsize,
    /// Members that have not left, and those that sleep.
    present: AtomicUsize,
    asleep: AtomicUsize,
    panic: Mutex<Option<Box<dyn Any + Send>>>,
    asking: Asking,
}

// SAFETY: `work` is shared as it says there; it may be called by every thread.
unsafe impl Sync for Team {}

/// Makes this thread again what it was before.
struct Before(*const Team, usize);

impl Before {
    fn leads(team: *const Team) -> Before {
        Before(LEADS.replace(team), INDEX.get())
    }
}

impl Drop for Before {
    fn drop(&mut self) {
        LEADS.set(self.0);
        INDEX.set(self.1);
    }
}

fn processors() -> usize {
    static COUNT: OnceLock<usize> = OnceLock::new();
    *COUNT.get_or_init(|| thread::available_parallelism().map_or(1, usize::from))
}

/// Executes `f` on this thread, with others at hand for [`each`] until it is done: as many as rayon's pool has threads.
pub fn lead<R>(isa: Isa, f: impl FnOnce() -> R) -> R {
    let nothing: &(dyn Fn(usize) + Sync) = &|_| {};
    let team = Team {
        ask: ask(isa),
        leader: thread::current(),
        waits: AtomicBool::new(false),
        looks: if rayon::current_num_threads() > processors() { CROWDED } else { LOOKS },
        turn: AtomicU64::new(0),
        work: UnsafeCell::new(nothing),
        done: AtomicUsize::new(0),
        present: AtomicUsize::new(0),
        asleep: AtomicUsize::new(0),
        panic: Mutex::new(None),
        asking: Asking { pages: AtomicPtr::default(), asked: AtomicUsize::new(0) },
        members: OnceLock::new(),
    };
    let _over = Over(&team);
    let _before = Before::leads(&team);
    INDEX.set(0);
    f()
}

/// Lets the members go and waits until they have left, whatever happened.
struct Over<'t>(&'t Team);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.begin(OVER);
        self.0.wait(|| self.0.present.load(Ordering::Acquire) == 0, || false);
    }
}

/// The place of this thread in its team: below the number of threads of rayon's pool.
pub fn index() -> usize {
    INDEX.get()
}

/// Calls `f` with each of `0..parts` on the threads of the team that this thread leads; where it leads none, or does a part
/// itself, on this thread. `f` must not wait for rayon's pool.
pub fn each(parts: usize, f: impl Fn(usize) + Sync) {
    let team = LEADS.get();
    if parts < 2 || team.is_null() || parts >= 1 << 31 {
        return (0..parts).for_each(f);
    }
    let _before = Before::leads(ptr::null());
    // SAFETY: its `lead` has not returned.
    unsafe { (*team).run(parts, &f) }
}

/// [`each`] of what may fail: of the errors that there were, the one of the first part. Parts that have not begun by then
/// are not done.
pub fn try_each<E: Send>(parts: usize, f: impl Fn(usize) -> Result<(), E> + Sync) -> Result<(), E> {
    let (failed, first) = (AtomicBool::new(false), Mutex::new(None));
    each(parts, |i| {
        if failed.load(Ordering::Relaxed) {
            return;
        }
        if let Err(e) = f(i) {
            failed.store(true, Ordering::Relaxed);
            let mut first = first.lock().unwrap_or_else(PoisonError::into_inner);
            if first.as_ref().is_none_or(|(at, _)| i < *at) {
                *first = Some((i, e));
            }
        }
    });
    first.into_inner().unwrap_or_else(PoisonError::into_inner).map_or(Ok(()), |(_, e)| Err(e))
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
        unsafe { (*team).asking.set(pages) };
    }
}

/// The parts of a turn, and the next of them.
fn parts_of(turn: u64) -> (usize, usize) {
    (((turn & !OVER) >> 32) as usize, turn as u32 as usize)
}

impl Team {
    /// Begins a turn, and wakes those who sleep.
    fn begin(&self, turn: u64) {
        self.turn.store(turn, Ordering::SeqCst);
        if self.asleep.load(Ordering::SeqCst) > 0 {
            self.members.get().into_iter().flatten().for_each(|member| member.thread.unpark());
        }
    }

    fn call(&self) -> Vec<Arc<Member>> {
        let members = take(rayon::current_num_threads() - 1);
        self.present.store(members.len(), Ordering::Relaxed);
        members.iter().enumerate().for_each(|(i, member)| member.call(self, i + 1));
        members
    }

    fn run<'f>(&self, parts: usize, f: &'f (dyn Fn(usize) + Sync + 'f)) {
        type Work = dyn Fn(usize) + Sync;
        // SAFETY: no part is left of the turn before, so that nobody reads this; all of this turn are done before `f` goes.
        unsafe { *self.work.get() = std::mem::transmute::<*const (dyn Fn(usize) + Sync + 'f), *const Work>(f) };
        self.done.store(0, Ordering::Relaxed);
        self.members.get_or_init(|| self.call());
        self.begin((parts as u64) << 32);
        while self.take() {}
        let over = || self.done.load(Ordering::SeqCst) == parts;
        let sleep = || {
            self.waits.store(true, Ordering::SeqCst);
            if !over() {
                thread::park();
            }
            self.waits.store(false, Ordering::Relaxed);
            true
        };
        self.wait(over, sleep);
        if let Some(panic) = self.panic().take() {
            resume_unwind(panic);
        }
    }

    fn panic(&self) -> MutexGuard<'_, Option<Box<dyn Any + Send>>> {
        self.panic.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a part that is left, if any.
    fn take(&self) -> bool {
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
        let done = self.done.fetch_add(1, Ordering::SeqCst) + 1;
        if done == parts && self.waits.load(Ordering::SeqCst) {
            self.leader.unpark();
        }
        true
    }

    /// Works until the last turn.
    fn serve(&self) {
        let is_over = || self.turn.load(Ordering::Acquire) >= OVER;
        let changed = || {
            let turn = self.turn.load(Ordering::SeqCst);
            let (parts, next) = parts_of(turn);
            turn >= OVER || next < parts
        };
        let sleep = || {
            self.asleep.fetch_add(1, Ordering::SeqCst);
            if !changed() {
                thread::park();
            }
            self.asleep.fetch_sub(1, Ordering::SeqCst);
            true
        };
        while !is_over() {
            if !self.take() {
                self.wait(changed, sleep);
            }
        }
    }

    /// Waits, and sleeps after a while; where that is not possible, lets others have the processor.
    fn wait(&self, end: impl Fn() -> bool, sleep: impl Fn() -> bool) {
        let mut looks = 0;
        while !end() {
            looks += 1;
            if !self.asking.ask(self.ask) {
                spin_loop();
            }
            if looks >= self.looks && !sleep() {
                thread::yield_now();
            }
        }
    }
}

/// What is read next, and how many pieces of it have been asked for.
struct Asking {
    pages: AtomicPtr<Pages>,
    asked: AtomicUsize,
}

impl Asking {
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
    use super::{each, index, lead, try_each};
    use std::panic::{AssertUnwindSafe, catch_unwind};
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::thread;
    use std::time::{Duration, Instant};
    use steer_kernels::Isa;

    fn with_threads<R: Send>(n: usize, f: impl FnOnce() -> R + Send) -> R {
        rayon::ThreadPoolBuilder::new().num_threads(n).build().unwrap().install(|| lead(Isa::detect(), f))
    }

    fn counts(n: usize) -> Vec<AtomicUsize> {
        (0..n).map(|_| AtomicUsize::new(0)).collect()
    }

    #[test]
    fn every_part_is_done_once_and_before_the_next_turn() {
        for threads in [1, 2, 3, 9] {
            with_threads(threads, || {
                for turn in 0..2000 {
                    let parts = counts(turn % 7 + 2);
                    each(parts.len(), |i| {
                        assert!(index() < threads);
                        parts[i].fetch_add(1, Ordering::Relaxed);
                    });
                    assert!(parts.iter().all(|p| p.load(Ordering::Relaxed) == 1), "turn {turn}");
                }
            });
        }
        let parts = counts(3);
        each(3, |i| _ = parts[i].fetch_add(1, Ordering::Relaxed));
        assert!(parts.iter().all(|p| p.load(Ordering::Relaxed) == 1));
    }

    #[test]
    fn members_that_sleep_are_woken() {
        // Other tests may have all members.
        for _ in 0..200 {
            let met = with_threads(3, || {
                thread::sleep(Duration::from_millis(20));
                let (begun, end) = (AtomicUsize::new(0), Instant::now() + Duration::from_millis(200));
                each(2, |_| {
                    begun.fetch_add(1, Ordering::SeqCst);
                    while begun.load(Ordering::SeqCst) < 2 && Instant::now() < end {
                        thread::yield_now();
                    }
                });
                Instant::now() < end
            });
            if met {
                return;
            }
        }
        panic!("no member woke up");
    }

    #[test]
    fn parts_may_have_parts_and_passes_go_side_by_side() {
        let count = AtomicUsize::new(0);
        let one = || _ = count.fetch_add(1, Ordering::Relaxed);
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..100 {
                        with_threads(2, || each(5, |_| each(4, |_| lead(Isa::detect(), || each(2, |_| one())))));
                    }
                });
            }
        });
        assert_eq!(count.into_inner(), 4 * 100 * 5 * 4 * 2);
    }

    #[test]
    fn a_panic_and_an_error_reach_the_leader() {
        let caught = catch_unwind(AssertUnwindSafe(|| {
            with_threads(3, || {
                let begun = AtomicUsize::new(0);
                let failed = try_each(1000, |i| {
                    begun.fetch_add(1, Ordering::Relaxed);
                    if i >= 4 { Err(i) } else { Ok(()) }
                });
                assert!(failed.is_err_and(|i| i < 8) && begun.into_inner() < 1000);
                each(8, |i| assert!(i != 5, "part five"));
            })
        }));
        assert!(caught.unwrap_err().downcast_ref::<&str>() == Some(&"part five"));
        with_threads(3, || each(2, |_| ()));
    }
}
