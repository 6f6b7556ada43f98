//! Where a schedule's buffers lie, and proof that they may.
//!
//! [`place`] gives every buffer its place: persistent ones one after another, temporary ones so that two which are
//! needed at the same time never overlap. [`check`] does not trust it: it walks through the steps, remembers which bytes
//! hold what, and refuses a read of anything that was not written, or was overwritten since.

use std::{cmp::Reverse, ops::Range};

use convnext_core::launch::schedule::{Access, Buffer, Lifetime, Schedule, Step, View};
use thiserror::Error;

/// Buffers begin at multiples of this many bytes, as device allocations do.
pub const ALIGNMENT: usize = 256;

/// A place for every buffer of a schedule, in bytes of one allocation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Placement {
    offsets: Vec<usize>,
    /// Bytes of the inputs; they come first.
    pub inputs: usize,
    /// Bytes of the persistent buffers, the inputs among them; they come before all others.
    pub persistent: usize,
    /// Bytes that the temporary buffers share.
    pub temporary: usize,
    /// Bytes of temporary buffers that are needed at one moment, at most: no placement can do with less.
    pub floor: usize,
}

impl Placement {
    /// Bytes in all.
    pub fn bytes(&self) -> usize {
        self.persistent + self.temporary
    }

    /// Where a view lies.
    pub fn range(&self, view: &View) -> Range<usize> {
        let start = self.offsets[view.buffer] + view.offset * view.element.bytes();
        start..start + view.length * view.element.bytes()
    }
}

/// A temporary buffer: its index, its bytes, and the steps from its first to its last use.
struct Need {
    buffer: usize,
    bytes: usize,
    steps: Range<usize>,
}

/// What buffers are sorted by before they are placed.
type Order = fn(&Need) -> (Reverse<usize>, usize);

/// Places every buffer, each at the lowest offset that is free for as long as it is needed; of several orders in which
/// they can be placed, the one that takes the least memory.
pub fn place(schedule: &Schedule) -> Placement {
    let mut offsets = vec![0; schedule.buffers().len()];
    let mut persistent = 0;
    let mut place_persistent = |input: bool| {
        for (offset, buffer) in offsets.iter_mut().zip(schedule.buffers()) {
            if buffer.lifetime == Lifetime::Persistent && buffer.input == input {
                *offset = persistent;
                persistent += padded(buffer);
            }
        }
        persistent
    };
    let inputs = place_persistent(true);
    let persistent = place_persistent(false);
    let mut needs = needs(schedule);
    let floor = floor(&needs, schedule.steps().len());
    let orders: [Order; 4] = [
        |need| (Reverse(need.bytes), need.buffer),
        |need| (Reverse(need.steps.len()), need.buffer),
        |need| (Reverse(need.steps.len() * need.bytes), need.buffer),
        |need| (Reverse(0), need.steps.start),
    ];
    let place = |order| {
        needs.sort_by_key(order);
        place_in_order(&needs)
    };
    let best = orders.into_iter().map(place).min_by_key(|(bytes, _)| *bytes);
    let (temporary, places) = best.unwrap_or_default();
    for (buffer, start) in places {
        offsets[buffer] = persistent + start;
    }
    Placement { offsets, inputs, persistent, temporary, floor }
}

/// Bytes that are taken, and the start of each buffer.
fn place_in_order(needs: &[Need]) -> (usize, Vec<(usize, usize)>) {
    let mut placed: Vec<(Range<usize>, Range<usize>)> = Vec::new();
    let (mut bytes, mut places) = (0, Vec::new());
    for need in needs {
        let start = lowest(&placed, need);
        bytes = bytes.max(start + need.bytes);
        places.push((need.buffer, start));
        placed.push((start..start + need.bytes, need.steps.clone()));
    }
    (bytes, places)
}

fn padded(buffer: &Buffer) -> usize {
    buffer.bytes().next_multiple_of(ALIGNMENT)
}

fn needs(schedule: &Schedule) -> Vec<Need> {
    let mut steps: Vec<Option<Range<usize>>> = vec![None; schedule.buffers().len()];
    for (at, step) in schedule.steps().iter().enumerate() {
        for (view, _) in step.accesses() {
            let first = steps[view.buffer].as_ref().map_or(at, |steps| steps.start);
            steps[view.buffer] = Some(first..at + 1);
        }
    }
    let buffers = schedule.buffers().iter().zip(steps).enumerate();
    let temporary = buffers.filter(|(_, (buffer, _))| buffer.lifetime == Lifetime::Temporary);
    temporary
        .filter_map(|(at, (buffer, steps))| Some(Need { buffer: at, bytes: padded(buffer), steps: steps? }))
        .collect()
}

/// The most bytes that are needed at one step.
fn floor(needs: &[Need], steps: usize) -> usize {
    let mut change = vec![0i128; steps + 1];
    for need in needs {
        change[need.steps.start] += need.bytes as i128;
        change[need.steps.end] -= need.bytes as i128;
    }
    let mut now = 0;
    change.iter().fold(0, |most: i128, change| {
        now += change;
        most.max(now)
    }) as usize
}

/// The lowest offset at which nothing lies that is needed at the same time.
fn lowest(placed: &[(Range<usize>, Range<usize>)], need: &Need) -> usize {
    let mut taken: Vec<&Range<usize>> =
        placed.iter().filter(|(_, steps)| overlap(steps, &need.steps)).map(|(bytes, _)| bytes).collect();
    taken.sort_by_key(|bytes| bytes.start);
    let mut start = 0;
    for bytes in taken {
        if start + need.bytes <= bytes.start {
            break;
        }
        start = start.max(bytes.end);
    }
    start
}

fn overlap(a: &Range<usize>, b: &Range<usize>) -> bool {
    a.start < b.end && b.start < a.end
}

/// Why a schedule may not run in a placement.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum MemoryError {
    /// Something is read that nothing wrote, or that was overwritten.
    #[error("step {step} reads `{buffer}`, which nothing has written, or something has overwritten")]
    Unwritten {
        /// Index of the step.
        step: usize,
        /// Name of the buffer.
        buffer: String,
    },
    /// One step writes where it uses another buffer.
    #[error("step {step} writes `{written}` over `{used}`")]
    Overlap {
        /// Index of the step.
        step: usize,
        /// Name of the buffer that is written.
        written: String,
        /// Name of the other.
        used: String,
    },
    /// A buffer lies outside of the allocation.
    #[error("`{0}` does not lie in the memory that the placement promises")]
    Outside(String),
}

/// Walks through the schedule and refuses a step that reads what is not there.
///
/// # Errors
/// [`MemoryError`] of the first step that is wrong.
pub fn check(schedule: &Schedule, placement: &Placement) -> Result<(), MemoryError> {
    let name = |buffer: usize| schedule.buffers()[buffer].name.clone();
    let mut contents = Contents::default();
    for (at, buffer) in schedule.buffers().iter().enumerate() {
        let start = placement.offsets[at];
        if buffer.lifetime == Lifetime::Persistent {
            contents.write(at, start..start + buffer.bytes());
        }
    }
    for (step, what) in schedule.steps().iter().enumerate() {
        let accesses = what.accesses();
        for (view, access) in &accesses {
            let range = placement.range(view);
            if range.end > placement.bytes() {
                return Err(MemoryError::Outside(name(view.buffer)));
            }
            if *access != Access::Write && !contents.holds(view.buffer, &range) {
                return Err(MemoryError::Unwritten { step, buffer: name(view.buffer) });
            }
        }
        check_overlaps(step, what, placement, &name)?;
        for (view, access) in accesses {
            if access != Access::Read {
                contents.write(view.buffer, placement.range(&view));
            }
        }
    }
    Ok(())
}

fn check_overlaps(
    step: usize,
    what: &Step,
    placement: &Placement,
    name: &impl Fn(usize) -> String,
) -> Result<(), MemoryError> {
    let accesses = what.accesses();
    for (written, _) in accesses.iter().filter(|(_, access)| *access != Access::Read) {
        for (used, _) in &accesses {
            // The same view twice is an update in place.
            if written != used && overlap(&placement.range(written), &placement.range(used)) {
                return Err(MemoryError::Overlap { step, written: name(written.buffer), used: name(used.buffer) });
            }
        }
    }
    Ok(())
}

/// Which bytes hold a value of which buffer: disjoint ranges in ascending order.
#[derive(Debug, Default)]
struct Contents {
    ranges: std::collections::BTreeMap<usize, (usize, usize)>,
}

impl Contents {
    fn write(&mut self, buffer: usize, range: Range<usize>) {
        if range.is_empty() {
            return;
        }
        self.cut(range.start);
        self.cut(range.end);
        let inside: Vec<usize> = self.ranges.range(range.clone()).map(|(&start, _)| start).collect();
        for start in inside {
            self.ranges.remove(&start);
        }
        self.ranges.insert(range.start, (range.end, buffer));
    }

    /// Splits the range that goes across `at`.
    fn cut(&mut self, at: usize) {
        let Some((&start, &(end, buffer))) = self.ranges.range(..at).next_back() else { return };
        if at < end {
            self.ranges.insert(start, (at, buffer));
            self.ranges.insert(at, (end, buffer));
        }
    }

    fn holds(&self, buffer: usize, range: &Range<usize>) -> bool {
        let mut at = range.start;
        while at < range.end {
            match self.ranges.range(..=at).next_back() {
                Some((_, &(end, owner))) if owner == buffer && at < end => at = end,
                _ => return false,
            }
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use convnext_core::launch::element::Element;

    /// `d = a b; e = c d; f = e d`: d is needed longest.
    fn chain() -> (Schedule, [View; 4]) {
        let mut schedule = Schedule::new();
        let a = schedule.buffer("a", Element::F32, 1024, Lifetime::Persistent);
        let [d, e, f] = ["d", "e", "f"].map(|name| schedule.temporary(name, Element::F32, 1024));
        schedule.multiply(32, a, a, None, d);
        schedule.multiply(32, a, d, None, e);
        schedule.multiply(32, e, d, None, f);
        (schedule, [a, d, e, f])
    }

    #[test]
    fn inputs_lie_side_by_side_before_all_others() {
        let mut schedule = Schedule::new();
        let kept = schedule.buffer("kept", Element::F32, 64, Lifetime::Persistent);
        let first = schedule.input("first", Element::U8, 3);
        let last = schedule.buffer("last", Element::F32, 64, Lifetime::Persistent);
        let second = schedule.input("second", Element::F32, 64);
        let placement = place(&schedule);
        assert_eq!((placement.inputs, placement.persistent), (512, 1024));
        assert_eq!([first, second, kept, last].map(|view| placement.range(&view).start), [0, 256, 512, 768]);
    }

    #[test]
    fn buffers_share_memory_when_they_may() {
        let mut schedule = Schedule::new();
        let a = schedule.buffer("a", Element::F32, 1024, Lifetime::Persistent);
        let mut last = a;
        for _ in 0..10 {
            let next = schedule.temporary("next", Element::F32, 1024);
            schedule.multiply(32, last, a, None, next);
            last = next;
        }
        let placement = place(&schedule);
        assert_eq!((placement.persistent, placement.temporary, placement.floor), (4096, 8192, 8192));
        assert_eq!(check(&schedule, &placement), Ok(()));
    }

    #[test]
    fn what_is_needed_together_lies_apart() {
        let (schedule, _) = chain();
        let placement = place(&schedule);
        assert_eq!((placement.temporary, placement.floor), (3 * 4096, 3 * 4096));
        assert_eq!(check(&schedule, &placement), Ok(()));
    }

    #[test]
    fn an_overwritten_buffer_is_found() {
        let (schedule, [_, d, e, _]) = chain();
        let mut placement = place(&schedule);
        placement.offsets[e.buffer] = placement.offsets[d.buffer];
        let overlap = MemoryError::Overlap { step: 1, written: "e".into(), used: "d".into() };
        assert_eq!(check(&schedule, &placement), Err(overlap));
        placement.offsets[d.buffer] = placement.offsets[0];
        assert!(matches!(check(&schedule, &placement), Err(MemoryError::Overlap { step: 0, .. })));
    }

    #[test]
    fn half_of_a_buffer_overwritten_is_found() {
        let mut schedule = Schedule::new();
        let [a, b] = ["a", "b"].map(|name| schedule.temporary(name, Element::F32, 1024));
        let out = schedule.buffer("out", Element::F32, 1024, Lifetime::Persistent);
        schedule.push(Step::Zero(a));
        schedule.push(Step::Zero(b));
        schedule.multiply(32, out, out, None, a.part(0, 1024));
        schedule.multiply(32, b, b, None, out);
        let mut placement = place(&schedule);
        assert_eq!(check(&schedule, &placement), Ok(()));
        placement.offsets[a.buffer] = placement.offsets[b.buffer] + 2048;
        placement.temporary += 4096;
        let unwritten = MemoryError::Unwritten { step: 3, buffer: "b".into() };
        assert_eq!(check(&schedule, &placement), Err(unwritten));
    }

    #[test]
    fn a_read_before_the_write_is_found() {
        let mut schedule = Schedule::new();
        let a = schedule.temporary("a", Element::F32, 4);
        let b = schedule.temporary("b", Element::F32, 4);
        schedule.multiply(2, a, a, None, b);
        let placement = place(&schedule);
        assert_eq!(check(&schedule, &placement), Err(MemoryError::Unwritten { step: 0, buffer: "a".into() }));
    }

    #[test]
    fn a_promise_that_is_too_small_is_found() {
        let (schedule, _) = chain();
        let mut placement = place(&schedule);
        placement.temporary -= 1;
        assert!(matches!(check(&schedule, &placement), Err(MemoryError::Outside(_))));
    }
}
