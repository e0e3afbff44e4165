//! Reads typed values out of a parsed document and goes on after a fault.
//!
//! Serde stops at the first error. Here a value of the wrong type is a fault in a list and reads as absent, so one
//! pass finds everything. The keys of a table are written once, as the fields of a `section!`: they are what is read,
//! what is known, what is suggested for a key that is not, and what the JSON Schema lists.

use std::borrow::Cow;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::fault::{Fault, Span};

/// A value and where it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct At<T> {
    pub(super) span: Span,
    pub(super) value: T,
}

/// A key that must be there; `None` after a fault.
#[derive(Debug)]
pub(super) struct Must<T>(pub(super) Option<At<T>>);

/// A table whose keys the user chooses.
#[derive(Debug)]
pub(super) struct Named<T>(pub(super) Vec<(At<String>, At<T>)>);

/// A section whose keys stand among those of the section that holds it.
#[derive(Debug)]
pub(super) struct Flat<T>(pub(super) T);

/// What a message calls a value.
#[derive(Clone, Copy)]
pub(super) enum Place<'a> {
    /// The value of the key at this path, dots between tables.
    Key(&'a str),
    /// An element of this key's array.
    ItemOf(&'a str),
}

impl<'a> Place<'a> {
    fn path(self) -> &'a str {
        match self {
            Self::Key(path) | Self::ItemOf(path) => path,
        }
    }
}

impl fmt::Display for Place<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Key(path) => write!(f, "`{path}`"),
            Self::ItemOf(path) => write!(f, "an item of `{path}`"),
        }
    }
}

/// A type that a TOML value can be read as.
pub(super) trait Read: Sized {
    /// What the type is called, with its article.
    const WANTED: &'static str;

    /// `value` as this type, or a fault and nothing.
    fn read(value: &Spanned<DeValue<'_>>, place: Place<'_>, faults: &mut Vec<Fault>) -> Option<Self>;
}

fn read_at<T: Read>(value: &Spanned<DeValue<'_>>, place: Place<'_>, faults: &mut Vec<Fault>) -> Option<At<T>> {
    T::read(value, place, faults).map(|read| At { span: value.span(), value: read })
}

fn wrong_type<T: Read>(value: &Spanned<DeValue<'_>>, place: Place<'_>, faults: &mut Vec<Fault>) -> Option<T> {
    let found = match value.get_ref() {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) => "an integer",
        DeValue::Float(_) => "a float",
        DeValue::Boolean(_) => "a boolean",
        DeValue::Datetime(_) => "a date or time",
        DeValue::Array(_) => "an array",
        DeValue::Table(_) => "a table",
    };
    let path = place.path();
    let hint = match (value.get_ref(), T::WANTED) {
        (DeValue::Integer(_), "a string") if path.contains("limits.") || path == "cache_size" => {
            Some("put it in quotes, with its unit".to_owned())
        }
        (DeValue::Integer(_) | DeValue::Float(_) | DeValue::Boolean(_), "a string") => {
            Some("put it in quotes".to_owned())
        }
        (DeValue::String(text), "an array of strings") if path.ends_with("command") => {
            let words: Vec<&str> = text.split_whitespace().collect();
            Some(format!("no shell reads it; write it as `{words:?}`"))
        }
        (DeValue::String(text), "an array of strings") => Some(format!("write it as `[{text:?}]`")),
        (DeValue::Table(_), "an array of tables") => Some(format!("write `[[{path}]]`")),
        (DeValue::Array(_), "a table") if matches!(place, Place::Key(_)) => Some(format!("write `[{path}]`, once")),
        _ => None,
    };
    let mut fault = Fault::new(&value.span(), format!("{place} must be {}, not {found}", T::WANTED));
    fault.hint = hint;
    faults.push(fault);
    None
}

impl Read for String {
    const WANTED: &'static str = "a string";

    fn read(value: &Spanned<DeValue<'_>>, place: Place<'_>, faults: &mut Vec<Fault>) -> Option<Self> {
        match value.get_ref() {
            DeValue::String(text) => Some(text.clone().into_owned()),
            _ => wrong_type(value, place, faults),
        }
    }
}

impl Read for bool {
    const WANTED: &'static str = "true or false";

    fn read(value: &Spanned<DeValue<'_>>, place: Place<'_>, faults: &mut Vec<Fault>) -> Option<Self> {
        match value.get_ref() {
            DeValue::Boolean(flag) => Some(*flag),
            _ => wrong_type(value, place, faults),
        }
    }
}

impl Read for i64 {
    const WANTED: &'static str = "an integer";

    fn read(value: &Spanned<DeValue<'_>>, place: Place<'_>, faults: &mut Vec<Fault>) -> Option<Self> {
        let DeValue::Integer(digits) = value.get_ref() else { return wrong_type(value, place, faults) };
        let number = Self::from_str_radix(digits.as_str(), digits.radix()).ok();
        if number.is_none() {
            faults.push(Fault::new(&value.span(), format!("{place} does not fit into 64 bits")));
        }
        number
    }
}

impl Read for f64 {
    const WANTED: &'static str = "a number";

    fn read(value: &Spanned<DeValue<'_>>, place: Place<'_>, faults: &mut Vec<Fault>) -> Option<Self> {
        match value.get_ref() {
            DeValue::Float(digits) => digits.as_str().parse().ok(),
            #[expect(clippy::cast_precision_loss, reason = "a number of processors")]
            DeValue::Integer(_) => i64::read(value, place, faults).map(|number| number as Self),
            _ => wrong_type(value, place, faults),
        }
    }
}

/// What an array of this type is called.
pub(super) trait Item: Read {
    const ARRAY: &'static str;
}

impl Item for String {
    const ARRAY: &'static str = "an array of strings";
}

impl<T: Item> Read for Vec<At<T>> {
    const WANTED: &'static str = T::ARRAY;

    fn read(value: &Spanned<DeValue<'_>>, place: Place<'_>, faults: &mut Vec<Fault>) -> Option<Self> {
        let DeValue::Array(items) = value.get_ref() else { return wrong_type(value, place, faults) };
        let item = Place::ItemOf(place.path());
        Some(items.iter().filter_map(|value| read_at(value, item, faults)).collect())
    }
}

impl<T: Read> Read for Named<T> {
    const WANTED: &'static str = "a table";

    fn read(value: &Spanned<DeValue<'_>>, place: Place<'_>, faults: &mut Vec<Fault>) -> Option<Self> {
        let DeValue::Table(entries) = value.get_ref() else { return wrong_type(value, place, faults) };
        let read_entry = |(key, value): (&Spanned<Cow<'_, str>>, &Spanned<DeValue<'_>>)| {
            let path = format!("{}.{}", place.path(), key.get_ref());
            let name = At { span: key.span(), value: key.get_ref().clone().into_owned() };
            read_at(value, Place::Key(&path), faults).map(|value| (name, value))
        };
        Some(Self(entries.iter().filter_map(read_entry).collect()))
    }
}

/// A table being read: remembers the keys that were asked for, for they are the ones it knows.
pub(super) struct Table<'t, 'i> {
    path: &'t str,
    span: Span,
    entries: &'t DeTable<'i>,
    known: Vec<&'static str>,
    faults: &'t mut Vec<Fault>,
}

impl Table<'_, '_> {
    fn optional<T: Read>(&mut self, key: &'static str) -> Option<At<T>> {
        self.known.push(key);
        let value = self.entries.get(key)?;
        read_at(value, Place::Key(&join(self.path, key)), self.faults)
    }

    fn required<T: Read>(&mut self, key: &'static str) -> Option<At<T>> {
        if !self.entries.contains_key(key) {
            self.faults.push(Fault::new(&self.span, format!("{} lacks `{key}`", name_table(self.path))));
        }
        self.optional(key)
    }

    fn refuse_unknown(self, elsewhere: impl Fn(&str) -> Option<String>) {
        for (key, _) in self.entries.iter().filter(|(key, _)| !self.known.contains(&key.get_ref().as_ref())) {
            let name = key.get_ref().as_ref();
            let hint = match (elsewhere(name), closest(name, &self.known)) {
                (Some(place), _) => format!("`{name}` belongs {place}"),
                (None, Some(close)) => format!("did you mean `{close}`?"),
                (None, None) => {
                    let mut known = self.known.clone();
                    known.sort_unstable();
                    format!("{} knows: {}", name_table(self.path), known.join(", "))
                }
            };
            self.faults.push(Fault::new(&key.span(), format!("unknown key `{}`", join(self.path, name))).hint(hint));
        }
    }
}

fn join(path: &str, key: &str) -> String {
    if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") }
}

fn name_table(path: &str) -> String {
    if path.is_empty() { "the top level".to_owned() } else { format!("`{path}`") }
}

/// The known key that a mistyped one most likely stands for.
pub(super) fn closest<'a>(name: &str, known: &[&'a str]) -> Option<&'a str> {
    let likeness = |key: &str| strsim::jaro_winkler(&name.to_lowercase().replace('-', "_"), key);
    let best = known.iter().copied().max_by(|a, b| likeness(a).total_cmp(&likeness(b)))?;
    (likeness(best) > 0.8).then_some(best)
}

/// Something that stands under a key of a section.
pub(super) trait Field {
    fn take(table: &mut Table<'_, '_>, key: &'static str) -> Self;
}

impl<T: Read> Field for Option<At<T>> {
    fn take(table: &mut Table<'_, '_>, key: &'static str) -> Self {
        table.optional(key)
    }
}

impl<T: Read> Field for Must<T> {
    fn take(table: &mut Table<'_, '_>, key: &'static str) -> Self {
        Self(table.required(key))
    }
}

impl<T: Section> Field for Flat<T> {
    fn take(table: &mut Table<'_, '_>, _key: &'static str) -> Self {
        Self(T::take(table))
    }
}

/// A table with fixed keys; made by `section!`.
pub(super) trait Section: Sized {
    /// Reads each field from its key.
    fn take(table: &mut Table<'_, '_>) -> Self;
}

/// Reads a whole section and refuses the keys it does not know. `elsewhere` says where such a key belongs.
pub(super) fn read_section<S: Section>(
    (entries, span): (&DeTable<'_>, Span),
    path: &str,
    faults: &mut Vec<Fault>,
    elsewhere: impl Fn(&str) -> Option<String>,
) -> S {
    let mut table = Table { path, span, entries, known: Vec::new(), faults };
    let section = S::take(&mut table);
    table.refuse_unknown(elsewhere);
    section
}

/// The keys of a section.
pub(super) fn keys_of<S: Section>() -> Vec<&'static str> {
    let mut table =
        Table { path: "", span: 0..0, entries: &DeTable::new(), known: Vec::new(), faults: &mut Vec::new() };
    S::take(&mut table);
    table.known
}

/// As [`Read::read`], for a section.
pub(super) fn read_table<S: Section + Read>(
    value: &Spanned<DeValue<'_>>,
    place: Place<'_>,
    faults: &mut Vec<Fault>,
    elsewhere: impl Fn(&str) -> Option<String>,
) -> Option<S> {
    let DeValue::Table(entries) = value.get_ref() else { return wrong_type(value, place, faults) };
    Some(read_section((entries, value.span()), place.path(), faults, elsewhere))
}

/// As [`Read::read`], for a choice among names.
pub(super) fn read_choice<C: Copy + Read>(
    choices: &[(&str, C)],
    value: &Spanned<DeValue<'_>>,
    place: Place<'_>,
    faults: &mut Vec<Fault>,
) -> Option<C> {
    let DeValue::String(text) = value.get_ref() else { return wrong_type(value, place, faults) };
    let choice = choices.iter().find(|(name, _)| name == text).map(|(_, choice)| *choice);
    if choice.is_none() {
        let names: Vec<String> = choices.iter().map(|(name, _)| format!("{name:?}")).collect();
        let fault = Fault::new(&value.span(), format!("{place} can't be {text:?}"));
        faults.push(fault.hint(format!("it is one of {}", names.join(", "))));
    }
    choice
}

/// Defines a table with fixed keys: its fields are its keys, their docs the schema's descriptions.
macro_rules! section {
    ($(#[$meta:meta])* $name:ident { $($(#[$field_meta:meta])* $field:ident: $type:ty,)+ }) => {
        #[derive(Debug, schemars::JsonSchema)]
        #[schemars(deny_unknown_fields)]
        $(#[$meta])*
        pub(super) struct $name {
            $($(#[$field_meta])* pub(super) $field: $type,)+
        }

        impl $crate::config::read::Section for $name {
            fn take(table: &mut $crate::config::read::Table<'_, '_>) -> Self {
                Self { $($field: $crate::config::read::Field::take(table, stringify!($field)),)+ }
            }
        }

        impl $crate::config::read::Read for $name {
            const WANTED: &'static str = "a table";

            fn read(
                value: &toml::Spanned<toml::de::DeValue<'_>>,
                place: $crate::config::read::Place<'_>,
                faults: &mut Vec<$crate::config::fault::Fault>,
            ) -> Option<Self> {
                $crate::config::read::read_table(value, place, faults, belongs)
            }
        }

        impl $crate::config::read::Item for $name {
            const ARRAY: &'static str = "an array of tables";
        }
    };
}
pub(super) use section;

/// Defines a string that is one of a few names.
macro_rules! choice {
    ($(#[$meta:meta])* $name:ident { $($(#[$choice_meta:meta])* $choice:ident = $text:literal,)+ }) => {
        #[derive(Debug, Clone, Copy, PartialEq, Eq, schemars::JsonSchema)]
        $(#[$meta])*
        pub(super) enum $name {
            $($(#[$choice_meta])* #[schemars(rename = $text)] $choice,)+
        }

        impl $crate::config::read::Read for $name {
            const WANTED: &'static str = "a string";

            fn read(
                value: &toml::Spanned<toml::de::DeValue<'_>>,
                place: $crate::config::read::Place<'_>,
                faults: &mut Vec<$crate::config::fault::Fault>,
            ) -> Option<Self> {
                $crate::config::read::read_choice(&[$(($text, Self::$choice)),+], value, place, faults)
            }
        }
    };
}
pub(super) use choice;

/// The wrappers look in the schema like what they hold.
macro_rules! transparent_schema {
    ($($wrapper:ident => $inner:ty;)+) => {$(
        impl<T: JsonSchema> JsonSchema for $wrapper<T> {
            fn inline_schema() -> bool {
                <$inner>::inline_schema()
            }

            fn schema_name() -> Cow<'static, str> {
                <$inner>::schema_name()
            }

            fn json_schema(generator: &mut SchemaGenerator) -> Schema {
                <$inner>::json_schema(generator)
            }
        }
    )+};
}
transparent_schema! {
    At => T;
    Must => T;
    Flat => T;
    Named => std::collections::BTreeMap<String, T>;
}
