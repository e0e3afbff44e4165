//! The ASCII form of an internationalised name, for a hint: Punycode (RFC 3492) of each label, lowercased. What IDNA
//! does besides (normalisation, forbidden characters) is left to whoever reads the hint.

/// `text` with each label that is not ASCII in its `xn--` form; `None` where a character is no letter or digit.
pub(super) fn ascii(text: &str) -> Option<String> {
    let end = text.rfind(':').unwrap_or(text.len());
    let labels: Option<Vec<String>> = text[..end].split('.').map(label).collect();
    text[end..].is_ascii().then_some(())?;
    Some(labels?.join(".") + &text[end..])
}

fn label(label: &str) -> Option<String> {
    if label.is_ascii() {
        return Some(label.to_owned());
    }
    label.chars().all(|c| c.is_alphanumeric() || c == '-').then_some(())?;
    encode(&label.to_lowercase()).map(|digits| format!("xn--{digits}"))
}

/// Section 6.3 of the RFC, with its parameters of section 5; `None` on overflow.
fn encode(label: &str) -> Option<String> {
    const BASE: u32 = 36;
    const T_MIN: u32 = 1;
    const T_MAX: u32 = 26;
    let points: Vec<u32> = label.chars().map(u32::from).collect();
    let mut output: String = label.chars().filter(char::is_ascii).collect();
    let basic = u32::try_from(output.len()).ok()?;
    if basic > 0 {
        output.push('-');
    }
    let (mut least, mut delta, mut bias, mut handled) = (128, 0_u32, 72, basic);
    while (handled as usize) < points.len() {
        let next = points.iter().copied().filter(|point| *point >= least).min()?;
        delta = delta.checked_add((next - least).checked_mul(handled + 1)?)?;
        least = next;
        for point in &points {
            if *point < least {
                delta = delta.checked_add(1)?;
            }
            if *point != least {
                continue;
            }
            let mut rest = delta;
            for step in (BASE..).step_by(BASE as usize) {
                let threshold = step.saturating_sub(bias).clamp(T_MIN, T_MAX);
                if rest < threshold {
                    break;
                }
                output.push(digit(threshold + (rest - threshold) % (BASE - threshold)));
                rest = (rest - threshold) / (BASE - threshold);
            }
            output.push(digit(rest));
            bias = adapt(delta, handled + 1, handled == basic);
            delta = 0;
            handled += 1;
        }
        delta += 1;
        least += 1;
    }
    Some(output)
}

/// Section 6.1.
fn adapt(delta: u32, points: u32, first: bool) -> u32 {
    let mut delta = if first { delta / 700 } else { delta / 2 };
    delta += delta / points;
    let mut steps = 0;
    while delta > 455 {
        delta /= 35;
        steps += 36;
    }
    steps + 36 * delta / (delta + 38)
}

fn digit(value: u32) -> char {
    char::from_digit(if value < 26 { value + 10 } else { value - 26 }, 36).unwrap_or('0')
}
