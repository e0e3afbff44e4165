//! Statistics of times: quantiles, and what can be said of two samples with which confidence. Everything is a function of its
//! arguments; random numbers come from a fixed seed.

/// How many resamples an interval is made of. The ends of a 95 % interval are then known to about one percent of it.
const RESAMPLES: usize = 1000;

/// The times of one subject in seconds, sorted. It is never empty.
#[derive(Debug, Clone, PartialEq)]
pub struct Sample(Vec<f64>);

/// An estimate with its 95 % interval.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Interval {
    /// The estimate.
    pub value: f64,
    /// The interval's lower end.
    pub low: f64,
    /// The interval's upper end.
    pub high: f64,
}

impl Sample {
    /// A sample of `times` in seconds; `None` when there are none.
    pub fn new(mut times: Vec<f64>) -> Option<Self> {
        times.sort_by(f64::total_cmp);
        (!times.is_empty()).then_some(Self(times))
    }

    /// The times, smallest first.
    pub fn sorted(&self) -> &[f64] {
        &self.0
    }

    /// The smallest time that at least `permille` thousandths of all do not exceed.
    pub fn quantile(&self, permille: usize) -> f64 {
        self.0[(self.0.len() * permille).div_ceil(1000).max(1) - 1]
    }

    /// The quantile of 500.
    pub fn median(&self) -> f64 {
        self.quantile(500)
    }

    /// The arithmetic mean.
    pub fn mean(&self) -> f64 {
        self.0.iter().sum::<f64>() / self.0.len() as f64
    }

    /// The sample's standard deviation; 0 for a single time.
    pub fn deviation(&self) -> f64 {
        let mean = self.mean();
        let squares: f64 = self.0.iter().map(|time| (time - mean).powi(2)).sum();
        (squares / (self.0.len().max(2) - 1) as f64).sqrt()
    }

    /// The distance between the quartiles as a part of the median.
    pub fn spread(&self) -> f64 {
        (self.quantile(750) - self.quantile(250)) / self.median().max(f64::MIN_POSITIVE)
    }
}

/// The ratio of the medians of `a` and `b`, with its interval by the percentile bootstrap.
pub fn ratio(a: &Sample, b: &Sample) -> Interval {
    interval([a, b], |[a, b]| a / b.max(f64::MIN_POSITIVE))
}

/// The 99 % quantile by the median of one sample, with its interval by the percentile bootstrap.
pub fn tail(sample: &Sample) -> Interval {
    let figure = |times: &Sample| times.quantile(990) / times.median().max(f64::MIN_POSITIVE);
    let mut random = Random::new();
    let mut drawn: Vec<f64> = (0..RESAMPLES)
        .filter_map(|_| Sample::new((0..sample.0.len()).map(|_| sample.0[random.below(sample.0.len())]).collect()))
        .map(|resample| figure(&resample))
        .collect();
    ends(figure(sample), &mut drawn)
}

/// An estimate with the interval that the middle 95 % of the resamples' estimates span.
fn ends(value: f64, drawn: &mut [f64]) -> Interval {
    drawn.sort_by(f64::total_cmp);
    Interval { value, low: drawn[drawn.len() / 40], high: drawn[drawn.len() - 1 - drawn.len() / 40] }
}

/// What `figure` makes of the medians of some samples, with its interval by the percentile bootstrap.
pub fn interval<const N: usize>(samples: [&Sample; N], figure: impl Fn([f64; N]) -> f64) -> Interval {
    let mut random = Random::new();
    let mut room = Vec::new();
    let mut drawn: Vec<f64> =
        (0..RESAMPLES).map(|_| figure(samples.map(|sample| random.median_of_resample(&sample.0, &mut room)))).collect();
    ends(figure(samples.map(Sample::median)), &mut drawn)
}

/// The probability that two samples of one distribution differ at least as much as `a` and `b` do: the two-sided
/// Mann-Whitney U test, by the normal approximation with corrections for ties and continuity. It is rough below about eight
/// times a side.
pub fn mann_whitney(a: &Sample, b: &Sample) -> f64 {
    let (n, m) = (a.0.len() as f64, b.0.len() as f64);
    let mut all: Vec<(f64, bool)> = a.0.iter().map(|time| (*time, true)).collect();
    all.extend(b.0.iter().map(|time| (*time, false)));
    all.sort_by(|one, other| one.0.total_cmp(&other.0));
    let (mut ranks_of_a, mut ties, mut from) = (0.0, 0.0, 0);
    while from < all.len() {
        let same = all[from..].iter().take_while(|one| one.0 == all[from].0).count();
        // Ranks begin with 1; equal times share the mean of theirs.
        let rank = from as f64 + (same as f64 + 1.0) / 2.0;
        ranks_of_a += rank * all[from..from + same].iter().filter(|one| one.1).count() as f64;
        ties += (same as f64).powi(3) - same as f64;
        from += same;
    }
    let u = ranks_of_a - n * (n + 1.0) / 2.0;
    let total = n + m;
    let variance = n * m / 12.0 * (total + 1.0 - ties / (total * (total - 1.0)).max(1.0));
    if variance <= 0.0 {
        return 1.0;
    }
    let distance = ((u - n * m / 2.0).abs() - 0.5).max(0.0);
    complementary_error(distance / variance.sqrt() / std::f64::consts::SQRT_2).min(1.0)
}

/// erfc(x) for x from 0 on, to seven digits (Numerical Recipes, 6.2).
fn complementary_error(x: f64) -> f64 {
    const COEFFICIENTS: [f64; 10] = [
        -1.265_512_23,
        1.000_023_68,
        0.374_091_96,
        0.096_784_18,
        -0.186_288_06,
        0.278_868_07,
        -1.135_203_98,
        1.488_515_87,
        -0.822_152_23,
        0.170_872_77,
    ];
    let t = 1.0 / (1.0 + 0.5 * x);
    let polynomial = COEFFICIENTS.iter().rev().fold(0.0, |sum, coefficient| sum * t + coefficient);
    t * (polynomial - x * x).exp()
}

/// The p-values of several tests, each made so much larger that with no difference anywhere the chance of a single one below a
/// level is that level (Holm's method); in the same order.
pub fn corrected(values: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|one, other| values[*one].total_cmp(&values[*other]));
    let (mut result, mut least) = (vec![1.0; values.len()], 0.0_f64);
    for (rank, index) in order.into_iter().enumerate() {
        least = least.max((values[index] * (values.len() - rank) as f64).min(1.0));
        result[index] = least;
    }
    result
}

/// A xorshift generator with a fixed seed.
struct Random(u64);

impl Random {
    fn new() -> Self {
        Self(0x9e37_79b9_7f4a_7c15)
    }

    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 33).unwrap_or(0) % limit
    }

    fn median_of_resample(&mut self, times: &[f64], room: &mut Vec<f64>) -> f64 {
        room.clear();
        room.extend((0..times.len()).map(|_| times[self.below(times.len())]));
        let middle = room.len().div_ceil(2) - 1;
        *room.select_nth_unstable_by(middle, f64::total_cmp).1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(times: impl IntoIterator<Item = f64>) -> Sample {
        Sample::new(times.into_iter().collect()).unwrap()
    }

    #[test]
    fn quantiles_are_times_that_were_measured() {
        let hundred = sample((1..=100).rev().map(f64::from));
        assert_eq!(
            [0, 1, 10, 500, 900, 990, 1000].map(|q| hundred.quantile(q)),
            [1.0, 1.0, 1.0, 50.0, 90.0, 99.0, 100.0]
        );
        assert_eq!(sample([7.0]).quantile(990), 7.0);
        assert_eq!((hundred.mean(), sample([2.0, 4.0]).deviation()), (50.5, 2.0_f64.sqrt()));
        assert_eq!(sample([1.0]).deviation(), 0.0);
        assert_eq!(Sample::new(Vec::new()), None);
        assert_eq!(hundred.spread(), 1.0);
    }

    #[test]
    fn a_sample_does_not_differ_from_itself() {
        let one = sample((0..50).map(|i| f64::from(i * 7 % 13)));
        assert!(mann_whitney(&one, &one) > 0.99);
        assert_eq!(mann_whitney(&sample([1.0; 5]), &sample([1.0; 9])), 1.0);
        let ratio = ratio(&one, &one);
        assert!(ratio.value == 1.0 && ratio.low < 1.0 && ratio.high > 1.0, "{ratio:?}");
    }

    #[test]
    fn what_differs_is_told_with_its_interval() {
        let one = sample((0..60).map(|i| 10.0 + f64::from(i % 7)));
        let double = sample(one.sorted().iter().map(|time| time * 2.0));
        assert!(mann_whitney(&one, &double) < 1e-6);
        let found = ratio(&double, &one);
        assert!(found.value == 2.0 && found.low > 1.5 && found.high < 2.5, "{found:?}");
        // The same question has the same answer.
        assert_eq!(found, ratio(&double, &one));
    }

    #[test]
    fn the_test_is_the_known_one() {
        // Two samples of five, all of one below all of the other: U is 0, its mean 12.5, its deviation 4.787.
        let p = mann_whitney(&sample([1.0, 2.0, 3.0, 4.0, 5.0]), &sample([6.0, 7.0, 8.0, 9.0, 10.0]));
        assert!((p - 0.012_185).abs() < 1e-5, "{p}");
        assert!((complementary_error(0.0) - 1.0).abs() < 1e-6);
        assert!((complementary_error(1.0) - 0.157_299_2).abs() < 1e-6);
    }

    #[test]
    fn many_tests_are_held_to_more() {
        assert_eq!(corrected(&[0.01, 0.04, 0.03]), [0.03, 0.06, 0.06]);
        assert_eq!(corrected(&[0.5, 0.9]), [1.0, 1.0]);
        assert!(corrected(&[]).is_empty());
    }
}
