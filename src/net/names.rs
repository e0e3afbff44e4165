//! The names that were looked up, each with its number, which gives it its addresses inside.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::sync::Arc;

use crate::plan::network;

/// The canonical form of a name as it came in a question: labels in lower case, joined by dots. `None` where it has bytes
/// that no rule can name, or no label.
pub(super) fn canonical<'a>(labels: impl Iterator<Item = &'a [u8]>) -> Option<String> {
    let mut name = String::new();
    for label in labels {
        if label.is_empty() || label.len() > 63 {
            return None;
        }
        if !name.is_empty() {
            name.push('.');
        }
        for byte in label {
            match byte {
                b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' => {
                    name.push(char::from(byte.to_ascii_lowercase()));
                }
                _ => return None,
            }
        }
    }
    (1..=253).contains(&name.len()).then_some(name)
}

/// Names and numbers.
#[derive(Debug, Default)]
pub(super) struct Names {
    numbers: HashMap<Arc<str>, u32>,
    names: Vec<Arc<str>>,
    /// The names whose listeners are made, for one family.
    served: HashSet<(u32, bool)>,
}

impl Names {
    /// The number of `name`, which gets the next one if it has none; `None` when all are given.
    pub(super) fn number(&mut self, name: &str) -> Option<u32> {
        if let Some(number) = self.numbers.get(name) {
            return Some(*number);
        }
        let number = u32::try_from(self.names.len()).ok().filter(|number| *number < network::NAMES_MAX)?;
        let name: Arc<str> = name.into();
        self.names.push(Arc::clone(&name));
        self.numbers.insert(name, number);
        Some(number)
    }

    /// The name whose address inside this is.
    pub(super) fn at(&self, address: IpAddr) -> Option<Arc<str>> {
        self.names.get(network::number_of(address)? as usize).cloned()
    }

    /// Whether the listeners of this name are made.
    pub(super) fn is_served(&self, number: u32, v6: bool) -> bool {
        self.served.contains(&(number, v6))
    }

    /// Notes that they are.
    pub(super) fn serve(&mut self, number: u32, v6: bool) {
        self.served.insert((number, v6));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_have_one_form_or_none() {
        let form = |labels: &[&[u8]]| canonical(labels.iter().copied());
        assert_eq!(form(&[b"Files", b"EXAMPLE", b"org"]).as_deref(), Some("files.example.org"));
        assert_eq!(form(&[b"_dns-1", b"x"]).as_deref(), Some("_dns-1.x"));
        for bad in [&b"a\0b"[..], b"a b", b"a.b", b"", b"a@b", b"\xc3\xa4", b"a\nb", b"a%00", &[b'a'; 64]] {
            assert_eq!(form(&[bad, b"org"]), None, "{bad:?}");
        }
        assert_eq!(form(&[]), None);
        let long = [b'a'; 63];
        assert_eq!(form(&[&long, &long, &long, &long]), None);
    }

    #[test]
    fn a_name_keeps_its_number() {
        let mut names = Names::default();
        assert_eq!([names.number("a"), names.number("b"), names.number("a")], [Some(0), Some(1), Some(0)]);
        let at = |number, v6| network::virtual_address(number, v6).unwrap();
        assert_eq!(names.at(at(1, true)).as_deref(), Some("b"));
        assert_eq!(names.at(at(2, false)), None);
        names.serve(1, false);
        assert!(names.is_served(1, false) && !names.is_served(1, true));
    }
}
