//! Works of several threads, timed in turns.

use std::sync::Barrier;
use std::time::Instant;

pub type Work<'a> = &'a (dyn Fn(usize) + Sync);

/// Seconds of each work in each turn, until the last thread is done.
pub fn in_turns(threads: usize, turns: usize, works: &[Work<'_>]) -> Vec<Vec<f64>> {
    let barrier = Barrier::new(threads);
    let of_thread = |t: usize| {
        let mut times = vec![Vec::new(); works.len()];
        for _ in 0..turns {
            for (times, work) in times.iter_mut().zip(works) {
                barrier.wait();
                let start = Instant::now();
                work(t);
                barrier.wait();
                times.push(start.elapsed().as_secs_f64());
            }
        }
        times
    };
    std::thread::scope(|scope| {
        let others: Vec<_> = (1..threads).map(|t| scope.spawn(move || of_thread(t))).collect();
        let times = of_thread(0);
        for other in others {
            other.join().expect("a worker ends");
        }
        times
    })
}

pub fn median(mut v: Vec<f64>) -> f64 {
    v.sort_by(f64::total_cmp);
    v[v.len() / 2]
}
