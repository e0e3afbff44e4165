//! The plots of the page, drawn by hand: cumulative distributions, sweeps, bars. Colours are classes (`s0` to `s8`), so that the
//! page can choose them for light and dark.

use std::fmt::Write as _;

use super::stats::Sample;
use super::text;

const WIDTH: f64 = 720.0;
const HEIGHT: f64 = 260.0;
/// The plot's room within the picture: left, top, right, bottom.
const ROOM: [f64; 4] = [52.0, 10.0, 12.0, 30.0];
/// How many points a curve has at most.
const POINTS: usize = 200;
/// How many colours there are.
pub(super) const COLOURS: usize = 9;

/// A logarithmic axis of times.
struct Axis {
    low: f64,
    high: f64,
    from: f64,
    to: f64,
}

impl Axis {
    fn new(low: f64, high: f64, from: f64, to: f64) -> Self {
        let low = low.max(1e-9);
        Self { low, high: high.max(low * 1.5), from, to }
    }

    fn place(&self, value: f64) -> f64 {
        let part = (value.clamp(self.low, self.high) / self.low).ln() / (self.high / self.low).ln();
        self.from + part * (self.to - self.from)
    }

    /// 1, 2 and 5 times the powers of ten; fewer where the axis is long.
    fn ticks(&self) -> Vec<f64> {
        let decades = (self.high / self.low).log10();
        let steps: &[f64] = if decades > 3.0 { &[1.0] } else { &[1.0, 2.0, 5.0] };
        let mut ticks = Vec::new();
        let mut power = 10_f64.powf(self.low.log10().floor());
        while power <= self.high {
            ticks.extend(steps.iter().map(|step| step * power).filter(|tick| (self.low..=self.high).contains(tick)));
            power *= 10.0;
        }
        ticks
    }
}

fn begin(height: f64, title: &str) -> String {
    format!(
        "<svg viewBox=\"0 0 {WIDTH} {height}\" role=\"img\" aria-label=\"{0}\"><title>{0}</title>",
        super::html::escape(title)
    )
}

/// A time on an axis: no digit more than it needs.
fn tick(seconds: f64) -> String {
    let (value, unit) = match seconds {
        s if s < 0.999_9e-6 => (seconds * 1e9, "ns"),
        s if s < 0.999_9e-3 => (seconds * 1e6, "µs"),
        s if s < 0.999_9 => (seconds * 1e3, "ms"),
        _ => (seconds, "s"),
    };
    format!("{} {unit}", (value * 100.0).round() / 100.0)
}

/// What part of the times is at most so long, for each subject: name, colour, times.
pub(super) fn distributions(title: &str, subjects: &[(String, usize, Sample)]) -> String {
    let least = subjects.iter().map(|(_, _, sample)| sample.quantile(0)).fold(f64::INFINITY, f64::min);
    let most = subjects.iter().map(|(_, _, sample)| sample.quantile(995)).fold(0.0, f64::max);
    let [left, top, right, bottom] = ROOM;
    let x = Axis::new(least * 0.95, most * 1.05, left, WIDTH - right);
    let y = |part: f64| HEIGHT - bottom - part * (HEIGHT - bottom - top);
    let mut svg = begin(HEIGHT, title);
    for part in [0.0, 0.25, 0.5, 0.75, 1.0] {
        let at = y(part);
        let _ = write!(
            svg,
            "<line class=\"grid\" x1=\"{left}\" x2=\"{:.1}\" y1=\"{at:.1}\" y2=\"{at:.1}\"/>\
             <text class=\"tick\" x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{:.0} %</text>",
            WIDTH - right,
            left - 6.0,
            at + 4.0,
            part * 100.0
        );
    }
    for value in x.ticks() {
        vertical(&mut svg, x.place(value), HEIGHT, &tick(value));
    }
    for (name, colour, sample) in subjects {
        let times = sample.sorted();
        let step = times.len().div_ceil(POINTS).max(1);
        let mut path = format!("M{:.1} {:.1}", x.place(times[0]), y(0.0));
        for index in (0..times.len()).filter(|index| index % step == 0 || index + 1 == times.len()) {
            let part = (index + 1) as f64 / times.len() as f64;
            let _ = write!(path, "H{:.1}V{:.1}", x.place(times[index]), y(part));
        }
        let shown = super::html::escape(&format!("{name}: median {}", text::time(sample.median())));
        let _ = write!(svg, "<path class=\"curve s{colour}\" d=\"{path}\"><title>{shown}</title></path>");
    }
    svg + "</svg>"
}

fn vertical(svg: &mut String, at: f64, height: f64, label: &str) {
    let [_, top, _, bottom] = ROOM;
    let _ = write!(
        svg,
        "<line class=\"grid\" x1=\"{at:.1}\" x2=\"{at:.1}\" y1=\"{top}\" y2=\"{:.1}\"/>\
         <text class=\"tick\" x=\"{at:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{label}</text>",
        height - bottom,
        height - bottom + 18.0
    );
}

/// One subject of a sweep.
pub(super) struct Line {
    pub(super) name: String,
    pub(super) colour: usize,
    /// For each place of the sweep the median and the time that 90 % do not exceed; none where it was not measured.
    pub(super) points: Vec<Option<(f64, f64)>>,
}

/// Medians over what was varied, with a whisker up to the 90 % quantile.
pub(super) fn sweep(title: &str, places: &[String], lines: &[Line]) -> String {
    let all = || lines.iter().flat_map(|line| line.points.iter().flatten());
    let least = all().map(|point| point.0).fold(f64::INFINITY, f64::min);
    let most = all().map(|point| point.1).fold(0.0, f64::max);
    let [left, top, right, bottom] = ROOM;
    let y = Axis::new(least * 0.8, most * 1.2, HEIGHT - bottom, top);
    let step = (WIDTH - left - right) / places.len().max(1) as f64;
    let x = |index: usize| left + step * (index as f64 + 0.5);
    let mut svg = begin(HEIGHT, title);
    for value in y.ticks() {
        let at = y.place(value);
        let _ = write!(
            svg,
            "<line class=\"grid\" x1=\"{left}\" x2=\"{:.1}\" y1=\"{at:.1}\" y2=\"{at:.1}\"/>\
             <text class=\"tick\" x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
            WIDTH - right,
            left - 6.0,
            at + 4.0,
            tick(value)
        );
    }
    for (index, place) in places.iter().enumerate() {
        vertical(&mut svg, x(index), HEIGHT, &super::html::escape(place));
    }
    for line in lines {
        let mut path = String::new();
        let mut marks = String::new();
        for (index, point) in line.points.iter().enumerate() {
            let Some((median, p90)) = point else { continue };
            let (at, middle, upper) = (x(index), y.place(*median), y.place(*p90));
            let _ = write!(path, "{}{at:.1} {middle:.1}", if path.is_empty() { 'M' } else { 'L' });
            let shown = super::html::escape(&format!("{}, {}: {}", line.name, places[index], text::time(*median)));
            let colour = line.colour;
            let _ = write!(
                marks,
                "<path class=\"whisker s{colour}\" d=\"M{at:.1} {middle:.1}V{upper:.1}\"/>\
                 <circle class=\"dot s{colour}\" cx=\"{at:.1}\" cy=\"{middle:.1}\" r=\"4\"><title>{shown}</title></circle>"
            );
        }
        let _ = write!(svg, "<path class=\"curve s{}\" d=\"{path}\"/>{marks}", line.colour);
    }
    svg + "</svg>"
}

/// A bar cut into its parts: name and length of each.
pub(super) fn parts(title: &str, parts: &[(String, f64)]) -> String {
    let whole: f64 = parts.iter().map(|part| part.1).sum::<f64>().max(f64::MIN_POSITIVE);
    let mut svg = begin(36.0, title);
    let mut at = 0.0;
    for (index, (name, seconds)) in parts.iter().enumerate() {
        let width = seconds / whole * WIDTH;
        let shown = super::html::escape(&format!("{name}: {}", text::time(*seconds)));
        let colour = index % COLOURS;
        let _ = write!(
            svg,
            "<rect class=\"bar s{colour}\" x=\"{at:.1}\" y=\"2\" width=\"{:.1}\" height=\"32\"><title>{shown}</title></rect>",
            (width - 1.0).max(0.5)
        );
        at += width;
    }
    svg + "</svg>"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_axis_has_round_ticks_within_its_ends() {
        let close = |ticks: Vec<f64>, expected: &[f64]| {
            ticks.len() == expected.len()
                && ticks.iter().zip(expected).all(|(one, other)| (one / other - 1.0).abs() < 1e-9)
        };
        let axis = Axis::new(0.001, 0.021, 0.0, 100.0);
        assert!(close(axis.ticks(), &[0.001, 0.002, 0.005, 0.01, 0.02]), "{:?}", axis.ticks());
        assert!((axis.place(0.0)..=axis.place(9.0)).contains(&axis.place(0.005)));
        assert_eq!((axis.place(0.0), axis.place(9.0)), (0.0, 100.0));
        let long = Axis::new(1.5e-6, 0.02, 0.0, 1.0);
        assert!(close(long.ticks(), &[1e-5, 1e-4, 1e-3, 1e-2]), "{:?}", long.ticks());
        // A single time, and none at all.
        assert!(
            Axis::new(1.0, 1.0, 0.0, 1.0).place(1.0).is_finite()
                && Axis::new(0.0, 0.0, 0.0, 1.0).place(0.0).is_finite()
        );
    }
}
