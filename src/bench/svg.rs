//! The plots of the page, drawn by hand: cumulative distributions, sweeps, parts of a time, ratios with their intervals. Colours are
//! classes (`s0` to `s8`), so that the page can choose them for light and dark.

use std::fmt::Write as _;

use super::stats::Sample;
use super::sweep::Place;
use super::text;

const WIDTH: f64 = 720.0;
const HEIGHT: f64 = 260.0;
/// The plot's room within the picture: left, top, right, bottom.
const ROOM: [f64; 4] = [52.0, 10.0, 12.0, 30.0];
/// The height of a row that has a name.
const ROW: f64 = 20.0;
/// About the width of a character.
const CHARACTER: f64 = 6.3;
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
        Self { low, high: high.max(low * 1.05), from, to }
    }

    fn place(&self, value: f64) -> f64 {
        let part = (value.clamp(self.low, self.high) / self.low).ln() / (self.high / self.low).ln();
        self.from + part * (self.to - self.from)
    }

    /// 1, 2 and 5 times the powers of ten; fewer where the axis is long, and even steps where it is short.
    fn ticks(&self) -> Vec<f64> {
        let decades = (self.high / self.low).log10();
        if decades < 0.7 {
            let rough = (self.high - self.low) / 4.0;
            let power = 10_f64.powf(rough.log10().floor());
            let step = [1.0, 2.0, 5.0, 10.0].map(|step| step * power).into_iter().find(|step| *step >= rough);
            let step = step.unwrap_or(rough);
            let (first, last) = ((self.low / step - 1e-9).ceil() as u32, (self.high / step + 1e-9).floor() as u32);
            return (first..=last).map(|count| f64::from(count) * step).collect();
        }
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
    // A label at the edge stays within.
    let is_wide = at + label.chars().count() as f64 * CHARACTER / 2.0 > WIDTH;
    let (anchor, place) = if is_wide { ("end", WIDTH) } else { ("middle", at) };
    let _ = write!(
        svg,
        "<line class=\"grid\" x1=\"{at:.1}\" x2=\"{at:.1}\" y1=\"{top}\" y2=\"{:.1}\"/>\
         <text class=\"tick\" x=\"{place:.1}\" y=\"{:.1}\" text-anchor=\"{anchor}\">{label}</text>",
        height - bottom,
        height - bottom + 18.0
    );
}

/// Where the places stand: by their logarithms, nothing to the left of all; in even steps where they are no numbers.
fn across(places: &[Place], from: f64, to: f64) -> Vec<f64> {
    let even = |index: usize| from + (to - from) * (index as f64 + 0.5) / places.len() as f64;
    let values: Option<Vec<f64>> = places.iter().map(|place| place.value).collect();
    let positive = || values.iter().flatten().copied().filter(|value| *value > 0.0);
    let (least, most) = (positive().fold(f64::INFINITY, f64::min), positive().fold(0.0, f64::max));
    let Some(values) = values.as_ref().filter(|_| most > least) else { return (0..places.len()).map(even).collect() };
    let margin = (to - from) * 0.06;
    let has_nothing = values.iter().any(|value| *value <= 0.0);
    let begin = if has_nothing { from + (to - from) * 0.25 } else { from + margin };
    let part = |value: f64| (value / least).ln() / (most / least).ln();
    let place = |value: f64| begin + part(value) * (to - margin - begin);
    values.iter().map(|value| if *value > 0.0 { place(*value) } else { from + margin }).collect()
}

/// One subject of a sweep.
pub(super) struct Line {
    pub(super) name: String,
    pub(super) colour: usize,
    /// For each place of the sweep the median and the time that 90 % do not exceed; none where it was not measured.
    pub(super) points: Vec<Option<(f64, f64)>>,
}

/// Medians over what was varied, with a whisker up to the 90 % quantile.
pub(super) fn sweep(title: &str, places: &[Place], lines: &[Line]) -> String {
    let all = || lines.iter().flat_map(|line| line.points.iter().flatten());
    let least = all().map(|point| point.0).fold(f64::INFINITY, f64::min);
    let most = all().map(|point| point.1).fold(0.0, f64::max);
    let [left, top, right, bottom] = ROOM;
    let y = Axis::new(least * 0.8, most * 1.2, HEIGHT - bottom, top);
    let x = across(places, left, WIDTH - right);
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
    for (at, place) in x.iter().zip(places) {
        vertical(&mut svg, *at, HEIGHT, &super::html::escape(&place.name));
    }
    for line in lines {
        let mut path = String::new();
        let mut marks = String::new();
        for (index, point) in line.points.iter().enumerate() {
            let Some((median, p90)) = point else { continue };
            let (at, middle, upper) = (x[index], y.place(*median), y.place(*p90));
            let _ = write!(path, "{}{at:.1} {middle:.1}", if path.is_empty() { 'M' } else { 'L' });
            let shown = format!("{}, {}: {}", line.name, places[index].name, text::time(*median));
            let (shown, colour) = (super::html::escape(&shown), line.colour);
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

/// The room for the names of rows: that of the longest, up to half of the picture.
fn names<'a>(names: impl Iterator<Item = &'a str>) -> f64 {
    let longest = names.map(|name| name.chars().count()).max().unwrap_or(0);
    (longest as f64 * CHARACTER + 12.0).min(WIDTH * 0.5)
}

/// The name of a row, cut where it is too long for its room.
fn row_name(svg: &mut String, name: &str, room: f64, at: f64) {
    let fitting = ((room - 12.0) / CHARACTER).round() as usize;
    let cut = name.chars().count() > fitting;
    let shown: String = name.chars().take(if cut { fitting.saturating_sub(1) } else { fitting }).collect();
    let shown = super::html::escape(&(shown + if cut { "…" } else { "" }));
    let _ = write!(
        svg,
        "<text class=\"name\" x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{shown}</text>",
        room - 8.0,
        at + 14.0
    );
}

/// The parts of a time, each a row whose bar begins where the one before it ends: name and length of each.
pub(super) fn parts(title: &str, parts: &[(String, f64)]) -> String {
    let whole: f64 = parts.iter().map(|part| part.1).sum::<f64>().max(f64::MIN_POSITIVE);
    let left = names(parts.iter().map(|(name, _)| name.as_str()));
    let mut svg = begin(ROW * parts.len() as f64, title);
    let mut at = 0.0;
    for (index, (name, seconds)) in parts.iter().enumerate() {
        // What is behind the last bar is room for its time.
        let [from, width] = [at, *seconds].map(|time| time / whole * (WIDTH - left - 64.0));
        let top = ROW * index as f64;
        row_name(&mut svg, name, left, top);
        let _ = write!(
            svg,
            "<rect class=\"bar s0\" x=\"{:.1}\" y=\"{:.1}\" width=\"{:.1}\" height=\"{:.1}\"/>\
             <text class=\"tick\" x=\"{:.1}\" y=\"{:.1}\">{}</text>",
            left + from,
            top + 3.0,
            width.max(1.0),
            ROW - 6.0,
            left + from + width.max(1.0) + 6.0,
            top + 14.0,
            text::time(*seconds)
        );
        at += seconds;
    }
    svg + "</svg>"
}

/// A ratio with its interval, and the class that says what is thought of it.
pub(super) struct Ratio {
    pub(super) name: String,
    pub(super) ratio: f64,
    pub(super) low: f64,
    pub(super) high: f64,
    pub(super) class: &'static str,
}

/// How far a plot of ratios reaches to either side.
const FURTHEST: f64 = 8.0;

/// Ratios around 1, each a row with its interval.
pub(super) fn ratios(title: &str, rows: &[Ratio]) -> String {
    let left = names(rows.iter().map(|row| row.name.as_str()));
    let [_, top, right, bottom] = ROOM;
    let height = top + ROW * rows.len() as f64 + bottom;
    let reach = rows.iter().flat_map(|row| [1.0 / row.low.max(1e-9), row.high]).fold(1.1, f64::max).min(FURTHEST);
    let x = Axis { low: 1.0 / reach, high: reach, from: left + 8.0, to: WIDTH - right };
    let mut svg = begin(height, title);
    for value in x.ticks() {
        vertical(&mut svg, x.place(value), height, &format!("{} ×", (value * 100.0).round() / 100.0));
    }
    let one = x.place(1.0);
    let _ = write!(
        svg,
        "<line class=\"axis\" x1=\"{one:.1}\" x2=\"{one:.1}\" y1=\"{top}\" y2=\"{:.1}\"/>",
        height - bottom
    );
    for (index, row) in rows.iter().enumerate() {
        let at = top + ROW * index as f64;
        row_name(&mut svg, &row.name, left, at);
        let [low, middle, high] = [row.low, row.ratio, row.high].map(|value| x.place(value));
        let (class, at) = (row.class, at + ROW / 2.0);
        let shown = super::html::escape(&format!("{}: {:.2}, {:.2} to {:.2}", row.name, row.ratio, row.low, row.high));
        let _ = write!(
            svg,
            "<g class=\"ratio {class}\"><path d=\"M{low:.1} {at:.1}H{high:.1}\"/>\
             <circle cx=\"{middle:.1}\" cy=\"{at:.1}\" r=\"4\"><title>{shown}</title></circle></g>"
        );
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
        // Less than a decade is cut evenly.
        let short = Axis::new(0.028, 0.035, 0.0, 1.0);
        assert!(close(short.ticks(), &[0.028, 0.03, 0.032, 0.034]), "{:?}", short.ticks());
        // A single time, and none at all.
        assert!(
            Axis::new(1.0, 1.0, 0.0, 1.0).place(1.0).is_finite()
                && Axis::new(0.0, 0.0, 0.0, 1.0).place(0.0).is_finite()
        );
    }

    #[test]
    fn places_stand_by_their_logarithms_and_nothing_before_all() {
        let places = |values: &[f64]| -> Vec<Place> {
            values.iter().map(|value| Place { name: value.to_string(), value: Some(*value) }).collect()
        };
        let at = across(&places(&[0.0, 10.0, 100.0, 1000.0]), 0.0, 100.0);
        assert!((at[2] - at[1] - (at[3] - at[2])).abs() < 1e-9 && at[0] < at[1] && at[3] < 100.0, "{at:?}");
        let words: Vec<Place> = ["a", "b"].map(|name| Place { name: name.to_owned(), value: None }).to_vec();
        assert_eq!(across(&words, 0.0, 100.0), [25.0, 75.0]);
        // One place, and places that can't be told apart.
        assert_eq!(across(&places(&[5.0]), 0.0, 100.0), [50.0]);
        assert_eq!(across(&places(&[0.0, 0.0]), 0.0, 100.0), [25.0, 75.0]);
    }

    #[test]
    fn a_plot_bears_any_ratio() {
        let ratio = |low, ratio, high| Ratio { name: "x".repeat(200), ratio, low, high, class: "good" };
        let svg = ratios("t", &[ratio(0.0, 1.0, 1e300), ratio(0.9, 1.0, 1.1)]);
        assert!(!svg.contains("NaN") && !svg.contains("inf") && svg.contains('…'), "{svg}");
    }
}
