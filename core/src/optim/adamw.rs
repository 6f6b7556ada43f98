//! AdamW, in one pass over memory.

use pulp::Arch;
use rayon::prelude::*;

use super::{
    Ema, Rule,
    ema::move_towards,
    magnitude::{magnitude, of_magnitude},
};
use crate::profile::timed;

/// Adam with decoupled weight decay (Loshchilov and Hutter, arXiv 1711.05101), in the form PyTorch gives it.
///
/// Update `t`, counted from 1, of a parameter `p` with gradient `g` (already averaged and clipped), at the learning
/// rate `lr` = schedule x the layer's scale:
///
/// ```text
/// p <- p (1 - lr wd)                        where weight decay acts
/// m <- m + (1 - b1) (g - m)
/// v <- b2 v + (1 - b2) g^2
/// p <- p - lr / (1 - b1^t) * m / (sqrt(v) / sqrt(1 - b2^t) + eps)
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AdamW {
    /// Decay of the first moment, in `[0, 1)`.
    pub beta1: f64,
    /// Decay of the second moment, in `[0, 1)`.
    pub beta2: f64,
    /// Added to the root of the second moment.
    pub eps: f64,
    /// Weight decay `wd` where a [`Rule`] asks for it.
    pub weight_decay: f64,
}

impl Default for AdamW {
    /// Betas (0.9, 0.999), eps 1e-8, weight decay 0.05.
    fn default() -> Self {
        Self { beta1: 0.9, beta2: 0.999, eps: 1e-8, weight_decay: 0.05 }
    }
}

/// The numbers of one update of one tensor, computed in f64 and rounded once. Other executors take them as they are.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Coefficients {
    /// `1 - lr wd`.
    pub keep: f32,
    /// `1 - b1`.
    pub rate1: f32,
    /// `b2`.
    pub beta2: f32,
    /// `1 - b2`.
    pub rate2: f32,
    /// `lr / (1 - b1^t)`.
    pub step: f32,
    /// `1 / sqrt(1 - b2^t)`.
    pub root_scale: f32,
    /// Epsilon.
    pub eps: f32,
}

impl AdamW {
    /// The numbers of update `update`, counted from 1, of a tensor under `rule`, at the schedule's rate `lr`.
    pub fn coefficients(&self, rule: &Rule, lr: f64, update: u64) -> Coefficients {
        let lr = lr * rule.lr_scale;
        let weight_decay = if rule.decays { self.weight_decay } else { 0.0 };
        // Beyond 2^31 updates both corrections are long 1.
        let t = i32::try_from(update).unwrap_or(i32::MAX);
        Coefficients {
            keep: (1.0 - lr * weight_decay) as f32,
            rate1: (1.0 - self.beta1) as f32,
            beta2: self.beta2 as f32,
            rate2: (1.0 - self.beta2) as f32,
            step: (lr / (1.0 - self.beta1.powi(t))) as f32,
            root_scale: (1.0 / (1.0 - self.beta2.powi(t)).sqrt()) as f32,
            eps: self.eps as f32,
        }
    }
}

/// AdamW with its moments and, if asked for, a moving average of the parameters.
#[derive(Debug, Clone)]
pub struct Optimizer {
    config: AdamW,
    rules: Vec<Rule>,
    m: Vec<f32>,
    v: Vec<f32>,
    updates: u64,
    ema: Option<(Ema, Vec<f32>)>,
    /// No parameter, moment or average is larger in magnitude; infinite where that is not known.
    largest: f32,
}

/// Numbers below it are far enough from the largest f32 that sums of a few of them, and rounding, stay finite.
const SAFE: f64 = 1e37;

impl Optimizer {
    /// Moments at zero; the average starts at `parameters`.
    ///
    /// # Panics
    /// If `rules` do not cover `parameters` back to back.
    pub fn new(config: AdamW, rules: Vec<Rule>, ema: Option<Ema>, parameters: &[f32]) -> Self {
        let end = rules.iter().fold(0, |at, rule| {
            assert_eq!(rule.range.start, at, "rules must lie back to back");
            rule.range.end
        });
        assert_eq!(end, parameters.len(), "rules of another layout");
        let zeros = vec![0.0; parameters.len()];
        let ema = ema.map(|ema| (ema, parameters.to_vec()));
        Self { config, rules, m: zeros.clone(), v: zeros, updates: 0, ema, largest: f32::INFINITY }
    }

    /// Puts back what a checkpoint held.
    ///
    /// # Panics
    /// If a buffer has another length than the parameters, or `ema` is there where the optimiser keeps none or the
    /// other way round.
    pub fn restore(&mut self, m: Vec<f32>, v: Vec<f32>, ema: Option<Vec<f32>>, updates: u64) {
        assert_eq!((m.len(), v.len()), (self.m.len(), self.v.len()), "moments of another layout");
        assert_eq!(ema.is_some(), self.ema.is_some(), "a moving average on one side only");
        (self.m, self.v, self.updates, self.largest) = (m, v, updates, f32::INFINITY);
        if let (Some((_, average)), Some(kept)) = (&mut self.ema, ema) {
            assert_eq!(kept.len(), average.len(), "a moving average of another layout");
            *average = kept;
        }
    }

    /// One update. `gradients` are multiplied by `scale` (1 / number of accumulated batches, clipping) on the way in.
    ///
    /// Every element is on its own, so that threads and vector widths change no bit. Gradients are taken as they are:
    /// look at their norm first ([`super::global_norm`]), and at [`Self::overflow`].
    ///
    /// # Panics
    /// If a buffer has another length than the parameters the optimiser was made for.
    pub fn step(&mut self, mut parameters: &mut [f32], mut gradients: &[f32], lr: f64, scale: f32) {
        assert_eq!((parameters.len(), gradients.len()), (self.m.len(), self.m.len()), "buffers of another layout");
        timed!(Operation, "AdamW");
        let parts = self.parts(lr, scale).into_iter();
        let jobs: Vec<_> = parts
            .map(|part| (cut_mut(&mut parameters, part.m.len()), cut(&mut gradients, part.m.len()), part))
            .collect();
        let largest = jobs.into_par_iter().with_max_len(1).map(|(p, g, mut part)| part.update(0, p, g)).max();
        self.largest = of_magnitude(largest.unwrap_or(0));
    }

    /// The first tensor that the next update would leave with a parameter, a moment or an average that is not finite;
    /// nothing is changed. `norm` is at least as large as every gradient; the rest is what the update would be given.
    ///
    /// The numbers of a training that is sound are so far from the largest f32 that a bound on them rules it out. Only
    /// where that does not is the update computed.
    ///
    /// # Panics
    /// If a buffer has another length than the parameters the optimiser was made for.
    pub fn overflow(&self, parameters: &[f32], gradients: &[f32], norm: f64, lr: f64, scale: f32) -> Option<usize> {
        assert_eq!((parameters.len(), gradients.len()), (self.m.len(), self.m.len()), "buffers of another layout");
        if self.rules.iter().all(|rule| self.stays_finite(rule, norm * f64::from(scale), lr)) {
            return None;
        }
        (0..self.rules.len()).into_par_iter().find_first(|&tensor| {
            let range = &self.rules[tensor].range;
            !self.tried(tensor, parameters[range.clone()].to_vec(), &gradients[range.clone()], lr, scale).is_finite()
        })
    }

    /// Whether the next update is finite by the largest numbers that it can meet; `gradient` is the largest, scaled.
    fn stays_finite(&self, rule: &Rule, gradient: f64, lr: f64) -> bool {
        let c = self.config.coefficients(rule, lr, self.updates + 1);
        let [keep, step, eps] = [c.keep, c.step, c.eps].map(f64::from);
        let largest = f64::from(self.largest);
        let moment = largest.max(gradient);
        let moved = largest * keep.abs() + step.abs() * moment / eps.min(1.0);
        // Of NaN, none is true.
        moment < SAFE && gradient * gradient < SAFE && moved < SAFE
    }

    /// The largest magnitude after the next update of one tensor, whose parameters are `values`, on copies.
    fn tried(&self, tensor: usize, mut values: Vec<f32>, gradient: &[f32], lr: f64, scale: f32) -> f32 {
        let rule = &self.rules[tensor];
        let [mut m, mut v] = [&self.m, &self.v].map(|moments| moments[rule.range.clone()].to_vec());
        let updates = self.updates + 1;
        let mut average = self.ema.as_ref().map(|(ema, kept)| (ema.rate(updates), kept[rule.range.clone()].to_vec()));
        let mut part = Part {
            coefficients: self.config.coefficients(rule, lr, updates),
            scale,
            m: &mut m,
            v: &mut v,
            average: average.as_mut().map(|(rate, average)| (*rate, &mut average[..])),
        };
        of_magnitude(part.update(0, &mut values, gradient))
    }

    /// The next update's part for every tensor.
    fn parts(&mut self, lr: f64, scale: f32) -> Vec<Part<'_>> {
        self.updates += 1;
        let Self { config, rules, m, v, updates, ema, .. } = self;
        let (mut m, mut v) = (&mut m[..], &mut v[..]);
        let mut average = ema.as_mut().map(|(ema, average)| (ema.rate(*updates), &mut average[..]));
        let part = |rule: &Rule| Part {
            coefficients: config.coefficients(rule, lr, *updates),
            scale,
            m: cut_mut(&mut m, rule.range.len()),
            v: cut_mut(&mut v, rule.range.len()),
            average: average.as_mut().map(|(rate, average)| (*rate, cut_mut(average, rule.range.len()))),
        };
        rules.iter().map(part).collect()
    }

    /// Updates made so far: skipped steps do not count.
    pub fn updates(&self) -> u64 {
        self.updates
    }

    /// First moments, in the layout of the parameters.
    pub fn m(&self) -> &[f32] {
        &self.m
    }

    /// Second moments, in the layout of the parameters.
    pub fn v(&self) -> &[f32] {
        &self.v
    }

    /// The moving average, if one is kept.
    pub fn ema(&self) -> Option<&[f32]> {
        self.ema.as_ref().map(|(_, average)| &average[..])
    }

    /// The rule of each tensor, in the order of the layout.
    pub fn rules(&self) -> &[Rule] {
        &self.rules
    }
}

/// The first values of a slice, which goes on behind them.
fn cut<'a>(values: &mut &'a [f32], length: usize) -> &'a [f32] {
    values.split_off(..length).expect("rules cover the layout")
}

fn cut_mut<'a>(values: &mut &'a mut [f32], length: usize) -> &'a mut [f32] {
    values.split_off_mut(..length).expect("rules cover the layout")
}

/// An update of one tensor.
struct Part<'a> {
    coefficients: Coefficients,
    scale: f32,
    m: &'a mut [f32],
    v: &'a mut [f32],
    /// The moving average, and how far it moves.
    average: Option<(f32, &'a mut [f32])>,
}

impl Part<'_> {
    /// Updates the parameters `p` from element `start` on; returns the [`magnitude`] of the largest number it leaves.
    fn update(&mut self, start: usize, p: &mut [f32], g: &[f32]) -> u32 {
        let here = start..start + p.len();
        let (m, v) = (&mut self.m[here.clone()], &mut self.v[here.clone()]);
        let average = self.average.as_mut().map(|(rate, average)| (*rate, &mut average[here]));
        Arch::new().dispatch(|| {
            let largest = update(p, g, m, v, self.coefficients, self.scale);
            let averaged = average.map_or(0, |(rate, average)| move_towards(average, p, rate));
            largest.max(averaged)
        })
    }
}

#[inline(always)]
fn update(p: &mut [f32], g: &[f32], m: &mut [f32], v: &mut [f32], c: Coefficients, scale: f32) -> u32 {
    let mut largest = 0;
    for (((p, &g), m), v) in p.iter_mut().zip(g).zip(m).zip(v) {
        let g = g * scale;
        *m += c.rate1 * (g - *m);
        *v = c.beta2 * *v + c.rate2 * g * g;
        *p = *p * c.keep - c.step * *m / (v.sqrt() * c.root_scale + c.eps);
        largest = largest.max(magnitude(*p)).max(magnitude(*m)).max(magnitude(*v));
    }
    largest
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The formula of the documentation, read off in f64.
    struct Plain {
        p: Vec<f64>,
        m: Vec<f64>,
        v: Vec<f64>,
        e: Vec<f64>,
    }

    impl Plain {
        fn new(p: &[f32]) -> Self {
            let p: Vec<f64> = p.iter().map(|&p| p.into()).collect();
            Self { m: vec![0.0; p.len()], v: vec![0.0; p.len()], e: p.clone(), p }
        }

        fn step(&mut self, c: &AdamW, rules: &[Rule], g: &[f32], lr: f64, t: i32, d: f64) {
            for rule in rules {
                let lr = lr * rule.lr_scale;
                for i in rule.range.clone() {
                    let g = f64::from(g[i]);
                    if rule.decays {
                        self.p[i] -= lr * c.weight_decay * self.p[i];
                    }
                    self.m[i] = c.beta1 * self.m[i] + (1.0 - c.beta1) * g;
                    self.v[i] = c.beta2 * self.v[i] + (1.0 - c.beta2) * g * g;
                    let m = self.m[i] / (1.0 - c.beta1.powi(t));
                    let v = self.v[i] / (1.0 - c.beta2.powi(t));
                    self.p[i] -= lr * m / (v.sqrt() + c.eps);
                    self.e[i] = d * self.e[i] + (1.0 - d) * self.p[i];
                }
            }
        }
    }

    fn rule(range: std::ops::Range<usize>, decays: bool, lr_scale: f64) -> Rule {
        Rule { range, decays, lr_scale }
    }

    /// Rules that start and end inside chunks, one of them empty, one across several chunks.
    fn some_rules() -> Vec<Rule> {
        vec![
            rule(0..7, true, 1.0),
            rule(7..7, true, 1.0),
            rule(7..40_000, false, 0.5),
            rule(40_000..120_001, true, 0.1),
        ]
    }

    fn noise(n: usize, seed: u32) -> Vec<f32> {
        let mut x = seed;
        std::iter::repeat_with(|| {
            x = x.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (x >> 8) as f32 / (1 << 23) as f32 - 1.0
        })
        .take(n)
        .collect()
    }

    fn run(steps: u32) -> (Vec<f32>, Optimizer) {
        let mut p = noise(120_001, 1);
        let ema = Ema { decay: 0.9, warmup: false };
        let mut optimizer = Optimizer::new(AdamW::default(), some_rules(), Some(ema), &p);
        for t in 1..=steps {
            optimizer.step(&mut p, &noise(120_001, t + 1), 1e-3 * f64::from(t), 0.5);
        }
        (p, optimizer)
    }

    fn close(found: &[f32], expected: &[f64], tolerance: f64) {
        for (i, (&found, &expected)) in found.iter().zip(expected).enumerate() {
            let error = (f64::from(found) - expected).abs();
            assert!(error <= tolerance * (1.0 + expected.abs()), "{i}: {found} is not {expected}");
        }
    }

    #[test]
    fn follows_a_plain_loop_in_f64() {
        let (p, optimizer) = run(30);
        let mut plain = Plain::new(&noise(120_001, 1));
        for t in 1..=30 {
            let g: Vec<f32> = noise(120_001, t + 1).iter().map(|g| 0.5 * g).collect();
            plain.step(&AdamW::default(), &some_rules(), &g, 1e-3 * f64::from(t), t as i32, 0.9);
        }
        close(&p, &plain.p, 2e-6);
        close(optimizer.m(), &plain.m, 1e-6);
        close(optimizer.v(), &plain.v, 1e-6);
        close(optimizer.ema().unwrap(), &plain.e, 2e-6);
    }

    #[test]
    fn first_step_worked_out_by_hand() {
        // t = 1: m / (1 - b1) = g and v / (1 - b2) = g^2, so p = p (1 - lr wd) - lr sign(g).
        let config = AdamW { weight_decay: 0.1, ..AdamW::default() };
        let mut p = vec![1.0, 1.0];
        let mut optimizer = Optimizer::new(config, vec![rule(0..1, true, 1.0), rule(1..2, false, 0.5)], None, &p);
        optimizer.step(&mut p, &[3.0, -0.2], 0.01, 1.0);
        close(&p, &[1.0 - 0.001 - 0.01, 1.0 + 0.005], 1e-7);
        assert!(optimizer.ema().is_none());
    }

    #[test]
    fn a_zero_gradient_moves_nothing() {
        let mut p = vec![1.0; 3];
        let mut optimizer = Optimizer::new(AdamW::default(), vec![rule(0..3, false, 1.0)], None, &p);
        optimizer.step(&mut p, &[0.0; 3], 0.01, 1.0);
        assert_eq!(p, [1.0; 3]);
    }

    /// An optimiser of three tensors of two values each, and what [`Optimizer::overflow`] says of a step.
    fn overflow(values: [f32; 6], gradients: [f32; 6], config: AdamW, lr: f64) -> Option<usize> {
        let rules = vec![rule(0..2, true, 1.0), rule(2..4, true, 1.0), rule(4..6, false, 1.0)];
        let ema = Ema { decay: 0.9, warmup: false };
        let mut optimizer = Optimizer::new(config, rules, Some(ema), &values);
        let norm = crate::optim::global_norm(&[gradients]);
        let ask = |optimizer: &Optimizer| optimizer.overflow(&values, &gradients, norm, lr, 1.0);
        let before = optimizer.clone();
        // The first time the largest value is not known; the second time it is 1e-3, and a bound may do.
        let first = ask(&optimizer);
        assert_eq!((optimizer.m(), optimizer.v(), optimizer.ema()), (before.m(), before.v(), before.ema()));
        optimizer.largest = values.iter().fold(0.0, |largest: f32, value| largest.max(value.abs()));
        assert_eq!(ask(&optimizer), first);
        first
    }

    #[test]
    fn an_update_that_overflows_is_known_before_it_is_made() {
        let (adamw, small) = (AdamW::default(), [1e-3; 6]);
        assert_eq!(overflow(small, [1e-2; 6], adamw, 1e-3), None);
        // A rate of 1e30 moves by 1e30; one of 1e39 is infinite in f32.
        assert_eq!(overflow(small, [1e-2; 6], AdamW { weight_decay: 0.0, ..adamw }, 1e30), None);
        assert_eq!(overflow(small, [1e-2; 6], adamw, 1e300), Some(0));
        // Zero gradients: 0 * infinity is NaN.
        assert_eq!(overflow(small, [0.0; 6], adamw, 1e300), Some(0));
        // Weight decay alone: 1e30 * (1 - 1e9).
        let mut values = small;
        values[3] = 1e30;
        assert_eq!(overflow(values, [1e-2; 6], AdamW { weight_decay: 1.0, ..adamw }, 1e9), Some(1));
        // A finite gradient whose square is not: 1e-3 * 1e42.
        assert_eq!(overflow(small, [0.0, 0.0, 0.0, 0.0, 0.0, 1e21], adamw, 1e-3), Some(2));
        assert_eq!(overflow(small, [0.0, 0.0, 0.0, 0.0, 0.0, 1e20], adamw, 1e-3), None);
        // Without epsilon no bound holds, and 0 / 0 is NaN.
        assert_eq!(overflow(small, [1e-2; 6], AdamW { eps: 0.0, ..adamw }, 1e-3), None);
        assert_eq!(overflow(small, [0.0; 6], AdamW { eps: 0.0, ..adamw }, 1e-3), Some(0));
    }

    #[test]
    fn the_largest_number_of_an_update_is_known() {
        let (mut p, mut optimizer) = (vec![0.5, -3.0, 0.25], run(0).1);
        optimizer.rules = vec![rule(0..3, false, 1.0)];
        (optimizer.m, optimizer.v, optimizer.ema) = (vec![0.0; 3], vec![0.0; 3], None);
        optimizer.step(&mut p, &[0.0; 3], 1e-3, 1.0);
        assert_eq!(optimizer.largest, 3.0);
        optimizer.step(&mut p, &[0.0, 0.0, 1e3], 1e-3, 1.0);
        assert_eq!(optimizer.largest, optimizer.v()[2]);
        optimizer.step(&mut p, &[f32::NAN, 0.0, 0.0], 1e-3, 1.0);
        assert_eq!(optimizer.largest, f32::INFINITY);
    }

    #[test]
    fn bits_do_not_depend_on_threads() {
        let bits = |threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            let (p, optimizer) = pool.install(|| run(3));
            p.iter().chain(optimizer.ema().unwrap()).map(|x| x.to_bits()).collect::<Vec<_>>()
        };
        let one = bits(1);
        assert!(one == bits(2) && one == bits(5));
    }

    #[test]
    fn restored_equals_uninterrupted() {
        let (whole, _) = run(6);
        let (mut p, half) = run(3);
        let ema = Ema { decay: 0.9, warmup: false };
        let mut optimizer = Optimizer::new(AdamW::default(), some_rules(), Some(ema), &p);
        optimizer.restore(half.m().to_vec(), half.v().to_vec(), half.ema().map(<[f32]>::to_vec), half.updates());
        for t in 4..=6 {
            optimizer.step(&mut p, &noise(120_001, t + 1), 1e-3 * f64::from(t), 0.5);
        }
        assert!(p.iter().zip(&whole).all(|(a, b)| a.to_bits() == b.to_bits()));
    }
}
