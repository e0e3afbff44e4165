//! `sbx hash`: the digests that identify the inputs and the run.

use std::fmt::Write as _;

use serde::Serialize;

use super::resolve::ResolveError;
use super::{Context, End, args, output, resolve};
use crate::error::{Error, exit};
use crate::inputs::{Entry, Manifest, Node};
use crate::ui::escape;

/// The version of the JSON.
const VERSION: u32 = 1;

#[derive(Debug, Serialize)]
struct Shown<'a> {
    version: u32,
    input_root: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    action: Option<String>,
    inputs: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    manifest: Option<Vec<ShownEntry<'a>>>,
}

#[derive(Debug, Serialize)]
struct ShownEntry<'a> {
    path: &'a str,
    kind: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    digest: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    executable: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    target: Option<&'a str>,
}

pub(super) fn run(context: &mut Context, typed: &args::Hash) -> Result<End, Error> {
    let (project, config) = context.load()?;
    let subject = resolve::subject(&config, &typed.what)?;
    let has_action = subject.is_some();
    let subject = match subject {
        Some(subject) => subject,
        None => resolve::shell(&config, None)?,
    };
    let fed = context.known_needs(&project, &config, &subject)?;
    let fed = fed.map_err(|needed| ResolveError::NotMade { needed })?;
    let prepared = context.prepare(&project, subject, fed)?;
    let manifest = &prepared.manifest;
    let action = has_action.then(|| prepared.identity.action_digest.to_string());
    if typed.json {
        output::json(&Shown {
            version: VERSION,
            input_root: prepared.input_root.to_string(),
            action,
            inputs: manifest.entries.len(),
            manifest: typed.list.then(|| manifest.entries.iter().map(shown).collect()),
        })?;
    } else if typed.list {
        output::text(&list(manifest))?;
    } else {
        let mut text = format!("inputs  {}\n", prepared.input_root);
        if let Some(action) = action {
            let _ = writeln!(text, "action  {action}");
        }
        output::text(&text)?;
    }
    Ok(End::Code(exit::OK))
}

fn shown(entry: &Entry) -> ShownEntry<'_> {
    let blank = ShownEntry { path: &entry.path, kind: "", digest: None, executable: None, target: None };
    match &entry.node {
        Node::File { digest, executable } => {
            ShownEntry { kind: "file", digest: Some(digest.to_string()), executable: Some(*executable), ..blank }
        }
        Node::Symlink { target } => ShownEntry { kind: "symlink", target: Some(target), ..blank },
        Node::EmptyDirectory => ShownEntry { kind: "directory", ..blank },
    }
}

/// A line an input: what it is, the hash of a file's content, the path, a link's target.
fn list(manifest: &Manifest) -> String {
    let mut text = String::new();
    for Entry { path, node } in &manifest.entries {
        let path = escape(path);
        let _ = match node {
            Node::File { digest, executable: false } => writeln!(text, "file  {}  {path}", digest.hex()),
            Node::File { digest, executable: true } => writeln!(text, "exec  {}  {path}", digest.hex()),
            Node::Symlink { target } => writeln!(text, "link  {:64}  {path} -> {}", "-", escape(target)),
            Node::EmptyDirectory => writeln!(text, "dir   {:64}  {path}/", "-"),
        };
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::Digest;

    #[test]
    fn the_list_has_a_line_an_input() {
        let entry = |path: &str, node| Entry { path: path.to_owned(), node };
        let digest = Digest::of(b"hello");
        let manifest = Manifest {
            entries: vec![
                entry("a\u{1b}[2J", Node::File { digest, executable: false }),
                entry("b", Node::File { digest, executable: true }),
                entry("c", Node::Symlink { target: "b".into() }),
                entry("d", Node::EmptyDirectory),
            ],
        };
        insta::assert_snapshot!(list(&manifest));
        let json = serde_json::to_value(manifest.entries.iter().map(shown).collect::<Vec<_>>()).unwrap();
        assert_eq!(json[0]["path"], "a\u{1b}[2J");
        assert_eq!(json[1]["executable"], true);
        assert_eq!(json[2], serde_json::json!({"path": "c", "kind": "symlink", "target": "b"}));
    }
}
