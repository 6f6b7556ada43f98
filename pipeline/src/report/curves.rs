//! Curves as inline SVG, small whatever the length of the run.

use std::ops::Range;

use maud::{Markup, PreEscaped, html};
use plotters::{
    coord::ranged1d::{AsRangedCoord, ValueFormatter},
    prelude::*,
};

use super::{ReportError, format};

/// Colours of runs: mid-tones, legible on white and on near-black.
const COLORS: [RGBColor; 8] = [
    RGBColor(59, 130, 246),
    RGBColor(249, 115, 22),
    RGBColor(34, 160, 107),
    RGBColor(168, 85, 247),
    RGBColor(239, 68, 68),
    RGBColor(6, 160, 181),
    RGBColor(161, 98, 7),
    RGBColor(236, 72, 153),
];
/// Drawn over both backgrounds by its opacity.
const GRID: RGBColor = RGBColor(128, 128, 128);
/// Dashes and gaps of runs, in pixels: where curves coincide, the one below shows through. `None` is a whole line.
const DASHES: [Option<(u32, u32)>; 3] = [None, Some((9, 7)), Some((3, 6))];
const SIZE: (u32, u32) = (480, 280);
/// Points of one curve on the page, at most.
pub(super) const POINTS: usize = 1000;
/// Up to so many points, each is marked.
const MARKED: usize = 24;
/// A curve of more points is drawn faint, with the means of [`INTERVALS`] equal intervals over it.
const NOISY: usize = 2 * INTERVALS;
const INTERVALS: usize = 100;
/// A range of values beyond this factor is drawn on a logarithmic axis.
const LOG_FACTOR: f64 = 30.0;

/// Values beyond this, and differences below this share of a value, are more than an axis can be labelled for.
const HUGE: f64 = 1e30;
const FINE: f64 = 1e-9;

/// How to draw the values of a chart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Axis {
    /// As they are.
    Linear,
    /// Logarithmic, if all are positive and their range is big.
    Auto,
    /// From zero, so that small changes look small.
    FromZero,
    /// Shares of 0 to 1, in percent.
    Percent,
    /// Shares of 0 to 1, in percent, from zero.
    PercentFromZero,
}

/// What a chart is about.
#[derive(Debug, Clone, Copy)]
pub(super) struct Chart {
    pub(super) title: &'static str,
    /// What the values are, in a few words.
    pub(super) note: &'static str,
    /// What stands beside the axis of values.
    pub(super) label: &'static str,
    pub(super) axis: Axis,
}

/// One curve.
#[derive(Debug, Clone)]
pub(super) struct Series {
    /// Which run of the legend; decides the colour and the dashes.
    pub(super) color: usize,
    /// The run.
    pub(super) name: String,
    /// Epoch and value; a value that is not finite, or too big to draw, leaves a gap.
    pub(super) points: Vec<(f64, f64)>,
}

fn drawable(&(x, y): &(f64, f64)) -> bool {
    x.abs() <= HUGE && y.abs() <= HUGE
}

/// CSS colour of a run of the legend.
pub(super) fn css_color(index: usize) -> String {
    let RGBColor(r, g, b) = COLORS[index % COLORS.len()];
    format!("rgb({r} {g} {b})")
}

/// The swatch of a run in a legend: a piece of its line.
pub(super) fn swatch(index: usize) -> Markup {
    let dashes = DASHES[index % DASHES.len()].map(|(dash, gap)| format!("{dash} {gap}"));
    html! {
        svg.swatch viewBox="0 0 32 4" aria-hidden="true" {
            line x1="0" y1="2" x2="32" y2="2" stroke=(css_color(index)) stroke-width="3" stroke-dasharray=[dashes] {}
        }
    }
}

/// A chart by epoch; `None` if there is not one finite value.
pub(super) fn chart(chart: Chart, series: &[Series]) -> Result<Option<Markup>, ReportError> {
    let Some((xs, ys)) = ranges(series) else { return Ok(None) };
    let failed = |error: DrawingAreaErrorKind<_>| ReportError::Draw { chart: chart.title, reason: error.to_string() };
    let logarithmic = chart.axis == Axis::Auto && ys.start > 1.0 / HUGE && ys.end / ys.start > LOG_FACTOR;
    let drawing = if logarithmic {
        draw(chart, xs, (ys.start / 1.2..ys.end * 1.2).log_scale(), GRID.mix(0.12), series).map_err(failed)?
    } else {
        draw(chart, xs, padded(ys, chart.axis), TRANSPARENT, series).map_err(failed)?
    };
    Ok(Some(figure(chart, logarithmic, &drawing, series)))
}

fn figure(chart: Chart, logarithmic: bool, drawing: &Drawing, series: &[Series]) -> Markup {
    let view = format!("0 0 {} {}", SIZE.0, SIZE.1);
    let gaps = series.iter().flat_map(|s| &s.points).filter(|point| !drawable(point)).count();
    html! {
        figure.chart {
            figcaption { (chart.title) @if logarithmic { small { " log scale" } } p.quiet { (chart.note) } }
            svg viewBox=(view) role="img" aria-label={ (chart.title) " by epoch" } {
                (PreEscaped(inner(&drawing.svg)))
                @for spot in &drawing.spots { (spot.markup()) }
            }
            @if gaps > 0 { p.warning { "Left out, because not finite (infinite or no number) or too big: " (gaps) "." } }
        }
    }
}

/// A chart that has been drawn.
struct Drawing {
    svg: String,
    spots: Vec<Spot>,
}

/// A place of a curve that says its values under the pointer: a browser shows an SVG's titles without a script.
struct Spot {
    at: (i32, i32),
    color: usize,
    text: String,
}

impl Spot {
    fn markup(&self) -> Markup {
        let Self { at: (x, y), color, text } = self;
        html! { circle.spot cx=(x) cy=(y) r="7" style={ "color:" (css_color(*color)) } { title { (text) } } }
    }
}

/// The drawing without its `svg` element, whose namespace HTML does not need.
fn inner(svg: &str) -> &str {
    let start = svg.find("<svg").and_then(|tag| Some(tag + svg[tag..].find('>')? + 1)).unwrap_or(0);
    &svg[start..svg.rfind("</svg>").unwrap_or(svg.len())]
}

/// At most [`POINTS`] points: of each bucket the lowest and the highest, in order, and a gap if it had one.
pub(super) fn downsample(points: &[(f64, f64)]) -> Vec<(f64, f64)> {
    if points.len() <= POINTS {
        return points.to_vec();
    }
    points.chunks(points.len().div_ceil(POINTS / 3)).flat_map(extremes).collect()
}

fn extremes(bucket: &[(f64, f64)]) -> impl Iterator<Item = (f64, f64)> + use<> {
    let finite = || bucket.iter().copied().enumerate().filter(|(_, point)| drawable(point));
    let lowest = finite().min_by(|(_, a), (_, b)| a.1.total_cmp(&b.1));
    let highest = finite().max_by(|(_, a), (_, b)| a.1.total_cmp(&b.1));
    let mut kept: Vec<_> = lowest.into_iter().chain(highest).collect();
    kept.sort_by_key(|(position, _)| *position);
    kept.dedup_by_key(|(position, _)| *position);
    let gap = bucket.iter().copied().find(|point| !drawable(point));
    kept.into_iter().map(|(_, point)| point).chain(gap)
}

/// Smallest and largest epoch and value of all finite points.
fn ranges(series: &[Series]) -> Option<(Range<f64>, Range<f64>)> {
    let finite = || series.iter().flat_map(|s| &s.points).filter(|point| drawable(point));
    let bounds = |value: fn(&(f64, f64)) -> f64| {
        finite().map(value).fold(f64::INFINITY..f64::NEG_INFINITY, |r, v| r.start.min(v)..r.end.max(v))
    };
    finite().next()?;
    Some((widened(bounds(|point| point.0)), bounds(|point| point.1)))
}

/// A range of one value, or nearly, still has a width: a drawing library that cannot tell its ticks apart never ends.
fn widened(range: Range<f64>) -> Range<f64> {
    let size = range.start.abs().max(range.end.abs());
    if range.end - range.start > (size * FINE).max(1.0 / HUGE) {
        return range;
    }
    let margin = (size * 0.5).max(1e-6);
    range.start - margin..range.end + margin
}

fn padded(values: Range<f64>, axis: Axis) -> Range<f64> {
    let from_zero = matches!(axis, Axis::FromZero | Axis::PercentFromZero);
    let Range { start, end } = widened(if from_zero { values.start.min(0.0)..values.end } else { values.clone() });
    let margin = (end - start) * 0.06;
    // What cannot be negative should not show an axis that is.
    let floor = if values.start >= 0.0 { 0.0 } else { f64::NEG_INFINITY };
    let ceiling = if axis == Axis::Percent && values.end <= 1.0 { 1.0 } else { f64::INFINITY };
    (start - margin).max(floor)..(end + margin).min(ceiling)
}

/// A curve as it is drawn.
struct Stroke {
    color: usize,
    /// Whether it is a curve to be read, not the noise around it.
    is_curve: bool,
    points: Vec<(f64, f64)>,
    opacity: f64,
    width: u32,
}

/// Short curves as they are; long ones faint, and their means over all of them.
fn strokes(series: &[Series]) -> Vec<Stroke> {
    let faint = |color, points| Stroke { color, is_curve: false, points, opacity: 0.3, width: 1 };
    let bold = |color, points| Stroke { color, is_curve: true, points, opacity: 1.0, width: 2 };
    let (noisy, short): (Vec<_>, Vec<_>) = series.iter().partition(|s| s.points.len() > NOISY);
    let below = noisy.iter().map(|s| faint(s.color, downsample(&s.points)));
    let means = noisy.iter().map(|s| bold(s.color, means(&s.points)));
    below.chain(means).chain(short.iter().map(|s| bold(s.color, s.points.clone()))).collect()
}

/// Mean epoch and value of [`INTERVALS`] equal parts of a curve; a gap where a part has nothing to draw.
fn means(points: &[(f64, f64)]) -> Vec<(f64, f64)> {
    let mean = |part: &[(f64, f64)]| {
        let drawable = || part.iter().filter(|point| drawable(point));
        let sum = drawable().fold((0.0, 0.0), |sum, point| (sum.0 + point.0, sum.1 + point.1));
        let count = drawable().count() as f64;
        (sum.0 / count, sum.1 / count)
    };
    points.chunks(points.len().div_ceil(INTERVALS)).map(mean).collect()
}

type Failure = DrawingAreaErrorKind<std::io::Error>;

fn draw<Y>(chart: Chart, xs: Range<f64>, ys: Y, light: RGBAColor, series: &[Series]) -> Result<Drawing, Failure>
where
    Y: AsRangedCoord<Value = f64>,
    Y::CoordDescType: ValueFormatter<f64> + Ranged<ValueType = f64>,
{
    let (mut svg, mut spots) = (String::new(), Vec::new());
    let show = |value: f64| match chart.axis {
        Axis::Percent | Axis::PercentFromZero => format::percent(value),
        _ => format::significant(value),
    };
    {
        let root = SVGBackend::with_string(&mut svg, SIZE).into_drawing_area();
        let mut context = ChartBuilder::on(&root)
            .margin(6)
            .margin_right(14)
            .x_label_area_size(46)
            .y_label_area_size(74)
            .build_cartesian_2d(xs, ys)?;
        let label = |value: &f64| match chart.axis {
            Axis::Percent | Axis::PercentFromZero => format::tick(value * 100.0) + " %",
            _ => format::tick(*value),
        };
        context
            .configure_mesh()
            .x_labels(6)
            .y_labels(6)
            .x_label_formatter(&|value| format::tick(*value))
            .y_label_formatter(&label)
            .x_desc("epoch")
            .y_desc(chart.label)
            .label_style(("sans-serif", 17))
            .axis_desc_style(("sans-serif", 16))
            .axis_style(GRID.mix(0.6))
            .bold_line_style(GRID.mix(0.25))
            .light_line_style(light)
            .draw()?;
        let names = |color| series.iter().find(|series| series.color == color).map_or("", |series| &series.name);
        for line in strokes(series) {
            let color = COLORS[line.color % COLORS.len()].mix(line.opacity);
            for segment in line.points.split(|point| !drawable(point)) {
                let (points, style) = (segment.iter().copied(), color.stroke_width(line.width));
                match DASHES[line.color % DASHES.len()].filter(|_| line.is_curve) {
                    None => drop(context.draw_series(LineSeries::new(points, style))?),
                    Some((dash, gap)) => drop(context.draw_series(DashedLineSeries::new(points, dash, gap, style))?),
                }
                if line.points.len() <= MARKED || segment.len() == 1 {
                    context.draw_series(segment.iter().map(|&point| Circle::new(point, 3, color.filled())))?;
                }
                let spot = |point: &(f64, f64)| Spot {
                    at: context.backend_coord(point),
                    color: line.color,
                    text: format!("{}: epoch {}, {}", names(line.color), format::epochs(point.0), show(point.1)),
                };
                spots.extend(segment.iter().filter(|_| line.is_curve).map(spot));
            }
        }
        root.present()?;
    }
    Ok(Drawing { svg, spots })
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHART: Chart = Chart { title: "loss", note: "", label: "loss", axis: Axis::Auto };

    fn svg(points: &[(f64, f64)]) -> Option<String> {
        chart(CHART, &[Series { color: 0, name: String::new(), points: points.to_vec() }])
            .unwrap()
            .map(Markup::into_string)
    }

    #[test]
    fn downsampling_keeps_spikes_gaps_and_order() {
        let mut points: Vec<_> = (0..1_000_000).map(|i| (f64::from(i), (f64::from(i) * 1e-4).sin())).collect();
        points[123_456].1 = 50.0;
        points[654_321].1 = -50.0;
        points[777_777].1 = f64::NAN;
        let small = downsample(&points);
        assert!(small.len() <= POINTS, "{}", small.len());
        assert!(small.contains(&points[123_456]) && small.contains(&points[654_321]));
        assert_eq!(small.iter().filter(|(_, y)| y.is_nan()).count(), 1);
        let finite: Vec<_> = small.iter().filter(|(_, y)| y.is_finite()).collect();
        assert!(finite.is_sorted_by(|a, b| a.0 < b.0));
    }

    #[test]
    fn short_curves_are_kept_whole() {
        let points: Vec<_> = (0..POINTS).map(|i| (i as f64, 0.0)).collect();
        assert_eq!(downsample(&points), points);
    }

    #[test]
    fn nothing_finite_is_no_chart() {
        assert!(svg(&[]).is_none());
        assert!(svg(&[(0.0, f64::NAN), (1.0, f64::INFINITY)]).is_none());
    }

    #[test]
    fn long_curves_are_faint_with_their_means_over_them() {
        let points: Vec<_> = (0..1000).map(|i| (f64::from(i), f64::from(i % 2))).collect();
        let strokes = strokes(&[Series { color: 3, name: String::new(), points: points.clone() }]);
        assert_eq!([strokes[0].points.len(), strokes[1].points.len()], [1000, INTERVALS]);
        assert!(strokes[0].opacity < 0.5 && strokes[1].points.iter().all(|point| point.1 == 0.5));
        assert!(means(&[(0.0, f64::NAN)])[0].1.is_nan());
    }

    #[test]
    fn one_point_is_a_dot() {
        assert!(svg(&[(1.0, 0.0)]).unwrap().contains("<circle"));
        assert!(svg(&[(1.0, 3.0)]).unwrap().contains("<circle"));
    }

    #[test]
    fn a_gap_is_said() {
        let svg = svg(&[(0.0, 1.0), (1.0, f64::NAN), (2.0, 1.0)]).unwrap();
        assert!(svg.contains("too big: 1.") && !svg.contains("NaN"), "{svg}");
    }

    #[test]
    fn big_ranges_are_logarithmic() {
        assert!(svg(&[(0.0, 0.01), (1.0, 10.0)]).unwrap().contains("log scale"));
        assert!(!svg(&[(0.0, 0.0), (1.0, 10.0)]).unwrap().contains("log scale"));
        assert!(!svg(&[(0.0, 1.0), (1.0, 10.0)]).unwrap().contains("log scale"));
    }

    #[test]
    fn huge_values_do_not_break_a_chart() {
        for y in [1e300, -1e300, 1e30, -1e30, 1e-300, f64::MAX, f64::MIN_POSITIVE, 1.0 + f64::EPSILON] {
            assert!(svg(&[(0.0, 1.0), (1.0, y)]).is_some(), "{y}");
            assert!(svg(&[(1e9, y), (1e9 + 1e-6, y)]).is_some() == (y.abs() <= HUGE), "{y}");
        }
    }
}
