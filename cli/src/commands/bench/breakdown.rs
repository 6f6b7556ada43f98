//! Where the time of the measured steps went.

use std::fmt::Write;

use convnext_core::profile::{Kind, Measured};
use serde::Serialize;

/// Time by operation and by kernel.
#[derive(Debug, Serialize)]
pub(super) struct Breakdown {
    /// Multiply-adds a second that the best of twenty large products reached on all threads, right before a step; the median
    /// over the steps, since others may use the machine too. Of loading, and on a GPU, before the first one only.
    ceiling: f64,
    /// Wall time.
    operations: Vec<Line>,
    /// Time of all threads together.
    kernels: Vec<Line>,
}

#[derive(Debug, Serialize)]
struct Line {
    name: &'static str,
    ms: f64,
    calls: u64,
    /// Its products' multiply-adds over its time, as a share of the ceiling: of all threads' for operations, of one
    /// thread's for kernels. None if it has no products.
    share: Option<f64>,
    /// Of an operation: the share of all threads' time that was spent in kernels. None if it has none.
    busy: Option<f64>,
}

impl Breakdown {
    /// All times are those of one step of `steps`.
    pub(super) fn of(steps: usize, ceiling: f64, measured: &[Measured]) -> Self {
        let threads = rayon::current_num_threads() as f64;
        let lines = |kind, ceiling: f64| {
            let of_kind = measured.iter().filter(|site| site.kind == kind);
            of_kind.map(|site| Line::of(site, steps, ceiling, threads)).collect()
        };
        Self { ceiling, operations: lines(Kind::Operation, ceiling), kernels: lines(Kind::Kernel, ceiling / threads) }
    }

    /// As a table.
    pub(super) fn text(&self) -> String {
        let mut text = format!("\nproducts reach {:.0} GFLOP/s on all threads\n", 2e-9 * self.ceiling);
        for (heading, lines) in
            [("operations, wall time", &self.operations), ("kernels, time of all threads together", &self.kernels)]
        {
            let _ = writeln!(text, "\n{heading:<42}{:>10}{:>8}{:>10}{:>10}", "ms a step", "calls", "ceiling", "busy");
            for Line { name, ms, calls, share, busy } in lines {
                let [share, busy] = [share, busy]
                    .map(|share| share.map_or_else(String::new, |share| format!("{:.0} %", 100.0 * share)));
                let line = format!("  {name:<40}{ms:>10.2}{calls:>8}{share:>10}{busy:>10}");
                let _ = writeln!(text, "{}", line.trim_end());
            }
        }
        text
    }
}

impl Line {
    fn of(site: &Measured, steps: usize, ceiling: f64, threads: f64) -> Self {
        let rate = site.multiply_adds as f64 / site.time.as_secs_f64();
        Self {
            name: site.name.trim_end_matches("_body"),
            ms: site.time.as_secs_f64() * 1e3 / steps as f64,
            calls: site.calls / steps as u64,
            share: (site.multiply_adds > 0).then_some(rate / ceiling),
            busy: (!site.kernels.is_zero()).then(|| site.kernels.as_secs_f64() / (threads * site.time.as_secs_f64())),
        }
    }
}
