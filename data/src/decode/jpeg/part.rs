//! The part of a JPEG that a window needs, as a smaller JPEG for any decoder.
//!
//! Between restart markers the compressed data stand alone, so that those under the window can be joined to a picture of
//! their own, without a look inside. Where there are none, or a row of units is not a whole number of intervals, the picture
//! is at least cut below the window. What comes out is, pixel for pixel, what decoding the whole picture gives there.

use std::ops::Range;

use super::layout::{END, Layout};
use crate::image::{Excerpt, Window};

/// Rows and columns around the window that have an influence on it, where colour is stored more coarsely: decoders blend
/// neighbouring values of it. One value covers up to four pixels.
const MARGIN: usize = 8;

/// A rectangle of smallest coded units.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Part {
    rows: Range<usize>,
    columns: Range<usize>,
    /// Where it lies in the picture.
    pub(super) excerpt: Excerpt,
    /// Its own height and width.
    pub(super) size: (usize, usize),
}

impl Part {
    /// The smallest part that can be cut out of a picture of one scan and holds what `window` needs; `None` where that is all
    /// of it.
    pub(super) fn of(layout: &Layout, window: Window) -> Option<Self> {
        if !layout.is_one_scan() {
            return None;
        }
        let (unit, units) = (layout.unit(), layout.units());
        let coarse = layout.components.iter().any(|part| (part.horizontal, part.vertical) != (1, 1));
        let margin = if coarse && layout.components.len() > 1 { MARGIN } else { 0 };
        let around = |start: usize, length: usize, unit: usize, units: usize| {
            let first = start.saturating_sub(margin) / unit;
            first.min(units)..(start + length + margin).div_ceil(unit).min(units)
        };
        let rows = around(window.top, window.height, unit.0, units.0);
        let columns = around(window.left, window.width, unit.1, units.1);
        // Intervals in a row of units, or rows in an interval.
        let interval = layout.restart_interval;
        let whole = interval > 0 && layout.restarts.len() + 1 == (units.0 * units.1).div_ceil(interval);
        let (rows, columns) = match interval {
            _ if !whole => (0..rows.end, 0..units.1),
            _ if units.1.is_multiple_of(interval) => (rows, wider(columns, interval, units.1)),
            _ if interval.is_multiple_of(units.1) => (wider(rows, interval / units.1, units.0), 0..units.1),
            _ => (0..rows.end, 0..units.1),
        };
        if rows.is_empty() || columns.is_empty() || (rows.len(), columns.len()) == units {
            return None;
        }
        let (top, left) = (rows.start * unit.0, columns.start * unit.1);
        let size = ((rows.end * unit.0).min(layout.height) - top, (columns.end * unit.1).min(layout.width) - left);
        let excerpt = Excerpt { top, left, height: layout.height, width: layout.width };
        Some(Self { rows, columns, excerpt, size })
    }

    /// Writes it to `out`, whose content is lost, as a JPEG of its own.
    pub(super) fn write(&self, layout: &Layout, bytes: &[u8], out: &mut Vec<u8>) {
        out.clear();
        if self.rows.start == 0 && self.columns.len() == layout.units().1 {
            // The decoder stops where the picture ends: nothing but its height has to change.
            out.extend_from_slice(&bytes[..layout.data.end]);
        } else {
            out.extend_from_slice(&bytes[..layout.data.start]);
            self.join(layout, bytes, out);
        }
        out.extend_from_slice(&[0xFF, END]);
        let sides = [self.size.0, self.size.1].map(|side| (side as u16).to_be_bytes());
        out[layout.height_at..layout.height_at + 4].copy_from_slice(sides.as_flattened());
    }

    /// Joins the intervals of its units, which end where theirs do, and counts their markers anew.
    fn join(&self, layout: &Layout, bytes: &[u8], out: &mut Vec<u8>) {
        let (interval, columns) = (layout.restart_interval, layout.units().1);
        let rows = self.rows.clone().step_by((interval / columns).max(1));
        let intervals = rows.flat_map(|row| {
            let begin = row * columns + self.columns.start;
            begin / interval..(begin + self.columns.len()).div_ceil(interval)
        });
        for (number, at) in intervals.enumerate() {
            if number > 0 {
                out.extend_from_slice(&[0xFF, 0xD0 + (number - 1) as u8 % 8]);
            }
            let start = at.checked_sub(1).map_or(layout.data.start, |before| layout.restarts[before] + 2);
            let end = layout.restarts.get(at).map_or(layout.data.end, |&marker| marker);
            out.extend_from_slice(&bytes[start..end]);
        }
    }
}

/// `range`, out to multiples of `step` or `end`.
fn wider(range: Range<usize>, step: usize, end: usize) -> Range<usize> {
    range.start / step * step..range.end.next_multiple_of(step).min(end)
}
